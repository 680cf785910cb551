//! The regular expressions of Python 3.11's `re` (on text, not bytes), parsed into
//! [`crate::filter::syntax`]. Source of the dialect: the library reference, chapter `re`.
//!
//! Flags end here: ignore-case becomes classes with all case variants, `(?s)` a class of
//! everything, `(?m)` other assertions. Fail2Ban's own rewriting of groups that begin with such
//! flags happens before, in `tags`.

use crate::filter::syntax::{Assertion, Greed, Node, Pattern, Side};

use class::{class_of, literal, not_newline, set};

mod class;

/// Longest pattern, in characters.
pub const MAX_PATTERN: usize = 64 * 1024;
/// Deepest nesting of groups.
pub const MAX_DEPTH: u32 = 100;
/// Most places a pattern may have once its counted repeats are written out.
pub const MAX_SIZE: u64 = 200_000;

/// Why a text is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at position {position}")]
pub struct Error {
    /// Where, in characters from 0.
    pub position: usize,
    /// What is wrong.
    pub message: String,
}

/// How to read a pattern.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether `^` and `$` match at every line.
    pub multiline: bool,
}

/// Parses a regular expression.
///
/// # Errors
/// What Python rejects is rejected, and what is longer, deeper or larger than the limits.
pub fn parse(text: &str, options: Options) -> Result<Pattern, Error> {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() > MAX_PATTERN {
        return Err(Error { position: MAX_PATTERN, message: format!("pattern longer than {MAX_PATTERN} characters") });
    }
    let mut parser =
        Parser { chars, at: 0, groups: 0, names: Vec::new(), open: Vec::new(), depth: 0, widths: Vec::new() };
    let mut flags = Flags { multiline: options.multiline, ..Flags::default() };
    parser.global_flags(&mut flags)?;
    let root = parser.alternation(flags)?;
    if parser.at < parser.chars.len() {
        return Err(parser.error(parser.at, "unbalanced parenthesis"));
    }
    if size(&root) > MAX_SIZE {
        return Err(parser.error(0, "too large: its counted repeats make too many places"));
    }
    Ok(Pattern { root, groups: parser.groups, names: parser.names })
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Flags {
    ignore_case: bool,
    multiline: bool,
    dot_all: bool,
    verbose: bool,
    ascii: bool,
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    groups: u32,
    names: Vec<(String, u32)>,
    /// Groups that are not closed yet; a reference to one is an error.
    open: Vec<u32>,
    depth: u32,
    /// Width in characters of the closed groups, if fixed.
    widths: Vec<Option<(u32, u32)>>,
}

type Parsed = Result<Node, Error>;

impl Parser {
    fn error(&self, position: usize, message: impl Into<String>) -> Error {
        Error { position, message: message.into() }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(offset, c)| self.chars.get(self.at + offset) == Some(&c))
    }

    /// Flags at the very beginning, `(?im)`.
    fn global_flags(&mut self, flags: &mut Flags) -> Result<(), Error> {
        while self.starts_with("(?") {
            let rest: String = self.chars[self.at + 2..].iter().take_while(|c| c.is_ascii_lowercase()).collect();
            let end = self.at + 2 + rest.len();
            if rest.is_empty() || self.chars.get(end) != Some(&')') {
                break;
            }
            for letter in rest.chars() {
                self.set_flag(flags, letter, true)?;
            }
            self.at = end + 1;
        }
        Ok(())
    }

    fn set_flag(&self, flags: &mut Flags, letter: char, on: bool) -> Result<(), Error> {
        match letter {
            'i' => flags.ignore_case = on,
            'm' => flags.multiline = on,
            's' => flags.dot_all = on,
            'x' => flags.verbose = on,
            'a' => flags.ascii = on,
            'u' => flags.ascii = !on,
            'L' => {
                return Err(self.error(self.at, "bad inline flags: cannot use 'L' flag with a str pattern"));
            }
            _ => return Err(self.error(self.at, "unknown flag")),
        }
        Ok(())
    }

    fn alternation(&mut self, flags: Flags) -> Parsed {
        let mut branches = vec![self.sequence(flags)?];
        while self.eat('|') {
            branches.push(self.sequence(flags)?);
        }
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Alternate(branches) })
    }

    fn sequence(&mut self, flags: Flags) -> Parsed {
        let mut parts: Vec<Node> = Vec::new();
        // whether the last part may be repeated
        let mut repeatable = Repeatable::Nothing;
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            if flags.verbose {
                if c.is_whitespace() {
                    self.at += 1;
                    continue;
                }
                if c == '#' {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                    continue;
                }
            }
            let start = self.at;
            if let Some((min, max)) = self.quantifier()? {
                match repeatable {
                    Repeatable::Nothing => return Err(self.error(start, "nothing to repeat")),
                    Repeatable::Repeat => return Err(self.error(start, "multiple repeat")),
                    Repeatable::Item => {}
                }
                let greed = if self.eat('?') {
                    Greed::Lazy
                } else if self.eat('+') {
                    Greed::Possessive
                } else {
                    Greed::Greedy
                };
                let node = Box::new(parts.pop().unwrap_or(Node::Empty));
                parts.push(Node::Repeat { node, min, max, greed });
                repeatable = Repeatable::Repeat;
                continue;
            }
            match self.atom(flags)? {
                None => {}
                Some(node) => {
                    // a condition by itself cannot be repeated, in a group it can
                    let bare = matches!(node, Node::Assert(_)) && c != '(';
                    repeatable = if bare { Repeatable::Nothing } else { Repeatable::Item };
                    parts.push(node);
                }
            }
        }
        Ok(match parts.len() {
            0 => Node::Empty,
            1 => parts.remove(0),
            _ => Node::Concat(parts),
        })
    }

    /// A repeat count, if one stands here; `{` that is none is a literal.
    fn quantifier(&mut self) -> Result<Option<(u32, Option<u32>)>, Error> {
        let start = self.at;
        let range = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let Some(length) = self.chars[start..].iter().take(24).position(|c| *c == '}') else { return Ok(None) };
                let body: String = self.chars[start + 1..start + length].iter().collect();
                let (low, high) = body.split_once(',').map_or((body.as_str(), None), |(low, high)| (low, Some(high)));
                let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
                if !digits(low) || !high.is_none_or(digits) || body.is_empty() {
                    return Ok(None);
                }
                let number = |text: &str| {
                    text.parse::<u32>().map_err(|_| self.error(start, "the repetition number is too large"))
                };
                let min = if low.is_empty() { 0 } else { number(low)? };
                let max = match high {
                    None => Some(min),
                    Some("") => None,
                    Some(high) => Some(number(high)?),
                };
                if max.is_some_and(|max| max < min) {
                    return Err(self.error(start, "min repeat greater than max repeat"));
                }
                self.at = start + length;
                (min, max)
            }
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(range))
    }

    fn atom(&mut self, flags: Flags) -> Result<Option<Node>, Error> {
        let start = self.at;
        let Some(c) = self.peek() else { return Ok(None) };
        self.at += 1;
        Ok(Some(match c {
            '.' => Node::Class(class_of(&if flags.dot_all { set(&[('\0', char::MAX)]) } else { not_newline() })),
            '^' => Node::Assert(if flags.multiline { Assertion::LineStart } else { Assertion::Start }),
            '$' => Node::Assert(if flags.multiline { Assertion::LineEnd } else { Assertion::End }),
            '(' => return self.group(flags, start),
            '[' => self.class(flags, start)?,
            '\\' => self.escape(flags, start)?,
            _ => literal(c, flags),
        }))
    }

    fn group(&mut self, flags: Flags, start: usize) -> Result<Option<Node>, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(start, format!("groups nested deeper than {MAX_DEPTH}")));
        }
        let node = self.group_body(flags, start);
        self.depth -= 1;
        node
    }

    fn close(&mut self, start: usize) -> Result<(), Error> {
        if self.eat(')') { Ok(()) } else { Err(self.error(start, "missing ), unterminated subpattern")) }
    }

    fn group_body(&mut self, mut flags: Flags, start: usize) -> Result<Option<Node>, Error> {
        if !self.eat('?') {
            return self.capture(flags, start, None).map(Some);
        }
        let Some(kind) = self.peek() else { return Err(self.error(self.at, "unexpected end of pattern")) };
        self.at += 1;
        let node = match kind {
            'P' => {
                let Some(next) = self.peek() else { return Err(self.error(self.at, "unexpected end of pattern")) };
                self.at += 1;
                match next {
                    '<' => {
                        let name = self.name('>', start)?;
                        return self.capture(flags, start, Some(name)).map(Some);
                    }
                    '=' => {
                        let at = self.at;
                        let name = self.name(')', start)?;
                        let Some(group) = self.names.iter().find(|(n, _)| *n == name).map(|(_, index)| *index) else {
                            return Err(self.error(at, format!("unknown group name '{name}'")));
                        };
                        self.check_closed(group, at)?;
                        return Ok(Some(Node::Backref { group, ignore_case: flags.ignore_case }));
                    }
                    other => return Err(self.error(start, format!("unknown extension ?P{other}"))),
                }
            }
            ':' => self.alternation(flags)?,
            '#' => {
                while self.peek().is_some_and(|c| c != ')') {
                    self.at += 1;
                }
                if !self.eat(')') {
                    return Err(self.error(start, "missing ), unterminated comment"));
                }
                return Ok(None);
            }
            '>' => Node::Atomic(Box::new(self.alternation(flags)?)),
            '=' | '!' => {
                let node = Box::new(self.alternation(flags)?);
                Node::Look { node, side: Side::Ahead, negative: kind == '!' }
            }
            '<' => {
                let negative = match self.peek() {
                    Some('=') => false,
                    Some('!') => true,
                    Some(other) => return Err(self.error(start, format!("unknown extension ?<{other}"))),
                    None => return Err(self.error(self.at, "unexpected end of pattern")),
                };
                self.at += 1;
                let node = self.alternation(flags)?;
                let (low, high) = self.width(&node);
                if high != Some(low) {
                    return Err(self.error(start, "look-behind requires fixed-width pattern"));
                }
                Node::Look { node: Box::new(node), side: Side::Behind(low), negative }
            }
            '(' => self.conditional(flags, start)?,
            'a'..='z' | 'A'..='Z' | '-' => {
                self.at -= 1;
                let at = self.at;
                let mut on = true;
                loop {
                    match self.peek() {
                        Some('-') if on => on = false,
                        Some(':') => break,
                        Some(')') => {
                            return Err(self.error(start, "global flags not at the start of the expression"));
                        }
                        Some(letter) => self.set_flag(&mut flags, letter, on)?,
                        None => return Err(self.error(self.at, "missing -, : or )")),
                    }
                    self.at += 1;
                }
                if self.at == at {
                    return Err(self.error(at, "missing flag"));
                }
                self.at += 1;
                self.alternation(flags)?
            }
            other => return Err(self.error(start, format!("unknown extension ?{other}"))),
        };
        self.close(start)?;
        Ok(Some(node))
    }

    fn capture(&mut self, flags: Flags, start: usize, name: Option<String>) -> Parsed {
        self.groups += 1;
        let index = self.groups;
        if let Some(name) = name {
            if let Some((_, earlier)) = self.names.iter().find(|(n, _)| *n == name) {
                let message = format!("redefinition of group name '{name}' as group {index}; was group {earlier}");
                return Err(self.error(start, message));
            }
            self.names.push((name, index));
        }
        self.open.push(index);
        self.widths.push(None);
        let node = Box::new(self.alternation(flags)?);
        self.close(start)?;
        self.open.pop();
        let (low, high) = self.width(&node);
        self.widths[index as usize - 1] = high.map(|high| (low, high));
        Ok(Node::Capture { index, node })
    }

    fn name(&mut self, end: char, start: usize) -> Result<String, Error> {
        let from = self.at;
        while self.peek().is_some_and(|c| c != end) {
            self.at += 1;
        }
        let name: String = self.chars[from..self.at].iter().collect();
        if !self.eat(end) {
            return Err(self.error(start, format!("missing {end}, unterminated name")));
        }
        let first = name.chars().next();
        if first.is_none() {
            return Err(self.error(from, "missing group name"));
        }
        let good = first.is_some_and(|c| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if good { Ok(name) } else { Err(self.error(from, format!("bad character in group name '{name}'"))) }
    }

    fn check_closed(&self, group: u32, at: usize) -> Result<(), Error> {
        if self.open.contains(&group) { Err(self.error(at, "cannot refer to an open group")) } else { Ok(()) }
    }

    fn conditional(&mut self, flags: Flags, start: usize) -> Parsed {
        let at = self.at;
        let text: String = self.chars[at..].iter().take_while(|c| **c != ')').collect();
        let group = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            self.at += text.len() + 1;
            text.parse().unwrap_or(u32::MAX)
        } else {
            let name = self.name(')', start)?;
            self.names
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, index)| *index)
                .ok_or_else(|| self.error(at, format!("unknown group name '{name}'")))?
        };
        if group == 0 {
            return Err(self.error(at, "bad group number"));
        }
        if group > self.groups {
            return Err(self.error(at, format!("invalid group reference {group}")));
        }
        let yes = Box::new(self.sequence(flags)?);
        let no = Box::new(if self.eat('|') { self.sequence(flags)? } else { Node::Empty });
        if self.peek() == Some('|') {
            return Err(self.error(self.at, "conditional backref with more than two branches"));
        }
        Ok(Node::Conditional { group, yes, no })
    }

    /// Least and greatest width in characters; no greatest one if it is not bounded.
    fn width(&self, node: &Node) -> (u32, Option<u32>) {
        match node {
            Node::Empty | Node::Assert(_) | Node::Look { .. } => (0, Some(0)),
            Node::Char(_) | Node::Class(_) => (1, Some(1)),
            Node::Concat(parts) => parts.iter().fold((0, Some(0)), |(low, high), part| {
                let (l, h) = self.width(part);
                (low.saturating_add(l), high.zip(h).map(|(a, b): (u32, u32)| a.saturating_add(b)))
            }),
            Node::Alternate(branches) => self.widest(branches.iter()),
            Node::Repeat { node, min, max, .. } => {
                let (low, high) = self.width(node);
                let most = if high == Some(0) { Some(0) } else { high.zip(*max).map(|(a, b)| a.saturating_mul(b)) };
                (low.saturating_mul(*min), most)
            }
            Node::Capture { node, .. } | Node::Atomic(node) => self.width(node),
            Node::Backref { group, .. } => match self.widths.get(*group as usize - 1) {
                Some(Some((low, high))) => (*low, Some(*high)),
                _ => (0, None),
            },
            Node::Conditional { yes, no, .. } => self.widest([&**yes, &**no].into_iter()),
        }
    }

    fn widest<'n>(&self, nodes: impl Iterator<Item = &'n Node>) -> (u32, Option<u32>) {
        nodes
            .map(|node| self.width(node))
            .reduce(|(low, high), (l, h)| (low.min(l), high.zip(h).map(|(a, b)| a.max(b))))
            .unwrap_or((0, Some(0)))
    }
}

enum Repeatable {
    Nothing,
    Item,
    Repeat,
}

/// Places of the program that a pattern makes.
fn size(node: &Node) -> u64 {
    match node {
        Node::Concat(parts) | Node::Alternate(parts) => parts.iter().map(size).fold(1, u64::saturating_add),
        Node::Repeat { node, min, max, .. } => {
            size(node).saturating_mul(u64::from(max.unwrap_or(*min).max(*min).max(1))).saturating_add(2)
        }
        Node::Capture { node, .. } | Node::Atomic(node) | Node::Look { node, .. } => size(node).saturating_add(2),
        Node::Conditional { yes, no, .. } => size(yes).saturating_add(size(no)).saturating_add(2),
        _ => 1,
    }
}
