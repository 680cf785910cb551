//! Our parser and matcher against Python's own, group by group.

use std::fmt::Write as _;
use std::process::Command;

use sekimori::fail2ban::regex;
use sekimori::filter::exact::{Cache, Outcome, Program};

use super::python::{Python, Random, Tally, long};

fn random_pattern(random: &mut Random, depth: usize, groups: &mut usize) -> String {
    let atoms = ["a", "b", "c", "ab", ".", r"\w", r"\d", r"\s", "[ab]", "[^a]", r"\b", "^", "$", "é", "(?i:k)", r"\S"];
    let mut out = String::new();
    for _ in 0..=random.next(3) {
        let simple = depth == 0;
        let item = if simple {
            (*random.pick(&atoms)).to_owned()
        } else {
            match random.next(12) {
                0..=3 => (*random.pick(&atoms)).to_owned(),
                4 | 5 => {
                    *groups += 1;
                    format!("({})", random_pattern(random, depth - 1, groups))
                }
                6 => format!(
                    "(?:{}|{})",
                    random_pattern(random, depth - 1, groups),
                    random_pattern(random, depth - 1, groups)
                ),
                7 => format!("(?={})", random_pattern(random, depth - 1, groups)),
                8 => format!(
                    "(?!{})",
                    random_pattern(random, depth - 1, &mut 0).replace('(', "(?:").replace("(?:?", "(?")
                ),
                9 => format!("(?>{})", random_pattern(random, depth - 1, groups)),
                _ => format!("(?:{})", random_pattern(random, depth - 1, groups)),
            }
        };
        let repeatable =
            !matches!(item.as_str(), "^" | "$" | r"\b") && !item.starts_with("(?=") && !item.starts_with("(?!");
        out.push_str(&item);
        if repeatable {
            // in a possessive loop over groups Python 3.11 leaves a group that began in a branch that
            // failed with its new start and its old end: a mistake, and no known filter has such a loop
            let all = ["", "", "", "*", "+", "?", "*?", "+?", "??", "{1,2}", "{2}", "++"];
            out.push_str(random.pick::<&str>(if simple { &all } else { &all[..all.len() - 1] }));
        }
    }
    out
}

fn random_text(random: &mut Random) -> String {
    (0..random.next(10)).map(|_| *random.pick(&['a', 'b', 'c', 'k', ' ', '1', 'é', '\u{212a}', '\n'])).collect()
}

#[test]
fn random_patterns_match_as_in_python() {
    let (mut python, mut tally) = (Python::new(2.0), Tally::default());
    let mut random = Random(7);
    for _ in 0..if long() { 100_000 } else { 4_000 } {
        let pattern = random_pattern(&mut random, 2, &mut 0);
        let texts: Vec<String> = (0..12).map(|_| random_text(&mut random)).collect();
        tally.compare(&mut python, &pattern, random.next(4) == 0, &texts);
    }
    tally.check();
    assert!(tally.pairs > 20_000, "only {} pairs were compared", tally.pairs);
}

#[test]
fn random_patterns_match_as_in_python_on_long_texts() {
    let (mut python, mut tally) = (Python::new(0.05), Tally::default());
    let mut random = Random(3);
    for _ in 0..if long() { 10_000 } else { 500 } {
        let pattern = random_pattern(&mut random, 2, &mut 0);
        let texts: Vec<String> = (0..4)
            .map(|_| {
                let (unit, times) = (random_text(&mut random), random.next(200));
                format!("{}{}{}", random_text(&mut random), unit.repeat(times), random_text(&mut random))
            })
            .collect();
        tally.compare(&mut python, &pattern, random.next(4) == 0, &texts);
    }
    tally.check();
    assert!(tally.pairs - tally.too_long > 1_500, "{tally:?}");
}

#[test]
fn conditionals_on_groups_that_are_captured_before_match_as_in_python() {
    let (mut python, mut tally) = (Python::new(2.0), Tally::default());
    let mut random = Random(11);
    let shapes = [
        "(A)?B(?(1)C|D)E",
        "(A)??B(?(1)C|D)",
        "(?:(A)|B)C(?(1)D|E)$",
        "^((A)|B)C(?(2)D|E)",
        "^(A)?((B)|(?(1)C|D))E(?(3)A|B)$",
        "(?:(A)|B)+C(?(1)D|E)",
        "(A)?(?:B(?(1)C|D)|E)+(?(1)D)",
    ];
    for _ in 0..if long() { 20_000 } else { 1_000 } {
        let mut pattern = (*random.pick(&shapes)).to_owned();
        for letter in ["A", "B", "C", "D", "E"] {
            pattern = pattern.replace(letter, &format!("(?:{})", random_pattern(&mut random, 0, &mut 0)));
        }
        let texts: Vec<String> = (0..20).map(|_| random_text(&mut random)).collect();
        tally.compare(&mut python, &pattern, false, &texts);
    }
    tally.check();
    assert!(tally.pairs > 10_000, "only {} pairs were compared", tally.pairs);
}

#[test]
fn what_python_refuses_is_refused() {
    let (mut python, mut tally) = (Python::new(2.0), Tally::default());
    let texts = ["a b".to_owned(), "x{".to_owned(), "abd".to_owned(), String::new()];
    for pattern in [
        "(",
        ")",
        "(?P<a>x)(?P<a>y)",
        "(?<a>x)",
        "a**",
        "*a",
        "^*",
        r"\h",
        r"\z",
        "[a",
        "[]",
        "[a-\\d]",
        "[b-a]",
        "(?P=x)",
        r"(a\1)",
        r"\1",
        "x(?i)y",
        "(?L)a",
        "a{2",
        "a{,3}",
        "x{",
        "x{1,0}",
        "[]a]",
        "[^]]",
        r"\07",
        r"[\07]",
        r"\x4",
        r"\x41",
        "(?#c)a",
        "(?x) a b # c",
        "(?<=a|bc)d",
        "(?<=ab)d",
        "(?(1)a|b)",
        "(a)?(?(1)b|c)",
        "(?P<n>a)?(?(n)b|c|d)",
        "(?:)*",
        "(?=a)*",
        r"a\ b",
        r"\-\_\/\@",
        "[a&&b]",
        "[[:alpha:]]",
        "(?i:ſ)",
        "(?-i:a)",
        "(?i-s:a)",
        "((?i)a)",
        "(?:(?i)a|b)",
        "a++",
        "(?>a)",
        r"\A\Z\B",
        r"\u00e9",
        "(?s).",
        "(?m)^a$",
        "(?P<1>a)",
        "(?P<>a)",
        "(?'a'b)",
        "(?",
        "(?P",
        r"\",
        "a|",
        "|",
        "()",
        "(?:a|)*",
        r"[\b]",
        r"[\]]",
        "a{0}",
    ] {
        tally.compare(&mut python, pattern, false, &texts);
    }
    tally.check();
}

#[test]
fn case_is_ignored_as_in_python() {
    let (mut python, mut tally) = (Python::new(2.0), Tally::default());
    let pieces = [
        "k", "K", "\u{212a}", "s", "S", "ſ", "i", "I", "İ", "ı", "ß", "ẞ", "ss", "µ", "μ", "Μ", "ς", "σ", "Σ", "ǆ",
        "ǅ", "Ǆ", "ΐ", "\u{1fd3}", "é", "É", "Ω", "\u{2126}", "å", "\u{212b}", "ᲀ", "в", "В", "ﬅ", "ﬆ", "Ⅷ", "ⅷ", "ⓐ",
        "Ⓐ", "𐐀", "𐐨", "Ⴀ", "ⴀ", "ა", "Ა", "ꭰ", "Ꭰ", "1",
    ];
    let texts: Vec<String> = pieces
        .iter()
        .flat_map(|a| [(*a).to_owned(), format!("{a}{a}")])
        .chain(pieces.windows(2).map(<[&str]>::concat))
        .collect();
    for piece in pieces {
        for pattern in ["(?i)X", "(?i)^[X-Z]", "(?i)[^X]$", "(?ai)X", r"(?i)(X)\1$", "(?i:(X))[0-X]?", r"(?i)[\wX]"] {
            tally.compare(&mut python, &pattern.replace('X', piece), false, &texts);
        }
    }
    for pattern in [
        r"(?i)(.)\1$",
        r"(?i)^(?P<a>.)(?P=a)",
        "(?i)[a-z]+",
        "(?i)[α-ω]",
        "(?i)[à-þ]$",
        "(?i)[^a-z]",
        r"(?i)\W",
        "(?i)[𐐀-𐐏]",
    ] {
        tally.compare(&mut python, pattern, false, &texts);
    }
    tally.check();
}

#[test]
fn the_tables_of_characters_are_those_of_the_installed_python() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/unicode-tables.py");
    let output = Command::new("python3").arg(script).output().expect("python3 is needed: run tests/setup");
    let ours = include_str!("../../src/filter/unicode.rs");
    assert!(String::from_utf8_lossy(&output.stdout) == ours, "run contrib/unicode-tables.py > src/filter/unicode.rs");
}

/// Lines on which a backtracking matcher takes exponential, cubic or quadratic time.
#[test]
fn time_grows_with_the_line_and_not_faster() {
    let mut steep = String::new();
    for (pattern, head, unit, tail) in [
        (r"^Disconnected(?:: \S+(?: \S+)*)* \((?:x|y)+\)$", "Disconnected", ": a", " (z)"),
        (r"^smtp: (?:\w+ ?)*: y$", "smtp: ", "A ", "x"),
        (r#"^M: (?:\[\w+ "[^"]*"\] ?)*: y$"#, "M: ", "[a \"b\"] ", "x"),
        (r"^R(?: [^=]+=\S*)* y$", "R", " a==b", " x"),
        (r"^<(?:[^@]+@[^>]*)+> y$", "<", "a@.", "> x"),
        (r"(?:a+)+$", "", "a", "b"),
        (r"\w+@", "", "a", " "),
        (r"^(?:a|a?b?)*c$", "", "ab", "d"),
        (r"^(?=(?:a+)+b)a*x", "", "a", "c"),
        (r"warning: *x$", "", "warning: ", "y"),
        (r"^(?:.*?,){3}(?:.*?;)*z$", "", "a,b;", "y"),
    ] {
        let program = Program::new(&regex::parse(pattern, regex::Options::default()).unwrap());
        let mut cache = Cache::default();
        let steps: Vec<u64> = [8_usize, 16, 32, 64]
            .map(|kib| {
                let text = format!("{head}{}{tail}\n", unit.repeat(kib * 1024 / unit.len()));
                assert_ne!(program.search(&mut cache, &text, 0), Outcome::Unresolved, "{pattern}");
                cache.steps()
            })
            .to_vec();
        for pair in steps.windows(2) {
            if pair[1] as f64 > 2.4 * pair[0] as f64 {
                let _ = writeln!(steep, "{pattern}: steps {steps:?}");
                break;
            }
        }
    }
    assert!(steep.is_empty(), "\n{steep}");
}
