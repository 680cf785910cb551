//! Bans in the real kernel, with real packets, in network namespaces of each test's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sekimori::address::Prefix;
use sekimori::firewall::nftables::{Nftables, Options};
use sekimori::firewall::{Change, Error, Firewall, Scope, Verdict};

use crate::harness::net::{ATTACKER, ATTACKER6, Host, SERVER, SERVER6, need, passes, wait_for};
use crate::in_namespaces;

const TCP: u8 = 6;
const UDP: u8 = 17;
const WAIT: Duration = Duration::from_millis(150);

fn scope(ports: &[u16], protocols: &[u8]) -> Scope {
    Scope { ports: ports.iter().map(|p| (*p, *p)).collect(), protocols: protocols.to_vec(), verdict: Verdict::Drop }
}

fn jail(name: &str, ports: &[u16], protocols: &[u8]) -> Change {
    Change::Jail { name: name.into(), scope: scope(ports, protocols) }
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
    Options { own: false, prolong: false, destroy: false, reject: false, ..Options::default() }
}

fn nftables(options: Options) -> Nftables {
    Nftables::open(options).unwrap()
}

/// What `nft` shows of our table.
fn table(host: Host) -> serde_json::Value {
    serde_json::from_str(&host.run("nft -j list table inet sekimori")).unwrap()
}

#[test]
fn a_ban_stops_packets_until_it_is_lifted_or_over() {
    let net = in_namespaces!();
    for options in [Options::default(), old()] {
        let mut firewall = nftables(options);
        apply(&mut firewall, &[jail("sshd", &[4000], &[UDP])]);
        for (server, attacker) in [(SERVER, ATTACKER), (SERVER6, ATTACKER6)] {
            let (to, other) = (net.server().udp(server, 4000), net.server().udp(server, 4001));
            let from = net.attacker().udp(attacker, 0);
            wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
            apply(&mut firewall, &[ban("sshd", attacker, 600.0)]);
            assert!(!passes(&from, &to));
            assert!(passes(&from, &other), "the ban covers its port alone");
            apply(&mut firewall, &[unban("sshd", attacker), unban("sshd", attacker)]);
            assert!(passes(&from, &to));
            let begin = Instant::now();
            apply(&mut firewall, &[ban("sshd", attacker, 0.5)]);
            assert!(!passes(&from, &to));
            wait_for("the end of the ban", Duration::from_secs(5), || passes(&from, &to));
            assert!(begin.elapsed() >= Duration::from_millis(480), "{:?}", begin.elapsed());
        }
        firewall.remove().unwrap();
    }
}
