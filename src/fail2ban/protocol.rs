//! Messages of the control socket, both ways, as a state machine over bytes: no socket in here.
//!
//! Fail2Ban's way: a pickle, then `<F2B_END_COMMAND>`; any number of requests on one connection.
//! Beside it the same requests can be written as JSON, one a line: `["status", "sshd"]`, answered by
//! one line `{"ok": …}` or `{"error": {"kind": …, "arguments": […]}}`. The first byte tells: a request
//! that begins with `[` or `{` is JSON, since no pickle begins with these (protocols 0 and 1 begin with
//! an opcode such as `(` or `]`, later ones with the byte 0x80).

use serde_json::{Map, json};

use super::pickle;
use super::repr::repr;
use crate::control::{Failure, FailureKind, Reply, Value};

/// Ends a pickle, in both directions.
pub const END: &[u8] = b"<F2B_END_COMMAND>";
/// Instead of a pickle: the client has no more requests.
pub const CLOSE: &[u8] = b"<F2B_CLOSE_COMMAND>";
/// The longest request, in bytes; a configuration of 100 jails is below one MiB.
pub const MAX_REQUEST: usize = 16 * 1024 * 1024;
/// The longest reply that our client reads, in bytes.
pub const MAX_REPLY: usize = 256 * 1024 * 1024;

/// What `ping` is asked with by clients that would rather write JSON, and answered with by servers that read it.
/// Fail2Ban's server takes it for a time, as which it says nothing to it.
pub const JSON: &str = "json";
/// The kind of the failure that a server which stops tells in JSON.
const SHUTDOWN: &str = "Shutdown";
/// All kinds of failure.
const KINDS: [FailureKind; 12] = [
    FailureKind::Exception,
    FailureKind::Value,
    FailureKind::Index,
    FailureKind::Key,
    FailureKind::Attribute,
    FailureKind::Type,
    FailureKind::Runtime,
    FailureKind::Lookup,
    FailureKind::FileNotFound,
    FailureKind::UnknownJail,
    FailureKind::DuplicateJail,
    FailureKind::Regex,
];

/// How a request came, and its reply has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Pickle and a terminator.
    Pickle,
    /// A line of JSON.
    Json,
}

/// A message from a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A command to carry out.
    Command {
        /// Its words.
        words: Vec<Value>,
        /// How to answer.
        encoding: Encoding,
    },
    /// No command.
    Refused {
        /// The complete answer.
        reply: Vec<u8>,
        /// Why it could not be read, if that is so.
        why: Option<String>,
    },
    /// The client is done: close the connection without an answer.
    Close,
}

/// The peer sent more than a message can have; close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message is longer than {limit} bytes")]
pub struct TooLong {
    /// The limit.
    pub limit: usize,
}

/// Bytes that are not yet a whole message.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    /// Up to here there is no end of a message.
    searched: usize,
}

impl Buffer {
    fn feed(&mut self, bytes: &[u8], limit: usize) -> Result<(), TooLong> {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
        // what is whole is taken out before more is fed, so this is about one message
        if self.bytes.len() > limit.saturating_add(bytes.len()) { Err(TooLong { limit }) } else { Ok(()) }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The bytes up to the next `end`, which is skipped.
    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        // the end may have begun in what was searched already
        let from = self.searched.saturating_sub(end.len() - 1).max(self.start);
        let Some(found) = memchr::memmem::find(&self.bytes[from..], end) else {
            self.searched = self.bytes.len();
            return None;
        };
        let message = self.bytes[self.start..from + found].to_vec();
        self.start = from + found + end.len();
        self.searched = self.start;
        Some(message)
    }
}

/// The server's side of a connection.
#[derive(Debug, Default)]
pub struct Requests(Buffer);

impl Requests {
    /// Bytes from the client. Call [`Requests::next_request`] until it has no more before the next bytes.
    ///
    /// # Errors
    /// The connection has to be closed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.0.feed(bytes, MAX_REQUEST)
    }

    /// Bytes that are held and do not belong to a request that was taken.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.0.rest().len()
    }

    /// The next whole request.
    pub fn next_request(&mut self) -> Option<Request> {
        let blank = self.0.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        // blank lines between JSON requests; after blanks there can be no pickle
        if matches!(self.0.rest().get(blank), Some(b'[' | b'{')) {
            self.0.start += blank;
            self.0.searched = self.0.searched.max(self.0.start);
            return self.0.until(b"\n").map(|line| requested(&line));
        }
        let message = self.0.until(END)?;
        if message == CLOSE {
            return Some(Request::Close);
        }
        Some(match pickle::value(&message) {
            Ok(Value::List(words) | Value::Tuple(words)) => Request::Command { words, encoding: Encoding::Pickle },
            Ok(_) => {
                let failure = Failure::new(FailureKind::Exception, "Invalid command");
                Request::Refused { reply: reply(Encoding::Pickle, &Err(failure)), why: None }
            }
            Err(error) => {
                let why = error.to_string();
                let reply = framed(pickle::encode(&Value::Text(format!("ERROR: {why}"))));
                Request::Refused { reply, why: Some(why) }
            }
        })
    }
}

fn requested(line: &[u8]) -> Request {
    let refused = |text: String, why: Option<String>| {
        let reply = reply(Encoding::Json, &Err(Failure::new(FailureKind::Exception, text)));
        Request::Refused { reply, why }
    };
    let value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => return refused(format!("ERROR: {error}"), Some(error.to_string())),
    };
    let words = match value {
        serde_json::Value::Array(words) => Some(words),
        serde_json::Value::Object(mut map) => match map.remove("command") {
            Some(serde_json::Value::Array(words)) => Some(words),
            _ => None,
        },
        _ => None,
    };
    match words {
        Some(words) => Request::Command { words: words.into_iter().map(from_json).collect(), encoding: Encoding::Json },
        None => refused("Invalid command".to_owned(), None),
    }
}

/// The message that answers a request.
#[must_use]
pub fn reply(encoding: Encoding, reply: &Reply) -> Vec<u8> {
    match encoding {
        Encoding::Pickle => framed(pickle::encode_reply(reply)),
        Encoding::Json => {
            let json = match reply {
                Ok(value) => json!({ "ok": to_json(value) }),
                Err(failure) => json!({ "error": {
                    "kind": kind(failure.kind),
                    "arguments": failure.arguments.iter().map(to_json).collect::<Vec<_>>(),
                }}),
            };
            let mut line = json.to_string().into_bytes();
            line.push(b'\n');
            line
        }
    }
}

/// The answer to any request while the server stops.
#[must_use]
pub fn shutdown(encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Pickle => framed(pickle::encode(&stopping())),
        Encoding::Json => format!("{{\"error\":{{\"kind\":\"{SHUTDOWN}\",\"arguments\":[]}}}}\n").into_bytes(),
    }
}

fn stopping() -> Value {
    Value::List(vec!["SHUTDOWN".into()])
}

/// A request as Fail2Ban's client sends it, and ours to Fail2Ban's server.
#[must_use]
pub fn request(words: &[Value]) -> Vec<u8> {
    framed(pickle::encode(&Value::List(words.to_vec())))
}

/// A request as a line of JSON.
#[must_use]
pub fn json_request(words: &[Value]) -> Vec<u8> {
    let mut line = serde_json::Value::from_iter(words.iter().map(to_json)).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// What a client sends in Fail2Ban's way when it is done.
#[must_use]
pub fn close() -> Vec<u8> {
    framed(CLOSE.to_vec())
}

fn framed(mut message: Vec<u8>) -> Vec<u8> {
    message.extend_from_slice(END);
    message
}

/// A reply that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// What came in Fail2Ban's way is no pickle of a reply.
    #[error(transparent)]
    Pickle(#[from] pickle::Error),
    /// What came as a line is no reply in JSON.
    #[error("no reply in JSON")]
    Json,
}

/// The client's side of a connection.
#[derive(Debug)]
pub struct Replies {
    encoding: Encoding,
    buffer: Buffer,
    /// The beginning of a reply with a terminator inside of its data, as Fail2Ban may send it.
    broken: Vec<u8>,
}

impl Replies {
    /// For replies to requests that were sent like that.
    #[must_use]
    pub fn to(encoding: Encoding) -> Replies {
        Replies { encoding, buffer: Buffer::default(), broken: Vec::new() }
    }

    /// Bytes from the server.
    ///
    /// # Errors
    /// The connection has to be closed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.broken.len() > MAX_REPLY {
            return Err(TooLong { limit: MAX_REPLY });
        }
        self.buffer.feed(bytes, MAX_REPLY)
    }

    /// The next whole reply.
    pub fn next_reply(&mut self) -> Option<Result<Reply, Unreadable>> {
        match self.encoding {
            Encoding::Json => self.buffer.until(b"\n").map(|line| replied(&line).ok_or(Unreadable::Json)),
            Encoding::Pickle => self.next_pickle().map(|answer| Ok(reply_of(answer?))),
        }
    }

    fn next_pickle(&mut self) -> Option<Result<pickle::Answer, pickle::Error>> {
        loop {
            let part = self.buffer.until(END)?;
            self.broken.extend_from_slice(&part);
            let answer = match pickle::answer(&self.broken) {
                Err(pickle::Error::Truncated) => {
                    self.broken.extend_from_slice(END);
                    continue;
                }
                answer => answer,
            };
            self.broken.clear();
            return Some(answer);
        }
    }
}

fn reply_of(answer: pickle::Answer) -> Reply {
    match answer {
        pickle::Answer::Reply(reply) => reply,
        pickle::Answer::Other(Value::Text(text)) => Err(Failure::new(FailureKind::Exception, text)),
        pickle::Answer::Other(other) => Err(Failure { kind: FailureKind::Exception, arguments: vec![other] }),
    }
}

/// A reply that came as a line of JSON.
fn replied(line: &[u8]) -> Option<Reply> {
    let mut json: Map<_, _> = serde_json::from_slice(line).ok()?;
    if let Some(value) = json.remove("ok") {
        return Some(Ok(from_json(value)));
    }
    let error = json.get_mut("error")?;
    let Value::List(arguments) = from_json(error["arguments"].take()) else { return None };
    Some(Err(match error["kind"].as_str()? {
        // as whoever asks in Fail2Ban's way is told
        SHUTDOWN => Failure { kind: FailureKind::Exception, arguments: vec![stopping()] },
        name => Failure { kind: KINDS.into_iter().find(|found| kind(*found) == name)?, arguments },
    }))
}

/// The name of a kind of failure, as JSON replies have it.
#[must_use]
pub fn kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Exception => "Exception",
        FailureKind::Value => "Value",
        FailureKind::Index => "Index",
        FailureKind::Key => "Key",
        FailureKind::Attribute => "Attribute",
        FailureKind::Type => "Type",
        FailureKind::Runtime => "Runtime",
        FailureKind::Lookup => "Lookup",
        FailureKind::FileNotFound => "FileNotFound",
        FailureKind::UnknownJail => "UnknownJail",
        FailureKind::DuplicateJail => "DuplicateJail",
        FailureKind::Regex => "Regex",
    }
}

/// A failure as Python shows the exception: `ValueError('…')`.
#[must_use]
pub fn exception(failure: &Failure) -> String {
    let shown = match (failure.kind, &failure.arguments[..]) {
        // of a system error all but the file
        (FailureKind::FileNotFound, [number, text, ..]) => vec![number.clone(), text.clone()],
        (_, arguments) => arguments.to_vec(),
    };
    let arguments: Vec<String> = shown.iter().map(repr).collect();
    format!("{}({})", pickle::class(failure.kind).1, arguments.join(", "))
}

/// A value as JSON: lists, tuples and sets are arrays, keys are texts.
#[must_use]
pub fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::None => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        // not finite is null
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) => items.iter().map(to_json).collect(),
        Value::Map(pairs) => {
            let key = |key: &Value| key.as_text().map_or_else(|| to_json(key).to_string(), str::to_owned);
            pairs.iter().map(|(name, value)| (key(name), to_json(value))).collect::<Map<_, _>>().into()
        }
    }
}

/// A value that came as JSON.
#[must_use]
pub fn from_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(truth) => Value::Bool(truth),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::MAX)), Value::Int)
        }
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(map.into_iter().map(|(name, value)| (Value::Text(name), from_json(value))).collect())
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
#[path = "protocol/captures.rs"]
pub(super) mod captures;
#[cfg(test)]
#[path = "protocol/tests.rs"]
mod tests;
