//! What bans do to packets, over every backend.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sekimori::address::Prefix;
use sekimori::firewall::nftables::Options;
use sekimori::firewall::{Change, Error, Firewall, Scope, Verdict};

use super::{TCP, UDP, apply, ban, each, everywhere, ipset, jail, nftables, old, unban};
use crate::harness::net::{ATTACKER, ATTACKER6, Background, Host, SERVER, SERVER6, passes, wait_for};
use crate::in_namespaces;

/// So long a connection that is shut out is waited for.
const WAIT: Duration = Duration::from_millis(150);

#[test]
fn a_ban_stops_packets_until_it_is_lifted_or_over() {
    let net = in_namespaces!();
    each(|name, firewall| {
        apply(firewall, &[jail("sshd", &[4000], &[UDP])]);
        for (server, attacker) in [(SERVER, ATTACKER), (SERVER6, ATTACKER6)] {
            let (to, other) = (net.server().udp(server, 4000), net.server().udp(server, 4001));
            let from = net.attacker().udp(attacker, 0);
            wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
            apply(firewall, &[ban("sshd", attacker, 600.0)]);
            assert!(!passes(&from, &to), "{name}");
            assert!(passes(&from, &other), "{name}: the ban covers its port alone");
            apply(firewall, &[unban("sshd", attacker), unban("sshd", attacker)]);
            assert!(passes(&from, &to), "{name}");
            let begin = Instant::now();
            apply(firewall, &[ban("sshd", attacker, 0.5)]);
            assert!(!passes(&from, &to), "{name}");
            wait_for("the end of the ban", Duration::from_secs(5), || passes(&from, &to));
            assert!(begin.elapsed() >= Duration::from_millis(480), "{name}: {:?}", begin.elapsed());
        }
    });
}

#[test]
fn a_ban_that_is_there_gets_the_new_end() {
    let net = in_namespaces!();
    each(|name, firewall| {
        apply(firewall, &[jail("sshd", &[4000], &[UDP])]);
        let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
        wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
        let left = |firewall: &mut dyn Firewall| firewall.banned().unwrap().bans[0].seconds;
        for (seconds, least, most) in [(100.0, 90.0, 101.0), (1000.0, 990.0, 1001.0), (50.0, 40.0, 51.0)] {
            apply(firewall, &[ban("sshd", ATTACKER, seconds)]);
            let left = left(firewall).unwrap();
            assert!((least..most).contains(&left), "{name}: {left} of {seconds}");
        }
        apply(firewall, &[ban("sshd", ATTACKER, None)]);
        assert_eq!(left(firewall), None, "{name}");
        // A shorter one ends when it says, by the kernel's own clock: nobody lifts it here.
        apply(firewall, &[ban("sshd", ATTACKER, 0.3)]);
        assert!(!passes(&from, &to), "{name}");
        wait_for("the end of the ban", Duration::from_secs(5), || passes(&from, &to));
        wait_for("an empty list", Duration::from_secs(5), || firewall.banned().unwrap().bans.is_empty());
    });
}

#[test]
fn bans_of_centuries_hold() {
    let net = in_namespaces!();
    each(|name, firewall| {
        apply(firewall, &[jail("sshd", &[4000], &[UDP])]);
        let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
        wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
        for seconds in [3e6, 1e10, 1e300, f64::INFINITY] {
            apply(firewall, &[ban("sshd", ATTACKER, seconds)]);
            assert!(!passes(&from, &to), "{name}: {seconds}");
            let left = firewall.banned().unwrap().bans[0].seconds;
            assert!(left.is_none_or(|left| left > 2e6), "{name}: {left:?}");
            apply(firewall, &[unban("sshd", ATTACKER)]);
            assert!(passes(&from, &to), "{name}: {seconds}");
        }
    });
}

#[test]
fn jails_that_share_a_port_ban_each_for_themselves() {
    let net = in_namespaces!();
    each(|name, firewall| {
        apply(
            firewall,
            &[
                jail("postfix", &[25, 465, 587], &[TCP]),
                jail("dovecot", &[143, 465, 993], &[TCP]),
                everywhere("recidive"),
            ],
        );
        let listeners: Vec<_> =
            [25, 143, 465, 993, 8080].into_iter().map(|port| net.server().listen("0.0.0.0", port)).collect();
        let reached = |from: &str| -> Vec<u16> {
            let ports = listeners.iter().map(|l| l.local_addr().unwrap().port());
            ports.filter(|port| net.attacker().connects(from, *port, WAIT).is_ok()).collect()
        };
        assert_eq!(reached("192.0.2.3"), [25, 143, 465, 993, 8080], "{name}");
        apply(
            firewall,
            &[ban("postfix", "192.0.2.3", None), ban("dovecot", "192.0.2.4", None), ban("recidive", "192.0.2.5", None)],
        );
        assert_eq!(reached("192.0.2.3"), [143, 993, 8080], "{name}");
        assert_eq!(reached("192.0.2.4"), [25, 8080], "{name}");
        assert_eq!(reached("192.0.2.5"), [0_u16; 0], "{name}");
        assert_eq!(reached("192.0.2.6"), [25, 143, 465, 993, 8080], "{name}");
        // Jails come and go; what the others ban stays.
        apply(firewall, &[Change::RemoveJail("postfix".into())]);
        assert_eq!(reached("192.0.2.3"), [25, 143, 465, 993, 8080], "{name}");
        assert_eq!(reached("192.0.2.4"), [25, 8080], "{name}");
        apply(firewall, &[jail("dovecot", &[25], &[TCP])]);
        assert_eq!(reached("192.0.2.4"), [143, 465, 993, 8080], "{name}");
        apply(firewall, &[Change::Flush("recidive".into())]);
        assert_eq!(reached("192.0.2.5"), [25, 143, 465, 993, 8080], "{name}");
        if name == "nftables" {
            let (chains, _) = shown(net.server());
            assert!(chains.keys().eq(["on-dovecot", "prerouting", "reject", "reset"].iter()), "{chains:?}");
        }
    });
}

#[test]
fn a_jail_covers_ranges_and_long_lists_of_ports_and_its_protocols_only() {
    let net = in_namespaces!();
    each(|name, firewall| {
        let mut ports: Vec<(u16, u16)> = (0..20).map(|n| (5000 + 10 * n, 5001 + 10 * n)).collect();
        ports.push((6000, 6100));
        let scope = Scope { ports, protocols: vec![UDP], verdict: Verdict::Drop };
        let all_tcp = Scope { ports: vec![(0, u16::MAX)], protocols: vec![TCP], verdict: Verdict::Drop };
        apply(
            firewall,
            &[Change::Jail { name: "lists".into(), scope }, Change::Jail { name: "tcp".into(), scope: all_tcp }],
        );
        let _listener = net.server().listen("0.0.0.0", 5000);
        apply(firewall, &[ban("lists", "192.0.2.3", None), ban("tcp", "192.0.2.4", None)]);
        for (port, covered) in [(5000, true), (5002, false), (5191, true), (5999, false), (6050, true), (6101, false)] {
            let to = net.server().udp(SERVER, port);
            let [first, second] = ["192.0.2.3", "192.0.2.4"].map(|from| net.attacker().udp(from, 0));
            wait_for("the first packet", Duration::from_secs(2), || passes(&second, &to));
            assert_eq!(passes(&first, &to), !covered, "{name}: {port}");
        }
        assert!(net.attacker().connects("192.0.2.3", 5000, WAIT).is_ok(), "{name}");
        assert!(net.attacker().connects("192.0.2.4", 5000, WAIT).is_err(), "{name}");
    });
}

#[test]
fn networks_within_networks_are_banned_side_by_side() {
    let net = in_namespaces!();
    each(|name, firewall| {
        apply(firewall, &[jail("sshd", &[4000], &[UDP])]);
        for (server, near, far, wide, narrow) in [
            (SERVER, "192.0.2.2", "192.0.2.9", "192.0.2.0/24", "192.0.2.0/29"),
            (SERVER6, "2001:db8::2", "2001:db8::9", "2001:db8::/64", "2001:db8::/125"),
        ] {
            let to = net.server().udp(server, 4000);
            let (near_by, far) = (net.attacker().udp(near, 0), net.attacker().udp(far, 0));
            wait_for("the first packet", Duration::from_secs(2), || passes(&near_by, &to) && passes(&far, &to));
            apply(firewall, &[ban("sshd", wide, None), ban("sshd", narrow, 600.0), ban("sshd", near, 600.0)]);
            assert!(!passes(&near_by, &to) && !passes(&far, &to), "{name}");
            apply(firewall, &[unban("sshd", wide)]);
            assert!(!passes(&near_by, &to) && passes(&far, &to), "{name}");
            apply(firewall, &[unban("sshd", narrow)]);
            assert!(!passes(&near_by, &to), "{name}");
            apply(firewall, &[unban("sshd", near)]);
            assert!(passes(&near_by, &to), "{name}");
        }
    });
}

#[test]
fn rejects_are_answered_where_the_jail_says_so() {
    let net = in_namespaces!();
    each(|way, firewall| {
        let scope = |port, verdict| Scope { ports: vec![(port, port)], protocols: vec![TCP], verdict };
        for (name, port, verdict) in [("icmp", 4000, Verdict::Reject), ("rst", 4001, Verdict::RejectReset)] {
            apply(firewall, &[Change::Jail { name: name.into(), scope: scope(port, verdict) }]);
        }
        for (server, attacker) in [("0.0.0.0", "192.0.2.3"), ("::", "2001:db8::3")] {
            for (name, port) in [("icmp", 4000), ("rst", 4001)] {
                let _listener = net.server().listen(server, port);
                assert!(net.attacker().connects(attacker, port, WAIT).is_ok(), "{way}");
                apply(firewall, &[ban(name, attacker, None)]);
                let old = way.contains("old");
                let wait = if old { WAIT } else { Duration::from_secs(2) };
                let error = net.attacker().connects(attacker, port, wait).unwrap_err();
                // A kernel that cannot answer from there drops.
                let kind = if old { std::io::ErrorKind::TimedOut } else { std::io::ErrorKind::ConnectionRefused };
                assert_eq!(error.kind(), kind, "{way}: {name} {error}");
            }
        }
    });
}

#[test]
fn no_packet_slips_through_while_a_ban_is_prolonged() {
    let net = in_namespaces!();
    let without = Options { prolong: false, ..Options::default() };
    let ways: [super::Open<'_>; 3] = [&|| nftables(Options::default()), &|| nftables(without.clone()), &ipset];
    for open in ways {
        let mut firewall = open();
        apply(&mut *firewall, &[jail("sshd", &[4000], &[UDP])]);
        let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
        wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
        apply(&mut *firewall, &[ban("sshd", ATTACKER, 600.0)]);
        assert!(!passes(&from, &to));
        let stream = {
            let address = to.local_addr().unwrap();
            Background::start(move || {
                let _ = from.send_to(b"knock", address);
            })
        };
        for round in 0..2000 {
            let seconds = [Some(600.0), Some(30.0), None, Some(1200.0)][round % 4];
            apply(&mut *firewall, &[ban("sshd", ATTACKER, seconds)]);
        }
        drop(stream);
        to.set_nonblocking(true).unwrap();
        assert!(to.recv(&mut [0; 8]).is_err(), "a packet came through: {}", firewall.describe());
        let held = &firewall.banned().unwrap().bans[0];
        assert!(held.seconds.unwrap() > 1100.0, "{held:?}");
        firewall.remove().unwrap();
    }
}

#[test]
fn a_hundred_thousand_bans_in_one_call_are_all_there() {
    let net = in_namespaces!();
    each(|name, firewall| {
        let number = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + n);
        let mut changes = vec![jail("sshd", &[4000], &[UDP])];
        changes.extend((0..100_000).map(|n| Change::Ban {
            jail: "sshd".into(),
            prefix: Prefix::host(number(n).into()),
            seconds: Some(3600.0 + f64::from(n)),
        }));
        changes.push(ban("sshd", ATTACKER, None));
        apply(firewall, &changes);
        let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
        assert!(!passes(&from, &to), "{name}");
        let count = if name.starts_with("ipset") {
            let text = net.server().run("ipset list -t sekimori-sshd4");
            text.lines().find_map(|line| line.strip_prefix("Number of entries: ")).unwrap().parse::<u32>().unwrap() - 1
        } else {
            net.server().run("nft list set inet sekimori sshd4").matches("expires").count() as u32 + 1
        };
        assert_eq!(count, 100_001, "{name}");
        // Asked for a list so long, it says that it is not all.
        let listing = firewall.banned().unwrap();
        assert!(!listing.complete && listing.bans.len() == 65_536, "{name}: {}", listing.bans.len());
        apply(firewall, &[Change::Flush("sshd".into())]);
        assert!(firewall.banned().unwrap().bans.is_empty(), "{name}");
        wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
    });
}

/// What `nft` shows of our table: chains with their rules as text, and elements by set.
fn shown(host: Host) -> (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>) {
    let (mut chains, mut sets): (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>) = Default::default();
    let table: serde_json::Value = serde_json::from_str(&host.run("nft -j list table inet sekimori")).unwrap();
    for item in table["nftables"].as_array().unwrap() {
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

type Model = BTreeMap<&'static str, (Scope, BTreeSet<Prefix>)>;

/// A step chosen by dice, carried out in the model as well.
fn step(dice: &mut Dice, model: &mut Model) -> Change {
    let names = ["a", "b.c", "a long name with $(everything) in it; ünd mehr", "d"];
    let prefixes = ["198.51.100.1", "198.51.100.2", "198.51.100.0/24", "2001:db8:1::1", "2001:db8:1::/64"];
    let name = names[dice.roll(names.len())];
    let prefix = prefixes[dice.roll(prefixes.len())];
    match dice.roll(10) {
        0 | 1 => {
            let first = [22_u16, 80, 1000][dice.roll(3)];
            let ports = [vec![], vec![(first, first + 100)], vec![(50, 120), (first, first)]];
            let verdict = [Verdict::Drop, Verdict::Reject, Verdict::RejectReset][dice.roll(3)];
            let ports = ports[dice.roll(3)].clone();
            let protocols = if ports.is_empty() { vec![] } else { vec![TCP, UDP][..=dice.roll(2)].to_vec() };
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
    }
}

/// Sixty calls of a few steps each, after each of which the kernel holds what the model holds.
fn sequence(seed: u64, firewall: &mut dyn Firewall) -> Model {
    let (mut dice, mut model) = (Dice(seed), Model::new());
    for _ in 0..60 {
        let changes: Vec<Change> = (0..dice.roll(5) + 1).map(|_| step(&mut dice, &mut model)).collect();
        let failed = firewall.apply(&changes).unwrap();
        assert!(failed.iter().all(|(_, error)| matches!(error, Error::NoJail(_))), "{failed:?}");
        let mut held: Vec<_> =
            firewall.banned().unwrap().bans.into_iter().map(|held| (held.jail.to_string(), held.prefix)).collect();
        held.sort();
        let mut expected: Vec<_> = model
            .iter()
            .flat_map(|(name, (_, bans))| bans.iter().map(|prefix| ((*name).to_owned(), *prefix)))
            .collect();
        expected.sort();
        assert_eq!(held, expected, "{changes:?}");
        assert_eq!(firewall.heal().unwrap(), None);
    }
    model
}

/// The changes that make a model's state at once.
fn at_once(model: &Model) -> Vec<Change> {
    let jails = model.iter().map(|(name, (scope, _))| Change::Jail { name: (*name).into(), scope: scope.clone() });
    let bans = model.iter().flat_map(|(name, (_, bans))| bans.iter().map(|b| ban(name, &b.to_string(), None)));
    jails.chain(bans).collect()
}

#[test]
fn any_sequence_of_changes_leaves_in_nftables_what_a_model_says() {
    let net = in_namespaces!();
    for (seed, options) in [(1, Options::default()), (2, old()), (3, Options { own: false, ..Options::default() })] {
        let mut firewall = nftables(options);
        let model = sequence(seed, &mut *firewall);
        // What stands there by the way of sixty changes is what a fresh start puts up.
        let (chains, sets) = shown(net.server());
        let elements: usize = sets.iter().filter(|(name, _)| *name != "ports").map(|(_, elem)| elem.len()).sum();
        assert_eq!(elements, model.values().map(|(_, bans)| bans.len()).sum::<usize>());
        firewall.remove().unwrap();
        drop(firewall);
        let mut fresh = nftables(Options::default());
        apply(&mut *fresh, &at_once(&model));
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

#[test]
fn any_sequence_of_changes_leaves_in_ipset_what_a_model_says() {
    let net = in_namespaces!();
    let rules = |host: Host| {
        let text = ["iptables-save", "ip6tables-save"].map(|program| host.run(program)).concat();
        text.lines().filter(|line| line.contains("sekimori")).map(str::to_owned).collect::<Vec<_>>()
    };
    for seed in [4, 5] {
        let mut firewall = ipset();
        let model = sequence(seed, &mut *firewall);
        let by_steps = (rules(net.server()), net.server().run("ipset list -n"));
        firewall.remove().unwrap();
        assert_eq!((rules(net.server()), net.server().run("ipset list -n")), (vec![], String::new()));
        let mut fresh = ipset();
        apply(&mut *fresh, &at_once(&model));
        let sorted = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let strip = |rules: &[String]| rules.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(strip(&rules(net.server())), strip(&by_steps.0));
        assert_eq!(sorted(&net.server().run("ipset list -n")), sorted(&by_steps.1));
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
