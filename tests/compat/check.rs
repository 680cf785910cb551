//! `-t`: everything that is wrong is said at once, each with its place.

use std::fs;
use std::process::Command;

fn check(files: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::write(dir.path().join("x.log"), "").unwrap();
    let root = dir.path().to_str().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sekimori")).args(["client", "-c", root, "-t"]).output().unwrap();
    let plain = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(root, "DIR");
    (output.status.code(), plain(&output.stdout), plain(&output.stderr))
}

#[test]
fn all_errors_are_reported_at_once_with_place_line_and_advice() {
    let (code, stdout, stderr) = check(&[
        (
            "jail.conf",
            "[DEFAULT]\naction =\nbackend = polling\n[a]\nenabled = true\nfilter = shop-logn\n[b]\nenabled = true\n\
             filter = shop-login\nbantime = 10x\nfindtme = 5m\nignoreip = 192.0.2.0/40\n[c]\nenabled = true\n\
             filter = shop-login\nbackend = poling\nignorecommand = 5% off\n[d]\nenabled = true\n\
             filter = shop-login\nbackend = poling\nbantime.formula = __import__('os')\nmaxretry = many\n",
        ),
        ("filter.d/shop-login.conf", "[Definition]\nfailregex = ^no <HOST>$\n"),
        ("sekimori.toml", "compat = \"2\"\nnativ_actions = true\n[jail.a]\nundecided = \"ban\"\n"),
    ]);
    assert_eq!(code, Some(255));
    assert_eq!(stdout, "");
    for expected in [
        "error: jail `a`: there is no filter `shop-logn`\n --> DIR/jail.conf:6:10\n  |\n6 | filter = shop-logn\n  |          ^^^^^^^^^\n  = help: there is `shop-login`\n",
        "error: jail `b`: bantime: unknown word `x`\n  --> DIR/jail.conf:10:13\n",
        "warning: jail `b`: option `findtme` is not known and not used\n  --> DIR/jail.conf:11:11\n",
        "= help: is `findtime` meant?\n",
        "error: jail `b`: ignoreip: `40` is not a prefix length or netmask\n  --> DIR/jail.conf:12:12\n",
        "error: jail `c`: `%` in option `ignorecommand` begins neither `%(name)s` nor `%%`\n  --> DIR/jail.conf:17:18\n",
        "error: jail `d`: there is no backend `poling`\n",
        "= help: is `polling` meant?\n",
        "error: jail `d`: bantime.formula: ",
        "error: jail `d`: `many` is no whole number; maxretry has its default\n  --> DIR/jail.conf:23:12\n",
        "error: this value is not known\n --> DIR/sekimori.toml:1:10\n",
        "error: unknown key `nativ_actions`\n --> DIR/sekimori.toml:2:1\n",
        "error: this value is not known\n --> DIR/sekimori.toml:4:13\n  |\n4 | undecided = \"ban\"\n  |             ^^^^^\n  = help: write \"count\" or \"log\"\n",
        "ERROR: test configuration failed\n",
    ] {
        assert!(stderr.contains(expected), "missing:\n{expected}\nin:\n{stderr}");
    }
}

#[test]
fn expressions_are_compiled_and_the_caret_stands_under_the_spot() {
    let (code, _, stderr) = check(&[
        (
            "jail.conf",
            "[DEFAULT]\naction =\nbackend = polling\nenabled = true\n[a]\nfilter = f\n[b]\nfilter = f\n\
             failregex = ^ok <HOST>$\n[c]\nfilter = g\n[d]\nfilter = h\nlogtimezone = Europe/Paris\n",
        ),
        (
            "filter.d/f.conf",
            "[Definition]\nprefregex = ^p: <F-CONTENT>.*$\nfailregex = ^ok <HOST>$\n   ^(bad <HOST>$\n   ^nobody$\n\
             ignoreregex = ^a**\n",
        ),
        ("filter.d/g.conf", "[Definition]\nfailregex = ^ <HOST> or <HOST>$\ndatepattern = ^%%Y\n   {^LN-BEG}%%Y-%%Q\n"),
        ("filter.d/h.conf", "[Definition]\nfailregex = ^<HOST> (?<x)$\n"),
    ]);
    assert_eq!(code, Some(255));
    for expected in [
        "error: jail `a`: prefregex: missing ), unterminated subpattern\n --> DIR/filter.d/f.conf:2:17\n  |\n\
         2 | prefregex = ^p: <F-CONTENT>.*$\n  |                 ^\n",
        "error: jail `a`: failregex 2: missing ), unterminated subpattern\n --> DIR/filter.d/f.conf:4:5\n  |\n\
         4 |    ^(bad <HOST>$\n  |     ^\n  = help: close it with `)`",
        "error: jail `a`: ignoreregex 1: multiple repeat\n --> DIR/filter.d/f.conf:6:18\n",
        // the prefix of jail b is the same, its failregex another one
        "error: jail `b`: prefregex: missing ), unterminated subpattern\n --> DIR/filter.d/f.conf:2:17\n",
        "error: jail `c`: failregex 1: redefinition of group name 'ip4'",
        " --> DIR/filter.d/g.conf:2:25\n",
        "error: jail `c`: `%Q` is no token of a date pattern\n --> DIR/filter.d/g.conf:4:17\n",
        "error: jail `d`: failregex 1: ",
        " --> DIR/filter.d/h.conf:2:21\n",
        "error: jail `d`: unknown time zone `Europe/Paris`\n  --> DIR/jail.conf:14:15\n",
    ] {
        assert!(stderr.contains(expected), "missing:\n{expected}\nin:\n{stderr}");
    }
    assert!(!stderr.contains("jail `b`: failregex"), "{stderr}");
}

#[test]
fn an_expression_that_names_nobody_is_shown_whole() {
    let (code, _, stderr) = check(&[
        ("jail.conf", "[j]\nenabled = true\nfilter = f\naction =\nbackend = polling\n"),
        ("filter.d/f.conf", "[Definition]\nfailregex = ^x <HOST>$\n            ^login (failed)$\n"),
    ]);
    assert_eq!(code, Some(255));
    let expected = "error: jail `j`: failregex 2 does not say whom to ban\n --> DIR/filter.d/f.conf:3:13\n  |\n\
                    3 |             ^login (failed)$\n  |             ^^^^^^^^^^^^^^^^\n\
                    \x20 = help: put <HOST>, <ADDR> or <F-ID>…</F-ID> where the address appears\n";
    assert!(stderr.contains(expected), "missing:\n{expected}\nin:\n{stderr}");
}

#[test]
fn an_error_in_the_third_regex_points_at_its_own_line() {
    use sekimori::fail2ban::{Options, read};
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("filter.d")).unwrap();
    fs::write(dir.path().join("jail.conf"), "[j]\nenabled = 1\nfilter = f[mode=x]\naction =\n").unwrap();
    let filter = "[Definition]\nfailregex = ^one <HOST>$\n            ^two <HOST>$\n            <re-<mode>>\nre-x = ^three\n       ^four\n";
    fs::write(dir.path().join("filter.d/f.conf"), filter).unwrap();
    let configuration = read(dir.path(), &Options::default());
    let regexes = &configuration.jails[0].filter.failregex;
    let places: Vec<_> = regexes.iter().map(|r| r.span_at(1).map(|s| (s.line, s.column)).unwrap()).collect();
    assert_eq!(places, [(2, 14), (3, 14), (5, 9), (6, 9)]);
}

#[test]
fn a_good_configuration_passes() {
    let (code, stdout, _) = check(&[
        ("jail.conf", "[j]\nenabled = true\nfilter = f\naction = a\nbackend = polling\n"),
        ("filter.d/f.conf", "[Definition]\nfailregex = ^x <HOST>$\n"),
        ("action.d/a.conf", "[Definition]\nactionban = true\n"),
    ]);
    assert_eq!((code, stdout.as_str()), (Some(0), "OK: configuration test is successful\n"));
}

#[test]
fn includes_that_run_away_are_stopped_and_reported() {
    let mut files = vec![("jail.conf".to_owned(), "[j]\nenabled=1\nfilter=f0\naction=\n".to_owned())];
    for i in 0..40 {
        let text = format!("[INCLUDES]\nbefore = f{}.conf\n[Definition]\nfailregex = ^x <HOST>\n", i + 1);
        files.push((format!("filter.d/f{i}.conf"), text));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let (code, _, stderr) = check(&files);
    assert_eq!(code, Some(255));
    assert!(stderr.contains("includes nest deeper than 16"), "{stderr}");

    let many: String = (0..400).map(|i| format!("   g{i}.conf\n")).collect();
    let mut files = vec![
        ("jail.conf".to_owned(), "[j]\nenabled=1\nfilter=f\naction=\n".to_owned()),
        ("filter.d/f.conf".to_owned(), format!("[INCLUDES]\nbefore =\n{many}[Definition]\nfailregex = ^x <HOST>\n")),
    ];
    files.extend((0..400).map(|i| (format!("filter.d/g{i}.conf"), "[Definition]\n".to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let (_, _, stderr) = check(&files);
    assert!(stderr.contains("more than 256 files are included"), "{stderr}");
}

#[test]
fn values_that_multiply_without_end_are_refused() {
    let mut jail = "[j]\nenabled=1\nfilter=f\naction=\nignorecommand = %(a0)s\n".to_owned();
    for i in 0..8 {
        jail += &format!("a{i} = {}\n", format!("%(a{})s", i + 1).repeat(50));
    }
    jail += "a8 = 0123456789\n[k]\nenabled=1\nfilter=g\naction=\n";
    let tags = format!(
        "[Definition]\nfailregex = <a>\na = {}\nb = {}\nc = x<d>y\nd = <c>\n",
        "<b>".repeat(30),
        "<c>".repeat(30)
    );
    let (code, _, stderr) =
        check(&[("jail.conf", &jail), ("filter.d/f.conf", "[Definition]\n"), ("filter.d/g.conf", &tags)]);
    assert_eq!(code, Some(255));
    assert!(stderr.contains("becomes too long") || stderr.contains("refers to more than"), "{stderr}");
    assert!(stderr.contains("refers to itself by the tag"), "{stderr}");
}

#[test]
fn a_machine_without_any_configuration_protects_sshd() {
    use sekimori::fail2ban::layer::Vendor;
    use sekimori::fail2ban::{Options, read, vendor};
    let options = Options { vendor: vec![Vendor::Embedded(vendor::EMBEDDED)], dump: true, ..Options::default() };
    let configuration = read(std::path::Path::new("/nowhere"), &options);
    assert_eq!(configuration.jails.len(), 1);
    let jail = &configuration.jails[0];
    assert_eq!((jail.name.as_str(), jail.error.as_deref()), ("sshd", None));
    assert!(jail.filter.failregex.len() > 5);
    // that some of the places where distributions have their logs are not there is nothing to warn about
    assert!(configuration.diagnostics.is_empty(), "{:?}", configuration.diagnostics);
}
