//! Whom, for how long and by what means the daemon bans.

use std::fs;
use std::time::Duration;

use crate::harness::daemon::{Daemon, Home, failure};
use crate::harness::net::{ATTACKER, Net, SERVER, wait_for};
use crate::in_namespaces;

const JAIL: &str = "logpath = LOG\nmaxretry = 2\nbantime = 10m\naction = nftables-native[port=22]\n";

fn reaches(net: &Net, port: u16) -> bool {
    net.attacker().reaches(port)
}

/// Length of the ban of an address as the client tells it.
fn length(daemon: &Daemon, jail: &str, address: &str) -> String {
    let told = daemon.tell(&["get", jail, "banip", "--with-time"]);
    let line = told.lines().find(|line| line.starts_with(&format!("{address} "))).unwrap_or_else(|| panic!("{told}"));
    line.split(" + ").nth(1).unwrap().split(" = ").next().unwrap().to_owned()
}

#[test]
fn who_comes_again_is_banned_longer() {
    let home = Home::new().without_kernel();
    let increment = "bantime.increment = true\n";
    let jails = [
        ("plain", ""),
        ("half", "bantime.factor = 0.5\n"),
        ("list", "bantime.multipliers = 1 2 4 8 16 32 64\n"),
        ("capped", "bantime.maxtime = 1h\n"),
        ("formula", "bantime.formula = ban.Time * 10 * ban.Count\n"),
        ("all", "bantime.overalljails = true\n"),
    ];
    for (name, options) in jails {
        home.jail(name, &format!("{JAIL}{increment}{options}"));
    }
    let home = home.start().stop();
    // how many bans there were, long ago
    let history = [
        ("plain", 1, "192.0.2.1", "1200"),
        ("plain", 2, "192.0.2.2", "2400"),
        ("plain", 3, "192.0.2.3", "4800"),
        ("half", 1, "192.0.2.4", "600"),
        ("half", 2, "192.0.2.5", "1200"),
        ("list", 1, "192.0.2.6", "1200"),
        ("list", 7, "192.0.2.7", "38400"),
        ("capped", 9, "192.0.2.8", "3600"),
        ("formula", 3, "192.0.2.9", "18000"),
    ];
    for (jail, count, address, _) in history {
        home.change(&format!(
            "INSERT INTO bips(ip, jail, timeofban, bantime, bancount) VALUES('{address}', '{jail}', 1000, 600, {count})"
        ));
    }
    let daemon = home.start();
    for (jail, count, address, expected) in history {
        assert_eq!(daemon.tell(&["set", jail, "banip", address]), "1");
        assert_eq!(length(&daemon, jail, address), expected, "{jail} {count}");
    }
    // three bans of `plain` by now
    daemon.tell(&["set", "all", "banip", "192.0.2.2"]);
    assert_eq!(length(&daemon, "all", "192.0.2.2"), "4800");
    let home = daemon.stop();
    let rows = home.rows("SELECT bantime, bancount FROM bips WHERE ip = '192.0.2.3'");
    assert_eq!(rows, ["4800 4"]);
    // a failure of somebody with two bans counts thrice, or as much as a ban needs
    home.change("UPDATE bips SET timeofban = 1000, bantime = 600");
    let daemon = home.start();
    daemon.fail("192.0.2.1", 1);
    daemon.wait_for("[plain] Found 192.0.2.1, bad");
    daemon.wait_for("[plain] Ban 192.0.2.1");
}

#[test]
fn an_action_is_told_the_grown_length_of_a_ban_at_once() {
    let home = Home::new().without_kernel();
    let noted = home.path("noted").display().to_string();
    home.put(
        "action.d/noted.conf",
        &format!(
            "[Definition]\nactionban = echo ban <bantime> <bancount> >> {noted}\n\
             actionprolong = echo prolong <bantime> >> {noted}\nactionunban = echo unban >> {noted}\n"
        ),
    );
    home.jail(
        "door",
        "logpath = LOG\nmaxretry = 1\nbantime = 10m\nbantime.increment = true\nbantime.rndtime = 0\naction = noted\n",
    );
    let home = home.start().stop();
    home.change("INSERT INTO bips(ip, jail, timeofban, bantime, bancount) VALUES('192.0.2.7', 'door', 1000, 600, 1)");
    let daemon = home.start();
    daemon.fail("192.0.2.7", 1);
    daemon.wait_for("[door] Ban 192.0.2.7");
    assert_eq!(daemon.tell(&["set", "door", "unbanip", "192.0.2.7"]), "1");
    let noted = || fs::read_to_string(&noted).unwrap_or_default();
    wait_for("the action", Duration::from_secs(10), || noted().ends_with("unban\n"));
    assert_eq!(noted(), "ban 1200 2\nunban\n");
}

#[test]
fn networks_and_texts_are_banned_and_unbanned_by_hand() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let home = Home::new();
    home.jail("door", JAIL);
    let daemon = home.start();
    assert_eq!(daemon.tell(&["set", "door", "banip", "192.0.2.77/29"]), "1");
    daemon.wait_for("[door] Ban 192.0.2.72/29");
    assert!(reaches(&net, 22));
    assert_eq!(daemon.tell(&["set", "door", "banip", "192.0.2.0/30", "a b", "192.0.2.3"]), "3");
    assert!(!reaches(&net, 22));
    assert_eq!(daemon.tell(&["get", "door", "banip"]).lines().count(), 1);
    assert_eq!(daemon.tell(&["set", "door", "unbanip", "192.0.2.0/30"]), "1");
    assert!(reaches(&net, 22));
    // a network that is no ban itself lifts all bans inside of it
    assert_eq!(daemon.tell(&["set", "door", "banip", ATTACKER]), "1");
    assert!(!reaches(&net, 22));
    assert_eq!(daemon.tell(&["set", "door", "unbanip", "192.0.2.0/24"]), "3");
    assert!(reaches(&net, 22));
    let (well, said) = daemon.ask(&["set", "door", "unbanip", "--report-absent", "192.0.2.9"]);
    assert!(!well && said.contains("192.0.2.9"), "{said}");
    assert_eq!(daemon.tell(&["set", "door", "unbanip", "192.0.2.9"]), "0");
    assert_eq!(daemon.tell(&["set", "door", "banip", "bob"]), "1");
    assert_eq!(daemon.tell(&["set", "door", "banip", ATTACKER]), "1");
    assert_eq!(daemon.tell(&["unban", "--all"]), "3");
    assert!(reaches(&net, 22));
    let home = daemon.stop();
    assert_eq!(home.rows("SELECT count(*) FROM bans"), ["0"]);
    assert_eq!(home.rows("SELECT count(*) FROM bips"), ["0"]);
}

#[test]
fn an_identifier_is_banned_in_place_of_the_address_and_few_lines_are_kept() {
    let home = Home::new().without_kernel();
    let noted = home.path("noted");
    let noted = noted.display();
    home.put(
        "action.d/noted.conf",
        &format!(
            "[Definition]\nactionban = echo \"<fid> <ip> <failures>\" >> {noted}\nactionunban = echo un<fid> >> {noted}\n"
        ),
    );
    home.put("filter.d/user.conf", "[Definition]\nfailregex = ^ \\S+ doord: user <F-ID>\\S+</F-ID> from <ADDR>$\n");
    home.jail("door", "logpath = LOG\nfilter = user\nmaxretry = 4\nmaxmatches = 2\naction = noted\n");
    let daemon = home.start();
    let line = |number: u32| format!("doord: user bob{{$(id)}} from 192.0.2.{number}");
    daemon.write(&[line(1), line(2), line(3), line(4)]);
    daemon.wait_for("NOTICE  [door] Ban bob{$(id)}");
    let noted = || fs::read_to_string(daemon.path("noted")).unwrap_or_default();
    wait_for("the action", Duration::from_secs(10), || !noted().is_empty());
    assert_eq!(noted(), "bob{$(id)} 192.0.2.1 4\n");
    let home = daemon.kill();
    let stored = home.rows("SELECT ip, json_array_length(data, '$.matches'), json_extract(data, '$.ip') FROM bans");
    assert_eq!(stored, ["bob{$(id)} 2 192.0.2.1"]);
    // the real one cannot restore such a ban
    let daemon = home.start();
    daemon.wait_for("NOTICE  [door] Restore Ban bob{$(id)}");
    assert_eq!(daemon.tell(&["set", "door", "unbanip", "bob{$(id)}"]), "1");
    let noted = || fs::read_to_string(daemon.path("noted")).unwrap_or_default();
    wait_for("the action", Duration::from_secs(10), || noted().ends_with("unbob{$(id)}\n"));
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let home = Home::new().argument("--dry-run");
    home.action("noted");
    home.jail("door", &format!("{JAIL} noted\n"));
    let daemon = home.start();
    daemon.fail(ATTACKER, 2);
    daemon.wait_for(&format!("NOTICE  [door] Ban {ATTACKER}"));
    assert!(reaches(&net, 22));
    assert_eq!(daemon.tell(&["get", "door", "banip"]), ATTACKER);
    let (_, tables) = net.server().shell("nft list tables");
    assert_eq!(tables, "");
    let home = daemon.stop();
    assert!(!home.path("noted").exists() && !home.path("db").exists());
}

/// A folder with the stock nftables actions of the Debian package.
fn with_stock_actions() -> Home {
    let home = Home::new();
    for name in ["nftables.conf", "nftables-multiport.conf"] {
        let stock = format!("/etc/fail2ban/action.d/{name}");
        let text = fs::read_to_string(&stock).unwrap_or_else(|_| panic!("{stock}: apt-get install fail2ban"));
        home.put(&format!("action.d/{name}"), &text);
    }
    home.jail("door", "logpath = LOG\nmaxretry = 2\naction = nftables-multiport[name=door, port=22]\n");
    home
}

#[test]
fn stock_actions_are_done_natively_or_if_asked_for_by_their_commands() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    for native in [true, false] {
        let home = with_stock_actions();
        home.put("sekimori.toml", &format!("native_actions = {native}\n"));
        let daemon = home.start();
        daemon.fail(ATTACKER, 2);
        daemon.wait_for(&format!("[door] Ban {ATTACKER}"));
        wait_for("the ban", Duration::from_secs(10), || !reaches(&net, 22));
        let (_, rules) = net.server().shell("nft list ruleset");
        assert_eq!(rules.contains("f2b-table"), !native, "{rules}");
        assert_eq!(rules.contains("addr-set-door"), !native, "{rules}");
        assert_eq!(daemon.tell(&["set", "door", "unbanip", ATTACKER]), "1");
        wait_for("the end of the ban", Duration::from_secs(10), || reaches(&net, 22));
        daemon.fail(ATTACKER, 2);
        wait_for("the ban", Duration::from_secs(10), || !reaches(&net, 22));
        daemon.stop();
        assert!(reaches(&net, 22));
        let (_, rules) = net.server().shell("nft list ruleset");
        assert!(!rules.contains("addr-set-door") && !rules.contains(ATTACKER), "{rules}");
        assert!(net.server().shell("nft flush ruleset").0);
    }
}

#[test]
fn an_action_that_hangs_delays_neither_bans_nor_answers() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let home = Home::new();
    home.put("action.d/hang.conf", "[Definition]\nactionban = sleep 60\n[Init]\ntimeout = 5\n");
    home.jail("door", &format!("{JAIL} hang\n"));
    home.jail("other", JAIL);
    let daemon = home.start();
    daemon.fail("192.0.2.3", 2);
    daemon.wait_for("[door] Ban 192.0.2.3");
    daemon.fail(ATTACKER, 2);
    daemon.wait_for(&format!("[door] Ban {ATTACKER}"));
    daemon.wait_for(&format!("[other] Ban {ATTACKER}"));
    assert!(!reaches(&net, 22));
    assert_eq!(daemon.tell(&["ping"]), "Server replied: pong");
    assert!(daemon.tell(&["status", "door"]).contains(ATTACKER));
    assert_eq!(daemon.count("timed out"), 0, "the first command is still running");
    daemon.wait_for("timed out after 5 seconds.");
}

#[test]
fn where_the_administrator_is_logged_in_from_is_warned_about_first() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let home = Home::new().variable("SSH_CONNECTION", &format!("{ATTACKER} 4711 {SERVER} 22"));
    home.jail("door", JAIL);
    let daemon = home.start();
    daemon.wait_for(&format!("WARNING This server was started by SSH from {ATTACKER}."));
    daemon.fail(ATTACKER, 2);
    daemon.wait_for(&format!("WARNING [door] {ATTACKER} would be banned now"));
    assert!(reaches(&net, 22));
    assert_eq!(daemon.count("Ban "), 0);
    daemon.fail("192.0.2.3", 2);
    daemon.wait_for("[door] Ban 192.0.2.3");
    daemon.fail(ATTACKER, 2);
    daemon.wait_for(&format!("NOTICE  [door] Ban {ATTACKER}"));
    assert!(!reaches(&net, 22));
    let home = daemon.stop();
    assert_eq!(home.rows("SELECT ip FROM bans ORDER BY 1"), [ATTACKER, "192.0.2.3"]);
}

/// So many sources fail once, among them offenders; whether these are banned, and the peak of memory.
fn flood(sources: u32, offenders: u32) -> (Duration, u64) {
    let home = Home::new().without_kernel();
    let now = crate::harness::daemon::stamp();
    let address =
        |number: u32| std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 1, (number >> 16) as u16, number as u16);
    let mut text = String::new();
    for number in 0..sources {
        text += &format!("{now} host {}\n", failure(&address(number).to_string()));
        if number % (sources / (offenders * 5)) == 0 {
            let offender = number / (sources / (offenders * 5)) % offenders;
            text += &format!("{now} host {}\n", failure(&format!("2001:db8:ffff::{offender:x}")));
        }
    }
    text += &format!("{now} host {}\n", failure("192.0.2.99")).repeat(5);
    home.jail("door", "logpath = LOG\nmaxretry = 5\nfindtime = 1h\nbantime = 1h\naction = nftables-native[port=22]\n");
    let daemon = home.start();
    let begin = std::time::Instant::now();
    daemon.put("auth.log", &text);
    daemon.wait_for_end("[door] Ban 192.0.2.99", Duration::from_secs(120));
    let (taken, memory) = (begin.elapsed(), daemon.figure("VmHWM"));
    let banned = daemon.tell(&["get", "door", "banip"]);
    let banned: std::collections::HashSet<&str> = banned.split_whitespace().collect();
    for offender in 0..offenders {
        let address = format!("2001:db8:ffff::{offender:x}").parse::<std::net::Ipv6Addr>().unwrap().to_string();
        assert!(banned.contains(&*address), "{address}");
    }
    assert_eq!(banned.len() as u32, offenders + 1);
    (taken, memory)
}

#[test]
fn a_flood_of_sources_hides_no_offender() {
    let (_, memory) = flood(20_000, 100);
    assert!(memory < 100_000, "{memory} KiB");
}

#[test]
#[ignore = "figures"]
fn figures_of_a_flood_of_a_million_sources() {
    let (taken, memory) = flood(1_000_000, 1000);
    println!("1,000,000 sources: {taken:?}, {memory} KiB at most");
    assert!(memory * 1024 < 150_000_000, "{memory} KiB");
}
