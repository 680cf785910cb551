//! Somebody sets the clock while bans run. The daemon's clock is that of libfaketime, which a test
//! can set; the clock that nobody sets stays the real one.

use std::fs;
use std::io::Write as _;

use crate::harness::daemon::{Daemon, Home, failure};
use crate::harness::net::{ATTACKER, SERVER};
use crate::in_namespaces;

/// A daemon's clock can be set by [`set`].
fn with_clock(home: Home) -> Home {
    let mut libraries = fs::read_dir("/usr/lib").unwrap().flatten().map(|folder| folder.path());
    let library = libraries.find_map(|folder| {
        let library = folder.join("faketime/libfaketime.so.1");
        library.exists().then_some(library)
    });
    let library = library.expect("this test needs libfaketime: apt-get install faketime");
    home.put("clock", "+0");
    let file = home.path("clock").display().to_string();
    home.variable("LD_PRELOAD", &library.display().to_string())
        .variable("FAKETIME_TIMESTAMP_FILE", &file)
        .variable("FAKETIME_NO_CACHE", "1")
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .variable("NO_FAKE_STAT", "1")
}

/// Sets the clock so many seconds off the real one.
fn set(home: &Home, offset: i64) {
    home.put("clock.new", &format!("{offset:+}"));
    fs::rename(home.path("clock.new"), home.path("clock")).unwrap();
}

fn offset(home: &Home) -> i64 {
    fs::read_to_string(home.path("clock")).unwrap().parse().unwrap()
}

/// Failures with the time of the daemon's clock.
fn fail(home: &Home, address: &str, times: usize) {
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + offset(home)).unwrap();
    let stamp = jiff::tz::TimeZone::system().to_datetime(now).strftime("%Y-%m-%d %H:%M:%S");
    let line = format!("{stamp} host {}\n", failure(address));
    let mut log = fs::OpenOptions::new().append(true).open(home.path("auth.log")).unwrap();
    log.write_all(line.repeat(times).as_bytes()).unwrap();
}

#[test]
fn bans_and_counters_keep_the_time_they_have_left_when_the_clock_is_set() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    const JAIL: &str = "logpath = LOG\nmaxretry = 2\nfindtime = 10m\naction = nftables-native[port=22]\n";
    // hours both ways, a clock that was not set at the boot, and a year
    for offsets in [[0, 10_800], [0, -10_800], [-100_000_000, 0], [0, 30_000_000]] {
        let home = with_clock(Home::new());
        set(&home, offsets[0]);
        home.jail("door", &format!("{JAIL}bantime = 10m\n"));
        home.jail("short", &format!("{JAIL}bantime = 5\n"));
        let daemon = home.start();
        fail(&daemon, ATTACKER, 2);
        fail(&daemon, "192.0.2.3", 1);
        daemon.wait_for(&format!("[door] Ban {ATTACKER}"));
        daemon.wait_for(&format!("[short] Ban {ATTACKER}"));
        daemon.wait_for("[door] Found 192.0.2.3");
        set(&daemon, offsets[1]);
        daemon.wait_for("The clock was set");
        // two failures before and after are two failures
        fail(&daemon, "192.0.2.3", 1);
        daemon.wait_for("[door] Ban 192.0.2.3");
        daemon.wait_for(&format!("[short] Unban {ATTACKER}"));
        assert_eq!(daemon.count("[door] Unban"), 0, "{}", daemon.log());
        assert!(!net.attacker().reaches(22));
        assert_eq!(left(&daemon, ATTACKER), 600);
        // so it is after a restart
        let daemon = daemon.kill().start();
        daemon.wait_for(&format!("[door] Restore Ban {ATTACKER}"));
        daemon.wait_for("[door] Restore Ban 192.0.2.3");
        assert!(!net.attacker().reaches(22));
        assert_eq!(daemon.count(&format!("[short] Restore Ban {ATTACKER}")), 0);
        assert_eq!(daemon.count("The clock was set"), 1, "{}", daemon.log());
        daemon.stop();
    }
}

/// The length of a ban in seconds, from a begin that must be about now by the daemon's clock.
fn left(daemon: &Daemon, address: &str) -> i64 {
    let told = daemon.tell(&["get", "door", "banip", "--with-time"]);
    let line = told.lines().find(|line| line.starts_with(address)).unwrap();
    let (begin, rest) = line.split_once(" + ").unwrap();
    let begin = begin.split_once(char::is_whitespace).unwrap().1.trim();
    let begin: jiff::civil::DateTime = begin.parse().unwrap();
    let begin = jiff::tz::TimeZone::system().to_timestamp(begin).unwrap().as_second();
    let age = jiff::Timestamp::now().as_second() + offset(daemon) - begin;
    assert!((0..120).contains(&age), "{line} began {age} seconds ago");
    rest.split(' ').next().unwrap().parse().unwrap()
}
