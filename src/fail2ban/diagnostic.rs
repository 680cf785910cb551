//! What is wrong with a configuration, where it stands, and what to do about it.

use std::fmt;

use crate::config::Span;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, but probably not as meant.
    Warning,
    /// Something was left out: a jail, an option.
    Error,
    /// Nothing can be started from this.
    Fatal,
}

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands, if at one place.
    pub span: Option<Span>,
    /// How many characters from there on are meant; 0 if unknown.
    pub width: usize,
    /// The jail it concerns.
    pub jail: Option<String>,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(span: Option<Span>, text: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, span, width: 0, jail: None, text: text.into(), help: None }
    }

    /// A warning at a place.
    pub fn warning(span: Option<Span>, text: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(span, text) }
    }

    /// The same with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// The same with the number of characters that are meant.
    #[must_use]
    pub fn width(mut self, width: usize) -> Diagnostic {
        self.width = width;
        self
    }

    /// The same for a jail.
    #[must_use]
    pub fn jail(mut self, jail: &str) -> Diagnostic {
        self.jail.get_or_insert_with(|| jail.to_owned());
        self
    }
}

impl fmt::Display for Diagnostic {
    /// One line: place, jail, text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(span) = &self.span {
            write!(f, "{span}: ")?;
        }
        if let Some(jail) = &self.jail {
            write!(f, "jail `{jail}`: ")?;
        }
        f.write_str(&self.text)
    }
}

/// The known name that was probably meant: at most a third of its characters differ.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer names are not compared; nobody mistypes those.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    known
        .into_iter()
        .filter(|candidate| *candidate != name && candidate.len() <= LONGEST)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.chars().count().max(name.chars().count()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters have to be changed, added, removed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_recognised_and_another_word_is_not() {
        let known = ["sshd", "maxretry", "nginx-http-auth", "ignoreip"];
        assert_eq!(nearest("shsd", known), Some("sshd"));
        assert_eq!(nearest("maxretries", known), Some("maxretry"));
        assert_eq!(nearest("ignoreips", known), Some("ignoreip"));
        assert_eq!(nearest("port", known), None);
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
    }
}
