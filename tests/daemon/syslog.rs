//! Messages for the syslog socket, ours and those of the real server.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::harness::daemon::{Home, failure};

/// What a syslog daemon gets from a server that is told to send there: each datagram as it came, but for the
/// process number and the NUL that may end it.
fn datagrams(home: Home) -> Vec<String> {
    home.put("action.d/none.conf", "[Definition]\nactionban = true\nactionunban = true\n");
    home.jail("door", "backend = polling\nlogpath = LOG\nmaxretry = 1\nbantime = 600\naction = none\n");
    let path = home.path("devlog");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let daemon = home.start();
    daemon.tell(&["set", "syslogsocket", path.to_str().unwrap()]);
    daemon.tell(&["set", "logtarget", "SYSLOG"]);
    daemon.write(&[failure("192.0.2.7")]);
    let mut got = Vec::new();
    let next = |got: &mut Vec<String>, end: &str| {
        let mut buffer = [0; 4096];
        while !got.last().is_some_and(|message: &String| message.contains(end)) {
            let length = socket.recv(&mut buffer).unwrap();
            let message = String::from_utf8_lossy(&buffer[..length]).replace(&format!("[{}]", daemon.id()), "[PID]");
            let message = message.replace(path.to_str().unwrap(), "SOCKET");
            got.push(message.trim_end_matches('\0').to_owned());
        }
    };
    next(&mut got, "Ban 192.0.2.7");
    daemon.ask(&["set", "door", "maxretry", "x"]);
    next(&mut got, "has failed");
    drop(daemon);
    // the moment of a failure
    got.iter().map(|message| message.split(" - 2").next().unwrap().to_owned()).collect()
}

#[test]
fn a_syslog_daemon_gets_each_message_with_its_priority_as_from_fail2ban() {
    let ours = datagrams(Home::new().without_kernel());
    let theirs = datagrams(Home::new().real());
    assert!(theirs.iter().any(|message| message.starts_with("<29>fail2ban.actions[PID]: NOTICE")), "{theirs:?}");
    assert_eq!(ours, theirs);
}
