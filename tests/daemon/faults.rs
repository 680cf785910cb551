//! What the machine does to a daemon: logs that vanish, full disks, a database that is locked or
//! destroyed, commands that do not behave. Bans go on, and nothing is lost that could be kept.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::harness::daemon::{Daemon, Home, failure};
use crate::harness::net::{ATTACKER, SERVER, wait_for};
use crate::in_namespaces;

const JAIL: &str = "logpath = LOG\nmaxretry = 2\nfindtime = 1h\nbantime = 1h\naction = nftables-native[port=22]\n";
const LIMIT: Duration = Duration::from_secs(20);

fn with_jail() -> Home {
    let home = Home::new().without_kernel();
    home.jail("door", JAIL);
    home
}

/// Fails twice for so many addresses; waits until clients see their bans.
fn ban(daemon: &Daemon, subnet: u8, count: u8) -> Vec<String> {
    let addresses: Vec<String> = (1..=count).map(|host| format!("10.0.{subnet}.{host}")).collect();
    for address in &addresses {
        daemon.fail(address, 2);
    }
    wait_for("the bans", LIMIT, || {
        let banned = daemon.tell(&["get", "door", "banip"]);
        let banned: Vec<&str> = banned.split_whitespace().collect();
        addresses.iter().all(|address| banned.contains(&&**address))
    });
    addresses
}

#[test]
fn a_log_that_vanishes_is_waited_for_and_counts_go_on_when_it_returns() {
    for backend in ["auto", "polling"] {
        let home = Home::new().without_kernel();
        home.put("logs/auth.log", "");
        home.jail("door", &format!("{}backend = {backend}\n", JAIL.replace("LOG", "DIR/logs/auth.log")));
        let daemon = home.start();
        // a file that begins with the same line in the same second could not be told from the old one
        let fail = |daemon: &Home, address: &str, first: &str| {
            daemon.append("logs/auth.log", &[format!("doord: {first}"), failure(address)]);
        };
        fail(&daemon, "192.0.2.7", "one");
        daemon.wait_for("Found 192.0.2.7");
        // the file
        fs::remove_file(daemon.path("logs/auth.log")).unwrap();
        fail(&daemon, "192.0.2.7", "two");
        daemon.wait_for("[door] Ban 192.0.2.7");
        // its folder, while a reload asks for it
        fail(&daemon, "192.0.2.8", "three");
        daemon.wait_for("Found 192.0.2.8");
        fs::remove_dir_all(daemon.path("logs")).unwrap();
        daemon.signal(rustix::process::Signal::HUP);
        daemon.wait_for("Reload: nothing changed: the configuration is unusable: ");
        daemon.wait_for("no log file is there");
        assert_eq!(daemon.tell(&["get", "door", "banip"]), "192.0.2.7");
        fail(&daemon, "192.0.2.8", "four");
        daemon.wait_for("[door] Ban 192.0.2.8");
    }
}

#[test]
fn a_full_disk_costs_no_ban_and_no_line_of_the_log_is_torn() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let home = Home::new();
    let small = home.path("small");
    fs::create_dir(&small).unwrap();
    net.server().run(&format!("mount -t tmpfs -o size=600k none {}", small.display()));
    // log, database and what is watched on one disk; another log elsewhere
    std::os::unix::fs::symlink(small.join("log"), home.path("log")).unwrap();
    home.put("small/auth.log", "");
    home.database("DIR/small/db");
    home.jail("door", &JAIL.replace("LOG", "LOG\n DIR/small/auth.log"));
    let daemon = home.start();
    daemon.append("small/auth.log", &vec![failure("192.0.2.3"); 2]);
    daemon.wait_for("[door] Ban 192.0.2.3");
    let mut fill = fs::File::create(small.join("fill")).unwrap();
    while fill.write_all(&[0; 4096]).is_ok() {}
    let mut banned: Vec<String> = (0..4).flat_map(|subnet| ban(&daemon, subnet, 50)).collect();
    assert!(net.attacker().reaches(22));
    daemon.fail(ATTACKER, 2);
    wait_for("the ban", LIMIT, || !net.attacker().reaches(22));
    let before = daemon.log();
    assert!(
        !before.ends_with('\n') || !before.contains(&format!("Ban {ATTACKER}\n")),
        "the disk is not full: {before}"
    );
    fs::remove_file(small.join("fill")).unwrap();
    drop(fill);
    daemon.append("small/auth.log", &vec![failure("192.0.2.4"); 2]);
    daemon.wait_for("[door] Ban 192.0.2.4");
    daemon.wait_for("the database can be written again");
    banned.extend([ATTACKER, "192.0.2.3", "192.0.2.4"].map(str::to_owned));
    let log = daemon.log();
    for line in log.lines() {
        assert!(line.starts_with("20") && line.matches(" fail2ban.").count() == 1, "a torn line: {line}");
    }
    // the room of the log is what was on the disk then, so most could be kept until later
    for address in &banned {
        assert_eq!(log.matches(&format!("[door] Ban {address}\n")).count(), 1, "{address}");
    }
    assert_eq!(log.matches("bans go on, and are stored as soon as that works").count(), 1, "said once");
    let stored = rusqlite::Connection::open(small.join("db")).unwrap();
    let stored: i64 = stored.query_row("SELECT count(DISTINCT ip) FROM bips", [], |row| row.get(0)).unwrap();
    assert_eq!(stored, banned.len() as i64);
    daemon.stop();
    net.server().run(&format!("umount -l {}", small.display()));
}

/// Somebody who has locked the database; until dropped.
fn lock(database: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.busy_timeout(LIMIT).unwrap();
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    connection
}

#[test]
fn a_locked_database_holds_up_no_ban_and_gets_all_of_them_later() {
    let daemon = with_jail().start();
    let before = ban(&daemon, 1, 3);
    let held = lock(&daemon.path("db"));
    let during = ban(&daemon, 2, 30);
    daemon.wait_for("bans go on, and are stored as soon as that works");
    daemon.wait_for(&format!("[door] Ban {}", during[29]));
    assert_eq!(daemon.rows("SELECT count(*) FROM bans"), [before.len().to_string()]);
    drop(held);
    daemon.wait_for("the database can be written again");
    assert_eq!(daemon.rows("SELECT count(*) FROM bans"), [(before.len() + during.len()).to_string()]);
    assert_eq!(daemon.count("bans go on, and are stored as soon as that works"), 1, "said once");
    // a stop waits a while for whoever holds it
    let held = lock(&daemon.path("db"));
    let last = ban(&daemon, 3, 3);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_for("Shutdown in progress");
    drop(held);
    let (home, ended) = daemon.wait();
    assert!(ended.success());
    assert_eq!(home.rows("SELECT ip FROM bans WHERE ip LIKE '10.0.3.%' ORDER BY 1"), last);
}

#[test]
fn a_database_destroyed_while_it_is_in_use_is_made_anew_with_all_bans() {
    for harm in ["overwritten", "emptied", "removed"] {
        let daemon = with_jail().start();
        let mut banned = ban(&daemon, 1, 20);
        // the index in shared memory is mapped: a process does not survive that it is emptied
        let files = if harm == "emptied" { &["db", "db-wal"][..] } else { &["db", "db-wal", "db-shm"] };
        for path in files.iter().map(|name| daemon.path(name)) {
            match harm {
                "overwritten" => {
                    let size = fs::metadata(&path).unwrap().len() as usize;
                    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
                    file.write_all(&vec![0xa5; size]).unwrap();
                }
                "emptied" => _ = OpenOptions::new().write(true).truncate(true).open(&path).unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
        }
        banned.extend(ban(&daemon, 2, 20));
        daemon.wait_for(if harm == "overwritten" { "The database was damaged" } else { "all bans are stored again" });
        // the log must not be what they are known from
        fs::rename(daemon.path("auth.log"), daemon.path("auth.log.away")).unwrap();
        banned
            .extend(daemon.tell(&["set", "door", "banip", "10.0.3.1"]).starts_with('1').then(|| "10.0.3.1".to_owned()));
        let home = daemon.stop();
        home.put("auth.log", "");
        let daemon = home.start();
        daemon.wait_for_times("Restore Ban", banned.len());
        assert_eq!(daemon.rows("SELECT count(DISTINCT ip) FROM bips"), [banned.len().to_string()], "{harm}");
    }
}

/// Open files of a daemon.
fn files(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count()
}

#[test]
fn commands_that_flood_hang_or_leave_daemons_behind_cost_neither_bans_nor_files_nor_memory() {
    let home = with_jail();
    let dir = home.path("").display().to_string();
    home.put(
        "action.d/wild.conf",
        &format!(
            "[Definition]\nactionban = head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2\n\
             \x20           sleep 600 & echo $! >> {dir}/left\n\
             \x20           setsid sleep 600 & echo $! >> {dir}/left\n\
             \x20           echo ban <ip> >> {dir}/told\n\
             actionunban = sleep 600\n[Init]\ntimeout = 5\n"
        ),
    );
    home.put("action.d/stuck.conf", "[Definition]\nactionstop = trap '' TERM; sleep 600\n[Init]\ntimeout = 1\n");
    home.jail("door", &format!("{JAIL} wild\n stuck\n"));
    let daemon = home.start();
    ban(&daemon, 1, 1);
    let told = |daemon: &Home| fs::read_to_string(daemon.path("told")).unwrap_or_default().lines().count();
    wait_for("the first command", LIMIT, || told(&daemon) == 1);
    let (open, memory) = (files(&daemon), daemon.figure("VmHWM"));
    ban(&daemon, 2, 10);
    wait_for("all commands", LIMIT, || told(&daemon) == 11);
    // nobody waits for what was left behind
    wait_for("the files of the commands", LIMIT, || files(&daemon) <= open);
    assert!(daemon.figure("VmHWM") < memory + 8 * 1024, "{} KiB after {memory}", daemon.figure("VmHWM"));
    assert_eq!(daemon.tell(&["set", "door", "unbanip", "10.0.2.10"]), "1");
    daemon.wait_for("timed out after 5 seconds.");
    let left = fs::read_to_string(daemon.path("left")).unwrap();
    for process in left.lines() {
        let process = rustix::process::Pid::from_raw(process.parse().unwrap()).unwrap();
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
    daemon.put("action.d/wild.conf", "[Definition]\nactionban =\n");
    daemon.tell(&["reload"]);
    let home = daemon.stop();
    assert!(home.count("timed out after 1 seconds.") > 0, "{}", home.log());
}
