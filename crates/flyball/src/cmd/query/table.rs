//! Formats results as tables in kubectl's style: a column for each label in which the series differ. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::cmd::query::query_result::{Metric, Point, QueryResult, Series, notation};

/// Spaces between columns, as in kubectl's tables.
const GAP: usize = 3;

/// Formats a result.
pub(super) fn render(result: &QueryResult) -> String {
    match result {
        QueryResult::Single(Point(_, value)) => value.clone(),
        QueryResult::Vector(series) | QueryResult::Matrix(series) if series.is_empty() => String::new(),
        QueryResult::Vector(series) => {
            let rows =
                |series: &Series| series.points().into_iter().map(|Point(_, value)| vec![value]).collect();
            of_series(series, &["VALUE"], rows)
        }
        QueryResult::Matrix(series) => {
            let rows = |series: &Series| {
                series.points().into_iter().map(|Point(at, value)| vec![time(at), value]).collect()
            };
            of_series(series, &["TIME", "VALUE"], rows)
        }
    }
}

/// Formats a table with the labels of each series in front of its rows, and the common labels in a line below.
pub(super) fn of_series(
    series: &[Series],
    columns: &[&str],
    rows: impl Fn(&Series) -> Vec<Vec<String>>,
) -> String {
    let metrics: Vec<&Metric> = series.iter().map(|series| &series.metric).collect();
    let (different, common) = compare(&metrics);
    let label = |metric: &Metric, name: &str| metric.get(name).cloned().unwrap_or_default();
    let mut head: Vec<String> = different.iter().map(|name| heading(name)).collect();
    // One series, or the same labels on all: its notation says it all.
    let by_notation = different.is_empty();
    if by_notation {
        head.push("SERIES".to_owned());
    }
    head.extend(columns.iter().map(|column| (*column).to_owned()));
    let mut lines = vec![head];
    for series in series {
        let own: Vec<String> = match by_notation {
            true => vec![notation(&series.metric)],
            false => different.iter().map(|name| label(&series.metric, name)).collect(),
        };
        lines.extend(rows(series).into_iter().map(|values| [own.clone(), values].concat()));
    }
    let mut text = align(&lines);
    if !by_notation && !common.is_empty() {
        text.push_str(&format!("\nall with {}", notation(&common)));
    }
    text
}

/// Returns the labels in which series differ, and those that all share.
fn compare(metrics: &[&Metric]) -> (Vec<String>, Metric) {
    let names: BTreeSet<&String> = metrics.iter().flat_map(|metric| metric.keys()).collect();
    let mut different = Vec::new();
    let mut common = Metric::new();
    for name in names {
        let first = metrics[0].get(name);
        match first.filter(|first| metrics.iter().all(|metric| metric.get(name) == Some(*first))) {
            Some(value) => drop(common.insert(name.clone(), value.clone())),
            None => different.push(name.clone()),
        }
    }
    (different, common)
}

fn heading(name: &str) -> String {
    if name == "__name__" { "METRIC".to_owned() } else { name.to_uppercase() }
}

/// Aligns the cells of rows; the last cell of a row is not padded.
pub(super) fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: String =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<w$}", w = width + GAP)).collect();
        cells.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Formats Unix seconds as RFC 3339.
pub(super) fn time(seconds: f64) -> String {
    let at = Timestamp::from_millisecond((seconds * 1000.0).round() as i64);
    at.map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: &str, result: serde_json::Value, expected: &str) {
        let result = QueryResult::of(&json!({ "resultType": kind, "result": result })).expect("a result");
        assert_eq!(render(&result), expected);
    }

    #[test]
    fn results_are_tables() {
        check("scalar", json!([1, "2"]), "2");
        check("string", json!([1, "a b"]), "a b");
        check("vector", json!([]), "");
        check("vector", json!([{ "metric": {}, "value": [1, "5"] }]), "SERIES   VALUE\n{}       5");
        let one = json!({ "metric": { "__name__": "up", "job": "a" }, "value": [1, "1"] });
        let other = json!({ "metric": { "__name__": "up", "job": "bcd" }, "value": [1, "+Inf"] });
        check("vector", json!([one]), "SERIES        VALUE\nup{job=\"a\"}   1");
        check("vector", json!([one, other]), "JOB   VALUE\na     1\nbcd   +Inf\nall with up");
        let unnamed = json!({ "metric": { "job": "a" }, "histogram": [1, { "count": "3", "sum": "4.5" }] });
        check(
            "vector",
            json!([one, unnamed]),
            "METRIC   VALUE\nup       1\n         {count:3, sum:4.5}\nall with {job=\"a\"}",
        );
        check(
            "matrix",
            json!([{ "metric": { "__name__": "up" }, "values": [[0, "1"], [1.5, "0"]] }]),
            "SERIES   TIME                     VALUE\nup       1970-01-01T00:00:00Z     1\nup       1970-01-01T00:00:01.5Z   0",
        );
    }
}
