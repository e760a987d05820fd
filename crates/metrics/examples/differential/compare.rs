//! Answers of both engines, and how they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use flyball_metrics::is_stale_nan;
use flyball_metrics::promql::{Expr, QueryResult, SampleValue, Value, prettify};
use serde::Deserialize;

use crate::data::histogram_json;
use crate::queries::Query;

const EPSILON: f64 = 1e-6;

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    pub(crate) error: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    series: Option<Vec<AnswerSeries>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    #[serde(default)]
    infos: Option<Vec<String>>,
    /// The query, printed in one line and over several.
    #[serde(default)]
    printed: String,
    #[serde(default)]
    pretty: String,
}

#[derive(Debug, Deserialize)]
struct AnswerSeries {
    labels: Option<BTreeMap<String, String>>,
    points: Vec<(i64, serde_json::Value)>,
}

/// A float as Go reads and writes it.
pub(crate) fn float_text(value: f64) -> String {
    match value {
        v if is_stale_nan(v) => "stale".into(),
        v if v.is_nan() => "NaN".into(),
        v if v == f64::INFINITY => "+Inf".into(),
        v if v == f64::NEG_INFINITY => "-Inf".into(),
        v => format!("{v:e}"),
    }
}

fn parse_float(text: &str) -> Option<f64> {
    flyball_metrics::parse_value(text)
}

impl Answer {
    pub(crate) fn failed(error: String) -> Answer {
        Answer { error, ..Answer::default() }
    }

    pub(crate) fn of(expr: &Expr, result: &QueryResult) -> Answer {
        let json = |value: &SampleValue| match value {
            SampleValue::Float(value) => serde_json::Value::from(float_text(*value)),
            SampleValue::Histogram(histogram) => {
                let mut histogram = (**histogram).clone();
                histogram.compact();
                histogram_json(&histogram)
            }
        };
        let labels = |labels: &flyball_metrics::Labels| {
            Some(labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        };
        let (kind, series) = match &result.value {
            Value::Scalar(sample) => {
                let point = (sample.timestamp_ms, json(&SampleValue::Float(sample.value)));
                ("scalar", vec![AnswerSeries { labels: None, points: vec![point] }])
            }
            Value::String { timestamp_ms, text } => {
                let point = (*timestamp_ms, serde_json::Value::from(text.clone()));
                ("string", vec![AnswerSeries { labels: None, points: vec![point] }])
            }
            Value::Vector(samples) => {
                let one = |s: &flyball_metrics::promql::VectorSample| AnswerSeries {
                    labels: labels(&s.labels),
                    points: vec![(s.timestamp_ms, json(&s.value))],
                };
                ("vector", samples.iter().map(one).collect())
            }
            Value::Matrix(all) => {
                let one = |series: &flyball_metrics::promql::Series| {
                    let floats =
                        series.samples.iter().map(|s| (s.timestamp_ms, json(&SampleValue::Float(s.value))));
                    let histograms = series.histograms.iter();
                    let histograms = histograms
                        .map(|s| (s.timestamp_ms, json(&SampleValue::Histogram(s.histogram.clone()))));
                    let mut points: Vec<_> = floats.chain(histograms).collect();
                    points.sort_by_key(|(time, _)| *time);
                    AnswerSeries { labels: labels(&series.labels), points }
                };
                ("matrix", all.iter().map(one).collect())
            }
        };
        Answer {
            kind: kind.into(),
            series: Some(series),
            warnings: Some(result.annotations.warnings.clone()),
            infos: Some(result.annotations.infos.clone()),
            error: String::new(),
            printed: expr.to_string(),
            pretty: prettify(expr),
        }
    }

    fn by_labels(&self) -> BTreeMap<BTreeMap<String, String>, BTreeMap<i64, &serde_json::Value>> {
        let all = self.series.iter().flatten();
        all.map(|series| {
            let points = series.points.iter().map(|(time, value)| (*time, value)).collect();
            (series.labels.clone().unwrap_or_default(), points)
        })
        .collect()
    }

    fn annotations(&self) -> BTreeSet<String> {
        let texts = self.warnings.iter().flatten().chain(self.infos.iter().flatten());
        // Prometheus adds up a count of samples twice when it joins annotations.
        texts.map(|text| without_count(text)).collect()
    }
}

fn without_count(text: &str) -> String {
    match text.split_once(", over ") {
        Some((before, after)) => {
            format!("{before}{}", after.split_once(" samples").map_or("", |(_, rest)| rest))
        }
        None => text.to_owned(),
    }
}

pub(crate) enum Difference {
    /// None; of this kind of result.
    None(&'static str),
    /// One engine has an error.
    Error(String),
    /// Both have an error, with other texts.
    ErrorText(String),
    Value(String),
    Annotation(String),
    Printed(String),
}

impl Difference {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Difference::None(kind) => kind,
            Difference::Error(_) => "DIFFERENT: an error or none",
            Difference::ErrorText(_) => "DIFFERENT: text of an error",
            Difference::Value(_) => "DIFFERENT: value",
            Difference::Annotation(_) => "DIFFERENT: annotation",
            Difference::Printed(_) => "DIFFERENT: printed",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Difference::None(_) => "",
            Difference::Error(text)
            | Difference::ErrorText(text)
            | Difference::Value(text)
            | Difference::Annotation(text)
            | Difference::Printed(text) => text,
        };
        write!(f, "{}: {text}", self.kind())
    }
}

/// Errors that tell the first of several, which depends on the order of a map in Go.
const BY_ORDER: [&str; 3] = ["found duplicate series", "conflicting label", "this should be an info metric"];

pub(crate) fn compare(query: &Query, ours: &Answer, theirs: &Answer) -> Difference {
    let strip =
        |text: &str| text.replace("invalid parameter \"query\": ", "").replace("expanding series: ", "");
    match (ours.error.as_str(), theirs.error.as_str()) {
        ("", "") => {}
        // Equal series of a float and a histogram, after names were dropped last or labels replaced, are not seen there.
        (ours, "")
            if (query.names_dropped_last || query.text.contains("label_"))
                && ours.ends_with("with the same labelset") =>
        {
            return Difference::None("not comparable: a float and a histogram of one series");
        }
        // A label without a name may panic there.
        ("invalid label name \"\"", _) => return Difference::None("not comparable: a label without a name"),
        ("", theirs) => return Difference::Error(format!("only theirs: {theirs}")),
        (ours, "") => return Difference::Error(format!("only ours: {ours}")),
        (ours, theirs) if strip(ours) == strip(theirs) => return Difference::None("equal errors"),
        (ours, theirs)
            if BY_ORDER.iter().any(|start| ours.starts_with(start) && theirs.starts_with(start)) =>
        {
            return Difference::None("equal errors");
        }
        // The parsers go different ways; what they refuse must be the same, and where they refuse it first need not.
        _ if query.mistaken => return Difference::None("mistakes refused in other words"),
        (ours, theirs) => return Difference::ErrorText(format!("ours: {ours}\n    theirs: {theirs}")),
    }
    let difference = compare_values(query, ours, theirs);
    let random_in_go = ["topk", "bottomk", "limitk"].iter().any(|op| query.text.contains(op));
    match difference {
        // There, an offset beside `@` is not looked at.
        Difference::Value(_)
            if ["timestamp(", " @ ", " offset "].iter().all(|part| query.text.contains(part)) =>
        {
            Difference::None("not comparable: the time of a sample that is pinned with an offset")
        }
        // Selectors that are pinned in subqueries that are pinned are lost there when both begin at the same time.
        Difference::Value(_) if [" @ ", ":"].iter().all(|part| query.text.matches(part).count() > 1) => {
            Difference::None("not comparable: pinned in subqueries that are pinned")
        }
        // The last digit of a huge number turns its sine round.
        Difference::Value(_)
            if ["sin(", "cos(", "tan("].iter().any(|f| query.text.contains(f))
                && ["exp(", "sinh(", "cosh(", "^", "tan("].iter().any(|f| query.text.contains(f)) =>
        {
            Difference::None("not comparable: the sine of a huge number")
        }
        // They choose those that come first in a map, limitk always and topk of equal values; and hand them on in that order.
        Difference::Value(_) if random_in_go => Difference::None("not comparable: the first of several"),
        Difference::Annotation(_) if query.text.contains("limit") => {
            Difference::None("not comparable: the first of several")
        }
        other => other,
    }
}

fn compare_values(query: &Query, ours: &Answer, theirs: &Answer) -> Difference {
    let (our_series, their_series) = (ours.by_labels(), theirs.by_labels());
    if ours.kind != theirs.kind || our_series.keys().ne(their_series.keys()) {
        let labels = |answer: &Answer| answer.by_labels().into_keys().collect::<Vec<_>>();
        let (our_labels, their_labels) = (labels(ours), labels(theirs));
        let (our_kind, their_kind) = (&ours.kind, &theirs.kind);
        return Difference::Value(format!(
            "ours: {our_kind} of {our_labels:?}\n    theirs: {their_kind} of {their_labels:?}"
        ));
    }
    for (labels, points) in &our_series {
        let other = &their_series[labels];
        if points.keys().ne(other.keys()) {
            return Difference::Value(format!(
                "{labels:?}: ours at {:?}\n    theirs at {:?}",
                points.keys().collect::<Vec<_>>(),
                other.keys().collect::<Vec<_>>()
            ));
        }
        for (time, value) in points {
            if !values_equal(value, other[time]) {
                return Difference::Value(format!(
                    "{labels:?} at {time}:\n    ours {value}\n    theirs {}",
                    other[time]
                ));
            }
        }
    }
    if ours.annotations() != theirs.annotations() {
        return Difference::Annotation(format!(
            "ours: {:?}\n    theirs: {:?}",
            ours.annotations(),
            theirs.annotations()
        ));
    }
    for (ours, theirs) in [(&ours.printed, &theirs.printed), (&ours.pretty, &theirs.pretty)] {
        if ours != theirs {
            return Difference::Printed(format!("ours: {ours}\n    theirs: {theirs}"));
        }
    }
    let any = !our_series.is_empty();
    Difference::None(match (any, query.step_ms == 0) {
        (true, true) => "equal instant results",
        (true, false) => "equal range results",
        (false, _) => "equal empty results",
    })
}

fn values_equal(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Null, Object, String as Text};
    match (a, b) {
        (Text(a), Text(b)) => match (parse_float(a), parse_float(b)) {
            (Some(a), Some(b)) => floats_equal(a, b),
            _ => a == b,
        },
        (Object(a), Object(b)) => a.iter().all(|(key, value)| match key.as_str() {
            // Where a chunk begins in Prometheus' storage, it doesn't know whether a counter went on.
            "hint" => (value == 3) == (b["hint"] == 3),
            _ => values_equal(value, &b[key]),
        }),
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| values_equal(a, b)),
        (Array(a), Null) | (Null, Array(a)) => a.is_empty(),
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => floats_equal(a, b),
            _ => a == b,
        },
    }
}

fn floats_equal(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    (a - b).abs() <= EPSILON * (a.abs() + b.abs()).min(f64::MAX) || (a - b).abs() < 1e-9
}
