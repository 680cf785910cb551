//! What signals do.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::daemon::Home;
use crate::harness::net::{ATTACKER, SERVER};
use crate::in_namespaces;

const JAIL: &str = "logpath = LOG\nmaxretry = 2\naction = nftables-native[port=22]\n";

#[test]
fn sigterm_lifts_all_bans_and_leaves_nothing_but_the_database() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let home = Home::new();
    home.jail("door", JAIL);
    let daemon = home.start();
    daemon.fail(ATTACKER, 2);
    daemon.wait_for(&format!("[door] Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22));
    assert_eq!(fs::read_to_string(daemon.path("pid")).unwrap().trim(), daemon.id().to_string());
    // with exit code 0
    let home = daemon.stop();
    assert!(net.attacker().reaches(22));
    for name in ["sock", "pid", "db-wal", "db-shm", "db-journal"] {
        assert!(!home.path(name).exists(), "{name}");
    }
    let (_, tables) = net.server().shell("nft list tables");
    assert_eq!(tables, "");
    let messages = home.messages();
    let end = messages.iter().position(|message| message.ends_with("Shutdown in progress...")).unwrap();
    assert_eq!(
        messages[end..],
        [
            "INFO    Shutdown in progress...",
            "INFO    Stopping all jails",
            &format!("INFO    Removed logfile: '{}'", home.path("auth.log").display()),
            &format!("NOTICE  [door] Unban {ATTACKER}"),
            "INFO    Jail 'door' stopped",
            "INFO    Connection to database closed.",
            "INFO    Exiting Fail2ban",
        ]
    );
}

#[test]
fn sigusr1_opens_the_log_again() {
    let home = Home::new().without_kernel();
    home.jail("door", JAIL);
    let daemon = home.start();
    fs::rename(daemon.path("log"), daemon.path("log.1")).unwrap();
    daemon.signal(Signal::USR1);
    daemon.wait_for(&format!("INFO    rollover performed on {}", daemon.path("log").display()));
    daemon.fail("192.0.2.7", 2);
    daemon.wait_for("[door] Ban 192.0.2.7");
    assert!(!fs::read_to_string(daemon.path("log.1")).unwrap().contains("rollover"));
}

#[test]
fn sighup_reads_the_configuration_again_and_keeps_counts_and_bans() {
    let net = in_namespaces!();
    let listeners = [22, 23].map(|port| net.server().listen(SERVER, port));
    let home = Home::new();
    home.jail("door", JAIL);
    home.jail("gone", JAIL);
    let daemon = home.start();
    daemon.fail("192.0.2.3", 2);
    daemon.fail(ATTACKER, 1);
    daemon.wait_for(&format!("[door] Found {ATTACKER}"));
    daemon.wait_for("[door] Ban 192.0.2.3");

    // a higher limit, a second log, another port
    let options = "logpath = LOG\n DIR/more.log\nmaxretry = 3\naction = nftables-native[port=23]\n";
    daemon.put("more.log", "");
    daemon.jail("door", options);
    fs::remove_file(daemon.path("jail.d/gone.conf")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("INFO    Reload finished.");
    daemon.wait_for("Jail 'door' reloaded");
    daemon.wait_for("Jail 'gone' stopped");
    let reaches = |address: &str, port| net.attacker().connects(address, port, Duration::from_millis(300)).is_ok();
    assert!(reaches("192.0.2.3", 22), "another port is closed now");
    assert!(!reaches("192.0.2.3", 23), "the ban goes on");
    daemon.append("more.log", &[crate::harness::daemon::failure(ATTACKER)]);
    daemon.wait_for_times(&format!("[door] Found {ATTACKER}"), 2);
    assert!(reaches(ATTACKER, 23), "two of three");
    daemon.fail(ATTACKER, 1);
    daemon.wait_for(&format!("[door] Ban {ATTACKER}"));
    assert!(!reaches(ATTACKER, 23));
    assert_eq!(daemon.count("[gone] Ban"), 1);
    assert_eq!(daemon.count("Server ready"), 1);
    drop(listeners);
}

#[test]
fn a_broken_configuration_changes_nothing() {
    let home = Home::new().without_kernel();
    home.jail("door", JAIL);
    home.jail("other", JAIL);
    let daemon = home.start();
    daemon.fail("192.0.2.7", 1);
    daemon.wait_for("[door] Found 192.0.2.7");
    // one jail's filter cannot be compiled: the others are reloaded all the same
    daemon.put("filter.d/broken.conf", "[Definition]\nfailregex = ^ \\S+ doord: (bad key from <HOST>$\n");
    daemon.jail("door", &format!("{JAIL}filter = broken\n"));
    daemon.jail("other", &JAIL.replace("maxretry = 2", "maxretry = 1"));
    daemon.signal(Signal::HUP);
    daemon.wait_for("INFO    Reload finished.");
    daemon.wait_for("Jail 'other' reloaded");
    assert!(daemon.messages().iter().any(|message| message.starts_with("ERROR") && message.contains("door")));
    daemon.fail("192.0.2.8", 1);
    daemon.wait_for("[other] Ban 192.0.2.8");
    daemon.fail("192.0.2.7", 1);
    daemon.wait_for("[door] Ban 192.0.2.7");
    // and a folder that cannot be read at all
    fs::rename(daemon.path("jail.conf"), daemon.path("jail.conf.away")).unwrap();
    daemon.put("jail.conf", "[DEFAULT\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for("ERROR   Reload: nothing changed: the configuration is unusable: ");
    daemon.fail("192.0.2.9", 2);
    daemon.wait_for("[door] Ban 192.0.2.9");
    assert_eq!(daemon.tell(&["ping"]), "Server replied: pong");
}
