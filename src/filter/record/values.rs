//! Named groups of a match while they are still places in its text.
//!
//! Most matches are forgotten at once: they are no failure by themselves and end their session.
//! So values are copied only into what is kept, a failure or a session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use super::session::Groups;
use crate::filter::Datum;

/// Most filters have no more names in a match.
const MOSTLY: usize = 10;

/// Names with a meaning, numbered in this order.
const MEANT: [&str; 6] = ["mlfid", "nofail", "mlfforget", "mlfgained", "user", "content"];
pub(super) const MLFID: u32 = 0;
pub(super) const NOFAIL: u32 = 1;
pub(super) const MLFFORGET: u32 = 2;
pub(super) const MLFGAINED: u32 = 3;
pub(super) const USER: u32 = 4;
pub(super) const CONTENT: u32 = 5;

/// The name of a group, with a number that is the same for all expressions.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    pub(super) text: &'static Arc<str>,
    number: u32,
}

impl Name {
    /// Names come from the configuration, where there are few, and stay for good.
    pub(super) fn new(text: &str) -> Name {
        static KNOWN: Mutex<BTreeMap<&str, Name>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        for text in MEANT.into_iter().skip(known.len()).chain([text]) {
            if !known.contains_key(text) {
                let kept: &'static Arc<str> = Box::leak(Box::new(text.into()));
                let number = known.len() as u32;
                known.insert(kept, Name { text: kept, number });
            }
        }
        known[text]
    }

    pub(super) fn is(self, number: u32) -> bool {
        self.number == number
    }

    fn bit(self) -> u64 {
        bit(self.number)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.number == other.number
    }
}

fn bit(number: u32) -> u64 {
    1 << (number % 64)
}

/// A captured value.
#[derive(Clone, Debug)]
pub(super) enum Value<'t> {
    Text(&'t str),
    Tuple(Vec<Option<&'t str>>),
}

impl Value<'_> {
    pub(super) fn owned(&self) -> Datum {
        match self {
            Value::Text(text) => Datum::Text((*text).into()),
            Value::Tuple(parts) => Datum::Tuple(parts.iter().map(|part| part.map(Arc::from)).collect()),
        }
    }
}

/// Values by name, in the order of the pattern; `None` is a group that took no part.
#[derive(Clone, Debug, Default)]
pub(super) struct Values<'t> {
    all: SmallVec<[(Name, Option<Value<'t>>); MOSTLY]>,
    /// The low bits of the numbers of their names: most names that are not there are seen not to be.
    known: u64,
}

impl<'t> Values<'t> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Name, Option<Value<'t>>)> {
        self.all.iter()
    }

    /// A copy that need not live as long.
    pub(super) fn copy<'s>(&self) -> Values<'s>
    where
        't: 's,
    {
        let all = self.all.iter().map(|(name, value)| (*name, value.clone()));
        Values { all: all.collect(), known: self.known }
    }

    fn find(&self, name: Name) -> Option<usize> {
        if self.known & name.bit() == 0 {
            return None;
        }
        self.all.iter().position(|(known, _)| *known == name)
    }

    pub(super) fn get(&self, name: Name) -> Option<&Value<'t>> {
        self.all[self.find(name)?].1.as_ref()
    }

    fn meant(&self, number: u32) -> Option<usize> {
        if self.known & bit(number) == 0 {
            return None;
        }
        self.all.iter().position(|(name, _)| name.is(number))
    }

    /// The text of a name with a meaning.
    pub(super) fn text(&self, number: u32) -> Option<&'t str> {
        match self.all[self.meant(number)?].1 {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether the group took part.
    pub(super) fn is_set(&self, number: u32) -> bool {
        self.meant(number).is_some_and(|place| self.all[place].1.is_some())
    }

    /// Sets a value, keeping the place of one that is there.
    #[inline]
    pub(super) fn set(&mut self, name: Name, value: Option<Value<'t>>) {
        match self.find(name) {
            Some(place) => self.all[place].1 = value,
            None => {
                self.known |= name.bit();
                self.all.push((name, value));
            }
        }
    }

    /// Removes a value; `None` if there is no such group.
    pub(super) fn remove(&mut self, number: u32) -> Option<Option<Value<'t>>> {
        let place = self.meant(number)?;
        Some(self.all.remove(place).1)
    }

    /// Removes a value and says whether it was one and not empty.
    pub(super) fn take(&mut self, number: u32) -> bool {
        match self.remove(number) {
            Some(Some(Value::Text(text))) => !text.is_empty(),
            Some(Some(Value::Tuple(_))) => true,
            Some(None) | None => false,
        }
    }

    /// Copied, to be kept.
    pub(super) fn groups(&self) -> Groups {
        self.iter().map(|(name, value)| (name.text.clone(), value.as_ref().map(Value::owned))).collect()
    }
}

impl<'t> FromIterator<(Name, Option<Value<'t>>)> for Values<'t> {
    fn from_iter<I: IntoIterator<Item = (Name, Option<Value<'t>>)>>(values: I) -> Values<'t> {
        let all: SmallVec<_> = values.into_iter().collect();
        Values { known: all.iter().fold(0, |known, (name, _): &(Name, _)| known | name.bit()), all }
    }
}

impl<'t> IntoIterator for Values<'t> {
    type Item = (Name, Option<Value<'t>>);
    type IntoIter = smallvec::IntoIter<[Self::Item; MOSTLY]>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}
