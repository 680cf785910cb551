//! What exporters for Prometheus and dashboards read, which are written in Go: they know few opcodes and one class, go
//! by the exact types, and read up to the first terminator.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::client::Place;

const END: &[u8] = b"<F2B_END_COMMAND>";

/// What their decoder makes of a pickle. Text that came as the class `builtins.str` is an object of it.
#[derive(Clone, Debug, PartialEq)]
enum Go {
    Int(i64),
    Text(String),
    Object(String),
    List(Vec<Go>),
    Tuple(Vec<Go>),
    Class,
    Mark,
}

/// Decodes a pickle of protocol 4 or 5; anything else than data and `builtins.str` is a failure of the test.
fn decode(bytes: &[u8]) -> Go {
    let mut stack: Vec<Go> = Vec::new();
    let mut memo: Vec<Go> = Vec::new();
    let mut at = 0;
    let mut take = |count: usize| {
        at += count;
        &bytes[at - count..at]
    };
    let text = |bytes: &[u8]| Go::Text(String::from_utf8(bytes.to_vec()).unwrap());
    let marked = |stack: &mut Vec<Go>| {
        let mark = stack.iter().rposition(|value| *value == Go::Mark).unwrap();
        let values = stack.split_off(mark + 1);
        stack.pop();
        values
    };
    let append = |stack: &mut Vec<Go>, values: Vec<Go>| {
        let Some(Go::List(items)) = stack.last_mut() else { panic!("no list") };
        items.extend(values);
    };
    loop {
        match take(1)[0] {
            0x80 => assert!((4..=5).contains(&take(1)[0])),
            0x95 => assert_eq!(u64::from_le_bytes(take(8).try_into().unwrap()) as usize, bytes.len() - 11),
            0x94 => memo.push(stack.last().unwrap().clone()),
            b'K' => stack.push(Go::Int(take(1)[0].into())),
            b'M' => stack.push(Go::Int(u16::from_le_bytes(take(2).try_into().unwrap()).into())),
            b'J' => stack.push(Go::Int(i32::from_le_bytes(take(4).try_into().unwrap()).into())),
            0x8c => {
                let length = take(1)[0].into();
                stack.push(text(take(length)));
            }
            b'X' => {
                let length = u32::from_le_bytes(take(4).try_into().unwrap());
                stack.push(text(take(length as usize)));
            }
            b']' => stack.push(Go::List(Vec::new())),
            b'(' => stack.push(Go::Mark),
            b'a' => {
                let value = stack.pop().unwrap();
                append(&mut stack, vec![value]);
            }
            b'e' => {
                let values = marked(&mut stack);
                append(&mut stack, values);
            }
            code @ 0x85..=0x87 => {
                let values = stack.split_off(stack.len() - usize::from(code - 0x84));
                stack.push(Go::Tuple(values));
            }
            b't' => {
                let values = marked(&mut stack);
                stack.push(Go::Tuple(values));
            }
            0x93 => {
                let names = stack.split_off(stack.len() - 2);
                assert_eq!(names, [Go::Text("builtins".to_owned()), Go::Text("str".to_owned())], "class not found");
                stack.push(Go::Class);
            }
            b'R' => {
                let arguments = stack.pop();
                assert_eq!(stack.pop(), Some(Go::Class));
                let Some(Go::Tuple(arguments)) = arguments else { panic!("{arguments:?}") };
                let [Go::Text(text)] = &arguments[..] else { panic!("{arguments:?}") };
                stack.push(Go::Object(text.clone()));
            }
            b'h' => stack.push(memo[usize::from(take(1)[0])].clone()),
            b'j' => {
                let index = u32::from_le_bytes(take(4).try_into().unwrap());
                stack.push(memo[index as usize].clone());
            }
            b'.' => {
                let [value] = &stack[..] else { panic!("{stack:?}") };
                return value.clone();
            }
            other => panic!("unknown opcode {other:#x}"),
        }
    }
}

/// One connection for all questions, as for one scrape.
struct Scrape(UnixStream);

impl Scrape {
    fn ask(&mut self, words: &[&str]) -> Go {
        // as their encoder writes it: protocol 2, each text with four bytes of length, no memo
        let mut request = b"\x80\x02](".to_vec();
        for word in words {
            request.push(b'X');
            request.extend(u32::try_from(word.len()).unwrap().to_le_bytes());
            request.extend(word.as_bytes());
        }
        request.extend(b"e.");
        request.extend(END);
        self.0.write_all(&request).unwrap();
        let mut got = Vec::new();
        while !got.ends_with(END) {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            got.push(byte[0]);
        }
        let Go::Tuple(reply) = decode(&got[..got.len() - END.len()]) else { panic!("{words:?}") };
        let [Go::Int(0), value] = &reply[..] else { panic!("{words:?}: {reply:?}") };
        value.clone()
    }
}

fn pairs(value: &Go) -> Vec<(&str, &Go)> {
    let Go::List(items) = value else { panic!("{value:?}") };
    items
        .iter()
        .map(|item| match item {
            Go::Tuple(pair) => match &pair[..] {
                [Go::Text(name), value] => (name.as_str(), value),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect()
}

fn texts(value: &Go) -> Vec<&str> {
    let Go::List(items) = value else { panic!("{value:?}") };
    items
        .iter()
        .map(|item| match item {
            Go::Text(text) | Go::Object(text) => text.as_str(),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn scrape(place: &Place) {
    let ids = ["192.0.2.1", "2001:db8::5", "203.0.113.64/28"];
    assert_eq!(place.theirs(&[&["set", "door", "banip"], &ids[..]].concat()).0.0, 0);
    assert_eq!(place.theirs(&["set", "door", "attempt", "192.0.2.9"]).0.0, 0);
    let mut scrape = Scrape(UnixStream::connect(place.path("sock")).unwrap());
    let text = |text: &str| Go::Text(text.to_owned());
    assert_eq!(scrape.ask(&["ping", "100"]), text("pong"));
    assert_eq!(scrape.ask(&["version"]), text("1.0.2"));
    let status = scrape.ask(&["status"]);
    assert_eq!(pairs(&status), [("Number of jail", &Go::Int(2)), ("Jail list", &text("door, gate"))]);
    let status = scrape.ask(&["status", "door"]);
    let [("Filter", filter), ("Actions", actions)] = &pairs(&status)[..] else { panic!("{status:?}") };
    let [("Currently failed", Go::Int(1)), ("Total failed", Go::Int(1)), ("File list", files)] = &pairs(filter)[..]
    else {
        panic!("{filter:?}")
    };
    assert_eq!(texts(files), [place.path("door.log").to_str().unwrap()]);
    let [("Currently banned", Go::Int(3)), ("Total banned", Go::Int(3)), ("Banned IP list", banned)] =
        &pairs(actions)[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(texts(banned), ids);
    for (option, number) in [("bantime", 600), ("findtime", 600), ("maxretry", 3)] {
        assert_eq!(scrape.ask(&["get", "door", option]), Go::Int(number));
    }
    for line in texts(&scrape.ask(&["get", "door", "banip", "--with-time"])) {
        let [id, from, from_time, plus, seconds, is, to, to_time] = line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            panic!("{line}")
        };
        assert!(ids.contains(&id) && (plus, seconds, is) == ("+", "600", "="), "{line}");
        assert!(
            [from, to].iter().all(|day| day.len() == 10) && [from_time, to_time].iter().all(|time| time.len() == 8)
        );
    }
}

#[test]
fn exporters_in_go_read_our_server_as_they_read_fail2ban() {
    // first the real one: the decoder is as strict as theirs, not stricter
    scrape(&Place::start());
    scrape(&Place::start_ours());
}
