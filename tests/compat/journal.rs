//! Entries of a journal as text, and reports about them: as the real `fail2ban-regex` has them.

use std::process::Command;

use crate::harness::journal::Journal;
use crate::harness::net::need;

/// Fields of an entry beside the message.
type Fields = &'static [(&'static str, &'static [u8])];

const HOST: (&str, &[u8]) = ("_HOSTNAME", b"h");

const ENTRIES: &[Fields] = &[
    &[HOST, ("SYSLOG_IDENTIFIER", b"sshd"), ("_PID", b"12"), ("MESSAGE", b"plain")],
    &[HOST, ("_COMM", b"sshd"), ("SYSLOG_PID", b"0x10"), ("_PID", b"12"), ("MESSAGE", b"a number in another base")],
    &[HOST, ("MESSAGE", b"nobody said it")],
    &[HOST, ("_PID", b"4"), ("MESSAGE", b"a process without a name")],
    &[("MESSAGE", b"nowhere")],
    &[("SYSLOG_IDENTIFIER", b"x"), ("MESSAGE", b"no host")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"kernel"), ("MESSAGE", b"k"), ("_SOURCE_MONOTONIC_TIMESTAMP", b"1234567")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"kernel"), ("MESSAGE", b"k"), ("_SOURCE_MONOTONIC_TIMESTAMP", b"99999999999999")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"kernel"), ("_PID", b"3"), ("MESSAGE", b"no kernel at all")],
    &[HOST, ("_COMM", b"kernel"), ("MESSAGE", b"k"), ("_SOURCE_MONOTONIC_TIMESTAMP", b"5000000")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"x"), ("MESSAGE", b"several\n\nlines\r\n")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"x"), ("MESSAGE", b"bad \xff\xfe\xc3 bytes")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"x"), ("MESSAGE", b"one"), ("MESSAGE", b"two\nthree"), ("MESSAGE", b"")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"x"), ("SYSLOG_PID", b" 007 "), ("MESSAGE", b"zeros")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"x"), ("SYSLOG_PID", b"-7"), ("MESSAGE", b"negative")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"x"), ("SYSLOG_PID", b"1_0"), ("MESSAGE", b"underscore")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"x"), ("SYSLOG_PID", b""), ("_PID", b"5"), ("MESSAGE", b"an empty number")],
    &[HOST, ("SYSLOG_IDENTIFIER", b""), ("_COMM", b"c"), ("_PID", b"5"), ("MESSAGE", b"an empty name")],
    &[("_HOSTNAME", b""), ("SYSLOG_IDENTIFIER", b"i"), ("MESSAGE", b"an empty host")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"i"), ("MESSAGE", b"  blanks \t ")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"i"), ("MESSAGE", b"\x1b[31m \x0b\x0c\x1c \xc2\x85 \xe2\x80\xa8 z")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"i")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"i"), ("MESSAGE", b"")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"i\xff"), ("_PID", b"5"), ("MESSAGE", b"a bad name")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"i"), ("MESSAGE", b"early"), ("_SOURCE_REALTIME_TIMESTAMP", b"1700000000000000")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"i"), ("MESSAGE", b"late"), ("_SOURCE_REALTIME_TIMESTAMP", b"1790000000000001")],
    &[HOST, ("SYSLOG_IDENTIFIER", b"sshd"), ("_COMM", b"sshd"), ("_PID", b"9"), ("MESSAGE", FAILED)],
    &[HOST, ("SYSLOG_IDENTIFIER", b"sshd"), ("_COMM", b"sshd"), ("_PID", b"9"), ("MESSAGE", b"Connection from nobody")],
];

const FAILED: &[u8] = b"Failed password for root from 192.0.2.7 port 4711 ssh2";

/// What a program says about a journal, without how long it took.
fn report(program: &mut Command, journal: &str, arguments: &[&str], zone: &str) -> String {
    let output = program.arg(journal).args(arguments).env("TZ", zone).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter(|line| !line.starts_with("[processed in")).collect::<Vec<_>>().join("\n")
}

#[test]
fn reports_about_a_journal_are_those_of_the_original() {
    need("fail2ban-regex", "fail2ban");
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(folder.path().join("j"));
    for fields in ENTRIES {
        journal.write(fields);
    }
    journal.close();
    let log = format!("systemd-journal[journalpath={}]", folder.path().join("j").display());
    for arguments in [
        &["^(?P<fid>.*)$", "-o", "id"][..],
        &["(?P<fid>[a-z]+)$", "-o", "row"],
        &["(?P<fid>[a-z]+)$", "-o", "msg"],
        &["zzz <HOST>", "--print-all-missed"],
        &["(?P<fid>[a-z]+)$", "-v", "--print-all-matched"],
        &["-m", "SYSLOG_IDENTIFIER=kernel + _COMM=sshd _PID=9", "(?P<fid>[a-z]+)$"],
        &["sshd"],
        &["sshd[mode=aggressive]", "-v"],
        &["-o", "ip", "sshd"],
    ] {
        // zones without summer time: there the original is an hour off
        for zone in ["UTC", "Asia/Kolkata", "America/Phoenix"] {
            let ours = report(Command::new(env!("CARGO_BIN_EXE_sekimori")).arg("regex"), &log, arguments, zone);
            let theirs = report(&mut Command::new("fail2ban-regex"), &log, arguments, zone);
            assert_eq!(ours, theirs, "{arguments:?} in {zone}");
        }
    }
}

#[test]
fn in_summer_time_entries_have_the_time_of_the_day() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(folder.path().join("j"));
    for time in [&b"1767225600000000"[..], b"1782864000000001"] {
        journal.write(&[HOST, ("MESSAGE", b"x 192.0.2.7"), ("_SOURCE_REALTIME_TIMESTAMP", time)]);
    }
    journal.close();
    let log = format!("systemd-journal[journalpath={}]", folder.path().join("j").display());
    let mut ours = Command::new(env!("CARGO_BIN_EXE_sekimori"));
    let said = report(ours.arg("regex"), &log, &["x <HOST>", "-o", "<time> <msg>"], "Europe/Berlin");
    let expected = "1767225600.0 2026-01-01T01:00:00+01:00 h x 192.0.2.7\n\
                    1782864000.000001 2026-07-01T02:00:00.000001+02:00 h x 192.0.2.7";
    assert_eq!(said, expected);
}

#[test]
fn journals_that_cannot_be_read_are_told_of() {
    let regex = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sekimori")).arg("regex").args(words).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = regex(&["systemd-journal[journalpath=/nonexistent]", "x <HOST>"]);
    assert!(code == Some(255) && said.contains("cannot read the journal by `journalctl`"), "{said}");
    let (code, said) = regex(&["systemd-journal[path=/x]", "x <HOST>"]);
    assert!(code == Some(255) && said.contains("the journal has no option `path`"), "{said}");
    let (code, said) = regex(&["-m", "--file=/etc/passwd", "systemd-journal", "x <HOST>"]);
    assert!(code == Some(255) && said.contains("`--file=/etc/passwd` is no journal match"), "{said}");
}
