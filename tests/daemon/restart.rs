//! What a stop and a start, or a kill and a start, leave as it was.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::net::{ATTACKER, SERVER, wait_for};
use crate::in_namespaces;

const JAIL: &str = "logpath = LOG\nmaxretry = 5\nbantime = 1h\naction = nftables-native[port=22]\n";

fn with_jail(options: &str) -> Home {
    let home = Home::new().without_kernel();
    home.jail("door", options);
    home
}

/// Length of a jail's only ban as the client tells it.
fn length(daemon: &Daemon) -> String {
    let told = daemon.tell(&["get", "door", "banip", "--with-time"]);
    assert_eq!(told.lines().count(), 1, "{told}");
    told.split(" + ").nth(1).unwrap().split(" = ").next().unwrap().to_owned()
}

#[test]
fn after_a_kill_the_kernel_goes_on_banning_and_gets_the_bans_with_the_time_that_is_left() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let home = Home::new();
    home.jail("door", JAIL);
    let daemon = home.start();
    daemon.fail(ATTACKER, 5);
    daemon.fail("192.0.2.3", 3);
    daemon.wait_for(&format!("[door] Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22));
    // the three are stored within a moment
    wait_for("positions", Duration::from_secs(5), || daemon.rows("SELECT failures FROM sekimori_failures") == ["3"]);
    let home = daemon.kill();
    assert!(!net.attacker().reaches(22), "the ban does not depend on a process");
    // a ban of half an hour ago
    home.change("UPDATE bips SET timeofban = timeofban - 1800; UPDATE bans SET timeofban = timeofban - 1800");
    home.fail("192.0.2.3", 2);
    let daemon = home.start();
    daemon.wait_for(&format!("[door] Restore Ban {ATTACKER}"));
    daemon.wait_for("[door] Ban 192.0.2.3");
    assert!(!net.attacker().reaches(22));
    let listed = net.server().run("nft list table inet sekimori");
    let element = listed.split(',').find(|element| element.contains(ATTACKER)).unwrap_or_default().to_owned();
    assert!(element.contains("expires 29m5") || element.contains("expires 30m"), "{listed}");
    assert_eq!(daemon.count("[door] Ban"), 2);
}

#[test]
fn a_log_that_was_rotated_while_nobody_ran_is_read_to_its_end() {
    let home = with_jail(JAIL);
    let daemon = home.start();
    daemon.fail("192.0.2.7", 3);
    daemon.wait_for_times("Found 192.0.2.7", 3);
    let home = daemon.stop();
    home.fail("192.0.2.7", 1);
    fs::rename(home.path("auth.log"), home.path("auth.log.1")).unwrap();
    home.fail("192.0.2.7", 1);
    let daemon = home.start();
    daemon.wait_for("[door] Ban 192.0.2.7");
    let home = daemon.stop();
    assert_eq!(home.count("Found 192.0.2.7"), 5);
    assert_eq!(home.rows("SELECT ip, json_extract(data, '$.failures') FROM bans"), ["192.0.2.7 5"]);
    let daemon = home.start();
    daemon.fail("192.0.2.8", 5);
    daemon.wait_for("[door] Ban 192.0.2.8");
    assert_eq!(daemon.count("Found 192.0.2.7"), 5);
}

#[test]
fn a_lowered_bantime_shortens_old_bans_a_raised_one_does_not_lengthen_them() {
    let home = with_jail(JAIL);
    let daemon = home.start();
    daemon.fail("192.0.2.7", 5);
    daemon.wait_for("[door] Ban 192.0.2.7");
    let home = daemon.stop();
    for (bantime, expected) in [("2h", "3600"), ("30m", "1800"), ("-1", "3600")] {
        home.jail("door", &JAIL.replace("1h", bantime));
        let daemon = restart(&home);
        assert_eq!(length(&daemon), expected, "{bantime}");
        drop(daemon);
    }
    // ten seconds are long over
    home.change("UPDATE bips SET timeofban = timeofban - 60");
    home.jail("door", &JAIL.replace("1h", "10"));
    assert_eq!(restart(&home).tell(&["get", "door", "banip"]), "");
}

/// A daemon on a copy of the folder.
fn restart(home: &Home) -> Daemon {
    let copy = Home::new().without_kernel();
    for name in ["db", "jail.d/door.conf", "auth.log"] {
        fs::create_dir_all(copy.path("jail.d")).unwrap();
        fs::copy(home.path(name), copy.path(name)).unwrap();
    }
    copy.start()
}

#[test]
fn permanent_bans_have_no_end_until_the_jail_gives_them_one() {
    let home = with_jail(&JAIL.replace("1h", "-1"));
    let daemon = home.start();
    daemon.fail("192.0.2.7", 5);
    daemon.wait_for("[door] Ban 192.0.2.7");
    let told = daemon.tell(&["get", "door", "banip", "--with-time"]);
    assert!(told.ends_with(" + -1 = 9999-12-31 23:59:59"), "{told}");
    let home = daemon.kill();
    let daemon = home.start();
    daemon.wait_for("[door] Restore Ban 192.0.2.7");
    let told = daemon.tell(&["get", "door", "banip", "--with-time"]);
    assert!(told.ends_with(" + -1 = 9999-12-31 23:59:59"), "{told}");
    let home = daemon.stop();
    home.jail("door", JAIL);
    assert_eq!(length(&home.start()), "3600");
}

#[test]
fn without_a_database_file_bans_are_in_force_and_forgotten_at_the_end() {
    for dbfile in ["None", ":memory:"] {
        let home = with_jail(JAIL);
        home.database(dbfile);
        let daemon = home.start();
        daemon.fail("192.0.2.7", 5);
        daemon.wait_for("[door] Ban 192.0.2.7");
        assert_eq!(daemon.tell(&["get", "door", "banip"]), "192.0.2.7");
        let shown = daemon.tell(&["get", "dbfile"]);
        assert!(if dbfile == "None" { shown.contains("disabled") } else { shown.contains(dbfile) }, "{shown}");
        let home = daemon.stop();
        assert!(!home.path("None").exists() && !home.path(":memory:").exists());
        // what is in the log has been read, as far as anybody knows it has not
        let daemon = home.start();
        daemon.wait_for_times("[door] Ban 192.0.2.7", 2);
        assert_eq!(daemon.count("Restore Ban"), 0);
    }
}

#[test]
fn a_damaged_database_is_mended_with_what_can_be_read() {
    let home = with_jail(JAIL);
    let daemon = home.start();
    daemon.fail("192.0.2.7", 5);
    daemon.wait_for("[door] Ban 192.0.2.7");
    let home = daemon.stop();
    // a page in the middle: that of the ban log's own index or rows
    let root = home.rows("SELECT rootpage FROM sqlite_master WHERE name = 'bans'");
    let page: u64 = root[0].parse().unwrap();
    let mut file = OpenOptions::new().write(true).open(home.path("db")).unwrap();
    file.seek(SeekFrom::Start((page - 1) * 4096)).unwrap();
    file.write_all(&[0xff; 4096]).unwrap();
    let daemon = home.start();
    daemon.wait_for("[door] Restore Ban 192.0.2.7");
    daemon.fail("192.0.2.8", 5);
    daemon.wait_for("[door] Ban 192.0.2.8");
    daemon.wait_for("fail2ban.database");
    let home = daemon.stop();
    assert_eq!(home.rows("SELECT ip FROM bans WHERE ip = '192.0.2.8'"), ["192.0.2.8"]);
    assert_eq!(home.rows("SELECT ip FROM bips ORDER BY 1"), ["192.0.2.7", "192.0.2.8"]);
    assert!(home.count("damaged") > 0, "{}", home.log());

    // no database at all
    fs::write(home.path("db"), "no database\n".repeat(2000)).unwrap();
    let daemon = home.start();
    daemon.fail("192.0.2.9", 5);
    daemon.wait_for("[door] Ban 192.0.2.9");
    let home = daemon.stop();
    assert_eq!(home.rows("SELECT ip FROM bans WHERE ip = '192.0.2.9'"), ["192.0.2.9"]);
    let aside = fs::read_dir(home.path("")).unwrap().flatten();
    let aside = aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("db.")).count();
    assert!(aside >= 2, "the damaged files are kept");
}

#[test]
fn a_database_that_cannot_be_made_costs_the_memory_only() {
    let home = with_jail(JAIL);
    home.put("file", "");
    home.database("DIR/file/db");
    let daemon = home.start();
    daemon.wait_for("bans go on, and are stored as soon as that works");
    daemon.fail("192.0.2.7", 5);
    daemon.wait_for("[door] Ban 192.0.2.7");
}

#[test]
fn on_a_full_disk_bans_go_on_and_are_stored_when_there_is_room_again() {
    let home = Home::new().without_kernel().with_small_disk(400 * 1024);
    home.jail("door", JAIL);
    home.database("DIR/small/db");
    let daemon = home.start();
    daemon.fail("192.0.2.7", 5);
    daemon.wait_for("[door] Ban 192.0.2.7");
    let inside = |name: &str| {
        let path = daemon.path("small").join(name);
        std::path::PathBuf::from(format!("/proc/{}/root", daemon.id())).join(path.strip_prefix("/").unwrap())
    };
    let mut fill = OpenOptions::new().create(true).append(true).open(inside("fill")).unwrap();
    while fill.write_all(&[0; 1024]).is_ok() {}
    let mut number = 0;
    while daemon.count("bans go on, and are stored as soon as that works") == 0 {
        number += 1;
        assert!(number < 200, "{}", daemon.log());
        daemon.fail(&format!("192.0.2.{}", 8 + number), 5);
        daemon.wait_for(&format!("[door] Ban 192.0.2.{}", 8 + number));
    }
    let more = format!("198.51.100.{number}");
    daemon.fail(&more, 5);
    daemon.wait_for(&format!("[door] Ban {more}"));
    fs::remove_file(inside("fill")).unwrap();
    drop(fill);
    daemon.wait_for("the database can be written again");
    for name in ["db", "db-wal"] {
        fs::copy(inside(name), daemon.path(name)).unwrap();
    }
    assert_eq!(daemon.rows("SELECT count(*) FROM bans"), [(number + 2).to_string()]);
    assert_eq!(daemon.rows("SELECT count(*) FROM sekimori_failures"), ["0"]);
    assert_eq!(daemon.count("bans go on, and are stored as soon as that works"), 1, "said once");
}
