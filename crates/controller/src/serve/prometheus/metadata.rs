//! `/api/v1/metadata` and `/api/v1/targets/metadata`: what metrics are, as their targets say.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::response::{self, ErrorKind};
use flyball_metrics::{Labels, METRIC_NAME, Matcher, Metadata, Store, promql};
use serde_json::{Value, json};

use crate::lock;
use crate::scrape::pool::Shown;
use crate::serve::prometheus::parameters::{Parameters, invalid};
use crate::serve::prometheus::{Refused, Source, respond};

/// What the series of a family add to its name.
const FAMILY_SUFFIXES: [&str; 5] = ["", "_total", "_bucket", "_sum", "_count"];

pub(super) async fn of_metrics(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(metrics(&source, &parameters))
}

fn metrics(source: &Source, parameters: &Parameters) -> Result<String, Refused> {
    let limit = parameters.count("limit")?;
    // Every metric has one entry here.
    parameters.count("limit_per_metric")?;
    let wanted = parameters.get("metric").filter(|metric| !metric.is_empty());
    let store = lock(&source.store);
    let found =
        store.metadata().iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name.as_str()));
    Ok(response::metadata(found.take(limit)))
}

pub(super) async fn of_targets(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(targets(&source, &parameters))
}

fn targets(source: &Source, parameters: &Parameters) -> Result<String, Refused> {
    let limit = parameters.count("limit")?;
    let matchers = match parameters.get("match_target").filter(|text| !text.is_empty()) {
        Some(text) => promql::parse_metric_selector(text).map_err(|error| invalid("match_target", &error))?,
        None => Vec::new(),
    };
    let metric = parameters.get("metric").filter(|metric| !metric.is_empty());
    let targets = lock(&source.targets);
    let store = lock(&source.store);
    let mut entries = Vec::new();
    for shown in targets.iter().filter(|shown| matches(shown, &matchers)) {
        let left = limit.saturating_sub(entries.len());
        entries.extend(of_target(&store, shown, metric).take(left));
    }
    if entries.is_empty() {
        let message = "specified metadata not found".to_owned();
        return Err(Refused { kind: ErrorKind::NotFound, message });
    }
    Ok(response::data(&entries))
}

fn matches(shown: &Shown, matchers: &[Matcher]) -> bool {
    let labels = shown.target.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let labels = Labels::new(labels);
    matchers.iter().all(|matcher| matcher.matches_labels(&labels))
}

/// The families of which the target has series; the metric is named where no certain one was asked for.
fn of_target<'a>(
    store: &'a Store,
    shown: &'a Shown,
    metric: Option<&'a str>,
) -> impl Iterator<Item = Value> + 'a {
    let own = ["job", "instance"].map(|name| {
        Matcher::equal(name, shown.target.labels.get(name).map(String::as_str).unwrap_or_default())
    });
    let names: BTreeSet<&str> =
        store.select(&own).iter().map(|series| series.labels().get(METRIC_NAME)).collect();
    let has = move |family: &str| {
        FAMILY_SUFFIXES.iter().any(|suffix| names.contains(format!("{family}{suffix}").as_str()))
    };
    let wanted = store
        .metadata()
        .iter()
        .filter(move |(family, _)| metric.is_none_or(|metric| metric == family.as_str()) && has(family));
    wanted.map(move |(family, metadata)| {
        let mut entry = entry(metadata);
        entry["target"] = json!(shown.target.labels);
        if metric.is_none() {
            entry["metric"] = family.as_str().into();
        }
        entry
    })
}

fn entry(metadata: &Metadata) -> Value {
    let kind = if metadata.kind.is_empty() { "unknown" } else { &metadata.kind };
    json!({ "type": kind, "help": metadata.help, "unit": metadata.unit })
}
