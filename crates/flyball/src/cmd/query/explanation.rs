//! The server's explanation as text: the matches of each selector, the result of each step, and why it is empty.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::cmd::query::query_result::{Metric, notation};
use crate::cmd::query::table::align;
use crate::cmd::query::{heading, text_of};

/// Columns that an expression may take in the list of steps.
const EXPR_WIDTH: usize = 72;

/// The `data` of `/api/v1/explain`.
pub(super) struct Explanation {
    pub(super) json: Value,
    data: ExplainData,
}

#[derive(Deserialize)]
struct ExplainData {
    selectors: Vec<Selector>,
    steps: Vec<Step>,
    why: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    selector: String,
    series_matched: usize,
    series_with_samples: usize,
    samples: usize,
    newest_age_seconds: Option<f64>,
    scrape_interval_seconds: Option<f64>,
    message: Option<String>,
    down_targets: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    depth: usize,
    expr: String,
    result_type: String,
    series: usize,
    samples: usize,
    examples: Vec<Example>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Example {
    metric: Metric,
    value: String,
}

impl Explanation {
    pub(super) fn of(json: Value) -> Result<Explanation> {
        let data =
            serde_json::from_value(json.clone()).context("the server's explanation has another form")?;
        Ok(Explanation { json, data })
    }

    /// Returns why the result is empty.
    pub(super) fn why(&self) -> Option<&str> {
        self.data.why.as_deref()
    }

    pub(super) fn render(&self, colour: bool) -> String {
        let mut parts = vec![String::new()];
        if !self.data.selectors.is_empty() {
            parts.push(format!("{}\n{}", heading("Selectors", colour), self.selectors()));
        }
        parts.push(format!("{}\n{}", heading("Steps", colour), self.steps()));
        let remarks: Vec<String> = self.data.selectors.iter().flat_map(Selector::remarks).collect();
        if !remarks.is_empty() {
            parts.push(remarks.join("\n"));
        }
        if let Some(why) = &self.data.why {
            parts.push(format!("{} {why}", heading("Why the result is empty:", colour)));
        }
        parts.join("\n\n").trim_start().to_owned()
    }

    fn selectors(&self) -> String {
        let head = ["SELECTOR", "SERIES", "WITH SAMPLES", "SAMPLES", "NEWEST", "INTERVAL"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.data.selectors.iter().map(|found| {
            vec![
                found.selector.clone(),
                found.series_matched.to_string(),
                found.series_with_samples.to_string(),
                found.samples.to_string(),
                found.newest_age_seconds.map_or_else(|| "-".to_owned(), |age| format!("{age:.1}s ago")),
                found
                    .scrape_interval_seconds
                    .map_or_else(|| "-".to_owned(), |interval| format!("{interval}s")),
            ]
        }));
        align(&rows)
    }

    fn steps(&self) -> String {
        let mut rows = vec![vec!["STEP".to_owned(), "RESULT".to_owned()]];
        rows.extend(self.data.steps.iter().map(|step| {
            let expr = format!("{}{}", "  ".repeat(step.depth), step.expr);
            vec![cut(&expr), step.result()]
        }));
        align(&rows)
    }
}

impl Selector {
    /// Returns the problems of the selector.
    fn remarks(&self) -> Vec<String> {
        let down = self.down_targets.iter().map(|target| {
            let (url, error) = (text_of(target, "scrapeUrl"), text_of(target, "lastError"));
            format!("{}: the target {url} cannot be scraped: {error}", self.selector)
        });
        self.message.iter().cloned().chain(down).collect()
    }
}

impl Step {
    fn result(&self) -> String {
        if let Some(error) = &self.error {
            return format!("error: {error}");
        }
        let count = |count: usize, what: &str| {
            let plural = if count == 1 || what == "series" { "" } else { "s" };
            format!("{count} {what}{plural}")
        };
        match (self.result_type.as_str(), self.examples.as_slice()) {
            ("matrix", _) => format!("{}, {}", count(self.series, "series"), count(self.samples, "sample")),
            ("scalar", [only]) => only.value.clone(),
            ("vector", []) => "nothing".to_owned(),
            ("vector", [only]) => format!("{} {}", notation(&only.metric), only.value),
            ("vector", [first, ..]) => {
                format!(
                    "{}, such as {} {}",
                    count(self.series, "series"),
                    notation(&first.metric),
                    first.value
                )
            }
            _ => self.result_type.clone(),
        }
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= EXPR_WIDTH {
        return text.to_owned();
    }
    text.chars().take(EXPR_WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Explanation;

    #[test]
    fn explanations_are_text() {
        let json = json!({
            "selectors": [{
                "selector": "up[5s]", "seriesMatched": 2, "seriesWithSamples": 0, "samples": 0,
                "newestAgeSeconds": 12.25, "scrapeIntervalSeconds": 1.0, "matchersWithoutSeries": [], "nearest": [],
                "reason": "NoNewSamples", "message": "up[5s]: the newest sample is 12 s old",
                "downTargets": [{ "scrapeUrl": "http://a:1/", "lastError": "refused", "labels": {} }],
            }],
            "steps": [
                { "depth": 0, "expr": "sum(rate(up[5s]))", "position": "1:1", "resultType": "vector", "series": 0, "samples": 0,
                  "examples": [], "error": null },
                { "depth": 1, "expr": "rate(up[5s])", "position": "1:5", "resultType": "vector", "series": 2, "samples": 2,
                  "examples": [{ "metric": { "pod": "a" }, "value": "1" }, { "metric": { "pod": "b" }, "value": "1" }], "error": null },
                { "depth": 2, "expr": "up[5s]", "position": "1:10", "resultType": "matrix", "series": 1, "samples": 1,
                  "examples": [], "error": null },
            ],
            "why": "because",
        });
        let expected = "\
Selectors
SELECTOR   SERIES   WITH SAMPLES   SAMPLES   NEWEST      INTERVAL
up[5s]     2        0              0         12.2s ago   1s

Steps
STEP                RESULT
sum(rate(up[5s]))   nothing
  rate(up[5s])      2 series, such as {pod=\"a\"} 1
    up[5s]          1 series, 1 sample

up[5s]: the newest sample is 12 s old
up[5s]: the target http://a:1/ cannot be scraped: refused

Why the result is empty: because";
        assert_eq!(Explanation::of(json).expect("one").render(false), expected);
    }
}
