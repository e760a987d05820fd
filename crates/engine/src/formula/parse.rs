//! Tokens to a tree, by operator precedence (Pratt). The precedences are expr-lang's (`parser/operator`), from weak to
//! strong: `? :`, `|`, `or`, `and`, comparison and `in`, `..`, `+ -`, `not`, `* / %`, signs, `** ^`, `??`; only `** ^`
//! group to the right. So `a + b ?? 1` is `a + (b ?? 1)`, unlike in most languages, and what would follow a `??` on its
//! right needs brackets, as there.

use super::function::{Function, Method};
use super::lex::{Token, lex};
use super::node::{Binary, Comparison, Kind, Node, Unary};
use super::{DEPTH_MAX, FormulaError, LENGTH_MAX, Result};
use crate::name::Name;

/// Reads a whole formula; also gives the names of its variables.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Name>)> {
    if text.chars().count() > LENGTH_MAX {
        return Err(FormulaError::new(
            LENGTH_MAX + 1,
            format!("the formula is longer than {LENGTH_MAX} characters"),
        ));
    }
    let mut parser = Parser { tokens: lex(text)?, ..Parser::default() };
    let node = parser.expression(0)?;
    match parser.peek() {
        Token::End => Ok((node, parser.declared)),
        _ => Err(parser.unexpected("the end or an operator")),
    }
}

#[derive(Default)]
struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: usize,
    /// The function whose predicate this is, innermost last.
    predicates: Vec<Function>,
    /// The variables in force, outermost first.
    variables: Vec<String>,
    declared: Vec<Name>,
}

const PIPE: u8 = 0;
const COMPARISON: u8 = 20;
const NOT: u8 = 50;
const SIGN: u8 = 90;

fn binary(sign: &str) -> Option<(Binary, u8)> {
    Some(match sign {
        "||" | "or" => (Binary::Or, 10),
        "&&" | "and" => (Binary::And, 15),
        "==" => (Binary::Equal, COMPARISON),
        "!=" => (Binary::NotEqual, COMPARISON),
        "in" => (Binary::In, COMPARISON),
        "contains" => (Binary::Contains, COMPARISON),
        "startsWith" => (Binary::StartsWith, COMPARISON),
        "endsWith" => (Binary::EndsWith, COMPARISON),
        ".." => (Binary::Range, 25),
        "+" => (Binary::Add, 30),
        "-" => (Binary::Subtract, 30),
        "*" => (Binary::Multiply, 60),
        "/" => (Binary::Divide, 60),
        "%" => (Binary::Remainder, 60),
        "**" | "^" => (Binary::Power, 100),
        "??" => (Binary::Coalesce, 200),
        _ => return None,
    })
}

fn comparison(sign: &str) -> Option<Comparison> {
    Some(match sign {
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
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

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.advance();
        }
        found
    }

    fn expects(&mut self, sign: &str) -> Result<()> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> FormulaError {
        let found = match self.peek() {
            Token::Int(number) => format!("`{number}`"),
            Token::Float(number) => format!("`{number}`"),
            Token::Text(text) => format!("the text {text:?}"),
            Token::Name(name) => format!("`{name}`"),
            Token::Pointer(name) => format!("`#{name}`"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end of the formula".to_owned(),
        };
        FormulaError::new(self.column(), format!("unexpected {found}, expected {wanted}"))
    }

    /// A node over its children, if that does not nest too deep. Without this, a chain such as `a + a + …` would be a
    /// tree as deep as it is long.
    fn node(&self, column: usize, kind: Kind) -> Result<Node> {
        let mut node = Node { column, height: 0, kind };
        node.height = 1 + node.children().iter().map(|child| child.height).max().unwrap_or(0);
        if node.height > DEPTH_MAX {
            return Err(FormulaError::new(
                column,
                format!("nested more than {DEPTH_MAX} deep; a long sum can be written sum([…])"),
            ));
        }
        Ok(node)
    }

    /// Expressions between `;`, of which the last counts.
    fn sequence(&mut self) -> Result<Node> {
        let column = self.column();
        let mut nodes = vec![self.expression(0)?];
        while self.takes(";") {
            nodes.push(self.expression(0)?);
        }
        match nodes.len() {
            1 => Ok(nodes.remove(0)),
            _ => self.node(column, Kind::Sequence(nodes)),
        }
    }

    /// An expression whose operators bind at least as strongly as `strength`.
    fn expression(&mut self, strength: u8) -> Result<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(FormulaError::new(self.column(), format!("nested more than {DEPTH_MAX} deep")));
        }
        let node = match self.peek() {
            Token::Sign("let") if strength == 0 => self.declaration(),
            Token::Sign("if") if strength == 0 => self.condition(),
            _ => self.operators(strength),
        };
        self.depth -= 1;
        node
    }

    /// `let x = value; expression`.
    fn declaration(&mut self) -> Result<Node> {
        self.advance();
        let column = self.column();
        let Token::Name(name) = self.peek().clone() else {
            return Err(self.unexpected("a name for the variable"));
        };
        if Function::is_name(&name) || ["true", "false", "nil"].contains(&name.as_str()) {
            return Err(FormulaError::new(column, format!("`{name}` is taken and can't be a variable")));
        }
        if self.variables.contains(&name) {
            return Err(FormulaError::new(column, format!("the variable `{name}` is declared twice")));
        }
        self.advance();
        self.expects("=")?;
        let value = self.expression(0)?;
        self.expects(";")?;
        self.declared.push(Name::from(name.as_str()));
        self.variables.push(name);
        let within = self.sequence();
        self.variables.pop();
        self.node(column, Kind::Let(Box::new([value, within?])))
    }

    /// `if condition { … } else { … }`, or `else if`.
    fn condition(&mut self) -> Result<Node> {
        let column = self.column();
        self.advance();
        let condition = self.expression(0)?;
        let then = self.block()?;
        self.expects("else")?;
        let otherwise = if self.is("if") { self.expression(0)? } else { self.block()? };
        self.node(column, Kind::If(Box::new([condition, then, otherwise])))
    }

    fn block(&mut self) -> Result<Node> {
        self.expects("{")?;
        let node = self.sequence()?;
        self.expects("}")?;
        Ok(node)
    }

    fn operators(&mut self, strength: u8) -> Result<Node> {
        let mut left = self.primary()?;
        let mut coalesced = false;
        while let Token::Sign(sign) = *self.peek() {
            let column = self.column();
            let negated = sign == "not";
            if negated {
                self.advance();
            }
            let Token::Sign(sign) = *self.peek() else { return Err(self.unexpected("`in`")) };
            if sign == "matches" {
                return Err(FormulaError::new(
                    column,
                    "`matches` is for texts, and formulas here work on numbers",
                ));
            }
            if sign == "|" && strength == PIPE {
                self.advance();
                left = self.pipe(left)?;
                coalesced = false;
                continue;
            }
            let own = binary(sign).map(|(_, own)| own).or(comparison(sign).map(|_| COMPARISON));
            let Some(own) = own.filter(|own| *own >= strength) else {
                if negated {
                    self.next -= 1;
                }
                break;
            };
            if coalesced && sign != "??" {
                return Err(FormulaError::new(column, format!("put brackets around `??` before `{sign}`")));
            }
            coalesced = sign == "??";
            left = match binary(sign) {
                Some((operator, _)) => self.binary(left, operator, own, negated)?,
                None if negated => return Err(self.unexpected("`in`")),
                None => self.comparison(left, column)?,
            };
        }
        if strength == 0 { self.ternary(left) } else { Ok(left) }
    }

    fn binary(&mut self, left: Node, operator: Binary, strength: u8, negated: bool) -> Result<Node> {
        let column = self.column();
        let text = matches!(operator, Binary::In | Binary::Contains | Binary::StartsWith | Binary::EndsWith);
        if negated && !text {
            return Err(self.unexpected("`in`"));
        }
        self.advance();
        let groups_right = operator == Binary::Power;
        let right = self.expression(if groups_right { strength } else { strength + 1 })?;
        let node = self.node(column, Kind::Binary(operator, Box::new([left, right])))?;
        if negated { self.node(column, Kind::Unary(Unary::Not, Box::new(node))) } else { Ok(node) }
    }

    /// `a < b`, or a chain such as `1 < a <= 5`.
    fn comparison(&mut self, left: Node, column: usize) -> Result<Node> {
        let (mut operands, mut signs) = (vec![left], Vec::new());
        while let Token::Sign(sign) = *self.peek()
            && let Some(comparison) = comparison(sign)
        {
            self.advance();
            signs.push(comparison);
            operands.push(self.expression(COMPARISON + 1)?);
        }
        self.node(column, Kind::Compare(operands, signs))
    }

    /// `value | function(more)`: the value is the first argument.
    fn pipe(&mut self, value: Node) -> Result<Node> {
        let column = self.column();
        let Token::Name(name) = self.peek().clone() else {
            return Err(self.unexpected("a function"));
        };
        self.advance();
        if !self.is("(") {
            return Err(self.unexpected("`(`"));
        }
        self.call(&name, column, vec![value])
    }

    fn ternary(&mut self, mut condition: Node) -> Result<Node> {
        while self.is("?") {
            let column = self.column();
            self.advance();
            let kind = if self.takes(":") {
                Kind::Elvis(Box::new([condition, self.expression(0)?]))
            } else {
                let then = self.expression(0)?;
                self.expects(":")?;
                Kind::If(Box::new([condition, then, self.expression(0)?]))
            };
            condition = self.node(column, kind)?;
        }
        Ok(condition)
    }

    fn primary(&mut self) -> Result<Node> {
        let column = self.column();
        let unary = match self.peek() {
            Token::Sign("-") => Some((Unary::Minus, SIGN)),
            Token::Sign("+") => Some((Unary::Plus, SIGN)),
            Token::Sign("!" | "not") => Some((Unary::Not, NOT)),
            _ => None,
        };
        let node = if let Some((operator, strength)) = unary {
            self.advance();
            let inner = self.expression(strength)?;
            self.node(column, Kind::Unary(operator, Box::new(inner)))?
        } else if self.takes("(") {
            let inner = self.sequence()?;
            self.expects(")")?;
            inner
        } else {
            self.operand(column)?
        };
        self.postfix(node)
    }

    fn operand(&mut self, column: usize) -> Result<Node> {
        let kind = match self.peek().clone() {
            Token::Int(number) => Kind::Int(number),
            Token::Float(number) => Kind::Float(number),
            Token::Text(text) => Kind::Text(text.into()),
            Token::Pointer(name) => self.pointer(&name)?,
            Token::Name(name) => {
                self.advance();
                return if self.is("(") {
                    self.call(&name, column, Vec::new())
                } else {
                    self.node(column, self.named(&name, column)?)
                };
            }
            Token::Sign("[") => {
                self.advance();
                let nodes = self.list("]", Vec::new())?;
                return self.node(column, Kind::Array(nodes));
            }
            Token::Sign("{") => {
                return Err(FormulaError::new(column, "formulas here have arrays, but no maps"));
            }
            Token::Sign(_) | Token::End => {
                return Err(self.unexpected("a number, a trigger's name or a function"));
            }
        };
        self.advance();
        self.node(column, kind)
    }

    /// `#`, `#index` and `#acc`, where they mean something.
    fn pointer(&self, name: &str) -> Result<Kind> {
        match (name, self.predicates.last()) {
            ("", Some(_)) => Ok(Kind::Element),
            ("index", Some(Function::Map | Function::Reduce)) => Ok(Kind::Index),
            ("acc", Some(Function::Reduce)) => Ok(Kind::Accumulator),
            (_, None) => Err(self.unexpected("a number, a trigger's name or a function")),
            _ => Err(FormulaError::new(self.column(), format!("there is no `#{name}` in this function"))),
        }
    }

    /// A word that calls nothing: a constant, a variable or a trigger.
    fn named(&self, name: &str, column: usize) -> Result<Kind> {
        Ok(match name {
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            "nil" => Kind::Nil,
            _ if name.starts_with('$') => {
                return Err(FormulaError::new(column, format!("unknown name `{name}`")));
            }
            _ => match self.variables.iter().position(|variable| variable == name) {
                Some(slot) => Kind::Variable(slot),
                None => Kind::Name(Name::from(name)),
            },
        })
    }

    /// A call, from its opening bracket on; `arguments` holds what a pipe gives.
    fn call(&mut self, name: &str, column: usize, mut arguments: Vec<Node>) -> Result<Node> {
        let function = Function::of(name).map_err(|message| FormulaError::new(column, message))?;
        self.expects("(")?;
        if function.takes_predicate() {
            if arguments.is_empty() && !self.is(")") {
                arguments.push(self.expression(0)?);
                if !self.is(")") {
                    self.expects(",")?;
                }
            }
            if !self.is(")") {
                arguments.push(self.predicate(function)?);
                if !self.is(")") {
                    self.expects(",")?;
                }
            }
        }
        let arguments = self.list(")", arguments)?;
        if let Some(message) = function.count_error(arguments.len()) {
            return Err(FormulaError::new(column, message));
        }
        self.node(column, Kind::Call(function, arguments))
    }

    /// `# > 1` or `{ … }`.
    fn predicate(&mut self, function: Function) -> Result<Node> {
        self.predicates.push(function);
        let node = if self.is("{") { self.block() } else { self.expression(0) };
        self.predicates.pop();
        node
    }

    /// Expressions between commas, up to the closing bracket; a comma may stand before it.
    fn list(&mut self, close: &str, mut nodes: Vec<Node>) -> Result<Vec<Node>> {
        let mut first = true;
        while !self.takes(close) {
            if !first {
                self.expects(",")?;
                if self.takes(close) {
                    break;
                }
            }
            first = false;
            nodes.push(self.expression(0)?);
        }
        Ok(nodes)
    }

    /// Methods, elements and slices of what was read.
    fn postfix(&mut self, mut node: Node) -> Result<Node> {
        loop {
            let column = self.column();
            if self.takes(".") {
                node = self.method(node, column)?;
            } else if self.takes("[") {
                node = self.item(node, column)?;
            } else if self.is("?.") {
                return Err(FormulaError::new(column, "`?.` is for maps, and formulas here have none"));
            } else {
                return Ok(node);
            }
        }
    }

    fn method(&mut self, of: Node, column: usize) -> Result<Node> {
        let Token::Name(name) = self.peek().clone() else {
            return Err(self.unexpected("the name of a method"));
        };
        let method = Method::of(&name).map_err(|message| FormulaError::new(column, message))?;
        self.advance();
        self.expects("(")?;
        let arguments = self.list(")", Vec::new())?;
        if arguments.len() != method.arguments() {
            let (wanted, given) = (method.arguments(), arguments.len());
            let message = format!("{name} takes {wanted} arguments, and {given} were given");
            return Err(FormulaError::new(column, message));
        }
        self.node(column, Kind::Method(method, Box::new(of), arguments))
    }

    /// `index]`, or `from:to]` with either left out.
    fn item(&mut self, of: Node, column: usize) -> Result<Node> {
        let from = if self.is(":") { None } else { Some(self.expression(0)?) };
        let kind = match from {
            Some(index) if !self.is(":") => Kind::Item(Box::new([of, index])),
            from => {
                self.expects(":")?;
                let to = if self.is("]") { None } else { Some(Box::new(self.expression(0)?)) };
                Kind::Slice { of: Box::new(of), from: from.map(Box::new), to }
            }
        };
        self.expects("]")?;
        self.node(column, kind)
    }
}
