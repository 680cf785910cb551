#![expect(clippy::unwrap_used, reason = "a test may")]

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;

const BAN: Ban = Ban { time: Number::Int(600), count: 3, factor: Number::Int(1) };

fn formula(text: &str) -> Result<Number, Error> {
    Formula::parse(text)?.value(&BAN, &mut || 0.25)
}

#[test]
fn the_formulas_of_the_stock_jail_conf_work() {
    for (text, value) in [
        ("ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor", "4800"),
        ("ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)", "12051.3221539126"),
        ("min(ban.Time * 2**ban.Count, 1000)", "1000"),
        ("ban.Time + random.random() * 4", "601.0"),
        ("int(ban.Time * 1.5)", "900"),
    ] {
        assert_eq!(formula(text).unwrap().to_string(), value, "{text}");
    }
}

#[test]
fn code_is_not_run_but_refused() {
    for text in [
        "__import__('os').system('id')",
        "open('/etc/passwd')",
        "ban.__class__",
        "exec(1)",
        "lambda: 1",
        "[1]",
        "'a'",
        "(1).real",
        "math.factorial(9)",
        "1 = 1",
        "a := 1",
        "1j",
    ] {
        assert!(formula(text).is_err(), "{text}");
    }
}

#[test]
fn names_of_a_ban_exist_only_in_a_formula() {
    assert!(matches!(number("ban.Time").unwrap_err().kind, ErrorKind::UnknownWord(_)));
    assert_eq!(number("2 ** 0.5 * 2").unwrap().to_string(), "2.8284271247461903");
}

#[test]
fn size_and_depth_are_bounded() {
    assert_eq!(number(&"1+".repeat(MAX_LENGTH)).unwrap_err().kind, ErrorKind::TooLong);
    assert_eq!(number(&"(".repeat(MAX_DEPTH + 1)).unwrap_err().kind, ErrorKind::TooDeep);
    assert_eq!(number(&"-".repeat(MAX_LENGTH)).unwrap_err().kind, ErrorKind::TooDeep);
    assert_eq!(number(&"2**".repeat(1000)).unwrap_err().kind, ErrorKind::TooDeep);
    assert_eq!(number(&"not ".repeat(1000)).unwrap_err().kind, ErrorKind::TooDeep);
    assert_eq!(number(&"1 if 1 else ".repeat(300)).unwrap_err().kind, ErrorKind::TooDeep);
    assert_eq!(number(&format!("{}1", "1+".repeat(2000))).unwrap(), Number::Int(2001));
    let nested = format!("{}1{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
    assert_eq!(number(&nested).unwrap(), Number::Int(1));
}

#[test]
fn what_grows_beyond_all_bounds_saturates() {
    for text in ["2**99999", "2.0**99999", "1<<99999999999", "600 * 2**5000", "1e308*1e308", "math.exp(9999)"] {
        assert_eq!(number(text).unwrap(), Number::Float(f64::MAX), "{text}");
    }
    assert_eq!(Value::from(number("2**100").unwrap()), Value::Int(i64::MAX));
    assert_eq!(number("int(1e300)").unwrap(), Number::Int(i128::MAX));
}

#[test]
fn what_has_no_value_is_an_error() {
    for (text, kind) in [
        ("1/0", ErrorKind::DivisionByZero),
        ("1//0", ErrorKind::DivisionByZero),
        ("1%0.0", ErrorKind::DivisionByZero),
        ("0**-1", ErrorKind::DivisionByZero),
        ("(-8)**0.5", ErrorKind::Domain),
        ("math.sqrt(-1)", ErrorKind::Domain),
        ("math.log(0)", ErrorKind::Domain),
        ("math.log2(0)", ErrorKind::Domain),
        ("1.5 << 1", ErrorKind::NeedsWhole("<<")),
        ("~1.5", ErrorKind::NeedsWhole("~")),
        ("1 << -1", ErrorKind::Domain),
        ("min(1)", ErrorKind::Arguments("min")),
        ("", ErrorKind::Missing),
        ("1 +", ErrorKind::Missing),
    ] {
        assert_eq!(number(text).unwrap_err().kind, kind, "{text}");
    }
}

/// Random expressions of what the grammar knows, with values that stay small.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (0..100_i64).prop_map(|n| n.to_string()),
        (0..1000_i64).prop_map(|n| format!("{}.{}", n / 8, n % 8 * 125)),
        Just("1e3".to_owned()),
        Just("1_000".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "//", "%", "**", "<<", ">>", "&", "|", "^", "<", "<=", ">", ">=", "==", "!=", " and ",
            " or ",
        ]);
        let call = prop::sample::select(vec![
            "int",
            "float",
            "round",
            "abs",
            "math.floor",
            "math.ceil",
            "math.sqrt",
            "-",
            "+",
            "~",
            "not ",
            "",
        ]);
        let two = prop::sample::select(vec!["min", "max", "math.fmod"]);
        prop_oneof![
            4 => (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
            2 => (call, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            1 => (two, inner.clone(), inner.clone()).prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
            1 => (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} if {b} else {c})")),
        ]
    })
}

/// Answers each line with its value in Python's notation, or `!`. Where a whole number on the
/// way is longer than ours can be, it answers `?`.
const ORACLE: &str = r#"
import ast, math, sys, warnings
warnings.simplefilter("ignore")
def too_long(text):
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.BinOp):
            try: value = eval(compile(ast.Expression(node), "", "eval"))
            except Exception: continue
            if isinstance(value, int) and abs(value) >= 2**127: return True
for line in sys.stdin:
    text = line.rstrip("\n")
    try:
        value = eval(text)
        if isinstance(value, bool): value = int(value)
        if isinstance(value, complex): print("!")
        elif too_long(text) or abs(value) > 1e300: print("?")
        else: print(repr(value))
    except OverflowError: print("?")
    except Exception: print("!")
"#;

#[test]
fn random_expressions_have_the_values_python_gives_them() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = expression();
    let mut texts = Vec::new();
    while texts.len() < 5000 {
        let text = strategy.new_tree(&mut runner).unwrap().current();
        // towers of powers and shifts take Python for ever
        if text.matches("**").count() + text.matches("<<").count() <= 1 && text.len() < 400 {
            texts.push(text);
        }
    }
    let mut python = Command::new("python3")
        .args(["-c", ORACLE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed for this test");
    let input = texts.join("\n") + "\n";
    let mut stdin = python.stdin.take().unwrap();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, input.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    assert_eq!(answers.lines().count(), texts.len());
    let (mut wrong, mut compared) = (String::new(), 0);
    for (text, expected) in texts.iter().zip(answers.lines()) {
        let ours = number(text).map_or_else(|_| "!".to_owned(), |number| number.to_string());
        if expected == "?" {
            continue;
        }
        compared += 1;
        // an intermediate result that saturates with us, or loses digits of a very long number, is not a difference
        let lost =
            ours.parse::<f64>().is_ok_and(|n| n.abs() > 1e15) || expected.parse::<f64>().is_ok_and(|n| n.abs() > 1e15);
        if ours != expected && !lost {
            _ = writeln!(wrong, "{text}\n    python {expected}\n    ours   {ours}");
        }
    }
    assert!(compared > 4000, "{compared}");
    assert!(wrong.is_empty(), "{wrong}");
}
