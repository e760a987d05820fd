//! The `data` of a query's answer, read.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// Labels by name.
pub(super) type Metric = BTreeMap<String, String>;

/// What a query resulted in.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// A number or a text without labels.
    Single(Point),
    /// Series, each with one value.
    Vector(Vec<Series>),
    /// Series with their values over time.
    Matrix(Vec<Series>),
}

/// A series and its values.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Series {
    #[serde(default)]
    pub(super) metric: Metric,
    #[serde(default)]
    value: Option<Point>,
    #[serde(default)]
    histogram: Option<(f64, Value)>,
    #[serde(default)]
    values: Vec<Point>,
    #[serde(default)]
    histograms: Vec<(f64, Value)>,
}

/// A time in seconds and a value as text.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Point(pub(super) f64, pub(super) String);

impl Answer {
    pub(super) fn of(data: &Value) -> Result<Answer> {
        let result = data["result"].clone();
        let series = |result| serde_json::from_value::<Vec<Series>>(result);
        let answer = match data["resultType"].as_str() {
            Some("scalar" | "string") => serde_json::from_value(result).map(Answer::Single),
            Some("vector") => series(result).map(Answer::Vector),
            Some("matrix") => series(result).map(Answer::Matrix),
            _ => bail!("the server's answer is not Prometheus'"),
        };
        answer.context("the server's answer is not Prometheus'")
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Answer::Single(_) => false,
            Answer::Vector(series) | Answer::Matrix(series) => series.is_empty(),
        }
    }
}

impl Series {
    /// All its values, in the order of their times; a histogram as its count and sum.
    pub(super) fn points(&self) -> Vec<Point> {
        let histograms = self.histogram.iter().chain(&self.histograms).map(|(at, histogram)| {
            let text = |name: &str| histogram[name].as_str().unwrap_or_default().to_owned();
            Point(*at, format!("{{count:{}, sum:{}}}", text("count"), text("sum")))
        });
        let mut points: Vec<Point> =
            self.value.iter().chain(&self.values).cloned().chain(histograms).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }

    /// Its numbers with their times.
    pub(super) fn numbers(&self) -> Vec<(f64, f64)> {
        let number = |point: &Point| Some((point.0, flyball_metrics::parse_value(&point.1)?));
        self.value.iter().chain(&self.values).filter_map(number).collect()
    }
}

/// A series in Prometheus' notation.
pub(super) fn notation(metric: &Metric) -> String {
    let name = metric.get("__name__").map(String::as_str).unwrap_or_default();
    let labels = metric.iter().filter(|(name, _)| *name != "__name__");
    let labels: Vec<String> =
        labels.map(|(name, value)| format!("{name}={}", flyball_metrics::quote(value.as_bytes()))).collect();
    if labels.is_empty() && !name.is_empty() {
        name.to_owned()
    } else {
        format!("{name}{{{}}}", labels.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cmd::query::{plot, table};

    fn any_point() -> impl Strategy<Value = Value> {
        let values = ["1", "0", "NaN", "+Inf", "-Inf", "1e308", "-1e308", "5e-324", "x", ""];
        (any::<f64>(), proptest::sample::select(values.to_vec())).prop_map(|(at, value)| json!([at, value]))
    }

    fn any_series() -> impl Strategy<Value = Value> {
        let labels = proptest::collection::btree_map("[a-z_]{0,8}", ".{0,12}", 0..4);
        let histogram = json!([1, {"count": "1", "buckets": 3}]);
        (labels, proptest::collection::vec(any_point(), 0..9), any::<bool>()).prop_map(
            move |(metric, values, also)| {
                let histograms = if also { vec![histogram.clone()] } else { Vec::new() };
                json!({"metric": metric, "value": values.first(), "values": values, "histograms": histograms})
            },
        )
    }

    proptest! {
        /// Whatever a server answers is shown or refused.
        #[test]
        fn any_answer_is_shown(
            kind in proptest::sample::select(vec!["scalar", "string", "vector", "matrix", "other"]),
            series in proptest::collection::vec(any_series(), 0..4),
            point in any_point(),
            width in 0usize..300,
        ) {
            let result = if kind == "scalar" || kind == "string" { point } else { json!(series) };
            if let Ok(answer) = Answer::of(&json!({"resultType": kind, "result": result})) {
                let _ = (table::render(&answer), plot::render(&answer, width, true));
            }
        }
    }
}
