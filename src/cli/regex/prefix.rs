//! How many lines a prefregex matches: the report says so.
//!
//! Whether it matches is asked of every line, so an automaton decides where it can: on ASCII
//! lines, as far as the prefregex is regular. Only what is left is matched exactly.

use memchr::memmem::Finder;

use crate::filter::approximate::{self, Patterns};
use crate::filter::exact::{self, Outcome};
use crate::filter::record::Regex;
use crate::filter::regular;
use crate::filter::scan::Place;
use crate::filter::set::{self, Automaton};

/// An automaton and its states.
#[derive(Debug)]
struct Stage {
    automaton: Automaton,
    states: set::Cache,
}

/// Counts the lines that a prefregex matches.
#[derive(Debug)]
pub struct Prefix {
    /// What these say no to, it does not match.
    over: Option<Stage>,
    second: Option<Stage>,
    /// What this says yes to, it matches, in lines without the strings of `absent`.
    regular: Option<Stage>,
    /// `regular` says yes to all of them.
    complete: bool,
    absent: Vec<Finder<'static>>,
    /// Which bytes the strings of `absent` consist of.
    parts: [bool; 256],
    plain: Vec<Place>,
    /// The rest, and whether `over` has let it pass already.
    others: Vec<(Place, bool)>,
    text: String,
}

impl Stage {
    fn new(hir: &regex_syntax::hir::Hir) -> Option<Stage> {
        let automaton = Automaton::new(hir)?;
        Some(Stage { states: automaton.cache(), automaton })
    }

    fn decide(&mut self, pieces: &[&[u8]]) -> Option<bool> {
        self.automaton.decide(&mut self.states, pieces)
    }
}

impl Prefix {
    /// For this prefregex.
    #[must_use]
    pub fn new(regex: &Regex) -> Prefix {
        let regular = regular::pattern(&regex.pattern);
        let mut parts = [false; 256];
        regular.absent.iter().flat_map(|text| text.bytes()).for_each(|byte| parts[usize::from(byte)] = true);
        let patterns = Patterns { prefix: None, failures: &[&regex.pattern] };
        Prefix {
            over: Stage::new(&approximate::pattern(&regex.pattern)),
            second: approximate::conjunct(patterns).and_then(|hir| Stage::new(&hir)),
            regular: Stage::new(&regular.hir),
            complete: regular.complete,
            absent: regular.absent.iter().map(|text| Finder::new(text).into_owned()).collect(),
            parts,
            plain: Vec::new(),
            others: Vec::new(),
            text: String::new(),
        }
    }

    /// So many of these lines match.
    pub fn count(&mut self, regex: &Regex, block: &[u8], places: &[Place], cache: &mut exact::Cache) -> u64 {
        self.sort(block, places);
        let plain = std::mem::take(&mut self.plain);
        let mut others = std::mem::take(&mut self.others);
        let first = if self.complete { self.regular.as_mut() } else { self.over.as_mut() };
        let mut matched = 0;
        match first {
            None => others.extend(plain.iter().map(|place| (*place, false))),
            Some(Stage { automaton, states }) => {
                let texts = plain.iter().map(|place| pieces(block, *place));
                automaton.decide_each(states, texts, |index, answer| match answer {
                    Some(true) if self.complete => matched += 1,
                    Some(false) => {}
                    _ => others.push((plain[index], !self.complete)),
                });
            }
        }
        for &(place, passed) in &others {
            matched += u64::from(self.is_match(regex, block, place, passed, cache));
        }
        (self.plain, self.others) = (plain, others);
        matched
    }

    /// Puts the lines that are simple enough for the first stage apart from the others.
    fn sort(&mut self, block: &[u8], places: &[Place]) {
        self.plain.clear();
        self.others.clear();
        let whole = block.is_ascii() && self.absent.iter().all(|text| text.find(block).is_none());
        for place in places {
            let plain = whole && !self.may_tear(block, *place) || self.is_plain(block, *place);
            if plain { self.plain.push(*place) } else { self.others.push((*place, false)) }
        }
    }

    /// Whether a string of `absent` could come about when the date is cut out.
    fn may_tear(&self, block: &[u8], place: Place) -> bool {
        let [before, _] = pieces(block, place);
        before.last().is_some_and(|&byte| self.parts[usize::from(byte)])
    }

    fn is_plain(&self, block: &[u8], place: Place) -> bool {
        let [before, after] = pieces(block, place);
        let has = |text: &Finder<'_>| text.find(before).is_some() || text.find(after).is_some();
        place.utf8
            && before.is_ascii()
            && after.is_ascii()
            && !self.may_tear(block, place)
            && !self.absent.iter().any(has)
    }

    fn is_match(&mut self, regex: &Regex, block: &[u8], place: Place, passed: bool, cache: &mut exact::Cache) -> bool {
        let decoded;
        let line = &block[place.line.0..place.line.1];
        let [before, after] = if place.utf8 {
            pieces(block, place)
        } else {
            decoded = String::from_utf8_lossy(line);
            [&decoded.as_bytes()[..place.date.0], &decoded.as_bytes()[place.date.1..]]
        };
        let text = [before, after, b"\n"];
        let says = |stage: &mut Option<Stage>| stage.as_mut().and_then(|stage| stage.decide(&text));
        if !passed && says(&mut self.over) == Some(false) {
            return false;
        }
        if !self.complete && self.is_plain(block, place) && says(&mut self.regular) == Some(true) {
            return true;
        }
        if says(&mut self.second) == Some(false) {
            return false;
        }
        self.text.clear();
        for piece in text {
            // a date begins and ends between characters
            self.text.push_str(&String::from_utf8_lossy(piece));
        }
        regex.search(cache, &self.text) == Outcome::Match
    }
}

/// A line of the block without its date.
fn pieces(block: &[u8], place: Place) -> [&[u8]; 2] {
    let line = &block[place.line.0..place.line.1];
    // of a line that is no UTF-8 the date stands in another text
    let (start, end) = if place.utf8 { place.date } else { (0, 0) };
    [&line[..start], &line[end..]]
}
