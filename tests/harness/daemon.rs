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
    environment: Vec<(String, String)>,
    program: Program,
}

/// Which program is the daemon.
enum Program {
    /// Ours.
    Sekimori,
    /// Ours, with a file system of so many bytes of its own at the folder's `small`.
    OnSmallDisk(u32),
    /// The real Fail2Ban.
    Fail2Ban,
}

impl Home {
    /// With a filter `door`, which knows lines of [`Home::fail`], and an empty `auth.log`.
    pub fn new() -> Home {
        let dir = tempfile::tempdir().unwrap();
        let home = Home { dir, arguments: Vec::new(), environment: Vec::new(), program: Program::Sekimori };
        home.put("auth.log", "");
        home.put("jail.conf", "[DEFAULT]\nbackend = auto\nfilter = door\n");
        home.put("filter.d/door.conf", "[Definition]\nfailregex = ^ \\S+ doord: bad key from <HOST>$\n");
        // for a client that does not have it built in
        let native = include_str!("../../action.d/nftables-native.conf");
        home.put("action.d/nftables-native.conf", native);
        home.database("DIR/db");
        home
    }

    /// Where the database is; `DIR` stands for the folder.
    pub fn database(&self, dbfile: &str) {
        let general = "[Definition]\nloglevel = INFO\nlogtarget = DIR/log\nsyslogsocket = auto\nsocket = DIR/sock\n\
                       pidfile = DIR/pid\nallowipv6 = auto\ndbpurgeage = 1d\ndbmaxmatches = 10\n";
        self.put("fail2ban.conf", &self.filled(&format!("{general}dbfile = {dbfile}\n")));
    }

    fn filled(&self, text: &str) -> String {
        text.replace("LOG", "DIR/auth.log").replace("DIR", &self.dir.path().to_string_lossy())
    }

    /// Started by the real Fail2Ban instead.
    pub fn real(mut self) -> Home {
        super::net::need("fail2ban-server", "fail2ban");
        self.program = Program::Fail2Ban;
        // it does not know ours
        self.arguments.clear();
        self
    }

    /// The daemon has a file system of its own at `small`, of so many bytes.
    pub fn with_small_disk(mut self, bytes: u32) -> Home {
        fs::create_dir(self.path("small")).unwrap();
        self.program = Program::OnSmallDisk(bytes);
        self
    }

    /// One more word of the command line.
    pub fn argument(mut self, word: &str) -> Home {
        self.arguments.push(word.to_owned());
        self
    }

    /// One more variable of the daemon's environment.
    pub fn variable(mut self, name: &str, value: &str) -> Home {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Bans are remembered, but not told to the kernel.
    pub fn without_kernel(mut self) -> Home {
        self.arguments.extend(["--firewall".to_owned(), "memory".to_owned()]);
        self
    }

    /// An enabled jail with filter `door`; `LOG` stands for the path of `auth.log`, `DIR` for the
    /// folder. In place of a jail of that name.
    pub fn jail(&self, name: &str, options: &str) {
        self.put(&format!("jail.d/{name}.conf"), &self.filled(&format!("[{name}]\nenabled = true\n{options}")));
    }

    /// An action that writes down what it is told into the file of its name.
    pub fn action(&self, name: &str) {
        let file = self.path(name);
        let note = |event: &str, rest: &str| format!("action{event} = echo {event}{rest} >> {}\n", file.display());
        let text = [note("start", ""), note("stop", ""), note("ban", " <ip>"), note("unban", " <ip>")].concat();
        self.put(&format!("action.d/{name}.conf"), &format!("[Definition]\n{text}"));
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
        let path = self.path(log);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut log = OpenOptions::new().append(true).create(true).open(path).unwrap();
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

    /// Answers of the database, each row joined by blanks.
    pub fn rows(&self, query: &str) -> Vec<String> {
        let database = rusqlite::Connection::open(self.path("db")).unwrap();
        let mut query = database.prepare(query).unwrap();
        let width = query.column_count();
        let text = |row: &rusqlite::Row<'_>, at| -> String {
            use rusqlite::types::ValueRef;
            match row.get_ref(at).unwrap() {
                ValueRef::Null => "-".to_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            }
        };
        let rows = query.query_map([], |row| Ok((0..width).map(|at| text(row, at)).collect::<Vec<_>>().join(" ")));
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// Changes the database of a daemon that does not run.
    pub fn change(&self, statement: &str) {
        rusqlite::Connection::open(self.path("db")).unwrap().execute_batch(statement).unwrap();
    }

    /// Starts a daemon and returns at once.
    pub fn spawn(self) -> Daemon {
        // figures are of interest for another build than that of the tests
        let ours = std::env::var("SEKIMORI").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sekimori").to_owned());
        let mut command = match self.program {
            Program::Sekimori => Command::new(&ours),
            Program::OnSmallDisk(bytes) => {
                let mut command = Command::new("unshare");
                let root = rustix::process::geteuid().is_root();
                command.args(if root { &["-m", "--"][..] } else { &["-Urm", "--"] });
                let text = format!("mount -t tmpfs -o size={bytes} none \"$0\" && exec \"$@\"");
                command.args(["sh", "-c", &text]).arg(self.path("small")).arg(&ours);
                command
            }
            Program::Fail2Ban => Command::new("fail2ban-server"),
        };
        if matches!(self.program, Program::Fail2Ban) {
            command.arg("-c").arg(self.dir.path()).args(["-xf", "start"]);
        } else {
            command.arg("server").arg("-c").arg(self.dir.path()).arg("--logtarget").arg(self.path("log"));
        }
        let child = command
            .args(&self.arguments)
            .env_remove("SSH_CONNECTION")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(OpenOptions::new().append(true).create(true).open(self.path("stderr")).unwrap()))
            .spawn()
            .unwrap();
        Daemon { child, home: Some(self) }
    }

    /// Starts a daemon and waits until it is ready.
    pub fn start(self) -> Daemon {
        // the real one says it last for its last jail
        let (ready, times) = match self.program {
            Program::Fail2Ban => ("' started", fs::read_dir(self.path("jail.d")).unwrap().count()),
            _ => ("Server ready", 1),
        };
        let times = self.count(ready) + times;
        let mut daemon = self.spawn();
        let end = Instant::now() + PATIENCE;
        while daemon.count(ready) < times {
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

    /// A number of its `/proc/PID/status`, such as `VmHWM`.
    pub fn figure(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
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

    /// Waits until the end of the log has a text; for a log that is too long to be read again and again.
    pub fn wait_for_end(&self, text: &str, limit: Duration) {
        use std::io::{Read as _, Seek as _, SeekFrom};
        wait_for(text, limit, || {
            let mut log = fs::File::open(self.path("log")).unwrap();
            let size = log.metadata().unwrap().len();
            log.seek(SeekFrom::Start(size.saturating_sub(64 * 1024))).unwrap();
            let mut end = Vec::new();
            log.read_to_end(&mut end).unwrap();
            String::from_utf8_lossy(&end).contains(text)
        });
    }

    /// What the real client answers, and whether it was content.
    pub fn ask(&self, words: &[&str]) -> (bool, String) {
        super::net::need("fail2ban-client", "fail2ban");
        let mut client = Command::new("fail2ban-client");
        client.arg("-c").arg(self.dir.path()).arg("-s").arg(self.path("sock"));
        let output = client.args(words).output().unwrap();
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
