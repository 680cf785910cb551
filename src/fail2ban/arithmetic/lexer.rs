//! Text to tokens. Time expressions get their units and missing signs here, so that the parser
//! sees plain arithmetic: `1h30m` is read as `1 * 3600 + 30 * 60`.

use super::{Error, ErrorKind, MAX_LENGTH, Number};

/// Which words an expression may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Functions only.
    Plain,
    /// Functions, `ban.Time`, `ban.Count` and `banFactor`.
    Formula,
    /// Functions and units of time.
    Time,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Number(Number),
    Word(&'a str),
    Symbol(&'static str),
}

const SYMBOLS: [&str; 24] = [
    "**", "//", "<<", ">>", "<=", ">=", "==", "!=", "+", "-", "*", "/", "%", "&", "|", "^", "~", "<", ">", "(", ")",
    ",", ".", "=",
];

pub(super) fn tokens(text: &str, dialect: Dialect) -> Result<Vec<(usize, Token<'_>)>, Error> {
    if text.len() > MAX_LENGTH {
        return Err(Error { at: 0, kind: ErrorKind::TooLong });
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    // whether what came last ends in a digit once units are written out, and so needs a `+` before a number
    let mut ends_in_digit = false;
    while let Some(next) = text[at..].chars().next() {
        if next.is_whitespace() {
            at += next.len_utf8();
            continue;
        }
        let rest = &text[at..];
        let blank_before = text[..at].chars().next_back().is_some_and(char::is_whitespace);
        if next.is_ascii_digit() || next == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            let length = number_length(rest, dialect);
            let (number_text, after) = rest.split_at(length);
            let bad = |length: usize| Error { at, kind: ErrorKind::BadNumber(rest[..length].to_owned()) };
            if after.starts_with(|c: char| c == '.' || c == '_' || c.is_ascii_digit()) {
                return Err(bad(length + 1));
            }
            let number = number(number_text).ok_or_else(|| bad(length))?;
            let joined = tokens.last().is_some_and(|(_, token)| *token == Token::Symbol("+added"));
            if dialect == Dialect::Time && ends_in_digit && next != '.' {
                tokens.push((at, Token::Symbol("+added")));
            }
            let added = tokens.last().is_some_and(|(_, token)| *token == Token::Symbol("+added"));
            tokens.push((at, Token::Number(number)));
            at += length;
            // Fail2Ban's rewriting takes digit, blank, digit at once: the digit after an added `+` cannot be
            // the one before the next. So `1 2 3` is an error there, and `1 22 3` a sum.
            ends_in_digit = number_text.ends_with(|c: char| c.is_ascii_digit())
                && !(added && !joined && length == 1 && after.starts_with(char::is_whitespace));
            continue;
        }
        if next.is_ascii_alphabetic() || next == '_' {
            let in_word =
                |c: char| c == '_' || c.is_ascii_alphabetic() || dialect != Dialect::Time && c.is_ascii_digit();
            let length = rest.find(|c: char| !in_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(length);
            let glued = text[..at].ends_with(|c: char| c.is_ascii_digit());
            let unit = (dialect == Dialect::Time && (glued || blank_before)).then(|| unit(word)).flatten();
            match unit {
                Some(seconds) => {
                    tokens.push((at, Token::Symbol("*")));
                    tokens.push((at, Token::Number(seconds)));
                    ends_in_digit = true;
                }
                // Python would take `1if` as two words; with us a number ends before a blank or a sign
                None if glued && !matches!(word, "if" | "else" | "and" | "or") => {
                    return Err(Error { at, kind: ErrorKind::UnknownWord(word.to_owned()) });
                }
                None => {
                    tokens.push((at, Token::Word(word)));
                    ends_in_digit = false;
                }
            }
            at += length;
            if dialect == Dialect::Time && after.starts_with(|c: char| c.is_ascii_digit()) && !ends_in_digit {
                return Err(Error { at, kind: ErrorKind::UnknownWord(word.to_owned()) });
            }
            continue;
        }
        let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) else {
            return Err(Error { at, kind: ErrorKind::Unexpected(next.to_string()) });
        };
        tokens.push((at, Token::Symbol(symbol)));
        ends_in_digit = false;
        at += symbol.len();
    }
    for (_, token) in &mut tokens {
        if *token == Token::Symbol("+added") {
            *token = Token::Symbol("+");
        }
    }
    Ok(tokens)
}

/// How many bytes belong to the number the text begins with. Time expressions have no exponents.
fn number_length(text: &str, dialect: Dialect) -> usize {
    let digits = |from: usize| {
        let rest = &text[from..];
        from + rest.find(|c: char| c != '_' && !c.is_ascii_digit()).unwrap_or(rest.len())
    };
    let mut end = digits(0);
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if dialect != Dialect::Time && text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        if text[end + 1 + sign..].starts_with(|c: char| c.is_ascii_digit()) {
            end = digits(end + 1 + sign);
        }
    }
    end
}

/// Underscores only between digits; whole numbers have no zeros in front.
fn number(text: &str) -> Option<Number> {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let underscores = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_');
    if underscores.into_iter().any(|(at, _)| !digit(at.checked_sub(1)) || !digit(at.checked_add(1))) {
        return None;
    }
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    if !plain.bytes().all(|byte| byte.is_ascii_digit()) {
        return plain.parse::<f64>().ok().map(|number| Number::Float(number.min(f64::MAX)));
    }
    if plain.starts_with('0') && plain.bytes().any(|byte| byte != b'0') {
        return None;
    }
    plain.parse().map(Number::Int).or_else(|_| plain.parse().map(|n: f64| Number::Float(n.min(f64::MAX)))).ok()
}

/// Seconds of a unit of time. A month is a twelfth, a year the whole, of 365.25 days.
fn unit(word: &str) -> Option<Number> {
    Some(match word.to_ascii_lowercase().as_str() {
        "s" | "ss" | "se" | "sec" | "second" | "seconds" => Number::Int(1),
        "m" | "mm" | "mi" | "min" | "minute" | "minutes" => Number::Int(60),
        "h" | "hh" | "ho" | "hou" | "hour" | "hours" => Number::Int(3600),
        "d" | "dd" | "da" | "day" | "days" => Number::Int(86_400),
        "w" | "ww" | "we" | "wee" | "week" | "weeks" => Number::Int(604_800),
        "mo" | "mon" | "month" | "months" => Number::Float(2_629_800.0),
        "y" | "yy" | "ye" | "yea" | "year" | "years" => Number::Float(31_557_600.0),
        _ => return None,
    })
}
