//! A hundred bans a second, while others flush the firewall or reload the configuration: no ban is
//! lost, and none is carried out twice.

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::harness::daemon::{Daemon, Home, failure, stamp};
use crate::harness::net::{Background, wait_for};
use crate::in_namespaces;

const JAIL: &str = "logpath = LOG\nmaxretry = 1\nfindtime = 1h\nbantime = 1h\naction = nftables-native[port=22]\n";
/// More than all limits of a test together on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Addresses that fail, one after the other.
struct Storm {
    count: Arc<AtomicU32>,
    thread: Option<Background>,
}

fn address(number: u32) -> String {
    Ipv4Addr::from(0x0a00_0000 + number).to_string()
}

impl Storm {
    /// Some hundred a second.
    fn begin(home: &Home) -> Storm {
        let log: PathBuf = home.path("auth.log");
        let count = Arc::new(AtomicU32::new(0));
        let written = count.clone();
        let mut file = fs::OpenOptions::new().append(true).open(log).unwrap();
        let thread = Background::start(move || {
            use std::io::Write as _;
            let number = written.load(Ordering::Relaxed) + 1;
            writeln!(file, "{} host {}", stamp(), failure(&address(number))).unwrap();
            written.store(number, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(8));
        });
        Storm { count, thread: Some(thread) }
    }

    fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Goes on until so many more have failed.
    fn more(&self, number: u32) {
        let end = self.count() + number;
        wait_for("the storm", LIMIT, || self.count() >= end);
    }

    /// The end, once all are banned: how many.
    fn end(&mut self, daemon: &Daemon) -> u32 {
        self.thread = None;
        daemon.wait_for_end(&format!("[door] Ban {}\n", address(self.count())), LIMIT);
        self.count()
    }
}

/// Each failure was found once and led to one ban, which is listed and stored.
fn each_once(daemon: &Daemon, count: u32) {
    let log = daemon.log();
    for word in ["Found", "Ban"] {
        let mut seen: HashMap<&str, u32> = HashMap::new();
        for (_, rest) in log.lines().filter_map(|line| line.split_once(&format!("[door] {word} "))) {
            *seen.entry(rest.split(' ').next().unwrap()).or_default() += 1;
        }
        for number in 1..=count {
            assert_eq!(seen.get(&*address(number)), Some(&1), "{word} {}", address(number));
        }
        assert_eq!(seen.len(), count as usize, "{word}");
    }
    assert!(!log.contains(" already banned") && !log.contains("Restore Ban"), "{log}");
    let banned = daemon.tell(&["get", "door", "banip"]);
    assert_eq!(banned.split_whitespace().count(), count as usize);
    let stored = ["SELECT count(*) FROM bans", "SELECT count(DISTINCT ip) FROM bans"].map(|query| daemon.rows(query));
    assert_eq!(stored, [[count.to_string()], [count.to_string()]]);
}

/// How many of the storm's addresses the kernel has.
fn in_kernel(list: &[&str]) -> usize {
    let output = std::process::Command::new(list[0]).args(&list[1..]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .filter(|word| word.starts_with("10.") && word.parse::<Ipv4Addr>().is_ok())
        .collect::<std::collections::HashSet<_>>()
        .len()
}

#[test]
fn a_firewall_that_is_flushed_again_and_again_has_all_bans_in_the_end() {
    let net = in_namespaces!();
    let nftables = ("nftables", "nft flush ruleset", &["nft", "list", "ruleset"][..]);
    let ipset = ("ipset", "ipset flush; iptables -t raw -F; iptables -F", &["ipset", "list"][..]);
    for (kind, harm, list) in [nftables, ipset] {
        let home = Home::new().argument("--firewall").argument(kind);
        home.jail("door", JAIL);
        let daemon = home.start();
        let mut storm = Storm::begin(&daemon);
        for _ in 0..8 {
            storm.more(40);
            assert!(net.server().shell(harm).0);
        }
        storm.more(40);
        let count = storm.end(&daemon);
        wait_for("all bans in the kernel", LIMIT, || in_kernel(list) == count as usize);
        if kind == "ipset" {
            daemon.wait_for("took our rules out of the kernel; they are back, and all bans");
            let (_, rules) = net.server().shell("iptables-save");
            assert!(rules.contains("--match-set sekimori"), "{rules}");
        }
        each_once(&daemon, count);
        daemon.stop();
    }
}

#[test]
fn reloads_in_a_storm_lose_no_ban_and_an_added_action_gets_every_one_once() {
    let _net = in_namespaces!();
    let home = Home::new();
    home.action("noted");
    home.jail("door", JAIL);
    let daemon = home.start();
    let mut storm = Storm::begin(&daemon);
    let settings = [
        format!("{JAIL} noted\n"),
        format!("{JAIL} noted\n").replace("bantime = 1h", "bantime = 2h"),
        // another filter for the same lines
        format!("{JAIL} noted\nmaxmatches = 3\nfailregex = ^ host doord: bad key from <ADDR>$\n"),
        JAIL.to_owned(),
        format!("{JAIL} noted\n"),
    ];
    for (index, setting) in settings.iter().enumerate() {
        storm.more(80);
        daemon.jail("door", setting);
        if index % 2 == 0 {
            assert_eq!(daemon.tell(&["reload"]), "OK");
        } else {
            let times = daemon.count("Reload finished.");
            daemon.signal(rustix::process::Signal::HUP);
            daemon.wait_for_times("Reload finished.", times + 1);
        }
        // a file that cannot be read, and what is there goes on
        daemon.put("jail.d/broken.conf", "[door]\nbantime = 1\n[door\n");
        let (well, said) = daemon.ask(&["reload"]);
        assert!(!well && said.contains("broken.conf"), "{said}");
        daemon.signal(rustix::process::Signal::HUP);
        daemon.wait_for_times("ERROR   Reload: nothing changed: the configuration is unusable: ", index + 1);
        fs::remove_file(daemon.path("jail.d/broken.conf")).unwrap();
    }
    storm.more(80);
    let count = storm.end(&daemon);
    let messages = daemon.messages();
    let why = messages.iter().find(|message| message.contains("nothing changed")).unwrap();
    assert!(why.contains("broken.conf"), "{why}");
    each_once(&daemon, count);
    wait_for("all bans in the kernel", LIMIT, || in_kernel(&["nft", "list", "ruleset"]) == count as usize);
    // every one was told, and told again only after it was taken back with the action
    let mut told: HashMap<String, i32> = HashMap::new();
    let noted = || fs::read_to_string(daemon.path("noted")).unwrap();
    let last = format!("ban {}\n", address(count));
    wait_for("the action", LIMIT, || noted().ends_with(&last));
    for line in noted().lines() {
        let (word, address) = line.split_once(' ').unwrap_or((line, ""));
        let state = told.entry(address.to_owned()).or_default();
        match word {
            "ban" => *state += 1,
            "unban" => *state -= 1,
            _ => {}
        }
        assert!((0..=1).contains(state), "{line} once too often");
    }
    let active = told.iter().filter(|(address, state)| !address.is_empty() && **state == 1).count();
    assert_eq!(active, count as usize);
}
