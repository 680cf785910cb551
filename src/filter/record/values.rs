//! Named groups of a match while they are still places in its text.
//!
//! Most matches are forgotten at once: they are no failure by themselves and end their session.
//! So values are copied only into what is kept, a failure or a session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::session::Groups;
use crate::filter::Datum;

/// Names that are numbered; those of further ones are compared as texts.
const MOST_NAMES: u32 = 10_000;

/// Names with a meaning, numbered in this order.
const MEANT: [&str; 6] = ["mlfid", "nofail", "mlfforget", "mlfgained", "user", "content"];
pub(super) const MLFID: u32 = 0;
pub(super) const NOFAIL: u32 = 1;
pub(super) const MLFFORGET: u32 = 2;
pub(super) const MLFGAINED: u32 = 3;
pub(super) const USER: u32 = 4;
pub(super) const CONTENT: u32 = 5;

/// The name of a group, with a number that is the same for all expressions.
#[derive(Clone, Debug)]
pub struct Name {
    pub(super) text: Arc<str>,
    number: u32,
}

impl Name {
    pub(super) fn new(text: &str) -> Name {
        static KNOWN: Mutex<BTreeMap<Arc<str>, u32>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            known.extend(MEANT.iter().zip(0..).map(|(name, number)| (Arc::from(*name), number)));
        }
        if let Some((text, number)) = known.get_key_value(text) {
            return Name { text: text.clone(), number: *number };
        }
        let (text, number): (Arc<str>, u32) = (text.into(), known.len() as u32);
        // Names come from the configuration; there are few, unless somebody tries.
        if number < MOST_NAMES {
            known.insert(text.clone(), number);
        }
        Name { text, number: number.min(MOST_NAMES) }
    }

    pub(super) fn is(&self, number: u32) -> bool {
        self.number == number
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.number == other.number && (self.number < MOST_NAMES || self.text == other.text)
    }
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

    /// Whether it is the same as a kept one.
    pub(super) fn is(&self, kept: Option<&Datum>) -> bool {
        matches!((self, kept), (Value::Text(text), Some(Datum::Text(kept))) if **kept == **text)
    }
}

/// Values by name, in the order of the pattern; `None` is a group that took no part.
#[derive(Clone, Debug, Default)]
pub(super) struct Values<'t>(pub(super) Vec<(&'t Name, Option<Value<'t>>)>);

impl<'t> Values<'t> {
    pub(super) fn get(&self, name: &Name) -> Option<&Value<'t>> {
        self.0.iter().find(|(known, _)| *known == name)?.1.as_ref()
    }

    /// The text of a name with a meaning.
    pub(super) fn text(&self, number: u32) -> Option<&'t str> {
        match self.0.iter().find(|(name, _)| name.is(number))?.1 {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether the group took part.
    pub(super) fn is_set(&self, number: u32) -> bool {
        self.0.iter().any(|(name, value)| name.is(number) && value.is_some())
    }

    /// Sets a value, keeping the place of one that is there.
    pub(super) fn set(&mut self, name: &'t Name, value: Option<Value<'t>>) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Removes a value; `None` if there is no such group.
    pub(super) fn remove(&mut self, number: u32) -> Option<Option<Value<'t>>> {
        let index = self.0.iter().position(|(name, _)| name.is(number))?;
        Some(self.0.remove(index).1)
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
        self.0.iter().map(|(name, value)| (name.text.clone(), value.as_ref().map(Value::owned))).collect()
    }
}
