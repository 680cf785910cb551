//! Our client and Fail2Ban's, both at a real Fail2Ban server: the same answers, the same exit codes.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::harness::net::{need, wait_for};

/// A configuration with files of its own, and a server that touches no firewall.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// With the real server.
    pub fn start() -> Place {
        need("fail2ban-server", "fail2ban");
        let place = Place::stopped();
        assert_eq!(place.theirs(&["start"]).0, (0, "Server ready\n".to_owned()));
        place
    }

    /// The same with our server.
    pub fn start_ours() -> Place {
        let place = Place::stopped();
        let (done, log) = place.our_server(&["-b", "start"]);
        assert_eq!(done, (0, "Server ready\n".to_owned()), "{log}");
        place
    }

    pub fn stopped() -> Place {
        need("fail2ban-client", "fail2ban");
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for folder in ["filter.d", "action.d"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let general = format!(
            "[Definition]\nloglevel = INFO\nlogtarget = {}\nsyslogsocket = auto\nsocket = {}\npidfile = {}\ndbfile = {}\n\
             dbpurgeage = 1d\nallowipv6 = auto\n",
            path("log"),
            path("sock"),
            path("pid"),
            path("db")
        );
        fs::write(path("fail2ban.conf"), general).unwrap();
        fs::write(
            path("filter.d/door.conf"),
            "[Definition]\nfailregex = ^\\s*bad key from <HOST>$\n            ^\\s*no key from <ADDR>$\nignoreregex = joke\n",
        )
        .unwrap();
        fs::write(
            path("action.d/note.conf"),
            "[Definition]\nactionban = true ban <ip>\nactionunban = true unban <ip>\nactionstart = true\n  true again\n",
        )
        .unwrap();
        let log = path("door.log");
        fs::write(&log, "").unwrap();
        let jails = format!(
            "[DEFAULT]\nbackend = polling\nusedns = no\nbantime = 600\nfindtime = 600\nmaxretry = 3\n\
             [door]\nenabled = true\nfilter = door\nlogpath = {log}\naction = note\nignoreip = 192.0.2.100 198.51.100.0/24\n\
             [gate]\nenabled = true\nfilter = door\nlogpath = {log}\naction =\n"
        );
        fs::write(path("jail.conf"), jails).unwrap();
        Place { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run(&self, mut program: Command, words: &[&str]) -> ((i32, String), String) {
        let Output { status, stdout, stderr } = program
            .arg("-c")
            .arg(self.dir.path())
            .args(words)
            .stdin(Stdio::null())
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        ((status.code().unwrap(), text(stdout)), text(stderr))
    }

    pub fn theirs(&self, words: &[&str]) -> ((i32, String), String) {
        self.run(Command::new("fail2ban-client"), words)
    }

    pub fn ours(&self, words: &[&str]) -> ((i32, String), String) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sekimori"));
        program.arg0("fail2ban-client");
        self.run(program, words)
    }

    /// Our program as `fail2ban-server`; bans are only remembered.
    pub fn our_server(&self, words: &[&str]) -> ((i32, String), String) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sekimori"));
        program.arg0("fail2ban-server").args(["--firewall", "memory"]);
        self.run(program, words)
    }

    /// Both clients, one after the other; the answers are the same, whatever they are.
    pub fn both(&self, line: &str) {
        let words = shlex::split(line).unwrap();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (theirs, their_log) = self.theirs(&words);
        let (ours, our_log) = self.ours(&words);
        assert_eq!(ours, theirs, "{line}\n{our_log}\n{their_log}");
        // what the server refused is in the clients' logs in the same words
        let refused =
            |log: &str| log.lines().find_map(|line| line.split_once("NOK: ").map(|(_, text)| text.to_owned()));
        assert_eq!(refused(&our_log), refused(&their_log), "{line}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.path("pid")).ok().and_then(|text| text.trim().parse::<i32>().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = self.theirs(&["stop"]);
            let gone = || rustix::process::test_kill_process(pid).is_err();
            wait_for("the server ends", Duration::from_secs(20), gone);
        }
    }
}

/// Commands that both clients can give one after the other with the same result.
pub const COMMANDS: &str = r"
    ping
    ping 5
    ping x
    version
    echo
    echo a 'b  c'
    server-status
    sleep 0.01
    status
    status door
    status gate short
    status door stats
    status door nosuch
    status nojail
    status a b c
    status --all
    status --all short
    stats
    statistic
    statistics
    set door banip 192.0.2.1
    set nojail banip 192.0.2.1
    status door
    banned
    banned 192.0.2.1 bob 192.0.2.200
    get door banned
    get door banned 192.0.2.1
    get door banned 192.0.2.1 192.0.2.2
    get door banip
    get door banip --with-time
    get door banip ,
    get door banip '; '
    get door unknown
    get loglevel
    get logtarget
    get syslogsocket
    get dbfile
    get dbmaxmatches
    get dbpurgeage
    get thread
    set loglevel INFO
    set loglevel bogus
    set dbpurgeage 2d
    set dbfile /nowhere
    set dbmaxmatches 11
    set allowipv6 yes
    get door logpath
    get door logencoding
    get door journalmatch
    get door ignoreself
    get door ignoreip
    get gate ignoreip
    get door ignorecommand
    get door ignorecache
    get door prefregex
    get door failregex
    get door ignoreregex
    get gate usedns
    get door findtime
    get door datepattern
    get door logtimezone
    get door maxmatches
    get door maxretry
    get door maxlines
    get door bantime
    get door bantime.increment
    get door bantime.factor
    get door bantime.nosuch
    get door actions
    get gate actions
    get door action note actionban
    get door action note actionstart
    get door action note timeout
    get door action note nosuch
    get door action nosuch actionban
    get door actionproperties note
    get door actionmethods note
    get
    get door
    get nojail maxretry
    set
    set door
    set door nosuch x
    set door idle on
    set door idle off
    set door idle maybe
    set door ignoreself true
    set door addignoreip 192.0.2.201 example.org
    set door delignoreip 192.0.2.251
    set door ignorecommand '/bin/false <ip>'
    set door ignorecommand ''
    set door addlogpath /nowhere/at/all
    set door addlogpath /etc/hostname tail
    set door addlogpath /etc/hostname sideways
    set door dellogpath /etc/hostname
    set door logencoding utf-8
    set door logencoding nosuch
    set door addfailregex '^nobody$'
    set door addfailregex '^(open <HOST>$'
    set door delfailregex 99
    set door usedns bogus
    set door findtime 1h
    set door bantime -1
    set door maxretry x
    set door maxretry 4
    set door maxlines 0
    set door datepattern '%Y-%m-%d %H:%M:%S'
    set door logtimezone UTC+0200
    set door logtimezone bogus
    set door delaction nosuch
    set door unbanip --report-absent 192.0.2.77
    set door action note actionban 'true <ip>'
    set door attempt 192.0.2.50 'a line'
    unban
    unban 192.0.2.249
    reload a b
    reload nojail
    reload
    reload door
    reload --restart --unban gate
    restart gate
    status
    flushlogs
    start nojail
    stop nojail
    help
    bogus
    add --all
    add x nosuch
    -q ping
    -V
    --version
    --str2sec 1d12h
    --str2sec 1.5h
    -s /nowhere/sock ping
";

/// Commands with another result at the second time: first ours, then theirs, on different things.
const PAIRS: [(&str, &str); 6] = [
    ("set door banip 192.0.2.31 192.0.2.32", "set door banip 192.0.2.33 192.0.2.34"),
    ("set door unbanip 192.0.2.31", "set door unbanip 192.0.2.33"),
    ("unban 192.0.2.32", "unban 192.0.2.34"),
    ("set door addaction first", "set door addaction other"),
    ("set door addignoreregex first", "set door addignoreregex other"),
    ("add first", "add other"),
];

#[test]
fn ours_prints_what_theirs_prints() {
    let place = Place::start();
    let commands: Vec<&str> = COMMANDS.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert!(commands.len() > 100);
    let ids = ["192.0.2.1", "2001:db8::5", "203.0.113.64/28", "bob"];
    assert_eq!(place.ours(&[&["set", "door", "banip"], &ids[..]].concat()).0, (0, "4\n".to_owned()));
    for line in commands {
        place.both(line);
    }
    for (ours, theirs) in PAIRS {
        let split = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (a, b) = (split(ours), split(theirs));
        let (a, log) = place.ours(&a.iter().map(String::as_str).collect::<Vec<_>>());
        let (b, _) = place.theirs(&b.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(a.0, b.0, "{ours}: {log}");
        assert_eq!(a.1.lines().count() == 1, b.1.lines().count() == 1, "{ours}");
    }
    assert_eq!(place.ours(&["stop"]).0, (0, "Shutdown successful\n".to_owned()));
    wait_for("the server ends", Duration::from_secs(20), || {
        !place.path("pid").exists() && !place.path("sock").exists()
    });
    // nobody is there any more
    place.both("ping");
    place.both("status");
    place.both("reload");
    drop(std::os::unix::net::UnixListener::bind(place.path("sock")).unwrap());
    place.both("ping");
    place.both("status");
}

#[test]
fn one_json_document_answers_each_question() {
    let place = Place::start();
    let json = |words: &[&str]| {
        let ((code, out), log) = place.ours(words);
        (code, serde_json::from_str::<serde_json::Value>(&out).unwrap_or_else(|error| panic!("{out}{log}{error}")))
    };
    assert_eq!(place.ours(&["set", "door", "banip", "192.0.2.1"]).0.0, 0);
    assert_eq!(json(&["status", "--json"]), (0, serde_json::json!({ "jails": ["door", "gate"] })));
    let (code, status) = json(&["--json", "status", "door"]);
    assert_eq!((code, &status["jail"]), (0, &"door".into()));
    assert_eq!(status["banned"], serde_json::json!(["192.0.2.1"]));
    assert_eq!(json(&["banned", "--json"]).1["banned"]["door"], serde_json::json!(["192.0.2.1"]));
    assert_eq!(json(&["get", "door", "maxretry", "--json"]).1["value"], 3);
    let (_, bans) = json(&["--json", "get", "door", "banip", "--with-time"]);
    assert_eq!((&bans["bans"][0]["id"], &bans["bans"][0]["seconds"]), (&"192.0.2.1".into(), &600.into()));
    let (code, failure) = json(&["--json", "status", "nojail"]);
    assert_eq!((code, &failure["error"]["kind"]), (255, &"UnknownJail".into()));
    let (code, failure) = json(&["--json", "-s", "/nowhere/sock", "ping"]);
    assert_eq!((code, &failure["error"]["kind"]), (255, &"Client".into()));
}

#[test]
fn wrong_options_and_no_command_are_answered_with_the_usage() {
    let place = Place::stopped();
    for words in [&["--nosuch"][..], &["-z"], &[], &["-V", "-c"]] {
        let ((code, out), log) = place.ours(words);
        assert_eq!(code, 255, "{words:?}");
        assert!(out.starts_with("Usage: fail2ban-client [OPTIONS] <COMMAND>\n"), "{out}");
        assert_eq!(log.contains("Init of command line failed"), !words.is_empty(), "{log}");
    }
    let ((code, help), _) = place.ours(&["--help"]);
    assert_eq!(code, 0);
    // as the completion of shells reads it
    let commands: Vec<&str> = help
        .lines()
        .filter(|line| line.starts_with("    ") && line.as_bytes().get(4).is_some_and(u8::is_ascii_lowercase))
        .collect();
    assert!(commands.len() > 70);
    let apart = |line: &str| line.as_bytes().get(44).is_none_or(|byte| *byte == b' ') || !line[4..].contains("  ");
    assert!(commands.iter().all(|line| apart(line)), "{commands:#?}");
    let ((code, out), log) = place.ours(&["--str2sec", "x"]);
    assert!(code == 255 && out.starts_with("ERROR: ") && log.contains("Init of command line failed"));
}

#[test]
fn lines_from_standard_input_are_commands_until_exit() {
    let place = Place::start();
    let talk = |mut program: Command| {
        use std::io::Write as _;
        let mut child = program
            .arg("-c")
            .arg(place.dir.path())
            .arg("-i")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = b"status\n\nget door maxretry\necho 'a b' c\nstatus nojail\nexit\nstatus\n";
        child.stdin.take().unwrap().write_all(lines).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let conversation = text.split_once("fail2ban> ").unwrap().1.to_owned();
        (output.status.code(), conversation)
    };
    let mut ours = Command::new(env!("CARGO_BIN_EXE_sekimori"));
    ours.arg0("fail2ban-client");
    assert_eq!(talk(ours), talk(Command::new("fail2ban-client")));
}
