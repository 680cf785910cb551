//! Texts grown from a pattern: ones that it matches, or nearly, and ones that make it work hard.

use sekimori::filter::syntax::{Class, Node, Pattern};

use super::python::Random;

/// Longest text that is grown without pumping, in bytes.
const LONGEST: usize = 2_000;

/// A repeat without a bound whose turns are repeated until the text is so long.
#[derive(Clone, Copy)]
pub struct Pump {
    /// Which repeat, counted in the order of the pattern.
    pub repeat: usize,
    /// Bytes that its turns fill.
    pub length: usize,
}

/// Grows one text. Conditions on positions are not looked at, so it does not always match.
pub fn grow(pattern: &Pattern, random: &mut Random, pump: Option<Pump>) -> String {
    let mut grower =
        Grower { random, groups: vec![None; pattern.groups as usize + 1], pump, repeats: 0, out: String::new() };
    grower.node(&pattern.root);
    grower.out
}

/// The number of repeats without a bound.
pub fn repeats(node: &Node) -> usize {
    let own = matches!(node, Node::Repeat { max: None, .. });
    usize::from(own) + children(node).into_iter().map(repeats).sum::<usize>()
}

/// Whether a pattern refers back to what a group captured.
pub fn refers_back(node: &Node) -> bool {
    matches!(node, Node::Backref { .. }) || children(node).into_iter().any(refers_back)
}

fn children(node: &Node) -> Vec<&Node> {
    match node {
        Node::Concat(parts) | Node::Alternate(parts) => parts.iter().collect(),
        Node::Repeat { node, .. } | Node::Capture { node, .. } | Node::Atomic(node) | Node::Look { node, .. } => {
            vec![node]
        }
        Node::Conditional { yes, no, .. } => vec![yes, no],
        Node::Empty | Node::Char(_) | Node::Class(_) | Node::Assert(_) | Node::Backref { .. } => Vec::new(),
    }
}

struct Grower<'r> {
    random: &'r mut Random,
    groups: Vec<Option<String>>,
    pump: Option<Pump>,
    /// Repeats without a bound that were met.
    repeats: usize,
    out: String,
}

impl Grower<'_> {
    fn node(&mut self, node: &Node) {
        match node {
            Node::Empty | Node::Assert(_) => {}
            // its text would have to be the one that follows; its repeats are counted all the same
            Node::Look { node, .. } => self.repeats += repeats(node),
            Node::Char(c) => self.out.push(*c),
            Node::Class(class) => {
                let c = self.one_of(class);
                self.out.push(c);
            }
            Node::Concat(parts) => parts.iter().for_each(|part| self.node(part)),
            Node::Alternate(branches) => {
                let chosen = self.random.next(branches.len());
                // the branch with the pump is taken
                let counts: Vec<usize> = branches.iter().map(repeats).collect();
                let mut before = self.repeats;
                let pumped = self.pump.and_then(|pump| {
                    counts.iter().position(|count| {
                        before += count;
                        (before - count..before).contains(&pump.repeat)
                    })
                });
                let chosen = pumped.unwrap_or(chosen);
                for (index, branch) in branches.iter().enumerate() {
                    if index == chosen {
                        self.node(branch);
                    } else {
                        self.repeats += counts[index];
                    }
                }
            }
            Node::Repeat { node, min, max, .. } => self.repeat(node, *min, *max),
            Node::Capture { index, node } => {
                let start = self.out.len();
                self.node(node);
                self.groups[*index as usize] = Some(self.out[start..].to_owned());
            }
            Node::Atomic(node) => self.node(node),
            Node::Backref { group, .. } => {
                let text = self.groups[*group as usize].clone().unwrap_or_default();
                self.out.push_str(&text);
            }
            Node::Conditional { group, yes, no } => {
                let set = self.groups[*group as usize].is_some();
                if set {
                    self.node(yes);
                }
                self.repeats += if set { repeats(no) } else { repeats(yes) };
                if !set {
                    self.node(no);
                }
            }
        }
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>) {
        let own = self.repeats;
        self.repeats += usize::from(max.is_none());
        let inner = self.repeats;
        let pump = self.pump.filter(|pump| max.is_none() && pump.repeat == own);
        if let Some(pump) = pump {
            let start = self.out.len();
            self.node(node);
            if self.out.len() == start {
                self.node(node);
            }
            let turn = self.out[start..].to_owned();
            if !turn.is_empty() {
                self.out.push_str(&turn.repeat((pump.length / turn.len()).saturating_sub(1)));
            }
            self.repeats = inner + repeats(node);
            return;
        }
        let pumped = self.pump.is_some_and(|pump| (inner..inner + repeats(node)).contains(&pump.repeat));
        let more = match max {
            Some(max) => (max - min).min(3),
            None => 3,
        };
        let mut turns = min + self.random.next(more as usize + 1) as u32;
        if pumped {
            turns = turns.max(1);
        } else if self.out.len() > LONGEST {
            turns = min;
        }
        for turn in 0..turns {
            self.repeats = inner;
            // one turn is pumped, not all of them
            let pump = self.pump;
            if turn > 0 {
                self.pump = None;
            }
            self.node(node);
            self.pump = pump;
        }
        self.repeats = inner + repeats(node);
    }

    fn one_of(&mut self, class: &Class) -> char {
        if !class.other.is_empty() && (class.ascii == 0 || self.random.next(12) == 0) {
            let (low, high) = class.other[self.random.next(class.other.len().min(400))];
            let most = (high as u32 - low as u32).min(500);
            return char::from_u32(low as u32 + self.random.next(most as usize + 1) as u32).unwrap_or(low);
        }
        let common = b"ae1 .:x-\"'][=@/,B0;_f(";
        if self.random.next(2) == 0 {
            let c = *self.random.pick(common);
            if class.ascii >> c & 1 == 1 {
                return c.into();
            }
        }
        let members: Vec<u8> = (0..128).filter(|b| class.ascii >> b & 1 == 1).collect();
        let printable: Vec<u8> = members.iter().copied().filter(|b| (32..127).contains(b)).collect();
        let list = if printable.is_empty() || self.random.next(40) == 0 { &members } else { &printable };
        if list.is_empty() { 'x' } else { (*self.random.pick(list)).into() }
    }
}
