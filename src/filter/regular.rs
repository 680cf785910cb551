//! The regular part of a pattern, as it is: an automaton's pattern that accepts no text but those the real one does.
//!
//! The counterpart of [`super::approximate`], for those who only want to know *whether* a pattern
//! matches and not what it captures. It speaks of ASCII texts with one newline, at their end.
//! A negative look-ahead for a fixed string is always true in texts without that string, so such
//! strings are told instead. Everything else that is not regular matches nothing here.

use regex_syntax::hir::{Class as HirClass, ClassBytesRange, Hir, Look, Repetition};

use super::approximate::{ascii, trim};
use super::syntax::{Assertion, Greed, Node, Pattern, Side};

/// Longer counted repeats are left out: they make large automata.
const LONGEST_COUNT: u32 = 64;

/// Shorter strings are everywhere.
const SHORTEST: usize = 3;

/// What a pattern certainly accepts.
#[derive(Clone, Debug)]
pub struct Regular {
    /// Accepts some of the ASCII texts that the pattern matches, if they have none of `absent`.
    pub hir: Hir,
    /// It accepts all of them.
    pub complete: bool,
    /// Strings, of ASCII.
    pub absent: Vec<String>,
}

/// The regular part of a pattern.
#[must_use]
pub fn pattern(pattern: &Pattern) -> Regular {
    let mut lowering = Lowering { complete: true, absent: Vec::new() };
    let (hir, _) = lowering.lower(&pattern.root, NOTHING);
    let hir = trim(&hir);
    Regular { hir, complete: lowering.complete, absent: lowering.absent }
}

/// The ASCII characters that may stand before a place; all bits: also others, or none.
type Last = u128;

/// Nothing is known.
const NOTHING: Last = u128::MAX;

struct Lowering {
    complete: bool,
    absent: Vec<String>,
}

impl Lowering {
    /// The node, and what may stand before the place behind it.
    fn lower(&mut self, node: &Node, last: Last) -> (Hir, Last) {
        match node {
            Node::Empty => (Hir::empty(), last),
            Node::Char(c) if c.is_ascii() => (Hir::literal([*c as u8]), 1 << (*c as u32)),
            Node::Class(class) => {
                let mut bytes = ascii(class);
                if !class.other.is_empty() {
                    // `.` is to look like one
                    bytes.push(ClassBytesRange::new(0x80, 0xff));
                }
                (Hir::class(HirClass::Bytes(bytes)), class.ascii)
            }
            Node::Capture { node, .. } => self.lower(node, last),
            Node::Concat(parts) => {
                let mut last = last;
                let parts = parts.iter().map(|part| {
                    let (hir, behind) = self.lower(part, last);
                    last = behind;
                    hir
                });
                (Hir::concat(parts.collect()), last)
            }
            Node::Alternate(parts) => {
                let mut behind = 0;
                let parts = parts.iter().map(|part| {
                    let (hir, one) = self.lower(part, last);
                    behind |= one;
                    hir
                });
                (Hir::alternation(parts.collect()), behind)
            }
            Node::Repeat { node, min, max, greed }
                if *greed != Greed::Possessive && (*min).max(max.unwrap_or(0)) <= LONGEST_COUNT =>
            {
                // what stands before its second turn is known only then
                let (sub, behind) = self.lower(node, NOTHING);
                let behind = if *min == 0 { behind | last } else { behind };
                (Hir::repetition(Repetition { min: *min, max: *max, greedy: true, sub: Box::new(sub) }), behind)
            }
            Node::Assert(Assertion::Start) => (Hir::look(Look::Start), last),
            Node::Assert(Assertion::End) => (Hir::look(Look::EndLF), last),
            Node::Assert(Assertion::VeryEnd) => (Hir::look(Look::End), last),
            Node::Look { node, side: Side::Behind(1), negative: false } if follows(node, last) => (Hir::empty(), last),
            Node::Look { node, side: Side::Ahead, negative: true } => match beginnings(node) {
                Some(strings) => {
                    self.absent.extend(strings);
                    (Hir::empty(), last)
                }
                None => self.leave_out(),
            },
            _ => self.leave_out(),
        }
    }

    fn leave_out(&mut self) -> (Hir, Last) {
        self.complete = false;
        (Hir::fail(), 0)
    }
}

/// Whether a character that the node accepts stands there for certain.
fn follows(node: &Node, last: Last) -> bool {
    match node {
        Node::Char(c) if c.is_ascii() => last == 1 << (*c as u32),
        Node::Class(class) => last != NOTHING && last & !class.ascii == 0,
        Node::Concat(parts) => matches!(&parts[..], [one] if follows(one, last)),
        _ => false,
    }
}

/// Strings of which one is in every text that a node matches in.
fn beginnings(node: &Node) -> Option<Vec<String>> {
    let text = |parts: &[Node]| {
        let ascii = parts.iter().map_while(|part| match part {
            Node::Char(c) if c.is_ascii() && *c != '\n' => Some(*c),
            _ => None,
        });
        let text: String = ascii.collect();
        (text.len() >= SHORTEST).then_some(text)
    };
    match node {
        Node::Alternate(parts) => Some(parts.iter().map(beginnings).collect::<Option<Vec<_>>>()?.concat()),
        Node::Concat(parts) => text(parts).map(|text| vec![text]),
        Node::Capture { node, .. } => beginnings(node),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::Automaton;
    use super::*;

    fn regular(text: &str) -> Regular {
        pattern(&parsed(text))
    }

    /// A pattern of characters, `(?!…)`, `(?<=:)`, and one optional blank for a space.
    fn parsed(text: &str) -> Pattern {
        let chars = |text: &str| text.chars().map(Node::Char).collect::<Vec<_>>();
        let mut nodes = vec![Node::Assert(Assertion::Start)];
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("(?!") {
                let (inside, after) = after.split_once(')').unwrap_or((after, ""));
                let node = Box::new(Node::Concat(chars(inside)));
                nodes.push(Node::Look { node, side: Side::Ahead, negative: true });
                rest = after;
            } else if let Some(after) = rest.strip_prefix("(?<=:)") {
                let node = Box::new(Node::Char(':'));
                nodes.push(Node::Look { node, side: Side::Behind(1), negative: false });
                rest = after;
            } else if let Some(after) = rest.strip_prefix(' ') {
                let node = Box::new(Node::Char(' '));
                nodes.push(Node::Repeat { node, min: 0, max: Some(1), greed: Greed::Greedy });
                rest = after;
            } else {
                nodes.push(Node::Char(first));
                rest = &rest[first.len_utf8()..];
            }
        }
        Pattern { root: Node::Concat(nodes), groups: 0, names: Vec::new() }
    }

    fn accepts(regular: &Regular, text: &str) -> bool {
        Automaton::new(&regular.hir).is_none_or(|automaton| {
            automaton.decide(&mut automaton.cache(), &[format!("{text}\n").as_bytes()]) == Some(true)
        })
    }

    #[test]
    fn a_string_that_must_not_follow_is_told() {
        let found = regular("ab(?!evil)c");
        assert!(found.complete && found.absent == ["evil"]);
        assert!(accepts(&found, "abc") && !accepts(&found, "ab"));
        // one character may be everywhere
        assert!(!regular("ab(?!e)c").complete);
    }

    #[test]
    fn a_look_behind_that_is_always_true_says_nothing() {
        assert!(regular("ab:(?<=:)c").complete);
        assert!(!regular("ab(?<=:)c").complete);
        assert!(!regular("ab: (?<=:)c").complete, "a blank may stand between");
        assert!(!accepts(&regular("ab(?<=:)c"), "abc"));
    }

    #[test]
    fn characters_beyond_ascii_are_left_out() {
        assert!(!regular("\u{e4}").complete);
    }
}
