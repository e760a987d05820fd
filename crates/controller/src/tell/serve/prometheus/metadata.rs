//! `/api/v1/metadata` and `/api/v1/targets/metadata`: what metrics are, as their targets say.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::response::{self, ErrorKind};
use flyball_metrics::{Labels, METRIC_NAME, Matcher, Metadata, promql};
use serde_json::{Value, json};

use crate::gather::scrape::status::TargetStatus;
use crate::tell::serve::prometheus::parameters::{Parameters, invalid};
use crate::tell::serve::prometheus::run::{Query, ask};
use crate::tell::serve::prometheus::{Refused, Source, respond};

/// What the series of a family add to its name.
const FAMILY_SUFFIXES: [&str; 5] = ["", "_total", "_bucket", "_sum", "_count"];

pub(super) async fn of_metrics(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(ask(&source, parameters, metrics).await)
}

fn metrics(query: &Query<'_>) -> Result<String, Refused> {
    let parameters = query.parameters;
    let limit = parameters.count("limit")?;
    // Every metric has one entry here.
    parameters.count("limit_per_metric")?;
    let wanted = parameters.get("metric").filter(|metric| !metric.is_empty());
    let metadata = query.lend(|store| store.metadata().clone()).unwrap_or_default();
    let found = metadata.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name.as_str()));
    Ok(response::metadata(found.take(limit)))
}

pub(super) async fn of_targets(State(source): State<Source>, parameters: Parameters) -> Response {
    let all = source.targets.lock().clone();
    respond(ask(&source, parameters, move |query| targets(query, &all)).await)
}

fn targets(query: &Query<'_>, targets: &[TargetStatus]) -> Result<String, Refused> {
    let parameters = query.parameters;
    let limit = parameters.count("limit")?;
    let matchers = match parameters.get("match_target").filter(|text| !text.is_empty()) {
        Some(text) => promql::parse_metric_selector(text).map_err(|error| invalid("match_target", &error))?,
        None => Vec::new(),
    };
    let metric = parameters.get("metric").filter(|metric| !metric.is_empty());
    let metadata = query.lend(|store| store.metadata().clone()).unwrap_or_default();
    let mut entries = Vec::new();
    for shown in targets.iter().filter(|shown| matches(shown, &matchers)) {
        let left = limit.saturating_sub(entries.len());
        let names = query.metric_names(shown)?;
        entries.extend(of_target(&metadata, &names, shown, metric).take(left));
    }
    if entries.is_empty() {
        let message = "specified metadata not found".to_owned();
        return Err(Refused { kind: ErrorKind::NotFound, message });
    }
    Ok(response::data(&entries))
}

fn matches(shown: &TargetStatus, matchers: &[Matcher]) -> bool {
    let labels = shown.target.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let labels = Labels::new(labels);
    matchers.iter().all(|matcher| matcher.matches_labels(&labels))
}

impl Query<'_> {
    /// The names of the metrics of a target.
    fn metric_names(&self, shown: &TargetStatus) -> Result<BTreeSet<String>, Refused> {
        let own = ["job", "instance"].map(|name| {
            Matcher::equal(name, shown.target.labels.get(name).map(String::as_str).unwrap_or_default())
        });
        let selected = promql::select(self.store(), &[own.to_vec()], &self.stop())?;
        Ok(selected.iter().map(|series| series.labels().get(METRIC_NAME).to_owned()).collect())
    }
}

/// The families of which the target has series; the metric is named where no certain one was asked for.
fn of_target<'a>(
    metadata: &'a BTreeMap<String, Metadata>,
    names: &'a BTreeSet<String>,
    shown: &'a TargetStatus,
    metric: Option<&'a str>,
) -> impl Iterator<Item = Value> + 'a {
    let has = move |family: &str| {
        FAMILY_SUFFIXES.iter().any(|suffix| names.contains(format!("{family}{suffix}").as_str()))
    };
    let wanted = metadata
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
