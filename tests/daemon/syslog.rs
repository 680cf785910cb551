//! Messages for the syslog socket, ours and those of the real server.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::harness::daemon::{Daemon, Home, failure};

/// What a syslog daemon gets from a server that is told to send there: each datagram as it came, but for the
/// process number and the NUL that may end it.
fn datagrams(home: Home, target: &str) -> Vec<String> {
    home.put("action.d/none.conf", "[Definition]\nactionban = true\nactionunban = true\n");
    home.jail("door", "backend = polling\nlogpath = LOG\nmaxretry = 1\nbantime = 600\naction = none\n");
    let path = home.path("devlog");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let daemon = home.start();
    daemon.tell(&["set", "syslogsocket", path.to_str().unwrap()]);
    daemon.tell(&["set", "logtarget", target]);
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
    for (target, ban) in [
        ("SYSLOG", "<29>fail2ban.actions[PID]: NOTICE [door] Ban 192.0.2.7"),
        ("SYSLOG[facility=AUTH, padding=yes]", "<37>fail2ban.actions        [PID]: NOTICE  [door] Ban 192.0.2.7"),
        ("syslog[facility=local3, format=\"F %(message)s\"]", "<157>F [door] Ban 192.0.2.7"),
        ("SYSLOG[facility=nosuch]", "<29>fail2ban.actions[PID]: NOTICE [door] Ban 192.0.2.7"),
    ] {
        let ours = datagrams(Home::new().without_kernel(), target);
        let theirs = datagrams(Home::new().real(), target);
        assert!(theirs.iter().any(|message| message == ban), "{theirs:?}");
        assert_eq!(ours, theirs, "{target}");
    }
}

/// What stands in a log after the server is told to write it so, without its time and process number; the reply is
/// the first line.
fn written(daemon: &Daemon, target: &str) -> Vec<String> {
    let _ = std::fs::remove_file(daemon.path("other"));
    assert_eq!(daemon.tell(&["set", "logtarget", "STDERR"]), "Current logging target is:\n`- STDERR");
    let folder = daemon.path("").display().to_string();
    let (_, reply) = daemon.ask(&["set", "logtarget", &target.replace("FILE", &format!("{folder}other"))]);
    daemon.ask(&["set", "loglevel", "bogus"]);
    let text = std::fs::read_to_string(daemon.path("other")).unwrap_or_default();
    // the client's own log stands in front of what was refused
    let reply = reply.rsplit("]: ERROR   ").next().unwrap().to_owned();
    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let times = |line: &str| -> String {
        let time = line.chars().position(|c| c == ',').filter(|at| *at == 19);
        let (time, rest) = line.split_at(time.map_or(0, |at| at + 4));
        time.chars().map(digits).chain(rest.chars()).collect()
    };
    let id = daemon.id().to_string();
    let all = std::iter::once(reply.as_str()).chain(text.lines());
    all.map(|line| times(&line.replace(&folder, "/").replace(&id, "PID"))).collect()
}

/// Targets with options: a file's lines tell what a format does, and no daemon of syslog is needed for it.
const TARGETS: [&str; 12] = [
    "FILE",
    "FILE[]",
    "FILE[datetime=off]",
    "FILE[padding=no]",
    "FILE[datetime=off, padding=off]",
    "FILE[datetime=maybe]",
    "FILE[padding=1, datetime=True]",
    "FILE[facility=AUTH, nosuch=1]",
    "FILE[format=\"%(asctime)s|%(name)-20s|%(levelname)9s|%(levelno)05d|%(process)d|%(message).20s|100%%\"]",
    "FILE[format=\"%(message)s\", datetime=on, padding=on]",
    "FILE[format=\"%q\"]",
    "FILE[",
];

#[test]
fn options_of_the_log_target_form_its_lines_as_those_of_fail2ban() {
    let start = |home: Home| {
        home.jail("door", "backend = polling\nlogpath = LOG\naction =\n");
        home.start()
    };
    let (ours, real) = (start(Home::new().without_kernel()), start(Home::new().real()));
    for target in TARGETS {
        let expected = written(&real, target);
        assert!(expected.len() == 4 || target.ends_with("%q\"]") || target.ends_with('['), "{target}: {expected:?}");
        assert_eq!(written(&ours, target), expected, "{target}");
    }
}

#[test]
fn a_format_that_cannot_be_used_keeps_the_server_from_starting_and_says_why() {
    let home = Home::new().without_kernel().argument("--logtarget").argument("STDOUT[format=\"%(thread)d\"]");
    let (home, ended) = home.spawn().wait();
    assert_eq!(ended.code(), Some(255));
    let said = std::fs::read_to_string(home.path("stderr")).unwrap();
    assert!(said.contains("a format has no field `thread`; there are asctime, name"), "{said}");
}
