//! Lines that an attacker might make the stock filters' patterns work on: the time grows with the
//! line and not faster, and what is a match is found. Steps are counted, not time.

use std::time::Duration;

use sekimori::fail2ban::tags;
use sekimori::filter::exact::{self, Cache, MAX_STEPS, Outcome, Program};
use sekimori::line::MAX_LINE;

use super::corpus::{self, Regex};
use super::grow::{Pump, grow, refers_back, repeats};
use super::python::{Python, Random, Tally, long};

const KIB: usize = 1024;
/// Most steps for a byte of the line, in the quick and the strict form together.
const MOST_STEPS_A_BYTE: u64 = 64;
/// Most growth of the steps while the line doubles.
const MOST_GROWTH: f64 = 2.4;

/// Lines of about `length` bytes that pump one repeat of a pattern, and end in ways that it does
/// not expect, or does.
fn pumped(regex: &Regex, repeat: usize, length: usize, seed: u64) -> [String; 3] {
    let grown = grow(&regex.pattern, &mut Random(seed), Some(Pump { repeat, length }));
    let mut cut = grown.clone();
    cut.pop();
    let end = grown.trim_end_matches('\n');
    [format!("{grown}\n"), format!("{end}\u{1}\n"), format!("{cut}\u{1}x\n")]
}

/// What the most laborious line took.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    steps: u64,
    steps_a_byte: u64,
    /// Of the strict form alone, while the line doubled.
    growth: f64,
    /// At 8 KiB.
    time: Duration,
}

struct Attack<'r> {
    regex: &'r Regex,
    program: Program,
    /// It refers back to groups: there is a limit of steps instead of a proportion.
    refers_back: bool,
    cache: Cache,
    worst: Worst,
    wrong: Vec<String>,
}

impl Attack<'_> {
    fn complain(&mut self, what: &str, line: &str) {
        let head: String = line.chars().take(200).collect();
        self.wrong.push(format!("{}: {what}: {:.1500} on {head:?}", self.regex.filter, self.regex.text));
    }

    /// A search and its time on the processor: the shortest of three, as others run beside us.
    fn timed(&mut self, line: &str) -> (Outcome, Duration) {
        let now = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        };
        let mut time = Duration::MAX;
        let mut outcome = Outcome::NoMatch;
        for _ in 0..3 {
            let began = now();
            outcome = self.program.search(&mut self.cache, line, 0);
            time = time.min(now() - began);
        }
        (outcome, time)
    }

    /// One line in its lengths.
    fn lines(&mut self, lines: &[&str]) {
        let mut before: Option<(u64, usize)> = None;
        for line in lines {
            let (outcome, time) = self.timed(line);
            if line.len() < 9 * KIB && time > self.worst.time {
                self.worst.time = time;
            }
            let (steps, length) = (self.cache.steps(), line.len() as u64);
            self.worst.steps = self.worst.steps.max(steps);
            if self.refers_back {
                if steps > MAX_STEPS + length {
                    self.complain("past the limit", line);
                }
                continue;
            }
            self.worst.steps_a_byte = self.worst.steps_a_byte.max(steps / length);
            let strict = self.program.search_strictly(&mut self.cache, line, 0);
            let strictly = self.cache.steps();
            if outcome == Outcome::Unresolved || outcome != strict {
                self.complain(&format!("{outcome:?} and {strict:?}"), line);
            }
            // the strict form takes over when the budget of the quick one is used up
            if steps > exact::budget(line.len()) + strictly + length || steps > MOST_STEPS_A_BYTE * length {
                self.complain(&format!("{steps} steps, {strictly} in the strict form alone"), line);
            }
            if let Some((less, shorter)) = before {
                let doublings = (length as f64 / shorter as f64).log2();
                let growth = (strictly as f64 / less as f64).powf(doublings.recip());
                self.worst.growth = self.worst.growth.max(growth);
                if growth > MOST_GROWTH {
                    self.complain(&format!("{less} steps, then {strictly}"), line);
                }
            }
            before = Some((strictly.max(length), line.len()));
        }
    }
}

/// Pumps the repeats of a pattern, those that `chosen` takes, with so many different texts.
fn attack(regex: &Regex, chosen: impl Fn(usize) -> bool, seeds: u64) -> (Worst, Vec<String>) {
    let mut attack = Attack {
        regex,
        program: Program::new(&regex.pattern),
        refers_back: refers_back(&regex.pattern.root),
        cache: Cache::default(),
        worst: Worst::default(),
        wrong: Vec::new(),
    };
    for repeat in (0..repeats(&regex.pattern.root)).filter(|repeat| chosen(*repeat)) {
        for seed in 0..seeds {
            let lines = [8, 16, 64].map(|kib| pumped(regex, repeat, kib * KIB, seed * 1000 + repeat as u64));
            for form in 0..3 {
                attack.lines(&lines.each_ref().map(|line| line[form].as_str()));
            }
        }
    }
    (attack.worst, attack.wrong)
}

#[test]
fn time_grows_with_the_line_on_every_stock_pattern() {
    let regexes = corpus::load(tags::Options::default());
    let run = |part: usize| {
        let own = regexes.iter().enumerate().filter(|(index, _)| index % 2 == part);
        own.map(|(index, regex)| {
            // most patterns begin alike; without the long run each repeat's turn comes with one of four patterns
            attack(regex, |repeat| long() || (repeat + index / 2) % 4 == 0, if long() { 20 } else { 1 })
        })
        .collect::<Vec<_>>()
    };
    let found = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        let mut found = run(0);
        found.extend(other.join().unwrap());
        found
    });
    let all = |refers_back_| {
        let own = regexes.iter().filter(move |regex| refers_back(&regex.pattern.root) == refers_back_);
        own.count()
    };
    let most = |value: &dyn Fn(&Worst) -> f64| found.iter().map(|(worst, _)| value(worst)).fold(0.0, f64::max);
    println!(
        "{} patterns, {} of them with back-references: at most {} steps, {} a byte, growth {:.2}, {:.2} ms for 8 KiB",
        regexes.len(),
        all(true),
        most(&|worst| worst.steps as f64),
        most(&|worst| worst.steps_a_byte as f64),
        most(&|worst| worst.growth),
        most(&|worst| worst.time.as_secs_f64() * 1000.0)
    );
    let wrong: Vec<&str> = found.iter().flat_map(|(_, wrong)| wrong).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn only_patterns_with_back_references_can_stay_undecided() {
    let mut bounded = std::collections::BTreeSet::new();
    for bare_colons in [false, true] {
        for regex in corpus::load(tags::Options { bare_colons, ..tags::Options::default() }) {
            let may = Program::new(&regex.pattern).may_give_up(MAX_LINE);
            assert_eq!(may, refers_back(&regex.pattern.root), "{}: {}", regex.filter, regex.text);
            if may {
                bounded.insert(regex.filter);
            }
        }
    }
    let expected =
        ["mongodb-auth", "openwebmail", "roundcube-auth", "selinux-ssh", "sendmail-reject", "slapd", "stunnel"];
    assert_eq!(bounded.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// Lines that make Python's matcher hang or stall, and the filters whose patterns do.
const STALLING: &[(&[&str], &str, &str, &str)] = &[
    (&["dovecot"], "Disconnected", ": a", " (x)"),
    (&["dovecot"], "dovecot: imap-login: Disconnected", ": a", " (x)"),
    (&["domino-smtp"], "smtp: ", "A ", "x"),
    (&["apache-modsecurity", "apache-auth", "apache-overflows"], "ModSecurity: ", "[a \"b\"] ", "x"),
    (
        &["apache-modsecurity"],
        "[] [:error] [client 192.0.2.7] ModSecurity: ",
        "[a \"b\"] ",
        "Access denied with code 403",
    ),
    (&["grafana"], "msg=\"Invalid username or password\"", " a=\"b\"", " x"),
    (&["slapd"], "RESULT", " a==b", " x"),
    (&["exim", "exim-spam"], "SMTP protocol error in \"AUTH ", "\"", " H=(a b) [192.0.2.7] x"),
    (&["assp"], "<", "a@.", "> x"),
    (&["apache-auth", "apache-overflows", "apache-noscript", "apache-nohome", "apache-botsearch"], "[] [", ":", "x"),
    (&["lighttpd-auth"], "", "username: ", ""),
    (&["postfix", "sendmail-auth", "sendmail-reject"], "postfix/smtpd[1]: warning: ", " ", "x"),
    (&["postfix"], "warning: ", " ", "x"),
];

#[test]
fn lines_that_stall_python_take_no_time_and_hide_no_match() {
    let regexes = corpus::load(tags::Options::default());
    let (mut python, mut tally, mut wrong) = (Python::new(0.3), Tally::default(), Vec::new());
    let mut worst = Worst::default();
    for (filters, head, unit, tail) in STALLING {
        let line = |length: usize| format!(" {head}{}{tail}\n", unit.repeat(length / unit.len()));
        let lines = [8, 16, 64].map(|kib| line(kib * KIB));
        let own: Vec<&Regex> = regexes.iter().filter(|regex| filters.contains(&regex.filter.as_str())).collect();
        for filter in *filters {
            let known = own.iter().any(|regex| regex.filter == *filter);
            assert!(
                known || !std::path::Path::new(&format!("/etc/fail2ban/filter.d/{filter}.conf")).exists(),
                "{filter}"
            );
        }
        for regex in own {
            let mut attack = Attack {
                regex,
                program: Program::new(&regex.pattern),
                refers_back: refers_back(&regex.pattern.root),
                cache: Cache::default(),
                worst: Worst::default(),
                wrong: Vec::new(),
            };
            attack.lines(&lines.each_ref().map(String::as_str));
            worst.steps_a_byte = worst.steps_a_byte.max(attack.worst.steps_a_byte);
            worst.steps = worst.steps.max(attack.worst.steps);
            worst.growth = worst.growth.max(attack.worst.growth);
            worst.time = worst.time.max(attack.worst.time);
            wrong.append(&mut attack.wrong);
            // short enough for Python, then as long as above; where that stalls nothing is compared
            tally.compare(&mut python, &regex.text, regex.multiline, &[line(8), line(80), lines[0].clone()]);
        }
    }
    println!("{} pairs, {} match, {} stall Python; {:?}", tally.pairs, tally.matches, tally.too_long, worst);
    tally.check();
    assert!(tally.too_long > 0 && tally.matches > 0);
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}
