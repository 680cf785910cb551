//! What an attacker writes into a log stays data: it runs nothing, forges no line of our log, and
//! stops no action, however long it is.

use std::fs;
use std::time::Duration;

use crate::harness::daemon::Home;
use crate::harness::net::wait_for;

#[test]
fn a_failing_action_puts_nothing_of_an_attacker_into_the_log_but_text() {
    let home = Home::new().without_kernel();
    let trap = home.path("trap").display().to_string();
    home.put(
        "filter.d/user.conf",
        "[Definition]\nfailregex = ^ \\S+ doord: bad key for <F-USER>.*</F-USER> from <HOST>$\n",
    );
    home.put(
        "action.d/fails.conf",
        "[Definition]\nactionban = printf '%%s\\n' \"<F-USER>\"; echo <F-USER> >&2; exit 3\n",
    );
    home.jail("door", "logpath = LOG\nfilter = user\nmaxretry = 1\naction = fails\n");
    let daemon = home.start();
    let users = [
        format!("$(touch {trap})"),
        format!("`touch {trap}`"),
        format!("x; touch {trap}"),
        "\u{1b}]0;title\u{7}\u{1b}[2J".to_owned(),
        "\u{9b}31m red \u{85} next".to_owned(),
        "x\r2026-01-01 00:00:00,000 fail2ban.actions [1]: NOTICE  [sshd] Ban 203.0.113.9".to_owned(),
        "2026-01-01 00:00:00,000 fail2ban.actions [1]: NOTICE  [sshd] Ban 203.0.113.9".to_owned(),
    ];
    for (number, user) in users.iter().enumerate() {
        daemon.write(&[format!("doord: bad key for {user} from 198.51.100.{}", number + 1)]);
        daemon.wait_for(&format!("Error banning 198.51.100.{}", number + 1));
    }
    let log = daemon.log();
    assert!(log.contains("-- returned 3"), "{log}");
    assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "{log:?}");
    // nobody else is banned in the eyes of who reads our log by lines
    let forged = |line: &&str| line.contains("203.0.113.9") && !line.contains(" -- ");
    assert_eq!(log.lines().find(forged), None);
    daemon.stop();
    assert!(!std::path::Path::new(&trap).exists());
}

#[test]
fn a_megabyte_in_every_tag_stops_no_action() {
    let home = Home::new().without_kernel();
    let out = home.path("out").display().to_string();
    home.put(
        "filter.d/user.conf",
        "[Definition]\nfailregex = ^ \\S+ doord: bad key for <F-USER>.*</F-USER> from <HOST> *\n",
    );
    let tags = ["F-USER", "matches", "ipmatches", "ipjailmatches", "raw-ticket", "F-MATCHES"];
    let words: String = tags.iter().map(|tag| format!(" \"<{tag}>\"")).collect();
    home.put(
        "action.d/counts.conf",
        &format!("[Definition]\nactionban = for value in{words}; do echo ${{#value}} >> {out}; done; echo ban <ip> >> {out}\n"),
    );
    home.jail("door", "logpath = LOG\nfilter = user\nmaxretry = 3\naction = counts\n");
    let daemon = home.start();
    for (number, letter) in ["a", "$", "\u{fc}", "'"].iter().enumerate() {
        let address = format!("198.51.100.{}", number + 1);
        // a line that is too long to be judged has no end, so this one says whom it means in time
        let user = letter.repeat(100_000 / letter.len());
        let line = format!("doord: bad key for {user} from {address} {}", " ".repeat(1 << 20));
        let fitting = format!("doord: bad key for {user} from {address}");
        daemon.write(&[fitting.clone(), line, fitting.clone(), fitting]);
        wait_for("the action", Duration::from_secs(20), || {
            fs::read_to_string(&out).unwrap_or_default().contains(&format!("ban {address}\n"))
        });
    }
    assert_eq!(daemon.count("Failed to execute"), 0, "{}", daemon.log());
    let lengths = fs::read_to_string(&out).unwrap();
    let lengths: Vec<usize> = lengths.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(lengths.len(), 4 * tags.len());
    // captures of more than 16 KiB are not kept, lines are cut
    assert!(lengths.iter().all(|length| *length <= 100 * 1024), "{lengths:?}");
    assert!(lengths.iter().filter(|length| **length > 8_000).count() >= 4 * (tags.len() - 1), "{lengths:?}");
}
