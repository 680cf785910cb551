//! Single characters of a regular expression: escapes, classes, and their case variants.

use std::sync::Arc;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use crate::filter::syntax::{Assertion, Class, Node};
use crate::filter::unicode;

use super::{Error, Flags, Parsed, Parser};

impl Parser {
    /// An escape outside of a class; the backslash is consumed.
    pub(super) fn escape(&mut self, flags: Flags, start: usize) -> Parsed {
        let Some(c) = self.peek() else { return Err(self.error(start, "bad escape (end of pattern)")) };
        self.at += 1;
        let ascii = flags.ascii;
        Ok(match c {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => Node::Class(class_of(&category(c, ascii))),
            'A' => Node::Assert(Assertion::Start),
            'Z' => Node::Assert(Assertion::VeryEnd),
            'b' => Node::Assert(Assertion::WordBoundary { ascii }),
            'B' => Node::Assert(Assertion::NotWordBoundary { ascii }),
            '0' => {
                let code = self.octal(1, 2)?;
                literal(code, flags)
            }
            '1'..='9' => {
                let second = self.peek().filter(char::is_ascii_digit);
                if let Some(second) = second {
                    let third = self.chars.get(self.at + 1).copied();
                    if c <= '7' && second <= '7' && third.is_some_and(|t| ('0'..='7').contains(&t)) {
                        self.at -= 1;
                        let code = self.octal_value(3);
                        if code > 0o377 {
                            return Err(self.error(start, "octal escape value outside of range 0-0o377"));
                        }
                        return Ok(literal(char::from_u32(code).unwrap_or('\0'), flags));
                    }
                    self.at += 1;
                }
                let digits: String = [Some(c), second].into_iter().flatten().collect();
                let group = digits.parse().unwrap_or(u32::MAX);
                if group > self.groups {
                    return Err(self.error(start + 1, format!("invalid group reference {group}")));
                }
                self.check_closed(group, start + 1)?;
                Node::Backref { group, ignore_case: flags.ignore_case }
            }
            _ => literal(self.simple_escape(c, start)?, flags),
        })
    }

    fn octal_value(&mut self, most: usize) -> u32 {
        let mut code = 0;
        for _ in 0..most {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.at += 1;
        }
        code
    }

    fn octal(&mut self, _first: usize, more: usize) -> Result<char, Error> {
        Ok(char::from_u32(self.octal_value(more)).unwrap_or('\0'))
    }

    /// Escapes that mean one character, inside and outside of classes.
    fn simple_escape(&mut self, c: char, start: usize) -> Result<char, Error> {
        Ok(match c {
            'a' => '\u{7}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => self.hex(2, start)?,
            'u' => self.hex(4, start)?,
            'U' => self.hex(8, start)?,
            'N' => return Err(self.error(start, "character names (\\N{…}) are not supported; use \\u")),
            _ if c.is_ascii_alphabetic() => return Err(self.error(start, format!("bad escape \\{c}"))),
            _ => c,
        })
    }

    fn hex(&mut self, digits: usize, start: usize) -> Result<char, Error> {
        let text: String = self.chars[self.at..].iter().take(digits).take_while(|c| c.is_ascii_hexdigit()).collect();
        let letter = self.chars[self.at - 1];
        if text.len() < digits {
            return Err(self.error(start, format!("incomplete escape \\{letter}{text}")));
        }
        self.at += digits;
        u32::from_str_radix(&text, 16)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| self.error(start, format!("bad escape \\{letter}{text}")))
    }

    pub(super) fn class(&mut self, flags: Flags, start: usize) -> Parsed {
        let negated = self.eat('^');
        let mut class = ClassUnicode::empty();
        let first = self.at;
        loop {
            let Some(c) = self.peek() else { return Err(self.error(start, "unterminated character set")) };
            let item_at = self.at;
            self.at += 1;
            if c == ']' && item_at != first {
                break;
            }
            let low = match self.class_item(c, item_at, flags)? {
                Item::Set(set) => {
                    if self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']') {
                        let end: String = self.chars[item_at..(self.at + 2).min(self.chars.len())].iter().collect();
                        return Err(self.error(item_at, format!("bad character range {end}")));
                    }
                    class.union(&set);
                    continue;
                }
                Item::Char(c) => c,
            };
            if self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']') {
                self.at += 1;
                let high_at = self.at;
                let Some(c) = self.peek() else { return Err(self.error(start, "unterminated character set")) };
                self.at += 1;
                let text = |parser: &Parser| parser.chars[item_at..parser.at].iter().collect::<String>();
                match self.class_item(c, high_at, flags)? {
                    Item::Char(high) if high >= low => class.union(&set(&[(low, high)])),
                    _ => return Err(self.error(item_at, format!("bad character range {}", text(self)))),
                }
            } else {
                if self.peek() == Some('-') && self.chars.get(self.at + 1).is_none() {
                    return Err(self.error(start, "unterminated character set"));
                }
                class.union(&set(&[(low, low)]));
            }
        }
        if flags.ignore_case {
            fold(&mut class, flags.ascii);
        }
        if negated {
            class.negate();
        }
        Ok(Node::Class(class_of(&class)))
    }

    fn class_item(&mut self, c: char, at: usize, flags: Flags) -> Result<Item, Error> {
        if c != '\\' {
            return Ok(Item::Char(c));
        }
        let Some(escaped) = self.peek() else { return Err(self.error(at, "bad escape (end of pattern)")) };
        self.at += 1;
        Ok(match escaped {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => Item::Set(category(escaped, flags.ascii)),
            'b' => Item::Char('\u{8}'),
            '0'..='7' => {
                self.at -= 1;
                let code = self.octal_value(3);
                if code > 0o377 {
                    return Err(self.error(at, "octal escape value outside of range 0-0o377"));
                }
                Item::Char(char::from_u32(code).unwrap_or('\0'))
            }
            '8' | '9' => return Err(self.error(at, format!("bad escape \\{escaped}"))),
            _ => Item::Char(self.simple_escape(escaped, at)?),
        })
    }
}

enum Item {
    Char(char),
    Set(ClassUnicode),
}

pub(super) fn set(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(first, last)| ClassUnicodeRange::new(*first, *last)))
}

pub(super) fn not_newline() -> ClassUnicode {
    set(&[('\0', '\u{9}'), ('\u{b}', char::MAX)])
}

/// Sorted, inclusive ranges of characters.
type Ranges = &'static [(char, char)];

/// The sets behind `\d`, `\s`, `\w` and their opposites.
fn category(letter: char, ascii: bool) -> ClassUnicode {
    let (plain, beyond): (Ranges, Ranges) = match letter.to_ascii_lowercase() {
        'd' => (&[('0', '9')], unicode::DIGIT),
        'w' => (&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')], unicode::WORD),
        _ if ascii => (&[('\t', '\r'), (' ', ' ')], &[]),
        _ => (
            &[('\t', '\r'), ('\u{1c}', ' ')],
            &[
                ('\u{85}', '\u{85}'),
                ('\u{a0}', '\u{a0}'),
                ('\u{1680}', '\u{1680}'),
                ('\u{2000}', '\u{200a}'),
                ('\u{2028}', '\u{2029}'),
                ('\u{202f}', '\u{202f}'),
                ('\u{205f}', '\u{205f}'),
                ('\u{3000}', '\u{3000}'),
            ],
        ),
    };
    let mut class = set(plain);
    if !ascii {
        class.union(&set(beyond));
    }
    if letter.is_ascii_uppercase() {
        class.negate();
    }
    class
}

/// Adds the case variants of all members.
fn fold(class: &mut ClassUnicode, ascii: bool) {
    let mut variants = Vec::new();
    for range in class.ranges() {
        let start = unicode::CASES.partition_point(|&(c, _)| c < range.start());
        let pairs = unicode::CASES[start..].iter().take_while(|&&(c, _)| c <= range.end());
        let wanted = pairs.filter(|(c, other)| !ascii || c.is_ascii() && other.is_ascii());
        variants.extend(wanted.map(|&(_, other)| (other, other)));
    }
    class.union(&set(&variants));
}

pub(super) fn class_of(class: &ClassUnicode) -> Class {
    let mut ascii = 0_u128;
    let mut other = Vec::new();
    for range in class.ranges() {
        for code in range.start() as u32..=(range.end() as u32).min(127) {
            ascii |= 1 << code;
        }
        if range.end() >= '\u{80}' {
            other.push((range.start().max('\u{80}'), range.end()));
        }
    }
    Class { ascii, other: Arc::from(other) }
}

pub(super) fn literal(c: char, flags: Flags) -> Node {
    if !flags.ignore_case {
        return Node::Char(c);
    }
    let mut class = set(&[(c, c)]);
    fold(&mut class, flags.ascii);
    match class.ranges() {
        [only] if only.start() == only.end() => Node::Char(c),
        _ => Node::Class(class_of(&class)),
    }
}
