//! What Fail2Ban 1.0.2 and 1.1 reply to each command of their tables, right or wrong, recorded from real servers:
//! our server, with the same jails, replies the same values of the same types.
//!
//! In `replies.jsonl` stands one command a line and the reply as Python shows it; `1.1` where that is another one.
//! A `request` in hex is sent as it is: other protocols of pickle, and what is none. Regular expressions stand
//! there as they were given, not with what the original shows for the tags.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use sekimori::control::Value;
use sekimori::fail2ban::pickle::{self, Answer};
use sekimori::fail2ban::protocol::{self, END};
use sekimori::fail2ban::repr::repr;

use crate::harness::daemon::{Daemon, Home, stamp};

/// Commands, by how they begin, that are answered otherwise on purpose; see `contrib/doc/differences.md`.
const OTHERWISE: [(&str, &str); 5] = [
    (r#"["version"]"#, "any 1.1 will do"),
    (r#"["add", "dyn", "polling"]"#, "1.0 stumbles over its own error"),
    (r#"["set", "sshd", "addignoreip", "file:"#, "1.0 does not know files, 1.1 writes them in another way"),
    (r#"["start", "dyn"]"#, "it has no log"),
    (r#"["set", "sshd", "action", "extra", "ban""#, "methods of commands are not called by clients"),
];

/// The jails of the recorded servers, as their client sent them.
pub(super) const STREAM: &str = r#"[
["set","syslogsocket","auto"],["set","loglevel","INFO"],["set","logtarget","/var/log/fail2ban.log"],["set","allowipv6","yes"],
["set","dbfile","/var/lib/fail2ban/fail2ban.sqlite3"],["set","dbmaxmatches",10],["set","dbpurgeage","1d"],
["add","sshd","polling"],["set","sshd","usedns","warn"],["set","sshd","addignoreregex","ignoreme"],
["multi-set","sshd","addfailregex",["^\\s*fail from <HOST>(?: user <F-USER>\\S+</F-USER>)?$","^\\s*net fail from <SUBNET>$"]],
["set","sshd","maxretry",3],["set","sshd","maxmatches",3],["set","sshd","findtime","10m"],["set","sshd","bantime","10m"],
["set","sshd","bantime.increment",true],["set","sshd","bantime.maxtime","5w"],["set","sshd","ignorecommand",""],
["set","sshd","ignoreself",false],["set","sshd","addignoreip","192.0.2.100","198.51.100.0/24"],
["set","sshd","logencoding","auto"],["set","sshd","addlogpath","/var/log/auth.log","head"],["set","sshd","addaction","noop"],
["multi-set","sshd","action","noop",[["actionstart","true start sshd"],["actionstop","true stop sshd"],["actioncheck","true"],
["actionban","true ban <ip> <bantime>"],["actionprolong","true prolong <ip> <bantime>"],["actionunban","true unban <ip>"],
["name","sshd"],["actname","noop"],["blocktype","drop"]]],
["add","account","polling"],["set","account","usedns","warn"],
["set","account","addfailregex","^\\s*account <F-ID>\\S+</F-ID> fail(?: by <ADDR>)?$"],["set","account","maxretry",3],
["set","account","maxmatches",3],["set","account","findtime","10m"],["set","account","bantime","-1"],
["set","account","ignorecommand",""],["set","account","ignoreself",false],["set","account","logencoding","auto"],
["set","account","addlogpath","/var/log/account.log","head"],["set","account","addlogpath","/var/log/account2.log","head"],
["set","account","addaction","noop"],
["multi-set","account","action","noop",[["actionstart","true start account"],["actionstop","true stop account"],
["actioncheck","true"],["actionban","true ban <ip> <bantime>"],["actionprolong","true prolong <ip> <bantime>"],
["actionunban","true unban <ip>"],["name","account"],["actname","noop"],["blocktype","drop"]]],
["set","account","addaction","pyact","/etc/fail2ban/action.d/pyact.py","{\"opt1\": \"y\"}"],
["start","sshd"],["start","account"]]"#;

/// An action of theirs that is written in Python.
pub(super) const PYACT: &str = "from fail2ban.server.action import ActionBase
class Action(ActionBase):
    def __init__(self, jail, name, opt1):
        super().__init__(jail, name)
        self.opt1 = opt1
    def hello(self, who='world'):
        return 'hello ' + who
";

/// The first command after failures were written to the logs.
const AFTER_FAILURES: usize = 22;

pub(super) fn here(daemon: &Daemon, text: &str) -> String {
    let own = daemon.path("");
    ["/var/log/", "/var/lib/fail2ban/", "/etc/fail2ban/"]
        .iter()
        .fold(text.to_owned(), |text, place| text.replace(place, &own.to_string_lossy()))
}

pub(super) fn words(text: &str) -> Vec<Value> {
    match protocol::from_json(serde_json::from_str(text).unwrap()) {
        Value::List(words) => words,
        other => panic!("{other:?} is no list"),
    }
}

/// What came back for a message, as Python shows it; `None` if the server closed the connection instead.
pub(super) fn ask(daemon: &Daemon, message: &[u8]) -> Option<String> {
    let mut stream = UnixStream::connect(daemon.path("sock")).unwrap();
    stream.write_all(message).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let first = bytes.windows(END.len()).position(|part| part == END)?;
    // as to a client of Go, which looks at the type of the reply
    Some(match pickle::answer(&bytes[..first]).unwrap() {
        Answer::Reply(Ok(value)) => format!("(0, {})", repr(&value)),
        Answer::Reply(Err(failure)) => format!("(1, {})", protocol::exception(&failure)),
        Answer::Other(value) => repr(&value),
    })
}

/// Appends lines to a log, each behind the time.
fn write(daemon: &Daemon, log: &str, lines: &[&str]) {
    let now = stamp();
    let text: String = lines.iter().map(|line| format!("{now} {line}\n")).collect();
    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(daemon.path(log)).unwrap();
    log.write_all(text.as_bytes()).unwrap();
}

/// Digits of moments are of the recorded run.
fn without_moments(text: &str) -> String {
    let with_time = text.contains(" \\t");
    text.chars().map(|c| if with_time && c.is_ascii_digit() { '0' } else { c }).collect()
}

fn replay(compat: &str) {
    let home = Home::new().without_kernel().argument("--compat").argument(compat);
    for name in ["account.log", "account2.log", "extra.log", "extra2.log"] {
        home.put(name, "");
    }
    home.put("action.d/pyact.py", PYACT);
    let daemon = home.start();
    let stream = Value::List(words(&here(&daemon, STREAM)));
    let begun = ask(&daemon, &protocol::request(&["server-stream".into(), stream]));
    assert_eq!(begun.as_deref(), Some("(0, None)"));
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (index, line) in include_str!("replies.jsonl").lines().enumerate() {
        if index == AFTER_FAILURES {
            let failures = ["fail from 192.0.2.1", "fail from 2001:db8::5", "net fail from 203.0.113.64/28"];
            write(&daemon, "auth.log", &failures.map(|line| [line; 3]).concat());
            write(&daemon, "auth.log", &["fail from 192.0.2.9"; 2]);
            write(&daemon, "account.log", &["account bob fail"; 3]);
            let settled = || {
                let status = |jail| ask(&daemon, &protocol::request(&["status".into(), Value::from(jail)])).unwrap();
                status("sshd").contains("('Total failed', 11)") && status("account").contains("('Total banned', 1)")
            };
            crate::harness::net::wait_for("all failures count", std::time::Duration::from_secs(20), settled);
        }
        let row: serde_json::Value = serde_json::from_str(&here(&daemon, line)).unwrap();
        let expected = row.get(compat).unwrap_or(&row["1.0"]).as_str().unwrap();
        let message = match row["request"].as_str() {
            Some(hex) => unhex(hex),
            None => protocol::request(&words(&row["command"].to_string())),
        };
        let reply = ask(&daemon, &message);
        let command =
            serde_json::from_str::<serde_json::Value>(line).unwrap()["command"].to_string().replace("\",\"", "\", \"");
        if OTHERWISE.iter().any(|(begin, _)| command.starts_with(begin)) {
            continue;
        }
        compared += 1;
        match reply {
            // they have recorded a connection that was closed
            None if expected.contains("UNPICKLE-ERROR") => {}
            Some(reply) if without_moments(&reply) == without_moments(expected) => {}
            reply => wrong.push(format!("{command}\n  ours: {}\n  real: {expected}", reply.unwrap_or_default())),
        }
    }
    assert!(compared > 220, "{compared}");
    assert!(wrong.is_empty(), "{} replies differ:\n{}", wrong.len(), wrong.join("\n"));
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[test]
fn every_command_is_replied_to_as_by_fail2ban_1_0() {
    replay("1.0");
}

#[test]
fn every_command_is_replied_to_as_by_fail2ban_1_1() {
    replay("1.1");
}
