//! Addresses and networks: who is shut out, and who never is.
//!
//! A ban is about a [`Prefix`], also when it is one host: a whole IPv6 /64 can then be
//! banned by the same road. What a filter calls the *identifier* of a failure need not
//! be an address at all (a user name, say); that is an [`Id`].

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// An IPv4 or IPv6 network; a single host is a network of full length.
///
/// Host bits are always cleared and IPv4-mapped IPv6 hosts are IPv4, so equal networks
/// are equal values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is neither an address nor a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The part before the `/` is no address.
    #[error("`{0}` is not an address")]
    NotAnAddress(String),
    /// The part after the `/` is neither a prefix length nor a contiguous mask.
    #[error("`{0}` is not a prefix length or netmask")]
    BadLength(String),
}

impl Prefix {
    /// A network; `None` if the length is greater than the family allows (32, 128).
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        match address {
            IpAddr::V4(v4) if length <= 32 => {
                let mask = (u64::from(u32::MAX) << (32 - length)) as u32;
                Some(Prefix { address: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), length })
            }
            IpAddr::V6(v6) if length <= 128 => {
                let mask = u128::MAX.checked_shl(u32::from(128 - length)).unwrap_or(0);
                Some(Prefix { address: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), length })
            }
            _ => None,
        }
    }

    /// One host; an IPv4-mapped IPv6 address becomes the IPv4 one.
    #[must_use]
    pub fn host(address: IpAddr) -> Prefix {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { 32 } else { 128 };
        Prefix { address, length }
    }

    /// The first address of the network.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Prefix length in bits.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether this is a single address.
    #[must_use]
    pub fn is_host(self) -> bool {
        self.length == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `other` lies wholly inside this network. Families never match across.
    #[must_use]
    pub fn contains(self, other: Prefix) -> bool {
        self.length <= other.length && Prefix::new(other.address, self.length).is_some_and(|network| network == self)
    }

    /// First and last address of the network.
    #[must_use]
    pub fn range(self) -> (IpAddr, IpAddr) {
        match self.address {
            IpAddr::V4(v4) => {
                let hosts = u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
                (v4.into(), Ipv4Addr::from_bits(v4.to_bits() | hosts).into())
            }
            IpAddr::V6(v6) => {
                let hosts = u128::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
                (v6.into(), Ipv6Addr::from_bits(v6.to_bits() | hosts).into())
            }
        }
    }
}

impl fmt::Display for Prefix {
    /// `192.0.2.7` for a host, `192.0.2.0/24` for a network. A network of length 0 keeps
    /// its `/0`, so that nobody takes it for an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { write!(f, "{}", self.address) } else { write!(f, "{}/{}", self.address, self.length) }
    }
}

impl FromStr for Prefix {
    type Err = Error;

    /// Address, `address/length` or `address/mask`; brackets around an IPv6 address are
    /// allowed. IPv4 octets have no leading zeros, IPv6 has no zone.
    fn from_str(text: &str) -> Result<Prefix, Error> {
        if let Some(v4) = plain(text.as_bytes()) {
            return Ok(Prefix::host(v4.into()));
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let ip: IpAddr = bare.parse().map_err(|_| Error::NotAnAddress(text.to_owned()))?;
        let Some(length) = length else {
            return Ok(Prefix::host(ip));
        };
        let bad = || Error::BadLength(length.to_owned());
        let bits = match length.parse::<IpAddr>() {
            Ok(IpAddr::V4(mask)) if ip.is_ipv4() => {
                contiguous(mask.to_bits().leading_ones(), mask.to_bits().count_ones())
            }
            Ok(IpAddr::V6(mask)) if ip.is_ipv6() => {
                contiguous(mask.to_bits().leading_ones(), mask.to_bits().count_ones())
            }
            Ok(_) => None,
            Err(_) if length.bytes().all(|b| b.is_ascii_digit()) => length.parse().ok(),
            Err(_) => None,
        };
        Prefix::new(ip, bits.ok_or_else(bad)?).ok_or_else(bad)
    }
}

/// An IPv4 address without anything around it: most texts are one, and this is the quickest way to read it.
fn plain(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut bits, mut octet, mut digits, mut dots) = (0_u32, 0_u32, 0, 0);
    for byte in text {
        match byte {
            b'0'..=b'9' if digits == 0 || octet > 0 => {
                octet = octet * 10 + u32::from(byte - b'0');
                digits += 1;
                if octet > 255 {
                    return None;
                }
            }
            b'.' if digits > 0 && dots < 3 => {
                bits = bits << 8 | octet;
                (octet, digits, dots) = (0, 0, dots + 1);
            }
            _ => return None,
        }
    }
    (dots == 3 && digits > 0).then(|| Ipv4Addr::from_bits(bits << 8 | octet))
}

/// The prefix length of a netmask whose ones all stand in front.
fn contiguous(leading: u32, ones: u32) -> Option<u8> {
    (leading == ones).then_some(leading as u8)
}

/// What a failure, a ban and `unbanip` are about: mostly a host, sometimes a network,
/// sometimes a text of the filter's choosing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    /// An address or a network.
    Prefix(Prefix),
    /// Any other text, such as a user name taken with `<F-ID>`.
    Text(Arc<str>),
}

impl Id {
    /// Reads a text as an address or network if it is one; anything else stays text.
    #[must_use]
    pub fn parse(text: &str) -> Id {
        text.parse().map_or_else(|_| Id::Text(text.into()), Id::Prefix)
    }

    /// The address or network, if it is one.
    #[must_use]
    pub fn prefix(&self) -> Option<Prefix> {
        match self {
            Id::Prefix(prefix) => Some(*prefix),
            Id::Text(_) => None,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Prefix(prefix) => prefix.fmt(f),
            Id::Text(text) => f.write_str(text),
        }
    }
}

/// A set of addresses and networks with quick look-up, for `ignoreip` and own addresses.
///
/// One hash look-up for each prefix length in use, however many entries there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddressSet {
    lengths: BTreeMap<(bool, u8), HashSet<Prefix>>,
}

impl AddressSet {
    /// Adds a network; true if it was not there.
    pub fn insert(&mut self, prefix: Prefix) -> bool {
        self.lengths.entry((prefix.address.is_ipv6(), prefix.length)).or_default().insert(prefix)
    }

    /// Removes exactly this network; true if it was there.
    pub fn remove(&mut self, prefix: Prefix) -> bool {
        let key = (prefix.address.is_ipv6(), prefix.length);
        let Some(set) = self.lengths.get_mut(&key) else { return false };
        let removed = set.remove(&prefix);
        if set.is_empty() {
            self.lengths.remove(&key);
        }
        removed
    }

    /// The entry that covers the whole of `prefix`, if there is one.
    #[must_use]
    pub fn covering(&self, prefix: Prefix) -> Option<Prefix> {
        let v6 = prefix.address.is_ipv6();
        self.lengths.range((v6, 0)..=(v6, prefix.length)).find_map(|((_, length), set)| {
            let network = Prefix::new(prefix.address, *length)?;
            set.contains(&network).then_some(network)
        })
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }
}

impl FromIterator<Prefix> for AddressSet {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> AddressSet {
        let mut set = AddressSet::default();
        set.extend(prefixes);
        set
    }
}

impl Extend<Prefix> for AddressSet {
    fn extend<I: IntoIterator<Item = Prefix>>(&mut self, prefixes: I) {
        for prefix in prefixes {
            self.insert(prefix);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn texts_become_canonical_prefixes() {
        for (text, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:DB8::A", "2001:db8::a"),
            ("[2001:db8::a]", "2001:db8::a"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("192.0.2.77/255.255.255.0", "192.0.2.0/24"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("2001:db8::1/ffff:ffff::", "2001:db8::/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), shown, "{text}");
        }
        for text in
            ["300.1.1.1", "01.2.3.4", "fe80::1%lo", "host", "192.0.2.1/33", "192.0.2.1/", "192.0.2.1/255.0.255.0", ""]
        {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_set_answers_for_networks_inside_its_entries() {
        let set: AddressSet =
            ["192.0.2.0/24", "2001:db8::/32", "198.51.100.9"].iter().map(|t| t.parse().unwrap()).collect();
        let covering = |text: &str| set.covering(text.parse().unwrap()).map(|p| p.to_string());
        assert_eq!(covering("192.0.2.200").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(covering("192.0.2.0/25").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(covering("192.0.0.0/16"), None);
        assert_eq!(covering("2001:db8:1::1").as_deref(), Some("2001:db8::/32"));
        assert_eq!(covering("198.51.100.9").as_deref(), Some("198.51.100.9"));
        assert_eq!(covering("198.51.100.8"), None);
    }
}
