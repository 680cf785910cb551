//! The records of a journal: as lines, but each has its time already.

use super::dating::Here;
use super::plan::{Jails, Plan};
use super::{JailLog, Line, Scanner, Scratch, Work, decode};
use crate::filter::{Clock, record};
use crate::line::{Record, Records, Stamp};

impl Scanner {
    /// Judges every record for every jail, in order; the outcome is that of [`record::Filter::record`].
    /// `jails` as in [`Scanner::block`].
    pub fn records(&self, scratch: &mut Scratch, records: &Records<'_>, jails: &mut [JailLog<'_>], clock: &Clock) {
        let count = jails.len().min(self.filters.len());
        let jails = &mut jails[..count];
        let plan = self.planner.plan(&self.filters, records.bytes);
        let Scratch { exact, lossy, candidates, cursor, dating, kept, .. } = scratch;
        let caches = kept.of(self.id, count);
        let mut work = Work { scanner: self, block: records.bytes, exact, caches, dating, jails, clock, places: None };
        work.records(&plan, records.stamps, candidates, cursor, lossy);
        kept.tidy();
    }
}

impl Work<'_, '_> {
    fn records(
        &mut self,
        plan: &Plan,
        stamps: &[Stamp],
        candidates: &mut Jails,
        cursor: &mut Vec<usize>,
        lossy: &mut String,
    ) {
        let block = self.block;
        let always = plan.always.any();
        cursor.clear();
        let mut hit = plan.next(block, 0, cursor);
        let mut start = 0;
        for stamp in stamps {
            let (Some(bytes), next) = (block.get(start..stamp.end), stamp.end + 1) else { return };
            // of a record that was cut only the exact judgement says whether what is left matches
            if hit < stamp.end || always || stamp.cut {
                candidates.clone_from(if stamp.cut { &plan.all } else { &plan.always });
                if hit < stamp.end {
                    plan.add(bytes, candidates);
                    hit = plan.next(block, next.min(block.len()), cursor);
                }
                let text = match std::str::from_utf8(bytes) {
                    Ok(text) => text,
                    Err(_) => {
                        decode(bytes, lossy);
                        &*lossy
                    }
                };
                let line = Line { text, cut: stamp.cut };
                for index in candidates.iter() {
                    if stamp.cut || self.is_possible(index, line, Here::default()) {
                        let matched = self.judge_record(index, text, stamp);
                        self.came_this_far(index, matched);
                    }
                }
            }
            start = next;
        }
        for jail in &mut *self.jails {
            jail.tally.lines += stamps.len() as u64;
        }
    }

    /// The exact judgement; whether a failregex matched.
    fn judge_record(&mut self, index: usize, text: &str, stamp: &Stamp) -> bool {
        let jail = &mut self.jails[index];
        let filter = &self.scanner.filters[index].record;
        let options = record::Options { cut: stamp.cut, in_operation: stamp.current, ..jail.options };
        let one = Record { time: stamp.time, text: text.as_bytes() };
        let verdict = filter.record(jail.state, self.exact, &one, self.clock, options, &mut jail.failures);
        jail.tally.add(&verdict, text);
        verdict.matched
    }
}
