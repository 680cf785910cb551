//! Who may use the control socket, and how many: real users, real processes.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::net::{need, wait_for};

/// A user that nothing here belongs to.
const NOBODY: &str = "65534";

/// A daemon in a folder that everybody may look into; these tests need root, who alone can be others.
fn start(settings: &str) -> Daemon {
    assert!(rustix::process::geteuid().is_root(), "run this test as root: it becomes other users");
    need("setpriv", "util-linux");
    need("nc", "netcat-openbsd");
    let home = Home::new().without_kernel();
    std::fs::set_permissions(home.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    home.put("sekimori.toml", settings);
    home.start()
}

/// What a process with these rights is answered to `ping`, and what it says of errors.
fn ping(daemon: &Daemon, rights: &[&str]) -> (String, String) {
    let mut client = Command::new("setpriv")
        .args(rights)
        .args(["nc", "-U", "-N", "-w", "20"])
        .arg(daemon.path("sock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // it may be gone already
    let _ = client.stdin.take().unwrap().write_all(b"[\"ping\"]\n");
    let output = client.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The number of a group that each system has.
fn group(name: &str) -> String {
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let line = groups.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split(':').nth(2).unwrap().to_owned()
}

fn mode(path: &Path) -> (u32, u32) {
    let found = std::fs::metadata(path).unwrap();
    (found.permissions().mode() & 0o777, found.gid())
}

const PONG: &str = r#"{"ok":"pong"}"#;

#[test]
fn only_root_and_a_configured_group_are_let_in() {
    let adm = group("adm");
    let user = ["--reuid", NOBODY, "--regid"];
    let stranger = [&user[..], &[NOBODY, "--clear-groups"]].concat();
    let primary = [&user[..], &[&adm, "--clear-groups"]].concat();
    let also = [&user[..], &[NOBODY, "--groups", &adm]].concat();
    let denied = |answer: (String, String)| answer.0.is_empty() && answer.1.contains("Permission denied");

    let daemon = start("");
    assert_eq!(mode(&daemon.path("sock")).0, 0o600);
    for rights in [&stranger, &primary, &also] {
        assert!(denied(ping(&daemon, rights)), "{rights:?}");
    }
    assert_eq!(ping(&daemon, &["--reuid", "0"]).0, PONG);
    drop(daemon);

    let daemon = start("[control]\ngroup = \"adm\"\n");
    assert_eq!(mode(&daemon.path("sock")), (0o660, adm.parse().unwrap()));
    assert!(denied(ping(&daemon, &stranger)));
    for rights in [&primary, &also] {
        assert_eq!(ping(&daemon, rights).0, PONG, "{rights:?}");
    }
    assert_eq!(daemon.tell(&["ping"]), "Server replied: pong");

    // somebody opens it to everybody: who is a member only besides is not known any more
    std::fs::set_permissions(daemon.path("sock"), std::fs::Permissions::from_mode(0o666)).unwrap();
    for rights in [&stranger, &stranger, &also] {
        assert_eq!(ping(&daemon, rights).0, "", "{rights:?}");
    }
    daemon.wait_for("User 65534 may not use the control socket");
    assert_eq!(daemon.count("may not use the control socket"), 1);
    assert_eq!(ping(&daemon, &primary).0, PONG);
    assert_eq!(daemon.tell(&["ping"]), "Server replied: pong");
}

#[test]
fn a_group_that_does_not_exist_keeps_the_server_from_starting_and_so_does_whatever_stands_in_the_sockets_place() {
    let refused = |home: Home, why: &str| -> Home {
        let (home, ended) = home.spawn().wait();
        assert_eq!(ended.code(), Some(255));
        let said = std::fs::read_to_string(home.path("stderr")).unwrap();
        assert!(said.contains(why), "{said}");
        home
    };
    let home = Home::new().without_kernel();
    home.put("sekimori.toml", "[control]\ngroup = \"no-such-group\"\n");
    let home = refused(home, "there is no group `no-such-group`");
    home.put("sekimori.toml", "");
    home.put("sock", "precious");
    let home = refused(home, "is there and is no socket");
    assert_eq!(std::fs::read_to_string(home.path("sock")).unwrap(), "precious");
    std::fs::rename(home.path("sock"), home.path("aim")).unwrap();
    std::os::unix::fs::symlink(home.path("aim"), home.path("sock")).unwrap();
    let home = refused(home, "is there and is no socket");
    assert_eq!(std::fs::read_to_string(home.path("sock")).unwrap(), "precious");
    std::fs::remove_file(home.path("sock")).unwrap();
    home.put("sock/kept", "precious");
    let home = refused(home, "is there and is no socket");
    assert_eq!(std::fs::read_to_string(home.path("sock/kept")).unwrap(), "precious");
    std::fs::remove_dir_all(home.path("sock")).unwrap();
    let daemon = home.start();
    assert_eq!(daemon.tell(&["ping"]), "Server replied: pong");
}

/// A connection with what has been sent on it.
fn client(daemon: &Daemon, request: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.path("sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).unwrap();
    stream
}

fn line(stream: &mut UnixStream) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with('\n') && stream.read(&mut byte).unwrap() == 1 {
        text.push(char::from(byte[0]));
    }
    text.trim_end().to_owned()
}

#[test]
fn a_thousand_clients_are_answered_while_an_action_hangs_and_others_dawdle() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let home = Home::new().without_kernel();
    let file = home.path("hangs");
    let command = format!("touch {0}; while test -e {0}; do sleep 0.05; done", file.display());
    home.put("action.d/hang.conf", &format!("[Definition]\nactionban = {command}\nactionunban = true\ntimeout = 60\n"));
    home.jail("door", "backend = polling\nlogpath = LOG\naction = hang\n");
    let daemon = home.start();
    let mut asked = client(&daemon, b"[\"set\",\"door\",\"banip\",\"192.0.2.1\"]\n");
    wait_for("the action hangs", Duration::from_secs(20), || file.exists());
    // each has begun a request, as whoever sends a byte now and then
    let dawdling: Vec<UnixStream> = (0..100).map(|_| client(&daemon, b"[\"sta")).collect();
    let mut clients: Vec<UnixStream> = (0..900).map(|_| client(&daemon, b"")).collect();
    for stream in &mut clients {
        stream.write_all(b"[\"ping\"]\n").unwrap();
        assert_eq!(line(stream), PONG);
    }
    for stream in &mut clients {
        stream.write_all(b"[\"status\"]\n").unwrap();
    }
    for stream in &mut clients {
        assert_eq!(line(stream), r#"{"ok":[["Number of jail",1],["Jail list","door"]]}"#);
    }
    for mut stream in dawdling {
        stream.write_all(b"tus\"]\n").unwrap();
        assert!(line(&mut stream).starts_with(r#"{"ok":"#));
    }
    assert!(file.exists(), "the action has ended too early");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(line(&mut asked), r#"{"ok":1}"#);
}
