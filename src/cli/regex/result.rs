//! A match as it is told: whom it is about, looked up where it is a name.

use std::collections::HashMap;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;

use crate::address::{Id, Prefix};
use crate::control::Value;
use crate::fail2ban::repr::repr;
use crate::filter::record::Hit;
use crate::filter::{Datum, Match, Who};

/// So many answers are remembered.
const MAX_NAMES: usize = 10_000;

/// Looks up host names, each once.
#[derive(Debug, Default)]
pub struct Names(HashMap<Arc<str>, Vec<Id>>);

impl Names {
    /// Who is meant: nobody yet (`[None]`), one, or as many as a name has addresses.
    pub fn of(&mut self, who: Option<&Who>) -> Vec<Option<Id>> {
        match who {
            None => vec![None],
            Some(Who::Id(id)) => vec![Some(id.clone())],
            Some(Who::Name(name)) => self.addresses(name).into_iter().map(Some).collect(),
        }
    }

    /// The addresses of a name; none if it has none.
    fn addresses(&mut self, name: &Arc<str>) -> Vec<Id> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let found = (&**name, 0).to_socket_addrs();
        let mut ids: Vec<Id> = found.into_iter().flatten().map(|found| Id::Prefix(Prefix::host(found.ip()))).collect();
        let mut seen = std::collections::HashSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        if self.0.len() >= MAX_NAMES {
            self.0.clear();
        }
        self.0.insert(name.clone(), ids.clone());
        ids
    }
}

/// A captured value in Python's terms.
#[must_use]
pub fn value(datum: Option<&Datum>) -> Value {
    let text = |text: &Arc<str>| Value::Text(text.to_string());
    match datum {
        None => Value::None,
        Some(Datum::Text(one)) => text(one),
        Some(Datum::Set(several)) => Value::Set(several.iter().map(text).collect()),
        Some(Datum::Tuple(parts)) => {
            Value::Tuple(parts.iter().map(|part| part.as_ref().map_or(Value::None, text)).collect())
        }
    }
}

/// A value as Python prints it: a text without quotes.
#[must_use]
pub fn printed(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => repr(other),
    }
}

/// The matched lines, each in its three parts.
#[must_use]
pub fn matches(matches: &[Match]) -> Value {
    let parts = |one: &Match| {
        let (start, end) = (one.date.0 as usize, one.date.1 as usize);
        let part = |range: std::ops::Range<usize>| Value::from(one.line.get(range).unwrap_or(""));
        Value::Tuple(vec![part(0..start), part(start..end), part(end..one.line.len())])
    };
    Value::List(matches.iter().map(parts).collect())
}

/// The named groups, those that took no part included.
#[must_use]
pub fn groups(hit: &Hit) -> Vec<(Value, Value)> {
    let mut pairs: Vec<(Value, Value)> =
        hit.groups.iter().map(|(name, datum)| (Value::from(&**name), value(datum.as_ref()))).collect();
    if let Some(address) = &hit.address {
        pairs.push((Value::from("ip"), Value::Text(address.to_string())));
    }
    pairs
}
