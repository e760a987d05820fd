//! The value of a formula.

use super::FormulaError;
use super::parse::{Binary, Function, Kind, Node, Unary};
use crate::name::Name;

/// What a part of a formula can be.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(f64),
    Bool(bool),
    Nil,
    Array(Vec<Value>),
}

impl Value {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Nil => "nil",
            Self::Array(_) => "an array",
        }
    }
}

type Result<T> = std::result::Result<T, FormulaError>;

/// The number `node` comes to, or none for `nil`.
pub(super) fn evaluate(node: &Node, value: &dyn Fn(&Name) -> Option<f64>) -> Result<Option<f64>> {
    let scope = Scope { value, element: None };
    match scope.eval(node)? {
        Value::Number(number) => Ok(Some(number)),
        Value::Nil => Ok(None),
        other => Err(FormulaError::new(
            node.column,
            format!("the formula must come to a number, and this is {}", other.type_name()),
        )),
    }
}

/// What names mean.
struct Scope<'a> {
    value: &'a dyn Fn(&Name) -> Option<f64>,
    element: Option<&'a Value>,
}

impl Scope<'_> {
    fn eval(&self, node: &Node) -> Result<Value> {
        Ok(match &node.kind {
            Kind::Number(number) => Value::Number(*number),
            Kind::Bool(truth) => Value::Bool(*truth),
            Kind::Nil => Value::Nil,
            Kind::Name(name) => (self.value)(name).map_or(Value::Nil, Value::Number),
            Kind::Element => self.element.cloned().unwrap_or(Value::Nil),
            Kind::Array(nodes) => {
                Value::Array(nodes.iter().map(|node| self.eval(node)).collect::<Result<_>>()?)
            }
            Kind::Unary(Unary::Not, inner) => Value::Bool(!self.truth(inner)?),
            Kind::Unary(Unary::Minus, inner) => Value::Number(-self.number(inner)?),
            Kind::Unary(Unary::Plus, inner) => Value::Number(self.number(inner)?),
            Kind::Binary(operator, nodes) => self.binary(*operator, &nodes[0], &nodes[1])?,
            Kind::Ternary(nodes) => self.eval(&nodes[if self.truth(&nodes[0])? { 1 } else { 2 }])?,
            Kind::Call(function, arguments) => self.call(*function, arguments, node.column)?,
        })
    }

    fn number(&self, node: &Node) -> Result<f64> {
        match self.eval(node)? {
            Value::Number(number) => Ok(number),
            other => Err(expected("a number", &other, node.column)),
        }
    }

    fn truth(&self, node: &Node) -> Result<bool> {
        match self.eval(node)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(expected("true or false", &other, node.column)),
        }
    }

    fn array(&self, node: &Node) -> Result<Vec<Value>> {
        match self.eval(node)? {
            Value::Array(values) => Ok(values),
            other => Err(expected("an array", &other, node.column)),
        }
    }

    fn binary(&self, operator: Binary, left: &Node, right: &Node) -> Result<Value> {
        Ok(match operator {
            Binary::Coalesce => match self.eval(left)? {
                Value::Nil => self.eval(right)?,
                value => value,
            },
            Binary::And => Value::Bool(self.truth(left)? && self.truth(right)?),
            Binary::Or => Value::Bool(self.truth(left)? || self.truth(right)?),
            Binary::Equal => Value::Bool(self.eval(left)? == self.eval(right)?),
            Binary::NotEqual => Value::Bool(self.eval(left)? != self.eval(right)?),
            _ => arithmetic(operator, self.number(left)?, self.number(right)?),
        })
    }

    fn call(&self, function: Function, arguments: &[Node], column: usize) -> Result<Value> {
        let wrong_count = |wanted: &str| {
            let message = format!("{} takes {wanted}, and {} were given", function.name(), arguments.len());
            Err(FormulaError::new(column, message))
        };
        match function {
            Function::Count | Function::Any | Function::All | Function::None => match arguments {
                [over] => self.predicate(function, over, None),
                [over, predicate] => self.predicate(function, over, Some(predicate)),
                _ => wrong_count("an array and a predicate"),
            },
            Function::Max | Function::Min | Function::Sum | Function::Mean | Function::Median => {
                aggregate(function, self.numbers(arguments)?, column)
            }
            Function::Len => match arguments {
                [over] => Ok(Value::Number(self.array(over)?.len() as f64)),
                _ => wrong_count("one array"),
            },
            Function::Abs
            | Function::Ceil
            | Function::Floor
            | Function::Round
            | Function::Int
            | Function::Float => match arguments {
                [number] => Ok(Value::Number(rounded(function, self.number(number)?))),
                _ => wrong_count("one number"),
            },
        }
    }

    /// The numbers among the arguments and in the arrays among them.
    fn numbers(&self, arguments: &[Node]) -> Result<Vec<f64>> {
        let mut numbers = Vec::new();
        for argument in arguments {
            let values = match self.eval(argument)? {
                Value::Array(values) => values,
                value => vec![value],
            };
            for value in values {
                match value {
                    Value::Number(number) => numbers.push(number),
                    other => return Err(expected("a number", &other, argument.column)),
                }
            }
        }
        Ok(numbers)
    }

    fn predicate(&self, function: Function, over: &Node, predicate: Option<&Node>) -> Result<Value> {
        let values = self.array(over)?;
        let mut matching = 0;
        for value in &values {
            let scope = Scope { value: self.value, element: Some(value) };
            let matches = match predicate {
                Some(predicate) => scope.truth(predicate)?,
                None => matches!(value, Value::Bool(true)),
            };
            matching += usize::from(matches);
        }
        Ok(match function {
            Function::Any => Value::Bool(matching > 0),
            Function::All => Value::Bool(matching == values.len()),
            Function::None => Value::Bool(matching == 0),
            _ => Value::Number(matching as f64),
        })
    }
}

fn expected(wanted: &str, found: &Value, column: usize) -> FormulaError {
    FormulaError::new(column, format!("expected {wanted}, found {}", found.type_name()))
}

fn arithmetic(operator: Binary, left: f64, right: f64) -> Value {
    match operator {
        Binary::Subtract => Value::Number(left - right),
        Binary::Multiply => Value::Number(left * right),
        Binary::Divide => Value::Number(left / right),
        Binary::Remainder => Value::Number(left % right),
        Binary::Power => Value::Number(left.powf(right)),
        Binary::Less => Value::Bool(left < right),
        Binary::LessOrEqual => Value::Bool(left <= right),
        Binary::Greater => Value::Bool(left > right),
        Binary::GreaterOrEqual => Value::Bool(left >= right),
        _ => Value::Number(left + right),
    }
}

fn rounded(function: Function, number: f64) -> f64 {
    match function {
        Function::Abs => number.abs(),
        Function::Ceil => number.ceil(),
        Function::Floor => number.floor(),
        Function::Round => number.round(),
        Function::Int => number.trunc(),
        _ => number,
    }
}

fn aggregate(function: Function, mut numbers: Vec<f64>, column: usize) -> Result<Value> {
    let sum: f64 = numbers.iter().sum();
    let empty = || FormulaError::new(column, format!("{} needs at least one number", function.name()));
    Ok(Value::Number(match function {
        Function::Max => numbers.into_iter().reduce(f64::max).ok_or_else(empty)?,
        Function::Min => numbers.into_iter().reduce(f64::min).ok_or_else(empty)?,
        Function::Mean if numbers.is_empty() => 0.0,
        Function::Mean => sum / numbers.len() as f64,
        Function::Median => {
            numbers.sort_by(f64::total_cmp);
            let half = numbers.len() / 2;
            match numbers.len() {
                0 => 0.0,
                odd if odd % 2 == 1 => numbers[half],
                _ => f64::midpoint(numbers[half - 1], numbers[half]),
            }
        }
        _ => sum,
    }))
}
