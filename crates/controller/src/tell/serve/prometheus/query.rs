//! `/api/v1/query`, `/api/v1/query_range` and `/api/v1/query_exemplars`.

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::{Matcher, parse_step_ms, parse_time_ms, promql, response};

use crate::tell::serve::prometheus::parameters::Parameters;
use crate::tell::serve::prometheus::run::{Query, ask};
use crate::tell::serve::prometheus::{Refused, Source, respond};

pub(super) async fn instant(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(ask(&source, parameters, evaluate_instant).await)
}

fn evaluate_instant(query: &Query<'_>) -> Result<String, Refused> {
    let time_ms = query.parameters.time_ms("time")?;
    let (settings, options) = query.settings()?;
    let (text, expr) = query.parse()?;
    Ok(query.answer(&settings, promql::eval_instant(query.store(), text, &expr, time_ms, &options)?))
}

pub(super) async fn range(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(ask(&source, parameters, evaluate_range).await)
}

fn evaluate_range(query: &Query<'_>) -> Result<String, Refused> {
    let start_ms = query.parameters.required("start", parse_time_ms)?;
    let end_ms = query.parameters.required("end", parse_time_ms)?;
    let step_ms = query.parameters.required("step", parse_step_ms)?;
    let (settings, options) = query.settings()?;
    let (text, expr) = query.parse()?;
    let times = (start_ms, end_ms, step_ms);
    Ok(query.answer(&settings, promql::eval_range(query.store(), text, &expr, times, &options)?))
}

pub(super) async fn exemplars(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(ask(&source, parameters, select_exemplars).await)
}

fn select_exemplars(query: &Query<'_>) -> Result<String, Refused> {
    let start_ms = query.parameters.optional("start", parse_time_ms)?.unwrap_or(i64::MIN);
    let end_ms = query.parameters.optional("end", parse_time_ms)?.unwrap_or(i64::MAX);
    if end_ms < start_ms {
        return Err(Refused::bad_data("end timestamp must not be before start timestamp"));
    }
    let (_, expr) = query.parse()?;
    let selectors: Vec<Vec<Matcher>> =
        expr.selectors().into_iter().map(|(selector, _)| selector.matchers.clone()).collect();
    let all = query.lend(|store| store.exemplars_between(start_ms, end_ms)).unwrap_or_default();
    let mut by_series = std::collections::BTreeMap::<_, Vec<_>>::new();
    for (series, exemplar) in &all {
        query.go_on()?;
        let selected =
            |matchers: &Vec<Matcher>| matchers.iter().all(|matcher| matcher.matches_labels(series));
        if by_series.contains_key(series) || selectors.iter().any(selected) {
            by_series.entry(series).or_default().push(exemplar);
        }
    }
    let found: Vec<_> = by_series.into_iter().collect();
    Ok(response::exemplars(&found))
}
