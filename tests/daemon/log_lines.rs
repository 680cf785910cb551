//! The lines of the log that other programs read: our own exact form, and the same story told by
//! the real Fail2Ban.

use std::collections::BTreeMap;

use crate::harness::daemon::{Daemon, Home, failure};

/// Replaces what differs from run to run: times, process numbers, hashes, the folder.
fn normal(home: &Home, line: &str) -> String {
    let line = line.replace(&*home.path("").to_string_lossy(), "DIR/");
    let mut out = String::new();
    let mut rest = line.as_str();
    while let Some(c) = rest.chars().next() {
        let shape: String = rest.chars().take(19).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let hex = rest.chars().take_while(char::is_ascii_hexdigit).count();
        if shape == "0000-00-00 00:00:00" {
            out += "DATE";
            rest = &rest[19..];
            if rest.starts_with(',') && rest[1..4].bytes().all(|byte| byte.is_ascii_digit()) {
                rest = &rest[4..];
            }
        } else if hex == 40 {
            out += "HASH";
            rest = &rest[40..];
        } else if let Some(end) =
            rest.find(']').filter(|end| c == '[' && *end > 1 && rest[1..*end].bytes().all(|byte| byte.is_ascii_digit()))
        {
            out += "[PID]";
            rest = &rest[end + 1..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

fn lines(home: &Home) -> Vec<String> {
    home.log().lines().map(|line| normal(home, line)).collect()
}

#[test]
fn every_line_has_its_exact_form() {
    let home = Home::new().without_kernel();
    home.jail(
        "door",
        "logpath = LOG\nmaxretry = 2\nfindtime = 10m\nbantime = 10m\nignoreip = 198.51.100.16/28\n\
         action = nftables-native[port=22]\n",
    );
    let daemon = home.start();
    daemon.wait_for("Added logfile");
    let ids = ["192.0.2.7", "198.51.100.17", "127.0.0.1", "192.0.2.7"];
    daemon.write(&ids.map(failure));
    daemon.wait_for("Ban 192.0.2.7");
    daemon.tell(&["reload"]);
    daemon.tell(&["set", "door", "unbanip", "192.0.2.7"]);
    daemon.tell(&["set", "door", "banip", "2001:db8::7"]);
    daemon.tell(&["set", "door", "banip", "2001:db8::7"]);
    daemon.tell(&["set", "door", "maxretry", "7"]);
    std::fs::write(daemon.path("more.log"), "first\n").unwrap();
    let more = daemon.path("more.log");
    daemon.tell(&["set", "door", "addlogpath", &more.to_string_lossy()]);
    daemon.wait_for("more.log' (pos");
    daemon.tell(&["set", "door", "dellogpath", &more.to_string_lossy()]);
    daemon.tell(&["set", "loglevel", "MSG"]);
    daemon.put("auth.log", "");
    daemon.wait_for("Log rotation detected");
    let home = daemon.stop();
    let home = home.start().stop();
    let begin = [
        "DATE fail2ban.server         [PID]: INFO    --------------------------------------------------",
        "DATE fail2ban.server         [PID]: INFO    Starting Fail2ban v1.0.2",
        concat!(
            "DATE fail2ban.server         [PID]: INFO    This is Sekimori ",
            env!("CARGO_PKG_VERSION"),
            "; bans by memory (nobody is shut out)"
        ),
        "DATE fail2ban.database       [PID]: INFO    Connected to fail2ban persistent database 'DIR/db'",
        "DATE fail2ban.database       [PID]: WARNING New database created. Version '4'",
        "DATE fail2ban.jail           [PID]: INFO    Creating new jail 'door'",
        "DATE fail2ban.jail           [PID]: INFO    Jail 'door' uses pyinotify {}",
        "DATE fail2ban.jail           [PID]: INFO    Initiated 'pyinotify' backend",
        "DATE fail2ban.filter         [PID]: INFO      maxRetry: 2",
        "DATE fail2ban.filter         [PID]: INFO      findtime: 600",
        "DATE fail2ban.actions        [PID]: INFO      banTime: 600",
    ];
    let mut expected: Vec<&str> = begin.to_vec();
    expected.extend([
        "DATE fail2ban.filter         [PID]: INFO    Added logfile: 'DIR/auth.log' (pos = 0, hash = )",
        "DATE fail2ban.jail           [PID]: INFO    Jail 'door' started",
        "DATE fail2ban.server         [PID]: INFO    Server ready",
        "DATE fail2ban.filter         [PID]: INFO    [door] Found 192.0.2.7 - DATE",
        "DATE fail2ban.filter         [PID]: INFO    [door] Ignore 198.51.100.17 by ip",
        "DATE fail2ban.filter         [PID]: INFO    [door] Ignore 127.0.0.1 by ignoreself rule",
        "DATE fail2ban.filter         [PID]: INFO    [door] Found 192.0.2.7 - DATE",
        "DATE fail2ban.actions        [PID]: NOTICE  [door] Ban 192.0.2.7",
        "DATE fail2ban.server         [PID]: INFO    Reload all jails",
        "DATE fail2ban.server         [PID]: INFO    Reload jail 'door'",
        "DATE fail2ban.filter         [PID]: INFO      maxRetry: 2",
        "DATE fail2ban.filter         [PID]: INFO      findtime: 600",
        "DATE fail2ban.actions        [PID]: INFO      banTime: 600",
        "DATE fail2ban.server         [PID]: INFO    Jail 'door' reloaded",
        "DATE fail2ban.server         [PID]: INFO    Reload finished.",
        "DATE fail2ban.actions        [PID]: NOTICE  [door] Unban 192.0.2.7",
        "DATE fail2ban.actions        [PID]: NOTICE  [door] Ban 2001:db8::7",
        "DATE fail2ban.filter         [PID]: INFO      maxRetry: 7",
        "DATE fail2ban.filter         [PID]: INFO    Added logfile: 'DIR/more.log' (pos = 0, hash = HASH)",
        "DATE fail2ban.filter         [PID]: INFO    Removed logfile: 'DIR/more.log'",
        "DATE fail2ban.filter         [PID]: MSG     Log rotation detected for DIR/auth.log, reason: (emptied)",
        "DATE fail2ban.server         [PID]: INFO    Shutdown in progress...",
        "DATE fail2ban.server         [PID]: INFO    Stopping all jails",
        "DATE fail2ban.filter         [PID]: INFO    Removed logfile: 'DIR/auth.log'",
        "DATE fail2ban.actions        [PID]: NOTICE  [door] Unban 2001:db8::7",
    ]);
    let end = [
        "DATE fail2ban.jail           [PID]: INFO    Jail 'door' stopped",
        "DATE fail2ban.database       [PID]: INFO    Connection to database closed.",
        "DATE fail2ban.server         [PID]: INFO    Exiting Fail2ban",
    ];
    expected.extend(end);
    let mut found = lines(&home);
    let second = found.split_off(expected.len().min(found.len()));
    assert_eq!(found.join("\n"), expected.join("\n"));
    let mut expected: Vec<&str> = begin.into_iter().filter(|line| !line.contains("New database")).collect();
    expected.extend([
        "DATE fail2ban.filter         [PID]: INFO    Added logfile: 'DIR/auth.log' (pos = 0, hash = )",
        "DATE fail2ban.actions        [PID]: NOTICE  [door] Restore Ban 2001:db8::7",
        "DATE fail2ban.jail           [PID]: INFO    Jail 'door' started",
        "DATE fail2ban.server         [PID]: INFO    Server ready",
        "DATE fail2ban.server         [PID]: INFO    Shutdown in progress...",
        "DATE fail2ban.server         [PID]: INFO    Stopping all jails",
        "DATE fail2ban.filter         [PID]: INFO    Removed logfile: 'DIR/auth.log'",
        "DATE fail2ban.actions        [PID]: NOTICE  [door] Unban 2001:db8::7",
    ]);
    expected.extend(end);
    assert_eq!(second.join("\n"), expected.join("\n"));
}

/// What a daemon says of a jail's failures and bans, by the part that says it.
fn events(home: &Home) -> BTreeMap<String, Vec<String>> {
    let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines(home) {
        for jail in ["[door] ", "[grow] "] {
            if let Some((head, message)) = line.split_once(jail) {
                events.entry(format!("{head}{jail}")).or_default().push(message.to_owned());
            }
        }
    }
    events
}

/// The same story for both programs.
fn story(home: Home) -> Home {
    // bans are of no consequence for anybody
    home.put("action.d/none.conf", "[Definition]\nactionban = true\nactionunban = true\n");
    home.put("grow.log", "");
    let options = "backend = polling\naction = none\n";
    home.jail(
        "door",
        &format!("{options}logpath = LOG\nmaxretry = 2\nbantime = 600\nfindtime = 600\nignoreip = 198.51.100.9 198.51.100.16/28\n"),
    );
    home.jail(
        "grow",
        &format!("{options}logpath = DIR/grow.log\nmaxretry = 3\nbantime = 2\nbantime.increment = true\n"),
    );
    let daemon = home.start();
    let failures = |daemon: &Daemon, log: &str, id: &str, times| daemon.append(log, &vec![failure(id); times]);
    for (id, times) in
        [("192.0.2.7", 2), ("198.51.100.9", 1), ("198.51.100.17", 1), ("2001:db8::7", 2), ("127.0.0.1", 1)]
    {
        failures(&daemon, "auth.log", id, times);
    }
    failures(&daemon, "grow.log", "192.0.2.80", 3);
    daemon.wait_for("[door] Ban 2001:db8::7");
    daemon.wait_for("[grow] Unban 192.0.2.80");
    // more than three seconds after its ban
    std::thread::sleep(std::time::Duration::from_millis(2500));
    failures(&daemon, "auth.log", "192.0.2.7", 2);
    daemon.wait_for("192.0.2.7 already banned");
    failures(&daemon, "grow.log", "192.0.2.80", 2);
    daemon.wait_for("[grow] Increase Ban 192.0.2.80");
    assert_eq!(daemon.tell(&["set", "door", "banip", "192.0.2.50", "192.0.2.51"]), "2");
    assert_eq!(daemon.tell(&["set", "door", "banip", "192.0.2.50"]), "0");
    assert_eq!(daemon.tell(&["set", "door", "attempt", "192.0.2.60", "a", "b"]), "1");
    daemon.wait_for("[door] Ban 192.0.2.60");
    assert_eq!(daemon.tell(&["set", "door", "unbanip", "192.0.2.7"]), "1");
    daemon.wait_for("[door] Unban 192.0.2.7");
    daemon.wait_for_times("[grow] Unban 192.0.2.80", 2);
    assert_eq!(daemon.tell(&["reload"]), "OK");
    daemon.wait_for("Reload finished.");
    let home = daemon.stop();
    let daemon = home.start();
    daemon.wait_for("[door] Restore Ban 2001:db8::7");
    daemon.stop()
}

#[test]
fn fail2ban_tells_the_same_story_in_the_same_words() {
    let (ours, theirs) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| story(Home::new().without_kernel()));
        let theirs = story(Home::new().real());
        (ours.join().unwrap(), theirs)
    });
    let (ours, theirs) = (events(&ours), events(&theirs));
    assert!(theirs.len() >= 6, "{theirs:?}");
    for (part, said) in &theirs {
        assert_eq!(ours.get(part), Some(said), "{part}");
    }
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
}

/// Lines that are ours or theirs alone, or are told in other words on purpose; see `contrib/doc/differences.md`.
const OTHERWISE: [(&str, &str); 15] = [
    // a machine without the Python module polls instead
    ("fail2ban.", "pyinotify"),
    ("fail2ban.", "gamin"),
    ("fail2ban.jail ", "Jail 'a-name-of-26-characters-xx' uses poller"),
    ("fail2ban.jail ", "cannot join thread before it is started"),
    // beside the line of the command that has failed
    ("fail2ban.filter ", "No failure-id group in "),
    ("fail2ban.server ", "Logging to previous target"),
    ("fail2ban.observer ", "Observer st"),
    ("fail2ban.server ", "This is Sekimori "),
    ("fail2ban.server ", "Server ready"),
    ("fail2ban.jail ", "Jail name '"),
    ("fail2ban.filter ", "Incorrect value"),
    ("fail2ban.filter ", "usedns `"),
    ("fail2ban.filter ", "annot remove regular expression"),
    ("fail2ban.filter ", "There is no regular expression"),
    ("fail2ban.actions ", "tatus flavor"),
];

/// All that a daemon says but for the above, by part and level. Of two warnings only the part that says what is
/// the matter.
fn everything(home: &Home) -> BTreeMap<String, Vec<String>> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines(home) {
        let Some((head, message)) = line.split_once("[PID]: ") else { continue };
        let (level, message) = message.split_at(8);
        let head = head.trim_start_matches("DATE ");
        if OTHERWISE.iter().any(|(part, text)| head.starts_with(part) && message.contains(text)) {
            continue;
        }
        let cut = [
            "Unable to log to '/nowhere/at/all'",
            "in operation mode. ",
            "for a timing issue. ",
            "log entries older than 600s; ",
        ]
        .iter()
        .find_map(|end| message.find(end).map(|at| at + end.len()));
        said.entry(format!("{head}{level}")).or_default().push(message[..cut.unwrap_or(message.len())].to_owned());
    }
    said
}

/// Everything that can happen to a server, once.
fn long_story(home: Home) -> Home {
    home.put("action.d/none.conf", "[Definition]\nactionban = true\nactionunban = true\n");
    home.put("old.log", "");
    home.put("more.log", "first\n");
    home.put("second.log", "");
    let options = "backend = polling\nusedns = warn\naction = none\nmaxretry = 2\nbantime = 600\nfindtime = 600\n";
    home.jail("door", &format!("{options}logpath = LOG\n  DIR/more.log\nmaxlines = 2\nlogencoding = utf-8\n"));
    let more = "datepattern = {^LN-BEG}\nbantime.increment = true\nbantime.factor = 2\nbantime.rndtime = 1m\n";
    home.jail("a-name-of-26-characters-xx", &format!("{options}logpath = DIR/old.log\n{more}"));
    // before it was started, an hour ago
    let before = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let before = jiff::tz::TimeZone::system().to_datetime(before);
    let stamped = |text: &str| format!("{} host {text}\n", before.strftime("%b %e %H:%M:%S"));
    home.append("old.log", &[failure("192.0.2.77")]);
    std::fs::write(
        home.path("old.log"),
        std::fs::read_to_string(home.path("old.log")).unwrap() + &stamped(&failure("192.0.2.1")),
    )
    .unwrap();
    let path = |name: &str| home.path(name).to_string_lossy().into_owned();
    let (auth, more, second, log) = (path("auth.log"), path("more.log"), path("second.log"), path("log"));
    let nowhere = path("nowhere");
    let daemon = home.start();
    daemon.wait_for("[a-name-of-26-characters-xx] Please check a jail");
    daemon.fail("192.0.2.7", 1);
    daemon.wait_for("[door] Found 192.0.2.7");
    let odd = stamped(&failure("192.0.2.8"));
    let mut file = std::fs::OpenOptions::new().append(true).open(&auth).unwrap();
    std::io::Write::write_all(&mut file, odd.as_bytes()).unwrap();
    daemon.wait_for("Found 192.0.2.8");
    daemon.fail("localhost", 1);
    daemon.wait_for("Determined IP using DNS Lookup: localhost");
    daemon.fail("nosuch.invalid", 1);
    daemon.wait_for("for nosuch.invalid: ");
    for words in [
        &["set", "logtarget", &second][..],
        &["set", "logtarget", &log],
        &["set", "logtarget", &log],
        &["flushlogs"],
        &["set", "loglevel", "INFO"],
        &["set", "syslogsocket", &nowhere],
        &["set", "logtarget", "SYSLOG"],
        &["set", "logtarget", "/nowhere/at/all"],
        &["set", "door", "bantime.increment", "true"],
        &["set", "door", "bantime.nosuch", "7"],
        &["set", "door", "bantime.maxtime", "5w"],
        &["set", "door", "maxlines", "3"],
        &["set", "door", "maxretry", "3"],
        &["set", "door", "findtime", "1h"],
        &["set", "door", "bantime", "20m"],
        &["set", "door", "logencoding", "latin1"],
        &["set", "door", "addlogpath", &auth],
        &["set", "door", "addlogpath", &second],
        &["set", "door", "addlogpath", &nowhere],
        &["set", "door", "dellogpath", &nowhere],
        &["set", "door", "dellogpath", &second],
        &["set", "door", "delfailregex", "99"],
        &["set", "door", "addfailregex", "^nobody$"],
        &["set", "door", "usedns", "bogus"],
        &["set", "door", "logtimezone", "bogus"],
        &["set", "door", "datepattern", "%Y-%m-%d %H:%M:%S"],
        &["set", "door", "datepattern", "{^LN-BEG}"],
        &["set", "door", "delaction", "nosuch"],
        &["set", "door", "action", "none", "nosuch"],
        &["set", "door", "maxretry", "x"],
        &["set", "door", "unbanip", "--report-absent", "192.0.2.99"],
        &["status", "door", "nosuch"],
        &["status", "nojail"],
        &["config-error", "what a client found"],
        &["reload", "door"],
        &["restart", "door"],
        &["reload", "--unban", "door"],
        &["set", "door", "banip", "192.0.2.60", "192.0.2.61"],
        &["unban", "--all"],
        &["add", "new", "polling"],
        &["add", "other", "nosuch"],
        &["stop", "new"],
        &["set", "door", "banip", "192.0.2.62"],
        &["stop", "door"],
        &["bogus"],
        &["get"],
    ] {
        daemon.ask(words);
    }
    let mut socket = std::os::unix::net::UnixStream::connect(daemon.path("sock")).unwrap();
    std::io::Write::write_all(&mut socket, b"<F2B_END_COMMAND>").unwrap();
    daemon.wait_for("PROTO-error: ");
    // the backend of a jail decides whether it is made anew
    let jail = std::fs::read_to_string(daemon.path("jail.d/a-name-of-26-characters-xx.conf")).unwrap();
    daemon.put("jail.d/a-name-of-26-characters-xx.conf", &jail.replace("= polling", "= pyinotify"));
    daemon.ask(&["reload"]);
    drop(more);
    daemon.stop()
}

#[test]
fn fail2ban_says_the_same_of_everything_else() {
    let (ours, theirs) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| long_story(Home::new().without_kernel()));
        let theirs = long_story(Home::new().real());
        (ours.join().unwrap(), theirs)
    });
    let (ours, theirs) = (everything(&ours), everything(&theirs));
    assert!(theirs.len() >= 10, "{theirs:#?}");
    let differs: Vec<String> = theirs
        .keys()
        .chain(ours.keys().filter(|part| !theirs.contains_key(*part)))
        .filter(|part| ours.get(*part) != theirs.get(*part))
        .map(|part| {
            let said = |all: &BTreeMap<String, Vec<String>>| all.get(part).cloned().unwrap_or_default().join("\n    ");
            format!("{part}\n  ours:\n    {}\n  theirs:\n    {}", said(&ours), said(&theirs))
        })
        .collect();
    assert!(differs.is_empty(), "{}", differs.join("\n"));
}
