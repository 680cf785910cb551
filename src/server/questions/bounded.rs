//! A map that forgets what came first when it is full.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// At most so many entries, the newest.
#[derive(Debug)]
pub struct Bounded<K, V> {
    entries: HashMap<K, (u64, V)>,
    /// Keys in the order they came; those that came again stand in it twice, with another number.
    order: VecDeque<(u64, K)>,
    limit: usize,
    next: u64,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    /// An empty one; `limit` is at least 1.
    pub fn new(limit: usize) -> Bounded<K, V> {
        Bounded { entries: HashMap::new(), order: VecDeque::new(), limit: limit.max(1), next: 0 }
    }

    /// The value of a key.
    pub fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Sets the value of a key, and drops the oldest entry if there are too many.
    pub fn insert(&mut self, key: K, value: V) {
        self.next += 1;
        self.entries.insert(key.clone(), (self.next, value));
        self.order.push_back((self.next, key));
        while self.entries.len() > self.limit || self.order.len() > 2 * self.limit {
            let Some((number, key)) = self.order.pop_front() else { break };
            if self.entries.get(&key).is_some_and(|(current, _)| *current == number) {
                if self.entries.len() > self.limit {
                    self.entries.remove(&key);
                } else {
                    self.order.push_back((number, key));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_the_bookkeeping_stays_small() {
        let mut map = Bounded::new(3);
        for round in 0..100 {
            map.insert("a", round);
            map.insert("b", round);
        }
        assert!(map.order.len() <= 6);
        map.insert("c", 1);
        map.insert("a", 7);
        map.insert("d", 2);
        assert_eq!((map.get("a"), map.get("b"), map.get("c"), map.get("d")), (Some(&7), None, Some(&1), Some(&2)));
    }
}
