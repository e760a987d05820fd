//! `info`: labels of info metrics such as `target_info`, joined to series of the same target.
//!
//! An info series belongs to a series if both have the same `instance` and `job`. It is looked for where the series
//! itself was found: `@` and `offset` in the first argument hold for it too (Prometheus: promql/info.go).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ast::*;
use super::error::QueryError;
use super::eval::Evaluator;
use super::grid::{Grid, Name, Row, present, same_labelset};
use super::reference::Reference;
use super::select::Pick;
use crate::labels::{Labels, METRIC_NAME};
use crate::matcher::{MatchOp, Matcher};
use crate::store::SeriesHandle;

type Result<T> = std::result::Result<T, QueryError>;

/// The labels that identify a target.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
/// The info metric where none is named.
const TARGET_INFO: &str = "target_info";

/// What is asked of info series.
struct Wanted {
    /// On their names.
    names: Vec<Matcher>,
    /// On their other labels.
    data: Vec<Matcher>,
}

impl Wanted {
    fn of(selector: Option<&Expr>) -> Wanted {
        let matchers = match selector {
            Some(Expr::Vector(selector)) => selector.matchers.clone(),
            _ => Vec::new(),
        };
        let (mut names, data): (Vec<Matcher>, Vec<Matcher>) =
            matchers.into_iter().partition(|matcher| matcher.name() == METRIC_NAME);
        let says_which = |matcher: &Matcher| matches!(matcher.op(), MatchOp::Equal | MatchOp::RegexMatch);
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        } else if !names.iter().any(says_which) {
            names.extend(Matcher::new(METRIC_NAME, MatchOp::RegexMatch, ".+_info"));
        }
        Wanted { names, data }
    }

    /// All conditions on info series.
    fn matchers(&self) -> Vec<Matcher> {
        self.names.iter().chain(&self.data).cloned().collect()
    }

    /// Whether a series is an info series itself.
    fn is_info(&self, row: &Row) -> bool {
        self.names.iter().all(|matcher| matcher.matches(row.get(METRIC_NAME)))
    }

    /// Whether a label is to be joined.
    fn takes(&self, label: &str) -> bool {
        label != METRIC_NAME
            && (self.data.is_empty() || self.data.iter().any(|matcher| matcher.name() == label))
    }

    /// Whether a series without any info series has what is asked for.
    fn allows_none(&self) -> bool {
        self.data.iter().all(|matcher| matcher.matches(""))
    }
}

/// The info series that an expression looks for.
pub(super) fn selections(expr: &Expr) -> Vec<Vec<Matcher>> {
    let mut found = Vec::new();
    let mut left = vec![expr];
    while let Some(expr) = left.pop() {
        if let Expr::Call(call) = expr
            && call.function.name == "info"
        {
            found.push(Wanted::of(call.args.get(1)).matchers());
        }
        left.extend(expr.children());
    }
    found
}

/// The values of the identifying labels.
type Target = [String; IDENTIFYING.len()];

fn target_of(row: &Row) -> Target {
    IDENTIFYING.map(|label| row.get(label).to_owned())
}

/// The info series of a query: when the newest sample of each was taken, at each step.
struct InfoSeries {
    grid: Grid,
    /// The targets that info series of each metric have, and a number for each.
    targets: BTreeMap<(String, Target), usize>,
    /// The number of each row.
    numbers: Vec<usize>,
}

impl Evaluator<'_> {
    pub(super) fn info(&self, vector: &Expr, selector: Option<&Expr>) -> Result<Grid> {
        let reference = self.shared_reference(vector)?.unwrap_or(Reference::NOW);
        let base = self.vector(vector)?;
        let wanted = Wanted::of(selector);
        let info = self.info_series(&base, &wanted, reference)?;
        Joined::of(&base, &info, &wanted).all(self)
    }

    /// The info series that may belong to series of a vector.
    fn info_series(&self, base: &Grid, wanted: &Wanted, reference: Reference) -> Result<InfoSeries> {
        let ordinary = base.rows.iter().filter(|row| !wanted.is_info(row));
        let groups = target_groups(ordinary.map(target_of));
        let selected = match groups.is_empty() {
            true => Cow::default(),
            false => self.reader.select(&wanted.matchers())?,
        };
        let series = selected.iter().map(SeriesHandle::read);
        let series = series.filter(|series| groups.values().any(|group| may_belong(series.labels(), group)));
        let times_ms = self.times.iter().map(|time_ms| reference.at(time_ms)).collect();
        let grid = self.newest(series.collect(), times_ms, Pick::TimeOfFloat)?;
        let is_histogram = |row: &usize| (0..grid.steps).any(|step| grid.histogram(*row, step).is_some());
        if let Some(row) = (0..grid.rows.len()).find(is_histogram) {
            let labels = &grid.rows[row].labels;
            let message = format!("this should be an info metric, with float samples: {labels}");
            return Err(QueryError::Execution(message));
        }
        let mut targets = BTreeMap::new();
        let number = |row: &Row| {
            let next = targets.len();
            *targets.entry((row.get(METRIC_NAME).to_owned(), target_of(row))).or_insert(next)
        };
        let numbers = grid.rows.iter().map(number).collect();
        Ok(InfoSeries { grid, targets, numbers })
    }
}

/// The values of each identifying label, of targets with the same of them.
type Values = [BTreeSet<String>; IDENTIFYING.len()];

/// Targets by which identifying labels they have; those that have none are left out.
fn target_groups(targets: impl Iterator<Item = Target>) -> BTreeMap<[bool; IDENTIFYING.len()], Values> {
    let mut groups: BTreeMap<_, Values> = BTreeMap::new();
    for target in targets.filter(|target| target.iter().any(|value| !value.is_empty())) {
        let has = [0, 1].map(|label: usize| !target[label].is_empty());
        let group = groups.entry(has).or_default();
        group.iter_mut().zip(target).for_each(|(values, value)| {
            values.insert(value);
        });
    }
    groups
}

/// Whether an info series has one of the values of each identifying label.
fn may_belong(labels: &Labels, group: &Values) -> bool {
    IDENTIFYING.iter().zip(group).all(|(label, values)| values.contains(labels.get(label)))
}

impl InfoSeries {
    /// The info series that counts at a step, for each number: the one with the newest sample.
    fn newest_at(&self, step: usize) -> Result<Vec<Option<usize>>> {
        let mut newest: Vec<Option<usize>> = vec![None; self.targets.len()];
        for (row, number) in self.numbers.iter().enumerate() {
            let time = self.grid.value(row, step);
            if !present(time) {
                continue;
            }
            let other = newest[*number].map(|other| (other, self.grid.value(other, step)));
            match other {
                Some((_, other_time)) if other_time > time => {}
                Some((other, other_time)) if other_time == time => return Err(self.twice(other, row, time)),
                _ => newest[*number] = Some(row),
            }
        }
        Ok(newest)
    }

    fn twice(&self, existing: usize, new: usize, seconds: f64) -> QueryError {
        let ms = (seconds * 1_000.0).round();
        let [existing, new] = [existing, new].map(|row| &self.grid.rows[row].labels);
        QueryError::Execution(format!(
            "found duplicate series for info metric: existing {existing} @ {ms}, new {new} @ {ms}"
        ))
    }
}

/// The join of a vector with info series.
struct Joined<'a> {
    base: &'a Grid,
    info: &'a InfoSeries,
    wanted: &'a Wanted,
    /// The numbers of the targets of each row of the vector, in the order of the metrics; `None` for info series.
    numbers: Vec<Option<Vec<usize>>>,
}

impl<'a> Joined<'a> {
    fn of(base: &'a Grid, info: &'a InfoSeries, wanted: &'a Wanted) -> Joined<'a> {
        let mut metrics: Vec<&String> = info.targets.keys().map(|(metric, _)| metric).collect();
        metrics.dedup();
        let numbers = |row: &Row| {
            if wanted.is_info(row) {
                return None;
            }
            let target = target_of(row);
            let number = |metric: &&String| info.targets.get(&((*metric).clone(), target.clone())).copied();
            Some(metrics.iter().filter_map(number).collect())
        };
        Joined { base, info, wanted, numbers: base.rows.iter().map(numbers).collect() }
    }

    fn all(&self, evaluator: &Evaluator<'_>) -> Result<Grid> {
        let mut output = Output { result: evaluator.grid(0)?, rows: HashMap::new() };
        // The info series of a row seldom change from step to step.
        let mut last: Vec<Option<(Vec<usize>, usize)>> = vec![None; self.base.rows.len()];
        for step in (0..self.base.steps).filter(|step| self.base.any_at(*step)) {
            let newest = self.info.newest_at(step)?;
            for (row, last) in last.iter_mut().enumerate() {
                let Some(cell) = self.base.cell(row, step) else { continue };
                let Some(found) = self.found(row, &newest) else { continue };
                let target = match last {
                    Some((same, target)) if *same == found => *target,
                    _ => output.row(evaluator, self.labels(row, &found)?)?,
                };
                *last = Some((found, target));
                if present(output.result.value(target, step)) {
                    return Err(same_labelset());
                }
                output.result.set_cell(target, step, cell);
            }
        }
        Ok(output.result)
    }

    /// The info series that belong to a row; `None` if there must be one and is none.
    fn found(&self, row: usize, newest: &[Option<usize>]) -> Option<Vec<usize>> {
        let Some(numbers) = &self.numbers[row] else { return Some(Vec::new()) };
        let found: Vec<usize> = numbers.iter().filter_map(|number| newest[*number]).collect();
        (!found.is_empty() || self.wanted.allows_none()).then_some(found)
    }

    /// A row of the vector with the labels of info series that it doesn't have itself.
    fn labels(&self, row: usize, found: &[usize]) -> Result<Row> {
        let base = &self.base.rows[row];
        let mut joined: BTreeMap<&str, &str> = BTreeMap::new();
        for info in found {
            for (name, value) in self.info.grid.rows[*info].labels.iter() {
                if !self.wanted.takes(name) || !base.get(name).is_empty() {
                    continue;
                }
                if joined.insert(name, value).is_some_and(|other| other != value) {
                    return Err(QueryError::Execution(format!("conflicting label: {name}")));
                }
            }
        }
        let visible = base.visible();
        let labels = Labels::new(visible.iter().chain(joined));
        let name = if base.name == Name::DropsLast { Name::DropsLast } else { Name::Kept };
        Ok(Row { labels, name })
    }
}

/// The series with their joined labels, each once.
struct Output {
    result: Grid,
    rows: HashMap<Labels, usize>,
}

impl Output {
    fn row(&mut self, evaluator: &Evaluator<'_>, row: Row) -> Result<usize> {
        if let Some(known) = self.rows.get(&row.labels) {
            return Ok(*known);
        }
        evaluator.charge(self.result.steps)?;
        evaluator.charge_labels(&row.labels)?;
        let at = self.result.rows.len();
        self.rows.insert(row.labels.clone(), at);
        self.result.push(row);
        Ok(at)
    }
}
