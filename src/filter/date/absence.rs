//! Lines that have certainly no date, told at a glance.
//!
//! A filter for one program's own way of writing dates finds none in the log of another, line
//! after line. What each of its patterns needs (a certain first byte, a long number) mostly
//! tells so without trying them.

use crate::filter::syntax::{Assertion, Class, Node};

/// A shorter run of digits stands in too many lines to tell anything.
const LONG: usize = 6;

/// What every match of one pattern has; a line without it has no match.
#[derive(Debug)]
pub(super) enum Need {
    /// It starts at the beginning of the line, with one of these bytes.
    First(Box<[bool; 256]>),
    /// So many digits in a row, at least.
    Digits(usize),
}

impl Need {
    /// What a pattern needs, if that is something of this kind.
    pub(super) fn of(root: &Node) -> Option<Need> {
        if let Node::Concat(nodes) = root
            && matches!(nodes.first(), Some(Node::Assert(Assertion::Start)))
        {
            let mut bytes = Box::new([false; 256]);
            if first(root, &mut bytes) == Some(Width::Some) {
                return Some(Need::First(bytes));
            }
        }
        Some(Need::Digits(digits(root))).filter(|_| digits(root) >= LONG)
    }
}

/// What all patterns of a filter need.
#[derive(Debug)]
pub(super) struct Absence {
    first: Box<[bool; 256]>,
    /// So many digits in a row; 0: no pattern needs them only.
    digits: usize,
}

impl Absence {
    /// `None` if some pattern may match in any line.
    pub(super) fn new<'n>(needs: impl Iterator<Item = Option<&'n Need>>) -> Option<Absence> {
        let mut absence = Absence { first: Box::new([false; 256]), digits: 0 };
        for need in needs {
            match need? {
                Need::First(bytes) => absence.first.iter_mut().zip(bytes.iter()).for_each(|(all, one)| *all |= one),
                Need::Digits(count) if absence.digits == 0 => absence.digits = *count,
                Need::Digits(count) => absence.digits = absence.digits.min(*count),
            }
        }
        Some(absence)
    }

    /// Whether a line certainly has no date; false says nothing.
    #[inline]
    pub(super) fn holds(&self, line: &[u8]) -> bool {
        let first = line.first().is_some_and(|&byte| self.first[usize::from(byte)]);
        !first && (self.digits == 0 || !has_run(line, self.digits))
    }
}

/// Whether so many bytes in a row are digits, or of characters that may be digits of some script.
fn has_run(line: &[u8], count: usize) -> bool {
    let digit = |byte: &u8| byte.is_ascii_digit() || *byte >= 0x80;
    // A run has one at every place that is a multiple of its length away.
    let mut at = count - 1;
    while at < line.len() {
        if !digit(&line[at]) {
            at += count;
            continue;
        }
        let begin = line[..at].iter().rposition(|byte| !digit(byte)).map_or(0, |before| before + 1);
        let end = line[at..].iter().position(|byte| !digit(byte)).map_or(line.len(), |length| at + length);
        if end - begin >= count {
            return true;
        }
        at = end + count;
    }
    false
}

/// Whether a part of a pattern takes up characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// At least one.
    Some,
    /// Perhaps none.
    PerhapsNone,
}

/// Adds the bytes a match can begin with; `None` if they are not known.
fn first(node: &Node, bytes: &mut [bool; 256]) -> Option<Width> {
    match node {
        Node::Empty | Node::Assert(_) | Node::Look { .. } => Some(Width::PerhapsNone),
        Node::Char(c) => {
            bytes[usize::from(c.encode_utf8(&mut [0; 4]).as_bytes()[0])] = true;
            Some(Width::Some)
        }
        Node::Class(class) => {
            (0..128).filter(|&byte| class.ascii >> byte & 1 == 1).for_each(|byte| bytes[byte] = true);
            if !class.other.is_empty() {
                bytes[128..].fill(true);
            }
            Some(Width::Some)
        }
        Node::Concat(nodes) => {
            for node in nodes {
                if first(node, bytes)? == Width::Some {
                    return Some(Width::Some);
                }
            }
            Some(Width::PerhapsNone)
        }
        Node::Alternate(nodes) => {
            let mut all = Width::Some;
            for node in nodes {
                if first(node, bytes)? == Width::PerhapsNone {
                    all = Width::PerhapsNone;
                }
            }
            Some(all)
        }
        Node::Repeat { node, min, .. } => {
            first(node, bytes).map(|width| if *min == 0 { Width::PerhapsNone } else { width })
        }
        Node::Capture { node, .. } | Node::Atomic(node) => first(node, bytes),
        Node::Backref { .. } | Node::Conditional { .. } => None,
    }
}

/// So many digits stand side by side in every match.
fn digits(node: &Node) -> usize {
    let only = |class: &Class| class.ascii & !(0x03ff << b'0') == 0;
    match node {
        Node::Concat(nodes) => nodes.iter().map(digits).max().unwrap_or(0),
        Node::Alternate(nodes) => nodes.iter().map(digits).min().unwrap_or(0),
        Node::Repeat { node, min, .. } => match &**node {
            Node::Class(class) if only(class) => *min as usize,
            _ if *min > 0 => digits(node),
            _ => 0,
        },
        Node::Capture { node, .. } | Node::Atomic(node) => digits(node),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_digits_are_found_wherever_they_stand() {
        for length in 0..30 {
            for at in 0..30 {
                for after in 0..9 {
                    let line = ["a".repeat(at), "5".repeat(length), "-".repeat(after), " 77 8".to_owned()].concat();
                    assert_eq!(has_run(line.as_bytes(), 10), length >= 10, "{line}");
                }
            }
        }
        assert!(has_run("\u{661}".repeat(10).as_bytes(), 10));
    }
}
