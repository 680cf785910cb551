//! Programs that go by Fail2Ban's client, its socket or its database: from Debian, npm and PyPI. Each sees with our
//! server what it sees with the real one.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::client::Place;
use crate::harness::net::need;

/// Where tests/setup puts what is not from Debian.
const INSTALLED: &str = "/usr/local/lib/sekimori-tests";

fn installed(path: &str) -> String {
    let path = format!("{INSTALLED}/{path}");
    assert!(Path::new(&path).exists(), "{path} is needed: see tests/setup");
    path
}

fn example(path: &str) -> String {
    let path = format!("/usr/share/doc/fail2ban/examples/{path}");
    assert!(
        Path::new(&path).exists(),
        "{path} is needed: it comes with Debian's fail2ban, unless documents are left out"
    );
    path
}

/// What a program says of a server: its code, stdout and stderr. It finds the real client in `PATH`, which asks there.
fn seen(place: &Place, program: &str, words: &[&str]) -> (Option<i32>, String, String) {
    let client = place.path("bin/fail2ban-client");
    if !client.exists() {
        fs::create_dir(place.path("bin")).unwrap();
        let text = format!("#!/bin/sh\nexec /usr/bin/fail2ban-client -c '{}' \"$@\"\n", place.path("").display());
        fs::write(&client, text).unwrap();
        fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let output = Command::new(program)
        .args(words)
        .current_dir(place.path(""))
        .env("PATH", format!("{}:{path}", place.path("bin").display()))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(place.path("").to_str().unwrap(), "DIR/");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A server of ours and a real one, with two bans.
fn servers() -> [Place; 2] {
    let servers = [Place::start_ours(), Place::start()];
    for place in &servers {
        assert_eq!(place.theirs(&["set", "door", "banip", "192.0.2.1", "2001:db8::1"]).0, (0, "2\n".to_owned()));
    }
    servers
}

#[test]
fn the_check_for_nagios_and_the_script_for_cacti_see_our_bans() {
    need("perl", "perl");
    let check = example("nagios/check_fail2ban");
    let cacti = example("cacti/fail2ban_stats.sh");
    let [ours, real] = servers();
    let socket = |place: &Place| place.path("sock").to_str().unwrap().to_owned();
    let nagios = |place: &Place, words: &[&str]| {
        let client = place.path("bin/fail2ban-client");
        let socket = socket(place);
        let words = [words, &["-s", &socket, "-P", client.to_str().unwrap()]].concat();
        seen(place, &check, &words)
    };
    for (words, code) in [(&["-p"][..], 2), (&["-v", "-c", "9", "-w", "5"], 0), (&["-p", "-c", "9", "-w", "2"], 1)] {
        // the first call makes the client that it is told of
        for place in [&ours, &real] {
            seen(place, "true", &[]);
        }
        let expected = nagios(&real, words);
        assert_eq!(expected.0, Some(code), "{expected:?}");
        assert!(expected.1.contains("2 detected jails with 2 current banned IP(s)"), "{expected:?}");
        assert_eq!(nagios(&ours, words), expected);
    }
    let expected = seen(&real, "bash", &[&cacti, "door"]);
    assert!(expected.0 == Some(0) && expected.1.contains('2'), "{expected:?}");
    assert_eq!(seen(&ours, "bash", &[&cacti, "door"]), expected);
    assert_eq!(ours.ours(&["stop"]).0.0, 0);
    let (code, said, _) = nagios(&ours, &[]);
    assert!(code == Some(2) && said.contains("CRITICAL"), "{said}");
}

#[test]
fn the_package_of_npm_bans_and_sees_the_same_with_our_server() {
    need("node", "nodejs");
    let package = installed("npm/node_modules/fail2ban");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/consumers/npm.js");
    let [ours, real] =
        servers().map(|place| seen(&place, "node", &[script, &package, place.path("sock").to_str().unwrap()]));
    for line in [
        r#"ping "pong""#,
        r#"status {"jails":2,"list":["door","gate"]}"#,
        "ban 1",
        "ban again 0",
        "unban 1",
        "retries 7",
        "regexes 2",
        r#"{"jail":"door","ip":"2001:db8::1","matches":[],"failures":0}"#,
    ] {
        assert!(real.1.contains(line), "{line}: {real:?}");
    }
    assert_eq!(ours, real);
}

#[test]
fn the_geolocation_of_pypi_finds_our_bans_by_the_client_and_in_the_log() {
    let python = installed("python/bin/python");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/consumers/geolocation.py");
    let [ours, real] = servers();
    let found = |place: &Place, words: &[&str]| {
        let (code, said, _) = seen(place, &python, &[&[script], words].concat());
        // without colours; the order of what was in a log is another one each time
        let mut lines: Vec<String> = said
            .lines()
            .filter_map(|line| line.split_once("[0m ").map(|(_, text)| text.to_owned()))
            .filter_map(|line| line.split_once(": ").map(|(_, ids)| ids.to_owned()).or(Some(line)))
            .map(|line| {
                let mut ids: Vec<&str> = line.split(", ").collect();
                ids.sort_unstable();
                ids.join(", ")
            })
            .collect();
        lines.sort();
        (code, lines)
    };
    let log = |place: &Place| place.path("log").to_str().unwrap().to_owned();
    for words in [&["fail2ban"][..], &["server", "door"], &["server", "gate"]] {
        let expected = found(&real, words);
        assert_eq!(expected.1.iter().any(|line| line.contains("192.0.2.1")), !words.contains(&"gate"), "{expected:?}");
        assert_eq!(found(&ours, words), expected);
    }
    let expected = found(&real, &["log", &log(&real)]);
    assert!(expected.1.iter().any(|line| line.contains("192.0.2.1")), "{expected:?}");
    assert_eq!(found(&ours, &["log", &log(&ours)]), expected);
}

#[test]
fn the_importer_of_pypi_bans_what_its_list_has() {
    let importer = installed("python/bin/fail2ban-importer");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("http://{}/list.json", listener.local_addr().unwrap());
    let entry = |ip: &str| format!("{{\"jail\": \"door\", \"ip\": \"{ip}\"}}");
    let list = format!("[{}]", ["192.0.2.1", "192.0.2.50", "2001:db8::50"].map(entry).join(","));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{list}", list.len());
        }
    });
    let [ours, real] = servers().map(|place| {
        let config =
            serde_json::json!({ "source": source, "fail2ban_jail": "door", "fail2ban_client": "fail2ban-client" });
        fs::write(place.path("fail2ban-importer.json"), config.to_string()).unwrap();
        let (code, _, said) = seen(&place, &importer, &["--oneshot"]);
        (code, said, place.theirs(&["get", "door", "banned"]).0)
    });
    assert!(
        real.1.contains("INFO 192.0.2.1 already in door\nINFO Banned 192.0.2.50\nINFO Banned 2001:db8::50\n"),
        "{real:?}"
    );
    assert_eq!(ours, real);
}
