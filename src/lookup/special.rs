//! Addresses that are nobody's on the Internet: private ones, those for documents, for the machine itself …

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::address::Prefix;

/// Networks that IANA's registries of special-purpose addresses do not call globally reachable, and
/// multicast; each with what it is for. Of IPv6 only 2000::/3 is given out at all.
const SPECIAL: [(&str, &str); 28] = [
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by the customers of a carrier"),
    ("127.0.0.0/8", "the machine itself"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112"),
    ("192.52.193.0/24", "AMT relays"),
    ("192.88.99.0/24", "6to4 relays"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "AS112"),
    ("198.18.0.0/15", "benchmarks"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("2001::/23", "protocol assignments"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "AS112"),
    ("3fff::/20", "documentation"),
    ("::1/128", "the machine itself"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
    ("64:ff9b::/96", "translated IPv4"),
];

static NETWORKS: LazyLock<Vec<(Prefix, &str)>> =
    LazyLock::new(|| SPECIAL.iter().filter_map(|(network, text)| Some((network.parse().ok()?, *text))).collect());

/// What an address is for, if it is no host's on the Internet.
#[must_use]
pub fn purpose(address: IpAddr) -> Option<&'static str> {
    let host = Prefix::host(address);
    let named = NETWORKS.iter().find(|(network, _)| network.contains(host)).map(|(_, text)| *text);
    let given_out = match host.address() {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.segments()[0] >> 13 == 1,
    };
    named.or((!given_out).then_some("not given out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_the_internet_have_no_purpose() {
        assert_eq!(NETWORKS.len(), SPECIAL.len(), "all can be read");
        for special in [
            "0.0.0.1",
            "10.1.2.3",
            "100.127.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.0.2.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "2001:0:1::1",
            "2002:a00:1::",
            "4000::1",
            "64:ff9b::808:808",
        ] {
            assert!(special.parse().is_ok_and(|address| purpose(address).is_some()), "{special}");
        }
        for public in
            ["1.1.1.1", "100.63.255.255", "163.43.24.70", "172.32.0.1", "2001:200::1", "2a00:1450::1", "::ffff:8.8.8.8"]
        {
            assert!(public.parse().is_ok_and(|address| purpose(address).is_none()), "{public}");
        }
    }
}
