//! From a real Fail2Ban to us and back, in namespaces, with the real kernel and real packets.

use std::collections::HashMap;
use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::daemon::{Daemon, Home};
use crate::harness::net::{ATTACKER, Background, Net, SERVER, wait_for};
use crate::in_namespaces;

/// Long enough for Fail2Ban to restore thousands of bans on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const JAIL: &str = "backend = polling\nlogpath = LOG\nmaxretry = 3\nfindtime = 10m\nbantime = 1h\n";

/// A folder for both programs, with the stock actions and a jail `door` of port 4000/udp.
fn home(action: &str) -> Home {
    let home = Home::new();
    fs::create_dir_all(home.path("action.d")).unwrap();
    for file in fs::read_dir("/etc/fail2ban/action.d").unwrap().flatten() {
        fs::copy(file.path(), home.path("action.d").join(file.file_name())).unwrap();
    }
    home.jail("door", &format!("{JAIL}action = {action}[port=4000, protocol=udp]\n"));
    home
}

/// Ends whatever server runs in a folder when the test ends: those in the background are nobody's children.
struct Last(PathBuf);

impl Last {
    fn pid(&self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(fs::read_to_string(&self.0).ok()?.trim().parse().ok()?)
    }

    /// Kills it, as nothing can be done against, and waits for its end.
    fn kill(&self) {
        let pid = self.pid().unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let words = PathBuf::from(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        wait_for("its end", Duration::from_secs(5), || {
            fs::read(&words).is_ok_and(|text| text.is_empty()) || !words.exists()
        });
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        // the folder may be gone by now
        let folder = self.0.parent().unwrap().to_string_lossy().into_owned();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { continue };
            let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains(&folder) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// Bans of the database, as Fail2Ban would have written them a minute ago.
fn bans<'a>(home: &Home, ids: impl Iterator<Item = &'a str>) {
    let time = jiff::Timestamp::now().as_second() - 60;
    let rows: String = ids
        .map(|id| {
            format!("INSERT INTO bips VALUES('{id}', 'door', {time}, 3600, 1, '{{\"matches\": [], \"failures\": 3}}');")
        })
        .collect();
    home.change(&format!(
        "{} INSERT INTO jails VALUES('door', 1); BEGIN; {rows} INSERT INTO bans SELECT jail, ip, timeofban, bantime, \
         bancount, data FROM bips; COMMIT;",
        sekimori::fail2ban::database::CREATE
    ));
}

/// A real Fail2Ban that has all bans of its database in force.
fn fail2ban(home: Home, count: usize) -> Daemon {
    let daemon = home.real().start();
    wait_for("Fail2Ban restores", PATIENCE, || listed(&daemon).len() == count);
    daemon
}

fn command(home: &Home, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekimori"));
    command.arg("takeover").arg("-c").arg(home.path("")).args(words).env_remove("SSH_CONNECTION");
    command.stdin(Stdio::null());
    command
}

/// Exit code and all it said.
fn takeover(home: &Home, words: &[&str]) -> (i32, String) {
    let output = command(home, words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

/// The same, which has to succeed.
fn done(home: &Home, words: &[&str]) -> String {
    let (code, said) = takeover(home, words);
    assert_eq!(code, 0, "{said}\n{}", home.log());
    said
}

/// What the real client is told by whatever server runs.
fn tell(home: &Home, words: &[&str]) -> String {
    let output = Command::new("fail2ban-client").arg("-c").arg(home.path("")).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Whom the jail bans, sorted.
fn listed(home: &Home) -> Vec<String> {
    let mut ids: Vec<String> = tell(home, &["get", "door", "banip"]).split_whitespace().map(str::to_owned).collect();
    ids.sort();
    ids
}

/// Sends a datagram every 10 ms from each address, and counts what arrives at the server.
struct Probe {
    arrived: Arc<Mutex<HashMap<String, usize>>>,
    _sender: Background,
    _receiver: Background,
}

impl Probe {
    fn start(net: &Net, addresses: &[&str]) -> Probe {
        let to: UdpSocket = net.server().udp(SERVER, 4000);
        to.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let from: Vec<UdpSocket> = addresses.iter().map(|address| net.attacker().udp(address, 0)).collect();
        let target = to.local_addr().unwrap();
        let sender = Background::start(move || {
            // a datagram that is answered with a refusal makes the next one fail
            from.iter().for_each(|socket| _ = socket.send_to(b"knock", target));
            std::thread::sleep(Duration::from_millis(10));
        });
        let arrived: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let count = arrived.clone();
        let receiver = Background::start(move || {
            if let Ok((_, from)) = to.recv_from(&mut [0; 16]) {
                *count.lock().unwrap().entry(from.ip().to_string()).or_default() += 1;
            }
        });
        Probe { arrived, _sender: sender, _receiver: receiver }
    }

    fn count(&self, address: &str) -> usize {
        self.arrived.lock().unwrap().get(address).copied().unwrap_or_default()
    }

    /// Waits until more has arrived from an address.
    fn passes(&self, address: &str) {
        let before = self.count(address);
        wait_for(&format!("{address} gets through"), Duration::from_secs(5), || self.count(address) > before + 2);
    }
}

/// The address that is free to come all the time.
const FREE: &str = "192.0.2.9";

#[test]
fn bans_hold_during_the_change_and_back() {
    let net = in_namespaces!();
    hold(&net, 200);
}

#[test]
#[ignore = "a minute of Fail2Ban's work; the same with 200 runs always"]
fn two_thousand_bans_hold_during_the_change_and_back() {
    let net = in_namespaces!();
    hold(&net, 2000);
}

/// With so many bans, goes forth and back under fire.
fn hold(net: &Net, count: usize) {
    let home = home("iptables-ipset-proto6");
    let last = Last(home.path("pid"));
    let many: Vec<String> = (0..count - 2).map(|n| format!("198.51.{}.{}", 100 + n / 250, n % 250)).collect();
    bans(&home, many.iter().map(String::as_str).chain([ATTACKER, "192.0.2.3"]));
    let begin = Instant::now();
    let daemon = fail2ban(home, count);
    println!("Fail2Ban has {count} bans after {:?}", begin.elapsed());
    wait_for("the last one is in force", PATIENCE, || {
        net.server().run("ipset save").matches("add f2b-door ").count() == count
    });
    let probe = Probe::start(net, &[ATTACKER, "192.0.2.3", FREE]);
    probe.passes(FREE);
    let begin = Instant::now();
    let said = done(&daemon, &[]);
    println!("{said}forth in {:?}", begin.elapsed());
    let (home, ended) = daemon.wait();
    assert!(ended.success(), "Fail2Ban was stopped in order");
    assert!(said.contains(&format!("{count} ban(s) in 1 jail(s)")), "{said}");
    assert_eq!(listed(&home).len(), count);
    assert!(!net.server().run("ipset save").contains("f2b-"));
    probe.passes(FREE);
    let begin = Instant::now();
    let said = done(&home, &["--back"]);
    println!("{said}back in {:?}", begin.elapsed());
    assert!(!net.server().run("nft list tables").contains("sekimori"), "{said}");
    assert_eq!(listed(&home).len(), count);
    assert_eq!(net.server().run("ipset save").matches("add f2b-door ").count(), count);
    probe.passes(FREE);
    for address in [ATTACKER, "192.0.2.3"] {
        assert_eq!(probe.count(address), 0, "{address} got through");
    }
    drop(last);
}

#[test]
fn bans_keep_what_only_the_living_server_knows() {
    let net = in_namespaces!();
    for action in ["nftables-multiport", "iptables-multiport"] {
        for dbfile in ["DIR/db", "None"] {
            let home = home(action);
            let last = Last(home.path("pid"));
            home.database(dbfile);
            let daemon = fail2ban(home, 0);
            // longer than the configuration says, and for ever
            daemon.tell(&["set", "door", "bantime", "7200"]);
            daemon.tell(&["set", "door", "banip", ATTACKER, "2001:db8::2", "198.51.100.0/24"]);
            // the database rounds to seconds, a list cuts them off
            let lengths = |home: &Home| {
                let lines = tell(home, &["get", "door", "banip", "--with-time"]);
                let length =
                    |line: &str| Some((line.split_once(' ')?.0.to_owned(), line.split(' ').nth_back(3)?.to_owned()));
                let mut lengths: Vec<(String, String)> = lines.lines().filter_map(length).collect();
                lengths.sort();
                lengths
            };
            let before = lengths(&daemon);
            assert_eq!(before.len(), 3);
            assert!(before.iter().all(|(_, length)| length == "7200"), "{before:?}");
            let probe = Probe::start(&net, &[ATTACKER, FREE]);
            probe.passes(FREE);
            let arrived = probe.count(ATTACKER);
            let said = done(&daemon, &[]);
            let (home, _) = daemon.wait();
            assert_eq!(lengths(&home), before, "{said}");
            let table = net.server().run("nft list table inet sekimori");
            assert!(table.contains("expires 1h59m"), "{table}");
            // a new one of ours goes back as well
            home.fail("192.0.2.4", 3);
            wait_for("ban", Duration::from_secs(10), || home.log().contains("[door] Ban 192.0.2.4"));
            let said = done(&home, &["--back"]);
            assert_eq!(listed(&home), [ATTACKER, "192.0.2.4", "198.51.100.0/24", "2001:db8::2"], "{said}");
            // Fail2Ban's nftables has no way to shut out a network
            let lost = "its actions do not shut them out: 198.51.100.0/24";
            assert_eq!(said.contains(lost), action == "nftables-multiport", "{said}");
            if dbfile != "None" {
                let failures = "SELECT json_extract(data, '$.failures') FROM bips WHERE ip = '192.0.2.4'";
                assert_eq!(home.rows(failures), ["3"]);
                let length = format!("SELECT bantime FROM bips WHERE ip = '{ATTACKER}'");
                assert_eq!(home.rows(&length), ["7200"]);
            }
            assert_eq!(probe.count(ATTACKER), arrived, "{action} {dbfile}: it got through");
            drop(probe);
            // and forth again, so that nothing of Fail2Ban is left for the next round
            done(&home, &[]);
            tell(&home, &["stop"]);
            wait_for("its end", Duration::from_secs(10), || !home.path("pid").exists());
            assert!(!net.server().run("nft list tables").contains("f2b-table"));
            drop(last);
        }
    }
}

#[test]
fn what_a_killed_fail2ban_leaves_behind_is_taken_away_and_nothing_else() {
    let net = in_namespaces!();
    for action in ["nftables-multiport", "iptables-multiport", "iptables-ipset-proto6"] {
        let home = home(action);
        let last = Last(home.path("pid"));
        bans(&home, [ATTACKER, "2001:db8::2"].into_iter());
        let daemon = fail2ban(home, 2);
        let all = "nft list ruleset; iptables-save; ip6tables-save; ipset save";
        let left = || net.server().shell(all).1;
        wait_for("both families", PATIENCE, || left().contains(ATTACKER) && left().contains("2001:db8::2"));
        let home = daemon.kill();
        let probe = Probe::start(&net, &[ATTACKER, FREE]);
        probe.passes(FREE);
        for own in [
            "iptables -N f2b-mine",
            "iptables -A f2b-mine -s 203.0.113.1 -j LOG",
            "iptables -A INPUT -s 203.0.113.2 -j DROP",
            "ipset create f2b-list list:set",
            "ipset create admins hash:ip",
            "nft add table inet own",
            "nft add set inet own addr-set-door { type ipv4_addr ; }",
        ] {
            net.server().run(own);
        }
        let (code, said) = takeover(&home, &["--dry-run"]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("would take away what Fail2Ban left behind"), "{said}");
        assert!(said.contains("would start Sekimori") && !home.path("sock.handover").exists(), "{said}");
        assert!(left().contains(ATTACKER) && !left().contains("sekimori"), "{}", left());
        let said = done(&home, &[]);
        assert!(said.contains("2 ban(s) in 1 jail(s)") && said.contains("left alone: chain f2b-mine"), "{said}");
        let now = left();
        for gone in ["f2b-door", "f2b-table", "addr6-set-door"] {
            assert!(!now.contains(gone), "{action}: {gone}\n{said}\n{now}");
        }
        for stays in ["f2b-mine -s 203.0.113.1/32 -j LOG", "203.0.113.2/32", "f2b-list", "admins", "table inet own"] {
            assert!(now.contains(stays), "{action}: {stays}\n{said}\n{now}");
        }
        assert_eq!(probe.count(ATTACKER), 0, "{action}");
        tell(&home, &["stop"]);
        wait_for("its end", Duration::from_secs(10), || !home.path("pid").exists());
        net.server().shell("iptables -F; iptables -X; ipset destroy; nft delete table inet own");
        drop(last);
    }
}

#[test]
fn whatever_is_killed_on_the_way_the_command_can_be_given_again() {
    let net = in_namespaces!();
    let home = home("nftables-multiport");
    let last = Last(home.path("pid"));
    bans(&home, [ATTACKER].into_iter());
    let daemon = fail2ban(home, 1);
    wait_for("the ban", PATIENCE, || net.server().run("nft list ruleset").contains(ATTACKER));
    let probe = Probe::start(&net, &[ATTACKER, FREE]);
    probe.passes(FREE);
    for direction in [&[][..], &["--back"]] {
        for pause in [5, 20, 60, 150, 400, 1000] {
            let mut child = command(&daemon, direction).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(pause));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        wait_for("the change comes to its end", PATIENCE, || {
            let (code, said) = takeover(&daemon, direction);
            code == 0 || said.contains("Sekimori runs already")
        });
        assert_eq!(listed(&daemon), [ATTACKER]);
    }
    assert!(!net.server().run("nft list tables").contains("sekimori"));
    done(&daemon, &[]);
    // ours is killed, and Fail2Ban goes on
    last.kill();
    done(&daemon, &["--back"]);
    assert_eq!(listed(&daemon), [ATTACKER]);
    assert_eq!(probe.count(ATTACKER), 0, "it got through");
}

/// A `systemctl` that knows the units of both, and starts and stops what they would.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> /etc/fail2ban/units
case "$*" in
    "show --property=MainPID --value -- fail2ban.service") cat /etc/fail2ban/pid ;;
    "cat -- fail2ban.service" | "cat -- sekimori.service") ;;
    "start -- fail2ban.service") fail2ban-server -x -b start >/dev/null 2>&1 ;;
    "stop -- fail2ban.service") fail2ban-client stop ;;
    "start -- sekimori.service") sekimori server -b ;;
    *) exit 1 ;;
esac
"#;

#[test]
fn the_three_commands_of_the_readme_do_what_it_says_with_and_without_systemd() {
    let net = in_namespaces!();
    let readme = include_str!("../README.md").split("## Coming from Fail2Ban").nth(1).unwrap();
    let readme = readme.split("\n## ").next().unwrap();
    let commands: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("    ")?.split("  ").next()).collect();
    let [shadow, forth, back] = commands[..] else { panic!("{commands:?}") };
    net.server().run("mount -t tmpfs none /run");
    for systemd in [false, true] {
        let home = home("nftables-multiport");
        let last = Last(home.path("pid"));
        fs::create_dir(home.path("bin")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sekimori"), home.path("bin/sekimori")).unwrap();
        if systemd {
            use std::os::unix::fs::PermissionsExt as _;
            fs::create_dir_all("/run/systemd/system").unwrap();
            home.put("bin/systemctl", SYSTEMCTL);
            fs::set_permissions(home.path("bin/systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let folder = home.path("").display().to_string();
        net.server().run(&format!("mount --bind {folder} /etc/fail2ban"));
        bans(&home, [ATTACKER].into_iter());
        let daemon = fail2ban(home, 1);
        let path = format!("{folder}/bin:{}", std::env::var("PATH").unwrap());
        let run = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec {text}")]).env("PATH", &path).env_remove("SSH_CONNECTION");
            command
        };
        let ended = |text: &str| {
            let output = run(text).output().unwrap();
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success(), "{text}: {said}\n{}", daemon.log());
            said
        };
        let mut beside = run(shadow).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut out = std::io::BufReader::new(beside.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut said).unwrap();
        assert!(said.contains("comparing with process"), "{said}");
        rustix::process::kill_process(rustix::process::Pid::from_child(&beside), rustix::process::Signal::INT).unwrap();
        assert!(beside.wait().unwrap().success());
        let said = ended(forth);
        assert!(said.contains("Sekimori runs: process") && said.contains("1 ban(s) in 1 jail(s)"), "{said}");
        assert_eq!(said.contains("systemctl stop fail2ban.service"), systemd, "{said}");
        assert_eq!(said.contains("systemctl disable fail2ban"), systemd, "{said}");
        assert_eq!(listed(&daemon), [ATTACKER]);
        let said = ended(back);
        assert!(said.contains("Fail2Ban runs: process"), "{said}");
        assert_eq!(listed(&daemon), [ATTACKER]);
        assert!(net.server().run("nft list ruleset").contains("addr-set-door"));
        let units = fs::read_to_string(daemon.path("units")).unwrap_or_default();
        for step in ["stop -- fail2ban.service", "start -- sekimori.service", "start -- fail2ban.service"] {
            assert_eq!(units.contains(step), systemd, "{units}");
        }
        tell(&daemon, &["stop"]);
        wait_for("its end", Duration::from_secs(20), || !daemon.path("pid").exists());
        net.server().run("umount /etc/fail2ban");
        drop(daemon);
        drop(last);
    }
}

#[test]
fn nothing_is_changed_if_it_cannot_be_done() {
    let _net = in_namespaces!();
    let home = home("nftables-multiport");
    let _last = Last(home.path("pid"));
    bans(&home, [ATTACKER].into_iter());
    let daemon = fail2ban(home, 1);
    let refused = |words: &[&str], text: &str| {
        let (code, said) = takeover(&daemon, words);
        assert!(code == 255 && said.contains(text), "{code}: {said}");
        assert_eq!(daemon.tell(&["get", "door", "banip"]), ATTACKER);
    };
    refused(&["--firewall", "memory"], "nobody would be shut out");
    refused(&["--firewall", "none"], "no firewall `none`");
    refused(&["--timeout", "soon"], "soon");
    refused(&["-c", "/nowhere"], "cannot be used multiple times");
    fs::write(daemon.path("jail.d/bad.conf"), "[door]\nfilter = gone\n").unwrap();
    refused(&[], "cannot be used; nothing was changed");
    fs::remove_file(daemon.path("jail.d/bad.conf")).unwrap();
    done(&daemon, &[]);
    let (code, said) = takeover(&daemon, &[]);
    assert!(code == 255 && said.contains("Sekimori runs already"), "{said}");
}
