//! Function calls.

use super::annotations::Note;
use super::ast::*;
use super::error::QueryError;
use super::eval::Buckets;
use super::eval::{Evaluated, Evaluator};
use super::functions::calendar::Clock;
use super::functions::label::{label_join, label_replace, labels_of_absent, string_argument};
use super::functions::window::Window;
use super::functions::{Body, Special, WindowFunction};
use super::grid::{Grid, Row, is_float, present};
use super::numerics::{self, nan_first};
use super::select::{Pick, Samples};
use super::value::SampleValue;
use crate::labels::{Labels, METRIC_NAME};

/// Names that counters end in.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

type Result<T> = std::result::Result<T, QueryError>;

impl Evaluator<'_> {
    pub(super) fn call(&self, call: &Call) -> Result<Evaluated> {
        let delayed = self.options.delayed_name_removal;
        let grid = match call.function.body {
            Body::Math(f) => {
                let mut grid = self.vector(&call.args[0])?;
                grid.map(f);
                grid.drop_names(delayed)?
            }
            Body::Window(function) => {
                let grid = self.over_windows(call, function)?;
                let grid = if function.keeps_name { grid } else { grid.without_names(delayed) };
                if delayed { grid } else { grid.all_different()? }
            }
            Body::Calendar(f) => match call.args.first() {
                Some(arg) => {
                    let mut grid = self.vector(arg)?;
                    grid.map(|v| if v.is_finite() { f(&Clock::at(v)) as f64 } else { f64::NAN });
                    grid.drop_names(delayed)?
                }
                None => {
                    let times = self.times.iter().map(|ms| f(&Clock::at(ms as f64 / 1_000.0)) as f64);
                    self.one_row(Labels::empty(), times.collect())?
                }
            },
            Body::NativeHistogram(f) => {
                let mut grid = self.with_buckets(buckets_of(call.function.name)).vector(&call.args[0])?;
                grid.map_histograms(f);
                grid.drop_names(delayed)?
            }
            Body::Special(special) => return self.special(special, call),
        };
        Ok(Evaluated::Vector(grid))
    }

    fn one_row(&self, labels: Labels, values: Vec<f64>) -> Result<Grid> {
        let mut grid = self.grid(1)?;
        grid.push(Row::new(labels)).copy_from_slice(&values);
        grid.pop_if_empty();
        Ok(grid)
    }

    fn over_windows(&self, call: &Call, function: WindowFunction) -> Result<Grid> {
        let is_range = |arg: &&Expr| arg.value_type() == ValueType::Matrix;
        let Some(range_vector) = call.args.iter().find(is_range) else {
            return Err(QueryError::Execution(format!("{} needs a range vector", call.function.name)));
        };
        let scalars = call.args.iter().filter(|arg| !is_range(arg));
        let scalars: Vec<Vec<f64>> = scalars.map(|arg| self.scalar(arg)).collect::<Result<_>>()?;
        self.check_smoothing_factors(call, &scalars)?;
        let windows = self.windows(range_vector)?;
        call.function.check_extension(windows.extension)?;
        let span = call.args[0].told_at();
        let tell = |note: Note<'_>| self.note(span, note);
        let mut parameters = vec![0.0; scalars.len()];
        let grid = self.map_windows(range_vector, &windows, |step, row, samples| {
            for (parameter, values) in parameters.iter_mut().zip(&scalars) {
                *parameter = values[step];
            }
            let window = Window {
                samples: samples.floats,
                histograms: samples.histograms,
                starts: samples.starts,
                metric: row.get(METRIC_NAME),
                tell: &tell,
                end_ms: windows.ends_ms[step],
                range_ms: windows.range_ms,
                extension: windows.extension,
                now_ms: self.times.at(step),
                parameters: &parameters,
            };
            window.apply(function)
        })?;
        if matches!(call.function.name, "rate" | "increase") {
            self.warn_of_non_counters(&grid, range_vector);
        }
        Ok(grid)
    }

    fn check_smoothing_factors(&self, call: &Call, factors: &[Vec<f64>]) -> Result<()> {
        if call.function.name != "double_exponential_smoothing" {
            return Ok(());
        }
        for (name, values) in ["smoothing", "trend"].iter().zip(factors) {
            if let Some(value) = values.iter().find(|value| !(**value > 0.0 && **value < 1.0)) {
                let message =
                    format!("invalid {name} factor. Expected: 0 < {} < 1, got: {value:.6}", &name[..1]);
                return Err(QueryError::Execution(message));
            }
        }
        Ok(())
    }

    pub(super) fn warn_of_non_counters(&self, grid: &Grid, arg: &Expr) {
        // Floats of one metric need to be told of once.
        let rows = if grid.one_metric && !grid.has_histograms() { 1 } else { grid.rows.len() };
        for (i, row) in grid.rows.iter().enumerate().take(rows) {
            let metric = row.get(METRIC_NAME);
            let is_counter = COUNTER_SUFFIXES.iter().any(|suffix| metric.ends_with(suffix));
            if !metric.is_empty() && !is_counter && grid.row(i).iter().any(|value| is_float(*value)) {
                self.note(arg.told_at(), Note::PossibleNonCounter { metric });
            }
        }
    }

    pub(super) fn warn_of_quantiles(&self, quantiles: &[f64], arg: &Expr) {
        for q in quantiles.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
            self.note(arg.told_at(), Note::InvalidQuantile(*q));
        }
    }

    fn special(&self, special: Special, call: &Call) -> Result<Evaluated> {
        let args = &call.args;
        let constant = |seconds: f64| Ok(Evaluated::Scalar(vec![seconds; self.times.count]));
        let grid = match special {
            Special::Pi => return constant(std::f64::consts::PI),
            Special::Start => return constant(self.context.start_ms as f64 / 1_000.0),
            Special::End => return constant(self.context.end_ms as f64 / 1_000.0),
            Special::Step => return constant(self.context.durations.step_seconds),
            Special::Range => return constant(self.context.durations.range_seconds),
            Special::Time => {
                return Ok(Evaluated::Scalar(self.times.iter().map(|ms| ms as f64 / 1_000.0).collect()));
            }
            Special::MinOf => return self.of_scalars(args, numerics::min),
            Special::MaxOf => return self.of_scalars(args, numerics::max),
            Special::Scalar => return self.only_value(&args[0]),
            Special::Vector => self.one_row(Labels::empty(), self.scalar(&args[0])?)?,
            Special::Timestamp => self.timestamp(&args[0])?,
            Special::StartTimestamp => self.start_timestamp(&args[0])?,
            Special::Absent => self.absent(&self.vector(&args[0])?, &args[0])?,
            Special::AbsentOverTime => {
                let windows = self.windows(&args[0])?;
                call.function.check_extension(windows.extension)?;
                let one = |_, _: &Row, _: Samples<'_>| Some(SampleValue::Float(1.0));
                self.absent(&self.map_windows(&args[0], &windows, one)?, &args[0])?
            }
            Special::Clamp | Special::ClampMin | Special::ClampMax | Special::Round => {
                self.bounded(special, args)?
            }
            Special::LabelReplace => label_replace(self, args, self.vector(&args[0])?)?,
            Special::LabelJoin => label_join(self, args, self.vector(&args[0])?)?,
            Special::Sort | Special::SortDesc | Special::SortByLabel | Special::SortByLabelDesc => {
                self.sort(special, call)?
            }
            Special::HistogramQuantile => self.histogram_quantile(args)?,
            Special::HistogramFraction => self.histogram_fraction(args)?,
            Special::HistogramQuantiles => self.histogram_quantiles(args)?,
            Special::Info => self.info(&args[0], args.get(1))?,
        };
        Ok(Evaluated::Vector(grid))
    }

    fn of_scalars(&self, args: &[Expr], f: fn(f64, f64) -> f64) -> Result<Evaluated> {
        let (left, right) = (self.scalar(&args[0])?, self.scalar(&args[1])?);
        Ok(Evaluated::Scalar(left.into_iter().zip(right).map(|(a, b)| f(a, b)).collect()))
    }

    /// The value of the only float of a vector; NaN when there are none or several.
    fn only_value(&self, arg: &Expr) -> Result<Evaluated> {
        let grid = self.vector(arg)?;
        let only = |step| {
            let mut values = (0..grid.rows.len()).map(|row| grid.value(row, step)).filter(|v| is_float(*v));
            match (values.next(), values.next()) {
                (Some(value), None) => value,
                _ => f64::NAN,
            }
        };
        Ok(Evaluated::Scalar((0..self.times.count).map(only).collect()))
    }

    /// When samples were taken; for anything but a selector, the time of evaluation.
    fn timestamp(&self, arg: &Expr) -> Result<Grid> {
        let grid = match arg.unwrap_parens() {
            Expr::Vector(selector) => self.select(selector, Pick::Timestamp)?,
            other => {
                let mut grid = self.vector(other)?;
                for (i, value) in grid.values.iter_mut().enumerate().filter(|(_, value)| present(**value)) {
                    *value = self.times.at(i % self.times.count) as f64 / 1_000.0;
                }
                grid
            }
        };
        grid.drop_names(self.options.delayed_name_removal)
    }

    /// Since when samples count. Only samples of a selector can tell that, and only where start timestamps are used.
    fn start_timestamp(&self, arg: &Expr) -> Result<Grid> {
        let grid = match arg.unwrap_parens() {
            Expr::Vector(selector) if self.options.use_start_timestamps => {
                self.select(selector, Pick::StartTimestamp)?
            }
            other => {
                self.vector(other)?;
                self.grid(0)?
            }
        };
        grid.drop_names(self.options.delayed_name_removal)
    }

    /// 1 where no series has a sample.
    fn absent(&self, grid: &Grid, arg: &Expr) -> Result<Grid> {
        let values =
            (0..self.times.count).map(|step| if grid.any_at(step) { super::grid::ABSENT } else { 1.0 });
        self.one_row(labels_of_absent(arg), values.collect())
    }

    fn bounded(&self, special: Special, args: &[Expr]) -> Result<Grid> {
        let mut grid = self.vector(&args[0])?;
        let parameters: Vec<Vec<f64>> =
            args[1..].iter().map(|arg| self.scalar(arg)).collect::<Result<_>>()?;
        grid.map_at(|step, value| {
            let parameter = |which: usize| parameters.get(which).map_or(1.0, |values| values[step]);
            match special {
                // Bounds the wrong way round let nothing through.
                Special::Clamp if parameter(1) < parameter(0) => super::grid::ABSENT,
                Special::Clamp => numerics::max(parameter(0), numerics::min(parameter(1), value)),
                Special::ClampMin => numerics::max(parameter(0), value),
                Special::ClampMax => numerics::min(parameter(0), value),
                _ => {
                    let inverse = 1.0 / parameter(0);
                    (value * inverse + 0.5).floor() / inverse
                }
            }
        });
        grid.drop_names(self.options.delayed_name_removal)
    }

    /// Sorts an instant query's rows; a range query's result is sorted by labels at its end.
    fn sort(&self, special: Special, call: &Call) -> Result<Grid> {
        let args = &call.args;
        let mut grid = self.vector(&args[0])?;
        if matches!(special, Special::Sort | Special::SortDesc) {
            grid.drop_histograms();
        }
        if !self.times.is_instant() {
            self.note(call.span, Note::SortInRangeQuery);
            return Ok(grid);
        }
        let mut order: Vec<usize> = (0..grid.rows.len()).collect();
        let nan_last = |a: f64, b: f64| a.is_nan().cmp(&b.is_nan()).then(nan_first(a, b));
        match special {
            Special::Sort => order.sort_by(|a, b| nan_last(grid.values[*a], grid.values[*b])),
            Special::SortDesc => order.sort_by(|a, b| {
                let (a, b) = (grid.values[*a], grid.values[*b]);
                a.is_nan().cmp(&b.is_nan()).then(nan_first(b, a))
            }),
            _ => {
                let names: Vec<String> = args[1..].iter().map(|arg| string_argument(arg).0).collect();
                order.sort_by(|a, b| compare_by_labels(&grid.rows[*a], &grid.rows[*b], &names));
                if special == Special::SortByLabelDesc {
                    order.reverse();
                }
            }
        }
        let mut sorted = Grid::new(1);
        for row in order {
            sorted.push(grid.rows[row].clone());
            if let Some(cell) = grid.cell(row, 0) {
                sorted.set_cell(sorted.rows.len() - 1, 0, cell);
            }
        }
        Ok(sorted)
    }
}

/// Whether a function of a histogram looks at its buckets.
fn buckets_of(function: &str) -> Buckets {
    match function {
        "histogram_count" | "histogram_sum" | "histogram_avg" => Buckets::Ignored,
        _ => Buckets::Needed,
    }
}

/// Orders rows by the named labels, numbers in them by size, and then by all labels.
fn compare_by_labels(a: &Row, b: &Row, names: &[String]) -> std::cmp::Ordering {
    let by_names = names.iter().map(|name| natural_order(a.get(name), b.get(name)));
    by_names.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| a.labels.cmp(&b.labels))
}

/// Orders `a10` after `a9`: runs of digits compare as numbers.
fn natural_order(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let (Some(x), Some(y)) = (a.first(), b.first()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (left, right) = (take_digits(&mut a), take_digits(&mut b));
            left.len().cmp(&right.len()).then(left.cmp(right))
        } else {
            (a, b) = (&a[1..], &b[1..]);
            x.cmp(y)
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// Takes a run of digits from the front; without its leading zeros, longer is larger.
fn take_digits<'t>(text: &mut &'t [u8]) -> &'t [u8] {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(length);
    *text = rest;
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}
