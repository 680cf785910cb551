//! Others at our rules: what they take away comes back, and no change is lost meanwhile.

use std::time::Duration;

use sekimori::firewall::nftables::{Nftables, Options};
use sekimori::firewall::{Damage, Firewall};

use super::{UDP, apply, ban, everywhere, jail, unban};
use crate::harness::net::{ATTACKER, ATTACKER6, SERVER, SERVER6, passes, wait_for};
use crate::in_namespaces;

/// Ways to harm the table, each one shell command.
const HARM: [&str; 8] = [
    "nft delete table inet sekimori",
    "nft flush ruleset",
    "nft flush ruleset; nft add table inet sekimori",
    "nft flush table inet sekimori",
    "nft flush chain inet sekimori prerouting",
    "nft flush map inet sekimori ports",
    "nft flush set inet sekimori sshd4; nft flush set inet sekimori sshd6",
    "nft flush table inet sekimori; nft flush map inet sekimori ports; nft delete chain inet sekimori on-sshd",
];

fn unowned() -> Options {
    Options { own: false, ..Options::default() }
}

#[test]
fn what_others_take_away_is_put_up_again() {
    let net = in_namespaces!();
    let (to, to6) = (net.server().udp(SERVER, 4000), net.server().udp(SERVER6, 4000));
    let (from, from6) = (net.attacker().udp(ATTACKER, 0), net.attacker().udp(ATTACKER6, 0));
    for harm in HARM {
        let mut firewall = Nftables::open(unowned()).unwrap();
        let bans = [ban("sshd", ATTACKER, 600.0), ban("sshd", ATTACKER6, None)];
        apply(&mut firewall, &[jail("sshd", &[4000], &[UDP]), everywhere("recidive")]);
        apply(&mut firewall, &bans);
        assert!(!passes(&from, &to) && !passes(&from6, &to6));
        assert_eq!(firewall.heal().unwrap(), None);
        let (done, said) = net.server().shell(harm);
        assert!(done, "{harm}: {said}");
        wait_for("the way in", Duration::from_secs(2), || passes(&from, &to) && passes(&from6, &to6));
        let readable = rustix::event::PollFd::from_borrowed_fd(firewall.watch().unwrap(), rustix::event::PollFlags::IN);
        assert_eq!(rustix::event::poll(&mut [readable], None).unwrap(), 1);
        assert_eq!(firewall.heal().unwrap(), Some(Damage { by: Some("nft".into()) }), "{harm}");
        apply(&mut firewall, &bans);
        assert!(!passes(&from, &to) && !passes(&from6, &to6), "{harm}");
        assert_eq!(firewall.heal().unwrap(), None);
        firewall.remove().unwrap();
    }
}

#[test]
fn changes_that_meet_a_vanished_table_are_all_carried_out() {
    let net = in_namespaces!();
    let to = net.server().udp(SERVER, 4000);
    let sources: Vec<_> = (2..8).map(|host| net.attacker().udp(&format!("192.0.2.{host}"), 0)).collect();
    let names: Vec<String> = (2..8).map(|host| format!("192.0.2.{host}")).collect();
    for harm in &HARM[..3] {
        for options in [unowned(), Options { offsets: false, ..super::old() }] {
            let mut firewall = Nftables::open(options).unwrap();
            apply(&mut firewall, &[jail("sshd", &[4000], &[UDP]), ban("sshd", &names[0], None)]);
            assert!(net.server().shell(harm).0);
            // No element of these is wrong, so none may be refused.
            let mut changes: Vec<_> = names[1..].iter().map(|name| ban("sshd", name, 600.0)).collect();
            changes.push(unban("sshd", "198.51.100.9"));
            apply(&mut firewall, &changes);
            assert!(sources[1..].iter().all(|from| !passes(from, &to)), "{harm}");
            // What was there before is asked for once more.
            assert!(firewall.heal().unwrap().is_some());
            apply(&mut firewall, &[ban("sshd", &names[0], None)]);
            assert!(sources.iter().all(|from| !passes(from, &to)), "{harm}");
            assert_eq!(firewall.heal().unwrap(), None);
            // Only taking, from a table that is gone.
            assert!(net.server().shell(harm).0);
            apply(&mut firewall, &[unban("sshd", &names[0]), unban("sshd", &names[1])]);
            assert!(firewall.heal().unwrap().is_some());
            // A jail comes while the table is gone.
            assert!(net.server().shell(harm).0);
            apply(&mut firewall, &[everywhere("recidive"), ban("recidive", &names[2], None)]);
            assert!(!passes(&sources[2], &to));
            firewall.remove().unwrap();
        }
    }
}

#[test]
fn a_flood_of_our_own_is_no_damage() {
    let _net = in_namespaces!();
    let mut firewall = Nftables::open(Options { events: 4096, ..unowned() }).unwrap();
    let flood: Vec<_> = (0..5000).map(|n| ban("sshd", &format!("10.0.{}.{}", n / 250, n % 250), 600.0)).collect();
    apply(&mut firewall, &[jail("sshd", &[4000], &[UDP])]);
    apply(&mut firewall, &flood);
    // Else the bans would be sent once more, which is the next flood, and so on for ever.
    assert_eq!(firewall.heal().unwrap(), None);
}
