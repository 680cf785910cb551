//! Actions in Python: told the same as under the real Fail2Ban, and harmless when they misbehave.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::harness::daemon::{Daemon, Home};

/// Writes down what it is told, with the types; what differs from run to run by type alone.
const RECORDER: &str = r#"
import re
from fail2ban.server.action import ActionBase

class Recorder(ActionBase):
    _prolongable = True
    WHAT = ("ip family ip-rev ip-host fid failures time bantime bancount matches restored F-* ipmatches "
            "ipjailmatches ipfailures ipjailfailures raw-ticket jail.banned jail.banned_total "
            "jail.found jail.found_total F-USER nothing").split()

    def __init__(self, jail, name, out, greeting="none", norestored=False):
        super(Recorder, self).__init__(jail, name)
        self.out, self.greeting, self.calls = out, greeting, 0
        if norestored:
            self.norestored = True
        self.say("init", type(jail).__name__, jail.name, name, repr(greeting), self._jail is jail, self._name,
                 self._logSys.name)

    def say(self, *words):
        with open(self.out, "a") as out:
            out.write(re.sub(r"\d\d:\d\d:\d\d", "CLOCK", " ".join(map(str, words))) + "\n")

    def tell(self, method, info):
        self.calls += 1
        self.say(method, len(info), list(info) if method == "ban" else "", type(info).__name__)
        for key in self.WHAT:
            try:
                value = info[key]
                shown = "..." if key == "time" else repr(value).replace(repr(info["time"]), "TIME")
                self.say("  ", key, type(value).__name__, shown, key in info, info.get(key) == value)
            except KeyError as error:
                self.say("  ", key, repr(error), key in info, info.get(key, "default"))

    def start(self): self.say("start", self._jail.actions.getBanTime())
    def stop(self): self.say("stop")
    def ban(self, aInfo): self.tell("ban", aInfo)
    def unban(self, aInfo): self.tell("unban", aInfo)
    def flush(self): self.say("flush")
    def prolong(self, aInfo): self.say("prolong", aInfo["ip"], aInfo["bantime"])

    @property
    def twice(self): return self.greeting * 2
    def shout(self, text="a", times=1): return [text, times, self.greeting]
    def bad(self): raise ValueError("no good")
    def mixed(self): return {"a": (1, 2.5, None, True), "b": {1}, 3: [float("inf"), "\u00eb"]}

Action = Recorder
"#;

/// A name that wants to be more than data.
const HOSTILE: &str = "x' + __import__('os').system('touch /evil') + 'ë\\n\"\u{1b}[31m{0} %s $(id)";

const FILTER: &str = "[Definition]\nfailregex = ^ \\S+ doord: bad key for <F-USER>.*</F-USER> from <HOST>$\n";

fn home(real: bool) -> Home {
    let home = if real { Home::new().real() } else { Home::new().without_kernel() };
    home.put("filter.d/user.conf", FILTER);
    home
}

fn fail(daemon: &Daemon, user: &str, address: &str) {
    daemon.write(&[format!("doord: bad key for {user} from {address}")]);
}

fn text(home: &Home, name: &str) -> String {
    fs::read_to_string(home.path(name)).unwrap_or_default()
}

fn reached(daemon: &Daemon, file: &str, mark: &str, times: usize) {
    let end = Instant::now() + Duration::from_secs(30);
    while text(daemon, file).matches(mark).count() < times {
        let told = (text(daemon, file), daemon.log());
        assert!(Instant::now() < end, "waited in vain for {times} × {mark} in {file}:\n{}\n{}", told.0, told.1);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What two instances of the recorder were told in a story with a restart, and what clients were answered.
fn story(real: bool) -> [String; 3] {
    let home = home(real);
    home.put("action.d/recorder.py", RECORDER);
    home.jail(
        "door",
        "logpath = LOG\nfilter = user\nmaxretry = 2\nbantime = 10m\nfindtime = 10m\nusedns = no\n\
         action = recorder.py[out=DIR/first, greeting=\"hi, 'you' ë\"]\n         \
         recorder.py[actname=second, out=DIR/second, norestored=1]\n",
    );
    let daemon = home.start();
    reached(&daemon, "second", "start", 1);
    fail(&daemon, HOSTILE, "198.51.100.7");
    fail(&daemon, "bob", "198.51.100.7");
    reached(&daemon, "second", "raw-ticket", 1);
    daemon.tell(&["set", "door", "banip", "2001:db8::7"]);
    reached(&daemon, "second", "raw-ticket", 2);
    let mut answers = String::new();
    for words in [
        &["get", "door", "actions"][..],
        &["get", "door", "actionproperties", "recorder"],
        &["get", "door", "actionmethods", "second"],
        &["get", "door", "action", "recorder", "greeting"],
        &["get", "door", "action", "recorder", "twice"],
        &["get", "door", "action", "recorder", "calls"],
        &["get", "door", "action", "recorder", "_name"],
        &["get", "door", "action", "recorder", "WHAT"],
        &["get", "door", "action", "recorder", "nothing"],
        &["get", "door", "action", "nobody", "out"],
        &["set", "door", "action", "recorder", "greeting", "9"],
        &["get", "door", "action", "recorder", "greeting"],
        &["set", "door", "action", "recorder", "new", "7"],
        &["set", "door", "action", "recorder", "twice", "9"],
        &["set", "door", "action", "recorder", "shout"],
        &["set", "door", "action", "recorder", "shout", r#"{"text": "b'; \"", "times": 4}"#],
        &["set", "door", "action", "recorder", "shout", "no JSON"],
        &["set", "door", "action", "recorder", "shout", r#"{"q": 1}"#],
        &["set", "door", "action", "recorder", "bad"],
        &["set", "door", "action", "recorder", "mixed"],
        &["set", "door", "action", "recorder", "ban"],
    ] {
        let (well, answer) = daemon.ask(words);
        // the client's own time and process
        let answer = answer.lines().map(|line| line.split_once("]: ").map_or(line, |(_, rest)| rest));
        answers += &format!("{words:?} {well}\n{}\n", answer.collect::<Vec<_>>().join("\n"));
    }
    daemon.tell(&["set", "door", "unbanip", "2001:db8::7"]);
    reached(&daemon, "second", "unban", 1);
    let home = daemon.stop();
    let daemon = home.start();
    reached(&daemon, "first", "ban 21", 5);
    let home = daemon.stop();
    let folder = home.path("").display().to_string();
    ["first", "second"]
        .map(|name| text(&home, name))
        .into_iter()
        .chain([answers])
        .map(|text| text.replace(&folder, "DIR/"))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

#[test]
fn an_action_in_python_is_told_the_same_as_under_the_real_one() {
    let [theirs, ours] = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| story(true));
        let ours = story(false);
        [theirs.join().unwrap(), ours]
    });
    assert!(theirs[0].matches("raw-ticket").count() >= 6, "{}", theirs[0]);
    for (theirs, ours) in theirs.iter().zip(&ours) {
        for (theirs, ours) in theirs.lines().zip(ours.lines()) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.lines().count(), theirs.lines().count(), "{theirs}\n{ours}");
    }
}

#[test]
fn a_longer_ban_of_somebody_known_is_told_with_its_length() {
    let last = |real: bool| {
        let home = home(real);
        home.put("action.d/recorder.py", RECORDER);
        home.jail(
            "door",
            "logpath = LOG\nfilter = user\nmaxretry = 1\nbantime = 3\nfindtime = 10m\nusedns = no\n\
             bantime.increment = true\naction = recorder.py[out=DIR/out]\n",
        );
        let daemon = home.start();
        reached(&daemon, "out", "start", 1);
        fail(&daemon, "bob", "198.51.100.7");
        reached(&daemon, "out", "unban", 1);
        fail(&daemon, "bob", "198.51.100.7");
        reached(&daemon, "out", "unban", 2);
        let home = daemon.stop();
        let told = text(&home, "out");
        let lines = told.lines().map(|line| line.split_once(" TIME").map_or(line, |(line, _)| line));
        let lengths = lines.filter(|line| line.starts_with("prolong") || line.contains("bantime int"));
        lengths.map(str::to_owned).collect::<Vec<_>>()
    };
    let shown = |seconds: u32| format!("   bantime int {seconds} True True");
    // the real one bans, with the old length or the new one, and then says that it is longer
    let theirs = last(true);
    assert_eq!(theirs[..2], [shown(3), shown(3)]);
    assert_eq!(theirs[3..], ["prolong 198.51.100.7 6".to_owned(), shown(6)]);
    // here it is known before
    assert_eq!(last(false), [shown(3), shown(3), shown(6), shown(6)]);
}

/// A jail with an action of that text besides one that notes bans down.
fn misbehaving(action: &str) -> Daemon {
    let home = home(false);
    home.put("action.d/strange.py", action);
    home.action("noted");
    home.jail(
        "door",
        "logpath = LOG\nfilter = user\nmaxretry = 1\nbantime = 10m\nfindtime = 10m\n\
         action = strange.py[out=DIR/out]\n         noted\n",
    );
    home.start()
}

/// An action of which `ban` does something; `start` notes how often it was started.
fn action(ban: &str) -> String {
    format!(
        "import os, sys, time, subprocess\nfrom fail2ban.server.action import ActionBase\n\
         class Action(ActionBase):\n    _timeout = 1.5\n    def __init__(self, jail, name, out):\n        \
         super().__init__(jail, name)\n        self.out = out\n    \
         def say(self, text):\n        with open(self.out, 'a') as out: out.write(text + '\\n')\n    \
         def start(self): self.say('started')\n    def stop(self): self.say('stopped')\n    \
         def ban(self, aInfo):\n        ip = aInfo['ip']\n        if ip != '198.51.100.1': return self.say('banned ' + ip)\n        {ban}\n"
    )
}

#[test]
fn an_action_that_hangs_is_ended_with_its_children_and_started_again() {
    let ban = "child = subprocess.Popen(['sleep', '1000']); self.say('child %d' % child.pid); \
               __import__('signal').signal(15, 1); time.sleep(1000)";
    let daemon = misbehaving(&action(ban));
    fail(&daemon, "bob", "198.51.100.1");
    daemon.wait_for(
        "Failed to execute ban jail 'door' action 'strange' info '198.51.100.1': timed out after 1.5 seconds",
    );
    reached(&daemon, "noted", "ban 198.51.100.1\n", 1);
    let told = text(&daemon, "out");
    let child = told.lines().find_map(|line| line.strip_prefix("child ")).unwrap();
    let state = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_else(|_| "x) Z".to_owned());
    assert!(state.contains(") Z"), "{state}");
    fail(&daemon, "bob", "198.51.100.2");
    reached(&daemon, "out", "banned 198.51.100.2", 1);
    daemon.wait_for("NOTICE  [door] action 'strange': its helper process is started again");
    let home = daemon.stop();
    assert_eq!(text(&home, "out").replace(child, "N"), "started\nchild N\nstarted\nbanned 198.51.100.2\nstopped\n");
}

#[test]
fn an_action_that_crashes_costs_only_itself_the_ban() {
    let daemon = misbehaving(&action("os.kill(os.getpid(), 11)"));
    for number in 1..=3 {
        fail(&daemon, "bob", &format!("198.51.100.{number}"));
    }
    daemon.wait_for("action 'strange' info '198.51.100.1': its process ended in the middle of it");
    reached(&daemon, "out", "banned 198.51.100.3", 1);
    reached(&daemon, "noted", "ban 198.51.100.3", 1);
    assert_eq!(text(&daemon.stop(), "out"), "started\nstarted\nbanned 198.51.100.2\nbanned 198.51.100.3\nstopped\n");
}

#[test]
fn what_an_action_says_is_bounded_and_one_line_each() {
    let ban = "[self._logSys.warning('many') for _ in range(5000)]; print('printed\\x1b[31m ' * 9000000); \
               sys.stderr.write('complaint\\n' * 500); self.say('banned it')";
    let daemon = misbehaving(&action(&format!("self._logSys.error('bad\\n2026 forged'); {ban}")));
    fail(&daemon, "bob", "198.51.100.1");
    reached(&daemon, "out", "banned it", 1);
    fail(&daemon, "bob", "198.51.100.2");
    reached(&daemon, "out", "banned 198.51.100.2", 1);
    daemon.wait_for("action 'strange' says too much; its further messages are left out");
    daemon.wait_for("fail2ban.Action ");
    let home = daemon.stop();
    assert!(home.log().contains("ERROR   bad\\n2026 forged\n"), "{}", home.log());
    assert_eq!(home.count("WARNING many"), 99);
    assert!(home.log().len() < 100_000 && !home.log().contains('\u{1b}'));
}

#[test]
fn an_action_that_cannot_be_used_says_where_and_why() {
    for (text, why) in [
        ("def (", "action.d/strange.py:1: invalid syntax"),
        ("import nothing_of_that_name", "action.d/strange.py:1: No module named 'nothing_of_that_name'"),
        ("x = 1", "it has no class `Action`"),
        ("class Action: pass", "its class `Action` lacks start, stop, ban, reban, unban"),
        ("raise SystemExit('enough')", "action.d/strange.py:1: enough"),
        (
            &action("pass").replace("def start(self): ", "def start(self):\n        raise ValueError('no')\n        "),
            "strange.py:11: no",
        ),
    ] {
        let daemon = misbehaving(text);
        daemon.wait_for(why);
        assert_eq!(daemon.count("Failed to"), 1, "{}", daemon.log());
        fail(&daemon, "bob", "198.51.100.1");
        reached(&daemon, "noted", "ban 198.51.100.1", 1);
    }
}

#[test]
fn a_file_that_others_can_write_is_not_run() {
    let home = home(false);
    home.put("action.d/open.py", &action("pass"));
    fs::set_permissions(home.path("action.d/open.py"), fs::Permissions::from_mode(0o666)).unwrap();
    home.action("noted");
    home.jail("door", "logpath = LOG\nfilter = user\nmaxretry = 1\naction = open.py[out=DIR/out]\n         noted\n");
    let daemon = home.start();
    daemon.wait_for("could be written by others and is not used");
    fail(&daemon, "bob", "198.51.100.1");
    reached(&daemon, "noted", "ban 198.51.100.1", 1);
    assert_eq!(text(&daemon, "out"), "");
}

#[test]
fn without_python_the_jail_goes_without_the_action_and_says_what_to_do() {
    let home = home(false).variable("PATH", "/nonexistent");
    home.put("action.d/strange.py", &action("pass"));
    home.action("noted");
    home.jail("door", "logpath = LOG\nfilter = user\nmaxretry = 1\naction = strange.py[out=DIR/out]\n         noted\n");
    let daemon = home.start();
    daemon.wait_for(
        "action.d/strange.py` needs python3, and there is none in PATH; install python3, or use an action \
                     that consists of commands; jail 'door' goes without it",
    );
    fail(&daemon, "bob", "198.51.100.1");
    reached(&daemon, "noted", "ban 198.51.100.1", 1);
}

#[test]
fn a_reload_keeps_an_action_and_a_changed_one_is_replaced() {
    let home = home(false);
    home.put("action.d/strange.py", &action("pass"));
    let jail = |home: &Home, rest: &str| {
        let options = "logpath = LOG\nfilter = user\nmaxretry = 1\nbantime = 10m\naction = strange.py[out=DIR/";
        home.jail("door", &format!("{options}{rest}]\n"));
    };
    jail(&home, "out");
    let daemon = home.start();
    fail(&daemon, "bob", "198.51.100.2");
    reached(&daemon, "out", "banned 198.51.100.2", 1);
    daemon.tell(&["reload"]);
    daemon.tell(&["get", "door", "action", "strange", "out"]);
    assert_eq!(text(&daemon, "out"), "started\nbanned 198.51.100.2\n");
    // other options, then another file: stopped, and a new one told of the bans there are
    jail(&daemon, "other");
    daemon.tell(&["reload"]);
    reached(&daemon, "other", "banned 198.51.100.2", 1);
    assert_eq!(text(&daemon, "out"), "started\nbanned 198.51.100.2\nstopped\n");
    daemon.put("action.d/strange.py", &action("pass").replace("'banned '", "'anew '"));
    daemon.tell(&["reload"]);
    reached(&daemon, "other", "anew 198.51.100.2", 1);
    // and a jail that is restarted has stopped before it starts
    daemon.tell(&["restart", "door"]);
    reached(&daemon, "other", "anew 198.51.100.2", 2);
    let all = "started\nbanned 198.51.100.2\nstopped\nstarted\nanew 198.51.100.2\nstopped\nstarted\nanew 198.51.100.2\nstopped\n";
    assert_eq!(text(&daemon.stop(), "other"), all);
}
