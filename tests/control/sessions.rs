//! Whole conversations of the real client, byte for byte as it had them with a real server: ours says the same
//! and hangs up when the client says that it is done.
//!
//! In `sessions.jsonl` stands one conversation a line: all that the client sent, all that it got, and what it printed.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use sekimori::control::Value;
use sekimori::fail2ban::pickle::{self, Answer};
use sekimori::fail2ban::protocol::{self, END};
use sekimori::fail2ban::{beautifier, repr::repr};

use super::replies::{PYACT, STREAM, ask, here, unhex, words};
use crate::harness::daemon::{Daemon, Home};

/// A recorded pickle with this daemon's folder in its paths, which are its short texts that begin with `/`.
fn moved(daemon: &Daemon, pickle: &[u8]) -> Vec<u8> {
    let mut moved = Vec::new();
    let mut rest = pickle;
    while let [first, tail @ ..] = rest {
        if let (0x8c, [length, b'/', ..]) = (first, tail) {
            let (text, after) = tail[1..].split_at(usize::from(*length));
            let text = here(daemon, std::str::from_utf8(text).unwrap());
            moved.extend([0x8c, u8::try_from(text.len()).unwrap()]);
            moved.extend(text.as_bytes());
            rest = after;
        } else {
            moved.push(*first);
            rest = tail;
        }
    }
    // behind the protocol's number stands the length of the only frame
    let length = u64::try_from(moved.len() - 11).unwrap();
    moved[3..11].copy_from_slice(&length.to_le_bytes());
    moved
}

/// The messages of a conversation, without their ends.
fn messages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.windows(END.len()).position(|part| part == END) {
        all.push(rest[..end].to_vec());
        rest = &rest[end + END.len()..];
    }
    assert!(rest.is_empty());
    all
}

/// What a conversation brings: all replies as Python shows them, the exit code, the text.
fn converse(daemon: &Daemon, requests: &[Vec<u8>]) -> Outcome {
    let mut got = Vec::new();
    let mut command = Vec::new();
    let mut connection = None;
    for message in requests {
        let mut stream = connection.take().unwrap_or_else(|| UnixStream::connect(daemon.path("sock")).unwrap());
        stream.write_all(&[message, END].concat()).unwrap();
        if message == protocol::CLOSE {
            // it is the server that hangs up
            stream.read_to_end(&mut got).unwrap();
            continue;
        }
        let Ok(Value::List(words)) = pickle::value(message) else { panic!("{message:?}") };
        command = words;
        connection = Some(stream);
    }
    outcome(&command, &got)
}

#[derive(Debug, PartialEq)]
struct Outcome {
    replies: Vec<String>,
    exit: i64,
    stdout: String,
}

fn outcome(command: &[Value], bytes: &[u8]) -> Outcome {
    let mut outcome = Outcome { replies: Vec::new(), exit: 1, stdout: String::new() };
    for message in messages(bytes) {
        let (reply, exit, text) = match pickle::answer(&message).unwrap() {
            Answer::Reply(Ok(value)) => (repr(&value), 0, beautifier::answer(command, &value, true)),
            Answer::Reply(Err(failure)) => (protocol::exception(&failure), 255, beautifier::failure(&failure)),
            Answer::Other(value) => panic!("{value:?}"),
        };
        outcome.replies.push(reply);
        (outcome.exit, outcome.stdout) = (exit, text + "\n");
    }
    outcome
}

#[test]
fn whole_conversations_of_the_real_client_go_as_they_went() {
    let home = Home::new().without_kernel();
    for name in ["account.log", "account2.log"] {
        home.put(name, "");
    }
    home.put("action.d/pyact.py", PYACT);
    let daemon = home.start();
    let stream = Value::List(words(&here(&daemon, STREAM)));
    assert_eq!(ask(&daemon, &protocol::request(&["server-stream".into(), stream])).as_deref(), Some("(0, None)"));
    let lines: Vec<&str> = include_str!("sessions.jsonl").lines().collect();
    assert_eq!(lines.len(), 6);
    for line in lines {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let hex = |name: &str| messages(&unhex(row[name].as_str().unwrap()));
        let requests: Vec<Vec<u8>> = hex("request")
            .iter()
            .map(|message| if message == protocol::CLOSE { message.clone() } else { moved(&daemon, message) })
            .collect();
        let expected = Outcome {
            replies: hex("reply").iter().flat_map(|message| outcome(&[], &[message, END].concat()).replies).collect(),
            exit: row["exit"].as_i64().unwrap(),
            stdout: row["stdout"].as_str().unwrap().to_owned(),
        };
        let expected = Outcome {
            replies: expected.replies.iter().map(|reply| here(&daemon, reply)).collect(),
            stdout: here(&daemon, &expected.stdout),
            ..expected
        };
        let got = converse(&daemon, &requests);
        assert_eq!(got, expected);
    }
    let log = std::fs::read_to_string(daemon.path("fail2ban.log")).unwrap();
    assert_eq!(log.matches("Jail 'account' reloaded").count(), 2, "{log}");
}
