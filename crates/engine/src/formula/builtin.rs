//! What functions do with their arguments.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::arithmetic;
use super::calendar;
use super::evaluate::{Machine, at};
use super::function::{Bit, Function};
use super::node::{Binary, Node};
use super::value::{Number, Value, expected};
use super::{FormulaError, Result};

impl Machine<'_> {
    /// The functions that look at each element of an array: the array, a predicate, and perhaps one thing more.
    pub(super) fn over_elements(
        &mut self,
        function: Function,
        arguments: &[Node],
        column: usize,
    ) -> Result<Value> {
        let elements = self.elements(&arguments[0])?;
        match function {
            Function::Reduce => return self.reduce(&elements, arguments, column),
            Function::SortBy => return self.sort_by(&elements, arguments, column),
            Function::FindLast | Function::FindLastIndex => {
                for (index, element) in elements.iter().enumerate().rev() {
                    if self.matches(arguments, element, index)? {
                        return Ok(found(function, element, index));
                    }
                }
                return Ok(Value::Nil);
            }
            _ => {}
        }
        let mut matching = 0_usize;
        let mut kept = Vec::new();
        let mut sum = Value::Int(0);
        for (index, element) in elements.iter().enumerate() {
            match function {
                Function::Map => kept.push(self.with(&arguments[1], element, index, Value::Nil)?),
                Function::Sum => {
                    let term = self.term(arguments, element, index)?;
                    sum = arithmetic::compute(Binary::Add, &sum, &term, column)?;
                }
                _ => {
                    let matches = self.matches(arguments, element, index)?;
                    matching += usize::from(matches);
                    match function {
                        Function::Filter if matches => kept.push(element.clone()),
                        Function::Find | Function::FindIndex if matches => {
                            return Ok(found(function, element, index));
                        }
                        Function::All if !matches => return Ok(Value::Bool(false)),
                        Function::Any if matches => return Ok(Value::Bool(true)),
                        Function::None if matches => return Ok(Value::Bool(false)),
                        _ => {}
                    }
                }
            }
        }
        Ok(match function {
            Function::Sum => sum,
            Function::Map | Function::Filter => self.array(kept, column)?,
            Function::All | Function::None => Value::Bool(true),
            Function::Any => Value::Bool(false),
            Function::One => Value::Bool(matching == 1),
            Function::Count => Value::Int(matching as i64),
            _ => Value::Nil,
        })
    }

    /// Whether the predicate holds for an element; without one, the element itself says so.
    fn matches(&mut self, arguments: &[Node], element: &Value, index: usize) -> Result<bool> {
        match self.term(arguments, element, index)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(expected("true or false", &other, arguments[arguments.len() - 1].column)),
        }
    }

    fn term(&mut self, arguments: &[Node], element: &Value, index: usize) -> Result<Value> {
        match arguments.get(1) {
            Some(predicate) => self.with(predicate, element, index, Value::Nil),
            None => {
                self.charge(1, arguments[0].column)?;
                Ok(element.clone())
            }
        }
    }

    fn reduce(&mut self, elements: &[Value], arguments: &[Node], column: usize) -> Result<Value> {
        let mut rest = elements.iter().enumerate();
        let mut accumulator = match arguments.get(2) {
            Some(initial) => self.eval(initial)?,
            None => match rest.next() {
                Some((_, first)) => first.clone(),
                None => {
                    let message = "reduce of an empty array needs a third argument to begin with";
                    return Err(FormulaError::new(column, message));
                }
            },
        };
        for (index, element) in rest {
            accumulator = self.with(&arguments[1], element, index, accumulator)?;
        }
        Ok(accumulator)
    }

    fn sort_by(&mut self, elements: &[Value], arguments: &[Node], column: usize) -> Result<Value> {
        let mut keyed = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            keyed.push((self.with(&arguments[1], element, index, Value::Nil)?, element.clone()));
        }
        let descending = self.descending(arguments.get(2))?;
        self.sorted(keyed, descending, column)
    }

    fn descending(&mut self, order: Option<&Node>) -> Result<bool> {
        let Some(node) = order else { return Ok(false) };
        match &*self.text(node)? {
            "asc" => Ok(false),
            "desc" => Ok(true),
            other => Err(FormulaError::new(
                node.column,
                format!("the order is \"asc\" or \"desc\", not {other:?}"),
            )),
        }
    }

    /// Elements by their keys; those of equal keys stay in order.
    fn sorted(&mut self, mut keyed: Vec<(Value, Value)>, descending: bool, column: usize) -> Result<Value> {
        if let Some(pair) = keyed.windows(2).find(|pair| !pair[0].0.is_ordered_with(&pair[1].0)) {
            let (left, right) = (pair[0].0.type_name(), pair[1].0.type_name());
            return Err(FormulaError::new(column, format!("{left} and {right} have no order")));
        }
        keyed.sort_by(|(left, _), (right, _)| {
            let order = sort_order(left, right);
            if descending { order.reverse() } else { order }
        });
        self.array(keyed.into_iter().map(|(_, element)| element).collect(), column)
    }

    /// The functions that take their arguments as they are.
    pub(super) fn plain(&mut self, function: Function, arguments: &[Node], column: usize) -> Result<Value> {
        Ok(match function {
            Function::Max | Function::Min => self.extreme(function, arguments, column)?,
            Function::Mean | Function::Median => Value::Float(self.middle(function, arguments, column)?),
            Function::Abs => match self.number(&arguments[0])? {
                Number::Int(number) => Value::Int(number.wrapping_abs()),
                Number::Float(number) => Value::Float(number.abs()),
            },
            Function::Ceil => Value::Float(self.number(&arguments[0])?.as_f64().ceil()),
            Function::Floor => Value::Float(self.number(&arguments[0])?.as_f64().floor()),
            Function::Round => Value::Float(self.number(&arguments[0])?.as_f64().round()),
            Function::Int => Value::Int(self.int_of(&arguments[0])?),
            Function::Float => Value::Float(self.float_of(&arguments[0])?),
            Function::Bit(bit) => {
                let (left, right) = (self.whole(&arguments[0])?, self.whole(&arguments[1])?);
                Value::Int(bits(bit, left, right, column)?)
            }
            Function::BitNot => Value::Int(!self.whole(&arguments[0])?),
            Function::Now => {
                let zone = self.zone(arguments.first())?;
                calendar::now(self.now, zone, column)?
            }
            Function::Date => {
                let (zone, date) = match arguments {
                    [zone, date] => (self.zone(Some(zone))?, date),
                    _ => (TimeZone::UTC, &arguments[0]),
                };
                calendar::date(&self.text(date)?, zone, column)?
            }
            Function::Duration => calendar::duration(&self.text(&arguments[0])?, column)?,
            Function::Timezone => Value::Zone(calendar::zone(&self.text(&arguments[0])?, column)?),
            _ => self.of_array(function, arguments, column)?,
        })
    }

    /// The functions that take an array, and give one or something of it.
    fn of_array(&mut self, function: Function, arguments: &[Node], column: usize) -> Result<Value> {
        if function == Function::Concat {
            let mut all = Vec::new();
            for argument in arguments {
                let elements = self.elements(argument)?;
                self.charge(elements.len(), column)?;
                all.extend_from_slice(&elements);
            }
            return self.array(all, column);
        }
        let elements = match self.eval(&arguments[0])? {
            Value::Array(array) => array.elements,
            Value::Text(text) if function == Function::Len => {
                return Ok(Value::Int(text.chars().count() as i64));
            }
            other => return Err(expected("an array", &other, arguments[0].column)),
        };
        Ok(match function {
            Function::Len => Value::Int(elements.len() as i64),
            Function::First => elements.first().cloned().unwrap_or(Value::Nil),
            Function::Last => elements.last().cloned().unwrap_or(Value::Nil),
            Function::Get => {
                let index = self.whole(&arguments[1])?;
                at(&elements, index).cloned().unwrap_or(Value::Nil)
            }
            Function::Take => {
                let count = self.whole(&arguments[1])?;
                let Ok(count) = usize::try_from(count) else {
                    return Err(FormulaError::new(arguments[1].column, "take takes no negative number"));
                };
                self.array(elements[..count.min(elements.len())].to_vec(), column)?
            }
            Function::Reverse => self.array(elements.iter().rev().cloned().collect(), column)?,
            Function::Uniq => {
                let mut unique = Vec::new();
                for element in &*elements {
                    if self.position(element, &unique, column)?.is_none() {
                        unique.push(element.clone());
                    }
                }
                self.array(unique, column)?
            }
            Function::Flatten => {
                let mut flat = Vec::new();
                self.flatten(&elements, &mut flat, column)?;
                self.array(flat, column)?
            }
            _ => {
                let keyed = elements.iter().map(|element| (element.clone(), element.clone())).collect();
                let descending = self.descending(arguments.get(1))?;
                self.sorted(keyed, descending, column)?
            }
        })
    }

    fn flatten(&mut self, elements: &Arc<[Value]>, into: &mut Vec<Value>, column: usize) -> Result<()> {
        for element in &**elements {
            self.charge(1, column)?;
            match element {
                Value::Array(array) => self.flatten(&array.elements, into, column)?,
                other => into.push(other.clone()),
            }
        }
        Ok(())
    }

    /// The numbers among the arguments, and in the arrays among them.
    fn numbers(&mut self, arguments: &[Node], column: usize) -> Result<Vec<Number>> {
        let mut numbers = Vec::new();
        for argument in arguments {
            let mut flat = Vec::new();
            match self.eval(argument)? {
                Value::Array(array) => self.flatten(&array.elements, &mut flat, column)?,
                value => flat.push(value),
            }
            for value in flat {
                numbers.push(value.number().ok_or_else(|| expected("a number", &value, argument.column))?);
            }
        }
        Ok(numbers)
    }

    fn extreme(&mut self, function: Function, arguments: &[Node], column: usize) -> Result<Value> {
        let mut best: Option<Value> = None;
        let wanted = if function == Function::Max { Ordering::Greater } else { Ordering::Less };
        for number in self.numbers(arguments, column)? {
            let number = Value::from(number);
            if best.as_ref().is_none_or(|best| number.order(best) == Some(wanted)) {
                best = Some(number);
            }
        }
        Ok(best.unwrap_or(Value::Nil))
    }

    /// The mean or the median; 0 of nothing.
    fn middle(&mut self, function: Function, arguments: &[Node], column: usize) -> Result<f64> {
        let mut numbers: Vec<f64> =
            self.numbers(arguments, column)?.into_iter().map(Number::as_f64).collect();
        let count = numbers.len();
        if count == 0 {
            return Ok(0.0);
        }
        if function == Function::Mean {
            return Ok(numbers.iter().sum::<f64>() / count as f64);
        }
        numbers.sort_by(|left, right| number_order(*left, *right));
        let half = count / 2;
        Ok(if count % 2 == 1 { numbers[half] } else { f64::midpoint(numbers[half - 1], numbers[half]) })
    }

    fn int_of(&mut self, node: &Node) -> Result<i64> {
        match self.eval(node)? {
            Value::Int(number) | Value::Duration(number) => Ok(number),
            // Beyond its range it stops at the end, and NaN is 0; Go leaves that to the processor.
            Value::Float(number) => Ok(number as i64),
            Value::Weekday(number) | Value::Month(number) => Ok(number.into()),
            Value::Text(text) => text
                .parse()
                .map_err(|_| FormulaError::new(node.column, format!("{text:?} is not a whole number"))),
            other => Err(expected("a number", &other, node.column)),
        }
    }

    fn float_of(&mut self, node: &Node) -> Result<f64> {
        match self.eval(node)? {
            Value::Text(text) => {
                text.parse().map_err(|_| FormulaError::new(node.column, format!("{text:?} is not a number")))
            }
            other => match other.number() {
                Some(number) => Ok(number.as_f64()),
                None => Err(expected("a number", &other, node.column)),
            },
        }
    }

    fn zone(&mut self, node: Option<&Node>) -> Result<TimeZone> {
        let Some(node) = node else { return Ok(TimeZone::UTC) };
        match self.eval(node)? {
            Value::Zone(zone) => Ok(zone),
            other => Err(expected("a time zone", &other, node.column)),
        }
    }
}

fn found(function: Function, element: &Value, index: usize) -> Value {
    match function {
        Function::FindIndex | Function::FindLastIndex => Value::Int(index as i64),
        _ => element.clone(),
    }
}

/// A total order, which numbers have only as floating-point, with NaN first as in Go.
fn sort_order(left: &Value, right: &Value) -> Ordering {
    match (left.number(), right.number()) {
        (Some(left), Some(right)) => number_order(left.as_f64(), right.as_f64()),
        _ => left.order(right).unwrap_or(Ordering::Equal),
    }
}

fn number_order(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

fn bits(bit: Bit, left: i64, right: i64, column: usize) -> Result<i64> {
    let shift = || {
        u32::try_from(right.min(64))
            .map_err(|_| FormulaError::new(column, "a shift takes no negative number"))
    };
    Ok(match bit {
        Bit::And => left & right,
        Bit::Or => left | right,
        Bit::Xor => left ^ right,
        Bit::AndNot => left & !right,
        Bit::ShiftLeft => left.checked_shl(shift()?).unwrap_or(0),
        Bit::ShiftRight => left >> shift()?.min(63),
        Bit::ShiftRightUnsigned => (left as u64).checked_shr(shift()?).unwrap_or(0) as i64,
    })
}
