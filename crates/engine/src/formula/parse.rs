//! Tokens to a tree, by operator precedence (Pratt). The precedences are expr-lang's (`parser/operator`):
//! `?:` < `|| or` < `&& and` < comparison < `+ -` < `! not` < `* / %` < unary `-` < `** ^` < `??`; only `** ^` group to
//! the right. So `a + b ?? 1` is `a + (b ?? 1)`, unlike in most languages.

use super::lex::{Token, lex};
use super::{DEPTH_MAX, FormulaError, LENGTH_MAX};
use crate::name::Name;

/// A part of a formula, with the column where it starts or its operator stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) column: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Number(f64),
    Bool(bool),
    Nil,
    Name(Name),
    /// `#`, the element a predicate looks at.
    Element,
    Array(Vec<Node>),
    Unary(Unary, Box<Node>),
    Binary(Binary, Box<[Node; 2]>),
    /// Condition, then, else.
    Ternary(Box<[Node; 3]>),
    Call(Function, Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unary {
    Minus,
    Plus,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Coalesce,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Max,
    Min,
    Sum,
    Mean,
    Median,
    Count,
    Any,
    All,
    None,
    Abs,
    Ceil,
    Floor,
    Round,
    Len,
    Int,
    Float,
}

const FUNCTIONS: [(&str, Function); 16] = [
    ("max", Function::Max),
    ("min", Function::Min),
    ("sum", Function::Sum),
    ("mean", Function::Mean),
    ("median", Function::Median),
    ("count", Function::Count),
    ("any", Function::Any),
    ("all", Function::All),
    ("none", Function::None),
    ("abs", Function::Abs),
    ("ceil", Function::Ceil),
    ("floor", Function::Floor),
    ("round", Function::Round),
    ("len", Function::Len),
    ("int", Function::Int),
    ("float", Function::Float),
];

impl Function {
    pub(super) fn name(self) -> &'static str {
        FUNCTIONS.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }

    /// The second argument is a predicate over the elements of the first.
    fn takes_predicate(self) -> bool {
        matches!(self, Self::Count | Self::Any | Self::All | Self::None)
    }
}

impl Node {
    /// Adds the triggers this part uses, each once.
    pub(super) fn collect_names(&self, names: &mut Vec<Name>) {
        match &self.kind {
            Kind::Name(name) if !names.contains(name) => names.push(name.clone()),
            Kind::Number(_) | Kind::Bool(_) | Kind::Nil | Kind::Name(_) | Kind::Element => {}
            Kind::Array(nodes) | Kind::Call(_, nodes) => {
                nodes.iter().for_each(|node| node.collect_names(names))
            }
            Kind::Unary(_, node) => node.collect_names(names),
            Kind::Binary(_, nodes) => nodes.iter().for_each(|node| node.collect_names(names)),
            Kind::Ternary(nodes) => nodes.iter().for_each(|node| node.collect_names(names)),
        }
    }
}

/// Reads a whole formula.
pub(super) fn parse(text: &str) -> Result<Node, FormulaError> {
    if text.chars().count() > LENGTH_MAX {
        return Err(FormulaError::new(
            LENGTH_MAX + 1,
            format!("the formula is longer than {LENGTH_MAX} characters"),
        ));
    }
    let mut parser = Parser { tokens: lex(text)?, next: 0, depth: 0, in_predicate: false };
    let node = parser.expression(0)?;
    match parser.peek() {
        Token::End => Ok(node),
        _ => Err(parser.unexpected("the end or an operator")),
    }
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: usize,
    in_predicate: bool,
}

/// How strongly each operator binds; the ternary binds least and is handled apart.
const TERNARY: u8 = 0;
const NOT: u8 = 5;
const SIGN: u8 = 7;

fn binary(sign: &str) -> Option<(Binary, u8)> {
    Some(match sign {
        "??" => (Binary::Coalesce, 9),
        "||" => (Binary::Or, 1),
        "&&" => (Binary::And, 2),
        "==" => (Binary::Equal, 3),
        "!=" => (Binary::NotEqual, 3),
        "<" => (Binary::Less, 3),
        "<=" => (Binary::LessOrEqual, 3),
        ">" => (Binary::Greater, 3),
        ">=" => (Binary::GreaterOrEqual, 3),
        "+" => (Binary::Add, 4),
        "-" => (Binary::Subtract, 4),
        "*" => (Binary::Multiply, 6),
        "/" => (Binary::Divide, 6),
        "%" => (Binary::Remainder, 6),
        "**" | "^" => (Binary::Power, 8),
        _ => return None,
    })
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].0
    }

    fn column(&self) -> usize {
        self.tokens[self.next].1
    }

    fn advance(&mut self) {
        // The last token is the end, which is never passed.
        self.next = (self.next + 1).min(self.tokens.len() - 1);
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        if found {
            self.advance();
        }
        found
    }

    fn expects(&mut self, sign: &str) -> Result<(), FormulaError> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> FormulaError {
        let found = match self.peek() {
            Token::Number(number) => format!("`{number}`"),
            Token::Name(name) => format!("`{name}`"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end of the formula".to_owned(),
        };
        FormulaError::new(self.column(), format!("unexpected {found}, expected {wanted}"))
    }

    /// An expression whose operators bind at least as strongly as `strength`.
    fn expression(&mut self, strength: u8) -> Result<Node, FormulaError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(FormulaError::new(self.column(), format!("nested more than {DEPTH_MAX} deep")));
        }
        let mut left = self.operand()?;
        let mut length = 0;
        while let Token::Sign(sign) = *self.peek() {
            left = if sign == "?" && strength == TERNARY {
                self.ternary(left)?
            } else if let Some((operator, own)) = binary(sign).filter(|(_, own)| *own >= strength) {
                self.binary(left, operator, own)?
            } else {
                break;
            };
            // A chain such as `a + a + …` is a tree as deep as it is long.
            length += 1;
            if length > DEPTH_MAX {
                return Err(FormulaError::new(
                    self.column(),
                    format!("more than {DEPTH_MAX} operators in a row; use brackets or sum([…])"),
                ));
            }
        }
        self.depth -= 1;
        Ok(left)
    }

    fn binary(&mut self, left: Node, operator: Binary, strength: u8) -> Result<Node, FormulaError> {
        let column = self.column();
        self.advance();
        let groups_right = operator == Binary::Power;
        let right = self.expression(if groups_right { strength } else { strength + 1 })?;
        Ok(Node { column, kind: Kind::Binary(operator, Box::new([left, right])) })
    }

    fn ternary(&mut self, condition: Node) -> Result<Node, FormulaError> {
        let column = self.column();
        self.advance();
        let then = self.expression(0)?;
        self.expects(":")?;
        let otherwise = self.expression(0)?;
        Ok(Node { column, kind: Kind::Ternary(Box::new([condition, then, otherwise])) })
    }

    fn operand(&mut self) -> Result<Node, FormulaError> {
        let column = self.column();
        let token = self.peek().clone();
        let kind = match token {
            Token::Number(number) => {
                self.advance();
                Kind::Number(number)
            }
            Token::Name(name) => {
                self.advance();
                self.named(&name, column)?
            }
            Token::Sign("(") => {
                self.advance();
                let inner = self.expression(0)?;
                self.expects(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => {
                self.advance();
                Kind::Array(self.list("]")?)
            }
            Token::Sign("#") if self.in_predicate => {
                self.advance();
                Kind::Element
            }
            Token::Sign("-") => self.unary(Unary::Minus, SIGN)?,
            Token::Sign("+") => self.unary(Unary::Plus, SIGN)?,
            Token::Sign("!") => self.unary(Unary::Not, NOT)?,
            Token::Sign(_) | Token::End => {
                return Err(self.unexpected("a number, a trigger's name or a function"));
            }
        };
        Ok(Node { column, kind })
    }

    fn unary(&mut self, operator: Unary, strength: u8) -> Result<Kind, FormulaError> {
        self.advance();
        Ok(Kind::Unary(operator, Box::new(self.expression(strength)?)))
    }

    /// A word: a constant, a function if a bracket follows, or a trigger.
    fn named(&mut self, name: &str, column: usize) -> Result<Kind, FormulaError> {
        if self.takes("(") {
            let Some((_, function)) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
                let message = format!("unknown function `{name}`; there are {}", known.join(", "));
                return Err(FormulaError::new(column, message));
            };
            return self.call(*function);
        }
        Ok(match name {
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            "nil" => Kind::Nil,
            _ => Kind::Name(Name::from(name)),
        })
    }

    fn call(&mut self, function: Function) -> Result<Kind, FormulaError> {
        if !function.takes_predicate() {
            return Ok(Kind::Call(function, self.list(")")?));
        }
        let over = self.expression(0)?;
        let mut arguments = vec![over];
        if self.takes(",") {
            let outer = std::mem::replace(&mut self.in_predicate, true);
            let braced = self.takes("{");
            arguments.push(self.expression(0)?);
            if braced {
                self.expects("}")?;
            }
            self.in_predicate = outer;
        }
        self.expects(")")?;
        Ok(Kind::Call(function, arguments))
    }

    /// Expressions between commas, up to the closing bracket.
    fn list(&mut self, close: &str) -> Result<Vec<Node>, FormulaError> {
        let mut nodes = Vec::new();
        while !self.takes(close) {
            if !nodes.is_empty() {
                self.expects(",")?;
                if self.takes(close) {
                    break;
                }
            }
            nodes.push(self.expression(0)?);
        }
        Ok(nodes)
    }
}
