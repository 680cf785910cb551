//! The systemd journal as a source.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::daemon::{Daemon, Home};
use crate::harness::journal::{Journal, Journald};
use crate::harness::net::{ATTACKER, SERVER, wait_for};
use crate::in_namespaces;

/// With a threshold that is not reached.
const COUNTED: &str = "maxretry = 100000\naction = nftables-native[port=22]\n";
const OPTIONS: &str = "maxretry = 2\naction = nftables-native[port=22]\n";

/// With a jail `door` that reads the journal in the folder `j`.
fn home_with(thresholds: &str, options: &str) -> (Home, Journal) {
    let home = Home::new().without_kernel();
    home.put("filter.d/door.conf", "[Definition]\nfailregex = ^\\S+ doord\\[\\d+\\]: bad key from <HOST>$\n");
    home.jail("door", &format!("{thresholds}backend = systemd[journalpath=DIR/j]\n{options}"));
    let journal = Journal::new(home.path("j"));
    (home, journal)
}

fn home(options: &str) -> (Home, Journal) {
    home_with(OPTIONS, options)
}

/// The children of the daemon that read journals.
fn children(daemon: &Daemon) -> Vec<u32> {
    let list = format!("/proc/{0}/task", daemon.id());
    let tasks = fs::read_dir(list).unwrap().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children = children.collect::<Vec<_>>().join(" ");
    let is_reader = |id: &u32| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name == "journalctl\n");
    children.split_whitespace().map(|id| id.parse().unwrap()).filter(is_reader).collect()
}

fn kill(id: u32) {
    let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn entries_that_fit_a_match_are_counted() {
    let (home, mut journal) = home("journalmatch = _COMM=doord _HOSTNAME=host + _COMM=other\n");
    journal.fail("192.0.2.6", 2);
    let daemon = home.start();
    daemon.wait_for("Jail 'door' uses systemd {'journalpath': ");
    daemon.wait_for("[door] Ban 192.0.2.6");
    journal.write(&[
        ("_HOSTNAME", b"elsewhere"),
        ("SYSLOG_IDENTIFIER", b"doord"),
        ("_PID", b"1"),
        ("MESSAGE", b"bad key from 192.0.2.66"),
    ]);
    journal.fail("192.0.2.7", 2);
    daemon.wait_for("[door] Ban 192.0.2.7");
    let status = daemon.tell(&["status", "door"]);
    let matches = "Journal matches:\t_COMM=doord _HOSTNAME=host + _COMM=other";
    assert!(status.contains(matches), "{status}");
    assert_eq!(daemon.count("192.0.2.66"), 0);
    // over the socket
    let added = daemon.tell(&["set", "door", "addjournalmatch", "_COMM=gate", "+", "_EXE=/gated"]);
    assert!(added.ends_with(" + _COMM=gate + _EXE=/gated"), "{added}");
    journal.write(&[
        ("_HOSTNAME", b"h"),
        ("_EXE", b"/gated"),
        ("SYSLOG_IDENTIFIER", b"doord"),
        ("_PID", b"1"),
        ("MESSAGE", b"bad key from 192.0.2.8"),
    ]);
    daemon.wait_for("Found 192.0.2.8");
    for (words, answer) in [
        (["set", "door", "addjournalmatch", "--file=/etc/passwd"], "Invalid match"),
        (["set", "door", "deljournalmatch", "_EXE=/gated"], "Match ['_EXE=/gated'] not found"),
    ] {
        let (well, said) = daemon.ask(&words);
        assert!(!well && said.starts_with(answer), "{said}");
    }
    daemon.tell(&["set", "door", "deljournalmatch", "_COMM=gate", "+", "_EXE=/gated"]);
    // nothing was read twice
    assert_eq!(daemon.count("Found 192.0.2.7"), 2);
    assert_eq!(daemon.tell(&["get", "door", "datepattern"]), "Current date pattern set to: Not set/required");
    assert_eq!(daemon.tell(&["get", "door", "logpath"]), "No file is currently monitored");
}

#[test]
fn a_restart_loses_nothing_and_counts_nothing_twice() {
    let (mut home, mut journal) = home_with(COUNTED, "journalmatch = _COMM=doord\n");
    for round in 1..=4 {
        let daemon = home.start();
        journal.fail("192.0.2.7", 5);
        daemon.wait_for_times("Found 192.0.2.7", 10 * round - 5);
        // the place is stored with the counters
        let stored = format!("{}", 10 * round - 5);
        wait_for("the counters", Duration::from_secs(5), || {
            daemon.rows("SELECT failures FROM sekimori_failures") == [stored.clone()]
        });
        home = if round % 2 == 0 { daemon.stop() } else { daemon.kill() };
        journal.fail("192.0.2.7", 5);
        if round == 3 {
            journal.rotate();
        }
    }
    let daemon = home.start();
    journal.fail("192.0.2.7", 1);
    daemon.wait_for_times("Found 192.0.2.7", 41);
    journal.fail("192.0.2.8", 1);
    daemon.wait_for("Found 192.0.2.8");
    assert_eq!(daemon.count("Found 192.0.2.7"), 41);
    let home = daemon.stop();
    let row = home.rows("SELECT path, substr(firstlinemd5, 1, 10), lastfilepos > 1700000000 FROM logs").join("\n");
    let today = jiff::tz::TimeZone::system().to_datetime(jiff::Timestamp::now()).strftime("%Y-%m-%d").to_string();
    assert_eq!(row, format!("systemd-journal {today} 1"));
}

#[test]
fn files_may_be_rotated_and_deleted() {
    let (home, mut journal) = home_with(COUNTED, "journalmatch = _COMM=doord\n");
    home.jail("files", &format!("{COUNTED}filter = door\nbackend = systemd[journalfiles=\"DIR/j/system.journal\"]\n"));
    journal.fail("192.0.2.7", 1);
    let daemon = home.start();
    for round in 1..=4 {
        for jail in ["door", "files"] {
            daemon.wait_for_times(&format!("[{jail}] Found 192.0.2.7"), 3 * round - 2);
        }
        journal.fail("192.0.2.7", 1);
        journal.rotate();
        journal.fail("192.0.2.7", 2);
        if round > 1 {
            for jail in ["door", "files"] {
                daemon.wait_for_times(&format!("[{jail}] Found 192.0.2.7"), 3 * round + 1);
            }
            journal.vacuum();
        }
    }
    journal.fail("192.0.2.8", 1);
    daemon.wait_for_times("Found 192.0.2.8", 2);
    assert_eq!(daemon.count("Found 192.0.2.7"), 2 * 13);
}

#[test]
fn where_the_last_entry_was_deleted_or_is_no_place_any_more_reading_goes_on_with_what_came_later() {
    let (home, mut journal) = home_with(COUNTED, "journalmatch = _COMM=doord\n");
    let daemon = home.start();
    journal.fail("192.0.2.7", 3);
    daemon.wait_for_times("Found 192.0.2.7", 3);
    let home = daemon.stop();
    journal.rotate();
    journal.vacuum();
    journal.fail("192.0.2.7", 2);
    journal.close();
    let daemon = home.start();
    daemon.wait_for_times("Found 192.0.2.7", 5);
    let mut home = daemon.stop();
    for nonsense in ["nonsense", "s=0;i=zz", ""] {
        home.change(&format!("UPDATE sekimori_journals SET cursor = '{nonsense}'"));
        let (counted, address) = (home.count("Found 192.0.2.7"), format!("192.0.2.{}", 20 + nonsense.len()));
        journal.fail(&address, 1);
        journal.close();
        let daemon = home.start();
        daemon.wait_for(&format!("Found {address}"));
        // what was counted before is not counted again
        assert_eq!(daemon.count("Found 192.0.2.7"), counted, "{}", daemon.log());
        home = daemon.stop();
    }
}

#[test]
fn the_flag_for_this_machine_leaves_out_what_others_have_written() {
    let (home, mut journal) = home_with(COUNTED, "journalmatch = _COMM=doord\n");
    let options = format!("{COUNTED}filter = door\njournalmatch = _COMM=doord\n");
    home.jail("local", &format!("{options}backend = systemd[journalpath=DIR/j, journalflags=1]\n"));
    let daemon = home.start();
    let machine = fs::read_to_string("/etc/machine-id").unwrap();
    for (machine, address) in [("0123456789abcdef0123456789abcdef", "192.0.2.7"), (machine.trim(), "192.0.2.8")] {
        let message = format!("bad key from {address}");
        let fields = [("_HOSTNAME", "host"), ("_COMM", "doord"), ("_PID", "7"), ("_MACHINE_ID", machine)];
        let fields = fields.into_iter().chain([("MESSAGE", message.as_str())]);
        journal.write(&fields.map(|(name, value)| (name, value.as_bytes())).collect::<Vec<_>>());
    }
    for found in ["[door] Found 192.0.2.7", "[door] Found 192.0.2.8", "[local] Found 192.0.2.8"] {
        daemon.wait_for(found);
    }
    assert_eq!(daemon.count("[local] Found 192.0.2.7"), 0);
}

#[test]
fn the_flag_for_the_runtime_journal_reads_what_is_in_memory_alone() {
    let _net = in_namespaces!();
    Journald::hide();
    let home = Home::new().without_kernel();
    home.put("filter.d/door.conf", "[Definition]\nfailregex = ^\\S+ doord\\[\\d+\\]: bad key from <HOST>$\n");
    home.jail("both", &format!("{COUNTED}filter = door\nbackend = systemd[journalflags=0]\n"));
    home.jail("runtime", &format!("{COUNTED}filter = door\nbackend = systemd[journalflags=2]\n"));
    let machine = fs::read_to_string("/etc/machine-id").unwrap();
    let folder = |place: &str| std::path::PathBuf::from(format!("{place}/journal/{}", machine.trim()));
    let (mut memory, mut disk) = (Journal::new(folder("/run/log")), Journal::new(folder("/var/log")));
    let daemon = home.start();
    disk.fail("192.0.2.7", 1);
    disk.close();
    daemon.wait_for("[both] Found 192.0.2.7");
    memory.fail("192.0.2.8", 1);
    daemon.wait_for("[both] Found 192.0.2.8");
    daemon.wait_for("[runtime] Found 192.0.2.8");
    assert_eq!(daemon.count("[runtime] Found 192.0.2.7"), 0);
}

#[test]
fn hostile_entries_harm_nobody() {
    let (home, mut journal) = home("");
    let daemon = home.start();
    let base: [(&str, &[u8]); 3] = [("_HOSTNAME", b"host"), ("SYSLOG_IDENTIFIER", b"doord"), ("_PID", b"7")];
    let mut say = |message: &[u8]| journal.write(&[&base[..], &[("MESSAGE", message)]].concat());
    say(b"x\nhost doord[7]: bad key from 203.0.113.1\n");
    say(&[b"x\n\n__CURSOR=x\nMESSAGE=bad key from 203.0.113.1\n\n".as_slice(), &[0, 255, 200]].concat());
    say(&[b"x".repeat(1 << 20).as_slice(), b"\nhost doord[7]: bad key from 203.0.113.1"].concat());
    say(&[b"bad key from 203.0.113.1".as_slice(), &b" ".repeat(200_000), b"x"].concat());
    say(&(0..=255).cycle().take(70_000).collect::<Vec<u8>>());
    journal.write(&[("SYSLOG_IDENTIFIER", b"x\nhost doord[7]: bad key from 203.0.113.1\n"), ("MESSAGE", b"y")]);
    journal.write(&[&base[..], &[("MESSAGE", b"a"), ("MESSAGE", b"b")]].concat());
    journal.write(&[("NOTHING", b"at all")]);
    journal.fail("192.0.2.7", 2);
    daemon.wait_for("[door] Ban 192.0.2.7");
    assert_eq!(daemon.count("203.0.113.1"), 0, "{}", daemon.log());
    assert_eq!(daemon.count("cannot be read"), 0, "{}", daemon.log());
    assert!(daemon.figure("VmHWM") < 100_000, "{} KiB", daemon.figure("VmHWM"));
}

#[test]
fn jails_that_read_the_same_share_a_child_which_ends_with_the_daemon() {
    let (home, mut journal) = home("journalmatch = _COMM=doord\n");
    for (name, matches) in [("same", "_COMM=doord"), ("other", "_COMM=otherd")] {
        let options = format!("filter = door\nbackend = systemd[journalpath=DIR/j]\njournalmatch = {matches}\n");
        home.jail(name, &format!("{OPTIONS}{options}"));
    }
    journal.fail("192.0.2.6", 1);
    let daemon = home.start();
    daemon.wait_for_times("Found 192.0.2.6", 2);
    wait_for("two children", Duration::from_secs(5), || children(&daemon).len() == 2);
    let before = children(&daemon);
    let home = daemon.kill();
    // a child that is gone may still wait for somebody to take its status
    let is_gone = |id: &u32| fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default().is_empty();
    wait_for("the end of the children", Duration::from_secs(5), || before.iter().all(is_gone));
    let daemon = home.start();
    journal.fail("192.0.2.7", 2);
    daemon.wait_for("[door] Ban 192.0.2.7");
    daemon.wait_for("[same] Ban 192.0.2.7");
    wait_for("two children", Duration::from_secs(5), || children(&daemon).len() == 2);
    daemon.tell(&["stop", "same"]);
    daemon.tell(&["stop", "other"]);
    wait_for("one child", Duration::from_secs(5), || children(&daemon).len() == 1);
    let before = children(&daemon);
    daemon.stop();
    assert!(before.iter().all(is_gone));
}

#[test]
fn a_reader_that_dies_is_started_again_and_leaves_nothing_behind() {
    let (home, mut journal) = home_with(COUNTED, "journalmatch = _COMM=doord\n");
    journal.fail("192.0.2.7", 1);
    let daemon = home.start();
    daemon.wait_for("Found 192.0.2.7");
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count();
    let before = descriptors();
    for round in 1..=3 {
        kill(children(&daemon)[0]);
        journal.fail("192.0.2.7", 1);
        daemon.wait_for_times("Found 192.0.2.7", 1 + round);
    }
    daemon.wait_for("ERROR   [door] the journal cannot be read: `journalctl`: ended by itself, signal: 9");
    daemon.wait_for("NOTICE  [door] the journal can be read again");
    assert_eq!(daemon.count("Found 192.0.2.7"), 4);
    assert_eq!((descriptors(), children(&daemon).len()), (before, 1));
}

#[test]
fn a_journal_that_is_not_there_yet_is_waited_for() {
    let (home, mut journal) = home("journalmatch = _COMM=doord\n");
    fs::remove_dir(home.path("j")).unwrap();
    let daemon = home.start();
    daemon.wait_for("ERROR   [door] the journal cannot be read: `journalctl`: Failed to open ");
    fs::create_dir(daemon.path("j")).unwrap();
    journal.fail("192.0.2.7", 2);
    daemon.wait_for("[door] Ban 192.0.2.7");
}

#[test]
fn without_journalctl_the_jail_says_so_and_others_run() {
    let (home, _journal) = home("");
    home.put("bin/nothing", "");
    home.put("filter.d/plain.conf", "[Definition]\nfailregex = ^ \\S+ doord: bad key from <HOST>$\n");
    home.jail("plain", &format!("{OPTIONS}filter = plain\nlogpath = LOG\n"));
    let path = home.path("bin").to_string_lossy().into_owned();
    let daemon = home.variable("PATH", &path).start();
    daemon.wait_for(
        "ERROR   Jail 'door' not started: it reads the journal, and there is no `journalctl`; install systemd",
    );
    assert!(!daemon.log().contains("Jail 'door' started"));
    daemon.fail("192.0.2.7", 2);
    daemon.wait_for("[plain] Ban 192.0.2.7");
}

#[test]
fn nothing_is_lost_or_doubled_under_load() {
    let (mut home, mut journal) = home_with(COUNTED, "journalmatch =\n");
    let mut failures = 0;
    for round in 0..4 {
        let daemon = home.start();
        for number in 0..2000 {
            journal.say("other", &format!("nothing of interest, number {number} of round {round}"));
            if number % 10 == 0 {
                journal.fail("192.0.2.7", 1);
                failures += 1;
            }
            if number == 1000 && round == 2 {
                journal.rotate();
            }
            // while it reads
            if number == 1500 && round == 3 {
                wait_for("the child", Duration::from_secs(5), || !children(&daemon).is_empty());
                kill(children(&daemon)[0]);
            }
        }
        home = if round == 1 { daemon.stop() } else { daemon.kill() };
    }
    journal.fail("192.0.2.8", 1);
    let daemon = home.start();
    daemon.wait_for("Found 192.0.2.8");
    // a failure that was logged but not stored is counted once more after a kill, and logged again
    let total = failures.to_string();
    wait_for("all failures", Duration::from_secs(5), || {
        daemon.rows("SELECT failures FROM sekimori_failures WHERE id = '192.0.2.7'") == [total.clone()]
    });
}

/// With the stock configuration of Debian 12, as the package installs it.
fn debian() -> Home {
    let home = Home::new();
    let copied = Command::new("cp").args(["-r", "/etc/fail2ban/."]).arg(home.path("")).status().unwrap();
    assert!(copied.success());
    let general = fs::read_to_string(home.path("fail2ban.conf")).unwrap();
    home.database("DIR/db");
    let ours = fs::read_to_string(home.path("fail2ban.conf")).unwrap();
    home.put("fail2ban.conf", &general);
    home.put("fail2ban.local", &ours);
    home
}

#[test]
fn a_fresh_debian_without_auth_log_protects_sshd_by_the_journal() {
    let net = in_namespaces!();
    Journald::hide();
    let mut journald = Journald::start(None);
    let _listener = net.server().listen(SERVER, 22);
    let daemon = debian().start();
    daemon.wait_for("Jail 'sshd' uses systemd {}");
    daemon.wait_for("Jail 'sshd' started");
    let mut sshd = journald.process("sshd", &daemon.path(""));
    let failed = format!("Failed password for root from {ATTACKER} port 4711 ssh2\n");
    sshd.write_all(failed.repeat(4).as_bytes()).unwrap();
    daemon.wait_for_times(&format!("Found {ATTACKER}"), 4);
    assert!(net.attacker().reaches(22));
    // whoever else writes such a message is not sshd
    let mut other = journald.process("other", &daemon.path(""));
    other.write_all(failed.repeat(4).as_bytes()).unwrap();
    for command in ["--rotate", "--vacuum-files=1"] {
        assert!(Command::new("journalctl").args(["-q", command]).status().unwrap().success());
    }
    assert!(net.attacker().reaches(22));
    sshd.write_all(failed.as_bytes()).unwrap();
    daemon.wait_for(&format!("[sshd] Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22));
    assert_eq!(daemon.count(&format!("Found {ATTACKER}")), 5);
}

#[test]
fn without_any_configuration_sshd_is_protected_by_the_journal_too() {
    let net = in_namespaces!();
    Journald::hide();
    let mut journald = Journald::start(None);
    let _listener = net.server().listen(SERVER, 22);
    let home = Home::new();
    fs::remove_file(home.path("jail.conf")).unwrap();
    let daemon = home.start();
    daemon.wait_for("Jail 'sshd' started");
    let mut sshd = journald.process("sshd", &daemon.path(""));
    let failed = format!("Failed password for root from {ATTACKER} port 4711 ssh2\n");
    sshd.write_all(failed.repeat(5).as_bytes()).unwrap();
    daemon.wait_for(&format!("[sshd] Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22));
}

#[test]
fn a_namespace_is_a_journal_of_its_own() {
    let _net = in_namespaces!();
    Journald::hide();
    let mut machine = Journald::start(None);
    let mut apart = Journald::start(Some("apart"));
    let home = Home::new().without_kernel();
    home.put("filter.d/door.conf", "[Definition]\nfailregex = ^\\S+ doord\\[\\d+\\]: bad key from <HOST>$\n");
    home.jail("door", &format!("{OPTIONS}backend = systemd\n"));
    home.jail("apart", &format!("{OPTIONS}filter = door\nbackend = systemd[namespace=apart]\n"));
    let daemon = home.start();
    let mut here = machine.process("doord", &daemon.path(""));
    here.write_all(b"bad key from 192.0.2.7\n").unwrap();
    fs::create_dir(daemon.path("j")).unwrap();
    let mut there = apart.process("doord", &daemon.path("j"));
    there.write_all(b"bad key from 192.0.2.8\n").unwrap();
    daemon.wait_for("[door] Found 192.0.2.7");
    daemon.wait_for("[apart] Found 192.0.2.8");
    assert_eq!(daemon.count("Found"), 2);
}

/// User and system time of a process so far.
fn cpu(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
#[ignore = "figures"]
fn figures_of_a_journal_that_grows() {
    let _net = in_namespaces!();
    Journald::hide();
    let mut journald = Journald::start(None);
    let options = "backend = systemd\njournalmatch = _COMM=sshd\nfilter = sshd\nmaxretry = 100000\naction =\n";
    for (rate, real) in [(100, false), (100, true), (2000, false), (2000, true)] {
        let home = if real { Home::new().real() } else { Home::new().without_kernel() };
        for file in ["sshd.conf", "common.conf"] {
            home.put(
                &format!("filter.d/{file}"),
                &fs::read_to_string(format!("/etc/fail2ban/filter.d/{file}")).unwrap(),
            );
        }
        home.jail("sshd", options);
        let daemon = home.start();
        let mut sshd = journald.process("sshd", &daemon.path(""));
        sshd.write_all(b"Failed password for root from 192.0.2.8 port 4711 ssh2\n").unwrap();
        daemon.wait_for("Found 192.0.2.8");
        let all = |daemon: &Daemon| {
            let children = children(daemon).into_iter().map(cpu).sum::<Duration>();
            (cpu(daemon.id()), children)
        };
        let (before, begin) = (all(&daemon), Instant::now());
        let service = cpu(journald.id());
        for number in 0..10 * rate {
            let text = if number % 50 == 0 {
                "Failed password for root from 192.0.2.7"
            } else {
                "Connection closed by 192.0.2.9"
            };
            sshd.write_all(format!("{text} port {number} ssh2\n").as_bytes()).unwrap();
            // a steady stream, ten times a second
            if number % (rate / 10) == 0 {
                let due = begin + Duration::from_secs_f64(f64::from(number) / f64::from(rate));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        daemon.wait_for_times("Found 192.0.2.7", 10 * rate as usize / 50);
        let (after, took) = (all(&daemon), begin.elapsed());
        println!(
            "{rate} entries/s for {took:.1?}: {} {:?}, journalctl {:?}, journald {:?}",
            if real { "fail2ban" } else { "sekimori" },
            after.0 - before.0,
            after.1 - before.1,
            cpu(journald.id()) - service,
        );
    }
}
