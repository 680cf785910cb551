//! Every tag of a command has the value that the real Fail2Ban gives it.

use std::collections::BTreeMap;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::net::wait_for;

/// Tags, and a few look-alikes that are none.
const TAGS: &[&str] = &[
    "ip",
    "fid",
    "family",
    "ip-rev",
    "ip-host",
    "failures",
    "time",
    "bantime",
    "bancount",
    "matches",
    "ipmatches",
    "ipfailures",
    "ipjailmatches",
    "ipjailfailures",
    "restored",
    "jail.found",
    "jail.found_total",
    "jail.banned",
    "jail.banned_total",
    "jail.name",
    "raw-ticket",
    "F-USER",
    "F-ID",
    "F-PORT",
    "F-FPORT",
    "F-A-B",
    "F-A_B",
    "F-OPT",
    "F-NONE",
    "F-MATCHES",
    "F-FAILURES",
    "F-IP",
    "F-IP4",
    "F-fid",
    "br",
    "sp",
    "fq-hostname",
    "sh-hostname",
    "name",
    "actname",
    "port",
    "plain",
    "nested",
    "action",
    "timeout",
    "logpath",
    "Init/plain",
    "known/plain",
    "fport",
    "user",
    "banepoch",
    "F-",
    "ip-host-x",
    "STDIN",
];
/// Values that are different by nature: the real one takes figures of its start along to its end.
const OF_START: &[&str] =
    &["jail.found", "jail.found_total", "jail.banned", "jail.banned_total", "F-MATCHES", "F-FAILURES"];
/// Values of users that a shell could take for something else; each must come out as it is.
const USERS: &[&str] = &[
    "bob",
    "a b",
    "  two  blanks ",
    "$(id)",
    "`id`",
    "a;b&c|d",
    "x\"y",
    "x'y",
    "-rf",
    "--help",
    "%s%n",
    "\\n\\0101",
    "*",
    "~root",
    "#no",
    "!1",
    "a=b",
    "<ip>",
    "{a,b}",
    "[x]",
    "\u{fc}\u{2028}\u{1f600}",
    "a\tb",
    "\u{1b}[31m",
    "$0 ${1}",
];

/// A home with an action that writes down all tags at each event.
fn home(real: bool) -> Home {
    let home = if real { Home::new().real() } else { Home::new().without_kernel() };
    home.put("sekimori.toml", "native_actions = false\n");
    let out = home.path("out").display().to_string();
    let event = |name: &str| {
        let mut text = format!("action{name} = printf '%%s\\0' \"event={name}\" >> {out}\n");
        for tag in TAGS {
            text += &format!("    printf '%%s\\0' \"{tag}=<{tag}>\" >> {out}\n");
        }
        // where a shell inserts no variable, one sees whether the value is part of the script
        text + &format!("    printf '%%s\\0' 'quoted=<F-USER>' >> {out}\n    printf '%%s\\0' end= >> {out}\n")
    };
    let events: String = ["start", "ban", "unban", "stop"].map(event).concat();
    home.put(
        "action.d/tell.conf",
        &format!("[Definition]\n{events}[Init]\nplain = a <name> b\nnested = <plain>/<port>\n"),
    );
    home.put(
        "filter.d/user.conf",
        "[Definition]\nfailregex = ^ \\S+ doord: bad key for <F-USER>.*?</F-USER> port <F-PORT>\\d+</F-PORT> \
         x<F-A_B>\\d*</F-A_B><F-OPT>q</F-OPT>? from <HOST>$\n    ^ \\S+ idd: <F-ID>\\S+</F-ID> from <ADDR>$\n",
    );
    // equal questions are asked once here, and figures change while they wait
    let asked = |tag: &&str| {
        !tag.starts_with("jail.") && !matches!(*tag, "port" | "action" | "logpath" | "timeout" | "known/plain")
    };
    let tags: String = TAGS.iter().filter(|tag| asked(tag)).map(|tag| format!(" \"{tag}=<{tag}>\"")).collect();
    let asked = home.path("asked").display().to_string();
    let command = format!("printf '%%s\\0' event=ask{tags} end= >> {asked}; false");
    home.jail(
        "door",
        &format!(
            "logpath = LOG\nfilter = user\nmaxretry = 2\nbantime = 10m\nignorecommand = {command}\naction = tell[port=22]\n"
        ),
    );
    home
}

type Told = BTreeMap<String, String>;

/// What the action, or the `ignorecommand`, wrote down, one map for each event.
fn told(home: &Home, file: &str) -> Vec<Told> {
    let text = std::fs::read_to_string(home.path(file)).unwrap_or_default();
    let mut all = Vec::new();
    let mut one = Told::new();
    for (name, value) in text.split('\0').filter_map(|item| item.split_once('=')) {
        if name == "end" {
            all.push(std::mem::take(&mut one));
        } else {
            one.insert(name.to_owned(), value.to_owned());
        }
    }
    all
}

/// Waits for one more event.
fn next(daemon: &Daemon, event: &str, id: &str) {
    let there = |told: &Told| told["event"] == event && told["fid"] == id;
    wait_for(&format!("{event} of {id}"), std::time::Duration::from_secs(20), || told(daemon, "out").iter().any(there));
}

/// The whole story of one daemon.
fn story(home: Home) -> Vec<Told> {
    let daemon = home.start();
    next(&daemon, "start", "");
    daemon.write(&vec!["doord: bad key for bob port 4711 x12q from 192.0.2.7".to_owned(); 2]);
    next(&daemon, "ban", "192.0.2.7");
    daemon.write(&vec!["idd: user{1} from 192.0.2.9".to_owned(); 2]);
    next(&daemon, "ban", "user{1}");
    for (number, user) in USERS.iter().enumerate() {
        let address = format!("2001:db8::{number:x}");
        let id = if number == 0 { "2001:db8::".to_owned() } else { address.clone() };
        daemon.write(&vec![format!("doord: bad key for {user} port 4711 x from {address}"); 2]);
        next(&daemon, "ban", &id);
    }
    daemon.tell(&["set", "door", "banip", "127.0.0.1"]);
    next(&daemon, "ban", "127.0.0.1");
    daemon.tell(&["set", "door", "unbanip", "127.0.0.1"]);
    next(&daemon, "unban", "127.0.0.1");
    // bans of before, restored
    let home = daemon.stop();
    let daemon = home.start();
    daemon.wait_for("[door] Restore Ban user{1}");
    let home = daemon.stop();
    let mut all = told(&home, "out");
    // the real one asks about restored bans as well, without saying anything about them
    all.extend(told(&home, "asked").into_iter().filter(|told| told["time"] != "<time>"));
    all
}

/// The text with its time stamps of syslog (`Nov 24 01:57:09`) replaced.
fn without_stamps(text: &str) -> String {
    const SHAPE: &[u8] = b"aaa dd dd:dd:dd";
    let is_stamp = |at: usize| {
        let fits = |(byte, shape): (&u8, &u8)| match shape {
            b'a' => byte.is_ascii_alphabetic(),
            b'd' => byte.is_ascii_digit() || *byte == b' ',
            other => byte == other,
        };
        text.as_bytes().get(at..at + SHAPE.len()).is_some_and(|part| part.iter().zip(SHAPE).all(fits))
    };
    let mut out = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if is_stamp(at) {
            out += "STAMP";
            at += SHAPE.len();
        } else {
            out.push(c);
            at += c.len_utf8();
        }
    }
    out
}

/// What is different in each run.
fn normal(mut told: Told, folder: &str) -> Told {
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let time = told.insert("time".to_owned(), String::new()).unwrap();
    let kind = match time.split_once('.') {
        Some((seconds, "0")) if digits(seconds) => "whole.0",
        Some((seconds, fraction)) if digits(seconds) && digits(fraction) => "fraction",
        None if digits(&time) => "whole",
        _ => panic!("odd time {time}"),
    };
    for value in told.values_mut() {
        *value = value.replace(folder, "DIR").replace(&time, "TIME");
    }
    for value in told.values_mut() {
        *value = without_stamps(value);
    }
    if matches!(&*told["event"], "start" | "stop") {
        told.retain(|name, _| name != "raw-ticket" && !(name.starts_with("jail.") || OF_START.contains(&&**name)));
    }
    // bans are restored one by one there, together here
    if told["restored"] == "1" {
        told.retain(|name, _| !name.starts_with("jail.banned"));
    }
    told.insert("time".to_owned(), kind.to_owned());
    told
}

#[test]
fn every_tag_has_the_value_of_the_real_one() {
    let run = |real: bool| {
        let home = home(real);
        let folder = home.path("").display().to_string().trim_end_matches('/').to_owned();
        let told = story(home);
        told.into_iter().map(|told| normal(told, &folder)).collect::<Vec<_>>()
    };
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| run(true));
        let ours = run(false);
        (theirs.join().unwrap(), ours)
    });
    // one start, the bans and one unban, then all again
    let events =
        |told: &[Told]| told.iter().map(|told| format!("{} {}", told["event"], told["fid"])).collect::<Vec<_>>();
    assert!(events(&theirs).len() > 3 * USERS.len());
    let mut wrong = Vec::new();
    for event in events(&theirs) {
        let of = |all: &[Told]| {
            all.iter().filter(|told| format!("{} {}", told["event"], told["fid"]) == event).cloned().collect::<Vec<_>>()
        };
        let (mut theirs, mut ours) = (of(&theirs), of(&ours));
        if event.starts_with("ask") {
            // equal questions are asked once here
            theirs.dedup();
            ours.dedup();
        }
        if event == "stop " {
            // the real one runs it once for each family, because `<family>` makes the texts differ
            continue;
        }
        // the real one cannot restore a ban whose identifier is not its address
        let restored = usize::from(event.ends_with("user{1}") && !event.starts_with("ask"));
        if theirs.len() + restored != ours.len() {
            wrong.push(format!("{event}: {} times there, {} here", theirs.len(), ours.len()));
        }
        for (theirs, ours) in theirs.iter().zip(&ours) {
            for (tag, value) in theirs {
                if ours.get(tag) != Some(value) {
                    wrong.push(format!("{event} <{tag}>: {value:?} there, {:?} here", ours.get(tag)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for (number, user) in USERS.iter().enumerate() {
        let told = &ours[3 + number];
        assert_eq!(told["F-USER"], *user, "as it was written");
    }
}
