//! Aggregations: `sum by (le) (…)`, `topk(3, …)` and their like.
//!
//! Which group a series belongs to depends on its labels alone, so it is found once, whatever the number of steps.

use std::collections::HashMap;

use std::sync::Arc;

use super::annotations::{Note, Operation};
use super::ast::*;
use super::error::QueryError;
use super::eval::Evaluator;
use super::functions::label::string_argument;
use super::functions::native::Noticed;
use super::grid::{Grid, Name, Row, is_float, present};
use super::numerics::{Mean, Variance, quantile};
use super::value::SampleValue;
use crate::hash::hash;
use crate::histogram::{Added, HistogramMean, HistogramSum, MixedSchemas, NativeHistogram};
use crate::kahan::KahanSum;
use crate::labels::{Labels, METRIC_NAME};
use crate::text::{format_plain, quote};

type Result<T> = std::result::Result<T, QueryError>;

/// Which rows make a group, and the group's labels.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) rows: Vec<Row>,
    /// The group of each row of the input.
    pub(super) of_row: Vec<usize>,
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&self, aggregate: &AggregateExpr) -> Result<Grid> {
        match (aggregate.op, &aggregate.parameter) {
            (AggregateOp::CountValues, Some(label)) => self.count_values(aggregate, label),
            (AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk, Some(k)) => {
                self.chosen(aggregate, &self.counts(k)?)
            }
            (AggregateOp::LimitRatio, Some(ratio)) => self.chosen(aggregate, &self.ratios(ratio)?),
            (AggregateOp::Quantile, Some(q)) => self.quantile(aggregate, q),
            _ => {
                let grid = self.vector(&aggregate.expr)?;
                self.charge_visits(grid.rows.len() * (1 + aggregate.grouping.len()))?;
                let groups = group(&grid, aggregate);
                if grid.has_histograms() {
                    return self.reduce_with_histograms(&grid, groups, aggregate);
                }
                self.fold(&grid, groups, |_, values| reduce(aggregate.op, values))
            }
        }
    }

    /// One value for each group and step, from the group's floats in the order of the rows.
    fn fold(&self, grid: &Grid, groups: Groups, f: impl Fn(usize, &mut [f64]) -> f64) -> Result<Grid> {
        let mut values = Vec::new();
        self.each_group(grid, groups, |step, members| {
            values.clear();
            values.extend(members.iter().map(|member| grid.value(*member, step)).filter(|v| is_float(*v)));
            (!values.is_empty()).then(|| SampleValue::Float(f(step, &mut values)))
        })
    }

    /// One sample for each group and step, from the group's rows.
    fn each_group(
        &self,
        grid: &Grid,
        groups: Groups,
        mut f: impl FnMut(usize, &[usize]) -> Option<SampleValue>,
    ) -> Result<Grid> {
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.rows.len()];
        for (row, group) in groups.of_row.iter().enumerate() {
            members[*group].push(row);
        }
        let mut result = self.grid(groups.rows.len())?;
        for (row, members) in groups.rows.into_iter().zip(&members) {
            result.push(row);
            for step in 0..grid.steps {
                if let Some(cell) = f(step, members) {
                    result.set_cell(result.rows.len() - 1, step, cell);
                }
            }
            result.pop_if_empty();
        }
        Ok(result)
    }

    /// Native histograms are counted, added up, or ignored, which is told.
    fn reduce_with_histograms(&self, grid: &Grid, groups: Groups, aggregate: &AggregateExpr) -> Result<Grid> {
        let count = |step: usize, members: &[usize]| {
            members.iter().filter(|row| present(grid.value(**row, step))).count() as f64
        };
        match aggregate.op {
            AggregateOp::Count | AggregateOp::Group => self.each_group(grid, groups, |step, members| {
                let count = count(step, members);
                let value = if aggregate.op == AggregateOp::Group { 1.0 } else { count };
                (count > 0.0).then_some(SampleValue::Float(value))
            }),
            AggregateOp::Sum | AggregateOp::Avg => {
                self.each_group(grid, groups, |step, members| self.add_up(grid, step, members, aggregate))
            }
            _ => {
                self.tell_ignored(grid, aggregate, aggregate.expr.told_at());
                self.fold(grid, groups, |_, values| reduce(aggregate.op, values))
            }
        }
    }

    /// Tells of histograms that an aggregation ignores.
    fn tell_ignored(&self, grid: &Grid, aggregate: &AggregateExpr, span: Span) {
        if grid.values.iter().any(|value| present(*value) && !is_float(*value)) {
            self.note(span, Note::HistogramIgnoredInAggregation { aggregation: aggregate.op.name() });
        }
    }

    /// The sum or the mean of samples that are all floats or all histograms.
    fn add_up(
        &self,
        grid: &Grid,
        step: usize,
        members: &[usize],
        aggregate: &AggregateExpr,
    ) -> Option<SampleValue> {
        let (mut floats, mut total) = (Vec::new(), None::<Total>);
        let (mut noticed, mut incompatible, mut any_histogram) = (Noticed::default(), false, false);
        let span = aggregate.expr.told_at();
        for row in members {
            match grid.cell(*row, step) {
                _ if incompatible => break,
                None => {}
                Some(SampleValue::Float(value)) => floats.push(value),
                Some(SampleValue::Histogram(histogram)) => {
                    any_histogram = true;
                    let Some(total) = &mut total else {
                        // After floats there is no result any more.
                        if floats.is_empty() {
                            noticed.hint(histogram.reset_hint);
                            total = Some(Total::of_first(aggregate.op, &histogram));
                        }
                        continue;
                    };
                    noticed.hint(histogram.reset_hint);
                    match total.add(&histogram) {
                        Ok(added) if added.bounds_reconciled => {
                            self.note(span, Note::BoundsReconciled(Operation::Aggregation));
                        }
                        Ok(_) => {}
                        Err(MixedSchemas) => {
                            let metric = grid.rows[*row].get(METRIC_NAME);
                            self.note(span, Note::MixedSchemas { metric });
                            incompatible = true;
                        }
                    }
                }
            }
        }
        if any_histogram && !floats.is_empty() {
            self.note(span, Note::MixedFloatsAndHistogramsInAggregation);
            return None;
        }
        if !floats.is_empty() {
            return Some(SampleValue::Float(reduce(aggregate.op, &floats)));
        }
        let mut total = total.filter(|_| !incompatible)?.result();
        if noticed.resets_collide() {
            self.note(span, Note::ResetsCollide(Operation::Aggregation));
        }
        total.compact();
        Some(SampleValue::Histogram(Arc::new(total)))
    }

    fn quantile(&self, aggregate: &AggregateExpr, parameter: &Expr) -> Result<Grid> {
        let q = self.scalar(parameter)?;
        let grid = self.vector(&aggregate.expr)?;
        let nan = q.iter().copied().find(|q| q.is_nan());
        // Among numbers that are none, nothing is the largest or the smallest.
        let numbers = || q.iter().copied().filter(|_| nan.is_none());
        let above = numbers().filter(|q| *q > 1.0).reduce(f64::max);
        let below = numbers().filter(|q| *q < 0.0).reduce(f64::min);
        for q in [nan, above, below].into_iter().flatten() {
            self.note(parameter.told_at(), Note::InvalidQuantile(q));
        }
        self.tell_ignored(&grid, aggregate, aggregate.expr.told_at());
        let groups = group(&grid, aggregate);
        self.fold(&grid, groups, |step, values| quantile(q[step], values))
    }

    /// `k` at each step.
    fn counts(&self, parameter: &Expr) -> Result<Vec<f64>> {
        let k = self.scalar(parameter)?;
        // Prometheus doesn't look closer where nothing is chosen at any step.
        if k.iter().all(|k| *k < 1.0) {
            return Ok(k);
        }
        if k.iter().any(|k| k.is_nan()) {
            return Err(QueryError::Execution("Parameter value is NaN".into()));
        }
        for (limit, what) in
            [(9.223_372_036_854_775e18, "overflows"), (-9.223_372_036_854_775e18, "underflows")]
        {
            if let Some(k) = k.iter().find(|k| if limit > 0.0 { **k >= limit } else { **k <= limit }) {
                let k = crate::text::format_general(*k);
                return Err(QueryError::Execution(format!("Scalar value {k} {what} int64")));
            }
        }
        Ok(k)
    }

    /// The ratio at each step, between -1 and 1.
    fn ratios(&self, parameter: &Expr) -> Result<Vec<f64>> {
        let ratios = self.scalar(parameter)?;
        if ratios.iter().any(|ratio| ratio.is_nan()) {
            return Err(QueryError::Execution("Ratio value is NaN".into()));
        }
        let (highest, lowest) =
            ratios.iter().fold((0f64, 0f64), |(a, b), ratio| (a.max(*ratio), b.min(*ratio)));
        for (ratio, capped) in [(highest, 1.0), (lowest, -1.0)] {
            if ratio.abs() > 1.0 {
                self.note(parameter.told_at(), Note::InvalidRatio { ratio, capped });
            }
        }
        Ok(ratios.into_iter().map(|ratio| ratio.clamp(-1.0, 1.0)).collect())
    }

    /// Some of the rows themselves, by a parameter at each step; all other samples are taken out.
    fn chosen(&self, aggregate: &AggregateExpr, parameters: &[f64]) -> Result<Grid> {
        let grid = self.vector(&aggregate.expr)?;
        let by_value = matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk);
        if by_value && parameters.iter().any(|k| *k >= 1.0) {
            self.tell_ignored(&grid, aggregate, aggregate.span);
        }
        let groups = group(&grid, aggregate);
        let chosen: Vec<Vec<usize>> = parameters
            .iter()
            .enumerate()
            .map(|(step, parameter)| match aggregate.op {
                AggregateOp::LimitRatio => sample(&grid, step, *parameter),
                op => choose(&grid, &groups, step, parameter.max(0.0) as usize, op),
            })
            .collect();
        let mut result = self.grid(grid.rows.len())?;
        if self.times.is_instant() {
            for row in &chosen[0] {
                result.push(grid.rows[*row].clone());
                grid.cell(*row, 0)
                    .into_iter()
                    .for_each(|cell| result.set_cell(result.rows.len() - 1, 0, cell));
            }
            return Ok(result);
        }
        for row in &grid.rows {
            result.push(row.clone());
        }
        for (step, rows) in chosen.iter().enumerate() {
            for row in rows {
                grid.cell(*row, step).into_iter().for_each(|cell| result.set_cell(*row, step, cell));
            }
        }
        Ok(result)
    }

    /// How often each value occurs; the value becomes a label.
    fn count_values(&self, aggregate: &AggregateExpr, parameter: &Expr) -> Result<Grid> {
        let (label, valid) = string_argument(parameter);
        if !valid || label.is_empty() {
            let text = match parameter.unwrap_parens() {
                Expr::String(literal) => quote(&literal.value),
                other => other.to_string(),
            };
            return Err(QueryError::Execution(format!("invalid label name {text}")));
        }
        let grid = self.vector(&aggregate.expr)?;
        self.charge_visits(grid.rows.len() * (1 + aggregate.grouping.len()))?;
        let mut result = self.grid(0)?;
        let mut known: HashMap<Labels, usize> = HashMap::new();
        for (i, row) in grid.rows.iter().enumerate() {
            let group = group_labels(row, &aggregate.grouping, aggregate.without);
            for (step, cell) in grid.cells(i) {
                let value = match cell {
                    SampleValue::Float(value) => format_plain(value),
                    SampleValue::Histogram(histogram) => histogram.to_string(),
                };
                let labels = group.with(&label, &value);
                let target = match known.get(&labels) {
                    Some(target) => *target,
                    None => {
                        self.charge(self.times.count)?;
                        self.charge_labels(&labels)?;
                        result.push(Row::new(labels.clone()));
                        known.insert(labels, result.rows.len() - 1);
                        result.rows.len() - 1
                    }
                };
                let count = result.value(target, step);
                result.set(target, step, if present(count) { count + 1.0 } else { 1.0 });
            }
        }
        Ok(result)
    }
}

/// Histograms that are added up, for their sum or for their mean.
enum Total {
    Sum(Box<HistogramSum>),
    Mean(Box<HistogramMean>),
}

impl Total {
    fn of_first(op: AggregateOp, histogram: &NativeHistogram) -> Total {
        match op {
            AggregateOp::Avg => Total::Mean(Box::new(HistogramMean::of_first(histogram))),
            _ => Total::Sum(Box::new(histogram.lifted())),
        }
    }

    fn add(&mut self, histogram: &NativeHistogram) -> std::result::Result<Added, MixedSchemas> {
        match self {
            Total::Sum(sum) => sum.add(histogram),
            Total::Mean(mean) => mean.add(histogram),
        }
    }

    fn result(self) -> NativeHistogram {
        match self {
            Total::Sum(sum) => sum.total(),
            Total::Mean(mean) => mean.mean(),
        }
    }
}

pub(super) fn group(grid: &Grid, aggregate: &AggregateExpr) -> Groups {
    let (names, without) = (&aggregate.grouping, aggregate.without);
    let mut groups = Groups { rows: Vec::new(), of_row: Vec::with_capacity(grid.rows.len()) };
    if !without && names.is_empty() {
        groups.rows.extend((!grid.rows.is_empty()).then(|| Row::new(Labels::empty())));
        groups.of_row = vec![0; grid.rows.len()];
        return groups;
    }
    // By values alone, so that most rows need no new label set.
    let mut by_values: HashMap<Vec<&str>, usize> = HashMap::new();
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    let mut key: Vec<&str> = Vec::with_capacity(names.len());
    for row in &grid.rows {
        let rows = &mut groups.rows;
        let mut add = |labels: Labels| {
            // A name that goes when the query ends goes with its group.
            let name = if row.name == Name::DropsLast { Name::DropsLast } else { Name::Kept };
            rows.push(Row { labels, name });
            rows.len() - 1
        };
        let group = if without {
            let labels = group_labels(row, names, true);
            *by_labels.entry(labels.clone()).or_insert_with(|| add(labels))
        } else {
            key.clear();
            key.extend(names.iter().map(|name| row.get(name)));
            match by_values.get(&key) {
                Some(group) => *group,
                None => {
                    let group = add(group_labels(row, names, false));
                    by_values.insert(key.clone(), group);
                    group
                }
            }
        };
        groups.of_row.push(group);
    }
    groups
}

fn group_labels(row: &Row, names: &[String], without: bool) -> Labels {
    let named = |name: &str| names.iter().any(|n| n == name);
    let labels = row.visible();
    if without {
        // The metric name goes, and its type and unit with it.
        let labels = labels.without_name();
        return if labels.iter().any(|(name, _)| named(name)) { labels.without(names) } else { labels };
    }
    debug_assert!(row.name != Name::Dropped || labels.get(METRIC_NAME).is_empty());
    labels.keep(names)
}

/// An aggregation of values that come one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Running {
    Sum(KahanSum),
    Avg(Mean),
    Count(f64),
    Group,
    Min(f64),
    Max(f64),
    Stddev(Variance),
    Stdvar(Variance),
    /// The others have a parameter and their own functions.
    Other,
}

impl Running {
    pub(super) fn of_first(op: AggregateOp, value: f64) -> Running {
        let mut variance = Variance::default();
        variance.add(value);
        match op {
            AggregateOp::Sum => Running::Sum(KahanSum::starting_at(value)),
            AggregateOp::Avg => Running::Avg(Mean::of_first(value)),
            AggregateOp::Count => Running::Count(1.0),
            AggregateOp::Group => Running::Group,
            AggregateOp::Min => Running::Min(value),
            AggregateOp::Max => Running::Max(value),
            AggregateOp::Stddev => Running::Stddev(variance),
            AggregateOp::Stdvar => Running::Stdvar(variance),
            AggregateOp::Quantile
            | AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio
            | AggregateOp::CountValues => Running::Other,
        }
    }

    pub(super) fn add(&mut self, value: f64) {
        match self {
            Running::Sum(sum) => sum.add(value),
            Running::Avg(mean) => mean.add(value),
            Running::Count(count) => *count += 1.0,
            Running::Min(best) if value < *best || best.is_nan() => *best = value,
            Running::Max(best) if value > *best || best.is_nan() => *best = value,
            Running::Stddev(variance) | Running::Stdvar(variance) => variance.add(value),
            Running::Min(_) | Running::Max(_) | Running::Group | Running::Other => {}
        }
    }

    pub(super) fn result(&self) -> f64 {
        match self {
            Running::Sum(sum) => sum.total(),
            Running::Avg(mean) => mean.mean(),
            Running::Count(count) => *count,
            Running::Group => 1.0,
            Running::Min(best) | Running::Max(best) => *best,
            Running::Stddev(variance) => variance.variance().sqrt(),
            Running::Stdvar(variance) => variance.variance(),
            Running::Other => f64::NAN,
        }
    }
}

/// The aggregation of at least one value.
fn reduce(op: AggregateOp, values: &[f64]) -> f64 {
    let mut running = Running::of_first(op, values[0]);
    values[1..].iter().for_each(|value| running.add(*value));
    running.result()
}

/// The rows of `k` values of each group: the largest or smallest, best first and NaN last, or for `limitk` any.
fn choose(grid: &Grid, groups: &Groups, step: usize, k: usize, op: AggregateOp) -> Vec<usize> {
    let limits = op == AggregateOp::Limitk;
    let counts = |value: f64| if limits { present(value) } else { is_float(value) };
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.rows.len()];
    for (row, group) in groups.of_row.iter().enumerate().filter(|(row, _)| counts(grid.value(*row, step))) {
        members[*group].push(row);
    }
    for rows in &mut members {
        if !limits {
            rows.sort_by(|a, b| {
                let (a, b) = (grid.value(*a, step), grid.value(*b, step));
                let by_value = if op == AggregateOp::Topk { b.partial_cmp(&a) } else { a.partial_cmp(&b) };
                by_value.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            });
        }
        rows.truncate(k);
    }
    members.concat()
}

/// The rows whose labels' hash lies in the lower `ratio` of all hashes, or (negative) in the upper one: those that Prometheus
/// chooses, and the same at each step.
fn sample(grid: &Grid, step: usize, ratio: f64) -> Vec<usize> {
    let chosen = |row: &usize| {
        let place = hash(&grid.rows[*row].visible()) as f64 / u64::MAX as f64;
        if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
    };
    (0..grid.rows.len()).filter(|row| present(grid.value(*row, step))).filter(chosen).collect()
}
