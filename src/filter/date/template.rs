//! One way to write a date: its pattern, and what the groups of it say.

use super::absence::Need;
use super::layout::{Answer, Groups, Layout, Plan};
use super::quick::Quick;
use super::value::{self, Field};
use crate::filter::Clock;
use crate::filter::approximate::nullable;
use crate::filter::exact::{Cache, Outcome, Program};
use crate::filter::syntax::{Assertion, Class, Node, Pattern};
use crate::time::Time;

/// What the text that matched says.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// A calendar date in parts; later groups overrule earlier ones.
    Calendar(Vec<(Field, u32)>),
    /// Seconds since the epoch in this group.
    Epoch(u32),
    /// The same; 13 digits are milli-, 16 microseconds.
    LongEpoch(u32),
    /// A TAI64N label in this group.
    Tai(u32),
}

/// How a template is put together.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What people are shown, such as `Year-Month-Day`.
    pub name: String,
    /// The pattern without the word bounds, which `plan` asks for.
    pub pattern: Pattern,
    /// Non-word characters, ASCII and others: what the word bounds are made of.
    pub other_than_word: Class,
    /// Word bounds and the parts of the date among the groups.
    pub plan: Plan,
    /// The group that is cut out of the line.
    pub cut: u32,
    /// Whether it stands at the start or the end of the line only.
    pub anchored: bool,
    /// How readily it moves up in the list.
    pub weight: f64,
    /// What the groups say.
    pub meaning: Meaning,
    /// Its usual form, where it has one.
    pub quick: Option<Quick>,
}

/// One compiled way to write a date.
#[derive(Debug)]
pub struct Template {
    /// What people are shown.
    pub name: String,
    pub(super) anchored: bool,
    pub(super) weight: f64,
    cut: u32,
    program: Program,
    pub(super) quick: Option<Quick>,
    layout: Option<Layout>,
    meaning: Meaning,
    may_be_empty: bool,
    /// What every match of it has.
    pub(super) need: Option<Need>,
}

/// A match: the whole of it, and what is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub start: usize,
    pub end: usize,
    pub cut: (usize, usize),
}

impl Template {
    /// Compiles it.
    #[must_use]
    pub fn new(spec: Spec) -> Template {
        let Spec { name, pattern, other_than_word, plan, cut, anchored, weight, meaning, quick } = spec;
        let layout = Layout::new(&pattern, &plan, cut);
        let may_be_empty = find_group(&pattern.root, cut).is_none_or(nullable);
        let need = Need::of(&pattern.root);
        let mut pattern = pattern;
        let mut nodes = Vec::new();
        if plan.before {
            nodes.push(bound(Assertion::Start, &other_than_word));
        }
        nodes.push(std::mem::replace(&mut pattern.root, Node::Empty));
        if plan.after {
            nodes.push(bound(Assertion::End, &other_than_word));
        }
        pattern.root = Node::Concat(nodes);
        let program = Program::new(&pattern);
        Template { name, anchored, weight, cut, program, quick, layout, meaning, may_be_empty, need }
    }

    /// Whether what is cut may be empty, so that the line has a place for a date but none of its own.
    pub(super) fn may_be_empty(&self) -> bool {
        self.may_be_empty
    }

    /// The leftmost match in `line[from..to]`; bounds see what stands before `from`, but nothing after `to`.
    #[inline]
    pub(super) fn search(
        &self,
        cache: &mut Cache,
        line: &str,
        (from, to): (usize, usize),
        ascii: &mut Option<bool>,
    ) -> Option<Hit> {
        if from == 0
            && let Some(quick) = &self.quick
            && let Some(cut) = quick.find(&line.as_bytes()[..to])
        {
            return Some(Hit { start: 0, end: cut.1, cut });
        }
        if let Some(layout) = &self.layout {
            let mut groups = Groups::new();
            match layout.search(
                &line.as_bytes()[..to],
                from,
                || *ascii.get_or_insert_with(|| line.is_ascii()),
                &mut groups,
            ) {
                Answer::Match => {
                    let (start, end) = groups.get(0)?;
                    return Some(Hit { start, end, cut: groups.get(self.cut).unwrap_or((start, start)) });
                }
                Answer::No => return None,
                Answer::Unsure => {}
            }
        }
        self.search_exact(cache, line, from, to)
    }

    /// The same by the exact program alone.
    pub(super) fn search_exact(&self, cache: &mut Cache, line: &str, from: usize, to: usize) -> Option<Hit> {
        if self.program.search(cache, line.get(..to)?, from) != Outcome::Match {
            return None;
        }
        let (start, end) = cache.group(0)?;
        Some(Hit { start, end, cut: cache.group(self.cut).unwrap_or((start, start)) })
    }

    /// What the match at `from` says.
    pub(super) fn value(
        &self,
        cache: &mut Cache,
        line: &str,
        span: (usize, usize),
        zone: Option<i32>,
        clock: &Clock,
    ) -> Option<Time> {
        let (from, to) = span;
        if let Some(layout) = &self.layout {
            let mut groups = Groups::new();
            match layout.match_at(line.as_bytes().get(..to)?, from, &mut groups) {
                Answer::Match => return self.meaning(line, |group| groups.get(group), zone, clock),
                Answer::No => return None,
                Answer::Unsure => {}
            }
        }
        self.value_exact(cache, line, span, zone, clock)
    }

    /// The same by the exact program alone.
    pub(super) fn value_exact(
        &self,
        cache: &mut Cache,
        line: &str,
        (from, to): (usize, usize),
        zone: Option<i32>,
        clock: &Clock,
    ) -> Option<Time> {
        if self.program.search(cache, line.get(..to)?, from) != Outcome::Match {
            return None;
        }
        self.meaning(line, |group| cache.group(group), zone, clock)
    }

    fn meaning(
        &self,
        line: &str,
        group: impl Fn(u32) -> Option<(usize, usize)>,
        zone: Option<i32>,
        clock: &Clock,
    ) -> Option<Time> {
        let text = |index: u32| group(index).and_then(|(start, end)| line.get(start..end));
        match &self.meaning {
            Meaning::Calendar(fields) => {
                let texts = fields.iter().filter_map(|&(field, index)| Some((field, text(index)?)));
                value::time(texts, zone, clock)
            }
            Meaning::Epoch(index) => value::epoch(text(*index)?, false),
            Meaning::LongEpoch(index) => value::epoch(text(*index)?, true),
            Meaning::Tai(index) => value::tai(text(*index)?),
        }
    }
}

/// Line start or end, a word boundary, or a non-word character ahead.
fn bound(edge: Assertion, other_than_word: &Class) -> Node {
    let ways = vec![
        Node::Assert(edge),
        Node::Assert(Assertion::WordBoundary { ascii: false }),
        Node::Class(other_than_word.clone()),
    ];
    Node::Look { node: Box::new(Node::Alternate(ways)), side: crate::filter::syntax::Side::Ahead, negative: false }
}

fn find_group(node: &Node, group: u32) -> Option<&Node> {
    match node {
        Node::Capture { index, node } if *index == group => Some(node),
        Node::Concat(nodes) | Node::Alternate(nodes) => nodes.iter().find_map(|n| find_group(n, group)),
        Node::Repeat { node, .. } | Node::Capture { node, .. } | Node::Atomic(node) => find_group(node, group),
        _ => None,
    }
}
