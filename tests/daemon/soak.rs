//! Long runs: bans come and go, logs are rotated, the configuration is reloaded, clients ask. What is alive at a time
//! stays the same, so neither memory nor open files may grow. `tests/soak` runs these; how long, `SOAK_SECONDS` says.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant};

use crate::harness::daemon::{Daemon, Home, failure};
use crate::harness::net::wait_for;
use crate::harness::random::Random;
use crate::in_namespaces;

/// Failures of one round, a tenth of a second; each is a ban in two jails.
const ROUND: u32 = 20;
/// Seconds that a ban lasts. A day in which bans last ten minutes has 144 of these, as 12 minutes have.
const BANTIME: u32 = 5;
/// What may come on top of the memory of the first fifth: fragments, and pages of the database that are kept.
const SLACK_KIB: u64 = 8 * 1024;
/// Connections and commands of a moment.
const SLACK_FILES: usize = 8;

fn files(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count()
}

fn soak(home: Home, seconds: u64) {
    let seconds = std::env::var("SOAK_SECONDS").map_or(seconds, |given| given.parse().unwrap());
    home.put("action.d/told.conf", "[Definition]\nactionban = true\nactionunban = true\n");
    let jail = |more: &str| {
        let options =
            "logpath = LOG\n DIR/sites/*.log\nmaxretry = 1\nfindtime = 5\naction = nftables-native[port=22]\n";
        format!("{options}bantime = {BANTIME}\n{more}")
    };
    home.put("sites/0.log", "");
    home.jail("door", &jail(""));
    home.jail("gate", &jail("bantime.increment = true\nbantime.maxtime = 10\n"));
    home.jail(
        "slow",
        &jail("failregex = ^ \\S+ doord: worse key from <HOST>$\n").replace("port=22]\n", "port=22]\n told\n"),
    );
    let daemon = home.start();
    let mut random = Random::seeded();
    let mut sites: VecDeque<u64> = VecDeque::from([0]);
    let (begin, mut failures, mut rounds) = (Instant::now(), 0_u32, 0_u64);
    let (mut memory, mut open) = ([0_u64; 5], [0_usize; 5]);
    while begin.elapsed() < Duration::from_secs(seconds) {
        let next = begin + Duration::from_millis(100) * u32::try_from(rounds).unwrap();
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        rounds += 1;
        let lines: Vec<String> = (0..ROUND)
            .map(|_| {
                failures += 1;
                // some come again
                let number = if random.below(10) == 0 { random.below(u64::from(failures)) as u32 } else { failures };
                let address = std::net::Ipv4Addr::from(0x0a00_0000 | number & 0x00ff_ffff);
                failure(&address.to_string()).replace("bad", if number % 50 == 0 { "worse" } else { "bad" })
            })
            .collect();
        daemon.append(if rounds % 2 == 0 { "auth.log" } else { "sites/0.log" }, &lines);
        match rounds % 100 {
            20 => {
                fs::rename(daemon.path("auth.log"), daemon.path("auth.log.1")).unwrap();
                daemon.put("auth.log", "");
            }
            40 => {
                // a site with a name of its own comes, the oldest goes
                daemon.append(&format!("sites/{rounds}.log"), &[failure("198.51.100.7")]);
                sites.push_back(rounds);
                if sites.len() > 5 {
                    let gone = sites.remove(1).unwrap();
                    fs::remove_file(daemon.path(&format!("sites/{gone}.log"))).unwrap();
                }
            }
            60 => assert_eq!(daemon.tell(&["reload"]), "OK"),
            80 => {
                daemon.tell(&["status", "door"]);
                daemon.tell(&["banned"]);
                // the server's own log is rotated as well
                fs::rename(daemon.path("log"), daemon.path("log.1")).unwrap();
                daemon.tell(&["flushlogs"]);
            }
            _ => {}
        }
        let part = (begin.elapsed().as_secs() * 5 / seconds).min(4) as usize;
        memory[part] = memory[part].max(daemon.figure("VmRSS"));
        open[part] = open[part].max(files(&daemon));
    }
    println!("{failures} failures, {rounds} rounds; KiB at most in each fifth: {memory:?}, files: {open:?}");
    assert!(memory[4] <= memory[0].max(memory[1]) + SLACK_KIB, "memory grows: {memory:?} KiB");
    assert!(open[4] <= open[0] + SLACK_FILES, "open files grow: {open:?}");
    // nobody stays banned
    let limit = Duration::from_secs(60);
    for jail in ["door", "gate", "slow"] {
        wait_for("the last unban", limit, || daemon.tell(&["get", jail, "banip"]).is_empty());
    }
    let threads = daemon.figure("Threads");
    assert!(threads < 32, "{threads} threads");
    let last = daemon.log();
    assert!(!last.contains(" ERROR ") && !last.contains(" CRITICAL "), "{last}");
    daemon.stop();
}

#[test]
#[ignore = "takes 12 minutes; tests/soak"]
fn a_day_of_bans_in_twelve_minutes_leaves_nothing_behind() {
    soak(Home::new().without_kernel(), 720);
}

#[test]
#[ignore = "takes 10 minutes; tests/soak"]
fn ten_minutes_with_the_kernel_leave_nothing_behind() {
    let net = in_namespaces!();
    soak(Home::new(), 600);
    let (_, rules) = net.server().shell("nft list ruleset");
    assert!(!rules.contains("sekimori"), "{rules}");
}
