//! `/api/v1/explain`, which Prometheus does not have: why a query's result is what it is, or empty.

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::promql::{self, Expr, SelectorExplanation, Step};
use flyball_metrics::{Labels, Matcher, response};
use serde_json::{Map, Value, json};

use crate::gather::scrape::status::TargetStatus;
use crate::tell::serve::prometheus::parameters::Parameters;
use crate::tell::serve::prometheus::run::{Query, ask};
use crate::tell::serve::prometheus::{Refused, Source, respond};

pub(super) async fn explain(State(source): State<Source>, parameters: Parameters) -> Response {
    let targets = source.targets.lock().clone();
    respond(ask(&source, parameters, move |query| explanation(query, &targets)).await)
}

fn explanation(query: &Query<'_>, targets: &[TargetStatus]) -> Result<String, Refused> {
    let time_ms = query.parameters.time_ms("time")?;
    let (_, options) = query.settings()?;
    let (text, expr) = query.parse()?;
    let selectors = promql::explain(query.store(), &expr, time_ms, &options);
    let steps = promql::steps(query.store(), text, &expr, time_ms, &options);
    query.go_on()?;
    let down = down_targets(&expr, &selectors, targets);
    Ok(response::data(&json!({
        "selectors": selectors.iter().zip(&down).map(|(found, down)| selector(found, down)).collect::<Vec<_>>(),
        "steps": steps.iter().map(step).collect::<Vec<_>>(),
        "why": why(&selectors, &steps, &down),
    })))
}

/// Why the result is empty; a target that cannot be scraped explains more than samples that are too old.
fn why(selectors: &[SelectorExplanation], steps: &[Step], down: &[Vec<Value>]) -> Option<String> {
    let result = steps.first()?;
    if let Some(error) = &result.error {
        return Some(error.clone());
    }
    if result.samples > 0 {
        return None;
    }
    let failing = selectors.iter().zip(down).find(|(found, down)| found.samples == 0 && !down.is_empty());
    Some(match failing {
        Some((found, down)) => format!(
            "{} has no samples, and its target {} cannot be scraped: {}",
            found.selector,
            down[0]["scrapeUrl"].as_str().unwrap_or_default(),
            down[0]["lastError"].as_str().unwrap_or_default(),
        ),
        None => promql::why_empty(selectors),
    })
}

/// For each selector, the targets that cannot be scraped and whose series it selects, or would.
fn down_targets(expr: &Expr, selectors: &[SelectorExplanation], targets: &[TargetStatus]) -> Vec<Vec<Value>> {
    let down: Vec<&TargetStatus> = targets.iter().filter(|shown| shown.status.up == Some(false)).collect();
    let of_selector = |(found, (selector, _)): (&SelectorExplanation, (&promql::VectorSelector, _))| {
        let feeding = down.iter().filter(|shown| feeds(shown, found, &selector.matchers));
        feeding.map(|shown| target(shown)).collect()
    };
    selectors.iter().zip(expr.selectors()).map(of_selector).collect()
}

/// Whether a target's series were among those of a selector; or, if that has none, whether they would be, as far as the
/// target's labels tell.
fn feeds(shown: &TargetStatus, found: &SelectorExplanation, matchers: &[Matcher]) -> bool {
    let labels = &shown.target.labels;
    let all = Labels::new(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    if found.sources.contains(&all.keep(&["job", "instance"])) {
        return true;
    }
    let mut told = matchers.iter().filter(|matcher| labels.contains_key(matcher.name())).peekable();
    found.series_matched == 0 && told.peek().is_some() && told.all(|matcher| matcher.matches_labels(&all))
}

fn target(shown: &TargetStatus) -> Value {
    json!({
        "scrapeUrl": shown.target.url,
        "lastError": shown.status.last_error,
        "labels": shown.target.labels,
    })
}

fn selector(found: &SelectorExplanation, down: &[Value]) -> Value {
    let seconds = |ms: i64| ms as f64 / 1_000.0;
    let cause = found.cause();
    json!({
        "selector": found.selector,
        "seriesMatched": found.series_matched,
        "seriesWithSamples": found.series_with_samples,
        "samples": found.samples,
        "newestAgeSeconds": found.newest_ms.map(|newest_ms| seconds(found.end_ms - newest_ms)),
        "scrapeIntervalSeconds": found.interval_ms.map(seconds),
        "matchersWithoutSeries": found.matchers_without_series,
        "nearest": found.nearest,
        "reason": cause.as_ref().map(promql::Cause::code),
        "message": cause.map(|cause| format!("{}{cause}", found.selector)),
        "downTargets": down,
    })
}

fn step(step: &Step) -> Value {
    let examples = step.examples.iter().map(|(labels, value)| {
        let metric: Map<String, Value> =
            labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        json!({ "metric": metric, "value": value.to_string() })
    });
    json!({
        "depth": step.depth,
        "expr": step.text,
        "position": format!("{}:{}", step.line, step.column),
        "resultType": step.kind,
        "series": step.series,
        "samples": step.samples,
        "examples": examples.collect::<Vec<_>>(),
        "error": step.error,
    })
}
