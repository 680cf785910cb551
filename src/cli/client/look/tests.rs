use super::*;

fn words(words: &[&str]) -> Vec<Value> {
    words.iter().map(|word| Value::from(*word)).collect()
}

fn pair(name: &str, value: Value) -> Value {
    Value::Tuple(vec![name.into(), value])
}

fn status(banned: &[&str]) -> Value {
    Value::List(vec![
        pair(
            "Filter",
            Value::List(vec![
                pair("Currently failed", Value::Int(1)),
                pair("Total failed", Value::Int(11)),
                pair("File list", Value::List(words(&["/var/log/auth.log"]))),
            ]),
        ),
        pair(
            "Actions",
            Value::List(vec![
                pair("Currently banned", Value::Int(3)),
                pair("Total banned", Value::Int(0)),
                pair("Banned IP list", Value::List(words(banned))),
            ]),
        ),
    ])
}

const TERMINAL: Look = Look::Terminal { colour: false, width: 52 };

#[test]
fn on_a_terminal_values_stand_below_each_other_and_long_lists_are_broken() {
    let answer = status(&["192.0.2.1", "2001:db8::5", "203.0.113.64/28"]);
    let shown = "\
Status for the jail: sshd
|- Filter
|  |- Currently failed:  1
|  |- Total failed:      11
|  `- File list:         /var/log/auth.log
`- Actions
   |- Currently banned:  3
   |- Total banned:      0
   `- Banned IP list:    192.0.2.1 2001:db8::5
                         203.0.113.64/28";
    assert_eq!(TERMINAL.answer(&words(&["status", "sshd"]), &answer), shown);
    let colour = Look::Terminal { colour: true, width: 52 };
    let coloured = colour.answer(&words(&["status", "sshd"]), &answer);
    assert!(coloured.contains("Currently banned:  \x1b[31m3\x1b[0m\n"));
    assert!(coloured.contains("Total banned:      0\n"));
}

#[test]
fn nothing_from_a_server_commands_the_terminal() {
    let evil = "\x1b]0;x\x07\u{9b}2J\u{202e}";
    for command in [&["status", "sshd"][..], &["banned"], &["get", "sshd", "banip"], &["echo"], &["get", "sshd", "x"]] {
        for answer in [status(&[evil]), Value::List(words(&[evil])), evil.into()] {
            let shown = TERMINAL.answer(&words(command), &answer);
            assert!(!shown.contains(['\x1b', '\x07', '\u{9b}', '\u{202e}']), "{shown:?}");
        }
    }
    let failure = Failure::new(crate::control::FailureKind::Value, evil);
    assert!(!TERMINAL.failure(&failure).contains('\x1b'));
}

#[test]
fn documents_have_the_keys_that_are_promised() {
    let map = |pairs: &[(&str, Value)]| {
        Value::Map(pairs.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
    };
    let two = |a, b| Value::Tuple(vec![Value::Int(a), Value::Int(b)]);
    for (command, answer, expected) in [
        (&["ping"][..], "pong".into(), r#"{"ping":"pong"}"#),
        (&["version"], "1.0.2".into(), r#"{"version":"1.0.2"}"#),
        (
            &["status"],
            Value::List(vec![pair("Number of jail", Value::Int(2)), pair("Jail list", "a, b".into())]),
            r#"{"jails":["a","b"]}"#,
        ),
        (
            &["status"],
            Value::List(vec![pair("Number of jail", Value::Int(0)), pair("Jail list", "".into())]),
            r#"{"jails":[]}"#,
        ),
        (
            &["status", "sshd"],
            status(&["192.0.2.1"]),
            r#"{"jail":"sshd","currently_failed":1,"total_failed":11,"files":["/var/log/auth.log"],"currently_banned":3,"total_banned":0,"banned":["192.0.2.1"]}"#,
        ),
        (
            &["stats"],
            map(&[("a", Value::List(vec!["polling".into(), two(1, 2), two(3, 4)]))]),
            r#"{"jails":[{"jail":"a","backend":"polling","currently_failed":1,"total_failed":2,"currently_banned":3,"total_banned":4}]}"#,
        ),
        (
            &["banned"],
            Value::List(vec![map(&[("a", Value::List(words(&["192.0.2.1"])))]), map(&[("b", Value::List(vec![]))])]),
            r#"{"banned":{"a":["192.0.2.1"],"b":[]}}"#,
        ),
        (
            &["banned", "192.0.2.1", "x"],
            Value::List(vec![Value::List(words(&["a"])), Value::List(vec![])]),
            r#"{"jails":{"192.0.2.1":["a"],"x":[]}}"#,
        ),
        (
            &["get", "a", "banip", "--with-time"],
            Value::List(words(&[
                "192.0.2.1 \t2026-11-24 01:59:21 + 600 = 2026-11-24 02:09:21",
                "a + b \t2026-11-24 01:59:21 + -1 = 9999-12-31 23:59:59",
            ])),
            r#"{"jail":"a","bans":[{"id":"192.0.2.1","begin":"2026-11-24 01:59:21","seconds":600,"end":"2026-11-24 02:09:21"},{"id":"a + b","begin":"2026-11-24 01:59:21","seconds":-1,"end":null}]}"#,
        ),
        (&["get", "dbfile"], Value::None, r#"{"option":"dbfile","value":null}"#),
        (&["get", "a", "maxretry"], Value::Int(5), r#"{"jail":"a","option":"maxretry","value":5}"#),
        (
            &["get", "a", "action", "x", "timeout"],
            Value::Int(60),
            r#"{"jail":"a","action":"x","option":"timeout","value":60}"#,
        ),
        (&["set", "a", "banip", "192.0.2.1"], Value::Int(1), r#"{"value":1}"#),
    ] {
        assert_eq!(Look::Json.answer(&words(command), &answer), expected);
    }
    let failure = Failure::new(crate::control::FailureKind::UnknownJail, "x");
    let expected = r#"{"error":{"kind":"UnknownJail","text":"Sorry but the jail 'x' does not exist"}}"#;
    assert_eq!(Look::Json.failure(&failure), expected);
}
