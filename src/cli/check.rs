//! `-t`: what is wrong with a configuration, with the line it stands in.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::fail2ban::diagnostic::{Diagnostic, Severity};

/// Longest part of a source line that is shown, in characters.
const SHOWN: usize = 160;

/// All findings with their source lines, ready for a terminal.
#[must_use]
pub fn report(diagnostics: &[Diagnostic], texts: &HashMap<PathBuf, Arc<str>>, colour: bool) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let (level, shade) = if diagnostic.severity == Severity::Warning { ("warning", 33) } else { ("error", 31) };
        if colour {
            _ = write!(out, "\x1b[1;{shade}m{level}\x1b[0m: ");
        } else {
            _ = write!(out, "{level}: ");
        }
        if let Some(jail) = &diagnostic.jail {
            _ = write!(out, "jail `{}`: ", escaped(jail));
        }
        _ = writeln!(out, "{}", escaped(&diagnostic.text));
        let mut margin = String::new();
        if let Some(span) = &diagnostic.span {
            let number = span.line.to_string();
            margin = " ".repeat(number.len());
            _ = writeln!(out, "{margin}--> {}:{}:{}", span.file.display(), span.line, span.column);
            let line = texts.get(span.file.as_ref()).and_then(|text| physical_line(text, span.line));
            if let Some(line) = line {
                let column = span.column.saturating_sub(1) as usize;
                // A window around the place, if the line is long.
                let start = column.saturating_sub(SHOWN / 2).min(line.chars().count().saturating_sub(SHOWN));
                let part: String = line.chars().skip(start).take(SHOWN).map(visible).collect();
                let width = diagnostic.width.clamp(1, part.chars().count().saturating_sub(column - start).max(1));
                _ = writeln!(out, "{margin} |\n{number} | {part}");
                _ = writeln!(out, "{margin} | {}{}", " ".repeat(column - start), "^".repeat(width));
            }
        }
        if let Some(help) = &diagnostic.help {
            _ = writeln!(out, "{margin} = help: {}", escaped(help));
        }
        out.push('\n');
    }
    out
}

fn physical_line(text: &str, number: u32) -> Option<&str> {
    let mut rest = text;
    for _ in 1..number {
        let end = rest.find(['\n', '\r'])?;
        rest = rest[end..].strip_prefix("\r\n").unwrap_or(&rest[end + 1..]);
    }
    Some(&rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())])
}

/// One character wide, and nothing a terminal obeys.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

fn escaped(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}
