#![expect(clippy::unwrap_used, reason = "a test may")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::control::{Failure, Value};
use crate::fail2ban::protocol::captures::{self, Capture};

/// Lines in, lines out.
fn python(script: &str, input: String) -> String {
    // not whatever python3 is first in the path: replies name classes of the installed Fail2Ban
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("/usr/bin/python3 is needed for this test");
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sample() -> Value {
    let text = |text: &str| Value::from(text);
    Value::List(vec![
        text("set"),
        Value::Int(0),
        Value::Int(255),
        Value::Int(256),
        Value::Int(-1),
        Value::Int(65536),
        Value::Int(i64::MIN),
        Value::Int(1 << 40),
        Value::Float(1.5),
        Value::None,
        Value::Bool(true),
        Value::Bool(false),
        Value::Tuple(vec![]),
        Value::Tuple(vec![Value::Int(1)]),
        Value::Tuple(vec![Value::Int(1), Value::Int(2), Value::Int(3), Value::Int(4)]),
        Value::List(vec![]),
        Value::Map(vec![(text("stacksize"), Value::Int(0)), (text("ä"), Value::List(vec![text("€")]))]),
        Value::Map(vec![]),
        Value::Set(vec![text("a")]),
        Value::Text("x".repeat(300)),
        Value::Text("quote ' newline \n nul \0 backslash \\ 𝄞".to_owned()),
    ])
}

#[test]
fn what_is_written_is_read_again() {
    assert_eq!(value(&encode(&sample())).unwrap(), sample());
}

#[test]
fn python_reads_what_we_write_and_we_read_what_python_writes_in_every_protocol() {
    let script = r#"
import pickle, sys
value = pickle.loads(bytes.fromhex(sys.stdin.read()))
expected = ['set', 0, 255, 256, -1, 65536, -2**63, 2**40, 1.5, None, True, False, (), (1,), (1, 2, 3, 4), [],
    {'stacksize': 0, 'ä': ['€']}, {}, {'a'}, 'x' * 300, "quote ' newline \n nul \0 backslash \\ 𝄞"]
assert value == expected and repr(value) == repr(expected)
for protocol in range(6):
    print(pickle.dumps(value, protocol).hex())
"#;
    let output = python(script, hex(&encode(&sample())));
    assert_eq!(output.lines().count(), 6);
    for (protocol, line) in output.lines().enumerate() {
        assert_eq!(value(&captures::unhex(line)).unwrap(), sample(), "protocol {protocol}");
    }
}

#[test]
fn texts_of_python_2_are_texts() {
    assert_eq!(value(b"(S'ping'\nS'it\\'s\\n\\x41'\nU\x03abcT\x02\0\0\0dete.").unwrap_err(), Error::Malformed(38));
    let words = value(b"]q\0(S'ping'\nq\x01S\"it's\\n\\x41\"\nU\x03abcT\x02\0\0\0deVx\\u20acy\ne.").unwrap();
    let expected = ["ping", "it's\nA", "abc", "de", "x€y"].map(Value::from);
    assert_eq!(words, Value::List(expected.to_vec()));
}

#[test]
fn nothing_is_called_but_str_list_and_set() {
    for (name, pickle) in [
        ("os.system", &b"cos\nsystem\n(S'id'\ntR."[..]),
        ("builtins.eval", b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R."),
        ("subprocess.Popen", b"csubprocess\nPopen\n(S'id'\ntR."),
        ("builtins.ValueError", b"cbuiltins\nValueError\n(S'id'\ntR."),
    ] {
        assert_eq!(value(pickle).unwrap_err(), Error::Forbidden(name.to_owned()));
    }
    assert_eq!(value(b"cbuiltins\nstr\n(S'id'\ntR.").unwrap(), Value::from("id"));
    assert_eq!(value(b"c__builtin__\nset\n((S'a'\nltR.").unwrap(), Value::Set(vec![Value::from("a")]));
    // opcodes that make objects, read extensions or persistent ids
    for opcode in [b'i', b'o', 0x81, 0x92, 0x82, b'P', b'Q', b'b', 0x96, 0x97] {
        assert_eq!(value(&[b'(', opcode]).unwrap_err(), Error::Opcode(opcode), "{opcode:#x}");
    }
}

#[test]
fn exceptions_of_replies_are_failures_and_back() {
    for (_, _, kind) in EXCEPTIONS {
        let reply = Err(Failure { kind, arguments: vec![Value::Int(2), "No such file".into(), "/x".into()] });
        assert_eq!(answer(&encode_reply(&reply)).unwrap(), Answer::Reply(reply));
    }
    let reply = Ok(sample());
    assert_eq!(answer(&encode_reply(&reply)).unwrap(), Answer::Reply(reply));
    let Answer::Reply(Err(failure)) = answer(b"(I1\ncbuiltins\nNameError\n(S'x'\ntRt.").unwrap() else { panic!() };
    assert_eq!(failure, Failure::new(FailureKind::Exception, "x"));
    assert!(answer(b"(I1\ncos\nsystem\n(S'id'\ntRt.").is_err());
}

#[test]
fn every_limit_holds() {
    let deep = [vec![b'('; 1], vec![b']'; 1]].concat();
    assert!(value(&deep).is_err());
    let nested = |levels: usize| [vec![b']'; levels], vec![b'a'; levels - 1], vec![b'.']].concat();
    assert!(value(&nested(MAX_DEPTH + 1)).is_ok());
    assert_eq!(value(&nested(MAX_DEPTH + 2)).unwrap_err(), Error::TooLarge("40 levels"));
    // a list inside of itself
    assert_eq!(value(b"]q\0h\0a.").unwrap_err(), Error::TooLarge("40 levels"));
    assert_eq!(value(&vec![b'N'; MAX_STACK + 1]).unwrap_err(), Error::TooLarge("200,000 objects on the stack"));
    assert_eq!(value(&vec![b'('; MAX_STACK + 1]).unwrap_err(), Error::TooLarge("200,000 marks"));
    assert_eq!(value(&b"N0".repeat(MAX_OBJECTS + 1)).unwrap_err(), Error::TooLarge("a million objects"));
    // each list holds the one before it ten times: a small pickle, an enormous value
    let mut laughs = b"]".to_vec();
    for level in 0..20_u8 {
        laughs.extend([b'q', level, b'0', b']', b'(']);
        laughs.extend([b'h', level].repeat(10));
        laughs.push(b'e');
    }
    laughs.push(b'.');
    assert_eq!(value(&laughs).unwrap_err(), Error::TooLarge("64 MiB"));
    // a long text, many times
    let mut long = b"(X\0\0\x10\0".to_vec();
    long.extend(vec![b'x'; 0x10_0000]);
    long.extend(b"q\0");
    long.extend(b"h\0".repeat(100));
    long.extend(b"l.");
    assert_eq!(value(&long).unwrap_err(), Error::TooLarge("64 MiB"));
    // copies of a long list
    let mut copies = b"cbuiltins\nlist\nq\0(".to_vec();
    copies.extend(vec![b'N'; 100_000]);
    copies.extend(b"l\x85q\x01");
    copies.extend(b"h\0h\x01R0".repeat(11));
    assert_eq!(value(&copies).unwrap_err(), Error::TooLarge("a million objects"));
    assert_eq!(
        value(b"\x8b\x09\0\0\0\x01\x01\x01\x01\x01\x01\x01\x01\x01.").unwrap_err(),
        Error::TooLarge("64 bits of a number")
    );
    for length in [
        &b"T\xff\xff\xff\xff"[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"X\xff\xff\xff\x7fabc",
        b"\x8b\xff\xff\xff\x7f",
    ] {
        assert_eq!(value(length).unwrap_err(), Error::Truncated);
    }
    assert_eq!(value(b"").unwrap_err().to_string(), "Ran out of input");
}

#[test]
fn the_end_of_a_message_is_never_inside_of_one() {
    let end = crate::fail2ban::protocol::END;
    let filler = "x".repeat(60 - 16);
    for text in ["<F2B_END_COMMAND>", "a<F2B_END_COMMAND>b", &format!("F2B_END_COMMAND>{filler}")] {
        for pickle in [encode(&Value::from(text)), encode_reply(&Ok(Value::from(text)))] {
            assert!(!pickle.windows(end.len()).any(|window| window == end), "{text}");
            assert!(matches!(value(&encode(&Value::from(text))), Ok(Value::Text(_))));
        }
    }
}

#[test]
fn captured_requests_and_replies_are_read_and_written_as_python_does() {
    let Some(captures) = captures::load() else { return };
    let mut lines = String::new();
    let mut unknown = 0;
    for Capture { command, request, reply, .. } in captures.iter().filter(|capture| !capture.session) {
        if let (Some(command), Some(request)) = (command, request.strip_suffix(captures::END)) {
            let (Value::List(words) | Value::Tuple(words)) = value(request).unwrap() else { panic!("{command:?}") };
            assert_eq!(Value::List(words.clone()), *command);
            lines += &format!("{} {}\n", hex(request), hex(&encode(&Value::List(words))));
        }
        let Some(reply) = reply.strip_suffix(captures::END) else { continue };
        match answer(reply).unwrap() {
            Answer::Reply(decoded) => lines += &format!("{} {}\n", hex(reply), hex(&encode_reply(&decoded))),
            Answer::Other(_) => unknown += 1,
        }
    }
    assert!(unknown <= 8, "{unknown}");
    let script = r#"
import pickle, sys
sys.path.insert(0, '/usr/lib/python3/dist-packages')
import fail2ban.server.ipdns
class FileIPAddrSet(list):
    def __str__(self): return 'file:/' + self.fileName
fail2ban.server.ipdns.FileIPAddrSet = FileIPAddrSet
def plain(value):
    if isinstance(value, BaseException):
        name = type(value).__name__
        return ('Exception' if name == 'NameError' else name, value.args, str(value))
    if type(value).__name__ == 'FileIPAddrSet': return str(value)
    if isinstance(value, (tuple, list)): return type(value)(plain(v) for v in value)
    return value
for line in sys.stdin:
    theirs, ours = (plain(pickle.loads(bytes.fromhex(half))) for half in line.split())
    if isinstance(theirs, tuple) and isinstance(ours, list): theirs = list(theirs)
    if repr(theirs) != repr(ours): print(theirs, ours)
print('done')
"#;
    assert!(lines.lines().count() > 900);
    assert_eq!(python(script, lines), "done\n");
}

fn read_anything(bytes: &[u8]) {
    if let Ok(read) = value(bytes) {
        // written again it is the same, unless it holds what no message may
        let _ = value(&encode(&read)).unwrap();
    }
    let _ = answer(bytes);
}

/// `rounds` pickles, each changed in a few places.
fn mutate(rounds: usize) {
    let mut seeds: Vec<Vec<u8>> = vec![
        encode(&sample()),
        encode_reply(&Ok(sample())),
        encode_reply(&Err(Failure::new(FailureKind::Regex, "x"))),
        b"(lp0\nS'ping'\np1\naI01\naL5L\naF1.5\naVx\\u20ac\na(dp2\nS'a'\nI1\nsa.".to_vec(),
        b"\x80\x02c__builtin__\nset\nq\x01]q\x02(K\x01M\x02\x03J\x01\x02\x03\x04e\x85R.".to_vec(),
    ];
    seeds.extend(captures::load().into_iter().flatten().flat_map(|capture| [capture.request, capture.reply]));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    for _ in 0..rounds {
        let mut bytes = seeds[random(seeds.len())].clone();
        bytes.push(b'.');
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => bytes.truncate(at + 1),
                3 => bytes.insert(at, random(256) as u8),
                _ => {
                    let end = (at + random(40)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    let to = random(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        read_anything(&bytes);
    }
}

#[test]
fn changed_pickles_do_no_harm() {
    mutate(20_000);
}

#[test]
#[ignore = "a million of them; takes a minute"]
fn a_million_changed_pickles_do_no_harm() {
    mutate(1_000_000);
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_anything(&bytes);
    }
}
