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

#[test]
fn a_pattern_with_back_references_is_given_up_on_and_the_line_shown_where_that_is_asked_for() {
    let home = Home::new().without_kernel();
    home.put("filter.d/twice.conf", "[Definition]\nfailregex = ^ \\S+ doord: (?:(x+)(x+)(x+)y\\3\\2\\1)+ <HOST>$\n          ^ \\S+ doord: bad key from <HOST>$\n");
    home.jail("door", "filter = twice\nlogpath = LOG\nmaxretry = 1\n");
    home.put("sekimori.toml", "[jail.door]\nundecided = \"log\"\n");
    let daemon = home.start();
    daemon.write(&[format!("doord: {}y{} 192.0.2.9", "x".repeat(1000), "x".repeat(999))]);
    daemon.fail("192.0.2.7", 1);
    daemon.wait_for("[door] Ban 192.0.2.7");
    let log = daemon.log();
    assert!(
        log.contains("auth.log: A line could not be decided: a pattern with back-references needs too many steps"),
        "{log}"
    );
    let shown: Vec<&str> = log.lines().filter(|line| line.contains("Undecided line, it begins with `")).collect();
    assert!(shown.len() == 1 && shown[0].contains("doord: xxx") && shown[0].len() < 1000, "{log}");
    assert!(!log.contains("192.0.2.9"), "{log}");
    let status = daemon.tell(&["status", "door"]);
    assert!(status.contains("Total failed:\t1\n") && status.contains("Undecided lines:\t1"), "{status}");
}

#[test]
fn a_reload_reads_the_settings_again_and_tells_of_names_that_no_jail_has() {
    let home = Home::new().without_kernel();
    home.jail("door", "logpath = LOG\nmaxretry = 1\n");
    home.put("jail.d/off.conf", "[off]\nenabled = false\n");
    home.put("sekimori.toml", "[jail.off]\nundecided = \"log\"\n\n[jail.dor]\nundecided = \"log\"\n");
    let daemon = home.start();
    let warning = format!(
        "WARNING {}:4:7: [jail.dor] has no effect: there is no jail of this name; is `door` meant?",
        daemon.path("sekimori.toml").display()
    );
    assert!(daemon.log().contains(&warning) && !daemon.log().contains("[jail.off]"), "{}", daemon.log());
    daemon.write(&[too_long("first")]);
    daemon.wait_for("A line could not be decided");
    daemon.put("sekimori.toml", "[jail.door]\nundecided = \"log\"\n");
    daemon.tell(&["reload"]);
    daemon.write(&[too_long("second")]);
    daemon.wait_for("it begins with");
    // what cannot be read changes nothing
    daemon.put("sekimori.toml", "[jail.door\n");
    daemon.tell(&["reload", "door"]);
    daemon.write(&[too_long("third")]);
    daemon.wait_for_times("it begins with", 2);
    assert!(daemon.log().contains("sekimori.toml:1:"), "{}", daemon.log());
    assert_eq!(daemon.count(&warning), 1);
}
