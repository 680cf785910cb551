#![expect(clippy::unwrap_used, reason = "a test may")]

use super::*;
use crate::fail2ban::protocol::captures;
use crate::fail2ban::protocol::{Encoding, Replies};

fn words(words: &[&str]) -> Vec<Value> {
    words.iter().map(|word| Value::from(*word)).collect()
}

#[test]
fn what_real_servers_answered_is_printed_as_the_real_client_printed_it() {
    let Some(captures) = captures::load() else { return };
    let mut compared = 0;
    for capture in captures {
        let (Some(Value::List(command)), Some(expected)) = (&capture.command, &capture.beautified) else { continue };
        if capture.session {
            continue;
        }
        let mut replies = Replies::to(Encoding::Pickle);
        replies.feed(&capture.reply).unwrap();
        let shown = match replies.next_reply().unwrap().unwrap() {
            Ok(value) => answer(command, &value, true),
            Err(error) => failure(&error),
        };
        // their client stumbles over these, and prints what it began and then the bare answer
        let stumbled = ["{'", "['"].iter().any(|start| expected.starts_with(start))
            && ["}{'", "]['"].iter().any(|joint| expected.contains(joint));
        if expected == "TrueTrue" || stumbled {
            continue;
        }
        compared += 1;
        assert_eq!(shown, *expected, "{} {command:?}", capture.version);
    }
    assert!(compared > 350, "{compared}");
}

#[test]
fn an_identifier_cannot_forge_a_line_or_command_a_terminal() {
    let reply = Value::List(vec![Value::Tuple(vec![
        "Actions".into(),
        Value::List(vec![Value::Tuple(vec![
            "Banned IP list".into(),
            Value::List(words(&["a\n`- Total banned:\t0", "\u{1b}[2J\u{202e}b", "ü"])),
        ])]),
    ])]);
    assert_eq!(
        answer(&words(&["status", "j"]), &reply, true),
        "Status for the jail: j\n`- Actions\n   `- Banned IP list:\ta\\n`- Total banned:\t0 \\u{1b}[2J\\u{202e}b ü"
    );
}

#[test]
fn tables_grow_with_their_contents_and_can_be_drawn_in_ascii() {
    let row = |a, b| Value::Tuple(vec![Value::Int(a), Value::Int(b)]);
    let reply = Value::Map(vec![
        ("long-jail-name".into(), Value::List(vec!["polling".into(), row(0, 12345), row(1, 2)])),
        ("b".into(), Value::List(vec!["systemd".into(), row(0, 3), row(1, 2)])),
    ]);
    let expected = "
                |          | Filter      | Actions  
 Jail           | Backend  |-------------x-----------
                |          | cur |   tot | cur | tot
----------------x----------x-------------x-----------
 long-jail-name | polling  |   0 | 12345 |   1 |   2
 b              | systemd  |   0 |     3 |   1 |   2
-----------------------------------------------------";
    assert_eq!(answer(&words(&["stats"]), &reply, false), expected[1..]);
    assert_eq!(answer(&words(&["stats"]), &Value::Map(vec![]), true), "No jails found.");
}

#[test]
fn failures_read_as_python_writes_exceptions() {
    for (kind, arguments, text) in [
        (FailureKind::UnknownJail, words(&["x"]), "Sorry but the jail 'x' does not exist"),
        (FailureKind::Key, words(&["x"]), "'x'"),
        (FailureKind::Value, words(&["a", "b"]), "('a', 'b')"),
        (FailureKind::Exception, vec![], ""),
        (
            FailureKind::FileNotFound,
            vec![Value::Int(2), "No such file".into(), "/x".into()],
            "[Errno 2] No such file: '/x'",
        ),
    ] {
        assert_eq!(failure(&Failure { kind, arguments }), text);
    }
}
