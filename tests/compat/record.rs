//! What a filter makes of sequences of lines, held against Fail2Ban's own class: groups,
//! sessions, exceptions, and which expressions match when all are tried.

use std::io::Write as _;
use std::process::{Command, Stdio};

use sekimori::config;
use sekimori::fail2ban::{compile, date};
use sekimori::filter::exact::Cache;
use sekimori::filter::record::{self, Hit};
use sekimori::filter::{Clock, Datum, Who};
use sekimori::time::Time;
use serde_json::{Value, json};

/// Judges each job's lines with the real class and prints what it found, one list a job.
const JUDGE: &str = r#"
import json, logging, os, sys, time
sys.path.insert(0, "/usr/lib/python3/dist-packages")
os.environ["TZ"] = "UTC"; time.tzset()
logging.disable(logging.CRITICAL)
from fail2ban.server.filter import Filter
from fail2ban.server.mytime import MyTime
MyTime.setTime(1767225599)
def plain(value):
    if isinstance(value, set): return sorted(value)
    if isinstance(value, tuple): return list(value)
    return value
for job in sys.stdin:
    job = json.loads(job)
    f = Filter(None)
    f.setUseDns("raw"); f.returnRawHost = True; f.checkFindTime = False; f.ignorePending = job["first"] and not job["tool"]
    f.checkAllRegex = not job["first"]
    if job["maxlines"] > 1: f.setMaxLines(job["maxlines"])
    if job["prefregex"]: f.prefRegex = job["prefregex"]
    for regex in job["failregex"]: f.addFailRegex(regex)
    for regex in job["ignoreregex"]: f.addIgnoreRegex(regex)
    ignored = []
    f.onIgnoreRegex = lambda index, regex: ignored.append(index)
    f.setDatePattern("^EPOCH")
    out = []
    for line in job["lines"]:
        del ignored[:]
        found = []
        for index, fid, time_, data in f.processLine(line):
            groups = {k: plain(v) for k, v in data.items()
                      if v is not None and k not in ("matches", "nofail", "nofail-matches", "mlfpending", "mlfgained", "ip")}
            found.append([index, None if fid is None else str(fid), time_, bool(data.get("nofail")),
                          str(data["ip"]) if "ip" in data else None,
                          ["".join(part) for part in data.get("matches", [])], groups])
        out.append([found, list(ignored)])
    print(json.dumps(out))
"#;

struct Case {
    prefregex: Option<&'static str>,
    failregex: &'static [&'static str],
    ignoreregex: &'static [&'static str],
    maxlines: u32,
    lines: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        prefregex: None,
        failregex: &[
            "^ bad <HOST>",
            "^ bad(?: <ADDR> (?=x))?",
            "bad <HOST> twice$",
            "^ bad <ADDR> <F-USER>.*</F-USER>$",
        ],
        ignoreregex: &[" twice$", "fine"],
        maxlines: 1,
        lines: &["bad 192.0.2.1", "bad 192.0.2.1 twice", "bad 192.0.2.2 fine twice", "good", "bad host.example x"],
    },
    Case {
        prefregex: Some(r"^ p(?P<user>q)?: <F-CONTENT>.+</F-CONTENT>$"),
        failregex: &[
            "^bad <HOST>(?: by <F-USER>\\w+</F-USER>)?$",
            "^bad <F-ID>\\S+</F-ID>",
            "^x <ADDR>",
            "^y <HOST>",
            "^z <HOST>",
        ],
        ignoreregex: &["^bad 192.0.2.9", "^ p: z"],
        maxlines: 1,
        lines: &[
            "p: bad 192.0.2.1",
            "pq: bad 192.0.2.1",
            "pq: bad 192.0.2.1 by eve",
            "p: bad 192.0.2.9",
            "p: z 192.0.2.9",
            "p: ",
            "pp: bad x",
        ],
    },
    Case {
        prefregex: None,
        failregex: &[
            "^ <F-MLFID>s\\d</F-MLFID> <F-NOFAIL>hello</F-NOFAIL> from <ADDR>$",
            "^ <F-MLFID>s\\d</F-MLFID> wrong <F-USER>\\w+</F-USER>(?: from <ADDR>)?$",
            "^ <F-MLFID>s\\d</F-MLFID> <F-MLFGAINED>in</F-MLFGAINED> <F-USER>\\w+</F-USER>$",
            "^ <F-NOFAIL><F-MLFFORGET><F-MLFID>s\\d</F-MLFID> bye</F-MLFFORGET></F-NOFAIL>$",
            "^ <F-MLFID>s\\d</F-MLFID> w",
            "^ <F-NOFAIL>quiet</F-NOFAIL> <ADDR>$",
        ],
        ignoreregex: &[],
        maxlines: 1,
        lines: &[
            "s1 hello from 192.0.2.1",
            "s1 wrong bob",
            "s1 wrong bob",
            "s1 bye",
            "s1 wrong bob",
            "s1 hello from 192.0.2.2",
            "s2 wrong bob",
            "s2 in bob",
            "s2 wrong eve",
            "s2 hello from 192.0.2.3",
            "s2 in carl",
            "s2 bye",
            "s2 bye",
            "s3 hello from 192.0.2.4",
            "s3 in bob",
            "s3 bye",
            "s4 wrong eve from 192.0.2.5",
            "s4 wrong eve from 192.0.2.6",
            "quiet 192.0.2.7",
        ],
    },
    Case {
        prefregex: None,
        failregex: &[
            "^ a <F-USER>\\w*</F-USER>(?: or <F-ALT_USER>\\w+</F-ALT_USER>)?(?: or <F-ALT_USER_1>\\w+</F-ALT_USER_1>)? <HOST>$",
            "^ b <F-ALT_USER1>\\w+</F-ALT_USER1> <F-ALT_ID>\\w+</F-ALT_ID> <F-PORT/>$|^ c <F-ID>\\w+</F-ID> <HOST>$",
            "^ d <F-USER>\\w+</F-USER> <F-TUPLE_USER_2>\\w+</F-TUPLE_USER_2>(?: <F-TUPLE_USER>\\w+</F-TUPLE_USER>)? <HOST>$",
            "^ e <F-ID>[\\w'\"\\\\]+</F-ID> <F-TUPLE_ID>\\w+</F-TUPLE_ID>(?: <ADDR>)?$",
            "^ f <SUBNET>$",
        ],
        ignoreregex: &[],
        maxlines: 1,
        lines: &[
            "a bob 192.0.2.1",
            "a  or eve 192.0.2.1",
            "a  or eve or carl 192.0.2.1",
            "b bob eve 22",
            "c bob 192.0.2.1",
            "d bob eve 192.0.2.1",
            "d bob eve carl 192.0.2.1",
            "e bob eve",
            "e bob eve 192.0.2.1",
            "e it's eve",
            "e it's\"\\ eve",
            "f 192.0.2.77/24",
            "f [2001:db8::1/32]",
        ],
    },
    Case {
        prefregex: None,
        failregex: &[
            "^ from <ADDR>$<SKIPLINES>^ bad <F-USER>\\w+</F-USER>$<SKIPLINES>^ end$",
            "^ open (?P<n>\\d) <ADDR>$<SKIPLINES>^ shut (?P=n)$",
            "^ one <HOST>$",
            "^ two <HOST>$\\n^ two",
        ],
        ignoreregex: &["carl", "noise\\n.*$"],
        maxlines: 5,
        lines: &[
            "from 192.0.2.1",
            "from 192.0.2.2",
            "bad bob",
            "bad carl",
            "end",
            "noise",
            "open 1 192.0.2.3",
            "open 2 192.0.2.4",
            "shut 1",
            "shut 2",
            "one 192.0.2.5",
            "two 192.0.2.6",
            "two 192.0.2.7",
            "noise",
            "noise é\u{b}x",
            "",
        ],
    },
    Case {
        prefregex: Some("^ [pq]: <F-CONTENT>(?:(?<=p: ).*|(?<=q: )(?s:.+))</F-CONTENT>$"),
        failregex: &["^bad <HOST>$", "^worse <HOST>$<SKIPLINES>^(?: p: )?and$", "^ p: and$\\n<HOST>", "^ q: <HOST>$"],
        ignoreregex: &["192.0.2.3"],
        maxlines: 3,
        lines: &[
            "p: bad 192.0.2.1",
            "p: worse 192.0.2.2",
            "p: and",
            "p: bad 192.0.2.3",
            "q: bad 192.0.2.4",
            "noise",
            "p: ",
        ],
    },
    Case {
        prefregex: None,
        failregex: &[
            "^ <F-MLFID>s\\d</F-MLFID> hi <ADDR>$<SKIPLINES>^ (?P=mlfid) <F-NOFAIL>ok</F-NOFAIL>$",
            "^ <F-MLFID>s\\d</F-MLFID> no <F-USER>\\w+</F-USER>$",
            "^ x\\n(?:^ y <ADDR>$)?",
        ],
        ignoreregex: &[],
        maxlines: 4,
        lines: &[
            "s1 hi 192.0.2.1",
            "s2 hi 192.0.2.2",
            "s1 ok",
            "s2 ok",
            "s1 no bob",
            "s2 no eve",
            "noise",
            "x",
            "y 192.0.2.3",
        ],
    },
];

fn job(case: &Case, lines: &[String], first: bool, tool: bool) -> Value {
    json!({
        "prefregex": case.prefregex, "failregex": case.failregex, "ignoreregex": case.ignoreregex,
        "maxlines": case.maxlines, "lines": lines, "first": first, "tool": tool,
    })
}

fn asked(jobs: &[Value]) -> Vec<Value> {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", JUDGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed: run tests/setup");
    let mut stdin = child.stdin.take().unwrap();
    let text: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "the real filter did not run");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn shown(datum: &Datum) -> Value {
    match datum {
        Datum::Text(text) => json!(&**text),
        Datum::Set(texts) => {
            let mut texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
            texts.sort_unstable();
            json!(texts)
        }
        Datum::Tuple(texts) => json!(texts.iter().map(Option::as_deref).collect::<Vec<_>>()),
    }
}

fn name(who: &Who) -> String {
    match who {
        Who::Id(id) => id.to_string(),
        Who::Name(name) => name.to_string(),
    }
}

fn row(hit: &Hit) -> Value {
    let groups: serde_json::Map<String, Value> = hit
        .groups
        .iter()
        .filter(|(name, _)| !matches!(&**name, "nofail" | "mlfgained"))
        .filter_map(|(name, value)| Some((name.to_string(), shown(value.as_ref()?))))
        .collect();
    json!([
        hit.regex,
        hit.who.as_ref().map(name),
        hit.time.map(Time::as_f64),
        hit.nofail,
        hit.address.as_ref().map(ToString::to_string),
        hit.matches.iter().map(|one| one.line.to_string()).collect::<Vec<_>>(),
        groups,
    ])
}

/// The case's lines in random order, with and without dates, for each mode.
fn shuffled(case: &Case, seed: &mut u64) -> Vec<(Vec<String>, (bool, bool))> {
    let mut random = |below: usize| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize % below
    };
    let mut lines = Vec::new();
    for at in 0..400 {
        let line = case.lines[random(case.lines.len())];
        lines.push(match random(4) {
            0 => format!(" {line}"),
            // far enough apart that some dates are too old to be inherited
            _ => format!("{} {line}", 1_767_225_400 + at / 2),
        });
    }
    [(true, false), (true, true), (false, true)].map(|mode| (lines.clone(), mode)).to_vec()
}

#[test]
fn sequences_of_lines_mean_what_they_mean_to_fail2ban() {
    let mut jobs = Vec::new();
    let mut runs = Vec::new();
    let mut seed = 1;
    for case in CASES {
        // dates only every other line, so that some are inherited
        let lines: Vec<String> = case
            .lines
            .iter()
            .enumerate()
            .map(
                |(at, line)| {
                    if at % 2 == 0 { format!("{} {line}", 1_767_225_590 + at / 4) } else { format!(" {line}") }
                },
            )
            .collect();
        let modes = [(true, false), (true, true), (false, true)];
        for (lines, mode) in modes.map(|mode| (lines.clone(), mode)).into_iter().chain(shuffled(case, &mut seed)) {
            let (first, tool) = mode;
            jobs.push(job(case, &lines, first, tool));
            runs.push((case, lines, first, tool));
        }
    }
    let clock = Clock { now: Time::from_seconds(1_767_225_599), zone: jiff::tz::TimeZone::UTC };
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let mut rows = 0;
    for ((case, lines, first, tool), expected) in runs.into_iter().zip(asked(&jobs)) {
        let settings = config::Filter {
            usedns: config::UseDns::Raw,
            prefregex: case.prefregex.map(str::to_owned),
            failregex: owned(case.failregex),
            ignoreregex: owned(case.ignoreregex),
            maxlines: case.maxlines,
            datepattern: Some("^EPOCH".to_owned()),
            ..config::Filter::default()
        };
        let filter = compile::compile(&settings, date::Options::tool(2025)).unwrap();
        let (mut state, mut cache) = (record::State::default(), Cache::default());
        for (line, expected) in lines.iter().zip(expected.as_array().unwrap()) {
            let options = record::Options::default();
            let found = if tool {
                let trace = filter.trace(&mut state, &mut cache, line, &clock, options, first);
                json!([trace.hits.iter().map(row).collect::<Vec<_>>(), trace.ignored])
            } else {
                let mut failures = Vec::new();
                let verdict = filter.line(&mut state, &mut cache, line, &clock, options, &mut failures);
                let hits = failures.into_iter().map(|failure| Hit {
                    regex: failure.regex,
                    who: Some(failure.who),
                    address: failure.address,
                    time: failure.time,
                    matches: failure.matches,
                    nofail: failure.data.iter().any(|(name, _)| &**name == "nofail"),
                    groups: failure.data.into_iter().map(|(name, value)| (name, Some(value))).collect(),
                });
                let hits: Vec<Value> = hits.map(|hit| row(&hit)).collect();
                json!([hits, verdict.ignored.into_iter().collect::<Vec<_>>()])
            };
            rows += found[0].as_array().unwrap().len();
            assert_eq!(found, *expected, "{line} (first {first}, tool {tool}) of {:?}", case.failregex);
        }
    }
    assert!(rows > 1500, "only {rows} results");
}
