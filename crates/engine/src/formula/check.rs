//! The types of a formula, as far as they are known before it is computed.
//!
//! expr-lang checks types when it compiles, so a formula that is wrong only in a branch that is seldom taken is refused
//! when it is applied, not when that branch is first needed. Every trigger is a number here; that one of them can turn
//! out `nil` is for the evaluation. What is not known (an array of different things, `#acc`) is anything, and passes.

use super::function::{Function, Method};
use super::node::{Binary, Kind, Node, Unary};
use super::{FormulaError, Result};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Any,
    Nil,
    Int,
    Float,
    Bool,
    Text,
    Array(Box<Type>),
    Time,
    Duration,
    Weekday,
    Month,
    Zone,
}

use Type::{Any, Bool, Duration, Float, Int, Month, Nil, Text, Time, Weekday, Zone};

impl Type {
    fn array(of: Self) -> Self {
        Self::Array(Box::new(of))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Any => "anything",
            Nil => "nil",
            Int => "a whole number",
            Float => "a number",
            Bool => "true or false",
            Text => "a text",
            Self::Array(_) => "an array",
            Time => "a time",
            Duration => "a duration",
            Weekday => "a weekday",
            Month => "a month",
            Zone => "a time zone",
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Int | Float)
    }

    fn may_be(&self, wanted: &Self) -> bool {
        self == wanted || *self == Any
    }

    fn may_be_number(&self) -> bool {
        self.is_number() || *self == Any
    }

    /// Whether `==` can say anything about the two.
    fn is_comparable(&self, other: &Self) -> bool {
        let free = |kind: &Self| matches!(kind, Any | Nil);
        free(self)
            || free(other)
            || self.is_number() && other.is_number()
            || matches!((self, other), (Self::Array(_), Self::Array(_)))
            || self == other
    }

    /// What comes out where either may.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Nil, kind) | (kind, Nil) => kind,
            (left, right) if left == right => left,
            _ => Any,
        }
    }
}

/// Whole numbers stay whole among themselves.
fn promoted(left: &Type, right: &Type) -> Type {
    match (left, right) {
        (Any, _) | (_, Any) => Any,
        (Int, Int) => Int,
        _ => Float,
    }
}

/// The types of variables and elements in force.
#[derive(Default)]
pub(super) struct Checker {
    variables: Vec<Type>,
    elements: Vec<Type>,
}

impl Checker {
    /// The type of a part, or the first thing in it that can't be.
    pub(super) fn check(&mut self, node: &Node) -> Result<Type> {
        Ok(match &node.kind {
            Kind::Int(_) | Kind::Index => Int,
            Kind::Float(_) | Kind::Name(_) => Float,
            Kind::Bool(_) => Bool,
            Kind::Nil => Nil,
            Kind::Text(_) => Text,
            Kind::Variable(slot) => self.variables.get(*slot).cloned().unwrap_or(Any),
            Kind::Element => self.elements.last().cloned().unwrap_or(Any),
            Kind::Accumulator => Any,
            Kind::Array(nodes) => self.array(nodes)?,
            Kind::Unary(operator, inner) => self.unary(*operator, inner)?,
            Kind::Binary(operator, nodes) => self.binary(*operator, &nodes[0], &nodes[1], node.column)?,
            Kind::Compare(nodes, _) => self.compare(nodes, node.column)?,
            Kind::If(nodes) => {
                self.wants(&nodes[0], &Bool)?;
                let then = self.check(&nodes[1])?;
                then.or(self.check(&nodes[2])?)
            }
            Kind::Elvis(nodes) => {
                self.wants(&nodes[0], &Bool)?;
                Bool.or(self.check(&nodes[1])?)
            }
            Kind::Let(nodes) => {
                let value = self.check(&nodes[0])?;
                self.variables.push(value);
                let within = self.check(&nodes[1]);
                self.variables.pop();
                within?
            }
            Kind::Sequence(nodes) => {
                let types: Vec<Type> = nodes.iter().map(|node| self.check(node)).collect::<Result<_>>()?;
                types.last().cloned().unwrap_or(Nil)
            }
            Kind::Item(nodes) => {
                let element = self.element(&nodes[0])?;
                self.wants(&nodes[1], &Int)?;
                element
            }
            Kind::Slice { of, from, to } => {
                let element = self.element(of)?;
                for bound in [from, to].into_iter().flatten() {
                    self.wants(bound, &Int)?;
                }
                Type::array(element)
            }
            Kind::Call(function, arguments) => self.call(*function, arguments, node.column)?,
            Kind::Method(method, of, arguments) => self.method(*method, of, arguments, node.column)?,
        })
    }

    fn wants(&mut self, node: &Node, wanted: &Type) -> Result<()> {
        let found = self.check(node)?;
        if found.may_be(wanted) { Ok(()) } else { Err(expected(wanted, &found, node.column)) }
    }

    fn wants_number(&mut self, node: &Node) -> Result<Type> {
        let found = self.check(node)?;
        if found.may_be_number() { Ok(found) } else { Err(expected(&Float, &found, node.column)) }
    }

    /// The type of the elements of an array.
    fn element(&mut self, node: &Node) -> Result<Type> {
        match self.check(node)? {
            Type::Array(element) => Ok(*element),
            Any => Ok(Any),
            other => Err(expected(&Type::array(Any), &other, node.column)),
        }
    }

    fn array(&mut self, nodes: &[Node]) -> Result<Type> {
        let mut types = nodes.iter().map(|node| self.check(node)).collect::<Result<Vec<_>>>()?.into_iter();
        let first = types.next().unwrap_or(Any);
        let same = types.all(|kind| kind == first);
        Ok(Type::array(if same { first } else { Any }))
    }

    fn unary(&mut self, operator: Unary, inner: &Node) -> Result<Type> {
        match operator {
            Unary::Not => self.wants(inner, &Bool).map(|()| Bool),
            Unary::Minus | Unary::Plus => self.wants_number(inner),
        }
    }

    fn compare(&mut self, nodes: &[Node], column: usize) -> Result<Type> {
        let types: Vec<Type> = nodes.iter().map(|node| self.check(node)).collect::<Result<_>>()?;
        for pair in types.windows(2) {
            let (left, right) = (&pair[0], &pair[1]);
            let ordered = |kind: &Type| kind.is_number() || matches!(kind, Any | Text | Time | Duration);
            let same = left == right || left.may_be_number() && right.may_be_number();
            if !(ordered(left) && ordered(right) && (same || *left == Any || *right == Any)) {
                return Err(mismatch("compared", left, right, column));
            }
        }
        Ok(Bool)
    }

    fn binary(&mut self, operator: Binary, left: &Node, right: &Node, column: usize) -> Result<Type> {
        let (l, r) = (self.check(left)?, self.check(right)?);
        let numbers = l.may_be_number() && r.may_be_number();
        let either = |kind: &Type| l == *kind || r == *kind;
        let kind = match operator {
            Binary::Coalesce => Some(l.clone().or(r.clone())),
            Binary::And | Binary::Or => (l.may_be(&Bool) && r.may_be(&Bool)).then_some(Bool),
            Binary::Equal | Binary::NotEqual => l.is_comparable(&r).then_some(Bool),
            Binary::In => match &r {
                Type::Array(element) => l.is_comparable(element).then_some(Bool),
                Any => Some(Bool),
                _ => None,
            },
            Binary::Contains | Binary::StartsWith | Binary::EndsWith => {
                (l.may_be(&Text) && r.may_be(&Text)).then_some(Bool)
            }
            Binary::Range => (l.may_be(&Int) && r.may_be(&Int)).then(|| Type::array(Int)),
            Binary::Remainder => (l.may_be(&Int) && r.may_be(&Int)).then_some(Int),
            Binary::Divide | Binary::Power => numbers.then_some(Float),
            Binary::Add if numbers => Some(promoted(&l, &r)),
            Binary::Subtract | Binary::Multiply if numbers => Some(promoted(&l, &r)),
            Binary::Add | Binary::Subtract | Binary::Multiply if either(&Any) => {
                (either(&Time) || either(&Duration)).then_some(Any)
            }
            Binary::Add if either(&Time) && either(&Duration) => Some(Time),
            Binary::Add | Binary::Subtract if l == Duration && r == Duration => Some(Duration),
            Binary::Subtract if l == Time && r == Time => Some(Duration),
            Binary::Subtract if l == Time && r == Duration => Some(Time),
            Binary::Multiply if either(&Duration) && (l.is_number() || r.is_number()) => Some(Duration),
            _ => None,
        };
        kind.ok_or_else(|| match operator {
            Binary::Remainder | Binary::Range if numbers => {
                let sign = if operator == Binary::Range { ".." } else { "%" };
                FormulaError::new(
                    column,
                    format!("`{sign}` works on whole numbers; write int(…) around a number"),
                )
            }
            _ => mismatch("combined here", &l, &r, column),
        })
    }

    fn call(&mut self, function: Function, arguments: &[Node], column: usize) -> Result<Type> {
        use Function as F;
        if function.takes_predicate() {
            return self.predicate(function, arguments);
        }
        Ok(match function {
            F::Max | F::Min | F::Mean | F::Median => self.aggregate(function, arguments)?,
            F::Ceil | F::Floor | F::Round => self.wants_number(&arguments[0]).map(|_| Float)?,
            F::Abs => self.wants_number(&arguments[0])?,
            F::Int => self.convertible(&arguments[0]).map(|()| Int)?,
            F::Float => match self.check(&arguments[0])? {
                Int | Float | Text | Any => Float,
                other => return Err(expected(&Float, &other, arguments[0].column)),
            },
            F::Len => match self.check(&arguments[0])? {
                Text | Any | Type::Array(_) => Int,
                other => return Err(expected(&Type::array(Any), &other, arguments[0].column)),
            },
            F::First | F::Last => self.element(&arguments[0])?,
            F::Get => {
                self.wants(&arguments[1], &Int)?;
                self.element(&arguments[0])?
            }
            F::Take => {
                self.wants(&arguments[1], &Int)?;
                Type::array(self.element(&arguments[0])?)
            }
            F::Reverse | F::Uniq | F::Concat | F::Flatten | F::Sort => {
                let arrays = if function == F::Sort { &arguments[..1] } else { arguments };
                for argument in arrays {
                    self.element(argument)?;
                }
                if let (F::Sort, Some(order)) = (function, arguments.get(1)) {
                    self.wants(order, &Text)?;
                }
                Type::array(Any)
            }
            F::Bit(_) | F::BitNot => {
                for argument in arguments {
                    self.wants(argument, &Int)?;
                }
                Int
            }
            _ => self.clock(function, arguments, column)?,
        })
    }

    /// Functions of time.
    fn clock(&mut self, function: Function, arguments: &[Node], column: usize) -> Result<Type> {
        match (function, arguments) {
            (Function::Now, []) => Ok(Time),
            (Function::Now, [zone]) => self.wants(zone, &Zone).map(|()| Time),
            (Function::Date, [date]) => self.wants(date, &Text).map(|()| Time),
            (Function::Date, [zone, date]) => {
                if self.check(zone)? == Text {
                    let message = "date takes a date, or a time zone and a date; layouts are not there";
                    return Err(FormulaError::new(column, message));
                }
                self.wants(zone, &Zone)?;
                self.wants(date, &Text).map(|()| Time)
            }
            (Function::Duration, _) => self.wants(&arguments[0], &Text).map(|()| Duration),
            _ => self.wants(&arguments[0], &Text).map(|()| Zone),
        }
    }

    /// What `int` takes.
    fn convertible(&mut self, node: &Node) -> Result<()> {
        match self.check(node)? {
            Int | Float | Text | Any | Duration | Weekday | Month => Ok(()),
            other => Err(expected(&Float, &other, node.column)),
        }
    }

    /// `max(a, [b, c])`: numbers, and arrays of what is looked at when it is computed.
    fn aggregate(&mut self, function: Function, arguments: &[Node]) -> Result<Type> {
        let types: Vec<Type> = arguments.iter().map(|node| self.check(node)).collect::<Result<_>>()?;
        for (kind, node) in types.iter().zip(arguments) {
            if matches!(kind, Any | Type::Array(_)) {
                return Ok(Any);
            }
            if !kind.is_number() {
                return Err(expected(&Float, kind, node.column));
            }
        }
        Ok(if matches!(function, Function::Mean | Function::Median) { Float } else { types[0].clone() })
    }

    fn predicate(&mut self, function: Function, arguments: &[Node]) -> Result<Type> {
        use Function as F;
        let element = self.element(&arguments[0])?;
        let result = match arguments.get(1) {
            None => element.clone(),
            Some(predicate) => {
                self.elements.push(element.clone());
                let result = self.check(predicate);
                self.elements.pop();
                result?
            }
        };
        let truth = !matches!(function, F::Map | F::Sum | F::SortBy | F::Reduce);
        if truth && arguments.len() > 1 && !result.may_be(&Bool) {
            return Err(expected(&Bool, &result, arguments[1].column));
        }
        if let Some(third) = arguments.get(2) {
            let third_type = self.check(third)?;
            if function == F::SortBy && !third_type.may_be(&Text) {
                return Err(expected(&Text, &third_type, third.column));
            }
        }
        Ok(match function {
            F::All | F::None | F::Any | F::One => Bool,
            F::Filter | F::SortBy => Type::array(element),
            F::Map => Type::array(result),
            F::Find | F::FindLast => element,
            F::FindIndex | F::FindLastIndex | F::Count => Int,
            // What they come to depends on the elements, and on whether there are any.
            _ => result,
        })
    }

    fn method(&mut self, method: Method, of: &Node, arguments: &[Node], column: usize) -> Result<Type> {
        use Method as M;
        let receiver = self.check(of)?;
        let result = match (&receiver, method) {
            (Time, M::Year | M::Day | M::Hour | M::Minute | M::Second | M::YearDay | M::Unix) => Int,
            (Time, M::Month) => Month,
            (Time, M::Weekday) => Weekday,
            (Time, M::Utc | M::In | M::Add) => Time,
            (Time, M::Sub) => Duration,
            (Time, M::After | M::Before | M::Equal) => Bool,
            (Duration, M::Hours | M::Minutes | M::Seconds) => Float,
            (Weekday | Month, M::String) => Text,
            (Any, _) => Any,
            _ => {
                let message = format!("{} has no method {}", receiver.name(), method.name());
                return Err(FormulaError::new(column, message));
            }
        };
        if let [argument] = arguments {
            self.wants(
                argument,
                match method {
                    M::In => &Zone,
                    M::Add => &Duration,
                    _ => &Time,
                },
            )?;
        }
        Ok(result)
    }
}

fn expected(wanted: &Type, found: &Type, column: usize) -> FormulaError {
    FormulaError::new(column, format!("expected {}, found {}", wanted.name(), found.name()))
}

fn mismatch(verb: &str, left: &Type, right: &Type, column: usize) -> FormulaError {
    let help = match (left, right) {
        (Weekday | Month, kind) | (kind, Weekday | Month) if kind.is_number() => "; write int(…) around it",
        _ => "",
    };
    FormulaError::new(column, format!("{} and {} can't be {verb}{help}", left.name(), right.name()))
}
