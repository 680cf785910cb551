//! A reload as the real client does it: it reads the files and sends what they say.

use std::fs;

use crate::harness::daemon::{Home, failure};
use crate::harness::net::{ATTACKER, SERVER};
use crate::in_namespaces;

const JAIL: &str = "logpath = LOG\nmaxretry = 3\naction = nftables-native[port=22]\n";

#[test]
fn bans_counts_and_positions_are_kept_while_settings_change() {
    let home = Home::new().without_kernel();
    home.jail("door", JAIL);
    home.jail("gone", JAIL);
    home.jail("broken", JAIL);
    let daemon = home.start();
    daemon.fail("192.0.2.7", 3);
    daemon.fail("192.0.2.8", 2);
    daemon.wait_for("[broken] Ban 192.0.2.7");
    daemon.wait_for_times("Found 192.0.2.8", 6);

    daemon.put("more.log", "");
    daemon.jail("door", &JAIL.replace("maxretry = 3", "maxretry = 4").replace("LOG\n", "LOG\n DIR/more.log\n"));
    fs::remove_file(daemon.path("jail.d/gone.conf")).unwrap();
    daemon.put("filter.d/broken.conf", "[Definition]\nfailregex = ^ \\S+ doord: (bad key from <HOST>$\n");
    daemon.jail("broken", &format!("{JAIL}filter = broken\n"));
    let (well, answer) = daemon.ask(&["reload"]);
    assert!(!well, "{answer}");
    daemon.wait_for("INFO    Reload finished.");
    daemon.wait_for("Jail 'gone' stopped");
    assert!(
        daemon.messages().iter().any(|message| message.starts_with("ERROR") && message.contains("broken")),
        "{}",
        daemon.log()
    );
    assert_eq!(daemon.count("Jail 'door' reloaded"), 1);
    assert_eq!(daemon.tell(&["get", "door", "maxretry"]), "4");
    assert_eq!(daemon.tell(&["get", "door", "banip"]), "192.0.2.7");
    // the fourth of the new limit, from the new log
    daemon.append("more.log", &[failure("192.0.2.8")]);
    daemon.wait_for_times("[door] Found 192.0.2.8", 3);
    daemon.append("more.log", &[failure("192.0.2.8")]);
    daemon.wait_for("[door] Ban 192.0.2.8");
    // the broken one goes on with what it had: it has seen two, and only the first log
    daemon.fail("192.0.2.8", 1);
    daemon.wait_for("[broken] Ban 192.0.2.8");
    let status = daemon.tell(&["status"]);
    assert!(status.contains("broken, door"), "{status}");
    // nothing was read twice
    assert_eq!(daemon.count("[door] Found 192.0.2.7"), 3);

    // mended
    daemon.jail("broken", JAIL);
    assert_eq!(daemon.tell(&["reload", "broken"]), "OK");
    daemon.wait_for("INFO    Reload jail broken");
    daemon.wait_for("Jail 'broken' reloaded");
    assert_eq!(daemon.tell(&["get", "broken", "banip"]), "192.0.2.7 192.0.2.8");
}

#[test]
fn an_added_action_gets_the_bans_that_are_there_and_a_removed_one_ends_them() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let home = Home::new();
    home.action("noted");
    home.jail("door", JAIL);
    let daemon = home.start();
    daemon.fail("192.0.2.3", 3);
    daemon.fail(ATTACKER, 2);
    daemon.wait_for("[door] Ban 192.0.2.3");
    let noted = |daemon: &Home| fs::read_to_string(daemon.path("noted")).unwrap_or_default();
    let wait = |daemon: &Home, text: &str| {
        let limit = std::time::Duration::from_secs(10);
        crate::harness::net::wait_for(text, limit, || noted(daemon) == text);
    };
    daemon.jail("door", &format!("{JAIL} noted\n"));
    assert_eq!(daemon.tell(&["reload"]), "OK");
    wait(&daemon, "start\nban 192.0.2.3\n");
    daemon.fail(ATTACKER, 1);
    daemon.wait_for(&format!("[door] Ban {ATTACKER}"));
    wait(&daemon, "start\nban 192.0.2.3\nban 192.0.2.2\n");
    assert!(!net.attacker().reaches(22));
    assert_eq!(daemon.tell(&["get", "door", "actions"]).lines().last(), Some("nftables-native, noted"));
    // a second reload changes nothing
    assert_eq!(daemon.tell(&["reload"]), "OK");
    daemon.jail("door", JAIL);
    assert_eq!(daemon.tell(&["reload"]), "OK");
    wait(&daemon, "start\nban 192.0.2.3\nban 192.0.2.2\nunban 192.0.2.3\nunban 192.0.2.2\nstop\n");
    assert_eq!(daemon.count("Unban"), 0);
    assert!(!net.attacker().reaches(22), "the other action still bans");
    // and the other way round: only the command is left
    daemon.jail("door", "logpath = LOG\nmaxretry = 3\naction = noted\n");
    assert_eq!(daemon.tell(&["reload"]), "OK");
    assert!(net.attacker().reaches(22));
    fs::remove_file(daemon.path("noted")).unwrap();
}

#[test]
fn reload_can_lift_bans_or_restart_jails() {
    let home = Home::new().without_kernel();
    home.jail("door", JAIL);
    home.jail("other", JAIL);
    let daemon = home.start();
    daemon.fail("192.0.2.7", 3);
    daemon.fail("192.0.2.8", 2);
    daemon.wait_for("[door] Ban 192.0.2.7");
    daemon.wait_for("[other] Ban 192.0.2.7");
    assert_eq!(daemon.tell(&["restart", "door"]), "OK");
    daemon.wait_for("[door] Restore Ban 192.0.2.7");
    assert_eq!(daemon.count("[other] Restore Ban"), 0);
    assert_eq!(daemon.tell(&["get", "door", "banip"]), "192.0.2.7");
    assert_eq!(daemon.tell(&["reload", "--unban", "other"]), "OK");
    daemon.wait_for("[other] Unban 192.0.2.7");
    assert_eq!(daemon.tell(&["get", "other", "banip"]), "");
    assert_eq!(daemon.tell(&["get", "door", "banip"]), "192.0.2.7");
    // counters went through both
    daemon.fail("192.0.2.8", 1);
    daemon.wait_for("[door] Ban 192.0.2.8");
    daemon.wait_for("[other] Ban 192.0.2.8");
    let home = daemon.stop();
    assert_eq!(
        home.rows("SELECT jail, ip FROM bans ORDER BY 1, 2"),
        ["door 192.0.2.7", "door 192.0.2.8", "other 192.0.2.8"]
    );
}
