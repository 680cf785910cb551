//! Beside a live Fail2Ban: the same decisions are no difference, others are listed.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::daemon::{Daemon, Home, stamp};
use crate::harness::net::wait_for;

const JAIL: &str = "backend = polling\nlogpath = LOG\nmaxretry = 3\nfindtime = 10m\nbantime = 1h\naction =\n";

/// A real Fail2Ban with a jail, and some failures of its past.
fn fail2ban(options: &str) -> Daemon {
    let home = Home::new();
    home.jail("door", &format!("{JAIL}{options}"));
    let daemon = home.real().start();
    daemon.fail("192.0.2.5", 2);
    daemon.fail("192.0.2.6", 3);
    daemon.wait_for("[door] Ban 192.0.2.6");
    daemon.wait_for_times("Found 192.0.2.5", 2);
    daemon
}

/// The shadow of a daemon.
struct Shadow {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Shadow {
    fn start(daemon: &Daemon, words: &[&str]) -> Shadow {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekimori"));
        command.arg("shadow").arg("-c").arg(daemon.path("")).args(words).env_remove("SSH_CONNECTION");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut shadow = Shadow { child, out };
        if words.contains(&"--json") {
            let mut line = String::new();
            BufReader::new(shadow.child.stderr.take().unwrap()).read_line(&mut line).unwrap();
            assert!(line.contains("comparing with process"), "{line}");
        } else {
            let line = shadow.line();
            assert!(line.contains("comparing with process"), "{line}");
        }
        // failures of the second in which the comparison begins are not compared
        let begun = stamp();
        wait_for("the next second", Duration::from_secs(2), || stamp() != begun);
        shadow
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// Ends it by a signal; exit code and what it said since.
    fn end(mut self, signal: rustix::process::Signal) -> (Option<i32>, String) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_same_decisions_are_no_difference_and_nothing_is_touched() {
    let daemon = fail2ban("bantime.increment = true\n");
    let before = (daemon.rows("SELECT * FROM bips"), fs::read(daemon.path("jail.conf")).unwrap());
    let shadow = Shadow::start(&daemon, &["--grace", "3s", "--json"]);
    // two were before: one more makes a ban with both
    daemon.fail("192.0.2.5", 1);
    // one that is banned already
    daemon.fail("192.0.2.6", 1);
    daemon.fail("2001:db8::7", 3);
    daemon.wait_for("[door] Ban 192.0.2.5");
    daemon.wait_for("[door] Ban 2001:db8::7");
    daemon.wait_for_times("Found 192.0.2.6", 4);
    // longer than the time of grace
    std::thread::sleep(Duration::from_secs(5));
    let (code, said) = shadow.end(rustix::process::Signal::TERM);
    assert_eq!(code, Some(0), "{said}\n{}", daemon.log());
    let summary: Value = serde_json::from_str(said.trim()).unwrap();
    let summary = &summary["summary"];
    assert_eq!((&summary["bans"], &summary["failures"]), (&2.into(), &5.into()), "{said}\n{}", daemon.log());
    assert_eq!((&summary["differences"], &summary["failures_compared"]), (&0.into(), &true.into()));
    let home = daemon.stop();
    assert_eq!(home.rows("SELECT * FROM bips WHERE ip = '192.0.2.6'"), before.0);
    assert!(home.rows("SELECT name FROM sqlite_master WHERE name LIKE 'sekimori%'").is_empty());
    assert!(!home.path("db-wal").exists() && !home.path("sock.handover").exists());
}

#[test]
fn each_different_decision_is_listed_with_who_made_it() {
    let daemon = fail2ban("");
    daemon.tell(&["set", "door", "banip", "192.0.2.20"]);
    let mut shadow = Shadow::start(&daemon, &["--grace", "2s", "--json"]);
    let mut next = || serde_json::from_str::<Value>(&shadow.line()).unwrap();
    // by hand there, a ban; an end; a failure and a ban that it does not count any more
    daemon.tell(&["set", "door", "banip", "192.0.2.21"]);
    let ban = next();
    daemon.tell(&["set", "door", "unbanip", "192.0.2.20"]);
    let unban = next();
    daemon.tell(&["set", "door", "addignoreip", "192.0.2.22"]);
    daemon.fail("192.0.2.22", 3);
    let mut others = [next(), next(), next(), next()];
    others.sort_by_key(|one| one["difference"].to_string());
    let facts = |one: &Value| {
        let text = |name: &str| one[name].as_str().unwrap().to_owned();
        [text("difference"), text("jail"), text("id"), text("only")].join(" ")
    };
    assert_eq!(facts(&ban), "ban door 192.0.2.21 fail2ban");
    assert_eq!(facts(&unban), "unban door 192.0.2.20 fail2ban");
    assert_eq!(others.each_ref().map(facts)[..2], ["ban door 192.0.2.22 sekimori", "failure door 192.0.2.22 sekimori"]);
    let (code, said) = shadow.end(rustix::process::Signal::INT);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("\"differences\":6"), "{said}");
}

#[test]
fn it_ends_by_itself_and_says_for_people_what_it_saw() {
    let daemon = fail2ban("");
    let mut shadow = Shadow::start(&daemon, &["--grace", "1s", "--for", "6s"]);
    daemon.tell(&["set", "door", "banip", "a\u{1b}[31mb"]);
    let mut said = String::new();
    shadow.out.read_to_string(&mut said).unwrap();
    assert_eq!(shadow.child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("only Fail2Ban banned it, at ") && !said.contains('\u{1b}'), "{said}");
    assert!(said.contains("1 difference(s)"), "{said}");
}

#[test]
fn without_a_fail2ban_it_says_so() {
    let home = Home::new();
    home.jail("door", JAIL);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekimori"));
    let output = command.arg("shadow").arg("-c").arg(home.path("")).output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no Fail2Ban answers at"));
    let daemon = home.without_kernel().start();
    let output =
        Command::new(env!("CARGO_BIN_EXE_sekimori")).arg("shadow").arg("-c").arg(daemon.path("")).output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is Sekimori"));
}
