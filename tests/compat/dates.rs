//! Dates held against the real Fail2Ban: the same place in the line, the same template, the
//! same time, over whole logs, because what was learnt from one line decides about the next.

use std::io::Write;
use std::process::{Command, Stdio};

use sekimori::fail2ban::date::{self, Options};
use sekimori::filter::Clock;
use sekimori::filter::date::State;
use sekimori::filter::exact::Cache;
use sekimori::time::Time;
use serde_json::{Value, json};

/// The clock and zone of Fail2Ban's own sample tests: 2005-08-14 12:00 in Central Europe.
const NOW: i64 = 1_124_013_600;
const ZONE: &str = "CET-1CEST-2,M3.5.0,M10.5.0";

const LOGS: &str = "/usr/lib/python3/dist-packages/fail2ban/tests/files/logs";

/// Asks the installed Fail2Ban through its public methods. Each question is answered by a
/// fork of its own, so that nothing is learnt from one to the next.
const ORACLE: &str = r#"
import sys, os, json, time, logging
sys.path.insert(0, '/usr/lib/python3/dist-packages')
logging.disable(logging.CRITICAL)
from fail2ban.server.filter import Filter
from fail2ban.server.mytime import MyTime

def answer(q):
    os.environ['TZ'] = q['zone']; time.tzset()
    MyTime.setTime(q['now'])
    f = Filter(None)
    try:
        f.setDatePattern(q['pattern'])
        if q['logtimezone']: f.setLogTimeZone(q['logtimezone'])
    except Exception as e:
        return {'error': str(e)}
    d = f.dateDetector
    if not d.templates: d.addDefaultTemplate()
    found = []
    for line in q['lines']:
        try:
            m, t = d.matchTime(line)
        except Exception as e:
            found.append('error'); continue
        if m is None:
            found.append(None); continue
        span = m.span(1) if m.re.groups else m.span()
        value = None
        if span[1] > span[0]:
            try:
                r = d.getTime(line, (m, t))
                value = r[0] if r else None
            except Exception as e:
                value = 'error'
        found.append([span[0], span[1], t.name, value])
    return {'found': found, 'uses': [[t.template.name, t.hits] for t in d.templates]}

for line in sys.stdin:
    q = json.loads(line)
    r, w = os.pipe()
    if os.fork() == 0:
        os.close(r)
        with os.fdopen(w, 'w') as out: out.write(json.dumps(answer(q)))
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as data: print(data.read(), flush=True)
    os.wait()
"#;

struct Question {
    pattern: String,
    zone: &'static str,
    logtimezone: &'static str,
    now: i64,
    lines: Vec<String>,
}

impl Question {
    fn new(pattern: &str, lines: Vec<String>) -> Question {
        Question { pattern: pattern.to_owned(), zone: ZONE, logtimezone: "", now: NOW, lines }
    }

    fn to_json(&self) -> String {
        json!({ "pattern": self.pattern, "zone": self.zone, "logtimezone": self.logtimezone,
            "now": self.now, "lines": self.lines })
        .to_string()
    }
}

fn ask(questions: &[Question]) -> Vec<Value> {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", ORACLE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed for this test");
    let mut input = child.stdin.take().unwrap();
    let text: String = questions.iter().map(|q| q.to_json() + "\n").collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let answers: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(answers.len(), questions.len(), "Fail2Ban's Python package is needed for this test");
    answers
}

/// What differs, one line each; empty if nothing does.
fn differences(questions: &[Question]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (question, answer) in questions.iter().zip(ask(questions)) {
        let zone = jiff::tz::TimeZone::posix(question.zone)
            .or_else(|_| jiff::tz::TimeZone::get(question.zone))
            .expect("a zone");
        let clock = Clock { now: Time::from_seconds(question.now), zone };
        let options =
            Options { zone: date::logtimezone(question.logtimezone).unwrap(), ..Options::server(this_year()) };
        let dates = match date::compile(Some(&question.pattern), &options) {
            Ok(dates) => dates,
            Err(error) => {
                if answer.get("error").is_none() {
                    wrong.push(format!("{:?}: {error}, but Fail2Ban takes it", question.pattern));
                }
                continue;
            }
        };
        let Some(found) = answer.get("found") else {
            wrong.push(format!("{:?}: Fail2Ban refuses it: {}", question.pattern, answer["error"]));
            continue;
        };
        let names: Vec<&str> = dates.names().collect();
        let (mut state, mut cache) = (State::default(), Cache::default());
        let (mut exact_state, mut exact_cache) = (State::default(), Cache::default());
        for (line, theirs) in question.lines.iter().zip(found.as_array().unwrap()) {
            let ours = dates.find(&mut state, &mut cache, line, clock.now);
            let time = ours.filter(|f| f.end > f.start).and_then(|f| dates.value(&mut cache, line, f, &clock));
            let exact = dates.find_exact(&mut exact_state, &mut exact_cache, line, clock.now);
            let exact_time =
                exact.filter(|f| f.end > f.start).and_then(|f| dates.value_exact(&mut exact_cache, line, f, &clock));
            if (ours, time) != (exact, exact_time) {
                wrong.push(format!(
                    "{:?} {line:?}: quick {ours:?} {time:?}, exact {exact:?} {exact_time:?}",
                    question.pattern
                ));
            }
            let ours = ours.map(|f| {
                let chars = |bytes: usize| line[..bytes].chars().count() as u64;
                (chars(f.start), chars(f.end), names[f.template], time)
            });
            let same = match (&ours, theirs) {
                (None, Value::Null) => true,
                // An exception of theirs costs the line; we go on without a date.
                (_, Value::String(_)) => true,
                (Some((start, end, name, time)), Value::Array(theirs)) => {
                    theirs[0].as_u64() == Some(*start)
                        && theirs[1].as_u64() == Some(*end)
                        && theirs[2].as_str() == Some(name)
                        && match (time, &theirs[3]) {
                            (None, Value::Null | Value::String(_)) => true,
                            (Some(time), Value::Number(n)) => (n.as_f64().unwrap() - time.as_f64()).abs() < 1e-5,
                            _ => false,
                        }
                }
                _ => false,
            };
            if !same {
                wrong.push(format!("{:?} {line:?}: ours {ours:?}, theirs {theirs}", question.pattern));
                if wrong.len() > 200 {
                    return wrong;
                }
            }
        }
        let uses: Vec<Value> = dates.uses(&state).map(|u| json!([u.name, u.hits])).collect();
        if answer["uses"].as_array() != Some(&uses) && !uses.is_empty() {
            let theirs = answer["uses"].as_array().unwrap();
            let at = (0..uses.len()).find(|&n| Some(&uses[n]) != theirs.get(n)).unwrap_or(0);
            wrong.push(format!("{:?}: order from {at}: ours {}, theirs {}", question.pattern, uses[at], theirs[at]));
        }
    }
    wrong
}

fn this_year() -> u16 {
    // Fail2Ban counts from the machine's clock; so does the test.
    jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).year().unsigned_abs()
}

fn assert_same(questions: &[Question]) {
    let wrong = differences(questions);
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

/// The lines of every sample log, with its file name.
fn sample_logs() -> Vec<(String, Vec<String>)> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(LOGS).expect("Debian's fail2ban package is needed for this test") {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            logs.push((name, text.lines().map(str::to_owned).collect()));
        }
    }
    logs.sort();
    assert!(logs.len() > 80);
    logs
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// A date in one of many forms, now and then a wrong one.
    fn date(&mut self) -> String {
        let two = |n: usize| format!("{n:02}");
        let month_name = ["Jan", "feb", "Mar", "Apr", "MAY", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Foo"];
        let day_name = ["Mon", "Tue", "wed", "Thu", "Fri", "SAT", "Sun", "Sunday"];
        let year = 1998 + self.below(34);
        let (month, day) = (self.below(14), self.below(33));
        let (hour, minute, second) = (self.below(25), self.below(61), self.below(62));
        let m = if self.below(4) == 0 { month.to_string() } else { two(month) };
        let d = match self.below(4) {
            0 => day.to_string(),
            1 => format!("{day:>2}"),
            _ => two(day),
        };
        let h = match self.below(5) {
            0 => hour.to_string(),
            1 => format!("{hour:>2}"),
            _ => two(hour),
        };
        let time = format!("{h}:{}:{}", two(minute), two(second));
        let sep = self.one(&["-", "/", "."]);
        let sep2 = if self.below(10) == 0 { self.one(&["-", "/", "."]) } else { sep };
        let b = self.one(&month_name);
        let a = self.one(&day_name);
        let fraction = self.one(&["", "", ".123", ",5", ".1234567", "."]);
        let zone = self.one(&["", " +0200", "Z", " -05:30", " +1", "+01", " CET", "  UTC", " GMT", " z"]);
        match self.below(18) {
            0 | 1 => format!("{year}{sep}{m}{sep2}{d}{}{time}{fraction}{zone}", self.one(&["T", " ", "  ", ""])),
            2 | 3 => format!("{b} {d} {time}{fraction}"),
            4 => format!("{a} {b} {d} {time}{fraction} {year}"),
            5 => format!("{b} {d} {year} {time}{fraction}"),
            6 => format!("{d}{sep}{m}{sep2}{} {time}", if self.below(2) == 0 { year } else { year % 100 }),
            7 | 8 => format!("{d}{sep}{b}{sep2}{year}{}{time}{fraction}{zone}", self.one(&[":", " ", ""])),
            9 => format!("{m}/{d}/{year}:{time}"),
            10 => format!("{m}-{d}-{year} {time}{fraction}"),
            11 => {
                format!("1{}{}", 100_000_000 + self.below(900_000_000), self.one(&["", ".123", ".1", ".123456", "0"]))
            }
            12 => time,
            13 => format!("<{m}/{d}/{}@{time}>", two(year % 100)),
            14 => format!("{}{}{} {time}", two(year % 100), two(month), two(day)),
            15 => format!("{b} {d}, {year} {} {}", time, self.one(&["AM", "pm", "xm"])),
            16 => format!(
                "{year}{}{}{}{}{}{}{fraction}{zone}",
                two(month),
                two(day),
                self.one(&["T", " ", ""]),
                two(hour),
                two(minute),
                two(second)
            ),
            _ => format!("{} {a} {b} {d} {time}", self.one(&["CET", "Z", "+0100", "foo", "XYZ", "utc"])),
        }
    }

    fn line(&mut self) -> String {
        let before = self.one(&[
            "",
            "",
            "",
            "[",
            "  ",
            "192.0.2.1 - - [",
            "x",
            "2001:db8::1 - ",
            "audit(",
            "foo: 1:2:3 ",
            "type=X msg=audit(",
        ]);
        let after = self.one(&["", " ", "]", "] x", " host sshd[1]: x", "x", "Z", ": ", " 2004", ".5", "0", ") ["]);
        let mut line = format!("{before}{}{after}", self.date());
        if self.below(5) == 0 {
            line += &format!(" and {}", self.date());
        }
        line
    }

    /// The same with something changed.
    fn mutate(&mut self, line: &str) -> String {
        let mut chars: Vec<char> = line.chars().collect();
        for _ in 0..=self.below(3) {
            let c = self
                .one(&["0", "1", "9", ":", " ", "-", "/", ".", "[", "]", "a", "T", "Z", "+", "\t", "_"])
                .chars()
                .next()
                .unwrap();
            let at = self.below(chars.len().clamp(1, 40));
            match self.below(4) {
                _ if at >= chars.len() => chars.push(c),
                0 => chars.insert(at, c),
                1 => drop(chars.remove(at)),
                2 => chars[at] = c,
                _ => chars.swap(at, 0),
            }
        }
        chars.into_iter().collect()
    }
}

/// Patterns of stock filters and others that exercise one rule each.
const PATTERNS: &[&str] = &[
    "{DEFAULT}",
    "{^LN-BEG}",
    "{^LN-BEG}TAI64N\n{^LN-BEG}",
    "{^LN-BEG}EPOCH\n{^LN-BEG}",
    "EPOCH",
    "LEPOCH",
    "^LEPOCH",
    "{DATE}",
    "^{DATE}",
    r"^[^\[]*\[({DATE})",
    "^[^\\[]*\\[({DATE})\n{^LN-BEG}",
    r"^[^\[]*(\[{DATE}\s*\])",
    r"^<W>{DATE}",
    r#"^<co ts="{DATE}"\s+"#,
    r"^[^-]+ -- [^-]+ -- - ({DATE})",
    "^WARNING:()**",
    r"^I\(()**",
    r#""timestamp":"(%Y-%m-%dT%H:%M:%S)"#,
    "%Y-%m-%d %H:%M:%S",
    "{^LN-BEG}%Y-%m-%d %H:%M:%S",
    "{UNB}%d/%b/%Y",
    "**%H:%M:%S**",
    "{EPOCH}",
    r"audit\({EPOCH}",
    "{NONE}",
    "%b %d\n%d %b",
    "%d.%m.%Y %H:%M\n%H:%M:%S",
    r"\[(%d/%b/%Y:%H:%M:%S) %z\]",
    "%y%m%d %H:%M:%S",
];

#[test]
fn every_sample_log_is_dated_as_fail2ban_dates_it() {
    let mut questions = Vec::new();
    for (_, lines) in sample_logs() {
        for pattern in ["{DEFAULT}", "{^LN-BEG}"] {
            questions.push(Question::new(pattern, lines.clone()));
        }
    }
    let all: Vec<String> = sample_logs().into_iter().flat_map(|(_, lines)| lines).collect();
    for pattern in PATTERNS {
        questions.push(Question::new(pattern, all.clone()));
    }
    assert_same(&questions);
}

#[test]
fn made_up_and_mutated_dates_are_found_where_fail2ban_finds_them() {
    let all: Vec<String> = sample_logs().into_iter().flat_map(|(_, lines)| lines).collect();
    let mut random = Random(7);
    let mut questions = Vec::new();
    for pattern in PATTERNS {
        for _ in 0..3 {
            // Runs of one format, as logs have them, and a bit of everything.
            let mut lines = Vec::new();
            while lines.len() < 300 {
                let line = if random.below(2) == 0 { random.line() } else { all[random.below(all.len())].clone() };
                for _ in 0..=random.below(6) {
                    lines.push(random.mutate(&line));
                }
                lines.push(line);
                lines.push(random.line());
            }
            questions.push(Question::new(pattern, lines));
        }
    }
    assert_same(&questions);
}
