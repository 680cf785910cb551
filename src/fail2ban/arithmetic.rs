//! The arithmetic of `bantime.formula`, `bantime.factor` and of time expressions.
//!
//! Fail2Ban hands these texts to Python; here they are numbers, operators and a fixed list of
//! functions, parsed into a small tree and never run as code. Numbers behave as Python's do:
//! whole ones stay whole, `/` makes fractions, `//` and `%` round down. What grows beyond
//! all bounds saturates instead of failing, so that a long ban stays a long ban.

use std::fmt;

use crate::control::Value;

mod functions;
mod lexer;
mod parser;

pub(super) use lexer::Dialect;

/// The longest text that is looked at, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// How deep parentheses, calls, signs and powers may nest.
pub const MAX_DEPTH: usize = 50;

/// A number that remembers, as Python does, whether it is a whole one: replies show the difference.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// A whole number.
    Int(i128),
    /// A number with a fraction; always finite.
    Float(f64),
}

impl Number {
    /// As a float; large whole numbers lose digits.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(number) => number as f64,
            Number::Float(number) => number,
        }
    }

    /// Whether it counts as true: anything but zero.
    #[must_use]
    pub fn is_true(self) -> bool {
        self.as_f64() != 0.0
    }

    /// A float, kept finite; not a number is an error.
    fn float(number: f64, at: usize) -> Result<Number, Error> {
        if number.is_nan() {
            return Err(Error { at, kind: ErrorKind::Domain });
        }
        Ok(Number::Float(number.clamp(-f64::MAX, f64::MAX)))
    }
}

/// By value, so that 1 equals 1.0.
impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        match (*self, *other) {
            (Number::Int(a), Number::Int(b)) => a == b,
            (a, b) => a.as_f64() == b.as_f64(),
        }
    }
}

impl fmt::Display for Number {
    /// As Python prints it: `5400`, `5400.0`, `1e+16`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Number::Int(number) => write!(f, "{number}"),
            Number::Float(number) if number != 0.0 && !(1e-4..1e16).contains(&number.abs()) => {
                let text = format!("{number:e}");
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
                write!(f, "{digits}e{sign}{exponent:0>2}")
            }
            Number::Float(number) => write!(f, "{number:?}"),
        }
    }
}

impl From<Number> for Value {
    /// Whole numbers beyond 64 bits saturate.
    fn from(number: Number) -> Value {
        match number {
            Number::Int(number) => Value::Int(number.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64),
            Number::Float(number) => Value::Float(number),
        }
    }
}

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{kind}")]
pub struct Error {
    /// Byte offset into the text.
    pub at: usize,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// What can be wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing to compute.
    #[error("no number where one is needed")]
    Missing,
    /// Something that belongs to no number, operator or name.
    #[error("unexpected `{0}`")]
    Unexpected(String),
    /// Digits that make no number.
    #[error("`{0}` is not a number")]
    BadNumber(String),
    /// A word that is neither a unit, nor a name, nor a function.
    #[error("unknown word `{0}`")]
    UnknownWord(String),
    /// Longer than [`MAX_LENGTH`].
    #[error("the expression is longer than {MAX_LENGTH} characters")]
    TooLong,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the expression is nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// A function with too many or too few arguments.
    #[error("wrong number of arguments for `{0}`")]
    Arguments(&'static str),
    /// A division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// No real result, such as the root of a negative number.
    #[error("the result is not a real number")]
    Domain,
    /// A fraction where only whole numbers make sense.
    #[error("`{0}` needs whole numbers")]
    NeedsWhole(&'static str),
}

/// What a formula can refer to.
#[derive(Clone, Copy, Debug)]
pub struct Ban {
    /// `ban.Time`: length of a first ban in seconds.
    pub time: Number,
    /// `ban.Count`: how many bans there were.
    pub count: u32,
    /// `banFactor`: the value of `bantime.factor`.
    pub factor: Number,
}

/// An expression that was found to be well-formed.
#[derive(Clone, Debug)]
pub struct Formula {
    root: Node,
}

impl Formula {
    /// Reads the text of `bantime.formula`: `ban.Time`, `ban.Count` and `banFactor` are known.
    ///
    /// # Errors
    /// With the place that is wrong.
    pub fn parse(text: &str) -> Result<Formula, Error> {
        Ok(Formula { root: parser::parse(text, Dialect::Formula)? })
    }

    /// Its value. `random` yields numbers from 0 up to, but not including, 1.
    ///
    /// # Errors
    /// A division by zero and the like.
    pub fn value(&self, ban: &Ban, random: &mut dyn FnMut() -> f64) -> Result<Number, Error> {
        functions::evaluate(&self.root, &mut functions::Scope { ban: Some(*ban), random })
    }
}

/// The value of an expression without names, such as `bantime.factor`.
///
/// # Errors
/// With the place that is wrong.
pub fn number(text: &str) -> Result<Number, Error> {
    value_in(text, Dialect::Plain)
}

pub(super) fn value_in(text: &str, dialect: Dialect) -> Result<Number, Error> {
    let root = parser::parse(text, dialect)?;
    // a random number makes no sense in a constant, so it is always the smallest
    functions::evaluate(&root, &mut functions::Scope { ban: None, random: &mut || 0.0 })
}

/// A part of an expression and where it stands.
#[derive(Clone, Debug)]
struct Node {
    at: usize,
    kind: NodeKind,
}

#[derive(Clone, Debug)]
enum NodeKind {
    Number(Number),
    Time,
    Count,
    Factor,
    Unary(Unary, Box<Node>),
    /// First operand and what is done to it one after the other: long sums are no deep trees.
    Chain(Box<Node>, Vec<(Binary, Node)>),
    /// `a < b <= c`.
    Compare(Box<Node>, Vec<(Comparison, Node)>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Choice(Box<[Node; 3]>),
    Call(functions::Function, Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unary {
    Plus,
    Minus,
    Invert,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binary {
    Or,
    Xor,
    And,
    Left,
    Right,
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

#[cfg(test)]
#[path = "arithmetic/tests.rs"]
mod tests;
