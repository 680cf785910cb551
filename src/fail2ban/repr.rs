//! A [`Value`] in Python's literal notation, as `fail2ban-client -d` prints it.
//!
//! People diff these dumps and scripts parse them, so every quote and escape is Python's.

use std::fmt::Write as _;

use crate::control::Value;

/// The value as Python's `repr` writes it.
#[must_use]
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

/// The value as Python's `pprint` writes it with the given indent and width, in characters.
///
/// Lists that do not fit go on one element a line; long texts are broken at blanks, as `pprint` does.
#[must_use]
pub fn pretty(value: &Value, indent: usize, width: usize) -> String {
    let mut out = String::new();
    write_pretty(&mut out, value, &Layout { per_level: indent, width }, 0, 0, 1);
    out
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => _ = write!(out, "{number}"),
        Value::Float(number) => write_float(out, *number),
        Value::Text(text) => write_text(out, text),
        Value::List(items) => write_items(out, "[", items, "]"),
        Value::Tuple(items) => write_items(out, "(", items, if items.len() == 1 { ",)" } else { ")" }),
        Value::Set(items) if items.is_empty() => out.push_str("set()"),
        Value::Set(items) => write_items(out, "{", items, "}"),
        Value::Map(pairs) => {
            out.push('{');
            for (index, (key, value)) in pairs.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_value(out, key);
                out.push_str(": ");
                write_value(out, value);
            }
            out.push('}');
        }
    }
}

fn write_items(out: &mut String, open: &str, items: &[Value], close: &str) {
    out.push_str(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_value(out, item);
    }
    out.push_str(close);
}

/// Shortest digits that read back the same; an exponent below 1e-4 and from 1e16 on.
fn write_float(out: &mut String, number: f64) {
    if number.is_nan() {
        out.push_str("nan");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "inf" } else { "-inf" });
    } else if number != 0.0 && !(1e-4..1e16).contains(&number.abs()) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
        _ = write!(out, "{digits}e{sign}{exponent:0>2}");
    } else {
        _ = write!(out, "{number:?}");
    }
}

fn write_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if c == quote => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            _ if is_printable(c) => out.push(c),
            _ => match c as u32 {
                code @ ..0x100 => _ = write!(out, "\\x{code:02x}"),
                code @ ..0x10000 => _ = write!(out, "\\u{code:04x}"),
                code => _ = write!(out, "\\U{code:08x}"),
            },
        }
    }
    out.push(quote);
}

/// Whether Python shows a character beyond ASCII as itself: not control, format, surrogate,
/// private, unassigned, or a separator.
fn is_printable(c: char) -> bool {
    use std::sync::LazyLock;
    // General categories C* and Z*, from the tables that come with regex-syntax.
    static HIDDEN: LazyLock<Vec<(char, char)>> = LazyLock::new(|| {
        let hir = regex_syntax::Parser::new().parse(r"[\p{C}\p{Z}]").expect("a fixed pattern");
        match hir.into_kind() {
            regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
                class.ranges().iter().map(|range| (range.start(), range.end())).collect()
            }
            _ => Vec::new(),
        }
    });
    let after = HIDDEN.partition_point(|&(first, _)| first <= c);
    after == 0 || HIDDEN[after - 1].1 < c
}

struct Layout {
    per_level: usize,
    width: usize,
}

/// `indent` is the column the value starts in, `allowance` how many characters must still fit
/// behind it, `level` how deep it is nested.
fn write_pretty(out: &mut String, value: &Value, layout: &Layout, indent: usize, allowance: usize, level: usize) {
    let flat = repr(value);
    if flat.chars().count() <= layout.width.saturating_sub(indent + allowance) {
        out.push_str(&flat);
        return;
    }
    match value {
        Value::List(items) => write_pretty_items(out, "[", items, "]", layout, indent, allowance, level),
        Value::Tuple(items) => {
            write_pretty_items(
                out,
                "(",
                items,
                if items.len() == 1 { ",)" } else { ")" },
                layout,
                indent,
                allowance,
                level,
            );
        }
        Value::Map(pairs) if !pairs.is_empty() => {
            out.push('{');
            out.extend(std::iter::repeat_n(' ', layout.per_level.saturating_sub(1)));
            let indent = indent + layout.per_level;
            for (index, (key, value)) in pairs.iter().enumerate() {
                let last = index + 1 == pairs.len();
                let key = repr(key);
                out.push_str(&key);
                out.push_str(": ");
                let column = indent + key.chars().count() + 2;
                write_pretty(out, value, layout, column, if last { allowance + 1 } else { 1 }, level);
                if !last {
                    out.push_str(",\n");
                    out.extend(std::iter::repeat_n(' ', indent));
                }
            }
            out.push('}');
        }
        Value::Text(text) => write_pretty_text(out, text, layout, indent, allowance, level),
        _ => out.push_str(&flat),
    }
}

#[expect(clippy::too_many_arguments, reason = "the state of the recursion")]
fn write_pretty_items(
    out: &mut String,
    open: &str,
    items: &[Value],
    close: &str,
    layout: &Layout,
    indent: usize,
    allowance: usize,
    level: usize,
) {
    out.push_str(open);
    out.extend(std::iter::repeat_n(' ', layout.per_level.saturating_sub(1)));
    let indent = indent + layout.per_level;
    for (index, item) in items.iter().enumerate() {
        let last = index + 1 == items.len();
        if index > 0 {
            out.push_str(",\n");
            out.extend(std::iter::repeat_n(' ', indent));
        }
        write_pretty(out, item, layout, indent, if last { allowance + close.len() } else { 1 }, level + 1);
    }
    out.push_str(close);
}

/// A long text: its lines, and within them words, as adjacent literals below each other.
fn write_pretty_text(
    out: &mut String,
    text: &str,
    layout: &Layout,
    mut indent: usize,
    mut allowance: usize,
    level: usize,
) {
    if level == 1 {
        indent += 1;
        allowance += 1;
    }
    let room = layout.width.saturating_sub(indent);
    let mut chunks: Vec<String> = Vec::new();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for (index, line) in lines.iter().enumerate() {
        let last_line = index + 1 == lines.len();
        let whole = repr(&Value::from(*line));
        let most = if last_line { room.saturating_sub(allowance) } else { room };
        if whole.chars().count() <= most {
            chunks.push(whole);
            continue;
        }
        let words = words(line);
        let mut current = String::new();
        for (position, word) in words.iter().enumerate() {
            let last_word = position + 1 == words.len();
            let most = if last_word && last_line { room.saturating_sub(allowance) } else { room };
            let candidate = format!("{current}{word}");
            if repr(&Value::from(candidate.as_str())).chars().count() > most {
                if !current.is_empty() {
                    chunks.push(repr(&Value::from(current.as_str())));
                }
                current = (*word).to_owned();
            } else {
                current = candidate;
            }
        }
        if !current.is_empty() {
            chunks.push(repr(&Value::from(current)));
        }
    }
    if chunks.len() == 1 {
        out.push_str(&chunks[0]);
        return;
    }
    if level == 1 {
        out.push('(');
    }
    for (index, chunk) in chunks.iter().enumerate() {
        if index > 0 {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out.push_str(chunk);
    }
    if level == 1 {
        out.push(')');
    }
}

/// Runs of non-blanks with the blanks that follow them.
fn words(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut blank = false;
    for (index, c) in line.char_indices() {
        let is_blank = super::ini::is_space(c);
        if blank && !is_blank {
            found.push(&line[start..index]);
            start = index;
        }
        blank = is_blank;
    }
    if start < line.len() {
        found.push(&line[start..]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_python_quotes_them() {
        for (text, shown) in [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("it's \"x\"", "'it\\'s \"x\"'"),
            ("a\\b\n\r\t", "'a\\\\b\\n\\r\\t'"),
            ("\u{0}\u{7f}\u{a0}\u{ad}é", "'\\x00\\x7f\\xa0\\xadé'"),
            ("\u{200b}\u{e000}\u{f0000}日", "'\\u200b\\ue000\\U000f0000日'"),
        ] {
            assert_eq!(repr(&Value::from(text)), shown);
        }
    }

    #[test]
    fn numbers_and_collections_are_python_literals() {
        for (value, shown) in [
            (Value::Float(600.0), "600.0"),
            (Value::Float(1e16), "1e+16"),
            (Value::Float(1e-5), "1e-05"),
            (Value::Float(1.5e-7), "1.5e-07"),
            (Value::Float(-0.0), "-0.0"),
            (Value::Tuple(vec![Value::Int(1)]), "(1,)"),
            (Value::Tuple(vec![]), "()"),
            (Value::Set(vec![]), "set()"),
            (Value::Set(vec![Value::Int(1)]), "{1}"),
            (Value::List(vec![Value::None, Value::Bool(true), Value::from("x")]), "[None, True, 'x']"),
            (Value::Map(vec![(Value::from("a"), Value::Int(-3))]), "{'a': -3}"),
        ] {
            assert_eq!(repr(&value), shown);
        }
    }
}
