//! The form of a line of the log: Fail2Ban's, or what `logtarget = SYSLOG[format="…"]` asks for.
//!
//! A format is one of Python's: `%(levelname)-7s` and the like. Of its fields those are known that say something
//! about a message; the rest is about the program that Fail2Ban is.

use std::fmt::Write as _;

/// The widest a field can be made, and the longest a format may be, in characters.
const WIDEST: usize = 1000;

/// What stands in a line, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field { field: Field, left: bool, zeros: bool, width: usize, precision: Option<usize> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Time,
    Name,
    Part,
    Level,
    LevelNumber,
    Process,
    Message,
}

const FIELDS: [(&str, Field); 7] = [
    ("asctime", Field::Time),
    ("name", Field::Name),
    ("module", Field::Part),
    ("levelname", Field::Level),
    ("levelno", Field::LevelNumber),
    ("process", Field::Process),
    ("message", Field::Message),
];

/// What there is to say.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The time, as lines begin with it.
    pub time: &'a str,
    /// The part of the program.
    pub part: &'a str,
    /// The level's name and number.
    pub level: (&'a str, i32),
    /// The process number.
    pub process: u32,
    /// The message.
    pub message: &'a str,
}

impl Form {
    /// Fail2Ban's own, with the time in front or not, in columns or not.
    #[must_use]
    pub fn usual(time: bool, columns: bool) -> Form {
        let rest = match columns {
            true => "%(name)-24s[%(process)d]: %(levelname)-7s %(message)s",
            false => "%(name)s[%(process)d]: %(levelname)s %(message)s",
        };
        let format = if time { format!("%(asctime)s {rest}") } else { rest.to_owned() };
        Form::parse(&format).expect("a format of our own")
    }

    /// Reads a format.
    ///
    /// # Errors
    /// If it is none, in the words of Python, or names what is not known.
    pub fn parse(format: &str) -> Result<Form, String> {
        let bad = || format!("Invalid format '{format}' for '%' style");
        if format.chars().count() > WIDEST {
            return Err(format!("a format of more than {WIDEST} characters"));
        }
        let mut pieces = Vec::new();
        let mut rest = format;
        while let Some((text, after)) = rest.split_once('%') {
            pieces.push(Piece::Text(text.to_owned()));
            if let Some(after) = after.strip_prefix('%') {
                pieces.push(Piece::Text("%".to_owned()));
                rest = after;
                continue;
            }
            let (name, after) = after.strip_prefix('(').and_then(|after| after.split_once(')')).ok_or_else(bad)?;
            let flags = after.len() - after.trim_start_matches(['-', '0', '+', ' ', '#']).len();
            let (flags, after) = after.split_at(flags);
            let (width, after) = number(after).ok_or_else(bad)?;
            let (precision, after) = match after.strip_prefix('.') {
                Some(after) => number(after).map(|(number, after)| (Some(number), after)).ok_or_else(bad)?,
                None => (None, after),
            };
            let field = FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
            let field = field.ok_or_else(|| {
                let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
                format!("a format has no field `{name}`; there are {}", known.join(", "))
            })?;
            let number = matches!(field, Field::LevelNumber | Field::Process);
            match after.chars().next() {
                Some('s') => {}
                Some('d' | 'i') if number => {}
                _ => return Err(bad()),
            }
            let zeros = number && flags.contains('0') && after.starts_with(['d', 'i']);
            // of a number it is the least of digits, which nobody asks for
            let precision = precision.filter(|_| after.starts_with('s'));
            pieces.push(Piece::Field { field, left: flags.contains('-'), zeros, width, precision });
            rest = &after[1..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        if !pieces.iter().any(|piece| matches!(piece, Piece::Field { .. })) {
            return Err(bad());
        }
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Form { pieces })
    }

    /// Whether lines tell the time.
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Field { field: Field::Time, .. }))
    }

    /// Appends a line, without its end.
    pub fn write(&self, line: &Line<'_>, out: &mut String) {
        let mut value = String::new();
        for piece in &self.pieces {
            let Piece::Field { field, left, zeros, width, precision } = piece else {
                if let Piece::Text(text) = piece {
                    out.push_str(text);
                }
                continue;
            };
            value.clear();
            match field {
                Field::Time => value.push_str(line.time),
                Field::Name => _ = write!(value, "fail2ban.{}", line.part),
                Field::Part => value.push_str(line.part),
                Field::Level => value.push_str(line.level.0),
                Field::LevelNumber => _ = write!(value, "{}", line.level.1),
                Field::Process => _ = write!(value, "{}", line.process),
                // most of a line, and mostly as it is
                Field::Message if (*width, *precision) == (0, None) => {
                    out.push_str(line.message);
                    continue;
                }
                Field::Message => value.push_str(line.message),
            }
            if let Some((end, _)) = precision.and_then(|precision| value.char_indices().nth(precision)) {
                value.truncate(end);
            }
            let _ = match (left, zeros) {
                (true, _) => write!(out, "{value:<width$}"),
                (false, true) => write!(out, "{value:0>width$}"),
                (false, false) => write!(out, "{value:>width$}"),
            };
        }
    }
}

/// A number that may be missing, and what follows it.
fn number(text: &str) -> Option<(usize, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = text.split_at(digits);
    let number = if number.is_empty() { 0 } else { number.parse().ok().filter(|number| *number <= WIDEST)? };
    Some((number, rest))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn written(form: &Form) -> String {
        let (time, message) = ("2026-11-24 01:57:05,231", "[j] Ban ü");
        let line = Line { time, part: "actions", level: ("NOTICE", 25), process: 145, message };
        let mut out = String::new();
        form.write(&line, &mut out);
        out
    }

    #[test]
    fn fields_have_the_widths_of_pythons_formats() {
        let of = |format: &str| written(&Form::parse(format).unwrap());
        assert_eq!(
            written(&Form::usual(true, true)),
            "2026-11-24 01:57:05,231 fail2ban.actions        [145]: NOTICE  [j] Ban ü"
        );
        assert_eq!(written(&Form::usual(false, false)), "fail2ban.actions[145]: NOTICE [j] Ban ü");
        assert_eq!(of("100%% %(message).3s|%(levelno)5d|%(levelno)05d|%(levelno)-5d|"), "100% [j]|   25|00025|25   |");
        assert_eq!(of("%(message)11s|%(name)5.3s|%(module)s"), "  [j] Ban ü|  fai|actions");
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for wrong in ["", "text", "%q", "100%", "%(message)", "%(message)d", "%(message)r", "%(message)s %", "%(name"] {
            assert_eq!(Form::parse(wrong), Err(format!("Invalid format '{wrong}' for '%' style")));
        }
        assert!(Form::parse("%(message)99999999999999999999999s").is_err());
        assert!(Form::parse("%(message)1001s").is_err());
        assert!(Form::parse(&format!("{}%(message)s", "x".repeat(WIDEST))).is_err());
        assert!(Form::parse("%(thread)d").unwrap_err().contains("no field `thread`"));
    }
}
