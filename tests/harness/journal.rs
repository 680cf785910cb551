//! Real journal files, written by `systemd-journal-remote` as entries come, and a real journald of a test.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::net::{need, wait_for};

const REMOTE: &str = "/lib/systemd/systemd-journal-remote";
const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// A folder with a journal that grows.
pub struct Journal {
    folder: PathBuf,
    writer: Option<Child>,
    time: i64,
    rotations: u32,
}

impl Journal {
    /// An empty folder.
    pub fn new(folder: PathBuf) -> Journal {
        assert!(Path::new(REMOTE).exists(), "{REMOTE} is missing: run tests/setup (systemd-journal-remote)");
        need("journalctl", "systemd");
        fs::create_dir_all(&folder).unwrap();
        Journal { folder, writer: None, time: 0, rotations: 0 }
    }

    /// Appends an entry with these fields; it is on its way then.
    pub fn write(&mut self, fields: &[(&str, &[u8])]) {
        let now = jiff::Timestamp::now().as_microsecond();
        self.time = now.max(self.time + 1);
        let mut entry = format!(
            "__REALTIME_TIMESTAMP={0}\n__MONOTONIC_TIMESTAMP={0}\n_BOOT_ID=0123456789abcdef0123456789abcdef\n",
            self.time
        )
        .into_bytes();
        for (name, value) in fields {
            entry.extend_from_slice(name.as_bytes());
            if value.iter().all(|byte| (b' '..0x7f).contains(byte)) {
                entry.push(b'=');
            } else {
                entry.push(b'\n');
                entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
            }
            entry.extend_from_slice(value);
            entry.push(b'\n');
        }
        entry.push(b'\n');
        let file = self.folder.join("system.journal");
        let writer = self.writer.get_or_insert_with(|| {
            let mut remote = Command::new(REMOTE);
            remote.arg("-o").arg(file).arg("-").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            remote.spawn().unwrap()
        });
        writer.stdin.as_mut().unwrap().write_all(&entry).unwrap();
    }

    /// A message of a service.
    pub fn say(&mut self, identifier: &str, message: &str) {
        let fields = [("_HOSTNAME", "host"), ("_COMM", identifier), ("_PID", "7"), ("MESSAGE", message)];
        self.write(&fields.map(|(name, value)| (name, value.as_bytes())));
    }

    /// Failures of an address that the filter `door` finds.
    pub fn fail(&mut self, address: &str, times: usize) {
        for _ in 0..times {
            self.say("doord", &format!("bad key from {address}"));
        }
    }

    /// Waits until everything is in the file, and closes it.
    pub fn close(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            drop(writer.stdin.take());
            assert!(writer.wait().unwrap().success());
        }
    }

    /// The file gets another name; what comes next goes into a new one.
    pub fn rotate(&mut self) {
        self.close();
        self.rotations += 1;
        let old = format!("system@{:032x}-{:016x}-0000000000000001.journal", 7, self.rotations);
        fs::rename(self.folder.join("system.journal"), self.folder.join(old)).unwrap();
    }

    /// Deletes all files that were rotated.
    pub fn vacuum(&self) {
        for entry in fs::read_dir(&self.folder).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().contains('@') {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(writer) = &mut self.writer {
            let _ = writer.kill();
            let _ = writer.wait();
        }
    }
}

/// A journald in the mount namespace of the test, and someone who writes to it.
pub struct Journald {
    process: Child,
    socket: PathBuf,
    loggers: Vec<Child>,
}

impl Journald {
    /// Hides the machine's own journal and logs from the test. Only inside of namespaces.
    pub fn hide() {
        for folder in ["/run", "/var/log"] {
            let done = Command::new("mount").args(["-t", "tmpfs", "none", folder]).status().unwrap();
            assert!(done.success());
        }
        for folder in ["/run/systemd/journal", "/run/systemd/journald.conf.d", "/run/log/journal"] {
            fs::create_dir_all(folder).unwrap();
        }
        // whoever writes fast is a test
        fs::write("/run/systemd/journald.conf.d/test.conf", "[Journal]\nRateLimitIntervalSec=0\n").unwrap();
    }

    /// Starts one, for a namespace of journals or for the machine.
    pub fn start(namespace: Option<&str>) -> Journald {
        assert!(Path::new(JOURNALD).exists(), "{JOURNALD} is missing: run tests/setup (systemd)");
        need("logger", "bsdutils");
        let folder = match namespace {
            Some(name) => format!("/run/systemd/journal.{name}"),
            None => "/run/systemd/journal".to_owned(),
        };
        let process = Command::new(JOURNALD)
            .args(namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let journald = Journald { process, socket: Path::new(&folder).join("dev-log"), loggers: Vec::new() };
        wait_for("journald", Duration::from_secs(10), || journald.socket.exists());
        journald
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Runs a copy of `logger` as a process of that name, which stays, so that journald can see whose
    /// messages these are; the messages go to what is returned.
    pub fn process(&mut self, name: &str, folder: &Path) -> std::process::ChildStdin {
        let program = folder.join(name);
        fs::copy("/usr/bin/logger", &program).unwrap();
        let mut logger = Command::new(program)
            .args(["-i", "-t", name, "-u"])
            .arg(&self.socket)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let input = logger.stdin.take().unwrap();
        self.loggers.push(logger);
        input
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        for process in self.loggers.iter_mut().chain([&mut self.process]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
