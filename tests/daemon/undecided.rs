//! Lines that could not be decided, under each policy.

use crate::harness::daemon::Home;

/// Longer than any line that is judged as a whole; the address stands behind the cut.
fn too_long(begin: &str) -> String {
    format!("doord: {begin} {} bad key from 192.0.2.9", "x".repeat(200_000))
}

#[test]
fn undecided_lines_are_counted_told_of_once_and_shown_where_that_is_asked_for() {
    let home = Home::new().without_kernel();
    home.jail("quiet", "logpath = LOG\nmaxretry = 1\n");
    home.jail("loud", "logpath = LOG\nmaxretry = 1\n");
    home.put("sekimori.toml", "[jail.loud]\nundecided = \"log\"\n");
    let daemon = home.start();
    daemon.write(&[too_long("first \u{1b}[2J"), too_long("second")]);
    daemon.fail("192.0.2.7", 1);
    daemon.wait_for("[loud] Ban 192.0.2.7");
    daemon.wait_for("[quiet] Ban 192.0.2.7");
    for jail in ["quiet", "loud"] {
        assert!(daemon.tell(&["status", jail]).contains("Undecided lines:\t2"), "{}", daemon.tell(&["status", jail]));
        assert_eq!(
            daemon.count(
                &format!("WARNING [{jail}] DIR/auth.log: A line could not be decided: it is longer")
                    .replace("DIR", daemon.path("").display().to_string().trim_end_matches('/'))
            ),
            1,
            "{}",
            daemon.log()
        );
    }
    let log = daemon.log();
    let shown = |jail: &str| {
        log.lines().filter(|line| line.contains(&format!("[{jail}] ")) && line.contains("it begins with")).count()
    };
    assert_eq!((shown("quiet"), shown("loud")), (0, 2), "{log}");
    assert!(log.lines().all(|line| line.len() < 1000) && !log.contains('\u{1b}'), "{log}");
    assert!(!log.contains("192.0.2.9`") && !log.contains("Found 192.0.2.9"), "{log}");
}

#[test]
fn a_setting_for_all_jails_holds_where_a_jail_has_none() {
    let home = Home::new().without_kernel();
    home.jail("quiet", "logpath = LOG\nmaxretry = 1\n");
    home.jail("loud", "logpath = LOG\nmaxretry = 1\n");
    home.put("sekimori.toml", "undecided = \"log\"\n[jail.quiet]\nundecided = \"count\"\n");
    let daemon = home.start();
    daemon.write(&vec![too_long("many"); 12]);
    daemon.fail("192.0.2.7", 1);
    daemon.wait_for("[loud] Ban 192.0.2.7");
    daemon.wait_for("[quiet] Ban 192.0.2.7");
    assert_eq!(
        daemon.log().lines().filter(|line| line.contains("[loud] ") && line.contains("it begins with")).count(),
        10
    );
}
