//! One change that cannot be carried out never stops the others.

use std::process::Command;

use sekimori::firewall::nftables::{Nftables, Options};
use sekimori::firewall::{Change, Error, Firewall, Kind};

use super::{UDP, apply, ban, everywhere, jail, old, unban};
use crate::harness::net::Background;
use crate::in_namespaces;

fn held(firewall: &mut dyn Firewall) -> Vec<String> {
    let mut held: Vec<String> = firewall.banned().unwrap().bans.iter().map(|held| held.prefix.to_string()).collect();
    held.sort();
    held
}

#[test]
fn a_full_set_refuses_the_ban_that_is_too_many_and_no_other() {
    let _net = in_namespaces!();
    let sets = sekimori::firewall::ipset::Options { limit: 3, ..Default::default() };
    let ways: [Box<dyn Firewall>; 3] = [
        Box::new(Nftables::open(Options { limit: 3, ..Options::default() }).unwrap()),
        Box::new(Nftables::open(Options { limit: 3, table: "other".into(), ..old() }).unwrap()),
        Box::new(sekimori::firewall::ipset::Ipset::open(sets).unwrap()),
    ];
    for mut firewall in ways {
        let name = firewall.describe();
        apply(&mut *firewall, &[jail("sshd", &[22], &[UDP]), jail("web", &[80], &[UDP])]);
        let mut changes: Vec<Change> = (1..=5).map(|n| ban("sshd", &format!("198.51.100.{n}"), None)).collect();
        changes.extend([ban("web", "198.51.100.7", None), ban("sshd", "2001:db8:1::1", 60.0)]);
        let failed = firewall.apply(&changes).unwrap();
        let full = failed.iter().filter(|(_, error)| matches!(error, Error::Full(jail) if **jail == *"sshd")).count();
        assert_eq!((failed.len(), full), (2, 2), "{name}: {failed:?}");
        assert!(failed.iter().all(|(index, _)| *index < 5), "{name}: {failed:?}");
        let now = held(&mut *firewall);
        assert_eq!(now.len(), 5, "{name}: {now:?}");
        // Room again: whoever is let in makes place for another in the same call.
        let gone = now.iter().find(|prefix| prefix.ends_with(['1', '2', '3', '4', '5'])).unwrap().clone();
        apply(&mut *firewall, &[unban("sshd", &gone)]);
        apply(&mut *firewall, &[ban("sshd", "198.51.100.99", 60.0)]);
        assert!(held(&mut *firewall).contains(&"198.51.100.99".to_owned()), "{name}");
        firewall.remove().unwrap();
    }
}

#[test]
fn missing_and_existing_bans_and_unknown_jails_are_no_hindrance() {
    let _net = in_namespaces!();
    super::each(|name, firewall| {
        apply(firewall, &[jail("sshd", &[22], &[UDP])]);
        let many: Vec<Change> = (1..=250).map(|n| ban("sshd", &format!("198.51.100.{n}"), None)).collect();
        apply(firewall, &many[..10]);
        // Half of these are there already, and most of those to be lifted were never banned.
        apply(firewall, &many);
        let lift: Vec<Change> = (1..=250)
            .flat_map(|n| [unban("sshd", &format!("198.51.100.{n}")), unban("sshd", &format!("203.0.113.{n}"))])
            .collect();
        apply(firewall, &lift[2..]);
        assert_eq!(held(firewall), ["198.51.100.1"], "{name}");
        let failed = firewall
            .apply(&[
                ban("sshd", "198.51.100.2", None),
                ban("nobody", "198.51.100.3", None),
                Change::RemoveJail("nobody".into()),
                unban("nobody", "198.51.100.3"),
                ban("sshd", "198.51.100.4", None),
            ])
            .unwrap();
        let indices: Vec<usize> = failed.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, [1, 3], "{name}: {failed:?}");
        assert_eq!(held(firewall), ["198.51.100.1", "198.51.100.2", "198.51.100.4"], "{name}");
    });
}

#[test]
fn a_flood_of_foreign_changes_loses_no_damage() {
    let net = in_namespaces!();
    let mut firewall = Nftables::open(Options { own: false, events: 4096, ..Options::default() }).unwrap();
    apply(&mut firewall, &[jail("sshd", &[4000], &[UDP]), ban("sshd", "192.0.2.2", None)]);
    // Far more events than the socket holds, the damage among them.
    let flood: String =
        (0..5000).map(|n| format!("add element inet foreign s {{ 10.0.{}.{} }}\n", n / 250, n % 250)).collect();
    let text = format!(
        "add table inet foreign\nadd set inet foreign s {{ type ipv4_addr; }}\n{flood}delete table inet sekimori\n{flood}"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    net.server().run(&format!("nft -f {}", file.path().display()));
    assert!(firewall.heal().unwrap().is_some());
    apply(&mut firewall, &[ban("sshd", "192.0.2.2", None)]);
    assert_eq!(firewall.heal().unwrap(), None);
    assert_eq!(held(&mut firewall), ["192.0.2.2"]);
}

#[test]
fn bans_go_on_while_others_change_their_tables() {
    let net = in_namespaces!();
    net.server().run("nft add table inet foreign");
    net.server().run("nft add chain inet foreign c");
    let host = net.server();
    let others = Background::start(move || {
        host.run("nft add rule inet foreign c counter");
    });
    for options in [Options::default(), old()] {
        let mut firewall = Nftables::open(options).unwrap();
        for round in 0..200 {
            let name = ["a", "b", "c"][round % 3];
            let end = if round % 7 == 6 { Change::RemoveJail(name.into()) } else { everywhere(name) };
            apply(&mut firewall, &[everywhere(name), ban(name, "198.51.100.1", 600.0), end]);
            assert_eq!(firewall.heal().unwrap(), None);
        }
        firewall.remove().unwrap();
    }
    drop(others);
}

/// The part of the next test that runs with fewer rights; alone it does nothing.
#[test]
fn with_these_rights() {
    let Ok(rights) = std::env::var("SEKIMORI_TEST_RIGHTS") else { return };
    for kind in [Kind::Nftables, Kind::Ipset] {
        let mut firewall = match sekimori::firewall::open(kind) {
            Ok(firewall) => firewall,
            Err(error @ Error::Permission(_)) if rights == "-all" => {
                assert!(error.to_string().ends_with("CAP_NET_ADMIN is needed"), "{error}");
                continue;
            }
            Err(error) => panic!("{rights}: {error}"),
        };
        match firewall.apply(&[everywhere("sshd"), ban("sshd", "198.51.100.1", 60.0)]) {
            Ok(failed) => assert!(failed.is_empty() && held(&mut *firewall) == ["198.51.100.1"], "{failed:?}"),
            // The matches of iptables open a raw socket.
            Err(Error::Program { text, .. }) if kind == Kind::Ipset && !rights.contains("raw") => {
                assert!(text.contains("CAP_NET_RAW"), "{text}");
            }
            Err(error) => panic!("{rights}: {error}"),
        }
        firewall.remove().unwrap();
    }
}

#[test]
fn net_admin_is_the_only_right_that_is_needed_but_for_the_matches_of_iptables() {
    let _net = in_namespaces!();
    crate::harness::net::need("setpriv", "util-linux");
    // In a user namespace there is one user only; root of the machine can be another.
    let user: &[&str] = if std::fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295") {
        &["--reuid=65534", "--regid=65534", "--clear-groups"]
    } else {
        &[]
    };
    for rights in ["-all,+net_admin", "-all,+net_admin,+net_raw", "-all"] {
        let output = Command::new("setpriv")
            .args(user)
            .args([&format!("--bounding-set={rights}"), &format!("--inh-caps={rights}")])
            .arg(format!("--ambient-caps={rights}"))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "firewall::errors::with_these_rights", "--nocapture"])
            .env("SEKIMORI_TEST_RIGHTS", rights)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{rights}: {said}");
    }
}
