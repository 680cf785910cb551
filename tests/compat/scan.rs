//! Many filters over blocks of a log find what each of them finds line by line.
//!
//! The lines are Debian's annotated samples, whole and spoilt in all ways, also for the filters
//! that they are not meant for.

use std::sync::Arc;

use sekimori::fail2ban::regex;
use sekimori::filter::approximate::{self, Patterns};
use sekimori::filter::exact::{Cache, Outcome, Program};
use sekimori::filter::literals::{Around, Choices};
use sekimori::filter::regular;
use sekimori::filter::scan::{JailLog, Scanner, Scratch, Tally};
use sekimori::filter::set::Automaton;
use sekimori::filter::{Clock, Failure, record};
use sekimori::line::Block;
use sekimori::time::Time;

use super::python::{Random, long};
use super::samples::{NOW, compiled, jobs};

struct Sample {
    filter: Arc<record::Filter>,
    lines: Vec<Vec<u8>>,
}

fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for job in jobs() {
        let name = job["filter"].as_str().unwrap();
        let Ok(filter) = compiled(name, job["args"].as_object().unwrap()) else { continue };
        let lines = job["lines"].as_array().unwrap().iter().map(|line| line[0].as_str().unwrap().as_bytes().to_vec());
        samples.push(Sample { filter: Arc::new(filter), lines: lines.collect() });
    }
    assert!(samples.len() > 80, "only {} filters", samples.len());
    samples
}

/// So many times as much as usual.
fn times() -> usize {
    if long() { 50 } else { 1 }
}

/// A line that is not quite the one that it was.
fn spoil(random: &mut Random, line: &[u8], other: &[u8]) -> Vec<u8> {
    let mut line = line.to_vec();
    for _ in 0..=random.next(3) {
        let at = random.next(line.len() + 1);
        let end = (at + random.next(12)).min(line.len());
        match random.next(10) {
            0 => drop(line.drain(at..end)),
            1 => {
                let piece = line[at..end].to_vec();
                line.splice(at..at, piece);
            }
            2 => {
                let piece = [
                    "\u{e9}",
                    "\u{212a}",
                    "\u{17f}",
                    "\u{fffd}",
                    "\u{1f600}",
                    "\u{1c}",
                    "\u{a0}",
                    "\u{663}",
                    "\0",
                    "\u{2028}",
                    "\r",
                ];
                line.splice(at..at, random.pick(&piece).bytes());
            }
            3 => {
                let piece: [&[u8]; 4] = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"];
                line.splice(at..at, random.pick(&piece).iter().copied());
            }
            4 => {
                for byte in &mut line[at..end] {
                    byte.make_ascii_uppercase();
                }
            }
            5 => {
                let from = random.next(other.len() + 1);
                let to = (from + random.next(30)).min(other.len());
                line.splice(at..end, other[from..to].iter().copied());
            }
            6 => line.truncate(at),
            7 => {
                // another time of day, or another day
                let digits: Vec<usize> = (0..line.len().min(30)).filter(|n| line[*n].is_ascii_digit()).collect();
                if !digits.is_empty() {
                    line[*random.pick(&digits)] = b'0' + random.next(10) as u8;
                }
            }
            8 => line.extend_from_slice(random.pick::<&[u8]>(&[b"\r", b" ", b"\r\r", b" from 192.0.2.1"])),
            _ => {
                if at < end {
                    line[at] = *random.pick(b" :.[]()<>'\"=,-x0%\t");
                }
            }
        }
    }
    line.retain(|byte| *byte != b'\n');
    line
}

fn options(random: &mut Random) -> record::Options {
    record::Options {
        in_operation: random.next(2) == 0,
        findtime: if random.next(2) == 0 { Some(600.0) } else { None },
        keep_prefix_values: random.next(4) == 0,
        cut: false,
    }
}

#[test]
fn blocks_of_a_log_are_judged_as_its_lines_are() {
    let samples = samples();
    let zone = jiff::tz::TimeZone::posix("CET-1CEST-2,M3.5.0,M10.5.0").unwrap();
    let mut random = Random(11);
    let (mut found, mut lines) = (0, 0);
    let mut scratch = Scratch::default();
    for round in 0..150 * times() {
        let count = if round % 3 == 0 { 1 } else { 1 + random.next(12) };
        let chosen: Vec<&Sample> = (0..count).map(|_| random.pick(&samples)).collect();
        let own: Vec<&Vec<u8>> = chosen.iter().flat_map(|sample| &sample.lines).collect();
        let mut log = Vec::new();
        for _ in 0..40 + random.next(400) {
            // mostly lines for these filters, in a row as they are in the samples
            let from = random.next(own.len());
            for line in own.iter().skip(from).take(1 + random.next(4)) {
                match random.next(5) {
                    0 => log.extend_from_slice(line),
                    1 => {
                        let sample = random.pick(&samples);
                        log.extend_from_slice(random.pick::<Vec<u8>>(&sample.lines));
                    }
                    _ => {
                        let other = random.pick(&own);
                        log.extend(spoil(&mut random, line, other));
                    }
                }
                log.extend_from_slice(if random.next(20) == 0 { b"\r\n" } else { b"\n" });
            }
        }
        let filters: Vec<Arc<record::Filter>> = chosen.iter().map(|sample| sample.filter.clone()).collect();
        let scanner = Scanner::new(&filters);
        let options: Vec<record::Options> = filters.iter().map(|_| options(&mut random)).collect();
        let mut states: Vec<[record::State; 2]> = filters.iter().map(|_| Default::default()).collect();
        let mut cache = Cache::default();
        let (mut rest, mut now) = (&log[..], NOW);
        while !rest.is_empty() {
            let most = if random.next(3) == 0 { 1 } else { 1 + random.next(60) };
            let end = memchr::memchr_iter(b'\n', rest).take(most).last().unwrap() + 1;
            let (block, after) = rest.split_at(end);
            rest = after;
            let clock = Clock { now: Time::from_seconds(now), zone: zone.clone() };
            now += random.next(40) as i64;
            let mut jails: Vec<JailLog> = states
                .iter_mut()
                .zip(&options)
                .map(|([state, _], options)| JailLog {
                    state,
                    options: *options,
                    failures: Vec::new(),
                    tally: Tally::default(),
                })
                .collect();
            scanner.block(&mut scratch, &Block { bytes: block, cut: false }, &mut jails, &clock);
            let got: Vec<(Vec<Failure>, Tally)> = jails.into_iter().map(|jail| (jail.failures, jail.tally)).collect();
            for (jail, (got, tally)) in got.into_iter().enumerate() {
                let mut expected = Vec::new();
                let mut count = 0;
                for line in block.split_inclusive(|byte| *byte == b'\n') {
                    let end = line.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
                    let text = String::from_utf8_lossy(&line[..end]);
                    let state = &mut states[jail][1];
                    filters[jail].line(state, &mut cache, &text, &clock, options[jail], &mut expected);
                    count += 1;
                }
                assert_eq!(tally.lines, count);
                assert_eq!(states[jail][0].dates(), states[jail][1].dates(), "round {round}, jail {jail}");
                lines += count;
                found += expected.len();
                assert_eq!(
                    got,
                    expected,
                    "round {round}, jail {jail} of {}: {:#?}\n{}",
                    filters.len(),
                    filters[jail].failregex.iter().map(|regex| &regex.source).collect::<Vec<_>>(),
                    String::from_utf8_lossy(block)
                );
            }
        }
    }
    println!("{lines} lines, {found} failures");
    assert!(lines > 100_000 && found > 20_000, "{lines} lines, {found} failures");
}

#[test]
fn no_match_is_missed_by_what_passes_over_lines() {
    let samples = samples();
    let mut random = Random(12);
    let all: Vec<&Vec<u8>> = samples.iter().flat_map(|sample| &sample.lines).collect();
    let (mut pairs, mut matches, mut missed) = (0, 0, Vec::new());
    for sample in &samples {
        let all_of_it =
            sample.filter.prefregex.iter().chain(&sample.filter.failregex).chain(&sample.filter.ignoreregex);
        for one in all_of_it {
            let program = Program::new(&regex::parse(&one.text, regex::Options::default()).unwrap());
            let automaton = Automaton::new(&approximate::pattern(&one.pattern));
            let patterns = Patterns { prefix: None, failures: &[&one.pattern] };
            let conjunct = approximate::conjunct(patterns).and_then(|hir| Automaton::new(&hir));
            let mut caches: Vec<_> =
                [&automaton, &conjunct].into_iter().flatten().map(|automaton| (automaton, automaton.cache())).collect();
            let strings = Choices::new(patterns, Around::NonWord).guess();
            let mut cache = Cache::default();
            for _ in 0..60 * times() {
                let line = if random.next(4) > 0 { random.pick(&sample.lines) } else { *random.pick(&all) };
                let line = if random.next(3) == 0 {
                    line.clone()
                } else {
                    let other = random.pick(&all);
                    spoil(&mut random, line, other)
                };
                // without what may be its date, more or less
                let from = [0, 16, 20, 24, 25, 27][random.next(6)].min(line.len());
                let bytes = [&line[from..], b"\n"].concat();
                let text = String::from_utf8_lossy(&bytes);
                pairs += 1;
                if program.search(&mut cache, &text, 0) != Outcome::Match {
                    continue;
                }
                matches += 1;
                let cut = random.next(bytes.len());
                for (automaton, cache) in &mut caches {
                    let (left, right) = bytes.split_at(cut);
                    if !automaton.may_match(cache, &[&bytes]) || !automaton.may_match(cache, &[left, right]) {
                        missed.push(format!("automaton of {}: {text:?}", one.text));
                    }
                }
                if let Some(strings) = &strings
                    && !strings.iter().any(|string| memchr::memmem::find(&bytes, string).is_some())
                {
                    missed.push(format!("{strings:?} of {}: {text:?}", one.text));
                }
            }
        }
    }
    println!("{pairs} pairs, {matches} matches");
    assert!(missed.is_empty(), "{} of {matches} missed:\n{}", missed.len(), missed[..missed.len().min(20)].join("\n"));
    assert!(matches > 1_000, "only {matches} matches");
}

#[test]
fn the_regular_part_of_a_pattern_accepts_what_the_pattern_does() {
    let samples = samples();
    let mut random = Random(13);
    let all: Vec<&Vec<u8>> = samples.iter().flat_map(|sample| &sample.lines).collect();
    let (mut accepted, mut complete, mut prefixes, mut wrong) = (0, 0, 0, Vec::new());
    for sample in &samples {
        let of_failures = sample.filter.failregex.iter().map(|one| (one, false));
        for (one, is_prefix) in sample.filter.prefregex.iter().map(|one| (one, true)).chain(of_failures) {
            let found = regular::pattern(&one.pattern);
            complete += usize::from(found.complete);
            prefixes += usize::from(found.complete && is_prefix);
            let Some(automaton) = Automaton::new(&found.hir) else { continue };
            let (mut states, mut cache) = (automaton.cache(), Cache::default());
            let mut texts = Vec::new();
            for _ in 0..60 * times() {
                let line = if random.next(4) > 0 { random.pick(&sample.lines) } else { *random.pick(&all) };
                let other = random.pick(&all);
                let line = if random.next(2) == 0 { line.clone() } else { spoil(&mut random, line, other) };
                // without what may be its date, more or less
                let from = [0, 16, 20, 24, 25, 27][random.next(6)].min(line.len());
                let mut text = String::from_utf8_lossy(&line[from..]).replace(|c: char| c == '\n' || !c.is_ascii(), "");
                if is_prefix && random.next(3) == 0 {
                    text.insert_str(0, "[]");
                }
                texts.push(text);
            }
            for (index, text) in texts.iter().enumerate() {
                let (before, after) = text.split_at(index % 5 % (text.len() + 1));
                let answer = automaton.decide_ascii(&mut states, [before.as_bytes(), after.as_bytes()]);
                let exact = one.search(&mut cache, &format!("{text}\n"));
                let alone = automaton.decide(&mut states, &[text.as_bytes(), b"\n"]);
                let says = match answer {
                    Some(_) if found.absent.iter().any(|string| text.contains(string)) => continue,
                    Some(true) => exact == Outcome::Match,
                    Some(false) => exact != Outcome::Match || !found.complete,
                    None => true,
                };
                accepted += usize::from(answer == Some(true));
                if !says || alone != answer {
                    wrong.push(format!("{}: {text:?}: {answer:?}, alone {alone:?}, exactly {exact:?}", one.text));
                }
            }
        }
    }
    println!("{accepted} accepted; {complete} patterns are regular, {prefixes} of them prefixes");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(accepted > 1_000 && complete > 300 && prefixes > 15, "{accepted}, {complete}, {prefixes}");
}
