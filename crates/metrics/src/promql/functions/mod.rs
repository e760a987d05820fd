//! The functions of PromQL: names, arguments, and which code computes them.
//!
//! Most functions are a Rust function over one value or one window; those that need more (labels, several series, the
//! query's times) are named in [`Special`] and computed in `call`.

pub(super) mod calendar;
pub(super) mod extended;
pub(super) mod histogram;
pub(super) mod label;
pub(super) mod native;
pub(super) mod window;

use std::fmt;

use super::ast::{Extension, ValueType};
use super::error::QueryError;
use super::numerics;
use super::value::SampleValue;
use crate::histogram::NativeHistogram;
use calendar::{Clock, civil};
use window::Window;

/// A function of PromQL.
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments.
    pub arguments: &'static [ValueType],
    /// How many of the last arguments may be left out.
    pub optional: usize,
    /// Whether the last argument may be repeated.
    pub variadic: bool,
    /// What it returns.
    pub returns: ValueType,
    /// Whether Prometheus has it behind a feature flag.
    pub experimental: bool,
    pub(super) body: Body,
}

/// What computes a function.
#[derive(Clone, Copy)]
pub(super) enum Body {
    /// Each value of a vector; drops the metric name.
    Math(fn(f64) -> f64),
    /// Each window of a range vector.
    Window(WindowFunction),
    /// Each value as a time; without an argument, the time of evaluation.
    Calendar(fn(&Clock) -> i64),
    /// Each native histogram of a vector; other samples have no result. Drops the metric name.
    NativeHistogram(fn(&NativeHistogram) -> f64),
    Special(Special),
}

/// A function of the samples in a window.
#[derive(Clone, Copy)]
pub(super) struct WindowFunction {
    /// Of a window with floats only; or, if native histograms are ignored, of its floats.
    pub(super) floats: fn(&Window<'_>) -> Option<f64>,
    /// Of a window with native histograms; without it they are ignored, which is told.
    pub(super) histograms: Option<fn(&Window<'_>) -> Option<SampleValue>>,
    /// Whether the result keeps the metric name.
    pub(super) keeps_name: bool,
}

/// Functions that need more than a value or a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Absent,
    AbsentOverTime,
    Clamp,
    ClampMax,
    ClampMin,
    End,
    HistogramFraction,
    HistogramQuantile,
    HistogramQuantiles,
    Info,
    LabelJoin,
    LabelReplace,
    MaxOf,
    MinOf,
    Pi,
    Range,
    Round,
    Scalar,
    Sort,
    SortByLabel,
    SortByLabelDesc,
    SortDesc,
    Start,
    StartTimestamp,
    Step,
    Time,
    Timestamp,
    Vector,
}

impl Function {
    /// How many arguments it takes at least and at most (`None`: no limit).
    pub(super) fn argument_counts(&self) -> (usize, Option<usize>) {
        let all = self.arguments.len();
        (all - self.optional, (!self.variadic).then_some(all))
    }

    /// The type of the argument at a place.
    pub(super) fn argument_type(&self, place: usize) -> ValueType {
        let last = self.arguments.len().saturating_sub(1);
        self.arguments.get(place.min(last)).copied().unwrap_or(ValueType::Scalar)
    }
}

/// Functions whose value depends on the time of evaluation even when their selectors are pinned by `@`.
const TIME_DEPENDENT: [&str; 11] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

impl Function {
    pub(super) fn depends_on_time(&self) -> bool {
        TIME_DEPENDENT.contains(&self.name)
    }
}

/// Functions that know what to do with the samples around an `anchored` window.
const OF_ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
/// Functions that know what to do with the samples around a `smoothed` window.
const OF_SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];

impl Function {
    /// An error if the function can't have a window with samples around it.
    pub(super) fn check_extension(&self, extension: Option<Extension>) -> Result<(), QueryError> {
        let functions: &[&str] = match extension {
            None => return Ok(()),
            Some(Extension::Anchored) => &OF_ANCHORED,
            Some(Extension::Smoothed) => &OF_SMOOTHED,
        };
        let (keyword, name) = (extension.map_or("", Extension::keyword), self.name);
        if functions.contains(&name) {
            return Ok(());
        }
        let functions = functions.join(", ");
        let message = format!("{keyword} modifier can only be used with: {functions} - not with {name}");
        Err(QueryError::Execution(message))
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The function with a name.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

/// All functions, sorted by name.
pub fn all() -> &'static [Function] {
    FUNCTIONS
}

const V: ValueType = ValueType::Vector;
const S: ValueType = ValueType::Scalar;
const M: ValueType = ValueType::Matrix;
const T: ValueType = ValueType::String;

const fn function(name: &'static str, arguments: &'static [ValueType], body: Body) -> Function {
    Function { name, arguments, optional: 0, variadic: false, returns: V, experimental: false, body }
}

const fn math(name: &'static str, f: fn(f64) -> f64) -> Function {
    function(name, &[V], Body::Math(f))
}

type OfFloats = fn(&Window<'_>) -> Option<f64>;
type OfHistograms = fn(&Window<'_>) -> Option<SampleValue>;

/// A function of windows that ignores native histograms.
const fn floats(name: &'static str, floats: OfFloats) -> Function {
    let body = Body::Window(WindowFunction { floats, histograms: None, keeps_name: false });
    function(name, &[M], body)
}

/// A function of windows, for those of floats and for those with native histograms.
const fn window(name: &'static str, floats: OfFloats, histograms: OfHistograms) -> Function {
    let body = Body::Window(WindowFunction { floats, histograms: Some(histograms), keeps_name: false });
    function(name, &[M], body)
}

const fn calendar(name: &'static str, f: fn(&Clock) -> i64) -> Function {
    function(name, &[V], Body::Calendar(f)).optional(1)
}

const fn native(name: &'static str, f: fn(&NativeHistogram) -> f64) -> Function {
    function(name, &[V], Body::NativeHistogram(f))
}

const fn special(name: &'static str, arguments: &'static [ValueType], special: Special) -> Function {
    function(name, arguments, Body::Special(special))
}

impl Function {
    const fn optional(mut self, count: usize) -> Function {
        self.optional = count;
        self
    }

    const fn variadic(mut self) -> Function {
        self.variadic = true;
        self
    }

    const fn scalar(mut self) -> Function {
        self.returns = S;
        self
    }

    const fn keeping_name(mut self) -> Function {
        if let Body::Window(function) = &mut self.body {
            function.keeps_name = true;
        }
        self
    }

    const fn experimental(mut self) -> Function {
        self.experimental = true;
        self
    }
}

/// Sorted by name; a test holds it to that.
static FUNCTIONS: &[Function] = &[
    math("abs", f64::abs),
    special("absent", &[V], Special::Absent),
    special("absent_over_time", &[M], Special::AbsentOverTime),
    math("acos", f64::acos),
    math("acosh", f64::acosh),
    math("asin", f64::asin),
    math("asinh", f64::asinh),
    math("atan", f64::atan),
    math("atanh", f64::atanh),
    window("avg_over_time", window::avg, native::avg),
    math("ceil", f64::ceil),
    window("changes", window::changes, native::changes),
    special("clamp", &[V, S, S], Special::Clamp),
    special("clamp_max", &[V, S], Special::ClampMax),
    special("clamp_min", &[V, S], Special::ClampMin),
    math("cos", f64::cos),
    math("cosh", numerics::cosh),
    window("count_over_time", window::count, native::count),
    calendar("day_of_month", |clock| clock.day),
    calendar("day_of_week", |clock| (clock.days + 4).rem_euclid(7)),
    calendar("day_of_year", |clock| clock.days - civil::days_from_civil(clock.year, 1, 1) + 1),
    calendar("days_in_month", |clock| civil::days_in_month(clock.year, clock.month)),
    math("deg", |v| v * 180.0 / std::f64::consts::PI),
    window("delta", window::delta, native::delta),
    floats("deriv", window::deriv),
    Function {
        arguments: &[M, S, S],
        ..floats("double_exponential_smoothing", window::double_exponential_smoothing)
    }
    .experimental(),
    special("end", &[], Special::End).scalar().experimental(),
    math("exp", f64::exp),
    window("first_over_time", window::first, native::first).keeping_name(),
    math("floor", f64::floor),
    native("histogram_avg", native::mean),
    native("histogram_count", |histogram| histogram.count),
    special("histogram_fraction", &[S, S, V], Special::HistogramFraction),
    special("histogram_quantile", &[S, V], Special::HistogramQuantile),
    special("histogram_quantiles", &[V, T, S], Special::HistogramQuantiles).variadic().experimental(),
    native("histogram_stddev", |histogram| native::variance(histogram).sqrt()),
    native("histogram_stdvar", native::variance),
    native("histogram_sum", |histogram| histogram.sum),
    calendar("hour", |clock| clock.hour),
    window("idelta", window::idelta, native::idelta),
    window("increase", window::increase, native::increase),
    special("info", &[V, V], Special::Info).optional(1).experimental(),
    window("irate", window::irate, native::irate),
    special("label_join", &[V, T, T, T], Special::LabelJoin).optional(1).variadic(),
    special("label_replace", &[V, T, T, T, T], Special::LabelReplace),
    window("last_over_time", window::last, native::last).keeping_name(),
    math("ln", f64::ln),
    math("log10", f64::log10),
    math("log2", f64::log2),
    floats("mad_over_time", window::median_absolute_deviation).experimental(),
    special("max_of", &[S, S], Special::MaxOf).scalar().experimental(),
    floats("max_over_time", window::max),
    special("min_of", &[S, S], Special::MinOf).scalar().experimental(),
    floats("min_over_time", window::min),
    calendar("minute", |clock| clock.minute),
    calendar("month", |clock| clock.month),
    special("pi", &[], Special::Pi).scalar(),
    Function { arguments: &[M, S], ..floats("predict_linear", window::predict_linear) },
    window("present_over_time", window::present, native::present),
    Function { arguments: &[S, M], ..floats("quantile_over_time", window::quantile) },
    math("rad", |v| v * std::f64::consts::PI / 180.0),
    special("range", &[], Special::Range).scalar().experimental(),
    window("rate", window::rate, native::rate),
    window("resets", window::resets, native::resets),
    special("round", &[V, S], Special::Round).optional(1),
    special("scalar", &[V], Special::Scalar).scalar(),
    math("sgn", |v| if v == 0.0 || v.is_nan() { v } else { v.signum() }),
    math("sin", f64::sin),
    math("sinh", numerics::sinh),
    special("sort", &[V], Special::Sort),
    special("sort_by_label", &[V, T], Special::SortByLabel).optional(1).variadic().experimental(),
    special("sort_by_label_desc", &[V, T], Special::SortByLabelDesc).optional(1).variadic().experimental(),
    special("sort_desc", &[V], Special::SortDesc),
    math("sqrt", f64::sqrt),
    special("start", &[], Special::Start).scalar().experimental(),
    special("start_timestamp", &[V], Special::StartTimestamp).experimental(),
    floats("stddev_over_time", window::stddev),
    floats("stdvar_over_time", window::stdvar),
    special("step", &[], Special::Step).scalar().experimental(),
    window("sum_over_time", window::sum, native::sum),
    math("tan", f64::tan),
    math("tanh", f64::tanh),
    special("time", &[], Special::Time).scalar(),
    special("timestamp", &[V], Special::Timestamp),
    window("ts_of_first_over_time", window::time_of_first, native::time_of_first).experimental(),
    window("ts_of_last_over_time", window::time_of_last, native::time_of_last).experimental(),
    floats("ts_of_max_over_time", window::time_of_max).experimental(),
    floats("ts_of_min_over_time", window::time_of_min).experimental(),
    special("vector", &[S], Special::Vector),
    calendar("year", |clock| clock.year),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted_so_that_they_are_found() {
        assert!(FUNCTIONS.is_sorted_by_key(|function| function.name));
        for function in FUNCTIONS {
            assert_eq!(find(function.name), Some(function));
        }
    }
}
