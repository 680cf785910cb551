//! A log in whole blocks, for reports that need not know what became of each line.
//!
//! Most lines match nothing. As soon as no more of their texts are wanted, [`Scanner`] passes
//! over them; failures, pending ones and excused lines are all it tells, and with the number of
//! lines that is the report. What a prefregex matches is counted beside it.

use std::sync::Arc;

use super::prefix::Prefix;
use crate::filter::exact::Cache;
use crate::filter::record::{State, Watch};
use crate::filter::scan::{JailLog, Scanner, Scratch, Tally};
use crate::filter::{Clock, Failure, record};
use crate::line::Block;

/// What became of a block.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Lines that count: neither empty nor a comment.
    pub lines: u64,
    /// Its failures.
    pub failures: Vec<Failure>,
    /// What is pending, and what was excused.
    pub watch: Watch,
    /// So many lines the prefregex matched.
    pub prefix: u64,
}

/// The scanner of one filter.
#[derive(Debug)]
pub struct Fast {
    filter: Arc<record::Filter>,
    scanner: Scanner,
    scratch: Scratch,
    prefix: Option<Prefix>,
    /// A block without its comments and empty lines.
    kept: Vec<u8>,
}

impl Fast {
    /// None for filters that have to see every line.
    #[must_use]
    pub fn new(filter: &Arc<record::Filter>, count_prefix: bool) -> Option<Fast> {
        let excused = filter.ignoreregex.len();
        // Exceptions that come first count lines that no failregex would match.
        if filter.needs_every_line() || excused > 0 && excused + 2 < filter.failregex.len() {
            return None;
        }
        let prefix = filter.prefregex.as_ref().filter(|_| count_prefix).map(Prefix::new);
        let scanner = Scanner::new(std::slice::from_ref(filter));
        let mut scratch = Scratch::default();
        scratch.places = prefix.is_some().then(Vec::new);
        Some(Fast { filter: filter.clone(), scanner, scratch, prefix, kept: Vec::new() })
    }

    /// Judges whole lines.
    pub fn block(
        &mut self,
        bytes: &[u8],
        cut: bool,
        state: &mut State,
        cache: &mut Cache,
        options: record::Options,
        clock: &Clock,
    ) -> Outcomes {
        let bytes = without_comments(bytes, &mut self.kept);
        state.watch = Some(Box::default());
        let mut jail = JailLog { state, options, failures: Vec::new(), tally: Tally::default() };
        self.scanner.block(&mut self.scratch, &Block { bytes, cut }, std::slice::from_mut(&mut jail), clock);
        let (failures, lines) = (jail.failures, jail.tally.lines);
        let prefix = match (&mut self.prefix, &self.filter.prefregex, &self.scratch.places) {
            (Some(prefix), Some(regex), Some(places)) => prefix.count(regex, bytes, places, cache),
            _ => 0,
        };
        let watch = state.watch.take().map(|watch| *watch).unwrap_or_default();
        Outcomes { lines, failures, watch, prefix }
    }
}

/// The lines that count; a copy only if there are others.
fn without_comments<'a>(bytes: &'a [u8], kept: &'a mut Vec<u8>) -> &'a [u8] {
    let counts = |start: usize| {
        let line = &bytes[start..];
        match line.first() {
            None | Some(b'#' | b'\n') => false,
            Some(b'\r') => line.iter().find(|byte| **byte != b'\r').is_some_and(|byte| *byte != b'\n'),
            _ => true,
        }
    };
    let starts = || std::iter::once(0).chain(memchr::memchr_iter(b'\n', bytes).map(|at| at + 1));
    if starts().all(|start| start == bytes.len() || counts(start)) {
        return bytes;
    }
    kept.clear();
    for start in starts().filter(|&start| counts(start)) {
        let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |at| start + at + 1);
        kept.extend_from_slice(&bytes[start..end]);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_left_out() {
        let mut kept = Vec::new();
        assert_eq!(without_comments(b"a\nb\r\n", &mut kept), b"a\nb\r\n");
        assert_eq!(without_comments(b"#x\na\n\n\r\r\n\rb\n#\nc\n", &mut kept), b"a\n\rb\nc\n");
        assert_eq!(without_comments(b"\n", &mut kept), b"");
    }
}
