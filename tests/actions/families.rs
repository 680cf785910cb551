//! For which families an action starts that does not wait for bans.

use std::fs;
use std::time::Duration;

use crate::harness::daemon::Home;
use crate::harness::net::wait_for;

/// What an action with conditional parameters, started with its jail, ran under a setting of `allowipv6`.
fn run(real: bool, allowed: &str) -> String {
    let home = if real { Home::new().real() } else { Home::new().without_kernel() };
    let general = fs::read_to_string(home.path("fail2ban.conf")).unwrap();
    home.put("fail2ban.conf", &general.replace("allowipv6 = auto", &format!("allowipv6 = {allowed}")));
    let out = home.path("out").display().to_string();
    home.put(
        "action.d/cond.conf",
        &format!(
            "[Definition]\nactionstart = echo S <bt> >> {out}\nactionstop = echo P <bt> >> {out}\n\
             actionban = echo B <bt> <ip> >> {out}\nactionunban = echo U <bt> <ip> >> {out}\n\
             actionflush = echo F <bt> >> {out}\nactionstart_on_demand = false\n\
             [Init]\nbt = 4\n[Init?family=inet6]\nbt = 6\n"
        ),
    );
    home.jail("door", "logpath = LOG\nmaxretry = 1\nbantime = 10m\naction = cond\n");
    let daemon = home.start();
    let has = |mark: &str| fs::read_to_string(daemon.path("out")).is_ok_and(|text| text.contains(mark));
    wait_for("the start", Duration::from_secs(30), || has(if allowed == "no" { "S 4" } else { "S 6" }));
    daemon.tell(&["set", "door", "banip", "198.51.100.7"]);
    wait_for("the ban", Duration::from_secs(30), || has("B 4 198.51.100.7"));
    let home = daemon.stop();
    fs::read_to_string(home.path("out")).unwrap()
}

#[test]
fn an_action_that_waits_for_no_ban_starts_for_the_families_that_are_allowed() {
    for (allowed, expected) in
        [("no", "S 4\nB 4 198.51.100.7\nF 4\nP 4\n"), ("yes", "S 4\nS 6\nB 4 198.51.100.7\nF 4\nP 4\nP 6\n")]
    {
        for real in [true, false] {
            assert_eq!(run(real, allowed), expected, "allowipv6 = {allowed}, real {real}");
        }
    }
}
