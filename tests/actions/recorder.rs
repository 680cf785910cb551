//! Every stock action of Debian's package runs the same programs as under the real Fail2Ban: same
//! order, arguments, environment, working directory, umask and standard input.
//!
//! The programs that would do something are replaced by a recorder. All actions run in one daemon,
//! each in a jail of its own, and go through one story: start, bans of both families, a banned one
//! that comes again, unban, reload, stop, a start with bans of before, stop.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::harness::daemon::{Daemon, Home};
use crate::harness::net::wait_for;

/// Where the package keeps its actions.
const STOCK: &str = "/etc/fail2ban/action.d";
/// Programs that are replaced.
const PROGRAMS: &[&str] = &[
    "nft",
    "iptables",
    "ip6tables",
    "ipset",
    "firewall-cmd",
    "ufw",
    "curl",
    "wget",
    "mail",
    "sendmail",
    "whois",
    "dig",
    "host",
    "ipfw",
    "ipf",
    "pfctl",
    "npfctl",
    "afctl",
    "apf",
    "csf",
    "ip",
    "route",
    "ss",
    "conntrack",
    "shorewall",
    "shorewall6",
    "nsupdate",
    "nginx",
    "apprise",
    "geoiplookup",
    "service",
    "systemctl",
    "hostname",
    "ssh",
];
/// Places of the machine that actions name, and what the copies name instead.
const PLACES: &[(&str, &str)] = &[
    ("/var/run/fail2ban", "DIR/run"),
    ("/run/nginx.pid", "DIR/run/nginx.pid"),
    ("/etc/hosts.deny", "DIR/etc/hosts.deny"),
    ("/etc/nginx/", "DIR/etc/nginx/"),
    ("/etc/symbiosis", "DIR/etc/symbiosis"),
    ("/proc/net/xt_recent", "DIR/run/xt_recent"),
    ("/usr/sbin/sendmail", "sendmail"),
    ("/sbin/ipf", "ipf"),
    ("/sbin/npfctl", "npfctl"),
    ("/usr/bin/nsupdate", "nsupdate"),
    ("/usr/libexec/afctl", "afctl"),
];
/// Commands of an action.
const COMMANDS: &[&str] = &["start", "stop", "ban", "unban", "check", "flush", "repair", "reload", "prolong", "reban"];
/// Parameters that some actions cannot do without.
const PARAMETERS: &str = "port=\"22,80\", abuseipdb_apikey=key, abuseipdb_category=18, email=a@example.org, apikey=key, \
     service=door, agent=agent, cfuser=user, cftoken=token, cfzone=zone, ns_host=ns.example.org, ns_auth=auth, \
     ipthreat_apikey=key, userid=1, mnwlogin=me, mnwpass=secret, domain=example.org, rdata=x, debug=0";
/// Says where to record, and notes down what happens in between.
const RECORDER: &str = r#"#!/bin/sh
# a program of an action: writes down how it was called
out="$RECORDS/$RECORD"
part="$out.$$"
{
    printf 'run %s' "${0##*/}"
    for word in "$@"; do printf ' [%s]' "$word"; done
    printf '\n  in %s, umask %s, ' "$PWD" "$(umask)"
    # much of it is the same everywhere: a sum will do
    printf 'environment %s' "$(env | grep -vE '^(_|PWD|OLDPWD|SHLVL|RECORD|RECORDS|PATH)=' | sort | cksum)"
    if [ -p /dev/stdin ] || [ -f /dev/stdin ]; then
        printf '\n  input: '
        cat
    fi
    printf '\n'
} > "$part"
cat "$part" >> "$out"
rm "$part"
case "${0##*/}" in
    dig) echo '"abuse@example.org"' ;;
    whois) echo "netname: EXAMPLE"; echo "abuse-mailbox: abuse@example.org" ;;
    hostname) echo host.example.org ;;
esac
exit 0
"#;

/// Names of the actions.
fn actions() -> Vec<String> {
    let entries = fs::read_dir(STOCK).expect("the package fail2ban is needed for this test");
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".conf").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() > 60, "{names:?}");
    names
}

/// An action file in which each command first says whose it is.
fn marked(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        let command = line.split_once('=').filter(|(name, _)| {
            let name = name.trim().split('?').next().unwrap();
            name.strip_prefix("action").is_some_and(|name| COMMANDS.contains(&name))
        });
        let goes_on = lines.get(index + 1).is_some_and(|next| next.starts_with([' ', '\t']) && !next.trim().is_empty());
        match command {
            Some((name, value)) if !value.trim().is_empty() || goes_on => {
                out += &format!("{name}= export RECORD=<record>\n    {}\n", value.trim());
            }
            _ => out += &format!("{line}\n"),
        }
    }
    out
}

fn home(real: bool, names: &[String]) -> Home {
    let home = if real { Home::new().real() } else { Home::new().without_kernel() };
    let folder = home.path("").display().to_string().trim_end_matches('/').to_owned();
    home.put("sekimori.toml", "native_actions = false\n");
    for name in names {
        let text = String::from_utf8_lossy(&fs::read(format!("{STOCK}/{name}.conf")).unwrap()).into_owned();
        let mut text = marked(&text);
        for (place, instead) in PLACES {
            text = text.replace(place, &instead.replace("DIR", &folder));
        }
        home.put(&format!("action.d/{name}.conf"), &text);
        home.put(&format!("logs/{name}"), "");
        home.jail(
            name,
            &format!(
                "logpath = DIR/logs/{name}\nfilter = user\nmaxretry = 1\nbantime = 10m\nfindtime = 10m\n\
                 action = {name}[name={name}, record={name}, tmpfile=DIR/run/tmp-{name}, {PARAMETERS}]\n         noted[record={name}]\n"
            ),
        );
    }
    let note =
        |event: &str, rest: &str| format!("action{event} = echo '-- {event}{rest}' >> {folder}/records/<record>\n");
    let notes: String =
        [("start", ""), ("stop", ""), ("ban", " <ip>"), ("unban", " <ip>"), ("check", ""), ("reload", "")]
            .map(|(event, rest)| note(event, rest))
            .concat();
    home.put("action.d/noted.conf", &format!("[Definition]\n{notes}"));
    home.put(
        "filter.d/user.conf",
        "[Definition]\nfailregex = ^ \\S+ doord: bad key for <F-USER>.*</F-USER> from <HOST>$\n",
    );
    for folder in ["run/xt_recent", "etc/nginx", "etc/symbiosis/firewall/blacklist.d", "records"] {
        fs::create_dir_all(home.path(folder)).unwrap();
    }
    home.put("etc/hosts.deny", "");
    home.put("bin/recorder", RECORDER);
    fs::set_permissions(home.path("bin/recorder"), fs::Permissions::from_mode(0o755)).unwrap();
    for program in PROGRAMS {
        std::os::unix::fs::symlink("recorder", home.path("bin").join(program)).unwrap();
    }
    let records = format!("{folder}/records");
    home.variable("PATH", &format!("{folder}/bin:/usr/bin:/bin")).variable("RECORDS", &records)
}

/// Waits until each action has come so far.
fn reached(daemon: &Daemon, names: &[String], mark: impl Fn(usize) -> String, times: usize) {
    let late = |(index, name): &(usize, &String)| {
        let text = fs::read(daemon.path("records").join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| *line == format!("-- {}", mark(*index))).count() < times
    };
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let late: Vec<&String> = names.iter().enumerate().filter(late).map(|(_, name)| name).collect();
        if late.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{} {times} is still to come: {late:?}", mark(0));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The address of an offender, one of its own for each action, because some look at other jails' bans.
fn address(index: usize, offender: usize) -> String {
    let index = index + 1;
    if offender == 2 { format!("2001:db8:{index:x}::7") } else { format!("198.18.{index}.{offender}") }
}

/// What became of everything: the records of each action, and the files that actions wrote.
fn story(home: Home, names: &[String]) -> BTreeMap<String, String> {
    let folder = home.path("").display().to_string().trim_end_matches('/').to_owned();
    let daemon = home.start();
    reached(&daemon, names, |_| "start".to_owned(), 1);
    let fail = |user: &str, offender: usize| {
        for (index, name) in names.iter().enumerate() {
            let line = format!("doord: bad key for {user} from {}", address(index, offender));
            daemon.append(&format!("logs/{name}"), &[line]);
        }
    };
    for (user, offender) in [("bob", 1), ("$(id) `id` 'x' \"y\" ~!id \\n %s; -rf", 2), ("eve", 3)] {
        fail(user, offender);
        reached(&daemon, names, |index| format!("ban {}", address(index, offender)), 1);
    }
    let mut all = written(&daemon, "banned", &folder);
    // the environment is looked at when somebody comes whose ban had its time to take effect
    let begin = Instant::now();
    wait_for("the bans to age", Duration::from_secs(10), || begin.elapsed() > Duration::from_millis(4500));
    fail("bob", 1);
    reached(&daemon, names, |_| "check".to_owned(), 1);
    let freed: Vec<String> = (0..names.len()).map(|index| address(index, 1)).collect();
    let words: Vec<&str> = ["unban"].into_iter().chain(freed.iter().map(String::as_str)).collect();
    daemon.tell(&words);
    reached(&daemon, names, |index| format!("unban {}", address(index, 1)), 1);
    daemon.tell(&["reload"]);
    reached(&daemon, names, |_| "reload".to_owned(), 1);
    let home = daemon.stop();
    let daemon = home.start();
    for offender in [2, 3] {
        reached(&daemon, names, |index| format!("ban {}", address(index, offender)), 2);
    }
    let home = daemon.stop();
    all.extend(written(&home, "stopped", &folder));
    for name in names {
        let text = fs::read(home.path("records").join(name)).unwrap();
        all.insert(name.clone(), normal(&String::from_utf8_lossy(&text), &folder));
    }
    all
}

/// Files that actions wrote into what they take for folders of the machine.
fn written(home: &Home, when: &str, folder: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![home.path("run"), home.path("etc")];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                files.insert(normal(&format!("{when}: {}", path.display()), folder), normal(&text, folder));
            }
        }
    }
    files
}

/// The records without what differs from run to run.
fn normal(text: &str, folder: &str) -> String {
    let text = text.replace(folder, "DIR");
    // times of day, and seconds since 1970
    let mut out = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        out += &rest[..at];
        let tail = &rest[at..];
        let end = tail.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(tail.len());
        let word = tail[..end].trim_end_matches([':', '.']);
        let is_clock = word.len() == 8 && word.matches(':').count() == 2 && !word.contains('.');
        let seconds = word.split('.').next().unwrap();
        let is_time = seconds.len() == 10 && seconds.starts_with("17") && !word.contains(':');
        out += match (is_clock, is_time) {
            (true, _) => "CLOCK",
            (_, true) if word.contains('.') => "SECONDS.F",
            (_, true) => "SECONDS",
            _ => word,
        };
        rest = &tail[word.len()..];
    }
    out + rest
}

#[test]
fn every_stock_action_runs_the_same_programs_as_under_the_real_one() {
    let names = match std::env::var("ACTIONS") {
        Ok(names) => names.split(',').map(str::to_owned).collect(),
        Err(_) => actions(),
    };
    let run = |real: bool| story(home(real, &names), &names);
    let (mut theirs, mut ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| run(true));
        let ours = run(false);
        (theirs.join().unwrap(), ours)
    });
    // the one action that is told of a longer ban: here also when it is later failures that make it longer
    if let Some(text) = ours.get_mut("osx-afctl") {
        let longer = text.find("run afctl [-r]").filter(|_| text.contains("[-t] [60"));
        let rest = longer.map(|at| (at, at + text[at..].find("-- check").unwrap()));
        let (from, to) = rest.expect("it is told");
        assert_eq!(text[from..to].matches("run ").count(), 2);
        text.replace_range(from..to, "");
    }
    if let Ok(folder) = std::env::var("RECORDS_TO") {
        for (kind, all) in [("theirs", &theirs), ("ours", &ours)] {
            for (name, text) in all {
                fs::write(format!("{folder}/{}.{kind}", name.replace('/', "_")), text).unwrap();
            }
        }
    }
    let runs: usize = theirs.values().map(|text| text.matches("run ").count()).sum();
    assert!(runs > 10 * names.len(), "only {runs} runs of programs");
    let mut different = Vec::new();
    for name in theirs.keys().chain(ours.keys()).cloned().collect::<std::collections::BTreeSet<_>>() {
        let (theirs, ours) = (theirs.remove(&name), ours.remove(&name));
        if theirs != ours {
            let [theirs, ours] = [theirs, ours].map(|text| text.unwrap_or_default());
            let at = theirs.lines().zip(ours.lines()).take_while(|(a, b)| a == b).count();
            let [theirs, ours] = [theirs, ours].map(|text| text.lines().nth(at).unwrap_or("nothing").to_owned());
            different.push(format!("{name}, line {}:\n  there {theirs}\n  here  {ours}", at + 1));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

/// What the action that wants to know of longer bans ran for somebody who is banned a second time.
fn second_ban(real: bool) -> Vec<String> {
    let names = ["osx-afctl".to_owned()];
    let home = home(real, &names);
    home.jail(
        "osx-afctl",
        "logpath = DIR/logs/osx-afctl\nfilter = user\nmaxretry = 1\nbantime = 3\nfindtime = 10m\nbantime.increment = true\n\
         action = osx-afctl[record=osx-afctl]\n         noted[record=osx-afctl]\n",
    );
    let daemon = home.start();
    reached(&daemon, &names, |_| "start".to_owned(), 1);
    let line = format!("doord: bad key for bob from {}", address(0, 1));
    for times in 1..=2 {
        daemon.append("logs/osx-afctl", std::slice::from_ref(&line));
        reached(&daemon, &names, |_| format!("unban {}", address(0, 1)), times);
    }
    let home = daemon.stop();
    let text = fs::read_to_string(home.path("records/osx-afctl")).unwrap();
    let second = text.split("-- unban").nth(1).unwrap();
    second.lines().filter(|line| line.starts_with("run ")).map(str::to_owned).collect()
}

#[test]
fn a_ban_that_grows_is_told_with_its_final_length() {
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| second_ban(true));
        let ours = second_ban(false);
        (theirs.join().unwrap(), ours)
    });
    // there a ban is made, and then made longer; here it has its length at once
    assert!(theirs.len() > ours.len(), "{theirs:?}\n{ours:?}");
    let with_length = |all: &[String]| all.iter().rfind(|line| line.contains("[-t]")).cloned().unwrap();
    assert_eq!(with_length(&ours), with_length(&theirs));
    let lift = |all: &[String]| all.last().cloned().unwrap();
    assert_eq!(lift(&ours), lift(&theirs));
}
