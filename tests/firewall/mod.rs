//! Bans in the real kernel, with real packets, in network namespaces of each test's own.

mod damage;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sekimori::address::Prefix;
use sekimori::firewall::nftables::{Nftables, Options};
use sekimori::firewall::{Change, Error, Firewall, Scope, Verdict};

use crate::harness::net::{ATTACKER, ATTACKER6, Host, SERVER, SERVER6, passes, wait_for};
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

/// The table as the tests compare it: chains with their rules as text, and elements by set.
fn shown(host: Host) -> (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>) {
    let (mut chains, mut sets): (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>) = Default::default();
    for item in table(host)["nftables"].as_array().unwrap() {
        if let Some(chain) = item.get("chain") {
            chains.entry(chain["name"].as_str().unwrap().to_owned()).or_default();
        }
        if let Some(rule) = item.get("rule") {
            let text = rule["expr"].to_string();
            chains.entry(rule["chain"].as_str().unwrap().to_owned()).or_default().push(text);
        }
        if let Some(set) = item.get("set").or(item.get("map")) {
            let elements = set["elem"].as_array().cloned().unwrap_or_default();
            let mut elements: Vec<String> = elements
                .iter()
                .map(|e| e.pointer("/elem/val").unwrap_or(e))
                .map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned))
                .collect();
            elements.sort();
            sets.insert(set["name"].as_str().unwrap().to_owned(), elements);
        }
    }
    (chains, sets)
}

#[test]
fn jails_that_share_a_port_ban_each_for_themselves() {
    let net = in_namespaces!();
    let mut firewall = nftables(Options::default());
    apply(
        &mut firewall,
        &[jail("postfix", &[25, 465, 587], &[TCP]), jail("dovecot", &[143, 465, 993], &[TCP]), everywhere("recidive")],
    );
    let listeners: Vec<_> =
        [25, 143, 465, 993, 8080].into_iter().map(|port| net.server().listen("0.0.0.0", port)).collect();
    let reached = |from: &str| -> Vec<u16> {
        let ports = listeners.iter().map(|l| l.local_addr().unwrap().port());
        ports.filter(|port| net.attacker().connects(from, *port, WAIT).is_ok()).collect()
    };
    assert_eq!(reached("192.0.2.3"), [25, 143, 465, 993, 8080]);
    apply(
        &mut firewall,
        &[ban("postfix", "192.0.2.3", None), ban("dovecot", "192.0.2.4", None), ban("recidive", "192.0.2.5", None)],
    );
    assert_eq!(reached("192.0.2.3"), [143, 993, 8080]);
    assert_eq!(reached("192.0.2.4"), [25, 8080]);
    assert_eq!(reached("192.0.2.5"), [0_u16; 0]);
    assert_eq!(reached("192.0.2.6"), [25, 143, 465, 993, 8080]);
    // Jails come and go; what the others ban stays.
    apply(&mut firewall, &[Change::RemoveJail("postfix".into())]);
    assert_eq!(reached("192.0.2.3"), [25, 143, 465, 993, 8080]);
    assert_eq!(reached("192.0.2.4"), [25, 8080]);
    apply(&mut firewall, &[jail("dovecot", &[25], &[TCP])]);
    assert_eq!(reached("192.0.2.4"), [143, 465, 993, 8080]);
    apply(&mut firewall, &[Change::Flush("recidive".into())]);
    assert_eq!(reached("192.0.2.5"), [25, 143, 465, 993, 8080]);
    let (chains, _) = shown(net.server());
    assert!(chains.keys().eq(["on-dovecot", "prerouting", "reject", "reset"].iter()), "{chains:?}");
}

#[test]
fn networks_within_networks_are_banned_side_by_side() {
    let net = in_namespaces!();
    let mut firewall = nftables(Options::default());
    apply(&mut firewall, &[jail("sshd", &[4000], &[UDP])]);
    for (server, near, far, wide, narrow) in [
        (SERVER, "192.0.2.2", "192.0.2.9", "192.0.2.0/24", "192.0.2.0/29"),
        (SERVER6, "2001:db8::2", "2001:db8::9", "2001:db8::/64", "2001:db8::/125"),
    ] {
        let to = net.server().udp(server, 4000);
        let (near, far) = (net.attacker().udp(near, 0), net.attacker().udp(far, 0));
        wait_for("the first packet", Duration::from_secs(2), || passes(&near, &to) && passes(&far, &to));
        apply(&mut firewall, &[ban("sshd", wide, None), ban("sshd", narrow, 600.0)]);
        assert!(!passes(&near, &to) && !passes(&far, &to));
        apply(&mut firewall, &[unban("sshd", wide)]);
        assert!(!passes(&near, &to) && passes(&far, &to));
        apply(&mut firewall, &[unban("sshd", narrow)]);
        assert!(passes(&near, &to));
    }
}

#[test]
fn rejects_are_answered_where_the_jail_says_so() {
    let net = in_namespaces!();
    let mut firewall = nftables(Options::default());
    let scope = |port, verdict| Scope { ports: vec![(port, port)], protocols: vec![TCP], verdict };
    for (name, port, verdict) in [("icmp", 4000, Verdict::Reject), ("rst", 4001, Verdict::RejectReset)] {
        apply(&mut firewall, &[Change::Jail { name: name.into(), scope: scope(port, verdict) }]);
    }
    for (server, attacker) in [("0.0.0.0", "192.0.2.3"), ("::", "2001:db8::3")] {
        for (name, port) in [("icmp", 4000), ("rst", 4001)] {
            let _listener = net.server().listen(server, port);
            assert!(net.attacker().connects(attacker, port, WAIT).is_ok());
            apply(&mut firewall, &[ban(name, attacker, None)]);
            let error = net.attacker().connects(attacker, port, Duration::from_secs(2)).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{name} {error}");
        }
    }
}

#[test]
fn no_packet_slips_through_while_a_ban_is_prolonged() {
    let net = in_namespaces!();
    for options in [Options::default(), Options { prolong: false, ..Options::default() }] {
        let mut firewall = nftables(options);
        apply(&mut firewall, &[jail("sshd", &[4000], &[UDP])]);
        let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
        wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
        apply(&mut firewall, &[ban("sshd", ATTACKER, 600.0)]);
        assert!(!passes(&from, &to));
        let stream = {
            let address = to.local_addr().unwrap();
            crate::harness::net::Background::start(move || {
                let _ = from.send_to(b"knock", address);
            })
        };
        for round in 0..2000 {
            let seconds = [Some(600.0), Some(30.0), None, Some(1200.0)][round % 4];
            apply(&mut firewall, &[ban("sshd", ATTACKER, seconds)]);
        }
        drop(stream);
        to.set_nonblocking(true).unwrap();
        assert!(to.recv(&mut [0; 8]).is_err(), "a packet came through");
        let held = &firewall.banned().unwrap().bans[0];
        assert!(held.seconds.unwrap() > 1100.0, "{held:?}");
        firewall.remove().unwrap();
    }
}

#[test]
fn any_sequence_of_changes_leaves_what_a_model_says() {
    let net = in_namespaces!();
    for (seed, options) in [(1, Options::default()), (2, old()), (3, Options { own: false, ..Options::default() })] {
        let mut firewall = nftables(options);
        let mut dice = Dice(seed);
        let mut model: BTreeMap<&str, (Scope, std::collections::BTreeSet<Prefix>)> = BTreeMap::new();
        let names = ["a", "b.c", "a long name with $(everything) in it; ünd mehr", "d"];
        let prefixes = ["198.51.100.1", "198.51.100.2", "198.51.100.0/24", "2001:db8:1::1", "2001:db8:1::/64"];
        for _ in 0..60 {
            let mut changes = Vec::new();
            for _ in 0..dice.roll(5) + 1 {
                let name = names[dice.roll(names.len())];
                let prefix = prefixes[dice.roll(prefixes.len())];
                let change = match dice.roll(10) {
                    0 | 1 => {
                        let first = [22_u16, 80, 1000][dice.roll(3)];
                        let ports = [vec![], vec![(first, first + 100)], vec![(50, 120), (first, first)]];
                        let verdict = [Verdict::Drop, Verdict::Reject, Verdict::RejectReset][dice.roll(3)];
                        let ports = ports[dice.roll(3)].clone();
                        let protocols =
                            if ports.is_empty() { vec![] } else { vec![TCP, UDP][..=dice.roll(2)].to_vec() };
                        let scope = Scope { ports, protocols, verdict };
                        model.entry(name).or_insert((scope.clone(), Default::default())).0 = scope.clone();
                        Change::Jail { name: name.into(), scope }
                    }
                    2 => {
                        model.remove(name);
                        Change::RemoveJail(name.into())
                    }
                    3 => {
                        model.entry(name).and_modify(|(_, bans)| bans.clear());
                        Change::Flush(name.into())
                    }
                    4 | 5 => {
                        model.entry(name).and_modify(|(_, bans)| {
                            bans.remove(&prefix.parse().unwrap());
                        });
                        unban(name, prefix)
                    }
                    _ => {
                        model.entry(name).and_modify(|(_, bans)| {
                            bans.insert(prefix.parse().unwrap());
                        });
                        ban(name, prefix, [None, Some(500.0), Some(1e9)][dice.roll(3)])
                    }
                };
                changes.push(change);
            }
            let failed = firewall.apply(&changes).unwrap();
            assert!(failed.iter().all(|(_, error)| matches!(error, Error::NoJail(_))), "{failed:?}");
            let mut held: Vec<_> =
                firewall.banned().unwrap().bans.into_iter().map(|held| (held.jail.to_string(), held.prefix)).collect();
            held.sort();
            let expected: Vec<_> = model
                .iter()
                .flat_map(|(name, (_, bans))| bans.iter().map(|prefix| ((*name).to_owned(), *prefix)))
                .collect();
            let mut expected = expected;
            expected.sort();
            assert_eq!(held, expected);
            assert_eq!(firewall.heal().unwrap(), None);
        }
        // What stands there by the way of sixty changes is what a fresh start puts up.
        let (chains, sets) = shown(net.server());
        let elements: usize = sets.iter().filter(|(name, _)| *name != "ports").map(|(_, elem)| elem.len()).sum();
        assert_eq!(elements, model.values().map(|(_, bans)| bans.len()).sum::<usize>());
        firewall.remove().unwrap();
        drop(firewall);
        let mut fresh = nftables(Options::default());
        let jails: Vec<Change> = model
            .iter()
            .map(|(name, (scope, _))| Change::Jail { name: (*name).into(), scope: scope.clone() })
            .collect();
        let bans = model.iter().flat_map(|(name, (_, bans))| bans.iter().map(|b| ban(name, &b.to_string(), None)));
        let all: Vec<Change> = jails.into_iter().chain(bans).collect();
        apply(&mut fresh, &all);
        let (fresh_chains, fresh_sets) = shown(net.server());
        let fresh_map = fresh_sets.get("ports").cloned().unwrap_or_default();
        assert_eq!(sets.get("ports").cloned().unwrap_or_default(), fresh_map);
        for (chain, rules) in &fresh_chains {
            if !["prerouting", "reject", "reset"].contains(&chain.as_str()) {
                // Sets of networks that were banned once stay until their jail goes.
                assert!(rules.iter().all(|rule| chains[chain].contains(rule)), "{chain}: {rules:?} {chains:?}");
            }
        }
        assert!(chains.keys().eq(fresh_chains.keys()));
        fresh.remove().unwrap();
    }
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}
