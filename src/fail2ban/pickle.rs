//! Python's pickle format as the control socket carries it: data only.
//!
//! A pickle is a program for a stack machine that can call anything. This one knows the
//! opcodes that build numbers, texts and containers, and of all callables only `str`, `list`
//! and `set`; in replies also the exceptions that stand for errors. It calls nothing.

mod decode;
mod encode;

use crate::control::FailureKind;

pub use decode::{Answer, answer, value};
pub use encode::{encode, encode_reply};

/// How many objects a pickle may make.
pub const MAX_OBJECTS: usize = 1_000_000;
/// How deep containers may be nested.
pub const MAX_DEPTH: usize = 40;
/// How many objects the stack may hold: elements of one long list.
pub const MAX_STACK: usize = 200_000;
/// Bytes of the finished value, roughly; objects that are used several times count each time.
pub const MAX_VALUE: usize = 64 * 1024 * 1024;

/// Why a pickle was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing.
    #[error("Ran out of input")]
    Empty,
    /// It ends early.
    #[error("pickle data was truncated")]
    Truncated,
    /// An opcode that is not for data, or none at all.
    #[error("invalid load key, '\\x{0:02x}'.")]
    Opcode(u8),
    /// A class or function that data does not need.
    #[error("`{0}` is not allowed")]
    Forbidden(String),
    /// An opcode with the wrong operands.
    #[error("malformed pickle at byte {0}")]
    Malformed(usize),
    /// One of the limits was reached.
    #[error("pickle is too large: more than {0}")]
    TooLarge(&'static str),
}

/// The exceptions of replies: module, name, kind. The first of a kind is the one we write.
const EXCEPTIONS: [(&str, &str, FailureKind); 13] = [
    ("builtins", "Exception", FailureKind::Exception),
    ("builtins", "ValueError", FailureKind::Value),
    ("builtins", "IndexError", FailureKind::Index),
    ("builtins", "KeyError", FailureKind::Key),
    ("builtins", "AttributeError", FailureKind::Attribute),
    ("builtins", "TypeError", FailureKind::Type),
    ("builtins", "RuntimeError", FailureKind::Runtime),
    ("builtins", "LookupError", FailureKind::Lookup),
    ("builtins", "FileNotFoundError", FailureKind::FileNotFound),
    ("fail2ban.exceptions", "UnknownJailException", FailureKind::UnknownJail),
    ("fail2ban.exceptions", "DuplicateJailException", FailureKind::DuplicateJail),
    ("fail2ban.server.failregex", "RegexException", FailureKind::Regex),
    ("builtins", "OSError", FailureKind::FileNotFound),
];

/// Module and name of the exception that stands for a kind of failure.
#[must_use]
pub fn class(kind: FailureKind) -> (&'static str, &'static str) {
    let (module, name, _) = EXCEPTIONS.iter().find(|(_, _, known)| *known == kind).unwrap_or(&EXCEPTIONS[0]);
    (module, name)
}

#[cfg(test)]
#[path = "pickle/tests.rs"]
mod tests;
