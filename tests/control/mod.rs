//! Our server as clients see it: Fail2Ban's real client, ours, and programs that send JSON.

mod access;
mod manual;
mod replies;
mod sessions;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::{COMMANDS, Place};
use crate::harness::net::wait_for;

fn commands() -> impl Iterator<Item = &'static str> {
    COMMANDS.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// What only servers of 1.1 answer is nothing that the real client, of 1.0, could show.
const LATER: [&str; 5] = ["status door stats", "status --all", "status --all short", "stats", "statistics"];

fn both_clients_get_the_same<'c>(place: &Place, commands: impl Iterator<Item = &'c str>) {
    let ids = ["192.0.2.1", "2001:db8::5", "203.0.113.64/28", "bob"];
    assert_eq!(place.theirs(&[&["set", "door", "banip"], &ids[..]].concat()).0, (0, "4\n".to_owned()));
    for line in commands {
        place.both(line);
    }
}

#[test]
fn the_real_client_gets_from_our_server_what_ours_gets() {
    let place = Place::start_ours();
    both_clients_get_the_same(&place, commands());
    assert_eq!(place.theirs(&["stop"]).0, (0, "Shutdown successful\n".to_owned()));
    wait_for("the server ends", Duration::from_secs(20), || !place.path("pid").exists());
    assert!(!place.path("sock").exists());
    place.both("ping");
}

#[test]
fn the_real_client_gets_from_our_server_as_1_1_what_ours_gets() {
    let place = Place::stopped();
    let (done, log) = place.our_server(&["--compat", "1.1", "-b", "start"]);
    assert_eq!(done, (0, "Server ready\n".to_owned()), "{log}");
    assert_eq!(place.ours(&["status", "door", "stats"]).0.1, "['polling', (0, 0), (0, 0)]\n");
    assert!(
        place.ours(&["status", "--all", "short"]).0.1.contains("\n   |  `- Actions\n   |     |- Currently banned:\t")
    );
    assert!(place.ours(&["stats"]).0.1.contains("\n door     ║ polling  ║   0 │   0 ║"));
    both_clients_get_the_same(&place, commands().filter(|line| !LATER.contains(line)));
}

/// A server that takes one client after the other, answers its requests as told, and keeps what came.
fn listening(place: &Place, answers: &[&[u8]]) -> std::thread::JoinHandle<Vec<u8>> {
    let listener = std::os::unix::net::UnixListener::bind(place.path("sock")).unwrap();
    let answers: Vec<Vec<u8>> = answers.iter().map(|answer| answer.to_vec()).collect();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        for answer in answers {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..length]);
            stream.write_all(&answer).unwrap();
        }
        stream.read_to_end(&mut got).unwrap();
        got
    })
}

#[test]
fn our_client_writes_lines_of_json_to_whoever_reads_them_and_pickles_to_others() {
    use sekimori::fail2ban::protocol::{Encoding, close, reply, request};
    let greeting = request(&["ping".into(), "json".into()]);
    let pickled = |text: &str| reply(Encoding::Pickle, &Ok(text.into()));
    let place = Place::stopped();
    let server = listening(&place, &[&pickled("json"), b"{\"ok\":[\"a\\n\",1.5]}\n"]);
    assert_eq!(place.ours(&["get", "door", "x"]).0, (0, "['a\\n', 1.5]\n".to_owned()));
    assert_eq!(server.join().unwrap(), [&greeting[..], b"[\"get\",\"door\",\"x\"]\n"].concat());
    fs::remove_file(place.path("sock")).unwrap();
    let server = listening(&place, &[&pickled("pong"), &pickled("b")]);
    assert_eq!(place.ours(&["get", "door", "x"]).0, (0, "b\n".to_owned()));
    let asked = request(&["get".into(), "door".into(), "x".into()]);
    assert_eq!(server.join().unwrap(), [greeting, asked, close()].concat());
    fs::remove_file(place.path("sock")).unwrap();
    // it says that it is ours, and is not
    let server = listening(&place, &[&pickled("json"), b"pong\n"]);
    let (done, log) = place.ours(&["status"]);
    assert!(done == (255, String::new()) && log.contains("cannot read the answer: no reply in JSON"), "{done:?} {log}");
    server.join().unwrap();
}

#[test]
fn a_real_server_has_nothing_to_complain_of_our_client() {
    let place = Place::start();
    for words in [&["ping"][..], &["status", "door"], &["banned"]] {
        assert_eq!(place.ours(words).0.0, 0);
    }
    assert_eq!(place.ours(&["stop"]).0.0, 0);
    wait_for("the server ends", Duration::from_secs(20), || !place.path("pid").exists());
    let log = fs::read_to_string(place.path("log")).unwrap();
    assert!(!log.contains("ERROR"), "{log}");
}

/// Commands whose answers have regular expressions: ours show the tags that were written, the real server's
/// what stands for them; see `contrib/doc/differences.md`.
const TAGS: [&str; 3] = ["get door failregex", "set door addfailregex '^(open <HOST>$'", "set door delfailregex 99"];

/// A server of ours and a real one with the same jails, asked the same.
struct Servers {
    ours: Place,
    real: Place,
    /// What stands for `<HOST>` and `<ADDR>`, as the real server shows it; without look-ups of names.
    tags: [String; 2],
}

impl Servers {
    fn start() -> Servers {
        let (ours, real) = (Place::start_ours(), Place::start());
        let tags = ["<HOST>", "<ADDR>"].map(|tag| {
            let ((code, text), _) = real.theirs(&["set", "gate", "addfailregex", tag]);
            assert_eq!(code, 0, "{text}");
            let shown = text.lines().last().unwrap().split_once("]: ").unwrap().1.to_owned();
            assert_eq!(real.theirs(&["set", "gate", "delfailregex", "2"]).0.0, 0);
            assert!(shown != tag && shown.contains("(?P<"), "{shown}");
            shown
        });
        Servers { ours, real, tags }
    }

    /// Asks both with the real client; how the answers differ, if they do. `DIR` stands for their folders.
    fn difference(&self, line: &str) -> Option<String> {
        self.compare(line, Place::theirs)
    }

    /// The same, but ours is asked with another client.
    fn compare(&self, line: &str, ask_ours: impl Fn(&Place, &[&str]) -> ((i32, String), String)) -> Option<String> {
        let words = |place: &Place| {
            let folder = place.path("").to_str().unwrap().trim_end_matches('/').to_owned();
            shlex::split(&line.replace("DIR", &folder)).unwrap()
        };
        let (ours, theirs) = (words(&self.ours), words(&self.real));
        let ((code, text), _) = ask_ours(&self.ours, &ours.iter().map(String::as_str).collect::<Vec<_>>());
        let ((expected, mut answer), _) = self.real.theirs(&theirs.iter().map(String::as_str).collect::<Vec<_>>());
        let mut text = text.replace(self.ours.path("").to_str().unwrap(), self.real.path("").to_str().unwrap());
        if TAGS.contains(&line) {
            assert_ne!(text, answer, "{line}");
            text = text.replace("<ADDR>", "<HOST>");
            answer = self.tags.iter().fold(answer, |answer, tag| answer.replace(tag, "<HOST>"));
        }
        // moments differ, their form does not
        let form = |text: &str| {
            text.split(" \t").map(|part| part.replace(|c: char| c.is_ascii_digit(), "0")).collect::<Vec<_>>()
        };
        // the original keeps single addresses in a set, whose order is another one in each process
        let entries = |text: &str| {
            let mut entries: Vec<String> = text.lines().map(|line| line.replace("`-", "|-")).collect();
            entries.sort();
            entries
        };
        let (text, answer) = if line.contains("--with-time") {
            (form(&text), form(&answer))
        } else if line.contains("ignoreip") {
            (entries(&text), entries(&answer))
        } else {
            (vec![text], vec![answer])
        };
        let same = (code, &text) == (expected, &answer);
        (!same).then(|| format!("{line}\n  ours: {code} {text:?}\n  real: {expected} {answer:?}"))
    }
}

#[test]
fn our_server_answers_as_the_real_one_does() {
    let servers = Servers::start();
    let ids = ["192.0.2.1", "2001:db8::5", "203.0.113.64/28", "bob"];
    assert_eq!(servers.difference(&format!("set door banip {}", ids.join(" "))), None);
    let found: Vec<String> = commands().filter_map(|line| servers.difference(line)).collect();
    assert!(found.is_empty(), "{} answers differ:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_server_in_the_background_answers_before_its_starter_ends_and_leaves_nothing_behind() {
    let place = Place::start_ours();
    let pid = fs::read_to_string(place.path("pid")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // the session is its own, and there is no terminal
    assert_eq!((fields[3], fields[4]), (pid.trim(), "0"));
    for name in ["pid", "sock", "log"] {
        assert_eq!(fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(place.theirs(&["start"]).1.contains("ERROR   Server already running\n"));
    let (done, log) = place.ours(&["start"]);
    assert!(done == (255, String::new()) && log.contains("ERROR   Server already running\n"), "{done:?} {log}");
    let (done, log) = place.our_server(&["-f"]);
    assert!(done == (255, String::new()) && log.contains("ERROR   Server already running"), "{done:?} {log}");
    let (done, log) = place.ours(&["--firewall", "memory", "restart"]);
    assert_eq!(done, (0, "Shutdown successful\nServer ready\n".to_owned()), "{log}");
    assert_ne!(fs::read_to_string(place.path("pid")).unwrap(), pid);
    assert_eq!(place.ours(&["stop"]).0, (0, "Shutdown successful\n".to_owned()));
    wait_for("the server ends", Duration::from_secs(20), || !place.path("pid").exists());
    assert!(!place.path("sock").exists());
}

#[test]
fn what_keeps_a_server_from_starting_is_told_by_its_starter() {
    let place = Place::stopped();
    fs::write(place.path("not-a-socket"), "").unwrap();
    let socket = place.path("not-a-socket");
    let (done, log) = place.our_server(&["-s", socket.to_str().unwrap(), "-b", "start"]);
    assert_eq!(done, (255, String::new()));
    assert!(log.contains("is there and is no socket") && log.contains("Could not start server"), "{log}");
    let (done, log) = place.our_server(&["--logtarget", "/nowhere/at/all/log", "start"]);
    assert_eq!(done, (255, String::new()));
    assert!(log.contains("cannot log to `/nowhere/at/all/log`"), "{log}");
    assert!(!place.path("pid").exists() && !place.path("sock").exists());
}

#[test]
fn beside_a_running_fail2ban_no_server_starts() {
    let place = Place::start();
    for words in [&["-f"][..], &["-xf", "start"], &["-b", "start"]] {
        let (done, log) = place.our_server(words);
        assert!(done == (255, String::new()) && log.contains("Server already running"), "{done:?} {log}");
    }
    assert_eq!(place.ours(&["ping"]).0.0, 0);
}

#[test]
fn a_client_may_send_the_configuration_later() {
    let place = Place::stopped();
    let sock = place.path("sock");
    let log = place.path("log");
    let words =
        ["--async", "-b", "-s", sock.to_str().unwrap(), "--loglevel", "INFO", "--logtarget", log.to_str().unwrap()];
    let (done, said) = place.our_server(&words);
    assert_eq!(done, (0, String::new()), "{said}");
    assert_eq!(place.theirs(&["status"]).0.1, "Status\n|- Number of jail:\t0\n`- Jail list:\t\n");
    assert_eq!(place.theirs(&["reload"]).0, (0, "OK\n".to_owned()));
    assert_eq!(place.theirs(&["status"]).0.1, "Status\n|- Number of jail:\t2\n`- Jail list:\tdoor, gate\n");
}

fn foreground(place: &Place) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sekimori"))
        .arg0("fail2ban-server")
        .arg("-c")
        .arg(place.path(""))
        .args(["--firewall", "memory", "-xf", "start"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

#[test]
fn in_the_foreground_it_says_when_it_is_ready_and_ends_with_success() {
    let place = Place::stopped();
    let (mut child, mut out) = foreground(&place);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "Server ready\n");
    assert_eq!(fs::read_to_string(place.path("pid")).unwrap(), format!("{}\n", child.id()));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!place.path("pid").exists() && !place.path("sock").exists());
}

#[test]
fn programs_ask_in_lines_of_json_on_the_same_socket() {
    let place = Place::start_ours();
    let mut stream = UnixStream::connect(place.path("sock")).unwrap();
    let lines = b"[\"status\"]\n{\"command\": [\"set\", \"door\", \"banip\", \"192.0.2.7\"]}\n[\"get\", \"door\", \"banned\"]\n[\"get\", \"nojail\", \"bantime\"]\n";
    stream.write_all(lines).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let expected = [
        r#"{"ok":[["Number of jail",2],["Jail list","door, gate"]]}"#,
        r#"{"ok":1}"#,
        r#"{"ok":["192.0.2.7"]}"#,
        r#"{"error":{"kind":"UnknownJail","arguments":["nojail"]}}"#,
    ];
    assert_eq!(answers.lines().collect::<Vec<_>>(), expected);
}
