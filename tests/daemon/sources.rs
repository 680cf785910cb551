//! Where a daemon's lines come from.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::daemon::{Home, failure};
use crate::harness::net::wait_for;

const OPTIONS: &str = "maxretry = 2\naction = nftables-native[port=22]\n";

#[test]
fn files_that_match_a_pattern_later_are_read_from_their_beginning() {
    let home = Home::new().without_kernel();
    home.put("sites/a/access.log", "");
    home.jail("door", &format!("{OPTIONS}logpath = DIR/sites/*/access*.log\n"));
    let daemon = home.start();
    daemon.append("sites/a/access.log", &[failure("192.0.2.7"), failure("192.0.2.7")]);
    daemon.wait_for("[door] Ban 192.0.2.7");
    daemon.append("sites/a/access-ssl.log", &[failure("192.0.2.8"), failure("192.0.2.8")]);
    daemon.wait_for("[door] Ban 192.0.2.8");
    daemon.put("sites/b/other", "");
    daemon.append("sites/b/access.log", &[failure("192.0.2.9"), failure("192.0.2.9")]);
    daemon.wait_for("[door] Ban 192.0.2.9");
    let files = daemon.tell(&["get", "door", "logpath"]);
    for name in ["sites/a/access.log", "sites/a/access-ssl.log", "sites/b/access.log"] {
        assert!(files.contains(&*daemon.path(name).to_string_lossy()), "{files}");
    }
    // and goes on with them after a reload and a restart
    assert_eq!(daemon.tell(&["reload"]), "OK");
    daemon.append("sites/b/access.log", &[failure("192.0.2.10"), failure("192.0.2.10")]);
    daemon.wait_for("[door] Ban 192.0.2.10");
    let home = daemon.stop();
    let daemon = home.start();
    daemon.append("sites/b/access.log", &[failure("192.0.2.11"), failure("192.0.2.11")]);
    daemon.wait_for("[door] Ban 192.0.2.11");
    assert_eq!(daemon.count("Found 192.0.2.9"), 2);
}

#[test]
fn polling_finds_what_inotify_finds() {
    let home = Home::new().without_kernel();
    home.jail("door", &format!("{OPTIONS}logpath = LOG\nbackend = polling\n"));
    let daemon = home.start();
    daemon.fail("192.0.2.7", 1);
    daemon.wait_for("Found 192.0.2.7");
    fs::rename(daemon.path("auth.log"), daemon.path("auth.log.1")).unwrap();
    // another first line: within one second it would look like the old file, copied
    daemon.fail("192.0.2.8", 1);
    daemon.fail("192.0.2.7", 1);
    daemon.wait_for("[door] Ban 192.0.2.7");
    assert!(daemon.tell(&["status", "door"]).contains("192.0.2.7"));
}

#[test]
fn a_log_that_is_copied_and_emptied_is_read_on() {
    let home = Home::new().without_kernel();
    home.jail("door", &format!("{OPTIONS}logpath = LOG\n"));
    let daemon = home.start();
    for address in ["192.0.2.7", "192.0.2.8", "192.0.2.9"] {
        // with the same size and the same first line, nobody could tell it from the old one
        daemon.append("auth.log", &["nothing of interest".to_owned()]);
        daemon.fail(address, 1);
        daemon.wait_for(&format!("Found {address}"));
        fs::copy(daemon.path("auth.log"), daemon.path("auth.log.1")).unwrap();
        fs::File::options().write(true).truncate(true).open(daemon.path("auth.log")).unwrap();
        // another first line: within one second the same one would look like what was there before
        daemon.write(&[format!("doord: good key from {address}")]);
        daemon.fail(address, 1);
        daemon.wait_for(&format!("[door] Ban {address}"));
    }
    assert_eq!(daemon.count("Found"), 6);
}

#[test]
fn a_jail_whose_log_is_not_there_yet_comes_with_a_later_reload() {
    let home = Home::new().without_kernel();
    home.jail("door", &format!("{OPTIONS}logpath = LOG\n"));
    let daemon = home.start();
    daemon.jail("late", &format!("{OPTIONS}logpath = DIR/late.log\n"));
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_for("Reload finished.");
    let about = |message: &String| message.starts_with("ERROR") && message.contains("late");
    assert!(daemon.messages().iter().any(about), "{}", daemon.log());
    daemon.fail("192.0.2.7", 2);
    daemon.wait_for("[door] Ban 192.0.2.7");
    daemon.append("late.log", &[failure("192.0.2.8"), failure("192.0.2.8")]);
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_for("Jail 'late' started");
    daemon.wait_for("[late] Ban 192.0.2.8");
}

/// So many files behind one pattern, and whether a failure in the last of them is found.
fn many_files(count: usize) -> (Duration, u64, u64) {
    let home = Home::new().without_kernel();
    for number in 0..count {
        home.append(&format!("sites/{number}.log"), &["doord: good key".to_owned()]);
    }
    home.jail("door", &format!("{OPTIONS}logpath = DIR/sites/*.log\n"));
    let daemon = home.start();
    daemon.wait_for_times("Added logfile", count);
    let begin = Instant::now();
    let last = format!("sites/{}.log", count - 1);
    daemon.append(&last, &[failure("192.0.2.7"), failure("192.0.2.7")]);
    daemon.wait_for("[door] Ban 192.0.2.7");
    let first_ban = begin.elapsed();
    let (threads, memory) = (daemon.figure("Threads"), daemon.figure("VmHWM"));
    // the same file once more, so that nothing but the waiting is measured
    wait_for("status", Duration::from_secs(5), || daemon.tell(&["status", "door"]).contains("192.0.2.7"));
    (first_ban, threads, memory)
}

#[test]
fn many_files_behind_one_pattern_do_not_mean_many_threads() {
    let (_, threads, _) = many_files(200);
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    // the engine, those who wait for clients and the kernel, and what the runtime needs for a moment
    assert!(threads <= cores + 6, "{threads} threads");
}

#[test]
#[ignore = "figures"]
fn figures_of_two_thousand_files() {
    let (first_ban, threads, memory) = many_files(2000);
    println!("2,000 files: first ban after {first_ban:?}, {threads} threads, {memory} KiB at most");
}
