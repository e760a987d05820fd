//! The value of a formula.
//!
//! Evaluation is bounded by [`STEPS_MAX`]: each node that is computed and each element of an array that is made or looked
//! at is a step, so a formula can't take long, and what it holds can't grow, whatever ranges and loops it nests. Arrays
//! nest at most [`ARRAY_DEPTH_MAX`] deep, which bounds every recursion over values.

use std::cmp::Ordering;
use std::sync::Arc;

use super::arithmetic;
use super::calendar;
use super::function::{Function, Method};
use super::node::{Binary, Comparison, Kind, Node, Unary};
use super::value::{Array, Number, Value, expected};
use super::{ARRAY_DEPTH_MAX, ELEMENTS_MAX, FormulaError, Result, STEPS_MAX};
use crate::name::Name;
use crate::time::Time;

/// The number `node` comes to, or none for `nil`.
pub(super) fn evaluate(node: &Node, value: &dyn Fn(&Name) -> Option<f64>, now: Time) -> Result<Option<f64>> {
    let mut machine = Machine { value, now, steps: 0, variables: Vec::new(), scopes: Vec::new() };
    match machine.eval(node)? {
        Value::Int(number) => Ok(Some(number as f64)),
        Value::Float(number) => Ok(Some(number)),
        Value::Nil => Ok(None),
        other => Err(FormulaError::new(
            node.column,
            format!("the formula must come to a number, and this is {}", other.type_name()),
        )),
    }
}

/// What names and `#` mean, and how much was done.
pub(super) struct Machine<'a> {
    value: &'a dyn Fn(&Name) -> Option<f64>,
    pub(super) now: Time,
    steps: usize,
    variables: Vec<Value>,
    scopes: Vec<Scope>,
}

/// What a predicate looks at.
struct Scope {
    element: Value,
    index: usize,
    accumulator: Value,
}

impl Machine<'_> {
    pub(super) fn eval(&mut self, node: &Node) -> Result<Value> {
        self.charge(1, node.column)?;
        Ok(match &node.kind {
            Kind::Int(number) => Value::Int(*number),
            Kind::Float(number) => Value::Float(*number),
            Kind::Bool(truth) => Value::Bool(*truth),
            Kind::Nil => Value::Nil,
            Kind::Text(text) => Value::Text(text.clone()),
            Kind::Name(name) => (self.value)(name).map_or(Value::Nil, Value::Float),
            Kind::Variable(slot) => self.variables.get(*slot).cloned().unwrap_or(Value::Nil),
            Kind::Element => self.scopes.last().map_or(Value::Nil, |scope| scope.element.clone()),
            Kind::Index => self.scopes.last().map_or(Value::Nil, |scope| Value::Int(scope.index as i64)),
            Kind::Accumulator => self.scopes.last().map_or(Value::Nil, |scope| scope.accumulator.clone()),
            Kind::Array(nodes) => {
                let elements = self.each(nodes)?;
                self.array(elements, node.column)?
            }
            Kind::Unary(operator, inner) => self.unary(*operator, inner)?,
            Kind::Binary(operator, nodes) => self.binary(*operator, &nodes[0], &nodes[1], node.column)?,
            Kind::Compare(nodes, signs) => self.compare(nodes, signs)?,
            Kind::If(nodes) if self.truth(&nodes[0])? => self.eval(&nodes[1])?,
            Kind::If(nodes) => self.eval(&nodes[2])?,
            Kind::Elvis(nodes) if self.truth(&nodes[0])? => Value::Bool(true),
            Kind::Elvis(nodes) => self.eval(&nodes[1])?,
            Kind::Let(nodes) => {
                let value = self.eval(&nodes[0])?;
                self.variables.push(value);
                let within = self.eval(&nodes[1]);
                self.variables.pop();
                within?
            }
            Kind::Sequence(nodes) => self.each(nodes)?.pop().unwrap_or(Value::Nil),
            Kind::Item(nodes) => self.item(&nodes[0], &nodes[1])?,
            Kind::Slice { of, from, to } => self.slice(of, from.as_deref(), to.as_deref())?,
            Kind::Call(function, arguments) => self.call(*function, arguments, node.column)?,
            Kind::Method(method, of, arguments) => self.method(*method, of, arguments, node.column)?,
        })
    }

    /// Counts what is done against [`STEPS_MAX`].
    pub(super) fn charge(&mut self, steps: usize, column: usize) -> Result<()> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX {
            return Err(FormulaError::new(column, format!("the formula takes more than {STEPS_MAX} steps")));
        }
        Ok(())
    }

    /// An array of these, within its bounds.
    pub(super) fn array(&mut self, elements: Vec<Value>, column: usize) -> Result<Value> {
        self.charge(elements.len(), column)?;
        let inner = elements.iter().map(|element| match element {
            Value::Array(array) => array.depth,
            _ => 0,
        });
        let depth = 1 + inner.max().unwrap_or(0);
        if elements.len() > ELEMENTS_MAX {
            return Err(FormulaError::new(column, format!("an array has more than {ELEMENTS_MAX} elements")));
        }
        if depth > ARRAY_DEPTH_MAX {
            return Err(FormulaError::new(column, format!("arrays nest more than {ARRAY_DEPTH_MAX} deep")));
        }
        Ok(Value::Array(Array { elements: elements.into(), depth }))
    }

    pub(super) fn each(&mut self, nodes: &[Node]) -> Result<Vec<Value>> {
        nodes.iter().map(|node| self.eval(node)).collect()
    }

    pub(super) fn number(&mut self, node: &Node) -> Result<Number> {
        let value = self.eval(node)?;
        value.number().ok_or_else(|| expected("a number", &value, node.column))
    }

    pub(super) fn whole(&mut self, node: &Node) -> Result<i64> {
        match self.eval(node)? {
            Value::Int(number) => Ok(number),
            other => Err(expected("a whole number", &other, node.column)),
        }
    }

    pub(super) fn truth(&mut self, node: &Node) -> Result<bool> {
        match self.eval(node)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(expected("true or false", &other, node.column)),
        }
    }

    pub(super) fn text(&mut self, node: &Node) -> Result<Arc<str>> {
        match self.eval(node)? {
            Value::Text(text) => Ok(text),
            other => Err(expected("a text", &other, node.column)),
        }
    }

    pub(super) fn elements(&mut self, node: &Node) -> Result<Arc<[Value]>> {
        match self.eval(node)? {
            Value::Array(array) => Ok(array.elements),
            other => Err(expected("an array", &other, node.column)),
        }
    }

    /// What a predicate comes to for an element.
    pub(super) fn with(
        &mut self,
        predicate: &Node,
        element: &Value,
        index: usize,
        accumulator: Value,
    ) -> Result<Value> {
        self.scopes.push(Scope { element: element.clone(), index, accumulator });
        let result = self.eval(predicate);
        self.scopes.pop();
        result
    }

    fn unary(&mut self, operator: Unary, inner: &Node) -> Result<Value> {
        Ok(match operator {
            Unary::Not => Value::Bool(!self.truth(inner)?),
            Unary::Plus => self.number(inner)?.into(),
            Unary::Minus => match self.number(inner)? {
                Number::Int(number) => Value::Int(number.wrapping_neg()),
                Number::Float(number) => Value::Float(-number),
            },
        })
    }

    fn binary(&mut self, operator: Binary, left: &Node, right: &Node, column: usize) -> Result<Value> {
        Ok(match operator {
            Binary::Coalesce => match self.eval(left)? {
                Value::Nil => self.eval(right)?,
                value => value,
            },
            Binary::And => Value::Bool(self.truth(left)? && self.truth(right)?),
            Binary::Or => Value::Bool(self.truth(left)? || self.truth(right)?),
            Binary::Equal | Binary::NotEqual => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                Value::Bool(self.equal(&left, &right, column)? == (operator == Binary::Equal))
            }
            Binary::In => {
                let needle = self.eval(left)?;
                if let Value::Nil = needle
                    && matches!(right.kind, Kind::Nil)
                {
                    return Ok(Value::Bool(false));
                }
                let elements = self.elements(right)?;
                Value::Bool(self.position(&needle, &elements, column)?.is_some())
            }
            Binary::Contains => {
                let (left, right) = (self.text(left)?, self.text(right)?);
                Value::Bool(left.contains(&*right))
            }
            Binary::StartsWith => {
                let (left, right) = (self.text(left)?, self.text(right)?);
                Value::Bool(left.starts_with(&*right))
            }
            Binary::EndsWith => {
                let (left, right) = (self.text(left)?, self.text(right)?);
                Value::Bool(left.ends_with(&*right))
            }
            Binary::Range => {
                let (from, to) = (self.whole(left)?, self.whole(right)?);
                let size = to.saturating_sub(from).saturating_add(1).max(0);
                self.charge(usize::try_from(size).unwrap_or(usize::MAX), column)?;
                self.array((from..=to).map(Value::Int).collect(), column)?
            }
            _ => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                arithmetic::compute(operator, &left, &right, column)?
            }
        })
    }

    fn compare(&mut self, nodes: &[Node], signs: &[Comparison]) -> Result<Value> {
        let Some((first, rest)) = nodes.split_first() else { return Ok(Value::Bool(true)) };
        let mut left = self.eval(first)?;
        for (node, sign) in rest.iter().zip(signs) {
            let right = self.eval(node)?;
            if !left.is_ordered_with(&right) {
                let message = format!("{} and {} can't be compared", left.type_name(), right.type_name());
                return Err(FormulaError::new(node.column, message));
            }
            let order = left.order(&right);
            let holds = match sign {
                Comparison::Less => order == Some(Ordering::Less),
                Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                Comparison::Greater => order == Some(Ordering::Greater),
                Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            };
            if !holds {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// Equality, through arrays; each pair of elements is a step.
    pub(super) fn equal(&mut self, left: &Value, right: &Value, column: usize) -> Result<bool> {
        self.charge(1, column)?;
        let (Value::Array(left), Value::Array(right)) = (left, right) else { return Ok(left.equals(right)) };
        if left.elements.len() != right.elements.len() {
            return Ok(false);
        }
        for (left, right) in left.elements.iter().zip(&*right.elements) {
            if !self.equal(left, right, column)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn position(&mut self, of: &Value, among: &[Value], column: usize) -> Result<Option<usize>> {
        for (index, element) in among.iter().enumerate() {
            if self.equal(of, element, column)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn item(&mut self, of: &Node, index: &Node) -> Result<Value> {
        let (elements, written) = (self.elements(of)?, self.whole(index)?);
        at(&elements, written).cloned().ok_or_else(|| {
            let message = format!("there is no element {written} in an array of {}", elements.len());
            FormulaError::new(index.column, message)
        })
    }

    fn slice(&mut self, of: &Node, from: Option<&Node>, to: Option<&Node>) -> Result<Value> {
        let elements = self.elements(of)?;
        let length = i64::try_from(elements.len()).unwrap_or(i64::MAX);
        let bound = |number: i64| if number < 0 { (length + number).max(0) } else { number.min(length) };
        let from = from.map_or(Ok(0), |node| self.whole(node))?;
        let to = to.map_or(Ok(length), |node| self.whole(node))?;
        let (from, to) = (bound(from.max(-length)), bound(to.max(-length)));
        let range = from.min(to) as usize..to as usize;
        self.array(elements[range].to_vec(), of.column)
    }

    fn method(&mut self, method: Method, of: &Node, arguments: &[Node], column: usize) -> Result<Value> {
        let receiver = self.eval(of)?;
        let argument = arguments.first().map(|node| self.eval(node)).transpose()?;
        calendar::method(method, &receiver, argument.as_ref(), column)
    }

    fn call(&mut self, function: Function, arguments: &[Node], column: usize) -> Result<Value> {
        if function.takes_predicate() {
            self.over_elements(function, arguments, column)
        } else {
            self.plain(function, arguments, column)
        }
    }
}

/// The element at an index, which counts from the end if it is negative.
pub(super) fn at(elements: &[Value], index: i64) -> Option<&Value> {
    let length = i64::try_from(elements.len()).ok()?;
    let index = if index < 0 { length.checked_add(index)? } else { index };
    elements.get(usize::try_from(index).ok()?)
}
