//! Which strings the lines of a log are searched for, and for which jails.
//!
//! A search for a handful of strings is many times faster than anything that looks at each
//! line, but only if few lines have them. So the strings are chosen by how often they stand in
//! a sample of the log, and a jail whose strings are in most lines goes without.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, packed};
use memchr::memmem;

use super::Filter;
use crate::filter::literals::{self, Around, Choices, Strings};

/// So much of the log is looked at for the choice, in bytes.
const SAMPLE: usize = 64 << 10;
/// After so many bytes the choice is made again, with a new sample.
const AGAIN: u64 = 256 << 20;
/// Strings that stand in a larger share of the lines do not pay.
const WORTHWHILE: f64 = 0.5;
/// The most strings that one search of the fastest kind takes before it gets slower.
const FEW: usize = 32;
/// The most such searches side by side.
const MOST_SEARCHES: usize = 8;
/// The most bytes of strings whose automaton may be a large but fast one.
const LARGE: usize = 8 << 10;

/// A set of jails.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Jails(Vec<u64>);

impl Clone for Jails {
    fn clone(&self) -> Jails {
        Jails(self.0.clone())
    }

    fn clone_from(&mut self, other: &Jails) {
        self.0.clone_from(&other.0);
    }
}

impl Jails {
    fn none(count: usize) -> Jails {
        Jails(vec![0; count.div_ceil(64)])
    }

    fn insert(&mut self, jail: usize) {
        self.0[jail / 64] |= 1 << (jail % 64);
    }

    fn unite(&mut self, other: &Jails) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Whether it has members.
    pub(super) fn any(&self) -> bool {
        self.0.iter().any(|word| *word != 0)
    }

    /// Its members in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(at * 64 + bit)
            })
        })
    }
}

/// What is searched for.
#[derive(Debug)]
pub(super) struct Plan {
    /// Jails that look at every line.
    pub(super) always: Jails,
    /// All jails.
    pub(super) all: Jails,
    search: Search,
    /// Finds all strings in a line that has one; not needed if all are for the same jails.
    which: Option<AhoCorasick>,
    /// By string.
    jails: Vec<Jails>,
}

#[derive(Debug)]
enum Search {
    Nothing,
    One(Box<memmem::Finder<'static>>),
    /// Each for some of the strings.
    Few(Vec<packed::Searcher>),
    Many(AhoCorasick),
}

impl Plan {
    /// Where the next string stands from `from` on; beyond the block if there is none. `cursor`
    /// is empty at first and remembers what was found.
    #[inline]
    pub(super) fn next(&self, block: &[u8], from: usize, cursor: &mut Vec<usize>) -> usize {
        let found = match &self.search {
            Search::Nothing => None,
            Search::One(finder) => finder.find(&block[from..]).map(|at| from + at),
            Search::Few(searchers) => {
                let find = |searcher: &packed::Searcher| {
                    let found = searcher.find_in(block, (from..block.len()).into());
                    found.map_or(usize::MAX, |found| found.start())
                };
                cursor.resize(searchers.len(), 0);
                for (at, searcher) in cursor.iter_mut().zip(searchers) {
                    if *at < from || from == 0 {
                        *at = find(searcher);
                    }
                }
                cursor.iter().min().copied()
            }
            Search::Many(automaton) => {
                let input = aho_corasick::Input::new(block).range(from..).earliest(true);
                automaton.find(input).map(|found| found.start())
            }
        };
        found.unwrap_or(usize::MAX)
    }

    /// Adds the jails of the strings in a line, which has at least one.
    pub(super) fn add(&self, line: &[u8], jails: &mut Jails) {
        match &self.which {
            None => jails.unite(&self.jails[0]),
            Some(which) => {
                for found in which.find_overlapping_iter(line) {
                    jails.unite(&self.jails[found.pattern().as_usize()]);
                }
            }
        }
    }

    fn new(choices: &[Choices], cost: &dyn Fn(&[u8]) -> f64) -> Plan {
        let count = choices.len();
        let mut plan = Plan {
            always: Jails::none(count),
            all: Jails::none(count),
            search: Search::Nothing,
            which: None,
            jails: Vec::new(),
        };
        let mut strings = Strings::new();
        for (jail, choices) in choices.iter().enumerate() {
            plan.all.insert(jail);
            let chosen = choices.choose(cost);
            let chosen = chosen.filter(|chosen| chosen.iter().map(|s| cost(s)).sum::<f64>() < WORTHWHILE);
            let Some(chosen) = chosen else {
                plan.always.insert(jail);
                continue;
            };
            for string in chosen {
                let at = strings.iter().position(|known| *known == string).unwrap_or_else(|| {
                    strings.push(string);
                    plan.jails.push(Jails::none(count));
                    strings.len() - 1
                });
                plan.jails[at].insert(jail);
            }
        }
        if plan.jails.iter().any(|jails| *jails != plan.jails[0]) {
            let large = strings.iter().map(Vec::len).sum::<usize>() <= LARGE;
            let kind = large.then_some(AhoCorasickKind::DFA);
            plan.which = AhoCorasick::builder().kind(kind).prefilter(false).build(&strings).ok();
            if plan.which.is_none() {
                // Too large, which the limits of the strings rule out.
                (plan.always, strings) = (plan.all.clone(), Strings::new());
            }
        }
        literals::minimize(&mut strings);
        match Search::new(&strings) {
            Some(search) => plan.search = search,
            None => plan.always = plan.all.clone(),
        }
        plan
    }
}

impl Search {
    /// `None` if there is none for these strings.
    fn new(strings: &Strings) -> Option<Search> {
        match &strings[..] {
            [] => return Some(Search::Nothing),
            [one] => return Some(Search::One(Box::new(memmem::Finder::new(one).into_owned()))),
            _ => {}
        }
        let searches = strings.len().div_ceil(FEW);
        let share = strings.len().div_ceil(searches);
        let few = strings.chunks(share).map(packed::Searcher::new).collect::<Option<Vec<_>>>();
        match few.filter(|few| few.len() <= MOST_SEARCHES) {
            Some(few) => Some(Search::Few(few)),
            None => AhoCorasick::new(strings).ok().map(Search::Many),
        }
    }
}

/// Makes the plan, and makes it anew when the log has gone on.
#[derive(Debug, Default)]
pub(super) struct Planner {
    choices: OnceLock<Vec<Choices>>,
    plan: RwLock<Option<Arc<Plan>>>,
    /// Bytes seen since the last choice.
    seen: AtomicU64,
    /// What was collected for the next one.
    sample: Mutex<Vec<u8>>,
}

impl Planner {
    /// The plan for a block.
    pub(super) fn plan(&self, filters: &[Filter], block: &[u8]) -> Arc<Plan> {
        let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner).clone();
        let seen = self.seen.fetch_add(block.len() as u64, Ordering::Relaxed);
        let measured = seen >= SAMPLE as u64 && seen < AGAIN;
        match plan {
            Some(plan) if measured => plan,
            plan => self.choose(filters, block, plan),
        }
    }

    #[cold]
    fn choose(&self, filters: &[Filter], block: &[u8], plan: Option<Arc<Plan>>) -> Arc<Plan> {
        let choices = self.choices.get_or_init(|| filters.iter().map(choices).collect());
        let full = {
            let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
            let room = SAMPLE - sample.len();
            sample.extend_from_slice(&block[..block.len().min(room)]);
            (sample.len() == SAMPLE).then(|| std::mem::take(&mut *sample))
        };
        let new = match (full, plan) {
            (None, Some(plan)) => return plan,
            (None, None) => Plan::new(choices, &literals::expected),
            (Some(sample), _) => {
                self.seen.store(SAMPLE as u64, Ordering::Relaxed);
                let shares = Shares::new(choices, &sample);
                Plan::new(choices, &|string| shares.of(string))
            }
        };
        let new = Arc::new(new);
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Some(new.clone());
        new
    }
}

/// In which share of the lines of a sample strings stand.
struct Shares(std::collections::HashMap<Vec<u8>, f64>);

impl Shares {
    fn new(choices: &[Choices], sample: &[u8]) -> Shares {
        let mut shares = std::collections::HashMap::new();
        let lines = memchr::memchr_iter(b'\n', sample).count().max(1) as f64;
        for string in choices.iter().flat_map(Choices::all) {
            if shares.contains_key(string) {
                continue;
            }
            let (mut at, mut count) = (0, 0);
            let finder = memmem::Finder::new(string);
            while let Some(found) = finder.find(&sample[at..]) {
                count += 1;
                let Some(newline) = memchr::memchr(b'\n', &sample[at + found..]) else { break };
                at += found + newline + 1;
            }
            // Of those that are never there, the least likely; and each of them costs a little.
            let share = f64::from(count) / lines + 1e-3 * literals::expected(string) + 1e-4;
            shares.insert(string.to_vec(), share);
        }
        Shares(shares)
    }

    fn of(&self, string: &[u8]) -> f64 {
        self.0.get(string).copied().unwrap_or(1.0)
    }
}

fn choices(filter: &Filter) -> Choices {
    // What matches over several lines has to see them all.
    if filter.record.maxlines > 1 {
        return Choices::default();
    }
    filter.patterns(|patterns| Choices::new(patterns, Around::NonWord))
}
