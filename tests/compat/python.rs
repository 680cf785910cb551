//! Python's `re`, which judges our parser and matcher.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use sekimori::fail2ban::regex;
use sekimori::filter::exact::{Cache, Outcome, Program};
use sekimori::filter::syntax::Pattern;
use serde::Deserialize;

const JUDGE: &str = r#"
import sys, json, re, signal, warnings
class TooLong(Exception): pass
def ring(*_): raise TooLong()
signal.signal(signal.SIGALRM, ring)
warnings.simplefilter("ignore")
seconds = float(sys.argv[1])
for line in sys.stdin:
    pattern, multiline, texts = json.loads(line)
    try:
        compiled = re.compile(pattern, re.M if multiline else 0)
    except Exception as error:
        print(json.dumps({"Err": str(error)})); sys.stdout.flush(); continue
    groups, found = range(compiled.groups + 1), []
    for text in texts:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            m = compiled.search(text)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except TooLong: found.append("TooLong"); continue
        found.append("NoMatch" if m is None else {"Match": [m.span(i) for i in groups]})
    print(json.dumps({"Ok": {"names": dict(compiled.groupindex), "found": found}})); sys.stdout.flush()
"#;

/// What came of one search.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub enum Found {
    /// The borders of all groups in characters; −1 for a group that took no part.
    Match(Vec<(i64, i64)>),
    NoMatch,
    /// Python did not come to an end.
    TooLong,
}

/// What Python says about a pattern.
#[derive(Debug, Deserialize)]
struct Judgement {
    names: BTreeMap<String, u32>,
    found: Vec<Found>,
}

/// Python in a process of its own.
pub struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// One that spends at most so many seconds on a search.
    pub fn new(seconds: f64) -> Python {
        let mut child = Command::new("python3")
            .args(["-c", JUDGE, &seconds.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed: run tests/setup");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Python { child, input, output }
    }

    fn ask(&mut self, pattern: &str, multiline: bool, texts: &[String]) -> Result<Judgement, String> {
        let mut request = serde_json::to_string(&(pattern, multiline, texts)).unwrap();
        request.push('\n');
        self.input.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        self.output.read_line(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The forms of our search.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Quick,
    Strict,
    Automaton,
}

/// Our own search, counted as Python counts; `None` if it could not be decided.
fn ours(program: &Program, cache: &mut Cache, text: &str, groups: u32, form: Form) -> Option<Found> {
    let outcome = match form {
        Form::Quick => program.search(cache, text, 0),
        Form::Strict => program.search_strictly(cache, text, 0),
        Form::Automaton => program.search_by_automaton(cache, text),
    };
    match outcome {
        Outcome::Unresolved => None,
        Outcome::NoMatch => Some(Found::NoMatch),
        Outcome::Match => {
            let count = |at: usize| if text.is_ascii() { at as i64 } else { text[..at].chars().count() as i64 };
            let span = |group| cache.group(group).map_or((-1, -1), |(a, b)| (count(a), count(b)));
            Some(Found::Match((0..=groups).map(span).collect()))
        }
    }
}

/// How often the two were held against each other, and what came of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Pairs of a pattern and a text.
    pub pairs: usize,
    /// Pairs that match.
    pub matches: usize,
    /// Pairs whose text is not ASCII alone.
    pub beyond_ascii: usize,
    /// Searches that Python did not finish.
    pub too_long: usize,
    /// Searches that we did not finish.
    pub unresolved: usize,
    /// Texts that the automaton decided as well.
    pub by_automaton: usize,
    /// Most steps for a byte of the text that a search of ours took.
    pub steepest: f64,
    /// The differences, in words.
    pub wrong: Vec<String>,
}

impl Tally {
    /// Fails if there are differences; shows the first ones.
    pub fn check(&self) {
        let shown = self.wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(self.wrong.is_empty(), "{} of {} differ:\n{shown}", self.wrong.len(), self.pairs);
    }

    /// Compares one pattern on all texts, in all forms of the matcher.
    pub fn compare(&mut self, python: &mut Python, pattern: &str, multiline: bool, texts: &[String]) {
        self.compare_with(python, pattern, pattern, multiline, texts);
    }

    /// The same where Python has the pattern in other words.
    pub fn compare_with(
        &mut self,
        python: &mut Python,
        theirs: &str,
        pattern: &str,
        multiline: bool,
        texts: &[String],
    ) {
        let parsed = regex::parse(pattern, regex::Options { multiline });
        let (judged, parsed) = match (python.ask(theirs, multiline, texts), parsed) {
            (Err(_), Err(_)) => return,
            (Err(error), Ok(_)) => {
                return self.wrong.push(format!("{pattern:?}: Python says {error}, we accept it"));
            }
            (Ok(_), Err(error)) => {
                return self.wrong.push(format!("{pattern:?}: Python accepts it, we say {error}"));
            }
            (Ok(judged), Ok(parsed)) => (judged, parsed),
        };
        let names: BTreeMap<String, u32> = parsed.names.iter().cloned().collect();
        if names != judged.names {
            self.wrong.push(format!("{pattern:?}: Python's groups {:?}, ours {names:?}", judged.names));
        }
        self.hold(pattern, &parsed, texts, &judged.found);
    }

    fn hold(&mut self, pattern: &str, parsed: &Pattern, texts: &[String], judged: &[Found]) {
        assert_eq!(judged.len(), texts.len());
        let program = Program::new(parsed);
        let mut cache = Cache::default();
        for (text, expected) in texts.iter().zip(judged) {
            self.pairs += 1;
            self.beyond_ascii += usize::from(!text.is_ascii());
            self.matches += usize::from(matches!(expected, Found::Match(_)));
            self.too_long += usize::from(*expected == Found::TooLong);
            for form in [Form::Quick, Form::Strict, Form::Automaton] {
                let found = ours(&program, &mut cache, text, parsed.groups, form);
                self.steepest = self.steepest.max(cache.steps() as f64 / (text.len() + 64) as f64);
                match found {
                    None => self.unresolved += usize::from(form != Form::Automaton),
                    Some(found) if found != *expected && *expected != Found::TooLong => {
                        self.wrong
                            .push(format!("{pattern:?} on {text:?}: Python {expected:?}, we {found:?} ({form:?})"));
                        break;
                    }
                    Some(_) => self.by_automaton += usize::from(form == Form::Automaton),
                }
            }
        }
    }
}

/// Small and repeatable: the tests must not differ from run to run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.next(list.len())]
    }
}

/// Whether the long runs are wanted, which take minutes.
pub fn long() -> bool {
    std::env::var_os("SEKIMORI_LONG").is_some()
}
