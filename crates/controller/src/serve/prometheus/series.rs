//! What is in the store: series, labels, metadata, sizes.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use flyball_metrics::{Labels, Matcher, SeriesRef, Store, parse_time_ms, promql, response};
use serde_json::json;

use crate::lock;
use crate::serve::prometheus::parameters::Parameters;
use crate::serve::prometheus::{Refused, Source, answer, respond};

pub(super) async fn series(State(source): State<Source>, parameters: Parameters) -> Response {
    if parameters.get("match[]").is_none() {
        return Refused::bad_data("no match[] parameter provided").into_response();
    }
    respond(from_selected(&source, &parameters, |selected, limit| {
        let labels: BTreeSet<&Labels> = selected.iter().map(SeriesRef::labels).collect();
        response::series(labels.into_iter().take(limit))
    }))
}

pub(super) async fn label_names(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(from_selected(&source, &parameters, |selected, limit| {
        let names: BTreeSet<&str> =
            selected.iter().flat_map(|series| series.labels().iter().map(|(name, _)| name)).collect();
        response::strings(names.into_iter().take(limit))
    }))
}

pub(super) async fn label_values(
    State(source): State<Source>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Response {
    respond(from_selected(&source, &parameters, |selected, limit| {
        let values: BTreeSet<&str> = selected.iter().map(|series| series.labels().get(&name)).collect();
        response::strings(values.into_iter().filter(|value| !value.is_empty()).take(limit))
    }))
}

pub(super) async fn metadata(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(parameters.limit().map(|limit| {
        let store = lock(&source.store);
        let wanted = parameters.get("metric").filter(|metric| !metric.is_empty());
        let found =
            store.metadata().iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name.as_str()));
        response::metadata(found.take(limit))
    }))
}

pub(super) async fn runtime_info(State(source): State<Source>) -> Response {
    let size = lock(&source.store).size();
    answer(response::data(&json!({
        "startTime": source.started.to_string(),
        "timeSeriesCount": size.series,
        "samplesCount": size.samples,
        "storeBytes": size.bytes,
    })))
}

/// A body made from the series that the request's `match[]`, `start` and `end` select; from all without them.
fn from_selected(
    source: &Source,
    parameters: &Parameters,
    body: impl FnOnce(&[SeriesRef<'_>], usize) -> String,
) -> Result<String, Refused> {
    let limit = parameters.limit()?;
    let from_ms = parameters.optional("start", parse_time_ms)?.unwrap_or(i64::MIN);
    let to_ms = parameters.optional("end", parse_time_ms)?.unwrap_or(i64::MAX);
    let selectors: Vec<Vec<Matcher>> =
        parameters.all("match[]").map(promql::parse_metric_selector).collect::<Result<_, _>>()?;
    let store = lock(&source.store);
    Ok(body(&select(&store, &selectors, from_ms, to_ms), limit))
}

fn select<'a>(store: &'a Store, selectors: &[Vec<Matcher>], from_ms: i64, to_ms: i64) -> Vec<SeriesRef<'a>> {
    match selectors {
        [] => store.select_between(&[], from_ms, to_ms),
        some => some.iter().flat_map(|matchers| store.select_between(matchers, from_ms, to_ms)).collect(),
    }
}
