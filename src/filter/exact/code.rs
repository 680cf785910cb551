//! The instructions of a pattern, in two forms: one for speed, with runs of a class as single
//! instructions, and a strict one, in which every choice can be remembered. There a run without an
//! end remembers its places itself; other runs, and those in a pattern tried aside, are spelled
//! out, so that every choice is an instruction of its own.

use super::class::{self, ANY, END, Next, Set};
use crate::filter::syntax::{Assertion, Class, Greed, Node, Pattern, Side};

/// Conditions (groups asked for, loops that may turn without consuming) at one choice that the
/// memory of a strict search can tell apart.
const MAX_CONDITIONS: usize = 6;
/// Instructions looked at to find out which byte may come next.
const LOOK_AHEAD: usize = 200;

/// How a run of one class chooses its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Longest,
    Shortest,
    /// The longest, and no other.
    Only,
}

/// Characters of one class, several times.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) set: u32,
    /// Bounds in characters; `u32::MAX`: none.
    pub(super) min: u32,
    pub(super) max: u32,
    /// What may come behind it.
    pub(super) follow: u32,
    /// As those of a [`Choice`].
    pub(super) memo: u32,
    pub(super) conditions: (u32, u32),
}

/// What else a choice knows.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// What may come next on the first and on the second way.
    pub(super) first: u32,
    pub(super) second: u32,
    /// Number of its first place in the memory; it has one for each state of its conditions.
    pub(super) memo: u32,
    pub(super) conditions: (u32, u32),
}

/// What the future may depend on besides the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Whether a group is set.
    Group(u32),
    /// Whether the loop with this register has consumed nothing in this turn.
    Loop(u32),
}

/// A pattern that is tried aside; it ends in `Done`.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    pub(super) next: u32,
    /// Characters to step back first.
    pub(super) behind: u32,
    pub(super) negative: bool,
    /// It captures nothing, so its result depends on the place alone.
    pub(super) pure: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Byte(u8),
    /// Part of the pool of literals.
    Literal {
        start: u32,
        end: u32,
    },
    Class(u32),
    Run(u32, Way),
    Split {
        first: u32,
        second: u32,
        choice: u32,
    },
    Jump(u32),
    Save(u32),
    Assert(Assertion),
    /// Notes in a register where a turn of a loop begins.
    Turn(u32),
    /// Goes to `exit` if the turn has consumed nothing.
    Turned {
        register: u32,
        exit: u32,
    },
    Look(u32),
    Atomic(u32),
    Backref {
        group: u32,
        ignore_case: bool,
    },
    IfSet {
        group: u32,
        no: u32,
    },
    /// The end of a pattern tried aside.
    Done,
    Match,
}

/// Where a match can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Anywhere.
    None,
    /// At the beginning of the text.
    Text,
    /// At the beginning of a line.
    Line,
}

/// A compiled pattern in one of its forms.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) ops: Vec<Op>,
    pub(super) sets: Vec<Set>,
    pub(super) literals: Vec<u8>,
    pub(super) runs: Vec<Run>,
    pub(super) choices: Vec<Choice>,
    pub(super) conditions: Vec<Condition>,
    pub(super) asides: Vec<Aside>,
    pub(super) nexts: Vec<Next>,
    /// Places in the memory for each position of the text.
    pub(super) memos: u64,
    /// What a match may begin with.
    pub(super) first: Next,
}

/// What the compiler finds out besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) anchor: Anchor,
    /// Registers of loops, behind the borders of the groups.
    pub(super) registers: u32,
    /// The outcome depends on more than place and conditions.
    pub(super) backrefs: bool,
    /// A pattern that is tried aside captures, so that it has to be run each time.
    pub(super) captures_aside: bool,
    /// There are more conditions than the memory tells apart.
    pub(super) too_conditional: bool,
}

/// For each instruction the last question about what comes next that came across it.
struct Seen {
    questions: u32,
    last: Vec<u32>,
}

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
        let shape = Shape {
            anchor: anchor(&pattern.root),
            registers: 0,
            backrefs: false,
            captures_aside: false,
            too_conditional: false,
        };
        let mut groups = Vec::new();
        asked_groups(&pattern.root, &mut groups);
        let mut compiler = Compiler { code, shape, base: (pattern.groups + 1) * 2, groups, around: Vec::new() };
        compiler.node(&pattern.root);
        compiler.code.ops.push(Op::Match);
        let Compiler { mut code, shape, .. } = compiler;
        code.finish();
        (code, shape)
    }

    /// The strict form of a fast one.
    pub(super) fn strict(&self) -> Code {
        let mut aside = vec![false; self.ops.len()];
        for (index, op) in self.ops.iter().enumerate() {
            if let Op::Look(number) | Op::Atomic(number) = op {
                aside[index..self.asides[*number as usize].next as usize].fill(true);
            }
        }
        let remembers = |index: usize| match &self.ops[index] {
            Op::Run(run, way) => {
                let run = &self.runs[*run as usize];
                let (from, to) = run.conditions;
                let conditions = &self.conditions[from as usize..to as usize];
                run.max == u32::MAX
                    && *way != Way::Only
                    && !aside[index]
                    && conditions.iter().all(|condition| matches!(condition, Condition::Group(_)))
            }
            _ => false,
        };
        let size = |(index, op): (usize, &Op)| match op {
            Op::Run(run, way) if !remembers(index) => {
                let run = &self.runs[*run as usize];
                let optional = if run.max == u32::MAX { 3 } else { (run.max - run.min) * 2 };
                run.min + optional + if *way == Way::Only { 2 } else { 0 }
            }
            _ => 1,
        };
        let mut place = Vec::with_capacity(self.ops.len() + 1);
        let mut next = 0;
        for item in self.ops.iter().enumerate() {
            place.push(next);
            next += size(item);
        }
        let at = |old: u32| place[old as usize];
        let mut code = Code { ops: Vec::with_capacity(next as usize), ..self.clone() };
        code.nexts.truncate(1);
        for aside in &mut code.asides {
            aside.next = at(aside.next);
        }
        for (index, op) in self.ops.iter().enumerate() {
            let op = match *op {
                Op::Split { first, second, choice } => Op::Split { first: at(first), second: at(second), choice },
                Op::Jump(to) => Op::Jump(at(to)),
                Op::Turned { register, exit } => Op::Turned { register, exit: at(exit) },
                Op::IfSet { group, no } => Op::IfSet { group, no: at(no) },
                Op::Run(run, way) if !remembers(index) => {
                    code.spell_out(&self.runs[run as usize], way);
                    continue;
                }
                other => other,
            };
            code.ops.push(op);
        }
        code.finish();
        code
    }

    /// A run as single choices.
    fn spell_out(&mut self, run: &Run, way: Way) {
        let start = self.here();
        let length = run.min + if run.max == u32::MAX { 3 } else { (run.max - run.min) * 2 };
        let exit = start + length + u32::from(way == Way::Only);
        if way == Way::Only {
            self.asides.push(Aside { next: exit + 1, behind: 0, negative: false, pure: true });
            self.ops.push(Op::Atomic(self.asides.len() as u32 - 1));
        }
        for _ in 0..run.min {
            self.ops.push(Op::Class(run.set));
        }
        // What is tried aside does not depend on the loops around it.
        let conditions = run.conditions;
        let turn = |code: &mut Code| {
            let body = code.here() + 1;
            let (first, second) = if way == Way::Shortest { (exit, body) } else { (body, exit) };
            let choice = code.choice(conditions);
            code.ops.push(Op::Split { first, second, choice });
            code.ops.push(Op::Class(run.set));
        };
        if run.max == u32::MAX {
            let back = self.here();
            turn(self);
            self.ops.push(Op::Jump(back));
        } else {
            for _ in run.min..run.max {
                turn(self);
            }
        }
        if way == Way::Only {
            self.ops.push(Op::Done);
        }
    }

    fn here(&self) -> u32 {
        self.ops.len() as u32
    }

    fn choice(&mut self, conditions: (u32, u32)) -> u32 {
        self.choices.push(Choice { first: 0, second: 0, memo: 0, conditions });
        self.choices.len() as u32 - 1
    }

    /// Finds out what may come next at all choices, and numbers the memory.
    fn finish(&mut self) {
        let mut seen = Seen { questions: 0, last: vec![0; self.ops.len()] };
        self.first = self.next(0, &mut seen);
        self.memos = 0;
        for index in 0..self.ops.len() {
            match self.ops[index] {
                Op::Split { first, second, choice } => {
                    let first = self.next_number(first, &mut seen);
                    let second = self.next_number(second, &mut seen);
                    let memo = self.memos as u32;
                    let choice = &mut self.choices[choice as usize];
                    (choice.first, choice.second, choice.memo) = (first, second, memo);
                    self.memos += 1 << (choice.conditions.1 - choice.conditions.0);
                }
                Op::Run(run, _) => {
                    let follow = self.next_number(index as u32 + 1, &mut seen);
                    let memo = self.memos as u32;
                    let run = &mut self.runs[run as usize];
                    (run.follow, run.memo) = (follow, memo);
                    self.memos += 1 << (run.conditions.1 - run.conditions.0);
                }
                _ => {}
            }
        }
        self.ops.shrink_to_fit();
    }

    fn next_number(&mut self, pc: u32, seen: &mut Seen) -> u32 {
        let next = self.next(pc, seen);
        if let Some(known) = self.nexts.iter().position(|n| *n == next) {
            return known as u32;
        }
        self.nexts.push(next);
        self.nexts.len() as u32 - 1
    }

    /// Which bytes, or the end of the text, may come next if this instruction is to lead to a match.
    fn next(&self, pc: u32, seen: &mut Seen) -> Next {
        let mut found = [0; 5];
        let mut looked_at = 0;
        let mut todo = vec![pc];
        seen.questions += 1;
        while let Some(pc) = todo.pop() {
            if std::mem::replace(&mut seen.last[pc as usize], seen.questions) == seen.questions {
                continue;
            }
            if looked_at == LOOK_AHEAD {
                return ANY;
            }
            looked_at += 1;
            match self.ops[pc as usize] {
                Op::Byte(byte) => class::insert(&mut found, byte.into()),
                Op::Literal { start, .. } => class::insert(&mut found, self.literals[start as usize].into()),
                Op::Class(set) => class::unite(&mut found, &self.sets[set as usize].first),
                Op::Run(run, _) => {
                    let run = &self.runs[run as usize];
                    class::unite(&mut found, &self.sets[run.set as usize].first);
                    if run.min == 0 {
                        todo.push(pc + 1);
                    }
                }
                Op::Split { first, second, .. } => todo.extend([first, second]),
                Op::Jump(to) => todo.push(to),
                Op::Turned { exit, .. } => todo.extend([pc + 1, exit]),
                Op::IfSet { no, .. } => todo.extend([pc + 1, no]),
                Op::Assert(Assertion::End | Assertion::LineEnd) => {
                    class::insert(&mut found, b'\n'.into());
                    class::insert(&mut found, END);
                }
                Op::Assert(Assertion::VeryEnd) => class::insert(&mut found, END),
                Op::Assert(_) | Op::Save(_) | Op::Turn(_) => todo.push(pc + 1),
                Op::Look(aside) => todo.push(self.asides[aside as usize].next),
                Op::Atomic(_) => todo.push(pc + 1),
                Op::Backref { .. } | Op::Done | Op::Match => return ANY,
            }
        }
        found
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

fn children(node: &Node) -> Vec<&Node> {
    match node {
        Node::Empty | Node::Char(_) | Node::Class(_) | Node::Assert(_) | Node::Backref { .. } => Vec::new(),
        Node::Concat(parts) | Node::Alternate(parts) => parts.iter().collect(),
        Node::Repeat { node, .. } | Node::Capture { node, .. } | Node::Atomic(node) | Node::Look { node, .. } => {
            vec![node]
        }
        Node::Conditional { yes, no, .. } => vec![yes, no],
    }
}

fn captures(node: &Node) -> bool {
    matches!(node, Node::Capture { .. }) || children(node).into_iter().any(captures)
}

/// The groups whose state decides something.
fn asked_groups(node: &Node, found: &mut Vec<Condition>) {
    if let Node::Conditional { group, .. } = node
        && !found.contains(&Condition::Group(*group))
    {
        found.push(Condition::Group(*group));
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
