//! Pickle to value.
//!
//! Objects stand in an arena and refer to each other by number, so that an object used a
//! thousand times costs one until the value is built, and a list inside of itself is found out.

use std::collections::HashMap;

use super::{EXCEPTIONS, Error, MAX_DEPTH, MAX_OBJECTS, MAX_STACK, MAX_VALUE};
use crate::control::{Failure, FailureKind, Reply, Value};

/// Reads a request.
///
/// # Errors
/// If it is no data, or too large.
pub fn value(pickle: &[u8]) -> Result<Value, Error> {
    let mut machine = Machine::new(pickle, false);
    let root = machine.run()?;
    machine.build(root, 0, &mut 0)
}

/// What a server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// `(0, value)` or `(1, exception)`.
    Reply(Reply),
    /// Anything else, such as `ERROR: …` or `['SHUTDOWN']`.
    Other(Value),
}

/// Reads a reply.
///
/// # Errors
/// If it is neither data nor a failure, or too large.
pub fn answer(pickle: &[u8]) -> Result<Answer, Error> {
    let mut machine = Machine::new(pickle, true);
    let root = machine.run()?;
    let mut size = 0;
    if let Object::Tuple(items) = machine.object(root)?
        && let [code, result] = items[..]
        && let Object::Int(code) = *machine.object(code)?
    {
        if let Object::Exception(kind, arguments) = *machine.object(result)? {
            let arguments = match machine.build(arguments, 0, &mut size)? {
                Value::Tuple(arguments) | Value::List(arguments) => arguments,
                other => vec![other],
            };
            return Ok(Answer::Reply(Err(Failure { kind, arguments })));
        }
        let value = machine.build(result, 0, &mut size)?;
        return Ok(Answer::Reply(if code == 0 {
            Ok(value)
        } else {
            Err(Failure { kind: FailureKind::Exception, arguments: vec![value] })
        }));
    }
    machine.build(root, 0, &mut size).map(Answer::Other)
}

type Place = u32;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Callable {
    Str,
    List,
    Set,
    /// An entry `file:PATH` of `ignoreip`, which 1.1 sends as the object it is.
    FileSet,
    Exception(FailureKind),
}

#[derive(Debug)]
enum Object {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Place>),
    Tuple(Vec<Place>),
    Dict(Vec<(Place, Place)>),
    Set(Vec<Place>),
    Callable(Callable),
    Exception(FailureKind, Place),
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    replies: bool,
    objects: Vec<Object>,
    stack: Vec<Place>,
    marks: Vec<usize>,
    memo: HashMap<u32, Place>,
    /// Elements that calls have copied.
    copied: usize,
}

impl<'a> Machine<'a> {
    fn new(input: &'a [u8], replies: bool) -> Machine<'a> {
        Machine {
            input,
            at: 0,
            replies,
            objects: vec![],
            stack: vec![],
            marks: vec![],
            memo: HashMap::new(),
            copied: 0,
        }
    }

    fn malformed<T>(&self) -> Result<T, Error> {
        Err(Error::Malformed(self.at))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(length).ok_or(Error::Truncated)?;
        let bytes = self.input.get(self.at..end).ok_or(Error::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    /// A little-endian number of so many bytes, at most 8.
    fn unsigned(&mut self, length: usize) -> Result<u64, Error> {
        Ok(self.take(length)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Bytes after their length.
    fn counted(&mut self, length_bytes: usize) -> Result<&'a [u8], Error> {
        let length = self.unsigned(length_bytes)?;
        self.take(usize::try_from(length).map_err(|_| Error::Truncated)?)
    }

    /// The rest of the line, without its end.
    fn line(&mut self) -> Result<&'a [u8], Error> {
        let rest = &self.input[self.at..];
        let end = memchr::memchr(b'\n', rest).ok_or(Error::Truncated)?;
        self.at += end + 1;
        let line = &rest[..end];
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn text_line(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.line()?).map_err(|_| Error::Malformed(self.at))
    }

    fn push(&mut self, object: Object) -> Result<(), Error> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(Error::TooLarge("a million objects"));
        }
        self.objects.push(object);
        self.push_place(self.objects.len() as Place - 1)
    }

    fn push_place(&mut self, place: Place) -> Result<(), Error> {
        if self.stack.len() >= MAX_STACK {
            return Err(Error::TooLarge("200,000 objects on the stack"));
        }
        self.stack.push(place);
        Ok(())
    }

    fn push_text(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.push(Object::Text(String::from_utf8_lossy(bytes).into_owned()))
    }

    /// Takes the topmost object that is above the last mark.
    fn pop(&mut self) -> Result<Place, Error> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return self.malformed();
        }
        self.stack.pop().ok_or(Error::Malformed(self.at))
    }

    /// Takes everything above the last mark, and the mark.
    fn pop_mark(&mut self) -> Result<Vec<Place>, Error> {
        let mark = self.marks.pop().ok_or(Error::Malformed(self.at))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn top(&self) -> Result<Place, Error> {
        self.stack.last().copied().ok_or(Error::Malformed(self.at))
    }

    fn object(&self, place: Place) -> Result<&Object, Error> {
        self.objects.get(place as usize).ok_or(Error::Malformed(self.at))
    }

    fn top_object(&mut self) -> Result<&mut Object, Error> {
        let (place, at) = (self.top()?, self.at);
        self.objects.get_mut(place as usize).ok_or(Error::Malformed(at))
    }

    fn pairs(&self, items: Vec<Place>) -> Result<Vec<(Place, Place)>, Error> {
        if !items.len().is_multiple_of(2) {
            return self.malformed();
        }
        Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    fn append(&mut self, more: Vec<Place>) -> Result<(), Error> {
        match self.top_object()? {
            Object::List(items) => items.extend(more),
            _ => return self.malformed(),
        }
        Ok(())
    }

    fn put(&mut self, key: u32) -> Result<(), Error> {
        let place = self.top()?;
        self.memo.insert(key, place);
        Ok(())
    }

    fn get(&mut self, key: u32) -> Result<(), Error> {
        match self.memo.get(&key) {
            Some(place) => self.push_place(*place),
            None => self.malformed(),
        }
    }

    fn number_line<T: std::str::FromStr>(&mut self) -> Result<T, Error> {
        let text = self.text_line()?;
        text.trim().parse().map_err(|_| Error::Malformed(self.at))
    }

    /// Two's complement, little-endian, any length; what does not fit into 64 bits is refused.
    fn long(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let filler = if negative { 0xff } else { 0 };
        if bytes.iter().skip(8).any(|byte| *byte != filler) || bytes.len() > 8 && (bytes[7] & 0x80 != 0) != negative {
            return Err(Error::TooLarge("64 bits of a number"));
        }
        let mut full = [filler; 8];
        let length = bytes.len().min(8);
        full[..length].copy_from_slice(&bytes[..length]);
        self.push(Object::Int(i64::from_le_bytes(full)))
    }

    fn callable(&mut self, module: &str, name: &str) -> Result<(), Error> {
        let builtin = matches!(module, "builtins" | "__builtin__");
        let callable = match name {
            "str" | "unicode" if builtin => Callable::Str,
            "list" if builtin => Callable::List,
            "set" | "frozenset" if builtin => Callable::Set,
            _ if self.replies => {
                let module = if matches!(module, "__builtin__" | "exceptions") { "builtins" } else { module };
                let known = EXCEPTIONS.iter().find(|(m, n, _)| (*m, *n) == (module, name));
                match known {
                    None if (module, name) == ("fail2ban.server.ipdns", "FileIPAddrSet") => Callable::FileSet,
                    Some((_, _, kind)) => Callable::Exception(*kind),
                    // whatever else Python raises is a failure like any other; nothing is called
                    None if module == "builtins" && (name.ends_with("Error") || name.ends_with("Exception")) => {
                        Callable::Exception(FailureKind::Exception)
                    }
                    None => return Err(Error::Forbidden(shown(module, name))),
                }
            }
            _ => return Err(Error::Forbidden(shown(module, name))),
        };
        self.push(Object::Callable(callable))
    }

    /// "Calls" what may be called: makes the value that the call would return.
    fn reduce(&mut self) -> Result<(), Error> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let Object::Callable(callable) = *self.object(callable)? else { return self.malformed() };
        if let Callable::Exception(kind) = callable {
            return self.push(Object::Exception(kind, arguments));
        }
        if callable == Callable::FileSet {
            return self.push(Object::Text("file:".to_owned()));
        }
        let argument = match self.object(arguments)? {
            Object::Tuple(items) if items.len() <= 1 => items.first().copied(),
            _ => return self.malformed(),
        };
        let items = match argument.map(|argument| self.object(argument)).transpose()? {
            None => Vec::new(),
            Some(Object::Text(_)) if callable == Callable::Str => {
                return self.push_place(argument.unwrap_or_default());
            }
            Some(Object::List(items) | Object::Tuple(items) | Object::Set(items)) if callable != Callable::Str => {
                items.clone()
            }
            Some(_) => return self.malformed(),
        };
        self.copied += items.len();
        if self.copied > MAX_OBJECTS {
            return Err(Error::TooLarge("a million objects"));
        }
        match callable {
            Callable::Str => self.push(Object::Text(String::new())),
            Callable::List => self.push(Object::List(items)),
            _ => self.push(Object::Set(items)),
        }
    }

    /// The attributes of an object: of interest is only the name of a file.
    fn attributes(&mut self) -> Result<(), Error> {
        let attributes = self.pop()?;
        let mut path = None;
        if let Object::Dict(pairs) = self.object(attributes)? {
            for (key, value) in pairs {
                if let (Object::Text(key), Object::Text(value)) = (self.object(*key)?, self.object(*value)?)
                    && key == "fileName"
                {
                    path = Some(format!("file:/{value}"));
                }
            }
        }
        match (self.top_object()?, path) {
            (Object::Exception(..), _) => Ok(()),
            (Object::Text(text), Some(path)) if text == "file:" => {
                *text = path;
                Ok(())
            }
            _ => self.malformed(),
        }
    }

    fn run(&mut self) -> Result<Place, Error> {
        if self.input.is_empty() {
            return Err(Error::Empty);
        }
        loop {
            let opcode = self.take(1)?[0];
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    let protocol = self.take(1)?[0];
                    if protocol > 5 {
                        return self.malformed();
                    }
                }
                0x95 => _ = self.take(8)?,
                b'(' => {
                    if self.marks.len() >= MAX_STACK {
                        return Err(Error::TooLarge("200,000 marks"));
                    }
                    self.marks.push(self.stack.len());
                }
                b'0' => {
                    // POP takes a mark, if that is what lies on top
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop();
                    } else {
                        self.pop()?;
                    }
                }
                b'1' => _ = self.pop_mark()?,
                b'2' => {
                    let top = self.top()?;
                    self.push_place(top)?;
                }
                b'N' => self.push(Object::None)?,
                0x88 => self.push(Object::Bool(true))?,
                0x89 => self.push(Object::Bool(false))?,
                b'I' => match self.text_line()? {
                    "00" => self.push(Object::Bool(false))?,
                    "01" => self.push(Object::Bool(true))?,
                    text => {
                        let number = text.trim().parse().map_err(|_| Error::Malformed(self.at))?;
                        self.push(Object::Int(number))?;
                    }
                },
                b'L' => {
                    let text = self.text_line()?.trim();
                    let number = text.trim_end_matches(['L', 'l']).parse().map_err(|_| Error::Malformed(self.at))?;
                    self.push(Object::Int(number))?;
                }
                0x8a => {
                    let bytes = self.counted(1)?;
                    self.long(bytes)?;
                }
                0x8b => {
                    let bytes = self.counted(4)?;
                    self.long(bytes)?;
                }
                b'J' => {
                    let number = self.unsigned(4)? as u32 as i32;
                    self.push(Object::Int(number.into()))?;
                }
                b'K' => {
                    let number = self.unsigned(1)? as i64;
                    self.push(Object::Int(number))?;
                }
                b'M' => {
                    let number = self.unsigned(2)? as i64;
                    self.push(Object::Int(number))?;
                }
                b'F' => {
                    let number = self.number_line()?;
                    self.push(Object::Float(number))?;
                }
                b'G' => {
                    // the only number with its highest byte first
                    let number = f64::from_bits(self.unsigned(8)?.swap_bytes());
                    self.push(Object::Float(number))?;
                }
                b'S' => {
                    let line = self.line()?;
                    let text = quoted(line).ok_or(Error::Malformed(self.at))?;
                    self.push_text(&text)?;
                }
                b'V' => {
                    let line = self.line()?;
                    let text = raw_unicode(line);
                    self.push(Object::Text(text))?;
                }
                b'U' | b'C' | 0x8c => {
                    let bytes = self.counted(1)?;
                    self.push_text(bytes)?;
                }
                b'T' | b'B' | b'X' => {
                    let bytes = self.counted(4)?;
                    self.push_text(bytes)?;
                }
                0x8d | 0x8e => {
                    let bytes = self.counted(8)?;
                    self.push_text(bytes)?;
                }
                b']' => self.push(Object::List(Vec::new()))?,
                b')' => self.push(Object::Tuple(Vec::new()))?,
                b'}' => self.push(Object::Dict(Vec::new()))?,
                0x8f => self.push(Object::Set(Vec::new()))?,
                b'l' => {
                    let items = self.pop_mark()?;
                    self.push(Object::List(items))?;
                }
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(Object::Tuple(items))?;
                }
                b'd' => {
                    let items = self.pop_mark()?;
                    let pairs = self.pairs(items)?;
                    self.push(Object::Dict(pairs))?;
                }
                0x91 => {
                    let items = self.pop_mark()?;
                    self.push(Object::Set(items))?;
                }
                0x85..=0x87 => {
                    let length = usize::from(opcode - 0x84);
                    let mut items = Vec::with_capacity(length);
                    for _ in 0..length {
                        items.push(self.pop()?);
                    }
                    items.reverse();
                    self.push(Object::Tuple(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.append(items)?;
                }
                b's' | b'u' => {
                    let items = if opcode == b'u' {
                        self.pop_mark()?
                    } else {
                        let (value, key) = (self.pop()?, self.pop()?);
                        vec![key, value]
                    };
                    let more = self.pairs(items)?;
                    match self.top_object()? {
                        Object::Dict(pairs) => pairs.extend(more),
                        _ => return self.malformed(),
                    }
                }
                0x90 => {
                    let more = self.pop_mark()?;
                    match self.top_object()? {
                        Object::Set(items) => items.extend(more),
                        _ => return self.malformed(),
                    }
                }
                b'p' => {
                    let key = self.number_line()?;
                    self.put(key)?;
                }
                b'q' => {
                    let key = self.unsigned(1)? as u32;
                    self.put(key)?;
                }
                b'r' => {
                    let key = self.unsigned(4)? as u32;
                    self.put(key)?;
                }
                0x94 => {
                    let key = self.memo.len() as u32;
                    self.put(key)?;
                }
                b'g' => {
                    let key = self.number_line()?;
                    self.get(key)?;
                }
                b'h' => {
                    let key = self.unsigned(1)? as u32;
                    self.get(key)?;
                }
                b'j' => {
                    let key = self.unsigned(4)? as u32;
                    self.get(key)?;
                }
                b'c' => {
                    let (module, name) = (self.text_line()?, self.text_line()?);
                    self.callable(module, name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Object::Text(module), Object::Text(name)) = (self.object(module)?, self.object(name)?) else {
                        return self.malformed();
                    };
                    let (module, name) = (module.clone(), name.clone());
                    self.callable(&module, &name)?;
                }
                b'R' => self.reduce()?,
                b'b' if self.replies => self.attributes()?,
                _ => return Err(Error::Opcode(opcode)),
            }
        }
    }

    /// The value of an object; `size` is what the whole value takes so far.
    fn build(&self, place: Place, depth: usize, size: &mut usize) -> Result<Value, Error> {
        let object = self.object(place)?;
        *size += size_of::<Value>();
        if let Object::Text(text) = object {
            *size += text.len();
        }
        if *size > MAX_VALUE {
            return Err(Error::TooLarge("64 MiB"));
        }
        if depth > MAX_DEPTH {
            return Err(Error::TooLarge("40 levels"));
        }
        let mut all = |items: &[Place]| -> Result<Vec<Value>, Error> {
            items.iter().map(|item| self.build(*item, depth + 1, size)).collect()
        };
        Ok(match object {
            Object::None => Value::None,
            Object::Bool(truth) => Value::Bool(*truth),
            Object::Int(number) => Value::Int(*number),
            Object::Float(number) => Value::Float(*number),
            Object::Text(text) => Value::Text(text.clone()),
            Object::List(items) => Value::List(all(items)?),
            Object::Tuple(items) => Value::Tuple(all(items)?),
            Object::Set(items) => Value::Set(all(items)?),
            Object::Dict(pairs) => {
                let mut map = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    map.push((self.build(*key, depth + 1, size)?, self.build(*value, depth + 1, size)?));
                }
                Value::Map(map)
            }
            Object::Callable(_) | Object::Exception(..) => return self.malformed(),
        })
    }
}

fn shown(module: &str, name: &str) -> String {
    format!("{module}.{name}").chars().filter(|c| !c.is_control()).take(80).collect()
}

/// A Python 2 string literal: quotes around it, backslash escapes inside.
fn quoted(line: &[u8]) -> Option<Vec<u8>> {
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return None,
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let [escaped, tail @ ..] = rest else { return None };
        rest = tail;
        match escaped {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'\\' | b'\'' | b'"' => out.push(*escaped),
            b'x' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                out.push(u8::try_from(hexadecimal(digits)?).ok()?);
                rest = tail;
            }
            other => out.extend([b'\\', *other]),
        }
    }
    Some(out)
}

/// Latin-1 with `\uXXXX` and `\UXXXXXXXX` for the rest.
fn raw_unicode(line: &[u8]) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let [byte, tail @ ..] = rest {
        let digits = match tail {
            [b'u', ..] if *byte == b'\\' => tail.get(1..5),
            [b'U', ..] if *byte == b'\\' => tail.get(1..9),
            _ => None,
        };
        if let Some(code) = digits.and_then(hexadecimal) {
            out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            rest = &tail[1 + digits.map_or(0, <[u8]>::len)..];
        } else {
            out.push(char::from(*byte));
            rest = tail;
        }
    }
    out
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
