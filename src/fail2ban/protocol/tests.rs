#![expect(clippy::unwrap_used, reason = "a test may")]

use super::captures;
use super::*;

fn command(words: &[&str], encoding: Encoding) -> Request {
    Request::Command { words: words.iter().map(|word| Value::from(*word)).collect(), encoding }
}

fn all(requests: &mut Requests) -> Vec<Request> {
    std::iter::from_fn(|| requests.next_request()).collect()
}

#[test]
fn messages_may_be_cut_anywhere_and_follow_each_other() {
    let bytes = [
        request(&["ping".into()]),
        b"[\"status\", \"sshd\"]\n\n  {\"command\": [\"ping\", 1, 0.5, true, null]}\r\n".to_vec(),
        request(&["status".into(), "a\nb".into()]),
        close(),
    ]
    .concat();
    let json = Request::Command {
        words: vec!["ping".into(), Value::Int(1), Value::Float(0.5), Value::Bool(true), Value::None],
        encoding: Encoding::Json,
    };
    let expected = [
        command(&["ping"], Encoding::Pickle),
        command(&["status", "sshd"], Encoding::Json),
        json,
        command(&["status", "a\nb"], Encoding::Pickle),
        Request::Close,
    ];
    for size in 1..bytes.len() {
        let mut requests = Requests::default();
        let mut got = Vec::new();
        for piece in bytes.chunks(size) {
            requests.feed(piece).unwrap();
            got.extend(all(&mut requests));
        }
        assert_eq!(got, expected, "{size}");
    }
}

#[test]
fn pickles_of_every_protocol_are_told_from_json() {
    for pickle in [
        &b"(lp0\nS'ping'\np1\na."[..],
        b"]q\0U\x04pinga.",
        b"(U\x04pingt.",
        b"\x80\x02]q\0X\x04\0\0\0pingq\x01a.",
        b"\x80\x05\x95\x0b\0\0\0\0\0\0\0]\x94\x8c\x04ping\x94a.",
    ] {
        let mut requests = Requests::default();
        requests.feed(&[pickle, END].concat()).unwrap();
        assert_eq!(all(&mut requests), [command(&["ping"], Encoding::Pickle)]);
    }
}

#[test]
fn what_is_no_command_is_answered_and_the_connection_goes_on() {
    let mut requests = Requests::default();
    requests
        .feed(&[b"not a pickle", END, END, b"N.", END, b"{\n", b"{\"x\": 1}\n", &request(&["ping".into()])].concat())
        .unwrap();
    let got = all(&mut requests);
    let texts: Vec<String> = got
        .iter()
        .filter_map(|request| match request {
            Request::Refused { reply, .. } => Some(String::from_utf8_lossy(reply).into_owned()),
            _ => None,
        })
        .collect();
    assert!(texts[0].contains("ERROR: ") && texts[1].contains("ERROR: Ran out of input"));
    assert!(texts[2].contains("Invalid command") && texts[3].starts_with("{\"error\":{\"kind\":\"Exception\""));
    assert_eq!(texts[4], "{\"error\":{\"kind\":\"Exception\",\"arguments\":[\"Invalid command\"]}}\n");
    assert_eq!(got[5], command(&["ping"], Encoding::Pickle));
}

#[test]
fn a_message_without_end_is_too_long_some_day() {
    let mut requests = Requests::default();
    let block = vec![b'x'; 1 << 20];
    let fed = (0..20).take_while(|_| requests.feed(&block).is_ok() && requests.next_request().is_none()).count();
    assert_eq!(fed, 17);
    // many short ones are not
    let mut requests = Requests::default();
    let ping = request(&["ping".into()]);
    let many = ping.repeat((MAX_REQUEST * 2).div_ceil(ping.len()) / 64);
    for _ in 0..64 {
        requests.feed(&many).unwrap();
        assert!(all(&mut requests).len() > 1000);
    }
}

#[test]
fn replies_are_read_even_with_the_terminator_inside() {
    let mut bytes = reply(Encoding::Pickle, &Ok(Value::List(vec!["a".into(), Value::Int(1)])));
    // as Fail2Ban sends an id that an attacker chose
    bytes.extend(b"\x80\x04K\0\x8c\x13a<F2B_END_COMMAND>b\x86.<F2B_END_COMMAND>");
    bytes.extend(reply(Encoding::Pickle, &Err(Failure::new(FailureKind::UnknownJail, "x"))));
    bytes.extend(shutdown(Encoding::Pickle));
    for size in [1, 7, bytes.len()] {
        let mut replies = Replies::to(Encoding::Pickle);
        let mut got = Vec::new();
        for piece in bytes.chunks(size) {
            replies.feed(piece).unwrap();
            got.extend(std::iter::from_fn(|| replies.next_reply()).map(Result::unwrap));
        }
        assert_eq!(got[0], Ok(Value::List(vec!["a".into(), Value::Int(1)])));
        assert_eq!(got[1], Ok("a<F2B_END_COMMAND>b".into()));
        assert_eq!(got[2], Err(Failure::new(FailureKind::UnknownJail, "x")));
        assert_eq!(got[3].as_ref().unwrap_err().arguments, [Value::List(vec!["SHUTDOWN".into()])]);
    }
}

#[test]
fn json_replies_are_one_line() {
    let value = Value::Tuple(vec![Value::Map(vec![("a\nb".into(), Value::Set(vec![Value::Float(1.5)]))]), Value::None]);
    assert_eq!(reply(Encoding::Json, &Ok(value)), b"{\"ok\":[{\"a\\nb\":[1.5]},null]}\n");
    let failure = Failure::new(FailureKind::UnknownJail, "nojail");
    let line = reply(Encoding::Json, &Err(failure));
    assert_eq!(line, b"{\"error\":{\"kind\":\"UnknownJail\",\"arguments\":[\"nojail\"]}}\n");
}

#[test]
fn sessions_of_the_real_client_are_understood() {
    let Some(captures) = captures::load() else { return };
    let mut sessions = 0;
    for capture in captures.iter().filter(|capture| capture.session) {
        let mut requests = Requests::default();
        requests.feed(&capture.request).unwrap();
        let got = all(&mut requests);
        assert!(got.contains(&Request::Close) && got.iter().all(|request| !matches!(request, Request::Refused { .. })));
        let mut replies = Replies::to(Encoding::Pickle);
        replies.feed(&capture.reply).unwrap();
        let answers: Vec<_> = std::iter::from_fn(|| replies.next_reply()).map(Result::unwrap).collect();
        let commands = got.iter().filter(|request| matches!(request, Request::Command { .. })).count();
        assert_eq!(answers.len(), commands);
        sessions += 1;
    }
    assert!(sessions > 4);
}

#[test]
fn what_goes_as_a_line_of_json_comes_out_as_it_was() {
    let words = ["set".into(), Value::Int(-1), Value::Float(0.1 + 0.2), "a\n<F2B_END_COMMAND>\u{1b}\u{fffd}".into()];
    let mut requests = Requests::default();
    requests.feed(&json_request(&words)).unwrap();
    let command = Request::Command { words: words.to_vec(), encoding: Encoding::Json };
    assert_eq!(all(&mut requests), [command]);
    let failures = KINDS.map(|kind| Failure { kind, arguments: vec!["x\ny".into(), Value::None] });
    let answers = [Ok(Value::None), Ok(Value::List(words.to_vec()))].into_iter().chain(failures.map(Err));
    let mut replies = Replies::to(Encoding::Json);
    for answer in answers {
        let line = reply(Encoding::Json, &answer);
        let (one, other) = line.split_at(line.len() / 2);
        replies.feed(one).unwrap();
        assert!(replies.next_reply().is_none());
        replies.feed(other).unwrap();
        assert_eq!(replies.next_reply().unwrap().unwrap(), answer);
    }
    replies.feed(&shutdown(Encoding::Json)).unwrap();
    let stopped = replies.next_reply().unwrap().unwrap().unwrap_err();
    assert_eq!(stopped.arguments, [stopping()]);
    for wrong in ["", "{}", "[]", "{\"error\":{}}", "{\"error\":{\"kind\":\"New\",\"arguments\":[]}}"] {
        replies.feed(format!("{wrong}\n").as_bytes()).unwrap();
        assert!(matches!(replies.next_reply(), Some(Err(Unreadable::Json))), "{wrong}");
    }
}
