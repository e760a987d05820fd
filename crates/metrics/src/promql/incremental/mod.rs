//! Queries that are asked again and again, such as those of triggers: each evaluation costs what has changed since the last.
//!
//! The store tells which samples came and which series were born or evicted. For each selector the query keeps the series
//! in their order, for each window what its function needs, and for each aggregation which series belongs to which group. Only the
//! last step of each function is done anew, because it depends on the time, and then everything above the first
//! aggregation, which is little.
//!
//! The result is bit for bit that of the batch engine: every addition is made again in the same order, by the same
//! code, and nothing is ever subtracted from a sum. What cannot be kept up to date (subqueries, `@`, native histograms,
//! windows that need too much memory) is left to the batch engine, part by part, so every query can be a [`LiveQuery`].

mod clock;
mod edges;
mod leaf;
mod members;
mod ring;
#[cfg(test)]
mod tests;
mod windows;

use self::leaf::{Leaf, Shape};
use super::aggregate::{Groups, Running, group};
use super::ast::*;
use super::error::{ParseError, QueryError};
use super::eval::{Evaluator, Prepared, Times};
use super::grid::{ABSENT, Grid, present};
use super::source::Reader;
use super::value::QueryResult;
use super::{EngineOptions, parse};
use crate::labels::Labels;
use crate::store::Store;

/// A query and what it remembers of its last evaluation. Call [`LiveQuery::close`] when it is not asked any more: the store
/// keeps news for it.
///
/// ```
/// use flyball_metrics::promql::{EngineOptions, LiveQuery, SampleValue, Value};
/// use flyball_metrics::{Labels, Sample, Store};
///
/// let mut store = Store::default();
/// let series = store.series_id(&Labels::new([("__name__", "requests_total"), ("pod", "model-1")]))?;
/// let mut query = LiveQuery::new("sum(rate(requests_total[30s]))", EngineOptions::default())?;
/// for second in 0..60 {
///     store.append(series, Sample::new(second * 1000, (second * 5) as f64))?;
///     query.evaluate(&mut store, second * 1000)?;
/// }
/// let Value::Vector(samples) = query.evaluate(&mut store, 59_000)?.value else { panic!() };
/// assert_eq!(samples[0].value, SampleValue::Float(5.0));
/// query.close(&mut store);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LiveQuery {
    query: String,
    expr: Expr,
    options: EngineOptions,
    /// One for each selector of the query, from left to right.
    leaves: Vec<Leaf>,
    /// One for each part that is kept up to date, from left to right.
    parts: Vec<Part>,
}

/// A part of the query that is kept up to date: a leaf, or an aggregation of one.
#[derive(Debug)]
struct Part {
    leaf: usize,
    /// The groups of an aggregation, for an order of the leaf's series.
    groups: Option<(u64, Groups)>,
}

/// A part as it stands in the tree.
struct Place<'a> {
    expr: &'a Expr,
    shape: Shape<'a>,
    aggregate: Option<&'a AggregateExpr>,
}

impl LiveQuery {
    /// A query that has not been evaluated yet.
    ///
    /// # Errors
    /// It is not PromQL.
    pub fn new(query: &str, options: EngineOptions) -> Result<LiveQuery, ParseError> {
        Ok(LiveQuery::of_parsed(query, parse(query)?, options))
    }

    /// The same, of a query that is parsed already: by other options, for one.
    pub fn of_parsed(query: &str, expr: Expr, options: EngineOptions) -> LiveQuery {
        let (leaves, parts) = plan(&expr, &options);
        LiveQuery { query: query.to_owned(), expr, options, leaves, parts }
    }

    /// The query's tree.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The value at a time, as [`super::eval_instant`] finds it. Times may go backwards; that costs as much as a new query.
    ///
    /// # Errors
    /// As the batch engine's.
    pub fn evaluate(&mut self, store: &mut Store, time_ms: i64) -> Result<QueryResult, QueryError> {
        for leaf in &mut self.leaves {
            leaf.update(store, time_ms);
        }
        let reader = Reader::Store(store);
        let evaluator = Evaluator::new(&reader, &self.query, &self.options, Times::once(time_ms), 0);
        let mut places = Vec::new();
        find_places(&self.expr, &mut places);
        let samples: usize = self.leaves.iter().map(|leaf| leaf.samples + 2 * leaf.values.len()).sum();
        // A query near its limits is left to the engine that counts them one by one.
        let is_small = samples < self.options.samples_max / 2;
        // What is kept knows neither names that go at the end nor start timestamps.
        let is_default = !(self.options.delayed_name_removal || self.options.use_start_timestamps);
        let mut prepared = Vec::new();
        for (part, place) in self.parts.iter_mut().zip(&places).filter(|_| is_small && is_default) {
            prepared.extend(part.prepare(&self.leaves[part.leaf], place, &evaluator));
        }
        evaluator.knowing(&prepared).run(&self.expr)
    }

    /// The targets whose series the query selects, by `job` and `instance`, each with the time of its newest sample.
    /// Series that have ended do not count. As of the last evaluation.
    pub fn sources(&self) -> impl Iterator<Item = (&Labels, i64)> {
        self.leaves.iter().flat_map(|leaf| leaf.members.sources())
    }

    /// Bytes of memory that it holds, estimated.
    pub fn bytes(&self) -> usize {
        self.leaves.iter().map(Leaf::bytes).sum()
    }

    /// Gives the memory of its windows back. From now on the batch engine evaluates it, and only the series are known.
    pub fn shed(&mut self) {
        self.parts.clear();
        self.leaves.iter_mut().for_each(Leaf::shed);
    }

    /// Ends it: the store keeps no more news for it.
    pub fn close(mut self, store: &mut Store) {
        self.leaves.iter_mut().for_each(|leaf| leaf.members.leave(store));
    }
}

/// A leaf for each selector, and which of them make parts.
fn plan(expr: &Expr, options: &EngineOptions) -> (Vec<Leaf>, Vec<Part>) {
    let selectors: Vec<&VectorSelector> =
        expr.selectors().into_iter().map(|(selector, _)| selector).collect();
    let mut leaves: Vec<Leaf> = selectors.iter().map(|selector| Leaf::watched(selector)).collect();
    let mut places = Vec::new();
    find_places(expr, &mut places);
    let mut parts = Vec::new();
    let durations = super::duration::DurationContext { step_seconds: 0.0, range_seconds: 0.0 };
    let lookback_ms = i64::try_from(options.lookback_delta.as_millis()).unwrap_or(i64::MAX);
    for Place { shape, .. } in places {
        let leaf = selectors.iter().position(|selector| std::ptr::eq(*selector, shape.selector)).unwrap_or(0);
        let range_ms = shape.range.map_or(Ok(lookback_ms), |range| durations.positive_ms(range));
        let offset = shape.selector.shift.offset.as_ref();
        let offset_ms = offset.map_or(Ok(0), |offset| durations.ms(offset));
        // A mistake in a duration is the batch engine's to tell.
        if let (Ok(range_ms), Ok(offset_ms)) = (range_ms, offset_ms) {
            leaves[leaf] = Leaf::computed(shape, range_ms, offset_ms);
        }
        parts.push(Part { leaf, groups: None });
    }
    (leaves, parts)
}

/// The parts of an expression that can be kept up to date, from left to right.
fn find_places<'a>(expr: &'a Expr, places: &mut Vec<Place<'a>>) {
    if let Some(shape) = Shape::of(expr) {
        return places.push(Place { expr, shape, aggregate: None });
    }
    match expr {
        Expr::Aggregate(aggregate) if aggregate.parameter.is_none() => {
            match Shape::of(aggregate.expr.unwrap_parens()) {
                Some(shape) => places.push(Place { expr, shape, aggregate: Some(aggregate) }),
                None => find_places(&aggregate.expr, places),
            }
        }
        // What is inside a subquery is evaluated at other times.
        Expr::Subquery(_) => {}
        other => other.children().into_iter().for_each(|child| find_places(child, places)),
    }
}

impl Part {
    /// The part's value, unless it must be left to the batch engine.
    fn prepare<'a>(
        &mut self,
        leaf: &Leaf,
        place: &Place<'a>,
        evaluator: &Evaluator<'_>,
    ) -> Option<Prepared<'a>> {
        let one_metric = evaluator.selects_one_metric(place.shape.selector);
        // Without their names, series of several metrics may be the same.
        if !leaf.is_right() || (leaf.drops_name() && !one_metric) {
            return None;
        }
        let first = leaf.values.iter().position(|value| present(*value));
        let counter = place.shape.counter.zip(first).map(|(argument, first)| {
            let mut grid = Grid::new(1);
            // The name is what is looked at, so it must still be there.
            let row = super::grid::Row::new(leaf.row(first).labels);
            grid.push(row)[0] = leaf.values[first];
            (argument, grid)
        });
        let grid = match place.aggregate {
            Some(aggregate) => self.aggregate(leaf, aggregate),
            None => all_rows(leaf, one_metric),
        };
        Some(Prepared { expr: place.expr, grid, counter })
    }

    fn aggregate(&mut self, leaf: &Leaf, aggregate: &AggregateExpr) -> Grid {
        let groups = match &mut self.groups {
            Some((epoch, groups)) if *epoch == leaf.epoch => groups,
            other => &mut other.insert((leaf.epoch, group(&leaf.empty_rows(), aggregate))).1,
        };
        fold(groups, aggregate.op, &leaf.values)
    }
}

/// One row for each group that has a value, in the order of the groups' first values.
fn fold(groups: &Groups, op: AggregateOp, values: &[f64]) -> Grid {
    let mut of_group: Vec<Option<Running>> = vec![None; groups.rows.len()];
    let mut order = Vec::with_capacity(groups.rows.len());
    for (value, group) in values.iter().zip(&groups.of_row).filter(|(value, _)| present(**value)) {
        match &mut of_group[*group] {
            Some(running) => running.add(*value),
            none => {
                *none = Some(Running::of_first(op, *value));
                order.push(*group);
            }
        }
    }
    let mut grid = Grid::new(1);
    for group in order {
        grid.push(groups.rows[group].clone())[0] = of_group[group].map_or(ABSENT, |running| running.result());
        grid.pop_if_empty();
    }
    grid
}

/// The series that have a value.
fn all_rows(leaf: &Leaf, one_metric: bool) -> Grid {
    let mut grid = Grid::new(1);
    for (place, value) in leaf.values.iter().enumerate().filter(|(_, value)| present(**value)) {
        grid.push(leaf.row(place))[0] = *value;
    }
    grid.one_metric = one_metric;
    grid
}
