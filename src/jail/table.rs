//! A map from identifiers to counters that grows in small steps.
//!
//! A hash map of a million entries doubles as a whole, and doubles again for the traces of removed
//! ones. Here the entries stand densely in blocks, and only their numbers are hashed.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::address::Id;

/// Entries of a block.
const BLOCK: usize = 1024;

#[derive(Debug)]
pub(super) struct Table<T> {
    blocks: Vec<Vec<(Id, T)>>,
    index: HashTable<u32>,
    len: usize,
    hasher: RandomState,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { blocks: Vec::new(), index: HashTable::new(), len: 0, hasher: RandomState::new() }
    }
}

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn place(&self, id: &Id) -> Option<usize> {
        let same = |place: &u32| self.blocks[*place as usize / BLOCK][*place as usize % BLOCK].0 == *id;
        self.index.find(self.hasher.hash_one(id), same).map(|place| *place as usize)
    }

    pub(super) fn get(&self, id: &Id) -> Option<&T> {
        self.place(id).map(|place| &self.blocks[place / BLOCK][place % BLOCK].1)
    }

    pub(super) fn get_mut(&mut self, id: &Id) -> Option<&mut T> {
        self.place(id).map(|place| &mut self.blocks[place / BLOCK][place % BLOCK].1)
    }

    /// The value of `id`, made if there is none.
    pub(super) fn get_or_insert(&mut self, id: &Id, value: impl FnOnce() -> T) -> &mut T {
        let place = self.place(id).unwrap_or_else(|| {
            let place = self.len;
            self.len += 1;
            if place.is_multiple_of(BLOCK) {
                self.blocks.push(Vec::with_capacity(BLOCK));
            }
            self.blocks[place / BLOCK].push((id.clone(), value()));
            let (blocks, hasher) = (&self.blocks, &self.hasher);
            self.index.insert_unique(hasher.hash_one(id), place as u32, |place| {
                hasher.hash_one(&blocks[*place as usize / BLOCK][*place as usize % BLOCK].0)
            });
            place
        });
        &mut self.blocks[place / BLOCK][place % BLOCK].1
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<T> {
        self.place(id).map(|place| self.remove_at(place).1)
    }

    /// The last entry takes the place of the removed one.
    fn remove_at(&mut self, place: usize) -> (Id, T) {
        self.forget(place, None);
        let last = self.len - 1;
        if place != last {
            self.forget(last, Some(place));
        }
        self.len = last;
        let block = self.blocks.len() - 1;
        let moved = self.blocks[block].pop().expect("the last block is never empty");
        if self.blocks[block].is_empty() {
            self.blocks.pop();
        }
        if place == last { moved } else { std::mem::replace(&mut self.blocks[place / BLOCK][place % BLOCK], moved) }
    }

    /// The entry at `place` gets another place in the index, or none.
    fn forget(&mut self, place: usize, new: Option<usize>) {
        let hash = self.hasher.hash_one(&self.blocks[place / BLOCK][place % BLOCK].0);
        if let Ok(mut found) = self.index.find_entry(hash, |known| *known as usize == place) {
            match new {
                Some(new) => *found.get_mut() = new as u32,
                None => _ = found.remove(),
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten().map(|(_, value)| value)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.blocks.iter_mut().flatten().map(|(_, value)| value)
    }

    /// Removes what is not to be kept; `gone` gets it.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool, mut gone: impl FnMut(Id, T)) {
        let mut place = 0;
        while place < self.len {
            if keep(&self.blocks[place / BLOCK][place % BLOCK].1) {
                place += 1;
            } else {
                let (id, value) = self.remove_at(place);
                gone(id, value);
            }
        }
        if self.len < self.index.capacity() / 8 {
            let (blocks, hasher) = (&self.blocks, &self.hasher);
            self.index.shrink_to(self.len, |place| {
                hasher.hash_one(&blocks[*place as usize / BLOCK][*place as usize % BLOCK].0)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_sequence_leaves_what_a_plain_map_has(steps in prop::collection::vec((0..6_u8, 0..3000_u32), 1..6000)) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (kind, number) in steps {
                let id = Id::Text(number.to_string().into());
                match kind {
                    0 => prop_assert_eq!(table.remove(&id), map.remove(&id)),
                    1 if number < 10 => {
                        table.retain(|n| n % 3 == number % 3, |_, _| {});
                        map.retain(|_, n| *n % 3 == number % 3);
                    }
                    _ => prop_assert_eq!(*table.get_or_insert(&id, || number), *map.entry(id.clone()).or_insert(number)),
                }
                prop_assert_eq!(table.len(), map.len());
                prop_assert_eq!(table.get(&id), map.get(&id));
            }
            let mut all: Vec<_> = table.iter().copied().collect();
            all.sort_unstable();
            let mut expected: Vec<_> = map.into_values().collect();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
        }
    }
}
