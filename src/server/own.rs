//! This machine's own addresses, from the kernel's tables of local addresses.
//!
//! Trying to bind a socket would be shorter, but with `ip_nonlocal_bind` every address of the
//! world could be bound, and nobody would be banned any more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{AddressSet, Prefix};

/// All local addresses as of now: those of all interfaces, and the loopback networks.
#[must_use]
pub fn addresses() -> AddressSet {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut set: AddressSet = v4(&read("/proc/self/net/fib_trie")).map(Prefix::host).collect();
    set.extend(v6(&read("/proc/self/net/if_inet6")).map(Prefix::host));
    set.extend(Prefix::new(Ipv4Addr::new(127, 0, 0, 0).into(), 8));
    set.insert(Prefix::host(Ipv6Addr::LOCALHOST.into()));
    set
}

/// Whether the machine has an IPv6 address, if only that of the loopback interface.
#[must_use]
pub fn has_ipv6() -> bool {
    let table = std::fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    v6(&table).next().is_some()
}

/// Addresses of which the routing table says `/32 host LOCAL`.
fn v4(table: &str) -> impl Iterator<Item = IpAddr> {
    let mut address = None;
    table.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("|-- ") {
            address = text.parse().ok();
            return None;
        }
        address.filter(|_| line == "/32 host LOCAL")
    })
}

/// The first column, 32 hexadecimal digits.
fn v6(table: &str) -> impl Iterator<Item = IpAddr> {
    table.lines().filter_map(|line| {
        let digits = line.split_whitespace().next()?;
        (digits.len() == 32)
            .then(|| u128::from_str_radix(digits, 16).ok())?
            .map(|bits| Ipv6Addr::from_bits(bits).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_the_kernel_are_read() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.1\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(v4(trie).collect::<Vec<_>>(), [IpAddr::from([192, 0, 2, 1])]);
        let table = "20010db8000000000000000000000001 02 40 00 80 eth0\nbad line\n";
        assert_eq!(v6(table).map(|ip| ip.to_string()).collect::<Vec<_>>(), ["2001:db8::1"]);
    }

    #[test]
    fn loopback_is_ours() {
        let ours = addresses();
        for text in ["127.0.0.1", "127.9.9.9", "::1"] {
            assert!(text.parse().is_ok_and(|prefix| ours.covering(prefix).is_some()), "{text}");
        }
        assert!("192.0.2.77".parse().is_ok_and(|prefix| ours.covering(prefix).is_none()));
    }
}
