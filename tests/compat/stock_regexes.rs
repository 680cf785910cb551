//! The stock filters' regular expressions, their tags replaced by us, against Python's `re` with the
//! texts that Fail2Ban makes of them, group by group: on the package's sample lines, on texts grown
//! from the patterns, and on mutations of both.

use std::time::Instant;

use sekimori::config::UseDns;
use sekimori::fail2ban::tags;

use super::corpus::{self, Regex};
use super::grow::{grow, refers_back};
use super::python::{Python, Random, Tally};

/// Pieces that mutations put in: what Python treats in its own way, and what logs separate with.
const PIECES: &[&str] = &[
    " ",
    "\t",
    "\n",
    "\r",
    "\0",
    "\u{1c}",
    "\u{1f}",
    "\u{b}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{3000}",
    "\u{200b}",
    "ſ",
    "\u{212a}",
    "İ",
    "ı",
    "ß",
    "é",
    "e\u{301}",
    "µ",
    "ς",
    "ǅ",
    "ﬀ",
    "½",
    "²",
    "٣",
    "१",
    "𝟘",
    "Ⅷ",
    "ʼ",
    "‿",
    "漢",
    "😀",
    "\u{fffd}",
    "\u{fffd}\u{fffd}",
    "\u{d7ff}",
    "\u{10ffff}",
    "192.0.2.1",
    "::",
    "2001:db8::7",
    " from ",
    "[",
    "]",
    "\"",
    "'",
    "<",
    ">",
    "(",
    ")",
    ":",
    "=",
    "@",
    "-",
    "_",
    ".",
    ",",
    ";",
    "a",
    "Z",
    "0",
    "from",
];

/// One character after the other in another case, where it has one.
fn other_case(c: char) -> String {
    match c {
        's' => "ſ".to_owned(),
        'k' | 'K' => "\u{212a}".to_owned(),
        'i' => "İ".to_owned(),
        'I' => "ı".to_owned(),
        c if c.is_lowercase() => c.to_uppercase().collect(),
        c => c.to_lowercase().collect(),
    }
}

fn mutated(random: &mut Random, text: &str, other: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.next(3) {
        let length = chars.len();
        let at = random.next(length + 1);
        let end = (at + 1 + random.next(6)).min(length);
        match random.next(9) {
            0 | 1 => drop(chars.splice(at..at, random.pick(PIECES).chars())),
            2 if at < length => drop(chars.splice(at..=at, random.pick(PIECES).chars())),
            3 => drop(chars.drain(at..end)),
            4 => {
                let again: Vec<char> = chars[at..end].to_vec();
                drop(chars.splice(at..at, again));
            }
            5 if at < length => drop(chars.splice(at..=at, other_case(chars[at]).chars().collect::<Vec<_>>())),
            6 => {
                let flip = |c: &char| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
                let flipped: Vec<char> = chars[at..end].iter().map(flip).collect();
                drop(chars.splice(at..end, flipped));
            }
            7 => {
                let foreign: Vec<char> = other.chars().collect();
                let from = random.next(foreign.len() + 1);
                chars.truncate(at);
                chars.extend(&foreign[from..]);
            }
            _ => chars.truncate(at),
        }
    }
    chars.into_iter().collect()
}

/// The texts of one pattern: all of its samples, then grown and changed ones, about `wanted` in all.
fn texts(random: &mut Random, regex: &Regex, wanted: usize, foreign: &[&String]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::with_capacity(wanted + regex.texts.len());
    let known: Vec<&String> = regex.texts.iter().collect();
    let first = random.next(known.len().max(1));
    texts.extend(known.iter().cycle().skip(first).take(known.len().min(wanted / 3 + 1)).map(|text| (*text).clone()));
    while texts.len() < wanted {
        let other = (*random.pick(foreign)).clone();
        match random.next(8) {
            0 | 1 => texts.push(grow(&regex.pattern, random, None)),
            2 | 3 => {
                let grown = grow(&regex.pattern, random, None);
                texts.push(mutated(random, &grown, &other));
            }
            4 => texts.push(other),
            _ if known.is_empty() => texts.push(mutated(random, &grow(&regex.pattern, &mut Random(7), None), &other)),
            _ => {
                let sample = *random.pick(&known);
                texts.push(mutated(random, sample, &other));
            }
        }
    }
    texts
}

/// Compares about so many pairs for each pattern.
fn compare(with: tags::Options, pairs: usize, seed: u64) -> Tally {
    let regexes = corpus::load(with);
    assert!(regexes.len() > 300, "only {} patterns were found", regexes.len());
    let foreign: Vec<&String> = regexes.iter().flat_map(|regex| &regex.texts).collect();
    let (mut python, mut random, mut tally) = (Python::new(0.3), Random(seed), Tally::default());
    for regex in &regexes {
        let texts = texts(&mut random, regex, pairs, &foreign);
        let before = tally.unresolved;
        // 1.1's tags are not those of the version that is installed
        let theirs = if with.bare_colons { &regex.text } else { &regex.theirs };
        tally.compare_with(&mut python, theirs, &regex.text, regex.multiline, &texts);
        let undecided = tally.unresolved - before;
        assert!(
            undecided == 0 || refers_back(&regex.pattern.root),
            "{}: {}: {undecided} undecided",
            regex.filter,
            regex.text
        );
    }
    println!(
        "{} patterns, {} pairs ({} beyond ASCII), {} match, {} differ, {} by the automaton too, {} too long for Python, {} undecided, at most {:.0} steps a byte",
        regexes.len(),
        tally.pairs,
        tally.beyond_ascii,
        tally.matches,
        tally.wrong.len(),
        tally.by_automaton,
        tally.too_long,
        tally.unresolved,
        tally.steepest
    );
    tally
}

#[test]
fn stock_patterns_match_as_in_python() {
    let tally = compare(tags::Options::default(), 140, 11);
    tally.check();
    assert!(tally.pairs > 40_000, "only {} pairs were compared", tally.pairs);
    assert!(tally.matches > tally.pairs / 10, "only {} pairs match", tally.matches);
    assert!(tally.by_automaton > tally.pairs / 2, "only {} were decided by the automaton", tally.by_automaton);
}

#[test]
#[ignore = "takes minutes; run it with `cargo test -- --ignored a_million_cases`"]
fn stock_patterns_match_as_in_python_in_a_million_cases() {
    let began = Instant::now();
    let mut pairs = 0;
    for (seed, usedns, bare_colons) in [(1, UseDns::Warn, false), (2, UseDns::No, true), (3, UseDns::Raw, true)] {
        let tally = compare(tags::Options { usedns, bare_colons }, 1_400, seed);
        tally.check();
        pairs += tally.pairs;
    }
    println!("{pairs} pairs in {:.0} s", began.elapsed().as_secs_f64());
    assert!(pairs > 1_000_000, "only {pairs} pairs were compared");
}
