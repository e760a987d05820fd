//! Binary operators: arithmetic, comparison and set operators over scalars and vectors.
//!
//! Which series of the two sides meet depends on labels alone: each row gets the number of its match group once, and each
//! step only looks at who of a group is there.

use std::collections::HashMap;
use std::sync::Arc;

use super::annotations::{Note, Operation};
use super::ast::*;
use super::error::QueryError;
use super::eval::{Buckets, Evaluated, Evaluator};
use super::grid::{Grid, Name, Row, present};
use super::value::SampleValue;
use crate::histogram::{NativeHistogram, ResetHint, Side};
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
        // Set operators work on rows, trims on histograms.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => None,
    }
}

/// Like [`apply`], with `bool`: 1 where a comparison holds, else 0.
fn apply_bool(op: BinaryOp, left: f64, right: f64, return_bool: bool) -> Option<f64> {
    let value = apply(op, left, right);
    if return_bool { Some(f64::from(u8::from(value.is_some()))) } else { value }
}

/// What an operator makes of two samples of which at least one is a histogram, or of floats for an operator of histograms.
enum Outcome {
    Value(NativeHistogram),
    /// A comparison: whether it holds.
    Comparison(bool),
    /// No result, and why.
    Refused(Note<'static>),
}

/// The outcome for two samples, and what else there is to tell.
fn combine(op: BinaryOp, left: &SampleValue, right: &SampleValue) -> (Outcome, Option<Note<'static>>) {
    use SampleValue::{Float, Histogram};
    let changed = |histogram: &NativeHistogram, change: &dyn Fn(&mut NativeHistogram)| {
        let mut histogram = histogram.clone();
        change(&mut histogram);
        histogram.compact();
        (Outcome::Value(histogram), None)
    };
    let trimmed = |histogram: &NativeHistogram, value: f64, side: Side| {
        let mut histogram = histogram.clone();
        histogram.trim(value, side);
        (Outcome::Value(histogram), None)
    };
    match (left, op, right) {
        (Float(factor), BinaryOp::Mul, Histogram(h)) | (Histogram(h), BinaryOp::Mul, Float(factor)) => {
            changed(h, &|h| h.scale(*factor))
        }
        (Histogram(h), BinaryOp::Div, Float(divisor)) => changed(h, &|h| h.divide(*divisor)),
        (Histogram(h), BinaryOp::TrimUpper, Float(value)) => trimmed(h, *value, Side::Below),
        (Histogram(h), BinaryOp::TrimLower, Float(value)) => trimmed(h, *value, Side::Above),
        (Histogram(a), BinaryOp::Add, Histogram(b)) => sum(op, a, b, Operation::Addition),
        (Histogram(a), BinaryOp::Sub, Histogram(b)) => sum(op, a, b, Operation::Subtraction),
        (Histogram(a), BinaryOp::Equal, Histogram(b)) => (Outcome::Comparison(a.same_data(b)), None),
        (Histogram(a), BinaryOp::NotEqual, Histogram(b)) => (Outcome::Comparison(!a.same_data(b)), None),
        _ => {
            let kind = |value: &SampleValue| if value.float().is_some() { "float" } else { "histogram" };
            let (left, right) = (kind(left), kind(right));
            (Outcome::Refused(Note::IncompatibleTypes { left, operator: op.symbol(), right }), None)
        }
    }
}

/// The sum or the difference of histograms, and what was given up for it.
fn sum(
    op: BinaryOp,
    left: &NativeHistogram,
    right: &NativeHistogram,
    operation: Operation,
) -> (Outcome, Option<Note<'static>>) {
    let mut result = left.clone();
    let added = match operation {
        Operation::Subtraction => result.sub(right),
        _ => result.add(right),
    };
    let Ok(added) = added else {
        return (Outcome::Refused(Note::IncompatibleBuckets { operator: op.symbol() }), None);
    };
    if added.hints_collide {
        return (Outcome::Refused(Note::ResetsCollide(operation)), None);
    }
    if operation == Operation::Subtraction {
        result.reset_hint = ResetHint::Gauge;
    }
    result.compact();
    (Outcome::Value(result), added.bounds_reconciled.then_some(Note::BoundsReconciled(operation)))
}

/// The sample of the result, and what there is to tell. Floats and comparisons of floats are `apply`'s.
fn apply_any(
    op: BinaryOp,
    left: &SampleValue,
    right: &SampleValue,
    return_bool: bool,
) -> (Option<SampleValue>, Option<Note<'static>>) {
    if let (SampleValue::Float(left), SampleValue::Float(right)) = (left, right)
        && !op.is_trim()
    {
        return (apply_bool(op, *left, *right, return_bool).map(SampleValue::Float), None);
    }
    match combine(op, left, right) {
        (Outcome::Value(histogram), note) => (Some(SampleValue::Histogram(Arc::new(histogram))), note),
        (Outcome::Comparison(holds), note) if return_bool => {
            (Some(SampleValue::Float(f64::from(u8::from(holds)))), note)
        }
        (Outcome::Comparison(holds), note) => (holds.then(|| left.clone()), note),
        (Outcome::Refused(note), _) => (None, Some(note)),
    }
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, binary: &BinaryExpr) -> Result<Evaluated> {
        let inner = if binary.op.is_trim() { self.with_buckets(Buckets::Needed) } else { *self };
        let (lhs, rhs) = (inner.eval(&binary.lhs)?, inner.eval(&binary.rhs)?);
        Ok(match (lhs, rhs) {
            (Evaluated::Scalar(_), Evaluated::Scalar(_)) if binary.op.is_trim() => {
                let op = crate::text::quote(binary.op.symbol().as_bytes());
                return Err(QueryError::Execution(format!(
                    "operator {op} not allowed for Scalar operations"
                )));
            }
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
        if grid.has_histograms() || binary.op.is_trim() {
            self.histograms_with_scalar(binary, &mut grid, scalar, scalar_first);
        } else {
            let filters = binary.op.is_comparison() && !binary.return_bool;
            grid.map_at(|step, value| {
                let (left, right) = if scalar_first { (scalar[step], value) } else { (value, scalar[step]) };
                match apply_bool(binary.op, left, right, binary.return_bool) {
                    None => super::grid::ABSENT,
                    // A filter keeps the vector's value, on whichever side it stands.
                    Some(_) if filters => value,
                    Some(result) => result,
                }
            });
        }
        if !binary.changes_metric() {
            return Ok(grid);
        }
        grid.drop_names(self.options.delayed_name_removal)
    }

    fn histograms_with_scalar(
        &self,
        binary: &BinaryExpr,
        grid: &mut Grid,
        scalar: &[f64],
        scalar_first: bool,
    ) {
        for (step, number) in scalar.iter().enumerate() {
            let number = SampleValue::Float(*number);
            // Prometheus tells the last one of a step.
            let mut last_note = None;
            for row in 0..grid.rows.len() {
                let Some(sample) = grid.cell(row, step) else { continue };
                let (left, right) = if scalar_first { (&number, &sample) } else { (&sample, &number) };
                let (result, note) = apply_any(binary.op, left, right, binary.return_bool);
                last_note = note.or(last_note);
                let keeps = binary.op.is_comparison() && !binary.return_bool;
                match result {
                    None => grid.set(row, step, super::grid::ABSENT),
                    Some(_) if keeps => {}
                    Some(result) => grid.set_cell(row, step, result),
                }
            }
            last_note.into_iter().for_each(|note| self.note(binary.span(), note));
        }
    }

    fn set_operator(&self, binary: &BinaryExpr, mut left: Grid, right: &Grid) -> Result<Grid> {
        self.charge_visits((left.rows.len() + right.rows.len()) * (1 + binary.matching.labels.len()))?;
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
                    if let Some(cell) = right.cell(row, step) {
                        left.set_cell(kept + row, step, cell);
                    }
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
        self.charge_visits((many.rows.len() + one.rows.len()) * (1 + matching.labels.len()))?;
        let mut groups = MatchGroups::default();
        let many_groups = groups.number(many, matching);
        let one_groups = groups.number(one, matching);
        let mut output = Output {
            grid: self.grid(0)?,
            rows: HashMap::new(),
            labels: HashMap::new(),
            taken: vec![Vec::new(); groups.len()],
            last_note: None,
        };
        let mut one_of: Vec<Option<usize>> = vec![None; groups.len()];
        for step in 0..self.times.count {
            if matching.fill == Fill::default() && !(many.any_at(step) && one.any_at(step)) {
                continue;
            }
            one_of.fill(None);
            output.taken.iter_mut().for_each(Vec::clear);
            for (row, group) in present_rows(one, &one_groups, step) {
                if let Some(other) = one_of[group].replace(row) {
                    return Err(duplicate_error(matching, swapped, &one.rows[other], &one.rows[row]));
                }
            }
            for (row, group) in present_rows(many, &many_groups, step) {
                let partner = one_of[group];
                if partner.is_some() || matching.fill.right.is_some() {
                    let sides = (Partner { grid: many, row: Some(row) }, Partner { grid: one, row: partner });
                    self.meet(&mut output, binary, (step, group), sides)?;
                }
            }
            // Who has not met anybody meets the value that stands for the missing.
            for (row, group) in present_rows(one, &one_groups, step).filter(|_| matching.fill.left.is_some())
            {
                if output.taken[group].is_empty() {
                    let sides = (Partner { grid: many, row: None }, Partner { grid: one, row: Some(row) });
                    self.meet(&mut output, binary, (step, group), sides)?;
                }
            }
            output.last_note.take().into_iter().for_each(|note| self.note(binary.span(), note));
        }
        Ok(output.grid)
    }

    /// Puts what two samples make into the result; on one side, a value may stand for a missing sample.
    fn meet(
        &self,
        output: &mut Output,
        binary: &BinaryExpr,
        (step, group): (usize, usize),
        (many, one): (Partner<'_>, Partner<'_>),
    ) -> Result<()> {
        let matching = &binary.matching;
        let (a, b) = (many.sample(step, matching.fill.left), one.sample(step, matching.fill.right));
        let (Some(a), Some(b)) = (a, b) else { return Ok(()) };
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (left, right) = if swapped { (&b, &a) } else { (&a, &b) };
        let (result, note) = apply_any(binary.op, left, right, binary.return_bool);
        let refused = result.is_none() && note.is_some();
        output.last_note = note.or(output.last_note.take());
        if refused {
            return Ok(());
        }
        let target = self.output_row(output, binary, many, one)?;
        let again = match matching.cardinality {
            Cardinality::OneToOne => !output.taken[group].is_empty(),
            _ => output.taken[group].contains(&target),
        };
        if again {
            return Err(ambiguous_error(matching.cardinality));
        }
        output.taken[group].push(target);
        let Some(result) = result else { return Ok(()) };
        if present(output.grid.value(target, step)) {
            return Err(super::grid::same_labelset());
        }
        output.grid.set_cell(target, step, result);
        Ok(())
    }

    /// The row of the result for a pair of rows.
    fn output_row(
        &self,
        output: &mut Output,
        binary: &BinaryExpr,
        many: Partner<'_>,
        one: Partner<'_>,
    ) -> Result<usize> {
        if let Some(target) = output.rows.get(&(many.row, one.row)) {
            return Ok(*target);
        }
        let known = |side: Partner<'_>| side.row.map(|row| side.grid.rows[row].clone());
        // What stands for a missing series has the labels by which it would have been found.
        let missing = |other: &Row| Row::new(match_labels(other, &binary.matching));
        let (many_row, one_row) = match (known(many), known(one)) {
            (Some(many), Some(one)) => (many, one),
            (Some(many), None) => (many.clone(), missing(&many)),
            (None, Some(one)) => (missing(&one), one),
            (None, None) => return Err(QueryError::Execution("nothing meets nothing".into())),
        };
        let result = self.result_row(binary, &many_row, &one_row);
        let key = (result.labels.clone(), result.name == Name::Kept);
        let target = match output.labels.get(&key) {
            Some(target) => *target,
            None => {
                self.charge(self.times.count)?;
                self.charge_labels(&result.labels)?;
                output.grid.push(result);
                output.labels.insert(key, output.grid.rows.len() - 1);
                output.grid.rows.len() - 1
            }
        };
        output.rows.insert((many.row, one.row), target);
        Ok(target)
    }

    fn result_row(&self, binary: &BinaryExpr, many: &Row, one: &Row) -> Row {
        let matching = &binary.matching;
        let dropped_last = binary.return_bool && self.options.delayed_name_removal;
        let mut labels = many.visible();
        if binary.changes_metric() && !dropped_last {
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
        let name = if dropped_last { Name::DropsLast } else { Name::Kept };
        Row { labels, name }
    }
}

/// A row that meets another one; `None` for one that is missing.
#[derive(Clone, Copy)]
struct Partner<'a> {
    grid: &'a Grid,
    row: Option<usize>,
}

impl Partner<'_> {
    fn sample(&self, step: usize, fill: Option<f64>) -> Option<SampleValue> {
        match self.row {
            Some(row) => self.grid.cell(row, step),
            None => fill.map(SampleValue::Float),
        }
    }
}

/// The rows with a sample at a step, and their match groups.
fn present_rows(grid: &Grid, groups: &[usize], step: usize) -> impl Iterator<Item = (usize, usize)> {
    let rows = groups.iter().copied().enumerate();
    rows.filter(move |(row, _)| present(grid.value(*row, step)))
}

struct Output {
    grid: Grid,
    /// The row for a pair of rows of the two sides.
    rows: HashMap<(Option<usize>, Option<usize>), usize>,
    labels: HashMap<(Labels, bool), usize>,
    /// The rows that got a sample at this step, by match group.
    taken: Vec<Vec<usize>>,
    /// Prometheus tells the last one of a step.
    last_note: Option<Note<'static>>,
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
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                .into()
        }
        _ => "multiple matches for labels: grouping labels must ensure unique matches".into(),
    })
}
