//! The strict form of a pattern, made from its fast one.

use super::code::{Aside, Code, Condition, Op, Run, Way};

impl Code {
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
}
