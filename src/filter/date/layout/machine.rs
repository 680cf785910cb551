//! Runs the instructions of a layout on a text.

use super::{Answer, Groups, Op, UNSET};
use crate::filter::date::part::is_word;

/// Attempts per search before the general way takes over.
const MAX_ATTEMPTS: u32 = 20_000;
/// Groups that are set at once; beyond, the general way takes over.
const TRAIL: usize = 24;

pub(super) struct Machine<'a> {
    ops: &'a [Op],
    pub(super) text: &'a [u8],
    groups: &'a mut Groups,
    /// What was overwritten, so that a failed attempt leaves no trace.
    trail: [(u8, (u32, u32)); TRAIL],
    depth: usize,
    attempts: u32,
}

impl<'a> Machine<'a> {
    pub(super) fn new(ops: &'a [Op], text: &'a [u8], groups: &'a mut Groups) -> Machine<'a> {
        Machine { ops, text, groups, trail: [(0, UNSET); TRAIL], depth: 0, attempts: 0 }
    }

    #[inline]
    fn set(&mut self, group: u8, span: (u32, u32)) -> bool {
        let Some(entry) = self.trail.get_mut(self.depth) else { return false };
        *entry = (group, self.groups.spans[group as usize]);
        self.depth += 1;
        self.groups.spans[group as usize] = span;
        true
    }

    fn undo(&mut self, depth: usize) {
        while self.depth > depth {
            self.depth -= 1;
            let (group, span) = self.trail[self.depth];
            self.groups.spans[group as usize] = span;
        }
    }

    /// One way of several: a failure leaves the groups as they were.
    pub(super) fn attempt<const FIELDS: bool>(&mut self, pc: usize, at: usize, start: usize) -> Answer {
        let depth = self.depth;
        let answer = self.run::<FIELDS>(pc, at, start);
        if answer == Answer::No {
            self.undo(depth);
        }
        answer
    }

    pub(super) fn run<const FIELDS: bool>(&mut self, mut pc: usize, mut at: usize, start: usize) -> Answer {
        self.attempts += 1;
        if self.attempts > MAX_ATTEMPTS {
            return Answer::Unsure;
        }
        let text = self.text;
        loop {
            match self.ops[pc] {
                Op::Byte(b) => {
                    if text.get(at) != Some(&b) {
                        return Answer::No;
                    }
                    at += 1;
                }
                Op::Set { ascii, high } => match text.get(at) {
                    Some(&b) if b < 0x80 => {
                        if ascii >> b & 1 == 0 {
                            return Answer::No;
                        }
                        at += 1;
                    }
                    Some(_) if high => return Answer::Unsure,
                    _ => return Answer::No,
                },
                Op::Run { ascii, high, min, max, lazy, next } => {
                    let mut most = at;
                    while most - at < max as usize && text.get(most).is_some_and(|&b| b < 0x80 && ascii >> b & 1 == 1) {
                        most += 1;
                    }
                    if high && most - at < max as usize && text.get(most).is_some_and(|&b| b >= 0x80) {
                        return Answer::Unsure;
                    }
                    let least = at.saturating_add(min as usize);
                    if most < least {
                        return Answer::No;
                    }
                    let viable = |end: &usize| next.allows(text.get(*end).copied());
                    let mut only = None;
                    let mut rest = (least..=most).filter(viable);
                    let (a, b) = if lazy { (rest.next(), rest.next()) } else { (rest.next_back(), rest.next_back()) };
                    match (a, b) {
                        (None, _) => return Answer::No,
                        (Some(end), None) => only = Some(end),
                        _ => {}
                    }
                    let Some(end) = only else {
                        let mut ends = (least..=most).filter(viable);
                        while let Some(end) = if lazy { ends.next() } else { ends.next_back() } {
                            match self.attempt::<FIELDS>(pc + 1, end, start) {
                                Answer::No => {}
                                found => return found,
                            }
                        }
                        return Answer::No;
                    };
                    at = end;
                }
                Op::Split { other, first, second } | Op::SplitLazy { other, first, second } => {
                    let byte = text.get(at).copied();
                    let lazy = matches!(self.ops[pc], Op::SplitLazy { .. });
                    match (first.allows(byte), second.allows(byte)) {
                        (false, false) => return Answer::No,
                        (true, false) => {}
                        (false, true) => {
                            pc = usize::from(other);
                            continue;
                        }
                        (true, true) => {
                            let (one, two) =
                                if lazy { (usize::from(other), pc + 1) } else { (pc + 1, usize::from(other)) };
                            match self.attempt::<FIELDS>(one, at, start) {
                                Answer::No => pc = two,
                                found => return found,
                            }
                            continue;
                        }
                    }
                }
                Op::Jump(to) => {
                    pc = usize::from(to);
                    continue;
                }
                Op::Save { slot, always } => {
                    if FIELDS || always {
                        let group = slot / 2;
                        let (from, _) = self.groups.spans[group as usize];
                        let here = at as u32;
                        // A group that is open keeps its start and no end.
                        let span = if slot % 2 == 0 { (here, u32::MAX) } else { (from, here) };
                        if !self.set(group, span) {
                            return Answer::Unsure;
                        }
                    }
                }
                Op::Part { part, group, always, next } => {
                    let Some(mut lengths) = part.lengths(text, at) else { return Answer::Unsure };
                    let mut kept = 0;
                    for n in 0..lengths.count as usize {
                        let length = lengths.list[n];
                        let byte = text.get(at + length as usize).copied();
                        if byte.is_some_and(|b| b >= 0x80) {
                            return Answer::Unsure;
                        }
                        if next.allows(byte) {
                            lengths.list[kept] = length;
                            kept += 1;
                        }
                    }
                    if kept == 0 {
                        return Answer::No;
                    }
                    for n in 0..kept {
                        let end = at + lengths.list[n] as usize;
                        let depth = self.depth;
                        if (FIELDS || always) && !self.set(group, (at as u32, end as u32)) {
                            return Answer::Unsure;
                        }
                        if n + 1 == kept {
                            at = end;
                            break;
                        }
                        match self.run::<FIELDS>(pc + 1, end, start) {
                            Answer::No => self.undo(depth),
                            found => return found,
                        }
                    }
                }
                Op::Back { group, ignore_case } => {
                    let (from, to) = self.groups.spans[group as usize];
                    if to == u32::MAX || from == u32::MAX {
                        return Answer::No;
                    }
                    let wanted = &text[from as usize..to as usize];
                    let Some(there) = text.get(at..at + wanted.len()) else { return Answer::No };
                    if ignore_case {
                        if !there.is_ascii() || !wanted.is_ascii() {
                            return Answer::Unsure;
                        }
                        if !there.eq_ignore_ascii_case(wanted) {
                            return Answer::No;
                        }
                    } else if there != wanted {
                        return Answer::No;
                    }
                    at += wanted.len();
                }
                Op::Look { other, behind, negative } => {
                    let behind = behind as usize;
                    // As many characters are as many bytes only where all are ASCII.
                    let from = at.checked_sub(behind);
                    if let Some(from) = from
                        && !text[from..at].is_ascii()
                    {
                        return Answer::Unsure;
                    }
                    let answer = match from {
                        Some(from) => self.attempt::<FIELDS>(pc + 1, from, from),
                        None if text[..at].is_ascii() => Answer::No,
                        None => Answer::Unsure,
                    };
                    match answer {
                        Answer::Unsure => return Answer::Unsure,
                        Answer::Match if negative => return Answer::No,
                        Answer::No if !negative => return Answer::No,
                        _ => {}
                    }
                    pc = usize::from(other);
                    continue;
                }
                Op::Start => {
                    if at != 0 {
                        return Answer::No;
                    }
                }
                Op::LineStart => {
                    if at != 0 && text[at - 1] != b'\n' {
                        return Answer::No;
                    }
                }
                Op::VeryEnd => {
                    if at != text.len() {
                        return Answer::No;
                    }
                }
                Op::End => {
                    if at != text.len() && !(at + 1 == text.len() && text[at] == b'\n') {
                        return Answer::No;
                    }
                }
                Op::LineEnd => {
                    if at != text.len() && text[at] != b'\n' {
                        return Answer::No;
                    }
                }
                Op::Boundary { wanted } => match self.boundary(at) {
                    Some(is) if is == wanted => {}
                    Some(_) => return Answer::No,
                    None => return Answer::Unsure,
                },
                Op::Before => {
                    // At the line start, or where the next character is not of a word, it holds anyway.
                    if at != 0 && text.get(at).is_none_or(|&b| is_word(b) || b >= 0x80) {
                        match self.boundary(at) {
                            Some(true) => {}
                            Some(false) => return Answer::No,
                            None => return Answer::Unsure,
                        }
                    }
                }
                Op::After => {
                    if text.get(at).is_some_and(|&b| is_word(b) || b >= 0x80) {
                        match self.boundary(at) {
                            Some(true) => {}
                            Some(false) => return Answer::No,
                            None => return Answer::Unsure,
                        }
                    }
                }
                Op::Match => {
                    self.groups.spans[0] = (start as u32, at as u32);
                    return Answer::Match;
                }
            }
            pc += 1;
        }
    }

    /// Whether a word begins or ends here; `None` next to a byte beyond ASCII.
    fn boundary(&self, at: usize) -> Option<bool> {
        let before = at.checked_sub(1).map(|n| self.text[n]);
        let after = self.text.get(at).copied();
        if before.is_some_and(|b| b >= 0x80) || after.is_some_and(|b| b >= 0x80) {
            return None;
        }
        Some(before.is_some_and(is_word) != after.is_some_and(is_word))
    }
}
