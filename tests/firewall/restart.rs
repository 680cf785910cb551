//! The daemon ends, by order or by accident, and comes back.

use std::time::Duration;

use sekimori::firewall::nftables::{Nftables, Options};
use sekimori::firewall::{Change, Error, Firewall};

use super::{UDP, apply, ban, everywhere, jail, old};
use crate::harness::net::{ATTACKER, SERVER, passes, wait_for};
use crate::in_namespaces;

#[test]
fn bans_outlive_the_daemon_and_the_next_one_takes_them_over() {
    let net = in_namespaces!();
    let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
    wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
    for (first, second) in [(Options::default(), Options::default()), (old(), old()), (old(), Options::default())] {
        let jails = [jail("sshd", &[4000], &[UDP]), everywhere("recidive")];
        let mut firewall = Nftables::open(first).unwrap();
        apply(&mut firewall, &jails);
        apply(&mut firewall, &[jail("gone", &[80], &[UDP]), ban("sshd", ATTACKER, 600.0)]);
        let rules = |text: &str| text.lines().filter(|line| line.contains("saddr @")).count();
        let before = rules(&net.server().run("nft list table inet sekimori"));
        // As `kill -9` does: the sockets are closed and nobody says good-bye.
        drop(firewall);
        assert!(!passes(&from, &to), "bans outlive the daemon");
        let mut firewall = Nftables::open(second).unwrap();
        assert!(!passes(&from, &to), "until it is told what there is");
        assert_eq!(firewall.heal().unwrap(), None);
        apply(&mut firewall, &jails);
        assert!(!passes(&from, &to), "and after");
        let text = net.server().run("nft list table inet sekimori");
        assert_eq!(rules(&text), before - 2, "rules are not doubled: {text}");
        assert!(!text.contains("gone4"), "what was not announced is gone");
        assert!(firewall.banned().unwrap().bans[0].seconds.unwrap() < 600.5);
        apply(&mut firewall, &[Change::Flush("sshd".into())]);
        assert!(passes(&from, &to));
        firewall.remove().unwrap();
        assert!(!net.server().run("nft list tables").contains("sekimori"));
    }
}

#[test]
fn an_owned_table_cannot_be_flushed_and_has_one_owner() {
    let net = in_namespaces!();
    let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
    wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
    let mut firewall = Nftables::open(Options::default()).unwrap();
    assert!(firewall.describe().contains("owner"), "this kernel is too old for the test: {}", firewall.describe());
    apply(&mut firewall, &[jail("sshd", &[4000], &[UDP]), ban("sshd", ATTACKER, 600.0)]);
    assert!(net.server().shell("nft flush ruleset").0);
    for harm in ["nft delete table inet sekimori", "nft flush set inet sekimori sshd4"] {
        assert!(!net.server().shell(harm).0, "{harm}");
    }
    assert!(!passes(&from, &to));
    assert_eq!(firewall.heal().unwrap(), None);
    for options in [Options::default(), Options { own: false, ..Options::default() }] {
        let second = Nftables::open(options).and_then(|mut second| second.apply(&[everywhere("other")]));
        assert!(matches!(second, Err(Error::Owned(_))), "{second:?}");
    }
    assert!(!passes(&from, &to));
}

#[test]
fn a_table_of_that_name_made_by_somebody_else_is_cleared() {
    let net = in_namespaces!();
    for command in [
        "nft add table inet sekimori",
        "nft add set inet sekimori sshd4 { type ipv6_addr ; }",
        "nft add map inet sekimori ports { type inet_service : verdict ; }",
        "nft add chain inet sekimori prerouting { type filter hook input priority 5 ; }",
        "nft add chain inet sekimori other { type filter hook output priority 5 ; }",
        "nft add rule inet sekimori other counter drop",
    ] {
        net.server().run(command);
    }
    let mut firewall = Nftables::open(Options::default()).unwrap();
    apply(&mut firewall, &[jail("sshd", &[4000], &[UDP]), ban("sshd", ATTACKER, 600.0)]);
    let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
    assert!(!passes(&from, &to));
    apply(&mut firewall, &[super::unban("sshd", ATTACKER)]);
    wait_for("the first packet", Duration::from_secs(2), || passes(&from, &to));
    firewall.remove().unwrap();
}
