//! The daemon end to end: a real log, the real kernel, real packets.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::net::{ATTACKER, SERVER, wait_for};
use crate::in_namespaces;

/// A running daemon and its files; ends with the test.
struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    /// With a filter `door` and a jail of that name; `LOG` stands for its log.
    fn start(jail: &str) -> Daemon {
        let (dir, log) = Daemon::folder();
        fs::create_dir(dir.path().join("filter.d")).unwrap();
        fs::write(
            dir.path().join("filter.d/door.conf"),
            "[Definition]\nfailregex = ^ \\S+ doord: bad key from <HOST>$\n",
        )
        .unwrap();
        let jail = jail.replace("LOG", log.to_str().unwrap());
        fs::write(dir.path().join("jail.conf"), format!("[door]\nenabled = true\nbackend = auto\n{jail}")).unwrap();
        Daemon::run(dir)
    }

    /// With the built-in jail for sshd alone, but for its log.
    fn built_in() -> Daemon {
        let (dir, log) = Daemon::folder();
        fs::write(dir.path().join("jail.local"), format!("[sshd]\nlogpath = {}\n", log.display())).unwrap();
        Daemon::run(dir)
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("auth.log");
        fs::write(&log, "").unwrap();
        let at = dir.path().display();
        let general = format!("[Definition]\nsocket = {at}/sock\npidfile = {at}/pid\ndbfile = {at}/db\n");
        fs::write(dir.path().join("fail2ban.conf"), general).unwrap();
        (dir, log)
    }

    fn run(dir: tempfile::TempDir) -> Daemon {
        let child = Command::new(env!("CARGO_BIN_EXE_sekimori"))
            .args(["server", "-c", dir.path().to_str().unwrap(), "--logtarget"])
            .arg(dir.path().join("log"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Daemon { child, dir };
        daemon.wait_for("Server ready");
        daemon
    }

    fn fail(&self, address: &str, times: usize) {
        self.write(&vec![format!("doord: bad key from {address}"); times]);
    }

    /// Appends messages with a date and a host in front.
    fn write(&self, messages: &[String]) {
        let mut log = OpenOptions::new().append(true).open(self.dir.path().join("auth.log")).unwrap();
        let now =
            jiff::tz::TimeZone::system().to_datetime(jiff::Timestamp::now()).strftime("%b %e %H:%M:%S").to_string();
        for message in messages {
            writeln!(log, "{now} host {message}").unwrap();
        }
    }

    fn wait_for(&self, text: &str) {
        let path = self.dir.path().join("log");
        wait_for(text, Duration::from_secs(10), || fs::read_to_string(&path).is_ok_and(|log| log.contains(text)));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn five_failed_logins_close_the_port_until_the_ban_ends() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let daemon =
        Daemon::start("filter = door\nlogpath = LOG\nmaxretry = 5\nbantime = 3\naction = nftables-native[port=22]\n");
    assert!(net.attacker().reaches(22));
    daemon.fail(ATTACKER, 4);
    daemon.wait_for(&format!("Found {ATTACKER}"));
    assert!(net.attacker().reaches(22), "four failures are not enough");
    daemon.fail(ATTACKER, 1);
    daemon.wait_for(&format!("NOTICE  [door] Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22), "the ban is in force");
    daemon.wait_for(&format!("NOTICE  [door] Unban {ATTACKER}"));
    wait_for("let in again", Duration::from_secs(5), || net.attacker().reaches(22));
}

#[test]
fn ignored_addresses_are_never_banned() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let daemon = Daemon::start(
        "filter = door\nlogpath = LOG\nmaxretry = 1\nignoreip = 192.0.2.0/29\naction = nftables-native[port=22]\n",
    );
    daemon.fail(ATTACKER, 3);
    daemon.wait_for(&format!("Ignore {ATTACKER} by ip"));
    assert!(net.attacker().reaches(22));
}

#[test]
fn the_own_address_is_never_banned_from_a_log() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    // with this, any address could be bound; it must not make any address our own
    fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1").unwrap();
    let daemon = Daemon::start("filter = door\nlogpath = LOG\nmaxretry = 1\naction = nftables-native[port=22]\n");
    daemon.fail(SERVER, 2);
    daemon.wait_for(&format!("Ignore {SERVER} by ignoreself rule"));
    daemon.fail(ATTACKER, 1);
    daemon.wait_for(&format!("Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22));
}

#[test]
fn without_any_configuration_sshd_is_protected_and_user_names_name_nobody() {
    let net = in_namespaces!();
    let _listener = net.server().listen(SERVER, 22);
    let daemon = Daemon::built_in();
    let look_alikes =
        ["Accepted password for bob", "Failed none for bob", "Connection closed by authenticating user bob"];
    daemon.write(&look_alikes.map(|text| format!("sshd[7]: {text} from 203.0.113.5 port 22 ssh2")));
    // whoever attacks chooses the name, and with it tries to have someone else banned
    let name = "root from 203.0.113.9 port 22 ssh2";
    let failed = format!("sshd[7]: Failed password for invalid user {name} from {ATTACKER} port 4711 ssh2");
    daemon.write(&[
        format!("sshd[7]: Invalid user {name} from {ATTACKER} port 4711"),
        failed.clone(),
        failed.clone(),
        format!("sshd-session[7]: Failed password for root from {ATTACKER} port 4711 ssh2"),
        failed,
    ]);
    daemon.wait_for(&format!("NOTICE  [sshd] Ban {ATTACKER}"));
    assert!(!net.attacker().reaches(22));
    let log = fs::read_to_string(daemon.dir.path().join("log")).unwrap();
    assert!(!log.contains("203.0.113."), "{log}");
}

#[test]
fn a_jail_that_only_the_journal_could_feed_does_not_claim_to_have_started() {
    let _net = in_namespaces!();
    let daemon = Daemon::start("filter = door\naction = nftables-native[port=22]\n");
    daemon.wait_for("ERROR   Jail 'door' not started: it has no log file");
    assert!(!fs::read_to_string(daemon.dir.path().join("log")).unwrap().contains("Jail 'door' started"));
}
