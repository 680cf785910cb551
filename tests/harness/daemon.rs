//! A daemon of a test: its folder with configuration, logs and database, and the process itself.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::net::wait_for;

/// How long a daemon may take for anything; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The folder of a daemon. It outlives the process, so that a test can start another one there.
pub struct Home {
    dir: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Home {
    /// With a filter `door`, which knows lines of [`Home::fail`], and an empty `auth.log`.
    pub fn new() -> Home {
        let home = Home { dir: tempfile::tempdir().unwrap(), arguments: Vec::new() };
        let at = home.dir.path().display();
        home.put("auth.log", "");
        home.put("fail2ban.conf", &format!("[Definition]\nsocket = {at}/sock\npidfile = {at}/pid\ndbfile = {at}/db\n"));
        home.put("filter.d/door.conf", "[Definition]\nfailregex = ^ \\S+ doord: bad key from <HOST>$\n");
        home
    }

    /// Bans are remembered, but not told to the kernel.
    pub fn without_kernel(mut self) -> Home {
        self.arguments.extend(["--firewall".to_owned(), "memory".to_owned()]);
        self
    }

    /// An enabled jail; `LOG` stands for the path of `auth.log`, `DIR` for the folder. In place of
    /// a jail of that name.
    pub fn jail(&self, name: &str, options: &str) {
        let options = options.replace("LOG", "DIR/auth.log").replace("DIR", &self.dir.path().to_string_lossy());
        self.put(&format!("jail.d/{name}.conf"), &format!("[{name}]\nenabled = true\n{options}"));
        if !self.path("jail.conf").exists() {
            self.put("jail.conf", "[DEFAULT]\nbackend = auto\nfilter = door\n");
        }
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a file in the folder, or writes it anew.
    pub fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Appends messages to a log, with the time and a host in front.
    pub fn append(&self, log: &str, messages: &[String]) {
        let now = stamp();
        let text: String = messages.iter().map(|message| format!("{now} host {message}\n")).collect();
        let mut log = OpenOptions::new().append(true).create(true).open(self.path(log)).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    /// Appends messages to `auth.log`.
    pub fn write(&self, messages: &[String]) {
        self.append("auth.log", messages);
    }

    /// Failures of an address that the filter `door` finds.
    pub fn fail(&self, address: &str, times: usize) {
        self.write(&vec![failure(address); times]);
    }

    /// What the daemons of this folder have logged.
    pub fn log(&self) -> String {
        fs::read(self.path("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How often a text stands in the daemons' log.
    pub fn count(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// The messages of the daemons' log without time, name and process.
    pub fn messages(&self) -> Vec<String> {
        self.log().lines().filter_map(|line| Some(line.split_once("]: ")?.1.trim_start().to_owned())).collect()
    }

    /// Starts a daemon and returns at once.
    pub fn spawn(self) -> Daemon {
        let child = Command::new(env!("CARGO_BIN_EXE_sekimori"))
            .arg("server")
            .arg("-c")
            .arg(self.dir.path())
            .arg("--logtarget")
            .arg(self.path("log"))
            .args(&self.arguments)
            .env_remove("SSH_CONNECTION")
            .stdin(Stdio::null())
            .stderr(Stdio::from(OpenOptions::new().append(true).create(true).open(self.path("stderr")).unwrap()))
            .spawn()
            .unwrap();
        Daemon { child, home: Some(self) }
    }

    /// Starts a daemon and waits until it is ready.
    pub fn start(self) -> Daemon {
        let before = self.count("Server ready");
        let mut daemon = self.spawn();
        let end = Instant::now() + PATIENCE;
        while daemon.count("Server ready") == before {
            let ended = daemon.child.try_wait().unwrap();
            let said = || fs::read_to_string(daemon.path("stderr")).unwrap_or_default();
            assert!(ended.is_none(), "{ended:?}: {}\n{}", said(), daemon.log());
            assert!(Instant::now() < end, "not ready: {}\n{}", said(), daemon.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        daemon
    }
}

/// A running daemon; killed with the test.
pub struct Daemon {
    child: Child,
    home: Option<Home>,
}

impl std::ops::Deref for Daemon {
    type Target = Home;

    fn deref(&self) -> &Home {
        self.home.as_ref().unwrap()
    }
}

impl Daemon {
    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Kills it as nothing can be done against; its folder stays.
    pub fn kill(mut self) -> Home {
        self.child.kill().unwrap();
        let ended = self.child.wait().unwrap();
        assert_eq!(ended.signal(), Some(9), "it ended by itself: {ended}\n{}", self.log());
        self.home.take().unwrap()
    }

    /// Asks it to end with SIGTERM; its folder stays.
    pub fn stop(self) -> Home {
        self.signal(rustix::process::Signal::TERM);
        let (home, ended) = self.wait();
        assert!(ended.success(), "{ended}");
        home
    }

    /// Waits for its end.
    pub fn wait(mut self) -> (Home, ExitStatus) {
        let mut ended = None;
        wait_for("the end of the daemon", PATIENCE, || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        (self.home.take().unwrap(), ended.unwrap())
    }

    /// Waits until the log has a text.
    pub fn wait_for(&self, text: &str) {
        self.wait_for_times(text, 1);
    }

    /// Waits until the log has a text so many times.
    pub fn wait_for_times(&self, text: &str, times: usize) {
        let end = Instant::now() + PATIENCE;
        while self.count(text) < times {
            assert!(Instant::now() < end, "waited in vain for {times} × `{text}`:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the real client answers, and whether it was content.
    pub fn ask(&self, words: &[&str]) -> (bool, String) {
        super::net::need("fail2ban-client", "fail2ban");
        let output = Command::new("fail2ban-client").arg("-s").arg(self.path("sock")).args(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).trim_end().to_owned())
    }

    /// What the real client answers; it must be content.
    pub fn tell(&self, words: &[&str]) -> String {
        let (well, answer) = self.ask(words);
        assert!(well, "{words:?}: {answer}");
        answer
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A failure of an address that the filter `door` finds, without the time.
pub fn failure(address: &str) -> String {
    format!("doord: bad key from {address}")
}

/// Now, as logs have it.
pub fn stamp() -> String {
    jiff::tz::TimeZone::system().to_datetime(jiff::Timestamp::now()).strftime("%b %e %H:%M:%S").to_string()
}
