//! Bans in the real kernel, with real packets, in network namespaces of each test's own.

mod damage;
mod effects;
mod errors;
mod figures;
mod ipset;
mod neighbours;
mod restart;

use sekimori::firewall::ipset::Ipset;
use sekimori::firewall::nftables::{Nftables, Options};
use sekimori::firewall::{Change, Firewall, Scope, Verdict};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn scope(ports: &[u16], protocols: &[u8]) -> Scope {
    Scope { ports: ports.iter().map(|p| (*p, *p)).collect(), protocols: protocols.to_vec(), verdict: Verdict::Drop }
}

fn jail(name: &str, ports: &[u16], protocols: &[u8]) -> Change {
    Change::Jail { name: name.into(), scope: scope(ports, protocols) }
}

/// A jail for all protocols and ports.
fn everywhere(name: &str) -> Change {
    Change::Jail { name: name.into(), scope: scope(&[], &[]) }
}

fn ban(jail: &str, prefix: &str, seconds: impl Into<Option<f64>>) -> Change {
    Change::Ban { jail: jail.into(), prefix: prefix.parse().unwrap(), seconds: seconds.into() }
}

fn unban(jail: &str, prefix: &str) -> Change {
    Change::Unban { jail: jail.into(), prefix: prefix.parse().unwrap() }
}

fn apply(firewall: &mut dyn Firewall, changes: &[Change]) {
    let failed = firewall.apply(changes).unwrap();
    assert!(failed.is_empty(), "{failed:?}");
}

/// As if the kernel were an old one.
fn old() -> Options {
    Options { own: false, prolong: false, destroy: false, reject: false, offsets: false, ..Options::default() }
}

fn nftables(options: Options) -> Box<dyn Firewall> {
    Box::new(Nftables::open(options).unwrap())
}

fn ipset() -> Box<dyn Firewall> {
    Box::new(Ipset::open(Default::default()).unwrap())
}

/// How a firewall is opened.
type Open<'a> = &'a dyn Fn() -> Box<dyn Firewall>;

/// Every way there is to tell the kernel, with a name for messages.
fn each(mut test: impl FnMut(&str, &mut dyn Firewall)) {
    let ipset_without = sekimori::firewall::ipset::Options { raw: false, ..Default::default() };
    let ways: [(&str, Open<'_>); 4] = [
        ("nftables", &|| nftables(Options::default())),
        ("nftables of an old kernel", &|| nftables(old())),
        ("ipset", &ipset),
        ("ipset without table raw", &|| Box::new(Ipset::open(ipset_without.clone()).unwrap())),
    ];
    for (name, open) in ways {
        let mut firewall = open();
        test(name, &mut *firewall);
        firewall.remove().unwrap();
    }
}
