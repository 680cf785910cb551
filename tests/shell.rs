//! What shells and `man` are told of the programs, and the client at a terminal.

use std::process::{Command, Stdio};

use crate::client::Place;
use crate::harness::net::need;

fn sekimori(words: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sekimori")).args(words).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn bash_completes_options_and_commands_of_each_name() {
    let (code, script) = sekimori(&["completions", "bash", "fail2ban-client"]);
    assert_eq!(code, 0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script");
    std::fs::write(&path, script).unwrap();
    let completed = |words: &str| {
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             $(complete -p fail2ban-client | sed 's/.*-F \\([^ ]*\\).*/\\1/') fail2ban-client \"${{COMP_WORDS[-1]}}\" x; \
             echo \"${{COMPREPLY[*]}}\"",
            path.display()
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed("fail2ban-client --logt"), "--logtarget");
    assert_eq!(completed("fail2ban-client flush"), "flushlogs");
    for (shell, sign) in [("zsh", "#compdef sekimori"), ("fish", "complete -c sekimori")] {
        let (code, script) = sekimori(&["completions", shell]);
        assert!(code == 0 && script.contains(sign) && script.contains("dry-run"), "{script}");
    }
    assert_eq!(sekimori(&["completions", "csh"]).0, 255);
    assert_eq!(sekimori(&["completions", "bash", "sshd"]).0, 255);
}

#[test]
fn every_option_of_the_help_and_every_command_stand_in_the_manual() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(sekimori(&["manual", folder.path().to_str().unwrap()]).0, 0);
    let page = std::fs::read_to_string(folder.path().join("fail2ban-client.1")).unwrap().replace("\\-", "-");
    let (_, help) = sekimori(&["client", "--help"]);
    let mut names = 0;
    for line in help.lines().filter_map(|line| line.strip_prefix("    ")) {
        // in front of what it does
        let head = line.split("  ").next().unwrap();
        for option in head.split([' ', ',']).filter(|word| word.starts_with("--") && head.starts_with('-')) {
            assert!(page.contains(option), "{option}");
            names += 1;
        }
    }
    assert!(names > 15, "{help}");
    for command in ["flushlogs", "set <JAIL> banip <IP> ... <IP>", "get <JAIL> actionmethods <ACT>"] {
        assert!(page.contains(command), "{command}\n{page}");
    }
    for name in ["sekimori", "fail2ban-server", "fail2ban-regex"] {
        assert!(std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap().starts_with(".ie"), "{name}");
    }
    assert_eq!(sekimori(&["manual", "/nowhere/at/all"]).0, 255);
}

/// Types at our client's prompt, in a terminal of its own.
fn typed(place: &Place, keys: &[u8], home: &str) -> String {
    need("script", "util-linux");
    let client =
        format!("exec -a fail2ban-client {} -c {} -i", env!("CARGO_BIN_EXE_sekimori"), place.path("").display());
    let mut child = Command::new("script")
        .args(["-q", "-e", "-c", &format!("bash -c '{client}'"), "/dev/null"])
        .env("HOME", home)
        .env_remove("XDG_STATE_HOME")
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), keys).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn at_a_terminal_words_are_completed_and_lines_come_back_the_next_time() {
    let place = Place::start_ours();
    let home = tempfile::tempdir().unwrap();
    let said = typed(&place, b"get do\tmaxre\t\rexit\r", home.path().to_str().unwrap());
    assert!(said.lines().any(|line| line.trim_end() == "3"), "{said:?}");
    let history = home.path().join(".local/state/sekimori/history");
    assert!(std::fs::read_to_string(&history).unwrap().contains("get door maxretry"), "{said:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&history).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // one line up is `exit`, two are the question
    let said = typed(&place, b"\x1b[A\x1b[A\rexit\r", home.path().to_str().unwrap());
    assert!(said.lines().any(|line| line.trim_end() == "3"), "{said:?}");
}

#[test]
fn without_a_place_for_a_history_there_is_none() {
    let place = Place::start_ours();
    let said = typed(&place, b"get door maxretry\rexit\r", "/proc/nowhere");
    assert!(said.lines().any(|line| line.trim_end() == "3"), "{said:?}");
}
