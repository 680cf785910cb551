//! A real name server.

use std::fmt::Write as _;
use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::net::need;

/// NSD at 127.0.0.1, port 53; ends with the test.
pub struct NameServer {
    child: Child,
    _dir: tempfile::TempDir,
}

impl NameServer {
    /// Serves these zones: name and text.
    pub fn start(zones: &[(&str, &str)]) -> NameServer {
        need("nsd", "nsd");
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut configuration = format!(
            "server:\n ip-address: 127.0.0.1\n server-count: 1\n username: \"\"\n pidfile: \"\"\n xfrdfile: \"\"\n \
             zonelistfile: \"{}\"\n database: \"\"\nremote-control:\n control-enable: no\n",
            at("list")
        );
        for (name, text) in zones {
            fs::write(at(name), text).unwrap();
            write!(configuration, "zone:\n name: {name}\n zonefile: {}\n", at(name)).unwrap();
        }
        fs::write(at("conf"), configuration).unwrap();
        let child = Command::new("nsd")
            .args(["-d", "-c", &at("conf")])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = NameServer { child, _dir: dir };
        let knock = UdpSocket::bind("127.0.0.1:0").unwrap();
        knock.connect("127.0.0.1:53").unwrap();
        knock.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        // a question for an address record of the first zone
        let mut question = b"\0\x01\0\0\0\x01\0\0\0\0\0\0".to_vec();
        for label in zones[0].0.split('.') {
            question.push(label.len() as u8);
            question.extend_from_slice(label.as_bytes());
        }
        question.extend_from_slice(b"\0\0\x01\0\x01");
        let end = Instant::now() + Duration::from_secs(10);
        while knock.send(&question).is_err() || knock.recv(&mut [0; 512]).is_err() {
            assert!(Instant::now() < end, "nsd does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // not a kill: it has children
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
