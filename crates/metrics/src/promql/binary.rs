//! Binary operators: arithmetic, comparison and set operators over scalars and vectors.
//!
//! Which series of the two sides meet depends on labels alone: each row gets the number of its match group once, and each
//! step only looks at who of a group is there.

use std::collections::HashMap;

use super::ast::*;
use super::error::QueryError;
use super::eval::{Evaluated, Evaluator};
use super::grid::{Grid, Name, Row, present};
use crate::labels::{Labels, METRIC_NAME};

type Result<T> = std::result::Result<T, QueryError>;

/// The value of an arithmetic operator, or the left value if a comparison holds.
fn apply(op: BinaryOp, left: f64, right: f64) -> Option<f64> {
    let holds = |condition: bool| condition.then_some(left);
    match op {
        BinaryOp::Add => Some(left + right),
        BinaryOp::Sub => Some(left - right),
        BinaryOp::Mul => Some(left * right),
        BinaryOp::Div => Some(left / right),
        BinaryOp::Mod => Some(left % right),
        BinaryOp::Pow => Some(left.powf(right)),
        BinaryOp::Atan2 => Some(left.atan2(right)),
        BinaryOp::Equal => holds(left == right),
        BinaryOp::NotEqual => holds(left != right),
        BinaryOp::Less => holds(left < right),
        BinaryOp::LessEqual => holds(left <= right),
        BinaryOp::Greater => holds(left > right),
        BinaryOp::GreaterEqual => holds(left >= right),
        // Set operators work on rows.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => None,
    }
}

/// Like [`apply`], with `bool`: 1 where a comparison holds, else 0.
fn apply_bool(op: BinaryOp, left: f64, right: f64, return_bool: bool) -> Option<f64> {
    let value = apply(op, left, right);
    if return_bool { Some(f64::from(u8::from(value.is_some()))) } else { value }
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, binary: &BinaryExpr) -> Result<Evaluated> {
        let (lhs, rhs) = (self.eval(&binary.lhs)?, self.eval(&binary.rhs)?);
        Ok(match (lhs, rhs) {
            (Evaluated::Scalar(left), Evaluated::Scalar(right)) => {
                // A comparison of scalars has `bool`; the parser sees to it.
                let value =
                    |(l, r)| apply_bool(binary.op, l, r, binary.op.is_comparison()).unwrap_or(f64::NAN);
                Evaluated::Scalar(left.into_iter().zip(right).map(value).collect())
            }
            (Evaluated::Vector(grid), Evaluated::Scalar(scalar)) => {
                Evaluated::Vector(self.with_scalar(binary, grid, &scalar, false)?)
            }
            (Evaluated::Scalar(scalar), Evaluated::Vector(grid)) => {
                Evaluated::Vector(self.with_scalar(binary, grid, &scalar, true)?)
            }
            (Evaluated::Vector(left), Evaluated::Vector(right)) => Evaluated::Vector(match binary.op {
                BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => self.set_operator(binary, left, &right)?,
                _ => self.match_vectors(binary, &left, &right)?,
            }),
            _ => return Err(QueryError::Execution("operator on a string".into())),
        })
    }

    fn with_scalar(
        &self,
        binary: &BinaryExpr,
        mut grid: Grid,
        scalar: &[f64],
        scalar_first: bool,
    ) -> Result<Grid> {
        let count = self.times.count;
        for (i, value) in grid.values.iter_mut().enumerate().filter(|(_, value)| present(**value)) {
            let (left, right) =
                if scalar_first { (scalar[i % count], *value) } else { (*value, scalar[i % count]) };
            let result = apply_bool(binary.op, left, right, binary.return_bool);
            *value = match result {
                None => super::grid::ABSENT,
                // A filter keeps the vector's value, on whichever side it stands.
                Some(_) if binary.op.is_comparison() && !binary.return_bool => *value,
                Some(result) => result,
            };
        }
        if binary.op.is_comparison() && !binary.return_bool {
            return Ok(grid);
        }
        grid.drop_names(self.options.delayed_name_removal)
    }

    fn set_operator(&self, binary: &BinaryExpr, mut left: Grid, right: &Grid) -> Result<Grid> {
        let mut groups = MatchGroups::default();
        let left_groups = groups.number(&left, &binary.matching);
        let right_groups = groups.number(right, &binary.matching);
        let count = groups.len();
        let mut there = vec![false; count];
        let mark = |grid: &Grid, numbers: &[usize], step: usize, there: &mut Vec<bool>| {
            there.fill(false);
            for (row, group) in numbers.iter().enumerate() {
                there[*group] |= present(grid.value(row, step));
            }
        };
        if binary.op == BinaryOp::Or {
            self.charge(right.values.len())?;
            let kept = left.rows.len();
            for row in &right.rows {
                left.push(row.clone());
            }
            for step in 0..self.times.count {
                mark(&left, &left_groups, step, &mut there);
                for (row, group) in right_groups.iter().enumerate().filter(|(_, group)| !there[**group]) {
                    debug_assert!(*group < count);
                    left.set(kept + row, step, right.value(row, step));
                }
            }
            return Ok(left);
        }
        for step in 0..self.times.count {
            mark(right, &right_groups, step, &mut there);
            for (row, group) in left_groups.iter().enumerate() {
                if there[*group] != (binary.op == BinaryOp::And) {
                    left.set(row, step, super::grid::ABSENT);
                }
            }
        }
        Ok(left)
    }

    /// Arithmetic and comparison between vectors.
    fn match_vectors(&self, binary: &BinaryExpr, left: &Grid, right: &Grid) -> Result<Grid> {
        let matching = &binary.matching;
        // Work as if the "many" side were on the left.
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let mut groups = MatchGroups::default();
        let many_groups = groups.number(many, matching);
        let one_groups = groups.number(one, matching);
        let mut output = Output { grid: self.grid(0)?, rows: HashMap::new(), labels: HashMap::new() };
        let mut one_of: Vec<Option<usize>> = vec![None; groups.len()];
        let mut taken: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
        for step in 0..self.times.count {
            if !many.any_at(step) || !one.any_at(step) {
                continue;
            }
            one_of.fill(None);
            taken.iter_mut().for_each(Vec::clear);
            for (row, group) in
                one_groups.iter().enumerate().filter(|(row, _)| present(one.value(*row, step)))
            {
                if let Some(other) = one_of[*group].replace(row) {
                    return Err(duplicate_error(matching, swapped, &one.rows[other], &one.rows[row]));
                }
            }
            for (row, group) in
                many_groups.iter().enumerate().filter(|(row, _)| present(many.value(*row, step)))
            {
                let Some(partner) = one_of[*group] else { continue };
                let target = self.output_row(&mut output, binary, (many, row), (one, partner))?;
                let again = match matching.cardinality {
                    Cardinality::OneToOne => !taken[*group].is_empty(),
                    _ => taken[*group].contains(&target),
                };
                if again {
                    return Err(ambiguous_error(matching.cardinality));
                }
                taken[*group].push(target);
                let (a, b) = (many.value(row, step), one.value(partner, step));
                let (a, b) = if swapped { (b, a) } else { (a, b) };
                if let Some(value) = apply_bool(binary.op, a, b, binary.return_bool) {
                    if present(output.grid.value(target, step)) {
                        return Err(super::grid::same_labelset());
                    }
                    output.grid.set(target, step, value);
                }
            }
        }
        Ok(output.grid)
    }

    /// The row of the result for a pair of rows.
    fn output_row(
        &self,
        output: &mut Output,
        binary: &BinaryExpr,
        (many, row): (&Grid, usize),
        (one, partner): (&Grid, usize),
    ) -> Result<usize> {
        if let Some(target) = output.rows.get(&(row, partner)) {
            return Ok(*target);
        }
        let result = self.result_row(binary, &many.rows[row], &one.rows[partner]);
        let key = (result.labels.clone(), result.name == Name::Kept);
        let target = match output.labels.get(&key) {
            Some(target) => *target,
            None => {
                self.charge(self.times.count)?;
                output.grid.push(result);
                output.labels.insert(key, output.grid.rows.len() - 1);
                output.grid.rows.len() - 1
            }
        };
        output.rows.insert((row, partner), target);
        Ok(target)
    }

    fn result_row(&self, binary: &BinaryExpr, many: &Row, one: &Row) -> Row {
        let matching = &binary.matching;
        let drops_name = !binary.op.is_comparison() || binary.return_bool;
        let delayed = self.options.delayed_name_removal;
        let mut labels = many.visible();
        if drops_name && !delayed {
            labels = labels.without_name();
        }
        if matching.cardinality == Cardinality::OneToOne {
            labels = match matching.on {
                true => labels.keep(&matching.labels),
                false if matching.labels.is_empty() => labels,
                false => labels.without(&matching.labels),
            };
        }
        for label in &matching.include {
            labels = labels.with(label, one.get(label));
        }
        let name = match many.name {
            Name::DropsLast => Name::DropsLast,
            _ if drops_name && delayed => Name::DropsLast,
            _ => Name::Kept,
        };
        Row { labels, name }
    }
}

struct Output {
    grid: Grid,
    /// The row for a pair of rows of the two sides.
    rows: HashMap<(usize, usize), usize>,
    labels: HashMap<(Labels, bool), usize>,
}

/// Numbers for the label sets by which the two sides match.
#[derive(Default)]
struct MatchGroups(HashMap<Labels, usize>);

impl MatchGroups {
    fn len(&self) -> usize {
        self.0.len()
    }

    /// The match group of each row.
    fn number(&mut self, grid: &Grid, matching: &VectorMatching) -> Vec<usize> {
        let number = |row: &Row| {
            let next = self.0.len();
            *self.0.entry(match_labels(row, matching)).or_insert(next)
        };
        grid.rows.iter().map(number).collect()
    }
}

/// The labels that must be equal on both sides.
fn match_labels(row: &Row, matching: &VectorMatching) -> Labels {
    if matching.on {
        return row.visible().keep(&matching.labels);
    }
    let ignored: Vec<&str> = matching.labels.iter().map(String::as_str).chain([METRIC_NAME]).collect();
    if row.name == Name::Dropped {
        row.labels.without_name().without(&ignored)
    } else {
        row.labels.without(&ignored)
    }
}

fn duplicate_error(matching: &VectorMatching, swapped: bool, a: &Row, b: &Row) -> QueryError {
    let side = if swapped { "left" } else { "right" };
    let mut pair = [a.visible(), b.visible()];
    pair.sort();
    QueryError::Execution(format!(
        "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
        match_labels(a, matching),
        pair[0],
        pair[1],
    ))
}

fn ambiguous_error(cardinality: Cardinality) -> QueryError {
    QueryError::Execution(match cardinality {
        Cardinality::OneToOne => {
            "multiple matches for labels: many-to-one matching must be explicit (use group_left/group_right)"
                .into()
        }
        _ => "multiple matches for labels: grouping labels must ensure unique matches".into(),
    })
}
