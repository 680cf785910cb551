//! What the operators and functions compute: Python's results, without its exceptions for size.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use super::{Ban, Binary, Comparison, Error, ErrorKind, Node, NodeKind, Number, Unary};

/// What an expression can see while it is computed.
pub(super) struct Scope<'a> {
    pub ban: Option<Ban>,
    pub random: &'a mut dyn FnMut() -> f64,
}

/// Of a float, for `math.exp` and its kind.
type OfFloat = fn(f64) -> f64;

#[derive(Clone, Copy, Debug)]
pub(super) enum Function {
    Min,
    Max,
    Int,
    Float,
    Round,
    Abs,
    Pow,
    MathPow,
    Floor,
    Ceil,
    Trunc,
    Log,
    Random,
    Uniform,
    RandInt,
    One(&'static str, OfFloat),
    Two(&'static str, fn(f64, f64) -> f64),
}

const ONE: [(&str, OfFloat); 23] = [
    ("math.exp", f64::exp),
    ("math.expm1", f64::exp_m1),
    ("math.log2", f64::log2),
    ("math.log10", f64::log10),
    ("math.log1p", f64::ln_1p),
    ("math.sqrt", f64::sqrt),
    ("math.cbrt", f64::cbrt),
    ("math.fabs", f64::abs),
    ("math.sin", f64::sin),
    ("math.cos", f64::cos),
    ("math.tan", f64::tan),
    ("math.asin", f64::asin),
    ("math.acos", f64::acos),
    ("math.atan", f64::atan),
    ("math.sinh", f64::sinh),
    ("math.cosh", f64::cosh),
    ("math.tanh", f64::tanh),
    ("math.asinh", f64::asinh),
    ("math.acosh", f64::acosh),
    ("math.atanh", f64::atanh),
    ("math.degrees", f64::to_degrees),
    ("math.radians", f64::to_radians),
    ("math.exp2", f64::exp2),
];

impl Function {
    pub(super) fn named(name: &str) -> Option<Function> {
        if let Some((name, function)) = ONE.iter().find(|(known, _)| *known == name) {
            return Some(Function::One(name, *function));
        }
        Some(match name {
            "min" => Function::Min,
            "max" => Function::Max,
            "int" => Function::Int,
            "float" => Function::Float,
            "round" => Function::Round,
            "abs" => Function::Abs,
            "pow" => Function::Pow,
            "math.pow" => Function::MathPow,
            "math.floor" => Function::Floor,
            "math.ceil" => Function::Ceil,
            "math.trunc" => Function::Trunc,
            "math.log" => Function::Log,
            "math.fmod" => Function::Two("math.fmod", |a, b| a % b),
            "math.atan2" => Function::Two("math.atan2", f64::atan2),
            "math.hypot" => Function::Two("math.hypot", f64::hypot),
            "random.random" => Function::Random,
            "random.uniform" => Function::Uniform,
            "random.randint" => Function::RandInt,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Function::Min => "min",
            Function::Max => "max",
            Function::Int => "int",
            Function::Float => "float",
            Function::Round => "round",
            Function::Abs => "abs",
            Function::Pow => "pow",
            Function::MathPow => "math.pow",
            Function::Floor => "math.floor",
            Function::Ceil => "math.ceil",
            Function::Trunc => "math.trunc",
            Function::Log => "math.log",
            Function::Random => "random.random",
            Function::Uniform => "random.uniform",
            Function::RandInt => "random.randint",
            Function::One(name, _) | Function::Two(name, _) => name,
        }
    }

    /// How many arguments it takes.
    pub(super) fn takes(self) -> RangeInclusive<usize> {
        match self {
            Function::Min | Function::Max => 2..=usize::MAX,
            Function::Random => 0..=0,
            Function::Int | Function::Float => 0..=1,
            Function::Round | Function::Log => 1..=2,
            Function::Pow | Function::MathPow | Function::Uniform | Function::RandInt | Function::Two(..) => 2..=2,
            Function::Abs | Function::Floor | Function::Ceil | Function::Trunc | Function::One(..) => 1..=1,
        }
    }
}

pub(super) fn evaluate(node: &Node, scope: &mut Scope<'_>) -> Result<Number, Error> {
    let at = node.at;
    match &node.kind {
        NodeKind::Number(number) => Ok(*number),
        NodeKind::Time => scope.ban.map(|ban| ban.time).ok_or(Error { at, kind: ErrorKind::Missing }),
        NodeKind::Count => {
            scope.ban.map(|ban| Number::Int(ban.count.into())).ok_or(Error { at, kind: ErrorKind::Missing })
        }
        NodeKind::Factor => scope.ban.map(|ban| ban.factor).ok_or(Error { at, kind: ErrorKind::Missing }),
        NodeKind::Unary(sign, operand) => unary(*sign, evaluate(operand, scope)?, at),
        NodeKind::Chain(first, others) => {
            let mut value = evaluate(first, scope)?;
            for (operator, operand) in others {
                let operand_value = evaluate(operand, scope)?;
                value = binary(*operator, value, operand_value, operand.at)?;
            }
            Ok(value)
        }
        NodeKind::Compare(first, others) => {
            let mut left = evaluate(first, scope)?;
            for (comparison, operand) in others {
                let right = evaluate(operand, scope)?;
                if !compare(*comparison, left, right) {
                    return Ok(Number::Int(0));
                }
                left = right;
            }
            Ok(Number::Int(1))
        }
        NodeKind::And(nodes) => first_that(nodes, scope, |value| !value.is_true()),
        NodeKind::Or(nodes) => first_that(nodes, scope, Number::is_true),
        NodeKind::Choice(parts) => {
            let [condition, yes, no] = &**parts;
            if evaluate(condition, scope)?.is_true() { evaluate(yes, scope) } else { evaluate(no, scope) }
        }
        NodeKind::Call(function, nodes) => {
            let mut arguments = Vec::with_capacity(nodes.len());
            for node in nodes {
                arguments.push(evaluate(node, scope)?);
            }
            call(*function, &arguments, scope, at)
        }
    }
}

/// `and` and `or` yield the operand that decided, the last one at the latest.
fn first_that(nodes: &[Node], scope: &mut Scope<'_>, decides: fn(Number) -> bool) -> Result<Number, Error> {
    let mut value = Number::Int(0);
    for node in nodes {
        value = evaluate(node, scope)?;
        if decides(value) {
            break;
        }
    }
    Ok(value)
}

fn unary(sign: Unary, operand: Number, at: usize) -> Result<Number, Error> {
    Ok(match (sign, operand) {
        (Unary::Plus, operand) => operand,
        (Unary::Minus, Number::Int(number)) => Number::Int(number.saturating_neg()),
        (Unary::Minus, Number::Float(number)) => Number::Float(-number),
        (Unary::Invert, Number::Int(number)) => Number::Int(!number),
        (Unary::Invert, Number::Float(_)) => return Err(Error { at, kind: ErrorKind::NeedsWhole("~") }),
        (Unary::Not, operand) => Number::Int((!operand.is_true()).into()),
    })
}

fn compare(comparison: Comparison, left: Number, right: Number) -> bool {
    let order = match (left, right) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (a, b) => a.as_f64().partial_cmp(&b.as_f64()),
    };
    match comparison {
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
    }
}

fn binary(operator: Binary, left: Number, right: Number, at: usize) -> Result<Number, Error> {
    if let (Number::Int(a), Number::Int(b)) = (left, right)
        && let Some(whole) = whole(operator, a, b, at)?
    {
        return Ok(Number::Int(whole));
    }
    let (a, b) = (left.as_f64(), right.as_f64());
    let zero = || Error { at, kind: ErrorKind::DivisionByZero };
    let needs_whole = |name| Err(Error { at, kind: ErrorKind::NeedsWhole(name) });
    let both_whole = matches!((left, right), (Number::Int(_), Number::Int(_)));
    Number::float(
        match operator {
            Binary::Add => a + b,
            Binary::Subtract => a - b,
            Binary::Multiply => a * b,
            Binary::Divide | Binary::FloorDivide | Binary::Remainder if b == 0.0 => return Err(zero()),
            Binary::Divide => a / b,
            Binary::FloorDivide => divide_floats(a, b).0,
            Binary::Remainder => divide_floats(a, b).1,
            Binary::Power if a == 0.0 && b < 0.0 => return Err(zero()),
            Binary::Power => a.powf(b),
            Binary::Left if both_whole => a * b.exp2(),
            Binary::Left => return needs_whole("<<"),
            Binary::Right => return needs_whole(">>"),
            Binary::And => return needs_whole("&"),
            Binary::Or => return needs_whole("|"),
            Binary::Xor => return needs_whole("^"),
        },
        at,
    )
}

/// The result if it is a whole number that fits; `None` leaves it to floats.
fn whole(operator: Binary, a: i128, b: i128, at: usize) -> Result<Option<i128>, Error> {
    let zero = Error { at, kind: ErrorKind::DivisionByZero };
    Ok(match operator {
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        Binary::FloorDivide | Binary::Remainder if b == 0 => return Err(zero),
        Binary::FloorDivide => a.checked_div_euclid(b).map(|quotient| {
            // Euclid's remainder is never negative, Python's has the sign of the divisor
            if b < 0 && a.rem_euclid(b) != 0 { quotient - 1 } else { quotient }
        }),
        Binary::Remainder => a.checked_rem_euclid(b).map(|rest| if b < 0 && rest != 0 { rest + b } else { rest }),
        Binary::Power => u32::try_from(b).ok().and_then(|exponent| a.checked_pow(exponent)),
        Binary::Left | Binary::Right if b < 0 => return Err(Error { at, kind: ErrorKind::Domain }),
        Binary::Left if a == 0 => Some(0),
        Binary::Left => u32::try_from(b).ok().filter(|b| *b < 127).and_then(|b| a.checked_mul(1 << b)),
        Binary::Right => Some(a >> b.min(127)),
        Binary::And => Some(a & b),
        Binary::Or => Some(a | b),
        Binary::Xor => Some(a ^ b),
        Binary::Divide => None,
    })
}

/// Quotient rounded down, and a remainder with the sign of the divisor.
fn divide_floats(a: f64, b: f64) -> (f64, f64) {
    let mut rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest == 0.0 {
        rest = 0.0_f64.copysign(b);
    } else if (b < 0.0) != (rest < 0.0) {
        rest += b;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return (0.0_f64.copysign(a / b), rest);
    }
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest)
}

fn call(function: Function, arguments: &[Number], scope: &mut Scope<'_>, at: usize) -> Result<Number, Error> {
    let first = arguments.first().copied().unwrap_or(Number::Int(0));
    let second = arguments.get(1).copied();
    let second_or_zero = second.unwrap_or(Number::Int(0));
    let domain = Error { at, kind: ErrorKind::Domain };
    match function {
        Function::Min => Ok(extreme(arguments, Comparison::Less)),
        Function::Max => Ok(extreme(arguments, Comparison::Greater)),
        Function::Int | Function::Trunc => Ok(to_whole(first, f64::trunc)),
        Function::Floor => Ok(to_whole(first, f64::floor)),
        Function::Ceil => Ok(to_whole(first, f64::ceil)),
        Function::Float => Ok(Number::Float(first.as_f64())),
        Function::Round => round(first, second, at),
        Function::Abs => Ok(match first {
            Number::Int(number) => Number::Int(number.saturating_abs()),
            Number::Float(number) => Number::Float(number.abs()),
        }),
        Function::Pow => binary(Binary::Power, first, second_or_zero, at),
        Function::MathPow => {
            binary(Binary::Power, Number::Float(first.as_f64()), Number::Float(second_or_zero.as_f64()), at)
        }
        Function::Log => {
            let base = second.map_or(1.0, |base| base.as_f64().ln());
            if first.as_f64() <= 0.0 || second.is_some_and(|base| base.as_f64() <= 0.0) {
                return Err(domain);
            }
            if base == 0.0 {
                return Err(Error { at, kind: ErrorKind::DivisionByZero });
            }
            Number::float(first.as_f64().ln() / base, at)
        }
        Function::Random => Number::float((scope.random)(), at),
        Function::Uniform => {
            let (low, high) = (first.as_f64(), second_or_zero.as_f64());
            Number::float(low + (high - low) * (scope.random)(), at)
        }
        Function::RandInt => match (first, second_or_zero) {
            (Number::Int(low), Number::Int(high)) if low <= high => {
                let steps = high.saturating_sub(low).saturating_add(1) as f64;
                Ok(Number::Int(low.saturating_add((steps * (scope.random)()).floor() as i128).min(high)))
            }
            _ => Err(domain),
        },
        Function::One(_, function) => {
            let result = function(first.as_f64());
            // Python raises for log(0); infinity from exp is only large
            if result == f64::NEG_INFINITY { Err(domain) } else { Number::float(result, at) }
        }
        Function::Two(_, function) => Number::float(function(first.as_f64(), second_or_zero.as_f64()), at),
    }
}

/// The first of the smallest or largest.
fn extreme(arguments: &[Number], better: Comparison) -> Number {
    let mut best = arguments.first().copied().unwrap_or(Number::Int(0));
    for candidate in arguments.iter().skip(1) {
        if compare(better, *candidate, best) {
            best = *candidate;
        }
    }
    best
}

fn to_whole(number: Number, rounding: OfFloat) -> Number {
    match number {
        Number::Int(number) => Number::Int(number),
        // a cast saturates
        Number::Float(number) => Number::Int(rounding(number) as i128),
    }
}

/// Halves go to the even neighbour. With a number of decimals the type stays.
fn round(number: Number, decimals: Option<Number>, at: usize) -> Result<Number, Error> {
    match (number, decimals) {
        (number, None) => Ok(to_whole(number, f64::round_ties_even)),
        (number, Some(Number::Int(decimals @ 0..=300))) => match number {
            Number::Int(number) => Ok(Number::Int(number)),
            Number::Float(number) => {
                let text = format!("{number:.*}", decimals as usize);
                text.parse().map(Number::Float).map_err(|_| Error { at, kind: ErrorKind::Domain })
            }
        },
        (_, Some(_)) => Err(Error { at, kind: ErrorKind::NeedsWhole("round") }),
    }
}
