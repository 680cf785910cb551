#![expect(clippy::unwrap_used, reason = "a test may")]

use super::*;

/// Tables enough to test with; the real ones are `fail2ban::database`'s.
const SCHEMA: Schema = Schema {
    version: 4,
    create: "CREATE TABLE version(version INTEGER); INSERT INTO version VALUES(4);
        CREATE TABLE jails(name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1);
        CREATE TABLE logs(jail TEXT NOT NULL REFERENCES jails(name) ON DELETE CASCADE, path TEXT, firstlinemd5 TEXT,
            lastfilepos INTEGER DEFAULT 0, UNIQUE(jail, path));
        CREATE TABLE bans(jail TEXT NOT NULL REFERENCES jails(name), ip TEXT, timeofban INTEGER NOT NULL,
            bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON);
        CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL REFERENCES jails(name), timeofban INTEGER NOT NULL,
            bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON, PRIMARY KEY(ip, jail));",
    upgrades: &[],
    read_version: "SELECT version FROM version",
};

fn at(seconds: i64) -> Time {
    Time::from_seconds(seconds)
}

fn ban(id: &str, time: i64, bantime: f64) -> Change {
    Change::Ban(Ban { jail: "j".into(), id: id.into(), time: at(time), bantime, count: 1, data: b"{}".to_vec() })
}

fn position(path: &str, offset: u64) -> Change {
    Change::Position(Position { jail: "j".into(), path: path.into(), hash: "ab".into(), offset, inode: u64::MAX - 1 })
}

fn failure(id: &str, retry: u32) -> Change {
    Change::Failure(Failure {
        jail: "j".into(),
        id: id.into(),
        first: Time::from_micros(1),
        last: at(7),
        retry,
        failures: retry,
        data: vec![0, 255],
    })
}

fn open(path: &Path) -> (State, Opened) {
    State::open(Some(path), SCHEMA, at(1_700_000_000)).unwrap()
}

#[test]
fn what_was_committed_is_there_after_a_crash_and_after_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/state.sqlite3");
    let (mut state, opened) = open(&path);
    assert_eq!(opened, Opened::Created);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let changes =
        [ban("192.0.2.1", 100, 60.5), position("/var/log/x", 10), position("/var/log/x", 20), failure("192.0.2.2", 3)];
    state.commit(&changes).unwrap();
    // a copy of the files as they are is what a crash leaves
    let crashed = folder.path().join("crashed.sqlite3");
    for suffix in ["", "-wal"] {
        let file = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(file(&path), file(&crashed)).unwrap();
    }
    state.close().unwrap();
    assert!(!folder.path().join("new/state.sqlite3-wal").exists());
    for path in [&crashed, &path] {
        let (state, opened) = open(path);
        assert_eq!(opened, Opened::Existing);
        let restore = Restore { jail: "j", now: at(150), bantime: 600.0, increment: None };
        let [Change::Ban(expected), _, Change::Position(last), Change::Failure(counter)] = &changes else { panic!() };
        assert_eq!(state.restorable(&restore).unwrap().bans, std::slice::from_ref(expected));
        assert_eq!(state.positions("j").unwrap(), std::slice::from_ref(last));
        assert_eq!(state.failures("j").unwrap(), std::slice::from_ref(counter));
        assert_eq!(state.enabled_jails().unwrap(), ["j"]);
    }
}

#[test]
fn a_commit_is_all_or_nothing_and_can_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let (mut state, _) = open(&path);
    state.commit(&[Change::NoJails]).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let changes = [ban("192.0.2.1", 100, 60.0), position("/x", 1)];
    let error = state.commit(&changes).unwrap_err();
    assert!(error.is_busy(), "{error:?}");
    other.execute_batch("ROLLBACK").unwrap();
    state.commit(&changes).unwrap();
    assert_eq!(state.bans_of("192.0.2.1", None).unwrap().len(), 1);
}

#[test]
fn order_within_a_commit_is_kept() {
    let (mut state, _) = State::open(None, SCHEMA, at(0)).unwrap();
    let delete = Change::Delete { jail: "j".into(), id: "192.0.2.1".into() };
    let forget = Change::Forget { jail: "j".into(), id: "192.0.2.1".into() };
    state
        .commit(&[ban("192.0.2.1", 1, 9.0), delete, ban("192.0.2.1", 2, 9.0), failure("192.0.2.1", 1), forget])
        .unwrap();
    assert_eq!(state.bans_of("192.0.2.1", Some("j")).unwrap().len(), 1);
    assert_eq!(state.failures("j").unwrap(), []);
    state.commit(&[failure("a", 1), Change::ForgetAll("j".into()), Change::DeleteAll("j".into())]).unwrap();
    assert_eq!(state.bans_of("192.0.2.1", None).unwrap(), []);
    assert_eq!(state.failures("j").unwrap(), []);
}

#[test]
fn restored_bans_have_the_length_of_the_present_settings() {
    let (mut state, _) = State::open(None, SCHEMA, at(0)).unwrap();
    let rows = [("a", 900, 200.0), ("b", 900, -1.0), ("c", 900, 100.0), ("d", 100, 5000.0), ("e", 900, -2.0)];
    state.commit(&rows.map(|(id, time, length)| ban(id, time, length))).unwrap();
    let restored = |bantime, increment| -> Vec<(String, f64)> {
        let restore = Restore { jail: "j", now: at(1000), bantime, increment };
        state.restorable(&restore).unwrap().bans.into_iter().map(|ban| (ban.id.to_string(), ban.bantime)).collect()
    };
    let expect =
        |rows: &[(&str, f64)]| -> Vec<(String, f64)> { rows.iter().map(|(id, t)| ((*id).into(), *t)).collect() };
    // c ended this very second; d is older than the jail's bantime
    assert_eq!(restored(600.0, None), expect(&[("a", 200.0), ("b", 600.0), ("e", 600.0)]));
    assert_eq!(restored(150.0, None), expect(&[("a", 150.0), ("b", 150.0), ("e", 150.0)]));
    assert_eq!(restored(100.0, None), expect(&[]));
    assert_eq!(restored(-1.0, None), expect(&[("a", 200.0), ("b", -1.0), ("d", 5000.0), ("e", -1.0)]));
    assert_eq!(restored(600.0, Some(-1.0)), expect(&[("a", 200.0), ("b", -1.0), ("d", 5000.0), ("e", 600.0)]));
    assert_eq!(restored(600.0, Some(1000.0)), expect(&[("a", 200.0), ("b", 1000.0), ("d", 1000.0), ("e", 600.0)]));
}

#[test]
fn history_is_the_last_ban_in_each_jail() {
    let (mut state, _) = State::open(None, SCHEMA, at(0)).unwrap();
    let row = |jail: &str, time, count| {
        Change::Ban(Ban { jail: jail.into(), id: "a".into(), time: at(time), bantime: 10.0, count, data: vec![] })
    };
    state.commit(&[row("j", 1, 1), row("j", 5, 2), row("k", 3, 4)]).unwrap();
    let history = |count, time| History { count, time: at(time), bantime: 10.0 };
    let mut found = state.histories_of("a").unwrap();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(found, [("j".into(), history(2, 5)), ("k".into(), history(4, 3))]);
    assert_eq!(state.histories_of("b").unwrap(), []);
    assert_eq!(state.histories("j").unwrap().len(), 1);
}

#[test]
fn the_purge_keeps_what_may_count_again() {
    let (mut state, _) = State::open(None, SCHEMA, at(0)).unwrap();
    let off = |name: &str| Change::Jail { name: name.into(), enabled: false };
    // with an age of 86400 at 100000, everything before 13600 is old
    state
        .commit(&[ban("a", 10_000, 3600.0), ban("b", 100, 3600.0), ban("c", 100, -1.0), off("gone"), off("j")])
        .unwrap();
    state.purge(at(100_000), 86_400.0).unwrap();
    let left: Vec<String> = state.histories("j").unwrap().into_iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(left, ["a", "c"]);
    assert_eq!(state.bans_of("a", None).unwrap(), []);
    // the jail with rows stays, and the next commit may name a jail that went
    let jails = |state: &State| state.rows("SELECT name FROM jails", [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(jails(&state), ["j"]);
    state
        .commit(&[Change::Position(Position {
            jail: "gone".into(),
            path: "/x".into(),
            hash: String::new(),
            offset: 0,
            inode: 0,
        })])
        .unwrap();
    assert_eq!(jails(&state).len(), 2);
}

#[test]
fn a_damaged_file_is_moved_aside_and_its_readable_rows_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let (mut state, opened) = open(&path);
    let moved = folder.path().join("state.20231114-221320");
    assert_eq!(opened, Opened::Repaired { moved: moved.clone(), rows: 0 });
    assert_eq!(std::fs::read(&moved).unwrap(), vec![b'x'; 8192]);
    state.commit(&(0..2000).map(|n| ban(&format!("192.0.2.{n}"), 100, 60.0)).collect::<Vec<_>>()).unwrap();
    state.close().unwrap();
    // the last pages of the file become rubbish
    let mut bytes = std::fs::read(&path).unwrap();
    let from = bytes.len() * 3 / 4;
    bytes[from..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let (mut state, _) = open(&path);
    let Opened::Repaired { moved: second, rows } = state.repair(at(1_700_000_000)).unwrap() else { panic!() };
    assert_ne!(second, moved);
    assert!(rows > 500, "{rows} rows");
    state.commit(&[ban("192.0.2.1", 100, 60.0)]).unwrap();
}

#[test]
fn a_file_of_a_newer_version_or_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for tables in ["CREATE TABLE version(version); INSERT INTO version VALUES(5)", "CREATE TABLE passwords(name)"] {
        let _ = std::fs::remove_file(&path);
        let other = Connection::open(&path).unwrap();
        other.execute_batch(tables).unwrap();
        drop(other);
        let before = std::fs::read(&path).unwrap();
        let error = State::open(Some(&path), SCHEMA, at(0)).unwrap_err();
        assert!(matches!(error, Error::Version { found: 5, .. } | Error::Foreign { .. }), "{error}");
        assert!(!error.may_pass());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_row_that_fail2ban_wrote_since_has_no_inode() {
    let (mut state, _) = State::open(None, SCHEMA, at(0)).unwrap();
    state.commit(&[position("/x", 20)]).unwrap();
    state.connection().unwrap().execute("UPDATE logs SET lastfilepos = 30", []).unwrap();
    let read = state.positions("j").unwrap();
    assert_eq!((read[0].offset, read[0].inode), (30, 0));
}

#[test]
fn times_are_rounded_to_the_even_second() {
    for (micros, seconds) in [(1_500_000, 2), (2_500_000, 2), (2_500_001, 3), (-1_500_000, -2), (999, 0)] {
        assert_eq!(whole_seconds(Time::from_micros(micros)), seconds);
    }
}
