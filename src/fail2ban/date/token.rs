//! The tokens of date patterns, such as `%Y`: the expressions they stand for and what these mean.

use crate::filter::date::{Field, Part};

use super::shape::escaped;
use super::{Error, Options, Source};

/// A pattern with its tokens replaced.
#[derive(Default)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Where pieces of the text come from: position in the text, position in the pattern.
    pub(super) places: Vec<(usize, usize)>,
    /// Groups that are tokens.
    pub(super) parts: Vec<(&'static str, Part)>,
    ignore_case: bool,
}

impl Expanded {
    pub(super) fn literal(&mut self, text: &str, place: usize) {
        self.places.push((self.text.len(), place));
        self.text.push_str(text);
    }

    pub(super) fn tokens(
        &mut self,
        text: &str,
        source: Source<'_>,
        offset: usize,
        options: &Options,
    ) -> Result<(), Error> {
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            let place = offset + text.len() - rest.len();
            self.literal(&rest[..at], place);
            let after = &rest[at + 1..];
            let Some((token, length)) = token(after) else {
                let width = |text: &str| text.chars().next().map_or(0, char::len_utf8);
                let end = 1 + after.strip_prefix("Ex").map_or(width(after), |rest| 2 + width(rest));
                return Err(Error::Token {
                    pattern: source.pattern.to_owned(),
                    line: source.line,
                    position: place + at,
                    token: rest[at..at + end].to_owned(),
                });
            };
            self.places.push((self.text.len(), place + at));
            (token.expand)(self, options);
            rest = &after[length..];
        }
        self.literal(rest, offset + text.len() - rest.len());
        Ok(())
    }

    /// A named group; `part` if one instruction recognises it.
    fn group(&mut self, name: &'static str, expression: &str, part: Option<Part>) {
        self.text.push_str(&format!("(?P<{name}>{expression})"));
        self.parts.extend(part.map(|part| (name, part)));
    }

    /// Takes the inline flags out, wherever they stand: they count for all of it. (Fail2Ban's
    /// Python refuses them in the middle, with every line that is read.)
    pub(super) fn take_flags(&mut self) -> String {
        let mut flags = String::from(if self.ignore_case { "iu" } else { "" });
        let mut from = 0;
        while let Some(at) = self.text[from..].find("(?").map(|at| at + from) {
            let letters = self.text[at + 2..].bytes().take_while(|b| b"aimsux".contains(b)).count();
            let end = at + 2 + letters;
            if letters > 0 && self.text[end..].starts_with(')') && !escaped(&self.text, at) {
                flags.push_str(&self.text[at + 2..end]);
                self.text.replace_range(at..=end, "");
                self.shift(at, -((end + 1 - at) as isize));
            } else {
                from = at + 2;
            }
        }
        let mut unique = String::new();
        flags.chars().for_each(|c| {
            if !unique.contains(c) {
                unique.push(c);
            }
        });
        // For all characters is what is meant anyway; only the opposite needs to be said.
        unique.retain(|c| c != 'u');
        unique
    }

    fn shift(&mut self, from: usize, by: isize) {
        for (at, _) in &mut self.places {
            if *at > from || *at == from && by > 0 {
                *at = at.saturating_add_signed(by).max(from);
            }
        }
    }

    pub(super) fn insert(&mut self, at: usize, text: &str) {
        self.text.insert_str(at, text);
        self.shift(at, text.len() as isize);
    }

    pub(super) fn trim(&mut self) {
        self.text.truncate(self.text.trim_end().len());
        // A blank that is optional stays: `%k` begins with one.
        let blank = self.text.len() - self.text.trim_start().len();
        if blank > 0 && !self.text[blank..].starts_with('?') {
            self.text.replace_range(..blank, "");
            self.shift(0, -(blank as isize));
        }
    }

    /// Makes all of it group 1, except for `^` and `$` around it.
    pub(super) fn wrap(&mut self) {
        let end = self.text.len() - usize::from(self.text.ends_with('$') && !escaped(&self.text, self.text.len() - 1));
        self.text.insert(end, ')');
        self.insert(usize::from(self.text.starts_with('^')), "(");
    }
}

/// What a token stands for.
struct Token {
    /// The token without its percent sign.
    text: &'static str,
    /// What it is called in reports.
    name: &'static str,
    expand: fn(&mut Expanded, &Options),
}

/// The token at the beginning of a text, and its length.
fn token(text: &str) -> Option<(&'static Token, usize)> {
    TOKENS
        .iter()
        .filter(|token| text.starts_with(token.text))
        .map(|token| (token, token.text.len()))
        .max_by_key(|t| t.1)
}

/// A pattern with its tokens as people read them.
pub(super) fn shown_name(text: &str) -> String {
    let mut name = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        name.push_str(&rest[..at]);
        let Some((token, length)) = token(&rest[at + 1..]) else { break };
        name.push_str(token.name);
        rest = &rest[at + 1 + length..];
    }
    name + rest
}

const MONTH_NAMES: &str = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec";
const DAY_NAMES: &str = "sun|mon|tue|wed|thu|fri|sat";
/// The C locale's forms need their digits in another order of preference.
const FULL_DAY: &str = r"3[01]|[12]\d|0[1-9]|[1-9]| [1-9]";
const FULL_HOUR: &str = r"2[0-3]|[01]\d|\d";
const FULL_MINUTE: &str = r"[0-5]\d|\d";
const FULL_SECOND: &str = r"6[01]|[0-5]\d|\d";
const FULL_MONTH: &str = "1[0-2]|0[1-9]|[1-9]";
const HOUR: &str = r"[01]?\d|2[0-3]";
const OFFSET: &str = r"[+-][01]\d(?::?\d\d)?";
const LETTER_ZONE: &str = "[A-Z](?:[A-Z]{2,4})?";
const WEEK: &str = r"5[0-3]|[0-4]\d|\d";

#[rustfmt::skip]
const TOKENS: &[Token] = &[
    Token { text: "%", name: "%", expand: |e, _| e.text.push('%') },
    Token { text: "Y", name: "Year", expand: |e, _| e.group("Y", r"\d{4}", None) },
    Token {
        text: "ExY",
        name: "ExYear",
        expand: |e, o| {
            let (first, last) = o.years();
            e.group("Y", &decades(first, last), Some(Part::Year(first, last)));
        },
    },
    Token { text: "y", name: "Year2", expand: |e, _| e.group("y", r"\d\d", Some(Part::Two)) },
    Token { text: "Exy", name: "ExYear2", expand: |e, _| e.group("y", r"\d\d", Some(Part::Two)) },
    Token { text: "G", name: "%G", expand: |e, _| e.group("G", r"\d{4}", None) },
    Token { text: "m", name: "Month", expand: |e, _| e.group("m", "0?[1-9]|1[0-2]", Some(Part::Month)) },
    Token { text: "Exm", name: "ExMonth", expand: |e, _| e.group("m", "0[1-9]|1[0-2]", Some(Part::Month2)) },
    Token { text: "d", name: "Day", expand: |e, _| e.group("d", r"[12]\d|[ 0]?[1-9]|3[01]", Some(Part::Day)) },
    Token { text: "Exd", name: "ExDay", expand: |e, _| e.group("d", r"[12]\d|0[1-9]|3[01]", Some(Part::Day2)) },
    Token { text: "H", name: "24hour", expand: |e, _| e.group("H", HOUR, Some(Part::Hour)) },
    Token { text: "ExH", name: "Ex24hour", expand: |e, _| e.group("H", r"[01]\d|2[0-3]", Some(Part::Hour2)) },
    Token {
        text: "k",
        name: "%k",
        expand: |e, _| {
            e.text.push_str(" ?");
            e.group("H", r"[0-2]?\d", Some(Part::HourLoose));
        },
    },
    Token {
        text: "Exk",
        name: "Ex%k",
        expand: |e, _| {
            e.text.push_str(" ?");
            e.group("H", HOUR, Some(Part::Hour));
        },
    },
    Token { text: "I", name: "12hour", expand: |e, _| e.group("I", "1[0-2]|0[1-9]|[1-9]", Some(Part::Hour12)) },
    Token {
        text: "l",
        name: "%l",
        expand: |e, _| {
            e.text.push_str(" ?");
            e.group("I", r"1?\d", None);
        },
    },
    Token {
        text: "Exl",
        name: "Ex%l",
        expand: |e, _| {
            e.text.push_str(" ?");
            e.group("I", r"1[0-2]|\d", None);
        },
    },
    Token { text: "M", name: "Minute", expand: |e, _| e.group("M", r"[0-5]?\d", Some(Part::Minute)) },
    Token { text: "ExM", name: "ExMinute", expand: |e, _| e.group("M", r"[0-5]\d", Some(Part::Minute2)) },
    Token { text: "S", name: "Second", expand: |e, _| e.group("S", r"[0-5]?\d|6[01]", Some(Part::Second)) },
    Token { text: "ExS", name: "ExSecond", expand: |e, _| e.group("S", r"[0-5]\d|6[01]", Some(Part::Second2)) },
    Token { text: "f", name: "Microseconds", expand: |e, _| e.group("f", "[0-9]{1,6}", Some(Part::Fraction)) },
    Token {
        text: "a",
        name: "DAY",
        expand: |e, _| {
            e.ignore_case = true;
            e.group("a", DAY_NAMES, Some(Part::DayName));
        },
    },
    Token {
        text: "A",
        name: "DAYNAME",
        expand: |e, _| {
            e.ignore_case = true;
            e.group("A", "sunday|monday|tuesday|wednesday|thursday|friday|saturday", None);
        },
    },
    Token {
        text: "b",
        name: "MON",
        expand: |e, _| {
            e.ignore_case = true;
            e.group("b", MONTH_NAMES, Some(Part::MonthName));
        },
    },
    Token {
        text: "B",
        name: "MONTH",
        expand: |e, _| {
            e.ignore_case = true;
            let names = "january|february|march|april|may|june|july|august|september|october|november|december";
            e.group("B", names, None);
        },
    },
    Token {
        text: "p",
        name: "AMPM",
        expand: |e, _| {
            e.ignore_case = true;
            e.group("p", "am|pm", Some(Part::Half));
        },
    },
    Token {
        text: "j",
        name: "Yearday",
        expand: |e, _| {
            e.group("j", r"36[0-6]|3[0-5]\d|[12]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9]", None);
        },
    },
    Token { text: "U", name: "Yearweek", expand: |e, _| e.group("U", WEEK, None) },
    Token { text: "W", name: "Yearweek", expand: |e, _| e.group("W", WEEK, None) },
    Token { text: "V", name: "%V", expand: |e, _| e.group("V", r"5[0-3]|0[1-9]|[1-4]\d|\d", None) },
    Token { text: "w", name: "Weekday", expand: |e, _| e.group("w", "[0-6]", None) },
    Token { text: "u", name: "%u", expand: |e, _| e.group("u", "[1-7]", None) },
    Token {
        text: "z",
        name: "Zone offset",
        expand: |e, _| {
            e.group("z", &format!("Z|UTC|GMT|{OFFSET}"), Some(Part::Offset(false)));
        },
    },
    Token {
        text: "Exz",
        name: "ExZone offset",
        expand: |e, _| {
            e.group("z", &format!("(?:{LETTER_ZONE})?{OFFSET}|{LETTER_ZONE}"), None);
        },
    },
    Token { text: "Z", name: "Zone name", expand: |e, _| e.group("Z", "Z|[A-Z]{3,5}", Some(Part::ZoneName(false))) },
    Token { text: "ExZ", name: "ExZone name", expand: |e, _| e.group("Z", LETTER_ZONE, None) },
    Token {
        text: "c",
        name: "%c",
        expand: |e, _| {
            e.ignore_case = true;
            e.group("a", DAY_NAMES, None);
            for (name, expression) in [("b", MONTH_NAMES), ("d", FULL_DAY)] {
                e.text.push_str(r"\s+");
                e.group(name, expression, None);
            }
            e.text.push_str(r"\s+");
            clock_time(e);
            e.text.push_str(r"\s+");
            e.group("Y", r"\d{4}", None);
        },
    },
    Token {
        text: "x",
        name: "%x",
        expand: |e, _| {
            e.group("m", FULL_MONTH, None);
            e.text.push('/');
            e.group("d", FULL_DAY, None);
            e.text.push('/');
            e.group("y", r"\d\d", None);
        },
    },
    Token { text: "X", name: "%X", expand: |e, _| clock_time(e) },
];

fn clock_time(e: &mut Expanded) {
    e.group("H", FULL_HOUR, None);
    e.text.push(':');
    e.group("M", FULL_MINUTE, None);
    e.text.push(':');
    e.group("S", FULL_SECOND, None);
}

/// Matches the years from the first to the last, both at the ends of decades.
fn decades(first: u16, last: u16) -> String {
    let mut centuries: Vec<(u16, u16, u16)> = Vec::new();
    for decade in first / 10..=last / 10 {
        match centuries.last_mut() {
            Some((century, _, to)) if *century == decade / 10 => *to = decade % 10,
            _ => centuries.push((decade / 10, decade % 10, decade % 10)),
        }
    }
    let ways: Vec<String> =
        centuries.iter().map(|(century, from, to)| format!(r"{century:02}[{from}-{to}]\d")).collect();
    ways.join("|")
}

/// What a group of this name says about the time.
pub(super) fn field(name: &str) -> Option<Field> {
    Some(match name {
        "Y" => Field::Year,
        "y" => Field::ShortYear,
        "m" => Field::Month,
        "b" | "B" => Field::MonthName,
        "d" => Field::Day,
        "H" => Field::Hour,
        "I" => Field::Hour12,
        "p" => Field::Half,
        "M" => Field::Minute,
        "S" => Field::Second,
        "j" => Field::YearDay,
        "U" => Field::SundayWeek,
        "W" => Field::MondayWeek,
        "w" => Field::WeekDay,
        "a" | "A" => Field::DayName,
        "z" | "Z" => Field::Zone,
        _ => return None,
    })
}
