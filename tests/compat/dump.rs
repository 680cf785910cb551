//! `-d` of the real client beside ours: on Debian's configuration with every jail enabled, and
//! on small trees, one for each rule of reading, each as nasty as the rule allows.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::trees::{TREES, Tree};

const STOCK: &str = "/etc/fail2ban";

/// The real client. A machine without it fails the test: nothing else can be the judge.
fn original(directory: &Path, option: &str) -> Output {
    Command::new("/usr/bin/fail2ban-client")
        .args(["-c", directory.to_str().unwrap(), option])
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("the package fail2ban is needed for this test")
}

fn ours(directory: &Path, option: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sekimori"))
        .args(["client", "-c", directory.to_str().unwrap(), option])
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first lines that differ, for the message.
fn difference(expected: &str, found: &str) -> Option<String> {
    let (mut left, mut right) = (expected.lines(), found.lines());
    let mut number = 0;
    loop {
        number += 1;
        let (a, b) = (left.next(), right.next());
        if a != b {
            return Some(format!("line {number}\n  original: {}\n  ours:     {}", a.unwrap_or("-"), b.unwrap_or("-")));
        }
        a?;
    }
}

/// Debian's configuration with all jails on: links to the installed files and a jail.local.
fn all_jails() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["action.d", "filter.d", "jail.conf", "fail2ban.conf"] {
        std::os::unix::fs::symlink(Path::new(STOCK).join(name), dir.path().join(name)).unwrap();
    }
    for entry in fs::read_dir(STOCK).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("paths-") {
            std::os::unix::fs::symlink(&path, dir.path().join(name)).unwrap();
        }
    }
    let log = dir.path().join("x.log");
    fs::write(&log, "").unwrap();
    let stock = fs::read_to_string(Path::new(STOCK).join("jail.conf")).unwrap();
    let mut local = String::new();
    for line in stock.lines() {
        let Some(name) = line.strip_prefix('[').and_then(|l| l.split_once(']')).map(|(name, _)| name) else { continue };
        if name != "INCLUDES" && name != "DEFAULT" {
            local += &format!("[{name}]\nenabled = true\nbackend = polling\nlogpath = {}\n\n", log.display());
        }
    }
    fs::write(dir.path().join("jail.local"), local).unwrap();
    dir
}

#[test]
fn the_stock_configuration_with_all_jails_on_gives_the_same_stream() {
    let dir = all_jails();
    for option in ["-d", "--dp"] {
        let expected = original(dir.path(), option);
        let found = ours(dir.path(), option);
        assert!(expected.status.success(), "{}", text(&expected.stderr));
        let (expected, found) = (text(&expected.stdout), text(&found.stdout));
        assert!(expected.matches("['start', '").count() >= 91, "all jails are there");
        if let Some(difference) = difference(&expected, &found) {
            panic!("{option}: {difference}");
        }
        assert!(option != "-d" || expected.lines().count() >= 1325, "{}", expected.lines().count());
    }
}

fn build(tree: &Tree) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    for (path, content) in tree.files.iter().chain(&[("x.log", "")]) {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.replace("{dir}", root)).unwrap();
    }
    dir
}

#[test]
fn small_trees_give_the_same_stream_or_differ_on_purpose() {
    assert!(TREES.iter().filter(|tree| tree.differs.is_none()).count() >= 40);
    let mut wrong = Vec::new();
    for tree in TREES {
        let dir = build(tree);
        let expected = original(dir.path(), "-d");
        let found = ours(dir.path(), "-d");
        let same = difference(&text(&expected.stdout), &text(&found.stdout));
        let codes = (expected.status.code(), found.status.code());
        match (tree.differs, same) {
            (None, Some(difference)) => wrong.push(format!("{}: {difference}", tree.name)),
            (None, None) if codes.0 != codes.1 => wrong.push(format!("{}: exit codes {codes:?}", tree.name)),
            (Some(reason), None) if codes.0 == codes.1 => {
                wrong.push(format!("{}: is the same, although `{reason}`", tree.name));
            }
            // Whatever is broken beside it, this jail is there.
            (Some(_), _) if !text(&found.stdout).contains("['start', 'good']") => {
                wrong.push(format!("{}: the good jail is lost\n{}", tree.name, text(&found.stderr)));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {} trees:\n{}", wrong.len(), TREES.len(), wrong.join("\n"));
}

#[test]
fn the_stock_configuration_with_all_jails_on_passes_the_test() {
    let dir = all_jails();
    let found = ours(dir.path(), "-t");
    assert_eq!(text(&found.stderr), "");
    assert_eq!(text(&found.stdout), "OK: configuration test is successful\n");
}
