//! What `sekimori regex` does beyond `fail2ban-regex`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const LINE: &str = "2026-11-24 01:00:00 fail from 192.0.2.1\n";

fn regex(folder: &Path, words: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sekimori"))
        .arg("regex")
        .args(words)
        .current_dir(folder)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may not want to read.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The output of a tool that compresses its standard input.
fn piped(tool: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(tool[0])
        .args(&tool[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("`{}` is needed, see tests/setup: {error}", tool[0]));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout
}

const COMPRESSORS: [&[&str]; 4] = [&["gzip", "-c"], &["bzip2", "-c"], &["xz", "-c"], &["zstd", "-q", "-c"]];

#[test]
fn compressed_logs_are_known_by_their_first_bytes_and_may_have_several_parts() {
    let folder = tempfile::tempdir().unwrap();
    let log = LINE.repeat(20_000);
    for tool in COMPRESSORS {
        let mut archive = piped(tool, log.as_bytes());
        archive.extend(piped(tool, LINE.as_bytes()));
        let path = folder.path().join(format!("log.{}", tool[0]));
        std::fs::write(&path, &archive).unwrap();
        let name = path.to_str().unwrap();
        let output = regex(folder.path(), &[name, "from <HOST>"], b"");
        assert!(text(&output.stdout).contains("Lines: 20001 lines, 0 ignored, 20001 matched"), "{tool:?}: {output:?}");
        let output = regex(folder.path(), &["-", "from <HOST>"], &archive);
        assert!(text(&output.stdout).contains("Lines: 20001 lines, 0 ignored, 20001 matched"), "{tool:?}: {output:?}");
    }
}

#[test]
fn a_damaged_archive_is_named_and_what_stands_before_the_damage_counts() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..200_000).map(|n| format!("2026-11-24 01:00:00 fail {n} from 192.0.2.1\n")).collect();
    for tool in COMPRESSORS {
        let mut archive = piped(tool, lines.as_bytes());
        archive.truncate(archive.len() * 9 / 10);
        let path = folder.path().join("damaged");
        std::fs::write(&path, &archive).unwrap();
        let output = regex(folder.path(), &["damaged", "from <HOST>"], b"");
        let (report, errors) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(255), "{tool:?}");
        assert!(errors.contains("damaged archive `damaged`"), "{tool:?}: {errors}");
        let lines = report.lines().find_map(|line| line.strip_prefix("Lines: ")).unwrap();
        let matched: u64 = lines.split(' ').next().unwrap().parse().unwrap();
        assert!(matched > 10_000 && lines.contains(&format!("0 ignored, {matched} matched, 0 missed")), "{lines}");
    }
}

#[test]
fn several_logs_are_one_test() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one"), LINE.repeat(2)).unwrap();
    std::fs::write(folder.path().join("two"), LINE).unwrap();
    let output = regex(folder.path(), &["one", "two", "-", "from <HOST>"], LINE.as_bytes());
    assert!(text(&output.stdout).contains("Use         log file : two\n"));
    assert!(text(&output.stdout).contains("Lines: 4 lines, 0 ignored, 4 matched, 0 missed"), "{output:?}");
}

#[test]
fn a_line_longer_than_the_limit_is_told_and_matched_at_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{} {}", LINE.trim(), "x".repeat(900_000));
    let log = format!("{LINE}{long}\n{LINE}{}\n{LINE}", "y".repeat(300_000));
    let output = regex(folder.path(), &["-", "from <HOST>"], log.as_bytes());
    assert!(text(&output.stdout).contains("Lines: 5 lines, 0 ignored, 4 matched, 1 missed"), "{output:?}");
    assert!(text(&output.stderr).contains("line 2 is longer than 131072 bytes"), "{output:?}");
    assert!(text(&output.stderr).contains("line 4 is longer than 131072 bytes"), "{output:?}");
}

#[test]
fn utf_16_logs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = format!("\u{feff}{LINE}{LINE}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.path().join("wide"), bytes).unwrap();
    let output = regex(folder.path(), &["-e", "utf-16", "wide", "from <HOST>"], b"");
    assert!(text(&output.stdout).contains("Lines: 2 lines, 0 ignored, 2 matched, 0 missed"), "{output:?}");
}

fn configuration(folder: &Path) {
    std::fs::create_dir(folder.join("filter.d")).unwrap();
    let filter = "[Definition]\nfailregex = ^ <opener> from <HOST>$\nopener = nothing\n";
    std::fs::write(folder.join("filter.d/door.conf"), filter).unwrap();
    let jail = "[shop]\nfilter = door[opener=fail]\nusedns = no\ndatepattern = ^%%d.%%m.%%Y %%H:%%M\n\
                logencoding = latin1\nlogpath = /nonexistent\n";
    std::fs::write(folder.join("jail.conf"), jail).unwrap();
}

#[test]
fn a_jail_brings_its_filter_and_what_it_says_about_its_logs() {
    let folder = tempfile::tempdir().unwrap();
    configuration(folder.path());
    let log = b"24.11.2026 01:00 fail from 192.0.2.1\n24.11.2026 01:00 fail from name.example\n\xfc\n";
    for word in ["shop", "jail:shop"] {
        let output = regex(folder.path(), &["-c", ".", "-v", "-", word], log);
        let report = text(&output.stdout);
        assert!(report.contains("Use             jail : shop\n"), "{report}");
        assert!(report.contains("Use         encoding : latin1\n"), "{report}");
        assert!(report.contains("|      192.0.2.1  Tue Nov 24 01:00:00 2026\n"), "{report}");
        assert!(report.contains("|  24.11.2026 01:00 fail from name.example\n|  \u{fc}\n"), "{report}");
    }
    let output = regex(folder.path(), &["-c", ".", "-", "jail:shopp"], log);
    assert!(text(&output.stdout).contains("ERROR: there is no jail `shopp`"));
    assert_eq!(output.status.code(), Some(255));
}

#[test]
fn errors_point_at_the_spot() {
    let folder = tempfile::tempdir().unwrap();
    configuration(folder.path());
    let output = regex(folder.path(), &["x", "^a <HOST> (b"], b"");
    assert!(text(&output.stderr).contains("1 | ^a <HOST> (b\n  |           ^\n"), "{}", text(&output.stderr));
    std::fs::write(folder.path().join("filter.d/bad.conf"), "[Definition]\nfailregex = ^a\n    ^b <HOST> [z-a]\n")
        .unwrap();
    let output = regex(folder.path(), &["-c", ".", "x", "bad"], b"");
    let errors = text(&output.stderr);
    assert!(errors.contains("filter.d/bad.conf:2:13\n  |\n2 | failregex = ^a\n  |             ^^\n"), "{errors}");
    assert!(errors.contains("3 |     ^b <HOST> [z-a]\n  |                ^\n"), "{errors}");
}

#[test]
fn a_terminal_gets_no_control_characters_from_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let line = "2026-11-24 01:00:00 \u{1b}]0;title\u{7} from 192.0.2.1\n";
    std::fs::write(folder.path().join("log"), line).unwrap();
    let command = format!("{} regex --print-all-matched log 'from <HOST>'", env!("CARGO_BIN_EXE_sekimori"));
    let output = Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("script (util-linux) is needed: see tests/setup");
    let report = text(&output.stdout);
    assert!(report.contains("\\u{1b}]0;title\\u{7} from 192.0.2.1"), "{report:?}");
    assert!(!report.contains(['\u{1b}', '\u{7}']), "{report:?}");
    // A pipe gets every byte.
    let output = regex(folder.path(), &["--print-all-matched", "log", "from <HOST>"], b"");
    assert!(text(&output.stdout).contains(line), "{output:?}");
}

#[test]
fn json_says_what_a_server_would_count() {
    let folder = tempfile::tempdir().unwrap();
    let log = "\n# Nov 24 01:00:00 fail from 192.0.2.1\nNov 24 01:00:00 a fail from 192.0.2.2\nx fail from name.example\n\
               Nov 24 01:00:00 fail bob from 192.0.2.3";
    let words = ["--json", "--now", "1795507200", "--usedns", "no", "-", "fail (?:<F-USER>\\w+</F-USER> )?from <HOST>"];
    let output = regex(folder.path(), &words, log.as_bytes());
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = lines.iter().map(|one| (one["line"].as_u64().unwrap(), one["id"].as_str().unwrap())).collect();
    assert_eq!(found, [(2, "192.0.2.1"), (3, "192.0.2.2"), (5, "192.0.2.3")]);
    assert_eq!((&lines[1]["time"], &lines[2]["f"]["user"]), (&1_795_482_000.0.into(), &"bob".into()));
}

#[test]
fn an_exception_beside_a_filter_with_its_own_holds_as_well() {
    let folder = tempfile::tempdir().unwrap();
    configuration(folder.path());
    let filter = "[Definition]\nfailregex = fail from <HOST>\nignoreregex = joke\n";
    std::fs::write(folder.path().join("filter.d/own.conf"), filter).unwrap();
    let log = "2026-11-24 01:00:00 fail from 192.0.2.1\n2026-11-24 01:00:01 joke fail from 192.0.2.2\n\
               2026-11-24 01:00:02 test fail from 192.0.2.3\n";
    let output = regex(folder.path(), &["-c", ".", "-", "own", "test"], log.as_bytes());
    let report = text(&output.stdout);
    assert!(report.contains("Ignoreregex: 2 total\n"), "{report}");
    assert!(report.contains("|   1) [1] joke\n|   2) [1] test\n"), "{report}");
    assert!(report.contains("Lines: 3 lines, 2 ignored, 1 matched, 0 missed"), "{report}");
}

#[test]
fn values_of_no_use_are_errors_with_a_reason_or_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for (words, why) in [
        (["-e", "nosuch"], "there is no encoding `nosuch`"),
        (["--TZ", "bogus"], "`bogus`"),
        (["-l", "bogus"], "`bogus` is no log level"),
    ] {
        let output = regex(folder.path(), &[&words[..], &["-", "from <HOST>"]].concat(), LINE.as_bytes());
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.code() == Some(255) && said.contains(why), "{words:?}: {said}");
    }
    let output = regex(folder.path(), &["-o", "<ip> <nosuch>", "-", "from <HOST>"], LINE.as_bytes());
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "192.0.2.1 <nosuch>\n"));
}

#[test]
fn a_report_has_neither_warnings_nor_log_messages_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = format!("{LINE}{}\n", "x".repeat(300_000));
    let report = |words: &[&str]| {
        let output = regex(folder.path(), &[words, &["-", "from <HOST>"]].concat(), log.as_bytes());
        assert!(text(&output.stderr).contains("line 2 is longer than"), "{output:?}");
        let report = text(&output.stdout);
        report.lines().filter(|line| !line.starts_with("[processed in ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let quiet = report(&[]);
    assert_eq!(report(&["--log-level", "debug"]), quiet);
    assert!(quiet.iter().all(|line| !line.contains("longer than")), "{quiet:?}");
}

#[test]
fn rows_have_the_groups_of_a_session_as_they_came_and_users_last() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("filter.d")).unwrap();
    let filter = "[Definition]\nprefregex = ^ <F-MLFID>\\w+</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$\n\
                  failregex = ^<F-NOFAIL>hello</F-NOFAIL> <F-USER>\\w+</F-USER>$\n    ^<F-ALT_USER>\\w+</F-ALT_USER> from <HOST>$\n";
    std::fs::write(folder.path().join("filter.d/talk.conf"), filter).unwrap();
    let log = "2026-11-24 01:00:00 a: hello bob\n2026-11-24 01:00:01 a: root from 192.0.2.1\n";
    let output = regex(folder.path(), &["-c", ".", "-o", "row", "-", "talk"], log.as_bytes());
    let row = text(&output.stdout);
    let places: Vec<usize> =
        ["'mlfid'", "'user'", "'ip4'", "'users'"].iter().filter_map(|name| row.find(name)).collect();
    assert!(places.len() == 4 && places.is_sorted(), "{row}");
}
