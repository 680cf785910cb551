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
    text: String,
}

impl Stage {
    fn new(hir: &regex_syntax::hir::Hir) -> Option<Stage> {
        let automaton = Automaton::new(hir)?;
        Some(Stage { states: automaton.cache(), automaton })
    }

    #[inline]
    fn decide_ascii(&mut self, pieces: [&[u8]; 2]) -> Option<bool> {
        self.automaton.decide_ascii(&mut self.states, pieces)
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
            text: String::new(),
        }
    }

    /// So many of these lines match.
    pub fn count(&mut self, regex: &Regex, block: &[u8], places: &[Place], cache: &mut exact::Cache) -> u64 {
        let whole = block.is_ascii() && self.absent.iter().all(|text| text.find(block).is_none());
        let mut matched = 0;
        for place in places {
            let plain = if whole { !self.may_tear(block, *place) } else { self.is_plain(block, *place) };
            let answer = if plain { self.plain(pieces(block, *place)) } else { None };
            matched += u64::from(answer.unwrap_or_else(|| self.is_match(regex, block, *place, cache)));
        }
        matched
    }

    /// A line that is ASCII and has none of the strings; `None` if only the exact matcher knows.
    #[inline]
    fn plain(&mut self, pieces: [&[u8]; 2]) -> Option<bool> {
        if self.complete {
            return self.regular.as_mut()?.decide_ascii(pieces);
        }
        if let Some(Some(false)) = self.over.as_mut().map(|over| over.decide_ascii(pieces)) {
            return Some(false);
        }
        if let Some(Some(true)) = self.regular.as_mut().map(|regular| regular.decide_ascii(pieces)) {
            return Some(true);
        }
        self.second.as_mut()?.decide_ascii(pieces).filter(|may| !may)
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

    fn is_match(&mut self, regex: &Regex, block: &[u8], place: Place, cache: &mut exact::Cache) -> bool {
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
        if says(&mut self.over) == Some(false) || says(&mut self.second) == Some(false) {
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
