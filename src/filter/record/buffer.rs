//! The last lines of a log, for filters that match over several of them (`maxlines` above 1).
//!
//! Lines stay until a match has used them up, newer ones push them out, or they are too many
//! bytes. What `<SKIPLINES>` passed over stays: a later match may need it.

use crate::filter::Match;
use crate::line::MAX_LINE;

/// Most bytes that are kept of one log; then the oldest lines go first.
pub const MAX_BYTES: usize = 4 * MAX_LINE;

/// Lines that no match has used yet, oldest first.
#[derive(Debug, Default)]
pub struct Buffer {
    pub(super) lines: Vec<Match>,
}

/// How a match divides the lines.
#[derive(Debug)]
pub(super) struct Divided {
    /// Those that the match covers, without the skipped ones.
    pub matched: Vec<Match>,
    /// The others.
    pub rest: Vec<Match>,
}

impl Buffer {
    /// Adds a line; `most` is `maxlines`.
    pub(super) fn push(&mut self, line: Match, most: usize) {
        self.lines.push(line);
        let mut surplus = self.lines.len().saturating_sub(most.max(1));
        let mut bytes: usize = self.lines.iter().skip(surplus).map(|line| line.line.len()).sum();
        while bytes > MAX_BYTES && surplus + 1 < self.lines.len() {
            bytes -= self.lines[surplus].line.len();
            surplus += 1;
        }
        self.lines.drain(..surplus);
    }
}

/// Writes the lines without their dates, a newline behind each.
pub(super) fn join(lines: &[Match], text: &mut String) {
    text.clear();
    for line in lines {
        let (before, after) = without_date(line);
        text.push_str(before);
        text.push_str(after);
        text.push('\n');
    }
}

fn without_date(line: &Match) -> (&str, &str) {
    (&line.line[..line.date.0 as usize], &line.line[line.date.1 as usize..])
}

/// Divides lines by a match of `span` in `text`; `skipped` is what `<SKIPLINES>` passed over.
///
/// `text` was made of the lines, but need not be all of them: as in Fail2Ban, what a prefregex
/// leaves of them is counted as if it began with the first.
pub(super) fn divide(lines: &[Match], text: &str, span: (usize, usize), skipped: &str) -> Divided {
    if lines.len() <= 1 {
        return Divided { matched: lines.to_vec(), rest: Vec::new() };
    }
    let bytes = text.as_bytes();
    let newlines = |end: usize| memchr::memchr_iter(b'\n', &bytes[..end]).count();
    let head = (span.0 + 1).min(bytes.len());
    let from = memchr::memrchr(b'\n', &bytes[..head]).map_or(0, |at| at + 1);
    let last = span.1.checked_sub(1).unwrap_or(bytes.len().saturating_sub(1)).min(bytes.len());
    let to = memchr::memchr(b'\n', &bytes[last..]).map_or(bytes.len(), |at| last + at + 1);
    let from = newlines(from).min(lines.len());
    let to = newlines(to).clamp(from, lines.len());
    let mut matched = lines[from..to].to_vec();
    let mut rest = lines[..from].to_vec();
    let mut at = 0;
    for skipped in skipped.split_terminator('\n') {
        let is_it = |line: &Match| {
            let (before, after) = without_date(line);
            skipped.strip_prefix(before) == Some(after)
        };
        if let Some(found) = matched[at..].iter().position(is_it) {
            at += found;
            rest.push(matched.remove(at));
        }
    }
    rest.extend_from_slice(&lines[to..]);
    Divided { matched, rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Match {
        Match { line: text.into(), date: (0, 0) }
    }

    #[test]
    fn a_hostile_log_cannot_make_the_kept_lines_too_large() {
        let mut buffer = Buffer::default();
        for _ in 0..100 {
            buffer.push(line(&"x".repeat(MAX_LINE)), 1000);
        }
        assert_eq!(buffer.lines.len(), MAX_BYTES / MAX_LINE);
        (0..100).for_each(|_| buffer.push(line("x"), 7));
        assert_eq!(buffer.lines.len(), 7);
    }

    #[test]
    fn lines_that_were_passed_over_stay() {
        let lines = ["before", "a", "skipped", "b", "after"].map(line);
        let mut text = String::new();
        join(&lines, &mut text);
        let divided = divide(&lines, &text, (7, 18), "skipped\n");
        assert_eq!(divided.matched, ["a", "b"].map(line));
        assert_eq!(divided.rest, ["before", "skipped", "after"].map(line));
    }
}
