//! Reads the regular expressions of date patterns until the parser of all of them is there.
//! Beyond ASCII its classes are approximate.

use super::{Assertion, Class, Greed, Node, Pattern};

type Result<T> = std::result::Result<T, (usize, String)>;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    ignore_case: bool,
    groups: u32,
    names: Vec<(String, u32)>,
}

pub(super) fn parse(text: &str, flags: &str) -> Result<Pattern> {
    let mut parser = Parser { text, at: 0, ignore_case: flags.contains('i'), groups: 0, names: Vec::new() };
    let root = parser.alternate()?;
    if parser.at < text.len() {
        return parser.wrong("unbalanced parenthesis");
    }
    Ok(Pattern { root, groups: parser.groups, names: parser.names })
}

const DIGIT: u128 = 0x03ff << b'0';
const WORD: u128 = DIGIT | 0x07ff_fffe << 64 | 0x07ff_fffe << 96 | 1 << b'_';
const SPACE: u128 = 0x3e00 | 0xf000_0000 | 1 << b' ';

fn class(ascii: u128, high: bool) -> Class {
    let other: &[(char, char)] = if high { &[('\u{80}', char::MAX)] } else { &[] };
    Class { ascii, other: other.into() }
}

impl Parser<'_> {
    fn wrong<T>(&self, reason: &str) -> Result<T> {
        Err((self.at, reason.to_owned()))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, what: &str) -> bool {
        let there = self.text[self.at..].starts_with(what);
        if there {
            self.at += what.len();
        }
        there
    }

    fn alternate(&mut self) -> Result<Node> {
        let mut ways = vec![self.concat()?];
        while self.eat("|") {
            ways.push(self.concat()?);
        }
        Ok(if ways.len() == 1 { ways.remove(0) } else { Node::Alternate(ways) })
    }

    fn concat(&mut self) -> Result<Node> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let node = self.atom(c)?;
            nodes.push(self.repeat(node)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Concat(nodes) })
    }

    fn repeat(&mut self, node: Node) -> Result<Node> {
        let (min, max) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let Some(end) = self.text[self.at..].find('}') else { return Ok(node) };
                let inside = &self.text[self.at + 1..self.at + end];
                let (a, b) = inside.split_once(',').map_or((inside, Some(inside)), |(a, b)| (a, Some(b)));
                let (Ok(min), b) = (a.parse::<u32>(), b.unwrap_or("")) else { return Ok(node) };
                let max = if b.is_empty() { None } else { b.parse().ok() };
                self.at += end;
                (min, max)
            }
            _ => return Ok(node),
        };
        self.at += 1;
        if matches!(node, Node::Assert(_)) {
            return self.wrong("nothing to repeat");
        }
        let greed = if self.eat("?") { Greed::Lazy } else { Greed::Greedy };
        if matches!(self.peek(), Some('*' | '+')) {
            return self.wrong("multiple repeat");
        }
        Ok(Node::Repeat { node: Box::new(node), min, max, greed })
    }

    fn char(&self, c: char) -> Node {
        if self.ignore_case && c.is_alphabetic() {
            let (a, b) = (c.to_ascii_lowercase(), c.to_ascii_uppercase());
            let high = matches!(a, 's' | 'k' | 'i') || !c.is_ascii();
            return Node::Class(class(if c.is_ascii() { 1 << a as u32 | 1 << b as u32 } else { 0 }, high));
        }
        Node::Char(c)
    }

    fn escape(&mut self) -> Result<Option<Class>> {
        Ok(Some(match self.peek() {
            Some('d') => class(DIGIT, true),
            Some('D') => class(!DIGIT, true),
            Some('w') => class(WORD, true),
            Some('W') => class(!WORD, true),
            Some('s') => class(SPACE, true),
            Some('S') => class(!SPACE, true),
            _ => return Ok(None),
        }))
    }

    fn atom(&mut self, c: char) -> Result<Node> {
        let begin = self.at;
        self.at += c.len_utf8();
        Ok(match c {
            '^' => Node::Assert(Assertion::Start),
            '$' => Node::Assert(Assertion::End),
            '.' => Node::Class(class(!(1 << b'\n'), true)),
            '[' => self.set()?,
            '\\' => {
                if let Some(class) = self.escape()? {
                    self.at += 1;
                    return Ok(Node::Class(class));
                }
                let Some(c) = self.peek() else { return self.wrong("bad escape (end of pattern)") };
                self.at += c.len_utf8();
                match c {
                    'b' => Node::Assert(Assertion::WordBoundary { ascii: false }),
                    'A' => Node::Assert(Assertion::Start),
                    'Z' => Node::Assert(Assertion::VeryEnd),
                    't' => Node::Char('\t'),
                    c if c.is_ascii_alphanumeric() => return self.wrong("bad escape"),
                    c => Node::Char(c),
                }
            }
            '(' => {
                let mut name = None;
                let mut capture = true;
                if self.eat("?:") {
                    capture = false;
                } else if self.eat("?P<") {
                    let Some(end) = self.text[self.at..].find('>') else { return self.wrong("missing >") };
                    name = Some(self.text[self.at..self.at + end].to_owned());
                    self.at += end + 1;
                } else if self.eat("?P=") {
                    let Some(end) = self.text[self.at..].find(')') else { return self.wrong("missing )") };
                    let name = &self.text[self.at..self.at + end];
                    let Some((_, group)) = self.names.iter().find(|(n, _)| n == name) else {
                        return self.wrong("unknown group name");
                    };
                    let group = *group;
                    self.at += end + 1;
                    return Ok(Node::Backref { group, ignore_case: self.ignore_case });
                } else if self.eat("?i:") {
                    let before = std::mem::replace(&mut self.ignore_case, true);
                    let node = self.alternate()?;
                    self.ignore_case = before;
                    return if self.eat(")") { Ok(node) } else { self.wrong("missing )") };
                } else if self.eat("?") {
                    let behind = self.eat("<=");
                    let node = if behind || self.eat("=") {
                        self.alternate()?
                    } else {
                        return self.wrong("unknown extension");
                    };
                    if !self.eat(")") {
                        return self.wrong("missing ), unterminated subpattern");
                    }
                    use crate::filter::syntax::Side;
                    let side = if behind { Side::Behind(width(&node)) } else { Side::Ahead };
                    return Ok(Node::Look { node: Box::new(node), side, negative: false });
                }
                let mut index = 0;
                if capture {
                    self.groups += 1;
                    index = self.groups;
                }
                if let Some(name) = name {
                    if self.names.iter().any(|(n, _)| *n == name) {
                        return self.wrong("redefinition of group name");
                    }
                    self.names.push((name, index));
                }
                let node = self.alternate()?;
                if !self.eat(")") {
                    self.at = begin;
                    return self.wrong("missing ), unterminated subpattern");
                }
                if capture { Node::Capture { index, node: Box::new(node) } } else { node }
            }
            '*' | '+' | '?' => return self.wrong("nothing to repeat"),
            c => self.char(c),
        })
    }

    fn set(&mut self) -> Result<Node> {
        let negated = self.eat("^");
        let (mut ascii, mut high, mut first) = (0u128, false, true);
        loop {
            let Some(c) = self.peek() else { return self.wrong("unterminated character set") };
            self.at += c.len_utf8();
            if c == ']' && !first {
                break;
            }
            first = false;
            let mut low = c;
            if c == '\\' {
                if let Some(class) = self.escape()? {
                    self.at += 1;
                    ascii |= class.ascii;
                    high = true;
                    continue;
                }
                let Some(c) = self.peek() else { return self.wrong("unterminated character set") };
                self.at += c.len_utf8();
                low = c;
            }
            let mut top = low;
            if self.text[self.at..].starts_with('-') && !self.text[self.at..].starts_with("-]") {
                self.at += 1;
                let Some(c) = self.peek() else { return self.wrong("unterminated character set") };
                self.at += c.len_utf8();
                top = c;
            }
            high |= !top.is_ascii();
            for n in low as u32..=(top as u32).min(127) {
                ascii |= 1 << n;
                if self.ignore_case {
                    let c = n as u8;
                    ascii |= 1 << c.to_ascii_lowercase() | 1 << c.to_ascii_uppercase();
                    high |= matches!(c.to_ascii_lowercase(), b's' | b'k' | b'i');
                }
            }
        }
        Ok(Node::Class(if negated { class(!ascii, true) } else { class(ascii, high) }))
    }
}

pub(super) fn other_than_word() -> Class {
    class(!WORD, true)
}

fn width(node: &Node) -> u32 {
    match node {
        Node::Concat(nodes) => nodes.iter().map(width).sum(),
        Node::Assert(_) => 0,
        _ => 1,
    }
}
