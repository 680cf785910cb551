//! Conditionals decided in advance: `(?P<g>A)?B(?(g)C|D)` is `(?P<g>A)BC|BD`, tried in the same order.
//!
//! What follows a choice is then known, and mostly its next byte says that a way is none; with
//! the conditional each way is walked to its end. What follows is there once for each way, so
//! the size is bounded, and what would be too large stays as it is.

use super::compile::{asked_groups, children};
use crate::filter::syntax::{Greed, Node, Pattern};

/// Nodes of a pattern after all.
const LARGEST: usize = 4_000;

/// Whether a group is captured when a node has matched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sets {
    Never,
    Perhaps,
    Always,
}

/// The root of a pattern without those conditionals that can be decided.
pub(super) fn decided(pattern: &Pattern) -> Node {
    let mut groups = Vec::new();
    asked_groups(&pattern.root, &mut groups);
    // only what is captured at a single place
    groups.retain(|group| captures(&pattern.root, *group) == 1);
    if groups.is_empty() {
        return pattern.root.clone();
    }
    let mut left = LARGEST.saturating_sub(size(&pattern.root));
    divided(&pattern.root, &groups, &mut left)
}

fn divided(node: &Node, groups: &[u32], left: &mut usize) -> Node {
    match node {
        Node::Capture { index, node } => Node::Capture { index: *index, node: Box::new(divided(node, groups, left)) },
        Node::Alternate(parts) => Node::Alternate(parts.iter().map(|part| divided(part, groups, left)).collect()),
        Node::Concat(parts) => {
            for (at, part) in parts.iter().enumerate() {
                let rest = &parts[at + 1..];
                let asked = groups
                    .iter()
                    .copied()
                    .find(|group| sets(part, *group) == Sets::Perhaps && rest.iter().any(|node| asks(node, *group)));
                let Some((group, ways)) = asked.and_then(|group| Some((group, ways(part, group)?))) else { continue };
                let cost = (ways.len() - 1).saturating_mul(rest.iter().map(size).sum::<usize>() + 1);
                if cost > *left {
                    continue;
                }
                *left -= cost;
                let ways = ways.into_iter().map(|(way, set)| {
                    let rest = rest.iter().map(|node| decide(node, group, set));
                    let whole = std::iter::once(way).chain(rest).collect();
                    divided(&Node::Concat(whole), groups, left)
                });
                let ways = Node::Alternate(ways.collect());
                return Node::Concat(parts[..at].iter().cloned().chain([ways]).collect());
            }
            node.clone()
        }
        _ => node.clone(),
    }
}

/// The ways through a node in their order, and whether the group is captured on each.
fn ways(node: &Node, group: u32) -> Option<Vec<(Node, bool)>> {
    match node {
        Node::Repeat { node, min: 0, max: Some(1), greed } if sets(node, group) == Sets::Always => {
            let (with, without) = ((Node::clone(node), true), (Node::Empty, false));
            match greed {
                Greed::Greedy => Some(vec![with, without]),
                Greed::Lazy => Some(vec![without, with]),
                Greed::Possessive => None,
            }
        }
        Node::Alternate(parts) => parts
            .iter()
            .map(|part| match sets(part, group) {
                Sets::Always => Some((part.clone(), true)),
                Sets::Never => Some((decide(part, group, false), false)),
                Sets::Perhaps => None,
            })
            .collect(),
        Node::Capture { index, node } if *index != group => {
            let ways = ways(node, group)?.into_iter();
            Some(ways.map(|(way, set)| (Node::Capture { index: *index, node: Box::new(way) }, set)).collect())
        }
        _ => None,
    }
}

/// A node with the conditionals on a group decided.
fn decide(node: &Node, group: u32, set: bool) -> Node {
    let one = |node: &Node| Box::new(decide(node, group, set));
    let all = |nodes: &[Node]| nodes.iter().map(|node| decide(node, group, set)).collect();
    match node {
        Node::Conditional { group: asked, yes, no } if *asked == group => *one(if set { yes } else { no }),
        Node::Conditional { group, yes, no } => Node::Conditional { group: *group, yes: one(yes), no: one(no) },
        Node::Concat(parts) => Node::Concat(all(parts)),
        Node::Alternate(parts) => Node::Alternate(all(parts)),
        Node::Repeat { node, min, max, greed } => Node::Repeat { node: one(node), min: *min, max: *max, greed: *greed },
        Node::Capture { index, node } => Node::Capture { index: *index, node: one(node) },
        Node::Atomic(node) => Node::Atomic(one(node)),
        Node::Look { node, side, negative } => Node::Look { node: one(node), side: *side, negative: *negative },
        Node::Empty | Node::Char(_) | Node::Class(_) | Node::Assert(_) | Node::Backref { .. } => node.clone(),
    }
}

fn sets(node: &Node, group: u32) -> Sets {
    match node {
        Node::Capture { index, .. } if *index == group => Sets::Always,
        Node::Capture { node, .. } | Node::Atomic(node) => sets(node, group),
        Node::Concat(parts) => match parts.iter().map(|part| sets(part, group)).find(|sets| *sets != Sets::Never) {
            Some(sets) => sets,
            None => Sets::Never,
        },
        Node::Repeat { node, min, .. } if *min > 0 => sets(node, group),
        node if captures(node, group) == 0 => Sets::Never,
        _ => Sets::Perhaps,
    }
}

fn captures(node: &Node, group: u32) -> usize {
    let own = usize::from(matches!(node, Node::Capture { index, .. } if *index == group));
    own + children(node).map(|child| captures(child, group)).sum::<usize>()
}

fn asks(node: &Node, group: u32) -> bool {
    matches!(node, Node::Conditional { group: asked, .. } if *asked == group)
        || children(node).any(|child| asks(child, group))
}

fn size(node: &Node) -> usize {
    1 + children(node).map(size).sum::<usize>()
}
