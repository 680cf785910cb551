//! Value to pickle: protocol 4, which every client of the last ten years reads.

use std::borrow::Cow;

use crate::control::{Failure, Reply, Value};

/// A value, as requests are.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = vec![0x80, 4];
    write(&mut out, value);
    out.push(b'.');
    out
}

/// `(0, value)` or `(1, exception)`.
#[must_use]
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    let mut out = vec![0x80, 4];
    match reply {
        Ok(value) => {
            write_int(&mut out, 0);
            write(&mut out, value);
        }
        Err(failure) => {
            write_int(&mut out, 1);
            write_failure(&mut out, failure);
        }
    }
    out.extend([0x86, b'.']);
    out
}

fn write_failure(out: &mut Vec<u8>, failure: &Failure) {
    let (module, name) = super::class(failure.kind);
    write_text(out, module);
    write_text(out, name);
    out.push(0x93);
    write_tuple(out, &failure.arguments);
    out.push(b'R');
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::None => out.push(b'N'),
        Value::Bool(true) => out.push(0x88),
        Value::Bool(false) => out.push(0x89),
        Value::Int(number) => write_int(out, *number),
        Value::Float(number) => {
            out.push(b'G');
            out.extend(number.to_be_bytes());
        }
        Value::Text(text) => write_text(out, text),
        Value::List(items) => {
            out.push(b']');
            write_items(out, items, b'e');
        }
        Value::Tuple(items) => write_tuple(out, items),
        Value::Set(items) => {
            out.push(0x8f);
            write_items(out, items, 0x90);
        }
        Value::Map(pairs) => {
            out.push(b'}');
            if !pairs.is_empty() {
                out.push(b'(');
                for (key, value) in pairs {
                    write(out, key);
                    write(out, value);
                }
                out.push(b'u');
            }
        }
    }
}

/// Adds the items to the container on the stack.
fn write_items(out: &mut Vec<u8>, items: &[Value], add: u8) {
    if !items.is_empty() {
        out.push(b'(');
        items.iter().for_each(|item| write(out, item));
        out.push(add);
    }
}

fn write_tuple(out: &mut Vec<u8>, items: &[Value]) {
    match items.len() {
        0 => out.push(b')'),
        length @ 1..=3 => {
            items.iter().for_each(|item| write(out, item));
            out.push(0x84 + length as u8);
        }
        _ => {
            out.push(b'(');
            items.iter().for_each(|item| write(out, item));
            out.push(b't');
        }
    }
}

/// The shortest form: Go's library makes other types of longer ones.
fn write_int(out: &mut Vec<u8>, number: i64) {
    if let Ok(number) = u8::try_from(number) {
        out.extend([b'K', number]);
    } else if let Ok(number) = u16::try_from(number) {
        out.push(b'M');
        out.extend(number.to_le_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(b'J');
        out.extend(number.to_le_bytes());
    } else {
        out.extend([0x8a, 8]);
        out.extend(number.to_le_bytes());
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let text = without_terminator(text);
    if let Ok(length) = u8::try_from(text.len()) {
        out.extend([0x8c, length]);
    } else if let Ok(length) = u32::try_from(text.len()) {
        out.push(b'X');
        out.extend(length.to_le_bytes());
    } else {
        out.push(0x8d);
        out.extend((text.len() as u64).to_le_bytes());
    }
    out.extend(text.as_bytes());
}

/// What ends a message must not stand inside of one, and an attacker may have chosen this text.
///
/// The first character is not looked at: it can be the length of the text, 60 in ASCII.
fn without_terminator(text: &str) -> Cow<'_, str> {
    const TAIL: &str = "F2B_END_COMMAND>";
    if text.contains(TAIL) { text.replace(TAIL, "F2B-END-COMMAND>").into() } else { text.into() }
}
