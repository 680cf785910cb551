//! All regular expressions of the filters that Debian's package installs, in every mode, each with
//! the texts that it is to see of the package's sample lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use indexmap::{IndexMap, IndexSet};
use sekimori::config::{UseDns, settings::Compat};
use sekimori::fail2ban::filter::{self, ResolvedFilter};
use sekimori::fail2ban::text::Text;
use sekimori::fail2ban::{date, regex, tags};
use sekimori::filter::date::State;
use sekimori::filter::exact::{Cache, Outcome, Program};
use sekimori::filter::syntax::Pattern;
use sekimori::time::Time;

use super::samples;

const ROOT: &str = "/etc/fail2ban";

/// One regular expression of a filter, its tags replaced.
pub struct Regex {
    pub filter: String,
    /// As the filter has it.
    pub source: String,
    /// With our replacements for its tags.
    pub text: String,
    /// The text that Fail2Ban itself would compile.
    pub theirs: String,
    /// The filter looks at several lines together.
    pub multiline: bool,
    pub pattern: Pattern,
    /// Sample lines without their dates, or what the prefix pattern leaves of them.
    pub texts: IndexSet<String>,
}

/// Replaces the tags in all lines of its input as Fail2Ban does.
const EXPANDER: &str = r#"
import json, sys
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from fail2ban.server.failregex import Regex
usedns, sources = json.load(sys.stdin)
print(json.dumps([Regex(source, multiline="<SKIPLINES>" in source, useDns=usedns).getRegex() for source in sources]))
"#;

/// One way to use a filter.
type Arguments = BTreeMap<String, String>;

/// Reads them; `with` says how tags are replaced.
pub fn load(with: tags::Options) -> Vec<Regex> {
    let mut lines: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut uses: BTreeMap<String, BTreeSet<Arguments>> = BTreeMap::new();
    for job in samples::jobs() {
        let name = job["filter"].as_str().unwrap();
        let found = job["lines"].as_array().unwrap().iter().map(|line| line[0].as_str().unwrap().to_owned());
        lines.entry(name.to_owned()).or_default().extend(found);
        let arguments = job["args"].as_object().unwrap().iter();
        let arguments = arguments
            .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        uses.entry(name.to_owned()).or_default().insert(arguments);
    }
    let mut all = IndexMap::new();
    for entry in fs::read_dir(Path::new(ROOT).join("filter.d")).expect("the package fail2ban is needed for this test") {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_none_or(|extension| extension != "conf") || name.ends_with("common") {
            continue;
        }
        let uses = uses.entry(name.clone()).or_default();
        uses.insert(Arguments::new());
        for mode in modes(&fs::read_to_string(&path).unwrap()) {
            for logtype in ["file", "journal"] {
                let pairs = [("mode", mode.as_str()), ("logtype", logtype)];
                uses.insert(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
            }
        }
        let none = BTreeSet::new();
        for arguments in uses.iter() {
            add(&mut all, &name, arguments, lines.get(&name).unwrap_or(&none), with);
        }
    }
    let mut all: Vec<Regex> = all.into_values().collect();
    let sources: Vec<&str> = all.iter().map(|regex| regex.source.as_str()).collect();
    let theirs = theirs(&sources, with.usedns);
    for (regex, text) in all.iter_mut().zip(theirs) {
        regex.theirs = text;
    }
    all
}

fn theirs(sources: &[&str], usedns: UseDns) -> Vec<String> {
    let usedns = match usedns {
        UseDns::Yes => "yes",
        UseDns::Warn => "warn",
        UseDns::No => "no",
        UseDns::Raw => "raw",
    };
    let mut child = Command::new("python3")
        .args(["-c", EXPANDER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed: run tests/setup");
    serde_json::to_writer(child.stdin.take().unwrap(), &(usedns, sources)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "Fail2Ban's modules are needed: run tests/setup");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What may stand for `mode`: the ends of all names that are made of several words.
fn modes(file: &str) -> BTreeSet<String> {
    let keys = file.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let keys = keys.filter(|key| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    let ends = keys.flat_map(|key| key.split('-').skip(1).map(str::to_owned).collect::<Vec<_>>());
    ends.chain(["normal".to_owned()]).collect()
}

type All = IndexMap<(String, String), Regex>;

/// Adds the patterns of one way to use a filter; one that is known gets more texts.
fn add(all: &mut All, name: &str, arguments: &Arguments, lines: &BTreeSet<String>, with: tags::Options) {
    let given = arguments.iter().map(|(key, value)| (key.clone(), Text::new(value.clone(), None))).collect();
    let Ok((resolved, _)) = filter::read(Path::new(ROOT), Vec::new(), name, given, "auto", Compat::default()) else {
        return;
    };
    let settings = resolved.settings(UseDns::Warn);
    let (prefix, failures) = (&settings.prefregex, &settings.failregex);
    // a mode that this filter does not have leaves its tags as they are
    let unknown = arguments.get("mode").map(|mode| format!("-{mode}"));
    if unknown.is_some_and(|tag| prefix.iter().chain(failures).any(|text| text.contains(&tag) && text.contains("<"))) {
        return;
    }
    let multiline = settings.maxlines > 1;
    let seen = seen(&resolved, arguments, lines, multiline);
    let contents = prefix.as_ref().map(|prefix| contents(&tags::expand(prefix, with).text, multiline, &seen));
    let whole = prefix.iter().chain(&settings.ignoreregex).map(|source| (source, &seen));
    for (source, texts) in whole.chain(failures.iter().map(|source| (source, contents.as_ref().unwrap_or(&seen)))) {
        let text = tags::expand(source, with).text;
        let entry = all.entry((name.to_owned(), text.clone())).or_insert_with(|| Regex {
            filter: name.to_owned(),
            source: source.clone(),
            theirs: String::new(),
            multiline,
            pattern: parse(&text, multiline),
            text,
            texts: IndexSet::new(),
        });
        entry.texts.extend(texts.iter().cloned());
    }
}

fn parse(text: &str, multiline: bool) -> Pattern {
    regex::parse(text, regex::Options { multiline }).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The lines as a pattern of the filter sees them: without their dates, with a newline.
fn seen(
    resolved: &ResolvedFilter,
    arguments: &Arguments,
    lines: &BTreeSet<String>,
    multiline: bool,
) -> IndexSet<String> {
    let pattern = resolved.datepattern.as_ref().map(Text::as_str);
    let dates = date::compile(pattern, &date::Options::server(2026)).unwrap();
    let (mut state, mut cache) = (State::default(), Cache::default());
    let journal = arguments.get("logtype").is_some_and(|logtype| logtype == "journal");
    let mut cut = |line: &str| {
        let found = dates.find(&mut state, &mut cache, line, Time::from_seconds(1_124_013_600));
        let (start, end) = found.filter(|_| !journal).map_or((0, 0), |found| (found.start, found.end));
        format!("{}{}\n", &line[..start], &line[end..])
    };
    let mut seen: IndexSet<String> = lines.iter().map(|line| cut(line)).collect();
    if multiline {
        let lines: Vec<String> = seen.iter().cloned().collect();
        seen.extend(lines.windows(2).map(|pair| pair.concat()));
        seen.extend(lines.windows(4).map(|four| four.concat()));
    }
    seen
}

/// What a prefix pattern leaves for the others.
fn contents(prefix: &str, multiline: bool, seen: &IndexSet<String>) -> IndexSet<String> {
    let pattern = parse(prefix, multiline);
    let (program, group) = (Program::new(&pattern), pattern.group("content"));
    let mut cache = Cache::default();
    let left = seen.iter().filter_map(|text| {
        let matched = program.search(&mut cache, text, 0) == Outcome::Match;
        match group.filter(|_| matched).and_then(|group| cache.group(group)) {
            Some((start, end)) if start < end => Some(format!("{}\n", &text[start..end])),
            _ => matched.then(|| text.clone()),
        }
    });
    left.collect()
}
