//! Tokens to a tree, with Python's precedence.

use super::functions::Function;
use super::lexer::{Dialect, Token, tokens};
use super::{Binary, Comparison, Error, ErrorKind, MAX_DEPTH, Node, NodeKind, Number, Unary};

/// Binary operators that group to the left, from the weakest to the strongest.
const LEVELS: [&[(&str, Binary)]; 6] = [
    &[("|", Binary::Or)],
    &[("^", Binary::Xor)],
    &[("&", Binary::And)],
    &[("<<", Binary::Left), (">>", Binary::Right)],
    &[("+", Binary::Add), ("-", Binary::Subtract)],
    &[("*", Binary::Multiply), ("/", Binary::Divide), ("//", Binary::FloorDivide), ("%", Binary::Remainder)],
];

const COMPARISONS: [(&str, Comparison); 6] = [
    ("<", Comparison::Less),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    (">=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
];

pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Node, Error> {
    let mut parser = Parser { tokens: tokens(text, dialect)?, next: 0, end: text.len(), depth: 0, dialect };
    let node = parser.choice()?;
    match parser.tokens.get(parser.next) {
        None => Ok(node),
        Some(_) => Err(parser.unexpected()),
    }
}

struct Parser<'a> {
    tokens: Vec<(usize, Token<'a>)>,
    next: usize,
    end: usize,
    depth: usize,
    dialect: Dialect,
}

impl Parser<'_> {
    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn unexpected(&self) -> Error {
        let kind = match self.tokens.get(self.next) {
            None => ErrorKind::Missing,
            Some((_, Token::Symbol(symbol))) => ErrorKind::Unexpected((*symbol).to_owned()),
            Some((_, Token::Word(word))) => ErrorKind::UnknownWord((*word).to_owned()),
            Some((_, Token::Number(number))) => ErrorKind::Unexpected(number.to_string()),
        };
        Error { at: self.at(), kind }
    }

    /// Takes the symbol if it comes next.
    fn symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.tokens.get(self.next), Some((_, Token::Symbol(s))) if *s == symbol);
        self.next += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.tokens.get(self.next), Some((_, Token::Word(w))) if *w == word);
        self.next += usize::from(found);
        found
    }

    fn one_of<T: Copy>(&mut self, table: &[(&str, T)]) -> Option<T> {
        let Some((_, Token::Symbol(symbol))) = self.tokens.get(self.next) else { return None };
        let (_, found) = table.iter().find(|(text, _)| text == symbol)?;
        self.next += 1;
        Some(*found)
    }

    /// One level deeper, within bounds.
    fn deeper(&mut self, parse: fn(&mut Self) -> Result<Node, Error>) -> Result<Node, Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error { at: self.at(), kind: ErrorKind::TooDeep });
        }
        self.depth += 1;
        let node = parse(self);
        self.depth -= 1;
        node
    }

    /// `a if condition else b`
    fn choice(&mut self) -> Result<Node, Error> {
        let at = self.at();
        let yes = self.or()?;
        if !self.word("if") {
            return Ok(yes);
        }
        let condition = self.or()?;
        if !self.word("else") {
            return Err(self.unexpected());
        }
        let no = self.deeper(Self::choice)?;
        Ok(Node { at, kind: NodeKind::Choice(Box::new([condition, yes, no])) })
    }

    fn or(&mut self) -> Result<Node, Error> {
        let at = self.at();
        let mut nodes = vec![self.and()?];
        while self.word("or") {
            nodes.push(self.and()?);
        }
        Ok(if nodes.len() == 1 { nodes.swap_remove(0) } else { Node { at, kind: NodeKind::Or(nodes) } })
    }

    fn and(&mut self) -> Result<Node, Error> {
        let at = self.at();
        let mut nodes = vec![self.not()?];
        while self.word("and") {
            nodes.push(self.not()?);
        }
        Ok(if nodes.len() == 1 { nodes.swap_remove(0) } else { Node { at, kind: NodeKind::And(nodes) } })
    }

    fn not(&mut self) -> Result<Node, Error> {
        let at = self.at();
        if self.word("not") {
            let operand = self.deeper(Self::not)?;
            return Ok(Node { at, kind: NodeKind::Unary(Unary::Not, Box::new(operand)) });
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Node, Error> {
        let at = self.at();
        let first = self.binary(0)?;
        let mut others = Vec::new();
        while let Some(comparison) = self.one_of(&COMPARISONS) {
            others.push((comparison, self.binary(0)?));
        }
        Ok(if others.is_empty() { first } else { Node { at, kind: NodeKind::Compare(Box::new(first), others) } })
    }

    fn binary(&mut self, level: usize) -> Result<Node, Error> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let at = self.at();
        let first = self.binary(level + 1)?;
        let mut others = Vec::new();
        while let Some(operator) = self.one_of(operators) {
            others.push((operator, self.binary(level + 1)?));
        }
        Ok(if others.is_empty() { first } else { Node { at, kind: NodeKind::Chain(Box::new(first), others) } })
    }

    fn unary(&mut self) -> Result<Node, Error> {
        let at = self.at();
        match self.one_of(&[("+", Unary::Plus), ("-", Unary::Minus), ("~", Unary::Invert)]) {
            Some(sign) => {
                let operand = self.deeper(Self::unary)?;
                Ok(Node { at, kind: NodeKind::Unary(sign, Box::new(operand)) })
            }
            None => self.power(),
        }
    }

    /// Binds stronger than a sign before it, weaker than one after it: `-2 ** -1`.
    fn power(&mut self) -> Result<Node, Error> {
        let base = self.primary()?;
        let at = self.at();
        if !self.symbol("**") {
            return Ok(base);
        }
        let exponent = self.deeper(Self::unary)?;
        Ok(Node { at, kind: NodeKind::Chain(Box::new(base), vec![(Binary::Power, exponent)]) })
    }

    fn primary(&mut self) -> Result<Node, Error> {
        let at = self.at();
        let Some((_, token)) = self.tokens.get(self.next) else { return Err(self.unexpected()) };
        match *token {
            Token::Number(number) => {
                self.next += 1;
                Ok(Node { at, kind: NodeKind::Number(number) })
            }
            Token::Symbol("(") => {
                self.next += 1;
                let node = self.deeper(Self::choice)?;
                if self.symbol(")") { Ok(node) } else { Err(self.unexpected()) }
            }
            Token::Word(word) => self.name(at, word.to_owned()),
            Token::Symbol(_) if self.at() < self.end => Err(self.unexpected()),
            Token::Symbol(_) => Err(Error { at, kind: ErrorKind::Missing }),
        }
    }

    /// A name with an optional part after a dot, and arguments if it is a function.
    fn name(&mut self, at: usize, mut name: String) -> Result<Node, Error> {
        self.next += 1;
        if self.symbol(".") {
            let Some((_, Token::Word(member))) = self.tokens.get(self.next) else { return Err(self.unexpected()) };
            name = format!("{name}.{member}");
            self.next += 1;
        }
        let formula = self.dialect == Dialect::Formula;
        let kind = match name.as_str() {
            "ban.Time" if formula => NodeKind::Time,
            "ban.Count" if formula => NodeKind::Count,
            "banFactor" if formula => NodeKind::Factor,
            "math.pi" => NodeKind::Number(Number::Float(std::f64::consts::PI)),
            "math.e" => NodeKind::Number(Number::Float(std::f64::consts::E)),
            "math.tau" => NodeKind::Number(Number::Float(std::f64::consts::TAU)),
            "math.inf" => NodeKind::Number(Number::Float(f64::MAX)),
            "True" => NodeKind::Number(Number::Int(1)),
            "False" => NodeKind::Number(Number::Int(0)),
            _ => {
                let Some(function) = Function::named(&name) else {
                    return Err(Error { at, kind: ErrorKind::UnknownWord(name) });
                };
                NodeKind::Call(function, self.arguments(function, at)?)
            }
        };
        Ok(Node { at, kind })
    }

    fn arguments(&mut self, function: Function, at: usize) -> Result<Vec<Node>, Error> {
        if !self.symbol("(") {
            return Err(self.unexpected());
        }
        let mut arguments = Vec::new();
        while !self.symbol(")") {
            arguments.push(self.deeper(Self::choice)?);
            if self.symbol(")") {
                break;
            }
            if !self.symbol(",") {
                return Err(self.unexpected());
            }
        }
        if function.takes().contains(&arguments.len()) {
            Ok(arguments)
        } else {
            Err(Error { at, kind: ErrorKind::Arguments(function.name()) })
        }
    }
}
