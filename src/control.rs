//! Values and commands as the control socket carries them, whatever their encoding.
//!
//! Fail2Ban's client turns the configuration into a list of commands and sends it; ours
//! makes the same list. A command is a list of [`Value`]s; `server` gives it its meaning.
//! Pickle and Python's notation live in `fail2ban`, JSON in `server`.

use crate::config::Span;

/// A datum of a command or a reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence that can change.
    List(Vec<Value>),
    /// A sequence of fixed length; clients test for the difference.
    Tuple(Vec<Value>),
    /// Keys and values in the order they were added.
    Map(Vec<(Value, Value)>),
    /// A set; order is of no meaning.
    Set(Vec<Value>),
}

impl Value {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list or tuple.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Bool(truth)
    }
}

/// One command of the stream and, where our own reader made it, the place it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The words: `["set", "sshd", "maxretry", 5]`.
    pub words: Vec<Value>,
    /// Where the value stands in the files; commands from a socket have none.
    pub span: Option<Span>,
}

/// An answer: what was asked for, or why not.
pub type Reply = Result<Value, Failure>;

/// A command that could not be carried out, as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What kind of failure it is; decides the exception that Fail2Ban's clients get.
    pub kind: FailureKind,
    /// The arguments of that exception, mostly one text.
    pub arguments: Vec<Value>,
}

/// Kinds of failure that clients tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Anything without a kind of its own.
    Exception,
    /// A value of the wrong form.
    Value,
    /// Too few words.
    Index,
    /// Something of that name is not there.
    Key,
    /// No such property.
    Attribute,
    /// A value of the wrong type.
    Type,
    /// Not possible in the present state.
    Runtime,
    /// A name that nothing is registered for, such as an encoding.
    Lookup,
    /// A file is missing.
    FileNotFound,
    /// The jail does not exist.
    UnknownJail,
    /// The jail exists already.
    DuplicateJail,
    /// A regular expression that cannot be used.
    Regex,
}

impl Failure {
    /// A failure with one text.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Failure {
        Failure { kind, arguments: vec![Value::Text(text.into())] }
    }
}
