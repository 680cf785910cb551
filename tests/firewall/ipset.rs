//! What is ipset's own: names, foreign sets, damage, what stays behind.

use std::time::Duration;

use sekimori::firewall::ipset::{Ipset, Options};
use sekimori::firewall::{Change, Damage, Error, Firewall};

use super::{UDP, apply, ban, everywhere, ipset, jail};
use crate::harness::net::{ATTACKER, ATTACKER6, SERVER, SERVER6, passes, wait_for};
use crate::in_namespaces;

#[test]
fn a_set_that_is_not_ours_stops_its_jail_alone_and_stays() {
    let net = in_namespaces!();
    net.server().run("ipset create sekimori-sshd4 hash:ip");
    net.server().run("ipset create sekimori-web6 hash:net timeout 0");
    let mut firewall = ipset();
    let changes = [
        jail("sshd", &[22], &[UDP]),
        jail("web", &[80], &[UDP]),
        jail("other", &[4000], &[UDP]),
        ban("sshd", ATTACKER, None),
        ban("other", ATTACKER, None),
    ];
    let failed = firewall.apply(&changes).unwrap();
    let text: Vec<String> = failed.iter().map(|(index, error)| format!("{index} {error}")).collect();
    assert_eq!(text.len(), 3, "{text:?}");
    assert!(text[0].starts_with("0 set `sekimori-sshd4` of ipset is there already"), "{text:?}");
    assert!(text[0].ends_with("`ipset destroy sekimori-sshd4`"), "{text:?}");
    assert!(text[1].starts_with("1 set `sekimori-web6` of ipset"), "{text:?}");
    assert!(matches!(failed[2], (3, Error::NoJail(_))), "{text:?}");
    let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
    assert!(!passes(&from, &to));
    // Once it is out of the way the jail can be announced again.
    net.server().run("ipset destroy sekimori-sshd4");
    apply(&mut *firewall, &changes[..1]);
    apply(&mut *firewall, &changes[3..4]);
    net.server().run("ipset create sekimori-gone6 hash:ip");
    firewall.remove().unwrap();
    assert_eq!(net.server().run("ipset list -n").trim(), "sekimori-gone6");
}

#[test]
fn what_others_take_away_from_ipset_is_put_up_again() {
    let net = in_namespaces!();
    let (to, to6) = (net.server().udp(SERVER, 4000), net.server().udp(SERVER6, 4000));
    let (from, from6) = (net.attacker().udp(ATTACKER, 0), net.attacker().udp(ATTACKER6, 0));
    for raw in [true, false] {
        let table = if raw { "raw" } else { "filter" };
        for harm in [
            "ipset flush sekimori-sshd4; ipset flush sekimori-sshd6",
            "iptables -t TABLE -F; ip6tables -t TABLE -F",
            "iptables -t TABLE -F; iptables -t TABLE -X; ip6tables -t TABLE -F; ipset destroy sekimori-sshd4; ipset flush",
            "iptables-save -t TABLE | grep -v sekimori | iptables-restore -T TABLE; ip6tables -t TABLE -F sekimori",
        ] {
            let harm = harm.replace("TABLE", table);
            let mut firewall = Ipset::open(Options { raw, ..Options::default() }).unwrap();
            let bans = [ban("sshd", ATTACKER, 600.0), ban("sshd", ATTACKER6, None)];
            apply(&mut firewall, &[jail("sshd", &[4000], &[UDP]), everywhere("recidive")]);
            apply(&mut firewall, &bans);
            assert!(!passes(&from, &to) && !passes(&from6, &to6));
            assert_eq!(firewall.heal().unwrap(), None);
            let (_, said) = net.server().shell(&harm);
            wait_for(&format!("the way in: {said}"), Duration::from_secs(2), || {
                passes(&from, &to) && passes(&from6, &to6)
            });
            wait_for("the kernel to count the rules", Duration::from_secs(2), || {
                firewall.heal().unwrap() == Some(Damage { by: None })
            });
            apply(&mut firewall, &bans);
            assert!(!passes(&from, &to) && !passes(&from6, &to6), "{harm}");
            assert_eq!(firewall.heal().unwrap(), None, "{harm}");
            firewall.remove().unwrap();
            assert_eq!(net.server().run("ipset list -n"), "", "{harm}");
        }
    }
}

#[test]
fn a_change_that_meets_a_vanished_set_is_carried_out() {
    let net = in_namespaces!();
    let mut firewall = ipset();
    apply(&mut *firewall, &[jail("sshd", &[4000], &[UDP]), ban("sshd", "192.0.2.3", None)]);
    net.server().run("iptables -t raw -F");
    wait_for("the end of the set", Duration::from_secs(2), || net.server().shell("ipset destroy sekimori-sshd4").0);
    apply(&mut *firewall, &[ban("sshd", ATTACKER, 600.0)]);
    let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
    assert!(!passes(&from, &to));
    assert!(firewall.heal().unwrap().is_some());
}

#[test]
fn sets_and_rules_of_an_earlier_run_are_taken_over_and_nothing_is_doubled() {
    let net = in_namespaces!();
    let (to, from) = (net.server().udp(SERVER, 4000), net.attacker().udp(ATTACKER, 0));
    let jails = [jail("sshd", &[4000], &[UDP]), everywhere("recidive")];
    let mut first = ipset();
    apply(&mut *first, &jails);
    apply(&mut *first, &[jail("gone", &[80], &[UDP]), ban("sshd", ATTACKER, 600.0)]);
    drop(first);
    assert!(!passes(&from, &to), "bans outlive the daemon");
    let mut second = ipset();
    assert!(!passes(&from, &to));
    assert_eq!(second.heal().unwrap(), None);
    apply(&mut *second, &jails);
    assert!(!passes(&from, &to));
    let rules = net.server().run("iptables-save");
    assert_eq!(rules.matches("match-set sekimori-sshd4").count(), 1, "{rules}");
    assert_eq!(rules.matches("PREROUTING -j sekimori").count(), 1, "{rules}");
    assert_eq!(net.server().run("ipset list -n").lines().count(), 4);
    apply(&mut *second, &[Change::RemoveJail("sshd".into())]);
    assert!(passes(&from, &to));
    second.remove().unwrap();
    assert!(!net.server().run("iptables-save").contains("sekimori"));
}
