//! Stock firewall actions are done natively only as long as nobody could tell the difference.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::harness::daemon::Home;
use crate::harness::net::wait_for;

/// Whether `nft` is run for a jail with a stock nftables action; the home is changed before.
fn runs_nft(change: impl FnOnce(&Home)) -> bool {
    let home = Home::new().without_kernel();
    for name in ["nftables.conf", "nftables-multiport.conf"] {
        let stock = format!("/etc/fail2ban/action.d/{name}");
        let text = fs::read_to_string(&stock).unwrap_or_else(|_| panic!("{stock}: apt-get install fail2ban"));
        home.put(&format!("action.d/{name}"), &text);
    }
    // says when the stock action before it has done its part
    home.action("noted");
    let nft = home.path("nft-ran");
    home.put("bin/nft", &format!("#!/bin/sh\necho \"$@\" >> {}\n", nft.display()));
    fs::set_permissions(home.path("bin/nft"), fs::Permissions::from_mode(0o755)).unwrap();
    home.jail("door", "logpath = LOG\nmaxretry = 1\naction = nftables-multiport[name=door, port=22]\n         noted\n");
    change(&home);
    let path = format!("{}:/usr/bin:/bin", home.path("bin").display());
    let daemon = home.variable("PATH", &path).start();
    daemon.fail("192.0.2.7", 1);
    let noted = || fs::read_to_string(daemon.path("noted")).unwrap_or_default();
    wait_for("the action", Duration::from_secs(20), || noted().contains("ban 192.0.2.7"));
    daemon.stop().path("nft-ran").exists()
}

/// Replaces a piece of an action file by something else of the same length.
fn edit(home: &Home, file: &str, what: &str, by: &str) {
    let text = fs::read_to_string(home.path(file)).unwrap();
    let at = text.rfind(what).unwrap_or_else(|| panic!("{file} has no {what}"));
    home.put(file, &format!("{}{by}{}", &text[..at], &text[at + what.len()..]));
}

#[test]
fn an_unmodified_stock_action_runs_nothing() {
    assert!(!runs_nft(|_| ()));
    // a comment is not part of what it does
    assert!(!runs_nft(|home| edit(home, "action.d/nftables.conf", "# ", "#_")));
}

#[test]
fn one_changed_character_brings_the_commands_back() {
    assert!(runs_nft(|home| edit(home, "action.d/nftables.conf", "actionunban =", "actionunban = true;")));
    assert!(runs_nft(|home| edit(home, "action.d/nftables.conf", "delete element", "delete  element")));
    assert!(runs_nft(|home| edit(home, "action.d/nftables.conf", "input", "INPUT")));
    assert!(runs_nft(|home| home.put("action.d/nftables.local", "[Definition]\nactioncheck = true\n")));
    assert!(runs_nft(|home| home.put("sekimori.toml", "native_actions = false\n")));
}

#[test]
fn another_action_or_command_that_names_its_set_brings_the_commands_back() {
    let with = |home: &Home, command: &str| home.put("action.d/noted.local", &format!("[Definition]\n{command}\n"));
    assert!(runs_nft(|home| with(home, "actionstart = nft list set inet f2b-table addr-set-door")));
    assert!(runs_nft(|home| with(home, "actionstart = nft list chain inet f2b-table f2b-chain")));
    assert!(!runs_nft(|home| with(home, "actionstop = true add table inet f2b-table")), "who makes it has it");
    assert!(runs_nft(|home| with(home, "actionunban = echo addr6-set-<name> <ip>\n[Init]\nname = door")));
    assert!(!runs_nft(|home| with(home, "actionunban = echo addr-set-other f2b-doors <ip>")));
    let jail = "logpath = LOG\nmaxretry = 1\nignorecommand = test-set addr-set-door <ip>\n\
                action = nftables-multiport[name=door, port=22]\n         noted\n";
    assert!(runs_nft(|home| home.jail("door", jail)));
    let other = "logpath = LOG\nmaxretry = 9\naction = nftables-multiport[name=door, port=25]\n";
    assert!(runs_nft(|home| home.jail("other", other)), "two jails with one set");
}
