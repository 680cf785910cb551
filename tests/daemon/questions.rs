//! Failures that the daemon has to ask about before it counts them.

use std::fs;
use std::time::Duration;

use crate::harness::daemon::Home;
use crate::harness::net::{ATTACKER, SERVER, wait_for};
use crate::in_namespaces;

#[test]
fn a_host_name_in_the_log_shuts_out_its_addresses() {
    let net = in_namespaces!();
    let home = Home::new();
    home.put("hosts", &format!("127.0.0.1 localhost\n{ATTACKER} attacker.example\n192.0.2.3 attacker.example\n"));
    net.server().run(&format!("mount --bind {} /etc/hosts", home.path("hosts").display()));
    let _listener = net.server().listen(SERVER, 22);
    home.jail("door", "logpath = LOG\nmaxretry = 2\nusedns = warn\naction = nftables-native[port=22]\n");
    let daemon = home.start();
    assert!(net.attacker().reaches(22));
    daemon.fail("attacker.example", 2);
    daemon.wait_for("NOTICE  [door] Ban 192.0.2.3");
    daemon.wait_for(&format!("NOTICE  [door] Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22));
    assert_eq!(daemon.count("WARNING Determined IP using DNS Lookup: attacker.example = {"), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_question_without_an_answer_holds_up_neither_other_jails_nor_the_end() {
    let home = Home::new().without_kernel();
    home.jail("hung", "logpath = LOG\nmaxretry = 1\nignorecommand = sleep 50\n");
    home.jail("asked", "logpath = LOG\nmaxretry = 1\nignorecommand = test <ip> = 192.0.2.3\n");
    home.jail("listed", "logpath = LOG\nmaxretry = 1\nignoreip = file:DIR/friends\n");
    home.put("friends", "192.0.2.3\n");
    let daemon = home.start();
    daemon.fail("192.0.2.3", 1);
    daemon.fail("192.0.2.4", 1);
    for line in [
        "INFO    [asked] Ignore 192.0.2.3 by command",
        "INFO    [listed] Ignore 192.0.2.3 by file:/",
        "NOTICE  [asked] Ban 192.0.2.4",
        "NOTICE  [listed] Ban 192.0.2.4",
    ] {
        daemon.wait_for(line);
    }
    assert_eq!(daemon.count("[hung] Found"), 0, "{}", daemon.log());
    // a test waits 20 s for the end, the command takes longer
    let home = daemon.stop();
    assert_eq!(home.count("[hung] Found"), 0);
    let sleeps =
        |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).is_ok_and(|words| words == b"sleep\x0050\0");
    assert!(!fs::read_dir("/proc").unwrap().flatten().any(sleeps), "the command is gone");
}

#[test]
fn up_to_four_commands_of_a_jail_are_asked_side_by_side() {
    let home = Home::new().without_kernel();
    // each one ends when four of them have begun; one after the other they would wait for ever
    let command = "mkdir DIR/run-<ip>; while [ $(ls -d DIR/run-* | wc -l) -lt 4 ]; do sleep 0.05; done; exit 1";
    home.jail("asked", &format!("logpath = LOG\nmaxretry = 1\nignorecommand = {command}\n"));
    let daemon = home.start();
    for number in 1..=4 {
        daemon.fail(&format!("198.51.100.{number}"), 1);
    }
    daemon.wait_for_times("NOTICE  [asked] Ban 198.51.100.", 4);
}

#[test]
fn what_is_being_asked_about_at_the_end_still_counts() {
    let home = Home::new().without_kernel();
    home.jail("asked", "logpath = LOG\nmaxretry = 1\nignorecommand = touch DIR/asked; sleep 0.3; exit 1\n");
    let daemon = home.start();
    daemon.fail("192.0.2.4", 1);
    wait_for("the command runs", Duration::from_secs(10), || daemon.path("asked").exists());
    let home = daemon.stop();
    assert_eq!(home.count("NOTICE  [asked] Ban 192.0.2.4"), 1, "{}", home.log());
    let daemon = home.start();
    daemon.wait_for("NOTICE  [asked] Restore Ban 192.0.2.4");
}
