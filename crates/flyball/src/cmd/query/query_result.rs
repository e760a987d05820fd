//! The parsed `data` of a query's response.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// Labels by name.
pub(super) type Metric = BTreeMap<String, String>;

/// The result of a query.
#[derive(Debug, PartialEq)]
pub(super) enum QueryResult {
    /// A scalar or a string.
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

/// A time in Unix seconds and a value as text.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Point(pub(super) f64, pub(super) String);

impl QueryResult {
    pub(super) fn of(data: &Value) -> Result<QueryResult> {
        let result = data["result"].clone();
        let series = |result| serde_json::from_value::<Vec<Series>>(result);
        let answer = match data["resultType"].as_str() {
            Some("scalar" | "string") => serde_json::from_value(result).map(QueryResult::Single),
            Some("vector") => series(result).map(QueryResult::Vector),
            Some("matrix") => series(result).map(QueryResult::Matrix),
            _ => bail!("the server's response is not that of a Prometheus API"),
        };
        answer.context("the server's response is not that of a Prometheus API")
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            QueryResult::Single(_) => false,
            QueryResult::Vector(series) | QueryResult::Matrix(series) => series.is_empty(),
        }
    }
}

impl Series {
    /// Returns all values in order of time; a histogram as its count and sum.
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

    /// Returns the numeric values with their times.
    pub(super) fn numbers(&self) -> Vec<(f64, f64)> {
        let number = |point: &Point| Some((point.0, flyball_metrics::parse_value(&point.1)?));
        self.value.iter().chain(&self.values).filter_map(number).collect()
    }
}

/// Formats a series in Prometheus' notation.
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
        /// Any response is shown or refused, without a panic.
        #[test]
        fn any_answer_is_shown(
            kind in proptest::sample::select(vec!["scalar", "string", "vector", "matrix", "other"]),
            series in proptest::collection::vec(any_series(), 0..4),
            point in any_point(),
            width in 0usize..300,
        ) {
            let result = if kind == "scalar" || kind == "string" { point } else { json!(series) };
            if let Ok(answer) = QueryResult::of(&json!({"resultType": kind, "result": result})) {
                let _ = (table::render(&answer), plot::render(&answer, width, true));
            }
        }
    }
}
