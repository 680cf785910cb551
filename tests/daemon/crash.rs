//! Whatever happens to the process, bans, counts and positions agree with each other and with
//! the logs.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::Ipv6Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::daemon::{Home, failure, stamp};
use crate::harness::net::wait_for;
use crate::harness::random::Random;
use crate::in_namespaces;

/// Addresses that fail side by side.
const ACTIVE: usize = 30;
/// The jail `door` bans at that many failures, `gate` at [`GATE`].
const DOOR: u32 = 5;
const GATE: u32 = 3;

/// Writes failures of more and more addresses, in bursts that end anywhere in a line, and moves
/// the log away now and then.
struct Writer {
    log: PathBuf,
    database: PathBuf,
    file: File,
    random: Random,
    /// Failures still to be written for an address.
    active: Vec<(String, u32)>,
    written: HashMap<String, u32>,
    last: u64,
    rotations: u32,
    lines: u64,
}

impl Writer {
    fn new(home: &Home, random: Random) -> Writer {
        let log = home.path("auth.log");
        let file = OpenOptions::new().append(true).open(&log).unwrap();
        let (active, written) = (Vec::new(), HashMap::new());
        Writer { log, database: home.path("db"), file, random, active, written, last: 0, rotations: 0, lines: 0 }
    }

    fn burst(&mut self) {
        let mut text = String::new();
        for _ in 0..=self.random.below(6) {
            while self.active.len() < ACTIVE {
                self.last += 1;
                // two to four failures, and of half of the addresses exactly as many as make a ban
                let failures = [DOOR, DOOR, DOOR, 2, 3, 4][self.random.below(6) as usize];
                self.active.push((
                    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, (self.last >> 16) as u16, self.last as u16).to_string(),
                    failures,
                ));
            }
            let index = self.random.below(ACTIVE as u64) as usize;
            let (address, left) = &mut self.active[index];
            text += &format!("{} host {}\n", stamp(), failure(address));
            *self.written.entry(address.clone()).or_default() += 1;
            *left -= 1;
            if *left == 0 {
                self.active.swap_remove(index);
            }
            if self.random.below(4) == 0 {
                text += &format!("{} host doord: good key from 2001:db8::1\n", stamp());
            }
            self.lines += 1;
        }
        let middle = self.random.below(text.len() as u64) as usize;
        self.file.write_all(&text.as_bytes()[..middle]).unwrap();
        if self.random.below(2) == 0 {
            std::thread::sleep(Duration::from_micros(self.random.below(3000)));
        }
        self.file.write_all(&text.as_bytes()[middle..]).unwrap();
        if self.random.below(60) == 0 {
            self.rotate();
        }
        std::thread::sleep(Duration::from_micros(self.random.below(12_000)));
    }

    /// Moves the log away, but only once the daemon has stored that it reads the present file. Of
    /// two files that come and go while it is down it could not know the first one.
    fn rotate(&mut self) {
        let inode = self.file.metadata().unwrap().ino();
        let stored = jails(&self.database, "SELECT inode FROM sekimori_logs");
        if stored.len() < 2 || stored.iter().any(|stored| *stored != inode as i64) {
            return;
        }
        for number in (1..9).rev() {
            let name = |number: u32| self.log.with_extension(format!("log.{number}"));
            let _ = fs::rename(name(number), name(number + 1));
        }
        fs::rename(&self.log, self.log.with_extension("log.1")).unwrap();
        self.file = OpenOptions::new().append(true).create_new(true).open(&self.log).unwrap();
        self.rotations += 1;
    }
}

/// A number of each row of the database; none as long as there is no such table.
fn jails(database: &Path, query: &str) -> Vec<i64> {
    let Ok(database) = rusqlite::Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
    else {
        return Vec::new();
    };
    let Ok(mut query) = database.prepare(query) else { return Vec::new() };
    let Ok(rows) = query.query_map([], |row| row.get(0)) else { return Vec::new() };
    rows.flatten().collect()
}

/// Identifier and number of each row.
fn rows(home: &Home, query: &str) -> Vec<(String, u32)> {
    let database = rusqlite::Connection::open(home.path("db")).unwrap();
    let mut query = database.prepare(query).unwrap();
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[test]
fn fifty_kills_under_load_lose_and_double_nothing() {
    nothing_is_lost_nor_doubled(Home::new().without_kernel(), 50, true);
}

#[test]
fn ten_kills_with_bans_in_the_kernel_lose_and_double_nothing() {
    let _net = in_namespaces!();
    nothing_is_lost_nor_doubled(Home::new(), 10, false);
}

/// Bans of a jail that the kernel has.
fn in_kernel() -> usize {
    let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).matches("2001:db8:").count()
}

/// Kills a daemon so many times while others write to its log.
fn nothing_is_lost_nor_doubled(mut home: Home, kills: usize, without_kernel: bool) {
    let mut random = Random::seeded();
    let options = "logpath = LOG\nfindtime = 1h\nbantime = 1h\naction = nftables-native[port=22]\nfilter = door\n";
    home.jail("door", &format!("{options}maxretry = {DOOR}\n"));
    // its bans look into the history, which is no reason to store half of a batch
    home.jail("gate", &format!("{options}maxretry = {GATE}\nbantime.increment = true\n"));
    let mut writer = Writer::new(&home, Random::new(random.below(u64::MAX) | 1));
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    home = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                writer.burst();
            }
        });
        for _ in 0..kills {
            let daemon = home.spawn();
            std::thread::sleep(Duration::from_millis(random.below(500)));
            home = daemon.kill();
        }
        stop.store(true, Ordering::Relaxed);
        home
    });
    println!("{} lines, {} rotations in {:?}", writer.lines, writer.rotations, begin.elapsed());

    // whoever has failed three times by now fails twice more, and is banned for all five
    let late: Vec<String> =
        writer.written.iter().filter(|(_, failures)| **failures == 3).map(|(address, _)| address.clone()).collect();
    assert!(!late.is_empty());
    let daemon = home.spawn();
    for address in &late {
        writer.written.insert(address.clone(), DOOR);
        daemon.fail(address, 2);
    }
    daemon.fail("2001:db8:ffff::1", DOOR as usize);
    writer.written.insert("2001:db8:ffff::1".to_owned(), DOOR);
    daemon.wait_for("[door] Ban 2001:db8:ffff::1");
    daemon.wait_for("[gate] Ban 2001:db8:ffff::1");
    if !without_kernel {
        let banned: usize =
            ["door", "gate"].iter().map(|jail| daemon.tell(&["get", jail, "banip"]).split_whitespace().count()).sum();
        wait_for("all bans are in the kernel", Duration::from_secs(20), || in_kernel() == banned);
    }
    home = daemon.stop();

    let log = home.log();
    let mut bans: HashMap<(&str, &str), (u32, u32)> = HashMap::new();
    for message in log.lines().filter_map(|line| line.split_once(": NOTICE  [").map(|(_, message)| message)) {
        let Some((jail, message)) = message.split_once("] ") else { continue };
        if let Some(address) = message.strip_prefix("Ban ") {
            bans.entry((jail, address)).or_default().0 += 1;
        } else if let Some(address) = message.strip_prefix("Restore Ban ") {
            bans.entry((jail, address)).or_default().1 += 1;
        }
    }
    let mut wrong = Vec::new();
    for (jail, limit) in [("door", DOOR), ("gate", GATE)] {
        let query = format!("SELECT ip, json_extract(data, '$.failures') FROM bans WHERE jail = '{jail}'");
        let mut stored: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (address, failures) in rows(&home, &query) {
            stored.entry(address).or_default().push(failures);
        }
        let query = format!("SELECT id, failures FROM sekimori_failures WHERE jail = '{jail}'");
        let counted: HashMap<String, u32> = rows(&home, &query).into_iter().collect();
        let addresses = writer.written.keys().chain(stored.keys()).chain(counted.keys());
        for address in addresses.collect::<std::collections::BTreeSet<_>>() {
            let failures = writer.written.get(address).copied().unwrap_or_default();
            let banned: &[u32] = stored.get(address).map_or(&[], |stored| stored);
            let told = bans.get(&(jail, &**address)).copied().unwrap_or_default();
            let rest = counted.get(address).copied().unwrap_or_default();
            let right = if failures >= limit {
                // what `gate` counts beyond its ban depends on the seconds of the log
                banned == [limit] && told.0 <= 1 && told.0 + told.1 >= 1 && (limit == GATE || rest == 0)
            } else {
                banned.is_empty() && told == (0, 0) && rest == failures
            };
            if !right {
                wrong.push(format!(
                    "{jail} {address}: {failures} written, banned for {banned:?}, told {told:?}, counted {rest}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let path = home.path("auth.log");
    let (inode, size) = (fs::metadata(&path).unwrap().ino() as i64, fs::metadata(&path).unwrap().len() as i64);
    assert_eq!(jails(&home.path("db"), "SELECT inode FROM sekimori_logs"), [inode, inode]);
    assert_eq!(jails(&home.path("db"), "SELECT lastfilepos FROM logs"), [size, size]);
    assert!(!log.contains(" ERROR ") && !log.contains(" CRITICAL "), "{log}");
    let again = |line: &&str| line.contains("[door] ") && line.contains("already banned");
    assert_eq!(log.lines().find(again), None);
}
