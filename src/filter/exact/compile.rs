//! From the tree of a pattern to the instructions of its fast form.

use std::slice;

use super::class::{ANY, Set};
use super::code::{Anchor, Aside, Code, Condition, Op, Run, Shape, Way};
use super::decide::decided;
use crate::filter::syntax::{Assertion, Class, Greed, Node, Pattern, Side};

/// Conditions (groups asked for, loops that may turn without consuming) at one choice that the
/// memory of a strict search can tell apart.
const MAX_CONDITIONS: usize = 6;

struct Compiler {
    code: Code,
    shape: Shape,
    /// Registers start here.
    base: u32,
    /// Conditions of the choice that comes next: the groups, and the loops around it.
    groups: Vec<Condition>,
    around: Vec<Condition>,
}

impl Code {
    /// The fast form.
    pub(super) fn fast(pattern: &Pattern) -> (Code, Shape) {
        let code = Code {
            ops: Vec::new(),
            sets: Vec::new(),
            literals: Vec::new(),
            runs: Vec::new(),
            choices: Vec::new(),
            conditions: Vec::new(),
            asides: Vec::new(),
            nexts: vec![ANY],
            memos: 0,
            first: ANY,
        };
        let root = decided(pattern);
        let shape = Shape {
            anchor: anchor(&root),
            registers: 0,
            backrefs: false,
            captures_aside: false,
            too_conditional: false,
        };
        let mut groups = Vec::new();
        asked_groups(&root, &mut groups);
        let groups = groups.into_iter().map(Condition::Group).collect();
        let mut compiler = Compiler { code, shape, base: (pattern.groups + 1) * 2, groups, around: Vec::new() };
        compiler.node(&root);
        compiler.code.ops.push(Op::Match);
        let Compiler { mut code, shape, .. } = compiler;
        code.finish();
        (code, shape)
    }
}

impl Compiler {
    fn push(&mut self, op: Op) -> usize {
        self.code.ops.push(op);
        self.code.ops.len() - 1
    }

    fn conditions(&mut self) -> (u32, u32) {
        let mut wanted = self.groups.clone();
        wanted.extend(&self.around);
        if wanted.len() > MAX_CONDITIONS {
            self.shape.too_conditional = true;
            wanted.clear();
        }
        let all = &mut self.code.conditions;
        let start = match wanted.len() {
            0 => 0,
            length => all.windows(length).position(|known| known == wanted).unwrap_or_else(|| {
                all.extend(&wanted);
                all.len() - length
            }),
        };
        (start as u32, (start + wanted.len()) as u32)
    }

    /// A choice whose ways are filled in later.
    fn split(&mut self) -> usize {
        let conditions = self.conditions();
        let choice = self.code.choice(conditions);
        self.push(Op::Split { first: 0, second: 0, choice })
    }

    fn ways(&mut self, split: usize, one: u32, other: u32) {
        if let Op::Split { first, second, .. } = &mut self.code.ops[split] {
            (*first, *second) = (one, other);
        }
    }

    fn set(&mut self, class: &Class) -> u32 {
        if let Some(known) = self.code.sets.iter().position(|set| set.is(class)) {
            return known as u32;
        }
        self.code.sets.push(Set::new(class));
        self.code.sets.len() as u32 - 1
    }

    fn literal(&mut self, text: &str) {
        if let [byte] = text.as_bytes() {
            self.push(Op::Byte(*byte));
            return;
        }
        let start = self.code.literals.len() as u32;
        self.code.literals.extend(text.as_bytes());
        self.push(Op::Literal { start, end: self.code.literals.len() as u32 });
    }

    fn aside(&mut self, node: &Node, behind: u32, negative: bool) -> u32 {
        let pure = !captures(node);
        self.shape.captures_aside |= !pure;
        let number = self.code.asides.len();
        self.code.asides.push(Aside { next: 0, behind, negative, pure });
        number as u32
    }

    fn aside_body(&mut self, number: u32, node: &Node) {
        let around = std::mem::take(&mut self.around);
        self.node(node);
        self.around = around;
        self.push(Op::Done);
        self.code.asides[number as usize].next = self.code.here();
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Empty => {}
            Node::Char(c) => self.literal(c.encode_utf8(&mut [0; 4])),
            Node::Class(class) => {
                let set = self.set(class);
                self.push(Op::Class(set));
            }
            Node::Concat(parts) => {
                let mut literal = String::new();
                for part in parts {
                    if let Node::Char(c) = part {
                        literal.push(*c);
                        continue;
                    }
                    if !literal.is_empty() {
                        self.literal(&literal);
                        literal.clear();
                    }
                    self.node(part);
                }
                if !literal.is_empty() {
                    self.literal(&literal);
                }
            }
            Node::Alternate(branches) => self.alternate(branches),
            Node::Repeat { node, min, max, greed } => self.repeat(node, *min, *max, *greed),
            Node::Capture { index, node } => {
                self.push(Op::Save(index * 2));
                self.node(node);
                self.push(Op::Save(index * 2 + 1));
            }
            Node::Atomic(node) => self.atomic(node),
            Node::Assert(assertion) => {
                self.push(Op::Assert(*assertion));
            }
            Node::Look { node, side, negative } => {
                let behind = match side {
                    Side::Ahead => 0,
                    Side::Behind(width) => *width,
                };
                let number = self.aside(node, behind, *negative);
                self.push(Op::Look(number));
                self.aside_body(number, node);
            }
            Node::Backref { group, ignore_case } => {
                self.shape.backrefs = true;
                self.push(Op::Backref { group: *group, ignore_case: *ignore_case });
            }
            Node::Conditional { group, yes, no } => {
                let at = self.push(Op::IfSet { group: *group, no: 0 });
                self.node(yes);
                let jump = self.push(Op::Jump(0));
                self.code.ops[at] = Op::IfSet { group: *group, no: self.code.here() };
                self.node(no);
                self.code.ops[jump] = Op::Jump(self.code.here());
            }
        }
    }

    fn atomic(&mut self, node: &Node) {
        let number = self.aside(node, 0, false);
        self.push(Op::Atomic(number));
        self.aside_body(number, node);
    }

    fn alternate(&mut self, branches: &[Node]) {
        let mut jumps = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            if index + 1 == branches.len() {
                self.node(branch);
                break;
            }
            let split = self.split();
            self.node(branch);
            jumps.push(self.push(Op::Jump(0)));
            self.ways(split, split as u32 + 1, self.code.here());
        }
        let end = self.code.here();
        for jump in jumps {
            self.code.ops[jump] = Op::Jump(end);
        }
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>, greed: Greed) {
        if (min, max) == (1, Some(1)) && greed != Greed::Possessive {
            return self.node(node);
        }
        if max == Some(0) {
            return;
        }
        let class = match node {
            Node::Class(class) => Some(class.clone()),
            Node::Char(c) if c.is_ascii() => Some(Class { ascii: 1 << (*c as u32), other: [].into() }),
            Node::Char(c) => Some(Class { ascii: 0, other: [(*c, *c)].into() }),
            _ => None,
        };
        if let Some(class) = class {
            if max == Some(min) && min < 4 {
                (0..min).for_each(|_| self.node(node));
                return;
            }
            let way = match greed {
                Greed::Greedy => Way::Longest,
                Greed::Lazy => Way::Shortest,
                Greed::Possessive => Way::Only,
            };
            let set = self.set(&class);
            let conditions = if way == Way::Only {
                let around = std::mem::take(&mut self.around);
                let own = self.conditions();
                self.around = around;
                own
            } else {
                self.conditions()
            };
            self.code.runs.push(Run { set, min, max: max.unwrap_or(u32::MAX), follow: 0, memo: 0, conditions });
            self.push(Op::Run(self.code.runs.len() as u32 - 1, way));
            return;
        }
        if greed == Greed::Possessive {
            // Python takes each turn as final, not only all of them together
            let turns =
                Node::Repeat { node: Box::new(Node::Atomic(Box::new(node.clone()))), min, max, greed: Greed::Greedy };
            return self.atomic(&turns);
        }
        for _ in 0..min {
            self.node(node);
        }
        self.optional_turns(node, max.map(|max| max - min), greed);
    }

    fn optional_turns(&mut self, node: &Node, most: Option<u32>, greed: Greed) {
        // only turns that may be empty and may be followed by another one need a look at what they consumed
        let register = (most != Some(1) && can_be_empty(node)).then(|| {
            self.shape.registers += 1;
            self.base + self.shape.registers - 1
        });
        let mut splits = Vec::new();
        let mut turned = Vec::new();
        for _ in 0..most.unwrap_or(1) {
            let split = self.split();
            splits.push(split);
            if let Some(register) = register {
                self.push(Op::Turn(register));
                self.around.push(Condition::Loop(register));
            }
            self.node(node);
            if let Some(register) = register {
                self.around.pop();
                turned.push((self.push(Op::Turned { register, exit: 0 }), register));
            }
            if most.is_none() {
                self.push(Op::Jump(split as u32));
            }
        }
        let exit = self.code.here();
        for split in splits {
            let body = split as u32 + 1;
            let (first, second) = if greed == Greed::Lazy { (exit, body) } else { (body, exit) };
            self.ways(split, first, second);
        }
        for (at, register) in turned {
            self.code.ops[at] = Op::Turned { register, exit };
        }
    }
}

pub(super) fn children(node: &Node) -> impl Iterator<Item = &Node> {
    let (some, more): (&[Node], &[Node]) = match node {
        Node::Empty | Node::Char(_) | Node::Class(_) | Node::Assert(_) | Node::Backref { .. } => (&[], &[]),
        Node::Concat(parts) | Node::Alternate(parts) => (parts, &[]),
        Node::Repeat { node, .. } | Node::Capture { node, .. } | Node::Atomic(node) | Node::Look { node, .. } => {
            (slice::from_ref(node), &[])
        }
        Node::Conditional { yes, no, .. } => (slice::from_ref(yes), slice::from_ref(no)),
    };
    some.iter().chain(more)
}

fn captures(node: &Node) -> bool {
    matches!(node, Node::Capture { .. }) || children(node).any(captures)
}

/// The groups whose state decides something.
pub(super) fn asked_groups(node: &Node, found: &mut Vec<u32>) {
    if let Node::Conditional { group, .. } = node
        && !found.contains(group)
    {
        found.push(*group);
    }
    for child in children(node) {
        asked_groups(child, found);
    }
}

fn anchor(node: &Node) -> Anchor {
    match node {
        Node::Assert(Assertion::Start) => Anchor::Text,
        Node::Assert(Assertion::LineStart) => Anchor::Line,
        Node::Concat(parts) => parts.first().map_or(Anchor::None, anchor),
        Node::Alternate(branches) => branches
            .iter()
            .map(anchor)
            .reduce(|all, one| match (all, one) {
                (Anchor::None, _) | (_, Anchor::None) => Anchor::None,
                (Anchor::Text, Anchor::Text) => Anchor::Text,
                _ => Anchor::Line,
            })
            .unwrap_or(Anchor::None),
        Node::Capture { node, .. } | Node::Atomic(node) => anchor(node),
        Node::Repeat { node, min, .. } if *min > 0 => anchor(node),
        _ => Anchor::None,
    }
}

fn can_be_empty(node: &Node) -> bool {
    match node {
        Node::Empty | Node::Assert(_) | Node::Look { .. } | Node::Backref { .. } => true,
        Node::Char(_) | Node::Class(_) => false,
        Node::Concat(parts) => parts.iter().all(can_be_empty),
        Node::Alternate(branches) => branches.iter().any(can_be_empty),
        Node::Repeat { node, min, .. } => *min == 0 || can_be_empty(node),
        Node::Capture { node, .. } | Node::Atomic(node) => can_be_empty(node),
        Node::Conditional { yes, no, .. } => can_be_empty(yes) || can_be_empty(no),
    }
}
