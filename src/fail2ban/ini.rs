//! One configuration file: sections with options and their raw texts.
//!
//! The grammar is that of Python's `configparser` as Fail2Ban sets it up: `;` after a blank
//! starts a comment and `#` there does not; what is indented deeper than its option belongs to
//! the value, whatever it looks like. Unlike the original we read on after an error, report all
//! of them, and remember which section each one spoils: only the jails concerned are lost.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;

use super::diagnostic::Diagnostic;
use super::text::{MAX_VALUE, Text};
use crate::config::Span;

/// Largest configuration file that is read, in bytes.
pub const MAX_FILE: u64 = 8 << 20;
/// After so many errors the rest of a file is not worth reporting.
pub const MAX_ERRORS: usize = 50;
/// The section whose options hold in all others.
pub const DEFAULT: &str = "DEFAULT";

/// Options of a section: name in lower case and raw text, in the order they stand.
pub type Section = IndexMap<String, Text>;

/// A parsed file.
#[derive(Debug, Default)]
pub struct File {
    /// Sections in order; `DEFAULT` is one of them if it has options.
    pub sections: IndexMap<String, Section>,
    /// Where each section's first header stands.
    pub headers: IndexMap<String, Span>,
    /// What is wrong, and which section is spoilt by it; none means the whole file is.
    pub errors: Vec<(Option<String>, Diagnostic)>,
}

/// A blank in Python's sense (`str.isspace`).
#[must_use]
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

struct Parser {
    path: Arc<PathBuf>,
    file: File,
    /// The section that options go to; none before the first header.
    section: Option<String>,
    /// The option that continuation lines go to.
    option: Option<String>,
    indent: usize,
    seen: HashSet<(String, String)>,
}

/// Reads a file's text. Never fails as a whole; see [`File::errors`].
#[must_use]
pub fn parse(text: &str, path: &Arc<PathBuf>) -> File {
    let mut parser = Parser {
        path: Arc::clone(path),
        file: File::default(),
        section: None,
        option: None,
        indent: 0,
        seen: HashSet::new(),
    };
    for (index, line) in physical_lines(text).enumerate() {
        if parser.file.errors.len() >= MAX_ERRORS {
            break;
        }
        parser.line(u32::try_from(index + 1).unwrap_or(u32::MAX), line);
    }
    for section in parser.file.sections.values_mut() {
        for value in section.values_mut() {
            let end = value.as_str().trim_end_matches(is_space).len();
            if end < value.len() {
                *value = value.slice(0..end);
            }
        }
    }
    parser.file
}

/// Lines end in `\n`, `\r\n` or `\r`.
fn physical_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let line = &rest[..end];
        let after = &rest[end..];
        rest = after.strip_prefix("\r\n").or_else(|| after.get(1..)).unwrap_or("");
        Some(line)
    })
}

impl Parser {
    fn span(&self, line: u32, text: &str, offset: usize) -> Span {
        let column = u32::try_from(text[..offset].chars().count()).unwrap_or(u32::MAX).saturating_add(1);
        Span { file: Arc::clone(&self.path), line, column }
    }

    fn error(&mut self, whole_file: bool, diagnostic: Diagnostic) {
        let section = if whole_file { None } else { self.section.clone() };
        self.file.errors.push((section, diagnostic));
    }

    fn line(&mut self, number: u32, line: &str) {
        let full_comment = line.trim_start_matches(is_space).starts_with(['#', ';']);
        let comment = if full_comment { Some(0) } else { inline_comment(line) };
        let kept = &line[..comment.unwrap_or(line.len())];
        let start = kept.len() - kept.trim_start_matches(is_space).len();
        let value = kept.trim_matches(is_space);
        if value.is_empty() {
            // A line of nothing but a comment leaves no trace in the value around it.
            if comment.is_none() {
                self.continuation("", None);
            }
            return;
        }
        let span = self.span(number, line, start);
        let indent = line[..start].chars().count();
        if self.option.is_some() && indent > self.indent {
            self.continuation(value, Some(span));
            return;
        }
        self.indent = indent;
        if let Some(name) = header(value) {
            self.open(name, span);
        } else if self.section.is_none() {
            let help = if line.starts_with('\u{feff}') {
                "the file begins with a byte order mark; save it without"
            } else {
                "put a section such as [DEFAULT] or [sshd] above it"
            };
            self.error(true, Diagnostic::error(Some(span), "there is no section header above this line").help(help));
        } else {
            self.option(number, line, start, value);
        }
    }

    fn continuation(&mut self, value: &str, span: Option<Span>) {
        let (Some(section), Some(option)) = (&self.section, &self.option) else { return };
        let Some(text) = self.file.sections.get_mut(section).and_then(|s| s.get_mut(option)) else { return };
        if text.len() + value.len() + 1 > MAX_VALUE {
            let place = span.or_else(|| text.span());
            self.option = None;
            self.error(false, Diagnostic::error(place, format!("the value is longer than {MAX_VALUE} bytes")));
            return;
        }
        text.push_str("\n", None);
        if !value.is_empty() {
            text.push_str(value, span);
        }
    }

    fn open(&mut self, name: &str, span: Span) {
        self.option = None;
        let again = self.file.headers.get(name).cloned();
        self.section = Some(name.to_owned());
        match again {
            Some(first) if name != DEFAULT => {
                let text = format!("section `{name}` appears twice in this file");
                let help = format!("it began in line {}; put the options there", first.line);
                self.error(false, Diagnostic::error(Some(span), text).width(name.chars().count() + 2).help(help));
            }
            Some(_) => {}
            None => {
                self.file.headers.insert(name.to_owned(), span);
                self.file.sections.entry(name.to_owned()).or_default();
            }
        }
    }

    fn option(&mut self, number: u32, line: &str, start: usize, value: &str) {
        let span = self.span(number, line, start);
        let Some(delimiter) = value.find(['=', ':']) else {
            let text = "this line has neither `=` nor `:`";
            let help = "write `option = value`; indent the line if it continues the value above";
            self.error(false, Diagnostic::error(Some(span), text).width(value.chars().count()).help(help));
            return;
        };
        let name = value[..delimiter].trim_end_matches(is_space);
        if name.is_empty() {
            let text = "there is no option name before the delimiter";
            self.error(false, Diagnostic::error(Some(span), text).help("write `option = value`"));
            return;
        }
        let lower = name.to_lowercase();
        let after = &value[delimiter + 1..];
        let text = after.trim_matches(is_space);
        let offset = start + delimiter + 1 + (after.len() - after.trim_start_matches(is_space).len());
        let section = self.section.clone().unwrap_or_default();
        let first = !self.seen.contains(&(section.clone(), lower.clone()));
        if first {
            self.seen.insert((section.clone(), lower.clone()));
        } else {
            let text = format!("option `{lower}` appears twice in section `{section}` of this file");
            let help = "remove one of them; a later file may change it";
            self.error(false, Diagnostic::error(Some(span), text).width(name.chars().count()).help(help));
        }
        let place = self.span(number, line, offset);
        self.file.sections.entry(section).or_default().insert(lower.clone(), Text::new(text, Some(place)));
        self.option = Some(lower);
    }
}

/// Where a `;` at the beginning or after a blank stands.
fn inline_comment(line: &str) -> Option<usize> {
    line.match_indices(';')
        .map(|(index, _)| index)
        .find(|&index| line[..index].chars().next_back().is_none_or(is_space))
}

/// `[name]`: everything up to the last bracket.
fn header(value: &str) -> Option<&str> {
    let inner = value.strip_prefix('[')?;
    let name = &inner[..inner.rfind(']')?];
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> File {
        parse(text, &Arc::new(PathBuf::from("x.conf")))
    }

    fn value<'a>(file: &'a File, section: &str, option: &str) -> &'a Text {
        &file.sections[section][option]
    }

    #[test]
    fn comments_blank_lines_and_continuations_are_told_apart() {
        let file = read("[demo]\nlist : a      ; first\n  b;c\n  # not part of it\n\n  d # still value\n\n\n");
        assert_eq!(value(&file, "demo", "list").as_str(), "a\nb;c\n\nd # still value");
        assert!(file.errors.is_empty());
    }

    #[test]
    fn an_indented_line_belongs_to_the_value_whatever_it_looks_like() {
        let file = read("[a]\nx = 1\n  [b]\n  y = 2\n[c]\n  z = 3\n  w = 4\n");
        assert_eq!(value(&file, "a", "x").as_str(), "1\n[b]\ny = 2");
        assert_eq!(value(&file, "c", "w").as_str(), "4");
    }

    #[test]
    fn names_are_lowered_and_delimiters_are_the_first_of_two() {
        let file = read("[A]\nIgnoreIP : a=b\nk=v:w\r\nl   =\rm=1");
        assert_eq!(value(&file, "A", "ignoreip").as_str(), "a=b");
        assert_eq!(value(&file, "A", "k").as_str(), "v:w");
        assert_eq!(value(&file, "A", "l").as_str(), "");
        assert_eq!(value(&file, "A", "m").as_str(), "1");
    }

    #[test]
    fn every_line_of_a_value_knows_its_place() {
        let file = read("[a]\nfailregex = one\n            two\n\n  three\n");
        let lines = value(&file, "a", "failregex").lines();
        let places: Vec<_> =
            lines.iter().filter(|l| !l.is_empty()).map(|l| l.span().map(|s| (s.line, s.column)).unwrap()).collect();
        assert_eq!(places, [(2, 13), (3, 13), (5, 3)]);
    }

    #[test]
    fn all_errors_of_a_file_are_found_and_name_their_section() {
        let file = read("lost = 1\n[a]\nnonsense\nx = 1\nx = 2\n[b]\n= 3\n[a]\ny = 1\n[ok]\nz = 1\n");
        let found: Vec<_> = file
            .errors
            .iter()
            .map(|(section, error)| (section.as_deref(), error.span.as_ref().unwrap().line))
            .collect();
        assert_eq!(found, [(None, 1), (Some("a"), 3), (Some("a"), 5), (Some("b"), 7), (Some("a"), 8)]);
        assert_eq!(value(&file, "ok", "z").as_str(), "1");
    }

    #[test]
    fn a_byte_order_mark_is_explained() {
        let file = read("\u{feff}[a]\nx = 1\n");
        assert!(file.errors[0].1.help.as_deref().unwrap().contains("byte order mark"));
    }

    #[test]
    fn a_value_has_a_longest_length_and_a_file_a_number_of_errors() {
        let mut text = String::from("[a]\nx = 1\n");
        for _ in 0..20 {
            text.push(' ');
            text.push_str(&"y".repeat(100_000));
            text.push('\n');
        }
        assert!(read(&text).errors[0].1.text.contains("longer than"));
        assert_eq!(read(&format!("[a]\n{}", "junk\n".repeat(1000))).errors.len(), MAX_ERRORS);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(?s)[\\[\\]=:;# \\ta-c%<>\\n\\r\u{feff}é\u{1c}]{0,200}") {
            let file = read(&text);
            for section in file.sections.values() {
                for value in section.values() {
                    for line in value.lines() {
                        let _ = line.span_at(line.len());
                    }
                }
            }
        }
    }
}
