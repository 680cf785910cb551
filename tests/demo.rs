//! `sekimori demo` as people see it: the story, its end, and what is left.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::net::{need, wait_for};

/// A demo whose files have a folder of their own.
fn demo(folder: &Path) -> Child {
    need("unshare", "util-linux");
    need("ip", "iproute2");
    Command::new(env!("CARGO_BIN_EXE_sekimori"))
        .arg("demo")
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Processes that have something to do with a folder.
fn processes(folder: &Path) -> Vec<String> {
    let name = folder.to_str().unwrap();
    let commands = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // one that is ending has neither
        let of_ours = [environment, command.clone()].iter().any(|text| String::from_utf8_lossy(text).contains(name));
        of_ours.then(|| String::from_utf8_lossy(&command).replace('\0', " "))
    });
    commands.collect()
}

fn nothing_is_left(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    // whoever was not waited for is given the time to go
    wait_for("all processes are gone", Duration::from_secs(5), || processes(folder).is_empty());
}

#[test]
fn the_demo_tells_of_a_ban_from_the_first_failure_to_the_unban() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let output = demo(folder.path()).wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    let (said, complained) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && complained.is_empty(), "{said}\n{complained}");
    let story = [
        "the server is 192.0.2.1, the attacker 192.0.2.2",
        "`sekimori server` runs",
        "fails to log in: failure 1 of 5 is in the log",
        "fails to log in: failure 5 of 5 is in the log",
        "192.0.2.2 is banned",
        "connects to port 22: no answer",
        "192.0.2.2 is unbanned",
        "connects to port 22: answered again",
    ];
    let mut rest = said.as_str();
    for part in story {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("no `{part}` in its place:\n{said}")).1;
    }
    let times: Vec<f64> = said.lines().filter_map(|line| line.trim().split_once(" s  ")?.0.parse().ok()).collect();
    assert!(times.len() == 12 && times.is_sorted(), "each step has its time:\n{said}");
    nothing_is_left(folder.path());
}

#[test]
fn ctrl_c_ends_the_demo_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path());
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("is banned")));
    assert!(processes(folder.path()).iter().any(|command| command.contains(" server ")), "the server runs");
    // a terminal sends it to all processes of the group
    kill_process_group(Pid::from_child(&demo), Signal::INT).unwrap();
    let status = demo.wait().unwrap();
    let mut complaint = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!((status.code(), complaint.as_str()), (Some(130), ""), "{status}");
    nothing_is_left(folder.path());
}

#[test]
fn a_killed_demo_takes_its_processes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path());
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("is banned")));
    demo.kill().unwrap();
    assert_eq!(demo.wait().unwrap().signal(), Some(9));
    wait_for("all processes are gone", Duration::from_secs(5), || processes(folder.path()).is_empty());
}

#[test]
fn where_namespaces_are_forbidden_the_demo_says_what_to_do() {
    need("setpriv", "util-linux");
    let folder = tempfile::tempdir().unwrap();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces
        exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" demo";
    let output = Command::new("unshare")
        .args(["-Ur", "--", "sh", "-c", script, env!("CARGO_BIN_EXE_sekimori")])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: this user cannot make private network namespaces"), "{said}");
    assert!(said.contains("sysctl user.max_user_namespaces="), "{said}");
    nothing_is_left(folder.path());
}
