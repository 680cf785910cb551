//! Programs of others that watch Fail2Ban, as Debian, npm and PyPI have them, on our server.

mod clients;
mod exporter;

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::client::Place;
use crate::harness::daemon::{Home, failure};
use crate::harness::net::need;

#[test]
fn the_plugin_of_munin_draws_our_jails_with_either_client() {
    let plugin = "/usr/share/munin/plugins/fail2ban";
    assert!(std::path::Path::new(plugin).exists(), "munin-plugins-core is needed: see tests/setup");
    let place = Place::start_ours();
    assert_eq!(place.theirs(&["set", "door", "banip", "192.0.2.1", "192.0.2.2"]).0.0, 0);
    let ours = place.path("fail2ban-client");
    symlink(env!("CARGO_BIN_EXE_sekimori"), &ours).unwrap();
    for client in ["/usr/bin/fail2ban-client", ours.to_str().unwrap()] {
        let plugin = |words: &[&str]| {
            let output = Command::new(plugin)
                .args(words)
                .env("MUNIN_LIBDIR", "/usr/share/munin")
                .env("client", client)
                .env("config_dir", place.path(""))
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(plugin(&["autoconf"]), "yes\n");
        let labels = plugin(&["config"]);
        assert!(labels.contains("door.label door\n") && labels.contains("gate.label gate\n"), "{labels}");
        assert_eq!(plugin(&[]), "door.value 2\ngate.value 0\n");
    }
}

/// What logwatch reports of a log.
fn report(home: &Home) -> String {
    need("perl", "perl");
    let script = "/usr/share/logwatch/scripts/services/fail2ban";
    assert!(std::path::Path::new(script).exists(), "logwatch is needed: see tests/setup");
    let output = Command::new("perl")
        .args(["-I", "/usr/share/logwatch/lib", script])
        .env("LOGWATCH_DETAIL_LEVEL", "10")
        .stdin(Stdio::from(std::fs::File::open(home.path("log")).unwrap()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn day(home: Home) -> Home {
    home.put("action.d/none.conf", "[Definition]\nactionban = true\nactionunban = true\n");
    home.jail(
        "door",
        "backend = polling\nlogpath = LOG\nmaxretry = 2\nbantime = 600\naction = none\nignoreip = 198.51.100.9\n",
    );
    let daemon = home.start();
    daemon.write(&["192.0.2.7", "192.0.2.7", "198.51.100.9", "192.0.2.8"].map(failure));
    daemon.wait_for("Ban 192.0.2.7");
    daemon.wait_for("Found 192.0.2.8");
    daemon.tell(&["set", "door", "banip", "2001:db8::7", "192.0.2.9"]);
    daemon.wait_for("Ban 192.0.2.9");
    daemon.tell(&["set", "door", "unbanip", "192.0.2.9"]);
    daemon.wait_for("Unban 192.0.2.9");
    daemon.stop()
}

#[test]
fn logwatch_reports_our_day_as_it_reports_that_of_fail2ban() {
    let (ours, theirs) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| report(&day(Home::new().without_kernel())));
        let theirs = report(&day(Home::new().real()));
        (ours.join().unwrap(), theirs)
    });
    // what people read first: who was banned, found and ignored
    let above = |report: &str| report.split("** WARNINGS **").next().unwrap().to_owned();
    assert!(
        above(&theirs).contains("Banned services with Fail2Ban") && above(&theirs).contains("hosts ignored"),
        "{theirs}"
    );
    assert_eq!(above(&ours), above(&theirs));
    assert!(!ours.contains("Unmatched"), "{ours}");
}

#[test]
fn the_stock_jail_recidive_bans_by_our_log_whoever_was_banned_again_and_again() {
    for home in [Home::new().real(), Home::new().without_kernel()] {
        for name in ["recidive.conf", "common.conf"] {
            let stock = std::path::Path::new("/etc/fail2ban/filter.d").join(name);
            let text = std::fs::read_to_string(&stock)
                .unwrap_or_else(|error| panic!("{}: {error}: fail2ban is needed", stock.display()));
            home.put(&format!("filter.d/{name}"), &text);
        }
        home.put("log", "");
        home.put("action.d/none.conf", "[Definition]\nactionban = true\nactionunban = true\n");
        let usual = "backend = polling\naction = none\nmaxretry = 2\nbantime = 600\n";
        home.jail("door", &format!("{usual}logpath = LOG\n"));
        home.jail("recidive", &format!("{usual}filter = recidive\nlogpath = DIR/log\n"));
        let daemon = home.start();
        for round in 1..=2 {
            daemon.tell(&["set", "door", "banip", "192.0.2.7", "192.0.2.8"]);
            daemon.wait_for_times("[door] Ban 192.0.2.8", round);
            daemon.wait_for_times("[recidive] Found 192.0.2.8", round);
            daemon.tell(&["set", "door", "unbanip", "192.0.2.7", "192.0.2.8"]);
        }
        daemon.wait_for("[recidive] Ban 192.0.2.7");
        daemon.wait_for("[recidive] Ban 192.0.2.8");
        // neither its own bans nor anybody's end counts
        daemon.tell(&["set", "door", "banip", "192.0.2.9"]);
        daemon.wait_for("[recidive] Found 192.0.2.9");
        assert_eq!(daemon.count("[recidive] Found"), 5, "{}", daemon.log());
    }
}
