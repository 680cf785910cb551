//! The database goes from Fail2Ban to us and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sekimori::fail2ban::database::{self, Ticket};
use sekimori::state::{Ban, Change, Failure, Opened, Position, Restore, Schema, State};
use sekimori::time::Time;

const SCHEMA: Schema = Schema {
    version: database::VERSION,
    create: database::CREATE,
    upgrades: database::UPGRADES,
    read_version: database::READ_VERSION,
};

fn now() -> Time {
    Time::from_f64(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64())
}

/// The real Fail2Ban with one jail and no action.
struct Real {
    folder: tempfile::TempDir,
    server: Option<Child>,
}

impl Real {
    fn new() -> Real {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for directory in ["filter.d", "action.d"] {
            fs::create_dir(at(directory)).unwrap();
        }
        let own = folder.path().display();
        let general = format!(
            "[Definition]\nloglevel = INFO\nlogtarget = {own}/log\nsyslogsocket = auto\nsocket = {own}/sock\n\
             pidfile = {own}/pid\ndbfile = {own}/db\ndbpurgeage = 1d\nallowipv6 = auto\n"
        );
        fs::write(at("fail2ban.conf"), general).unwrap();
        let jail = format!(
            "[j]\nenabled = true\nbackend = polling\nfilter = f\nlogpath = {own}/j.log\nbantime = 3600\nmaxretry = 3\n"
        );
        fs::write(at("jail.conf"), jail).unwrap();
        fs::write(at("filter.d/f.conf"), "[Definition]\nfailregex = ^ ?fail by <HOST>\\s*$\n").unwrap();
        fs::write(at("j.log"), "").unwrap();
        Real { folder, server: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self, words: &[&str]) -> bool {
        let mut client = Command::new("fail2ban-client");
        client.arg("-c").arg(self.folder.path()).args(words);
        client.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("fail2ban-client is installed").success()
    }

    fn start(&mut self) {
        let mut server = Command::new("fail2ban-server");
        server.arg("-c").arg(self.folder.path()).args(["-f", "start"]).stdout(Stdio::null()).stderr(Stdio::null());
        self.server = Some(server.spawn().expect("fail2ban-server is installed"));
        self.wait_for("Jail 'j' started");
    }

    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !fs::read_to_string(self.path("log")).is_ok_and(|log| log.contains(text)) {
            assert!(Instant::now() < deadline, "no `{text}` in {:?}", fs::read_to_string(self.path("log")));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&mut self) {
        assert!(self.client(&["stop"]));
        self.server.take().unwrap().wait().unwrap();
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn open(path: &Path) -> (State, Opened) {
    State::open(Some(path), SCHEMA, now()).unwrap()
}

#[test]
fn bans_and_positions_go_from_fail2ban_to_us_and_back() {
    let mut real = Real::new();
    real.start();
    assert!(real.client(&["set", "j", "banip", "192.0.2.7", "2001:db8::1", "192.0.2.0/25"]));
    let line = format!(
        "{} fail by 198.51.100.9\n",
        Command::new("date")
            .arg("+%F %T")
            .output()
            .map(|o| String::from_utf8(o.stdout).unwrap().trim().to_owned())
            .unwrap()
    );
    fs::write(real.path("j.log"), line.repeat(3)).unwrap();
    real.wait_for("Ban 198.51.100.9");
    real.stop();

    let (mut state, opened) = open(&real.path("db"));
    assert_eq!(opened, Opened::Existing);
    let restore = Restore { jail: "j", now: now(), bantime: 3600.0, increment: None };
    let bans = state.restorable(&restore).unwrap().bans;
    let ids: Vec<&str> = bans.iter().map(|ban| &*ban.id).collect();
    assert_eq!(ids, ["192.0.2.0/25", "192.0.2.7", "198.51.100.9", "2001:db8::1"]);
    let ticket = database::decode(&bans[2].data);
    assert_eq!((ticket.failures, ticket.matches.len()), (3, 3));
    for matched in &ticket.matches {
        assert_eq!(*matched.line, *line.trim_end());
    }
    // what we would write is what Fail2Ban wrote
    assert_eq!(
        String::from_utf8(database::encode(&ticket, 10)).unwrap(),
        String::from_utf8(bans[2].data.clone()).unwrap()
    );
    let [position] = &state.positions("j").unwrap()[..] else { panic!() };
    assert_eq!((position.offset, position.inode), (line.len() as u64 * 3, 0));

    let data = database::encode(&Ticket::default(), 10);
    let ban = Ban { jail: "j".into(), id: "203.0.113.5".into(), time: now(), bantime: 3600.0, count: 1, data };
    // one line more than Fail2Ban has read
    fs::write(real.path("j.log"), line.repeat(4)).unwrap();
    let read = Position { offset: line.len() as u64 * 4, inode: 1, ..position.clone() };
    let unban = Change::Delete { jail: "j".into(), id: "192.0.2.7".into() };
    state.commit(&[Change::NoJails, Change::Ban(ban), Change::Position(read), unban]).unwrap();
    state.close().unwrap();
    assert!(!real.path("db-wal").exists());

    fs::remove_file(real.path("log")).unwrap();
    real.start();
    for id in ["192.0.2.0/25", "198.51.100.9", "2001:db8::1", "203.0.113.5"] {
        real.wait_for(&format!("[j] Restore Ban {id}\n"));
    }
    real.stop();
    let log = fs::read_to_string(real.path("log")).unwrap();
    assert!(log.contains(&format!("(pos = {}, hash = {})", line.len() * 4, position.hash)), "{log}");
    assert!(!log.contains("Restore Ban 192.0.2.7\n"), "{log}");
}

/// Run with `--release --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn how_long_commits_and_loads_take() {
    let folder = tempfile::tempdir().unwrap();
    let (mut state, _) = open(&folder.path().join("db"));
    let data = vec![b'x'; 300];
    let ban = |n: u32| {
        let id = std::net::Ipv4Addr::from(n).to_string();
        Change::Ban(Ban { jail: "j".into(), id: id.into(), time: now(), bantime: 3600.0, count: 1, data: data.clone() })
    };
    let position = |n: u64| {
        let path = format!("/var/log/{n}.log").into();
        Change::Position(Position { jail: "j".into(), path, hash: "a".repeat(40), offset: n, inode: n })
    };
    let failure = |n: u32| {
        let id = std::net::Ipv4Addr::from(n).to_string();
        let (first, last) = (now(), now());
        let data = Vec::new();
        Change::Failure(Failure { jail: "j".into(), id: id.into(), first, last, retry: 1, failures: 1, data })
    };
    for round in 0..100_u32 {
        let changes: Vec<Change> =
            (0..1000).map(|n| ban(0xc000_0000 + round * 1000 + n)).chain((0..10).map(position)).collect();
        let started = Instant::now();
        state.commit(&changes).unwrap();
        if [0, 50, 99].contains(&round) {
            println!("commit {round} of 1,000 bans and 10 positions: {:?}", started.elapsed());
        }
    }
    let started = Instant::now();
    let bans = state.restorable(&Restore { jail: "j", now: now(), bantime: 3600.0, increment: None }).unwrap().bans;
    println!("{} bans loaded in {:?}", bans.len(), started.elapsed());
    for what in ["inserted", "updated"] {
        let mut total = Duration::ZERO;
        for batch in 0..100_u32 {
            let changes: Vec<Change> = (0..10_000).map(|n| failure(batch * 10_000 + n)).collect();
            let started = Instant::now();
            state.commit(&changes).unwrap();
            total += started.elapsed();
        }
        println!("1,000,000 counters {what}, 10,000 a commit: {total:?}");
    }
    let started = Instant::now();
    println!("{} counters loaded in {:?}", state.failures("j").unwrap().len(), started.elapsed());
    let started = Instant::now();
    state.close().unwrap();
    println!("closed in {:?}", started.elapsed());
}
