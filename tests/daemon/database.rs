//! Databases as they are found: of older versions, with odd content, in use by others, on disks that are read-only.

use std::fs;
use std::time::Duration;

use crate::harness::daemon::Home;
use crate::harness::net::wait_for;
use crate::in_namespaces;

const JAIL: &str = "logpath = LOG\nmaxretry = 5\nbantime = 1h\naction = nftables-native[port=22]\n";

fn with_jail() -> Home {
    let home = Home::new().without_kernel();
    home.jail("door", JAIL);
    home
}

/// A minute ago, in seconds since the epoch.
fn lately() -> i64 {
    jiff::Timestamp::now().as_second() - 60
}

/// What Fail2Ban's versions 1 to 4 had for tables, with one ban of `192.0.2.7` and a position.
fn old(version: u32) -> String {
    let constraint = "FOREIGN KEY(jail) REFERENCES jails(name) ON DELETE CASCADE, UNIQUE(jail, path)";
    let logs = if version < 2 {
        "CREATE TABLE logs(jail TEXT NOT NULL, path TEXT, firstlinemd5 TEXT, lastfilepos INTEGER DEFAULT 0, \
         FOREIGN KEY(jail) REFERENCES jails(name) ON DELETE CASCADE, UNIQUE(jail, path, firstlinemd5));"
            .to_owned()
    } else {
        format!(
            "CREATE TABLE logs(jail TEXT NOT NULL, path TEXT, firstlinemd5 TEXT, lastfilepos INTEGER DEFAULT 0, \
             {constraint}, UNIQUE(jail, path, firstlinemd5));"
        )
    };
    let (more, values) = if version < 3 {
        ("", "")
    } else {
        (", bantime INTEGER NOT NULL, bancount INTEGER NOT NULL DEFAULT 1", ", 1800, 3")
    };
    let data = r#"'{"matches": ["a line"], "failures": 5}'"#;
    let time = lately();
    let mut text = format!(
        "CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES({version});\
         CREATE TABLE jails(name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1);\
         CREATE INDEX jails_name ON jails(name);{logs}\
         CREATE INDEX logs_path ON logs(path); CREATE INDEX logs_jail_path ON logs(jail, path);\
         CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL{more}, data JSON, \
         FOREIGN KEY(jail) REFERENCES jails(name));\
         CREATE INDEX bans_jail_timeofban_ip ON bans(jail, timeofban); CREATE INDEX bans_ip ON bans(ip);\
         INSERT INTO jails VALUES('door', 1); INSERT INTO logs VALUES('door', '/var/log/x', 'abc', 77);\
         INSERT INTO bans VALUES('door', '192.0.2.7', {time} - 9{values}, {data});\
         INSERT INTO bans VALUES('door', '192.0.2.7', {time}{values}, {data});"
    );
    if version == 4 {
        text += "CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, \
                 bantime INTEGER NOT NULL, bancount INTEGER NOT NULL DEFAULT 1, data JSON, PRIMARY KEY(ip, jail), \
                 FOREIGN KEY(jail) REFERENCES jails(name));\
                 INSERT OR REPLACE INTO bips SELECT ip, jail, timeofban, bantime, bancount, data FROM bans;";
    }
    text
}

#[test]
fn databases_of_versions_1_to_4_are_taken_over_and_fail2ban_can_go_on_with_them() {
    for version in 1..=4 {
        let home = with_jail();
        home.change(&old(version));
        let daemon = home.start();
        daemon.wait_for("[door] Restore Ban 192.0.2.7");
        let told = daemon.tell(&["get", "door", "banip", "--with-time"]);
        // before version 3 the length was not kept: it is the jail's
        assert!(told.contains(if version < 3 { " + 3600 = " } else { " + 1800 = " }), "{version}: {told}");
        let updated = format!("Database updated from '{version}' to '4'");
        assert_eq!(daemon.count(&updated), usize::from(version < 4));
        let home = daemon.stop();
        assert_eq!(home.rows("SELECT version FROM fail2banDb"), ["4"]);
        assert_eq!(home.rows("SELECT count(*) FROM bans"), ["2"]);
        let count = if version < 3 { 1 } else { 3 };
        let row = "SELECT bancount, json_extract(data, '$.matches[0]') FROM bips";
        assert_eq!(home.rows(row), [format!("{count} a line")]);
        assert_eq!(home.rows("SELECT path, lastfilepos FROM logs WHERE path = '/var/log/x'"), ["/var/log/x 77"]);
        let copies = fs::read_dir(home.path("")).unwrap().flatten();
        let copies = copies.filter(|entry| entry.file_name().to_string_lossy().starts_with("db.")).count();
        assert_eq!(copies, usize::from(version < 4), "as it was, it is kept");
        // going back
        home.jail("door", "backend = polling\nlogpath = LOG\nbantime = 1h\naction =\n");
        fs::remove_file(home.path("log")).unwrap();
        let daemon = home.real().start();
        daemon.wait_for("[door] Restore Ban 192.0.2.7");
        assert_eq!(daemon.count("ERROR"), 0, "{}", daemon.log());
    }
}

#[test]
fn hostile_rows_cost_the_good_ones_nothing() {
    let home = with_jail();
    home.change(&old(4));
    let deep = "[".repeat(100_000);
    home.change(&format!(
        "INSERT INTO bips VALUES('192.0.2.10', 'door', 'yesterday', 3600, 1, NULL);
         INSERT INTO bips VALUES('192.0.2.11', 'door', {now}, 'long', 1, NULL);
         INSERT INTO bips VALUES('192.0.2.12', 'door', 9e999, 3600, 1, NULL);
         INSERT INTO bips VALUES(x'ff00fe', 'door', {now}, -1, 1, NULL);
         INSERT INTO bips VALUES('192.0.2.13', 'door', {now}, 3600, 'many', NULL);
         INSERT INTO bips VALUES(printf('%.*c', 2000000, 'x'), 'door', {now}, 3600, 1, NULL);
         INSERT INTO bips VALUES('192.0.2.14', 'door', {now}, 3600, -7, zeroblob(50000000));
         INSERT INTO bips VALUES('192.0.2.15', 'door', {now}, 1800, 1, '{{\"matches\": {deep}');
         INSERT INTO bips VALUES('192.0.2.16', 'door', {now}, 3600, 1, '{{\"matches\": {{\"a\": 1}}, \"failures\": -5}}');
         INSERT INTO bips VALUES('192.0.2.17', 'door', {now} + 1000000000, 3600, 1, NULL);
         INSERT INTO logs VALUES('door', '/var/log/y', x'00ff', 'far');
         CREATE TRIGGER evil AFTER INSERT ON bips BEGIN DELETE FROM bips; END;
         CREATE TRIGGER worse AFTER INSERT ON jails BEGIN DELETE FROM bans; END;",
        now = lately(),
    ));
    let daemon = home.start();
    for id in ["7", "14", "15", "16"] {
        daemon.wait_for(&format!("[door] Restore Ban 192.0.2.{id}\n"));
    }
    daemon.wait_for("row(s) of the database are of no use and are left out");
    assert!(daemon.figure("VmHWM") < 100_000, "{} KiB", daemon.figure("VmHWM"));
    daemon.fail("192.0.2.8", 5);
    daemon.wait_for("[door] Ban 192.0.2.8");
    let home = daemon.stop();
    let rows = home.rows("SELECT ip FROM bips WHERE ip IN ('192.0.2.7', '192.0.2.8') ORDER BY 1");
    assert_eq!(rows, ["192.0.2.7", "192.0.2.8"]);
}

#[test]
fn tables_that_are_not_as_they_ought_to_be_are_mended_with_what_they_have() {
    for damage in [
        "DROP TABLE bips; CREATE VIEW bips AS SELECT ip, jail, timeofban, bantime, bancount, data FROM bans",
        "DROP TABLE bips",
        "DROP TABLE logs; CREATE TABLE logs(jail, path)",
        "DELETE FROM fail2banDb",
        "UPDATE fail2banDb SET version = 'four'",
        "UPDATE fail2banDb SET version = -1",
        "CREATE TABLE sekimori_failures(x)",
        "ALTER TABLE bans DROP COLUMN bantime",
    ] {
        let home = with_jail();
        home.change(&old(4));
        home.change(damage);
        let daemon = home.start();
        daemon.wait_for("[door] Restore Ban 192.0.2.7");
        assert_eq!(daemon.count("The database was damaged"), 1, "{damage}: {}", daemon.log());
        daemon.fail("192.0.2.8", 5);
        daemon.wait_for("[door] Ban 192.0.2.8");
        let home = daemon.stop();
        assert_eq!(home.rows("SELECT count(*) FROM bips"), ["2"], "{damage}");
    }
}

#[test]
fn a_database_of_another_program_or_a_newer_version_stays_as_it_is() {
    for (tables, text) in [
        ("CREATE TABLE passwords(name); INSERT INTO passwords VALUES('x')", "is of another program"),
        ("CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES(5)", "a newer program wrote it"),
    ] {
        let home = with_jail();
        home.change(tables);
        let before = fs::read(home.path("db")).unwrap();
        let daemon = home.start();
        daemon.wait_for(text);
        daemon.fail("192.0.2.8", 5);
        daemon.wait_for("[door] Ban 192.0.2.8");
        assert_eq!(fs::read(daemon.stop().path("db")).unwrap(), before);
    }
}

#[test]
fn bans_of_a_database_that_another_program_holds_come_back_when_it_is_free() {
    let home = with_jail();
    home.change(&old(4));
    let other = rusqlite::Connection::open(home.path("db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let daemon = home.start();
    daemon.wait_for("bans go on, and are stored as soon as that works");
    daemon.fail("192.0.2.8", 5);
    daemon.wait_for("[door] Ban 192.0.2.8");
    daemon.fail("192.0.2.9", 3);
    daemon.wait_for_times("Found 192.0.2.9", 3);
    assert_eq!(daemon.count("Restore Ban"), 0);
    drop(other);
    daemon.wait_for("the database can be written again");
    daemon.wait_for("[door] Restore Ban 192.0.2.7");
    let home = daemon.kill();
    assert_eq!(home.rows("SELECT ip FROM bips ORDER BY 1"), ["192.0.2.7", "192.0.2.8"]);
    assert_eq!(home.rows("SELECT id, failures FROM sekimori_failures"), ["192.0.2.9 3"]);
}

#[test]
fn bans_on_a_disk_that_is_read_only_are_restored_and_new_ones_stored_when_it_is_not() {
    let net = in_namespaces!();
    let home = with_jail();
    fs::create_dir(home.path("disk")).unwrap();
    let disk = home.path("disk").display().to_string();
    net.server().run(&format!("mount -t tmpfs none {disk}"));
    home.change(&old(4));
    fs::copy(home.path("db"), home.path("disk/db")).unwrap();
    home.database("DIR/disk/db");
    net.server().run(&format!("mount -o remount,ro {disk}"));
    let daemon = home.start();
    daemon.wait_for("bans go on, and are stored as soon as that works");
    daemon.wait_for("[door] Restore Ban 192.0.2.7");
    daemon.fail("192.0.2.8", 5);
    daemon.wait_for("[door] Ban 192.0.2.8");
    net.server().run(&format!("mount -o remount,rw {disk}"));
    daemon.wait_for("the database can be written again");
    assert_eq!(daemon.count("Restore Ban"), 1);
    assert_eq!(daemon.count("are stored as soon as"), 1, "said once");
    let home = daemon.stop();
    fs::copy(home.path("disk/db"), home.path("db")).unwrap();
    assert_eq!(home.rows("SELECT ip FROM bips ORDER BY 1"), ["192.0.2.7", "192.0.2.8"]);
}

/// Makes the files of a database unwritable for everybody, root included, as a disk with errors does that the kernel
/// makes read-only under running programs; or writable again.
fn forbid(home: &Home, change: &str) {
    for name in ["db", "db-wal", "db-shm"] {
        let done = std::process::Command::new("chattr").arg(change).arg(home.path(name)).status().unwrap();
        assert!(done.success(), "this test needs root and a disk that knows `chattr +i`");
    }
}

#[test]
fn when_the_disk_becomes_read_only_bans_go_on_and_are_stored_later() {
    if !rustix::process::geteuid().is_root() {
        // nobody else can take the right to write from an open file; what follows is the same as on a full disk,
        // see `restart`
        return;
    }
    let home = with_jail();
    let daemon = home.start();
    daemon.fail("192.0.2.7", 5);
    daemon.wait_for("[door] Ban 192.0.2.7");
    wait_for("the ban is stored", Duration::from_secs(5), || daemon.rows("SELECT ip FROM bips") == ["192.0.2.7"]);
    forbid(&daemon, "+i");
    daemon.fail("192.0.2.8", 5);
    daemon.wait_for("[door] Ban 192.0.2.8");
    daemon.wait_for("bans go on, and are stored as soon as that works");
    daemon.fail("192.0.2.9", 5);
    daemon.wait_for("[door] Ban 192.0.2.9");
    forbid(&daemon, "-i");
    daemon.wait_for("the database can be written again");
    assert_eq!(daemon.count("are stored as soon as"), 1, "said once");
    let home = daemon.stop();
    assert_eq!(home.rows("SELECT ip FROM bips ORDER BY 1"), ["192.0.2.7", "192.0.2.8", "192.0.2.9"]);
}
