//! Reports to owners, as a mail program and the formats' own validators read them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::net::need;

/// Python with the validator, as the set-up step installs it.
const PYTHON: &str = "/usr/local/lib/sekimori-tests/xarf/bin/python";

const SSHD: &str = "\
Nov 24 01:00:01 myhost sshd[7]: Failed password for root from 198.51.100.7 port 45353 ssh2
Nov 24 01:00:02 myhost sshd[7]: Failed password for invalid user eve from 198.51.100.7 port 45354 ssh2
Nov 24 01:00:03 myhost sshd[8]: Failed password for bob from 2001:db8::7 port 4711 ssh2
";
const WEB: &str = "\
2026/11/24 01:00:01 [error] 7#7: *1 open() \"/var/www/shop/w00tw00t\" failed (2: No such file or directory), client: 198.51.100.8, server: own.example, request: \"GET /wp-login.php?user=bob&pass=geheim HTTP/1.1\", host: \"own.example\"
";

/// A configuration directory.
fn stage(settings: &str) -> tempfile::TempDir {
    need("fail2ban-client", "fail2ban");
    let dir = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").args(["-a", "/etc/fail2ban/."]).arg(dir.path()).status().unwrap();
    assert!(copied.success());
    let common = "[report]\nfrom = \"abuse@own.example\"\nreply_to = \"noc@own.example\"\norganisation = \"Example Hosting\"\n\
                  opt_out = \"stop@own.example\"\ndestination = \"203.0.113.10\"\nown = [\"own.example\"]\n";
    fs::write(dir.path().join("sekimori.toml"), format!("{common}{settings}")).unwrap();
    dir
}

fn preview(dir: &Path, log: &str, filter: &str, more: &[&str]) -> (i32, String, String) {
    let path = dir.join("log");
    fs::write(&path, log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekimori"));
    command.args(["report", "preview", "-c"]).arg(dir).arg(path).arg(filter).args(more).env("TZ", "UTC");
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What judges make of messages.
fn judge(messages: &[String]) -> Vec<Value> {
    assert!(Path::new(PYTHON).exists(), "the validator of XARF is needed: run tests/setup");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/report/judge.py");
    let mut child = Command::new(PYTHON).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for message in messages {
        input.write_all(message.as_bytes()).and_then(|()| input.write_all(b"--8<--\n")).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The messages of a preview; each begins with its sender.
fn messages(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("From: abuse@own.example") {
            found.push(String::new());
        }
        let last = found.last_mut().unwrap();
        last.push_str(line);
        last.push('\n');
    }
    found
}

#[test]
fn a_report_is_one_sound_message_that_says_all_a_desk_needs() {
    let dir = stage("");
    let (code, text, errors) = preview(dir.path(), SSHD, "sshd", &["--to", "abuse@net-a.example"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let found = judge(&messages(&text));
    assert_eq!(found.len(), 2, "one for each address");
    let (first, headers) = (&found[0], &found[0]["headers"]);
    assert_eq!(first["defects"], serde_json::json!([]));
    for (name, value) in [
        ("from", "abuse@own.example"),
        ("to", "abuse@net-a.example"),
        ("reply-to", "noc@own.example"),
        ("auto-submitted", "auto-generated"),
    ] {
        assert_eq!(headers[name], value);
    }
    assert!(headers["message-id"].is_string() && headers["date"].is_string());
    let subject = headers["subject"].as_str().unwrap();
    assert!(subject.starts_with("ABUSE: login-attack from 198.51.100.7 (ssh) 20"), "{subject}");
    let body = first["text"].as_str().unwrap();
    for part in [
        "Source:     198.51.100.7\n",
        "Port:       45354\n",
        "Target:     203.0.113.10 tcp/22\n",
        "Attempts:   2\n",
        "11-24T01:00:01Z [host] sshd[7]: Failed password for root from 198.51.100.7 port 45353 ssh2\n",
        "stop@own.example",
        "Example Hosting",
    ] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
    assert!(!body.contains("myhost"));
    let ids: BTreeSet<&str> = found.iter().map(|found| found["headers"]["x-report-id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn both_forms_for_programs_are_what_their_validators_want() {
    let dir = stage("form = \"xarf\"\n");
    let (_, text, _) = preview(dir.path(), SSHD, "sshd", &[]);
    let found = judge(&messages(&text));
    for found in &found {
        assert_eq!(found["errors"], serde_json::json!([]), "{}", found["xarf"]);
        assert_ne!(
            found["errors_without_port"],
            serde_json::json!([]),
            "the validator knows what a login attack needs"
        );
        assert_eq!(
            (found["xarf"]["type"].as_str(), found["xarf"]["category"].as_str()),
            (Some("login_attack"), Some("connection"))
        );
    }
    // without a source port there is no login attack, and none is made up
    let without = SSHD.replace(" port 45353 ssh2", "").replace(" port 45354 ssh2", "").replace(" port 4711 ssh2", "");
    let (_, text, _) = preview(dir.path(), &without, "sshd", &[]);
    let found = judge(&messages(&text));
    assert!(found.len() == 2 && found.iter().all(|found| found["xarf"].is_null()));
    let (code, text, _) = preview(dir.path(), WEB, "nginx-botsearch", &[]);
    let found = judge(&messages(&text));
    assert_eq!((code, found[0]["xarf"]["type"].as_str()), (0, Some("vulnerability_scan")), "{text}");
    assert_eq!(found[0]["errors"], serde_json::json!([]));
    for secret in ["geheim", "/var/www", "own.example, request"] {
        assert!(!found[0].to_string().contains(secret), "{secret}");
    }

    let (_, text, _) = preview(dir.path(), SSHD, "sshd", &["--form", "x-arf"]);
    let found = judge(&messages(&text));
    for key in [
        "Reported-From",
        "Category",
        "Report-Type",
        "User-Agent",
        "Date",
        "Source",
        "Source-Type",
        "Attachment",
        "Schema-URL",
        "Report-ID",
    ] {
        assert!(found[0]["yaml"][key].is_string(), "{key}");
    }
    assert_eq!(found[0]["types"], serde_json::json!(["text/plain", "text/plain", "text/plain"]));
    assert_eq!(
        (found[0]["yaml"]["Source-Type"].as_str(), found[1]["yaml"]["Source-Type"].as_str()),
        (Some("ipv4"), Some("ipv6"))
    );
    assert_eq!(found[0]["headers"]["x-xarf"], "PLAIN");
}

#[test]
fn hostile_lines_and_recipients_change_nothing_but_the_text() {
    let dir = stage("");
    let evil = "Nov 24 01:00:01 h sshd[7]: Failed password for invalid user \u{1b}[2J\rBcc: x@y.example <script>alert(1)</script> from 198.51.100.7 port 1 ssh2\n";
    let many: String = (0..500).map(|n| evil.replace("[7]", &format!("[{n}]"))).collect();
    let (code, text, _) = preview(dir.path(), &many, "sshd", &[]);
    assert_eq!(code, 0);
    assert!(!text.contains('\u{1b}'));
    let found = judge(&messages(&text));
    assert_eq!(found[0]["defects"], serde_json::json!([]));
    assert!(found[0]["headers"]["bcc"].is_null());
    let lines = found[0]["lines"][0].as_str().unwrap();
    assert!(lines.lines().count() <= 20 && lines.len() < 6000, "{}", lines.len());
    // the end of a line that is too long is no line of its own
    let victim = SSHD.lines().next().unwrap().replace("198.51.100.7", "203.0.113.66");
    let long = format!("{}{victim}\n{SSHD}", "x".repeat(sekimori::line::MAX_LINE));
    let (_, text, _) = preview(dir.path(), &long, "sshd", &[]);
    assert!(text.contains("198.51.100.7") && !text.contains("203.0.113.66"));
    let (_, page, _) = preview(dir.path(), &many, "sshd", &["--html"]);
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"));
    let (code, _, errors) = preview(dir.path(), SSHD, "sshd", &["--to", "a@b.example\nBcc: x@y.example"]);
    assert_eq!(code, 255);
    assert!(errors.contains("recipient `a@b.example\\nBcc: x@y.example`"), "{errors}");
}

#[test]
fn templates_of_ones_own_and_other_languages_are_used_and_mistakes_named() {
    let dir = stage("language = \"ja\"\n");
    let (_, text, _) = preview(dir.path(), SSHD, "sshd", &["--address", "2001:db8::7"]);
    let found = judge(&messages(&text));
    assert_eq!(found.len(), 1);
    let body = found[0]["text"].as_str().unwrap().replace('\r', "");
    assert!(body.contains("攻撃元:       2001:db8::7\n"), "{body}");
    let template = dir.path().join("own.txt");
    let dir_ = dir.path().join("sekimori.toml");
    let settings = fs::read_to_string(&dir_).unwrap();
    fs::write(&dir_, format!("{settings}template = \"{}\"\n", template.display())).unwrap();
    fs::write(&template, "Hallo,\n{incidents}\n{id}\n").unwrap();
    let (_, text, _) = preview(dir.path(), SSHD, "sshd", &[]);
    assert!(judge(&messages(&text))[0]["text"].as_str().unwrap().starts_with("Hallo,"));
    fs::write(&template, "Hallo,\n{incident}\n").unwrap();
    let (code, _, errors) = preview(dir.path(), SSHD, "sshd", &[]);
    assert!(code == 255 && errors.contains("own.txt, line 2: there is no `{incident}`"), "{errors}");
    fs::write(&template, "{incidents}").unwrap();
    let (code, _, _) = preview(dir.path(), "nothing\n", "sshd", &[]);
    assert_eq!(code, 1);
}

#[test]
fn no_line_of_any_log_shows_whom_it_is_about_beside_the_attacker() {
    use sekimori::filter::Match;
    use sekimori::report::redact::{Own, Redactor};
    let own = Own { users: ["kevin", "Kevin", "administrator", "alice"].map(str::to_owned).into(), ..Own::default() };
    let redactor = Redactor::new(own).unwrap();
    let attacker = "198.51.100.7".parse().unwrap();
    let (mut lines, mut addresses) = (0, 0);
    let folder = "/usr/lib/python3/dist-packages/fail2ban/tests/files/logs";
    for entry in fs::read_dir(folder).expect("Debian's fail2ban package is needed: run tests/setup") {
        let path = entry.unwrap().path();
        let Ok(bytes) = fs::read(&path) else { continue };
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.starts_with('#')) {
            let told = redactor.line(&Match { line: line.into(), date: (0, 0) }, attacker);
            lines += 1;
            addresses += usize::from(told.contains("x@x"));
            let words: Vec<&str> = told.split(|c: char| !c.is_alphanumeric()).collect();
            assert!(!words.contains(&"kevin") && !words.contains(&"alice"), "{told}");
            // what stands around an @ is never a name
            let named = told.match_indices('@').any(|(at, _)| {
                let (before, after) = (&told[..at], &told[at + 1..]);
                before.ends_with(|c: char| c.is_ascii_alphanumeric())
                    && after.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && !(before.ends_with('x') && after.starts_with('x'))
            });
            assert!(!named, "{}: {told}", path.display());
            assert!(!told.chars().any(char::is_control), "{told:?}");
        }
    }
    assert!(lines > 1000 && addresses > 20, "{lines} lines, {addresses} with addresses");
}
