//! The daemon end to end: real logs, the real binary, where it matters the real kernel and real
//! packets, and the real client.

mod bans;
mod clock;
mod crash;
mod database;
mod faults;
mod journal;
mod log_lines;
mod questions;
mod reload;
mod restart;
mod signals;
mod soak;
mod sources;
mod storm;
mod syslog;
mod undecided;

use std::time::Duration;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::net::{ATTACKER, ATTACKER6, SERVER, SERVER6, wait_for};
use crate::in_namespaces;

/// With a jail `door` for port 22 that bans in the kernel.
fn start(options: &str) -> Daemon {
    let home = Home::new();
    home.jail("door", &format!("logpath = LOG\naction = nftables-native[port=22]\n{options}"));
    home.start()
}

#[test]
fn five_failed_logins_close_the_port_until_the_ban_ends() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let daemon = start("maxretry = 5\nbantime = 3\n");
    assert!(net.attacker().reaches(22));
    daemon.fail(ATTACKER, 4);
    daemon.wait_for(&format!("Found {ATTACKER}"));
    assert!(net.attacker().reaches(22), "four failures are not enough");
    daemon.fail(ATTACKER, 1);
    daemon.wait_for(&format!("NOTICE  [door] Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22), "the ban is in force");
    daemon.wait_for(&format!("NOTICE  [door] Unban {ATTACKER}"));
    wait_for("let in again", Duration::from_secs(5), || net.attacker().reaches(22));
}

#[test]
fn an_ipv6_attacker_is_shut_out_and_let_in_again() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER6, 22);
    let _other = net.server().listen(SERVER, 22);
    let reaches = || net.attacker().connects(ATTACKER6, 22, Duration::from_millis(300)).is_ok();
    let daemon = start("maxretry = 2\nbantime = 10m\n");
    wait_for("the neighbour is known", Duration::from_secs(5), reaches);
    daemon.fail("2001:0DB8:0:0::2", 2);
    daemon.wait_for(&format!("NOTICE  [door] Ban {ATTACKER6}"));
    assert!(!reaches());
    assert!(net.attacker().reaches(22), "the other family is not concerned");
    let neighbour = net.attacker().connects("2001:db8::3", 22, Duration::from_secs(2));
    assert!(neighbour.is_ok(), "nor is the next address");
    assert_eq!(daemon.tell(&["set", "door", "unbanip", ATTACKER6]), "1");
    wait_for("let in again", Duration::from_secs(5), reaches);
}

#[test]
fn ignored_addresses_are_never_banned() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let daemon = start("maxretry = 1\nignoreip = 192.0.2.0/29\n");
    daemon.fail(ATTACKER, 3);
    daemon.wait_for(&format!("Ignore {ATTACKER} by ip"));
    assert!(net.attacker().reaches(22));
}

#[test]
fn the_own_address_is_never_banned_from_a_log() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    // with this, any address could be bound; it must not make any address our own
    std::fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1").unwrap();
    let daemon = start("maxretry = 1\n");
    daemon.fail(SERVER, 2);
    daemon.wait_for(&format!("Ignore {SERVER} by ignoreself rule"));
    daemon.fail(ATTACKER, 1);
    daemon.wait_for(&format!("Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22));
}

#[test]
fn without_any_configuration_sshd_is_protected_and_user_names_name_nobody() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    // the built-in jail alone, but for its log
    let home = Home::new();
    std::fs::remove_file(home.path("jail.conf")).unwrap();
    home.put("jail.local", &format!("[sshd]\nlogpath = {}\n", home.path("auth.log").display()));
    let daemon = home.start();
    let look_alikes =
        ["Accepted password for bob", "Failed none for bob", "Connection closed by authenticating user bob"];
    daemon.write(&look_alikes.map(|text| format!("sshd[7]: {text} from 203.0.113.5 port 22 ssh2")));
    // whoever attacks chooses the name, and with it tries to have someone else banned
    let name = "root from 203.0.113.9 port 22 ssh2";
    let failed = format!("sshd[7]: Failed password for invalid user {name} from {ATTACKER} port 4711 ssh2");
    daemon.write(&[
        format!("sshd[7]: Invalid user {name} from {ATTACKER} port 4711"),
        failed.clone(),
        failed.clone(),
        format!("sshd-session[7]: Failed password for root from {ATTACKER} port 4711 ssh2"),
        failed,
    ]);
    daemon.wait_for(&format!("NOTICE  [sshd] Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22));
    let log = daemon.log();
    assert!(!log.contains("203.0.113."), "{log}");
}

#[test]
fn a_jail_that_only_the_journal_could_feed_does_not_claim_to_have_started() {
    let _net = in_namespaces!();
    let home = Home::new();
    home.jail("door", "action = nftables-native[port=22]\n");
    let daemon = home.start();
    daemon.wait_for("ERROR   Jail 'door' not started: it has no log file");
    assert!(!daemon.log().contains("Jail 'door' started"));
}
