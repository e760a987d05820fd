//! Runs the blocks of a script: fills the store, evaluates, judges, evaluates again in other ways.

use std::collections::{BTreeMap, BTreeSet};

use flyball_metrics::promql::SampleValue;
use flyball_metrics::promql::{
    self, Annotations, At, EngineOptions, Expr, ParseOptions, QueryError, QueryResult, Value, eval_instant,
    eval_range,
};
use flyball_metrics::{HistogramSample, Labels, Matcher, Sample, Store, StoreOptions};

use super::case::{Command, Eval, EvalTimes, Expectation, Text, Tier, parse_series};
use super::compare::{compare, compare_vector, points_of};
use super::load::{Item, parse_items, parse_offsets};
use super::nhcb;

const MINUTE_MS: i64 = 60_000;

/// Functions whose value depends on the time of evaluation even when their selectors are pinned by `@`.
const TIME_DEPENDENT: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
    "start",
    "end",
    "step",
    "range",
];

/// Words of features that Prometheus has behind flags.
const FLAGGED: [&str; 8] =
    ["limitk", "limit_ratio", "info(", "fill(", "fill_left", "fill_right", "anchored", "smoothed"];

#[derive(Default)]
pub(crate) struct Runner {
    samples: BTreeMap<Labels, BTreeMap<i64, Item>>,
    native: BTreeSet<Labels>,
    /// The start timestamps of series that have any, by the time of the sample.
    starts: BTreeMap<Labels, BTreeMap<i64, i64>>,
    store: Store,
}

/// What became of a case.
pub(crate) struct Outcome {
    pub(crate) tier: Tier,
    pub(crate) line: usize,
    /// With the engine's options as the suite assumes them: names are dropped when a query ends.
    pub(crate) as_suite: Result<(), String>,
    /// With a server's defaults, where names are dropped at each operator. Some results differ by that.
    pub(crate) as_server: Result<(), String>,
}

impl Runner {
    pub(crate) fn run(&mut self, command: &Command) -> Option<Outcome> {
        match command {
            Command::Clear => *self = Runner::default(),
            Command::Load { step_ms, nhcb, lines } => {
                self.load(*step_ms, *nhcb, lines).expect("a valid load block")
            }
            Command::Eval(eval) => {
                return Some(Outcome {
                    tier: self.tier(eval),
                    line: eval.line,
                    as_suite: self.judge(eval, true),
                    as_server: self.judge(eval, false),
                });
            }
        }
        None
    }

    fn load(&mut self, step_ms: i64, nhcb: bool, lines: &[String]) -> Result<(), String> {
        let mut block = BTreeMap::new();
        for line in lines {
            let (labels, rest) = parse_series(line)?;
            if let Some(offsets) = rest.strip_prefix("@st") {
                let offsets = parse_offsets(offsets)?.into_iter().enumerate();
                let starts = offsets.filter_map(|(i, offset_ms)| {
                    let timestamp_ms = step_ms * i as i64;
                    Some((timestamp_ms, timestamp_ms + offset_ms?))
                });
                self.starts.entry(labels).or_default().extend(starts);
                continue;
            }
            let items = parse_items(rest)?.into_iter().enumerate().filter(|(_, item)| *item != Item::Gap);
            let points: BTreeMap<i64, Item> = items.map(|(i, item)| (step_ms * i as i64, item)).collect();
            block.insert(labels, points);
        }
        if nhcb {
            let converted = nhcb::convert(&block)?;
            self.native.extend(converted.keys().cloned());
            block.extend(converted);
        }
        for (labels, points) in block {
            if points.values().any(|item| matches!(item, Item::Histogram(..))) {
                self.native.insert(labels.clone());
            }
            self.samples.entry(labels).or_default().extend(points);
        }
        self.store = Store::new(StoreOptions::default());
        for (labels, points) in &self.samples {
            let id = self.store.series_id(labels).map_err(|error| error.to_string())?;
            let starts = self.starts.get(labels);
            for (timestamp_ms, item) in points {
                let timestamp_ms = *timestamp_ms;
                let start_ms = starts.and_then(|starts| starts.get(&timestamp_ms)).copied().unwrap_or(0);
                let appended = match item.clone() {
                    Item::Gap => continue,
                    Item::Float(value) => {
                        self.store.append_started(id, Sample { timestamp_ms, value }, start_ms)
                    }
                    Item::Histogram(histogram, _) => {
                        histogram.validate().map_err(|error| error.to_string())?;
                        let sample = HistogramSample { timestamp_ms, histogram };
                        self.store.append_started_histogram(id, sample, start_ms)
                    }
                };
                appended.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// What a case needs, by its text and by the series that its selectors match.
    fn tier(&self, eval: &Eval) -> Tier {
        let text = eval.query.as_str();
        let strict = promql::parse(text);
        let matches = |labels: &Labels, expr: &Expr| {
            let all = |matchers: &[Matcher]| matchers.iter().all(|matcher| matcher.matches_labels(labels));
            expr.selectors().iter().any(|(selector, _)| all(&selector.matchers))
        };
        let any = |series: Vec<&Labels>| {
            parse(text).is_ok_and(|expr| series.iter().any(|labels| matches(labels, &expr)))
        };
        let trims = text.contains("</") || text.contains(">/");
        let native = eval.results.iter().any(|line| line.contains("{{"))
            || any(self.native.iter().collect())
            || trims
            || (parse(text).is_err() && !self.native.is_empty());
        let flagged = FLAGGED.iter().any(|word| text.contains(word))
            || any(self.starts.keys().collect())
            || (strict.is_err() && parse(text).is_ok());
        match (native, flagged) {
            (false, false) => Tier::T1,
            (true, false) => Tier::T2,
            (false, true) => Tier::T3,
            (true, true) => Tier::T4,
        }
    }

    fn judge(&self, eval: &Eval, names_dropped_last: bool) -> Result<(), String> {
        let options = &options(names_dropped_last);
        let expr = match parse(&eval.query) {
            Ok(expr) => expr,
            Err(error) => return check_failure(eval, &error.to_string(), &error.message),
        };
        match eval.times {
            EvalTimes::Range { start_ms, end_ms, step_ms } => {
                let result =
                    eval_range(&self.store, &eval.query, &expr, (start_ms, end_ms, step_ms), options);
                let strictness = Strictness { positions: true, names: names_dropped_last };
                check(eval, &result, strictness, |value| compare(eval, value))
            }
            EvalTimes::Instant(time_ms) => {
                self.judge_instant(eval, &eval.query, time_ms, options)
                    .map_err(|why| format!("{}: {why}", eval.query))?;
                let Some(pinned) = pin(&expr, time_ms) else { return Ok(()) };
                let times = if time_ms == 0 {
                    vec![-1_000, 0, 1_000]
                } else {
                    vec![-10 * time_ms, 0, time_ms / 5, time_ms, 10 * time_ms]
                };
                for time_ms in times {
                    let judged = self.judge_instant(eval, &pinned, time_ms, options);
                    judged.map_err(|why| format!("{pinned} at {time_ms} ms: {why}"))?;
                }
                Ok(())
            }
        }
    }

    fn judge_instant(
        &self,
        eval: &Eval,
        query: &str,
        time_ms: i64,
        options: &EngineOptions,
    ) -> Result<(), String> {
        let expr = parse(query).map_err(|error| format!("not parsed again: {error}"))?;
        let result = eval_instant(&self.store, query, &expr, time_ms, options);
        // Positions move when a query is printed anew.
        let strictness = Strictness { positions: query == eval.query, names: options.delayed_name_removal };
        check(eval, &result, strictness, |value| compare(eval, value))?;
        let whole = |e: &Expectation| {
            matches!(e, Expectation::Ordered | Expectation::RangeVector { .. } | Expectation::String(_))
        };
        let of_whole_query =
            ["start()", "end()", "step()", "range()"].iter().any(|call| query.contains(call));
        if eval.expectations.iter().any(whole) || result.is_err() || of_whole_query {
            return Ok(());
        }
        let times = (time_ms - MINUTE_MS, time_ms + MINUTE_MS, MINUTE_MS);
        let range = eval_range(&self.store, query, &expr, times, options)
            .map_err(|error| format!("as range: {error}"))?;
        let Value::Matrix(series) = &range.value else { return Err("a range query gave no matrix".into()) };
        let middle = series
            .iter()
            .filter_map(|series| Some((series.labels.clone(), points_of(series).remove(&time_ms)?)));
        let middle: Vec<(Labels, SampleValue)> = middle.collect();
        let judged = match (result.map(|result| result.value), &*middle) {
            (Ok(Value::Scalar(_)), [(_, SampleValue::Float(value))]) => {
                compare(eval, &Value::Scalar(Sample::new(time_ms, *value)))
            }
            _ => compare_vector(eval, middle),
        };
        judged.map_err(|why| format!("as range: {why}"))
    }
}

fn options(delayed_name_removal: bool) -> EngineOptions {
    EngineOptions { delayed_name_removal, use_start_timestamps: true, ..EngineOptions::default() }
}

fn parse(query: &str) -> Result<Expr, promql::ParseError> {
    promql::parse_with(query, ParseOptions::all())
}

/// What of an annotation is compared.
#[derive(Clone, Copy)]
struct Strictness {
    /// Where in the query it is.
    positions: bool,
    /// The name of the metric; where names are dropped at once, most annotations have none.
    names: bool,
}

fn check(
    eval: &Eval,
    result: &Result<QueryResult, QueryError>,
    strictness: Strictness,
    judge: impl Fn(&Value) -> Result<(), String>,
) -> Result<(), String> {
    let fails = eval.expectations.iter().any(|e| matches!(e, Expectation::Message("fail", _)));
    match result {
        Err(error) => check_failure(eval, &error.to_string(), &error.to_string()),
        Ok(_) if fails => Err("expected to fail".into()),
        Ok(result) => {
            check_annotations(eval, &result.annotations, strictness)?;
            judge(&result.value)
        }
    }
}

fn check_failure(eval: &Eval, whole: &str, message: &str) -> Result<(), String> {
    let wanted = eval.expectations.iter().find_map(|e| match e {
        Expectation::Message("fail", text) => Some(text),
        _ => None,
    });
    match wanted {
        Some(text) if text.matches(whole) || text.matches(message) => Ok(()),
        Some(_) => Err(format!("failed in another way: {whole}")),
        None => Err(format!("failed: {whole}")),
    }
}

/// Each expectation must be met, and where there are any of a kind, each annotation of that kind must be expected.
fn check_annotations(eval: &Eval, annotations: &Annotations, strictness: Strictness) -> Result<(), String> {
    let expected = |kind: &str| -> Vec<&Text> {
        let text = |e: &'_ Expectation| matches!(e, Expectation::Message(k, _) if *k == kind);
        let messages = eval.expectations.iter().filter(|e| text(e));
        messages
            .filter_map(|e| if let Expectation::Message(_, text) = e { Some(text) } else { None })
            .collect()
    };
    let matches = |text: &Text, actual: &str| strictness.matches(text, actual);
    for (kind, none, actual) in
        [("warn", "no_warn", &annotations.warnings), ("info", "no_info", &annotations.infos)]
    {
        if !expected(none).is_empty() && !actual.is_empty() {
            return Err(format!("expected {none}, got {actual:?}"));
        }
        let wanted = expected(kind);
        if wanted.iter().any(|text| !actual.iter().any(|a| matches(text, a))) {
            return Err(format!("expected {kind} is missing, got {actual:?}"));
        }
        let unexpected = actual.iter().find(|a| !wanted.iter().any(|text| matches(text, a)));
        if let Some(more) = unexpected.filter(|_| !wanted.is_empty()) {
            return Err(format!("unexpected {kind}: {more}"));
        }
    }
    Ok(())
}

impl Strictness {
    fn matches(self, text: &Text, actual: &str) -> bool {
        match text {
            Text::Exactly(wanted) => self.cut(wanted) == self.cut(actual),
            Text::Regex(regex) => !(self.positions && self.names) || regex.is_match(actual),
            Text::Any => true,
        }
    }

    /// What is compared of a text.
    fn cut(self, text: &str) -> String {
        let (mut text, position) = text.rsplit_once(" (").unwrap_or((text, ""));
        if !self.names {
            text = text.split_once(" for metric name").map_or(text, |(before, _)| before);
        }
        if self.positions { format!("{text} ({position}") } else { text.to_owned() }
    }
}

fn calls(expr: &Expr, names: &[&str]) -> bool {
    let this = matches!(expr, Expr::Call(call) if names.contains(&call.function.name));
    this || expr.children().into_iter().any(|child| calls(child, names))
}

/// The query with `@ time_ms` on each selector and subquery that has none; `None` where that changes its value.
fn pin(expr: &Expr, time_ms: i64) -> Option<String> {
    if calls(expr, &TIME_DEPENDENT) {
        return None;
    }
    let mut pinned = expr.clone();
    pin_in_place(&mut pinned, time_ms);
    Some(pinned.to_string())
}

fn pin_in_place(expr: &mut Expr, time_ms: i64) {
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Paren(inner, _) => pin_in_place(inner, time_ms),
        Expr::Unary(unary) => pin_in_place(&mut unary.expr, time_ms),
        Expr::Binary(binary) => {
            pin_in_place(&mut binary.lhs, time_ms);
            pin_in_place(&mut binary.rhs, time_ms);
        }
        Expr::Aggregate(aggregate) => {
            aggregate.parameter.iter_mut().for_each(|parameter| pin_in_place(parameter, time_ms));
            pin_in_place(&mut aggregate.expr, time_ms);
        }
        Expr::Call(call) => call.args.iter_mut().for_each(|arg| pin_in_place(arg, time_ms)),
        Expr::Vector(selector) => drop(selector.shift.at.get_or_insert(At::Time(time_ms))),
        Expr::Matrix(matrix) => drop(matrix.vector.shift.at.get_or_insert(At::Time(time_ms))),
        // With the subquery pinned, what is in it stays as it is.
        Expr::Subquery(subquery) => drop(subquery.shift.at.get_or_insert(At::Time(time_ms))),
    }
}
