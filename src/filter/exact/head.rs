//! How every match of a pattern begins: one comparison passes over most texts.

use crate::filter::syntax::{Node, Pattern};

/// So many bytes are compared.
const LENGTH: usize = 16;

/// The bits that the first bytes of every match have in common; those of a pattern that may match
/// anywhere are none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    mask: u128,
    value: u128,
}

/// The first bytes of a text, to be compared with many heads.
#[derive(Clone, Copy, Debug)]
pub struct Start(u128);

impl Start {
    /// Of this text.
    #[inline]
    #[must_use]
    pub fn of(text: &str) -> Start {
        let bytes = text.as_bytes();
        if let Some(start) = bytes.first_chunk() {
            return Start(u128::from_le_bytes(*start));
        }
        let mut start = [0; LENGTH];
        start[..bytes.len()].copy_from_slice(bytes);
        Start(u128::from_le_bytes(start))
    }
}

impl Head {
    /// Of a pattern that only matches at the beginning of a text.
    pub(super) fn new(pattern: &Pattern) -> Head {
        let mut bits = Bits::default();
        bits.take(&pattern.root);
        Head { mask: u128::from_le_bytes(bits.mask), value: u128::from_le_bytes(bits.value) }
    }

    /// Whether a text that begins like this may match.
    #[inline]
    pub(super) fn may_be(self, start: Start) -> bool {
        start.0 & self.mask == self.value
    }
}

/// A head that is being put together.
#[derive(Clone, Default)]
struct Bits {
    mask: [u8; LENGTH],
    value: [u8; LENGTH],
    length: usize,
}

impl Bits {
    /// Adds what a node begins with; true if all of the node is in it, so that what follows can be added.
    fn take(&mut self, node: &Node) -> bool {
        match node {
            Node::Empty | Node::Assert(_) | Node::Look { .. } => true,
            Node::Char(c) => c.encode_utf8(&mut [0; 4]).bytes().all(|byte| self.push(u8::MAX, byte)),
            Node::Class(class) => {
                let bytes = (0..128).filter(|byte| class.ascii >> byte & 1 == 1);
                let (all, any) = bytes.fold((u8::MAX, 0), |(all, any), byte| (all & byte, any | byte));
                class.other.is_empty() && self.push(all | !any, all)
            }
            Node::Concat(nodes) => nodes.iter().all(|node| self.take(node)),
            Node::Capture { node, .. } | Node::Atomic(node) => self.take(node),
            Node::Alternate(nodes) => self.either(nodes.iter()),
            Node::Conditional { yes, no, .. } => self.either([&**yes, &**no].into_iter()),
            Node::Repeat { node, min, max, .. } => {
                (0..*min).take(LENGTH).all(|_| self.take(node)) && *max == Some(*min) && *min as usize <= LENGTH
            }
            Node::Backref { .. } => false,
        }
    }

    /// Adds what several nodes have in common.
    fn either<'n>(&mut self, nodes: impl Iterator<Item = &'n Node>) -> bool {
        let mut common: Option<(Bits, bool)> = None;
        for node in nodes {
            let mut bits = self.clone();
            let whole = bits.take(node);
            common = Some(match common {
                None => (bits, whole),
                Some((other, others)) => {
                    let even = bits.length == other.length;
                    (bits.and(&other), whole && others && even)
                }
            });
        }
        let (bits, whole) = common.unwrap_or((self.clone(), true));
        *self = bits;
        whole
    }

    fn and(mut self, other: &Bits) -> Bits {
        self.length = self.length.min(other.length);
        for at in 0..LENGTH {
            let alike = if at < self.length { !(self.value[at] ^ other.value[at]) } else { 0 };
            self.mask[at] &= other.mask[at] & alike;
            self.value[at] &= self.mask[at];
        }
        self
    }

    fn push(&mut self, mask: u8, value: u8) -> bool {
        if self.length == LENGTH {
            return false;
        }
        (self.mask[self.length], self.value[self.length]) = (mask, value & mask);
        self.length += 1;
        true
    }
}
