//! `smtp.py`, done by ourselves: the same mails as the real one sends, and none that an attacker wrote.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value as Json;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::net::wait_for;

/// The stock file of Debian's package.
const STOCK: &str = "/etc/fail2ban/action.d/smtp.py";
const FILTER: &str = "[Definition]\nfailregex = ^ \\S+ doord: bad key for <F-USER>.*</F-USER> from <HOST>$\n";

/// A mail server; ends with the test.
struct Sink {
    child: Child,
    port: String,
}

impl Sink {
    /// Notes mails down in a file.
    fn start(file: &Path, modes: &[&str]) -> Sink {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/actions/sink.py");
        // the system's Python has the system's packages
        let mut child = Command::new("/usr/bin/python3")
            .arg(program)
            .arg(file)
            .args(modes)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        assert!(port.ends_with('\n'), "the package python3-aiosmtpd is needed for this test");
        Sink { child, port: port.trim_end().to_owned() }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn home(real: bool, options: &str) -> Home {
    let home = if real { Home::new().real() } else { Home::new().without_kernel() };
    home.put("filter.d/user.conf", FILTER);
    home.put("action.d/smtp.py", &fs::read_to_string(STOCK).unwrap());
    home.jail(
        "door",
        &format!(
            "logpath = LOG\nfilter = user\nmaxretry = 2\nbantime = 10m\nfindtime = 10m\nusedns = no\n\
             action = smtp.py[{options}]\n"
        ),
    );
    home
}

fn mails(home: &Home) -> Vec<Json> {
    let text = fs::read_to_string(home.path("mails")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn received(daemon: &Daemon, number: usize) {
    wait_for(&format!("mail {number}"), Duration::from_secs(30), || mails(daemon).len() >= number);
}

fn fail(daemon: &Daemon, user: &str, address: &str) {
    daemon.write(&[format!("doord: bad key for {user} from {address}")]);
}

fn sink(home: &Home, modes: &[&str]) -> Sink {
    Sink::start(&home.path("mails"), modes)
}

/// The mails of a story with a restart, and what clients were answered.
fn story(real: bool) -> (Vec<Json>, String) {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("mails");
    let server = Sink::start(&file, &[]);
    let home = home(
        real,
        &format!(
            "host=127.0.0.1:{}, sender=fail2ban@host.example.org, sendername=\"Zoë, the <guard>\", matches=ipmatches, \
             dest=\"root, a@example.org\"",
            server.port
        ),
    );
    std::os::unix::fs::symlink(&file, home.path("mails")).unwrap();
    let daemon = home.start();
    received(&daemon, 1);
    fail(&daemon, "bob", "198.51.100.7");
    fail(&daemon, "zoë\t\"; $(id)", "198.51.100.7");
    received(&daemon, 2);
    daemon.tell(&["set", "door", "banip", "2001:db8::7"]);
    received(&daemon, 3);
    let mut answers = String::new();
    for words in [
        &["get", "door", "actions"][..],
        &["get", "door", "actionproperties", "smtp"],
        &["get", "door", "actionmethods", "smtp"],
        &["get", "door", "action", "smtp", "user"],
        &["get", "door", "action", "smtp", "password"],
        &["get", "door", "action", "smtp", "fromname"],
        &["get", "door", "action", "smtp", "fromaddr"],
        &["get", "door", "action", "smtp", "toaddr"],
        &["get", "door", "action", "smtp", "matches"],
        &["get", "door", "action", "smtp", "norestored"],
        &["get", "door", "action", "smtp", "sendername"],
        &["get", "door", "action", "smtp", "ssl"],
        &["set", "door", "action", "smtp", "toaddr", "b@example.org"],
        &["get", "door", "action", "smtp", "toaddr"],
        &["set", "door", "action", "smtp", "start"],
        &["set", "door", "action", "smtp", "unban", "{\"aInfo\": {}}"],
        &[
            "set",
            "door",
            "action",
            "smtp",
            "ban",
            "{\"aInfo\": {\"ip\": \"198.51.100.9\", \"failures\": 7, \"ipmatches\": \"1 doord: x\"}}",
        ],
    ] {
        let (well, answer) = daemon.ask(words);
        // the client's own time and process
        let answer = answer.lines().map(|line| line.split_once("]: ").map_or(line, |(_, rest)| rest));
        answers += &format!("{words:?} {well}\n{}\n", answer.collect::<Vec<_>>().join("\n"));
    }
    received(&daemon, 5);
    daemon.tell(&["set", "door", "unbanip", "2001:db8::7"]);
    let home = daemon.stop();
    // what is banned from before is no news
    let daemon = home.start();
    received(&daemon, 7);
    daemon.wait_for("Restore Ban 198.51.100.7");
    let home = daemon.stop();
    assert!(real || home.count("ERROR") <= 2, "{}", home.log());
    (mails(&home), answers)
}

/// What a text says: addresses, numbers and the jail, and lines of the log without the time.
fn facts(body: &str) -> Vec<String> {
    let mut facts = Vec::new();
    for line in body.lines() {
        match line.split_once("doord: ") {
            Some((_, message)) => facts.push(message.to_owned()),
            // what follows is said in other words
            None if line.ends_with(':') => {}
            None => facts.extend(
                line.split_whitespace()
                    .map(|word| word.trim_end_matches([',', '.']))
                    .filter(|word| {
                        *word == "door" || word.contains("::") || word.starts_with(|c: char| c.is_ascii_digit())
                    })
                    .map(str::to_owned),
            ),
        }
    }
    facts
}

#[test]
fn mails_are_those_of_the_real_one_in_words_of_our_own() {
    let ((theirs, their_answers), (ours, our_answers)) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| story(true));
        let ours = story(false);
        (theirs.join().unwrap(), ours)
    });
    assert_eq!(our_answers, their_answers);
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        for part in ["from", "to", "headers", "tls", "auth"] {
            assert_eq!(ours[part], theirs[part], "{part} of {ours}\n{theirs}");
        }
        let [our_text, their_text] = [ours, theirs].map(|mail| mail["body"].as_str().unwrap());
        assert_eq!(facts(our_text), facts(their_text), "{our_text}\n{their_text}");
        assert!(our_text.starts_with("Hi,\n") || our_text.starts_with("Hi,\r\n"), "{our_text:?}");
        assert_eq!(ours["date"].as_str().unwrap().len(), theirs["date"].as_str().unwrap().len());
    }
    assert_eq!(facts(ours[1]["body"].as_str().unwrap())[..3], ["198.51.100.7", "600", "2"]);
}

#[test]
fn a_log_in_over_an_encrypted_connection_delivers_and_never_without() {
    let place = tempfile::tempdir().unwrap();
    let [key, certificate] = ["key", "certificate"].map(|name| place.path().join(name).display().to_string());
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=sink",
            "-keyout",
        ])
        .args([&*key, "-out", &*certificate])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let tls = ["auth", "tls", &*certificate, &*key];
    let user = "user=user, password=\"päss word\", sendername=x, ssl=true";
    let sent = |modes: &[&str], user: &str| {
        let file = place.path().join("mails");
        let server = Sink::start(&file, modes);
        let home = home(false, &format!("host=localhost:{}, {user}", server.port));
        std::os::unix::fs::symlink(&file, home.path("mails")).unwrap();
        let daemon = home.start();
        wait_for("the first mail or an error", Duration::from_secs(30), || {
            !mails(&daemon).is_empty() || daemon.count("Failed to start") > 0
        });
        let seen = mails(&daemon).first().map(|mail| (mail["tls"].clone(), mail["auth"].clone()));
        let log = daemon.stop().log();
        let _ = fs::remove_file(file);
        assert!(!log.contains("päss"), "{log}");
        seen.ok_or(log)
    };
    assert_eq!(sent(&tls, user), Ok((true.into(), "user".into())));
    assert_eq!(sent(&["auth"], &user.replace(", ssl=true", "")), Ok((false.into(), "user".into())));
    // a wrong password, a server without encryption
    let log = sent(&tls, &user.replace("päss", "pass")).unwrap_err();
    assert!(log.contains("Failed to start jail 'door' action 'smtp': permanent error (535)"), "{log}");
    let log = sent(&["auth"], user).unwrap_err();
    assert!(log.contains("STARTTLS is not supported"), "{log}");
}

#[test]
fn a_hostile_name_stays_in_the_text_and_a_server_that_is_away_costs_a_mail() {
    let home = home(false, "host=HOST, matches=matches, dest=\"nobody@example.org, root\", sendername=\"a\u{1b}b\"");
    let server = sink(&home, &[]);
    let jail = home.path("jail.d/door.conf");
    let text = fs::read_to_string(&jail).unwrap().replace("HOST", &format!("127.0.0.1:{}", server.port));
    fs::write(&jail, text).unwrap();
    let daemon = home.start();
    received(&daemon, 1);
    daemon.wait_for(
        "WARNING the mail server does not take mails for 'nobody@example.org': permanent error (550): nobody",
    );
    fail(&daemon, "x\u{1b}[31m\r.\rBcc: evil@example.org\r\r", "198.51.100.7");
    fail(&daemon, ".", "198.51.100.7");
    received(&daemon, 2);
    fail(&daemon, &"long ".repeat(2000), "198.51.100.8");
    fail(&daemon, "x", "198.51.100.8");
    received(&daemon, 3);
    daemon.tell(&["set", "door", "banip", "x\r\nBcc: evil@example.org"]);
    received(&daemon, 4);
    for mail in mails(&daemon) {
        assert_eq!(mail["to"], serde_json::json!(["root"]), "{mail}");
        let names: Vec<&str> =
            mail["headers"].as_array().unwrap().iter().map(|header| header[0].as_str().unwrap()).collect();
        let known = ["Content-Type", "MIME-Version", "Content-Transfer-Encoding", "Subject", "From", "To"];
        assert_eq!(names, known, "{mail}");
        assert!(!mail.to_string().contains("\\u001b"), "{mail}");
        assert!(mail["lines"].as_u64().unwrap() <= 998, "{mail}");
    }
    drop(server);
    fail(&daemon, "x", "198.51.100.9");
    fail(&daemon, "x", "198.51.100.9");
    daemon.wait_for("Failed to execute ban jail 'door' action 'smtp' info '198.51.100.9': Connection error: ");
    daemon.wait_for("Error sending mail to host '127.0.0.1:");
    assert!(!daemon.stop().log().contains('\u{1b}'));
}

#[test]
fn a_changed_file_runs_as_the_program_it_is_and_none_is_needed() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("mails");
    let server = Sink::start(&file, &[]);
    let of = |text: Option<&str>| {
        let home = home(false, &format!("host=127.0.0.1:{}", server.port));
        match text {
            Some(text) => home.put("action.d/smtp.py", text),
            None => fs::remove_file(home.path("action.d/smtp.py")).unwrap(),
        }
        std::os::unix::fs::symlink(&file, home.path("mails")).unwrap();
        let daemon = home.start();
        received(&daemon, 1);
        let mail = mails(&daemon).remove(0);
        daemon.stop();
        fs::remove_file(&file).unwrap();
        mail["body"].as_str().unwrap().to_owned()
    };
    let stock = fs::read_to_string(STOCK).unwrap();
    let ours = of(Some(&stock));
    assert_eq!(of(None), ours);
    assert_ne!(of(Some(&(stock + "# mine\n"))), ours);
}
