//! `/api/v1/query`, `/api/v1/query_range` and `/api/v1/query_exemplars`.

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::promql::{self, Expr};
use flyball_metrics::{Matcher, parse_step_ms, parse_time_ms, response};

use crate::lock;
use crate::serve::prometheus::parameters::Parameters;
use crate::serve::prometheus::run::{Settings, run};
use crate::serve::prometheus::{Refused, Source, respond};

pub(super) async fn instant(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(evaluate_instant(&source, &parameters).await)
}

async fn evaluate_instant(source: &Source, parameters: &Parameters) -> Result<String, Refused> {
    let time_ms = parameters.time_ms("time")?;
    let settings = Settings::of(source, parameters)?;
    let (query, expr) = parse(source, parameters)?;
    run(source, settings, move |store, options| promql::eval_instant(store, &query, &expr, time_ms, options))
        .await
}

pub(super) async fn range(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(evaluate_range(&source, &parameters).await)
}

async fn evaluate_range(source: &Source, parameters: &Parameters) -> Result<String, Refused> {
    let start_ms = parameters.required("start", parse_time_ms)?;
    let end_ms = parameters.required("end", parse_time_ms)?;
    let step_ms = parameters.required("step", parse_step_ms)?;
    let settings = Settings::of(source, parameters)?;
    let (query, expr) = parse(source, parameters)?;
    run(source, settings, move |store, options| {
        promql::eval_range(store, &query, &expr, (start_ms, end_ms, step_ms), options)
    })
    .await
}

pub(super) async fn exemplars(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(select_exemplars(&source, &parameters))
}

fn select_exemplars(source: &Source, parameters: &Parameters) -> Result<String, Refused> {
    let start_ms = parameters.optional("start", parse_time_ms)?.unwrap_or(i64::MIN);
    let end_ms = parameters.optional("end", parse_time_ms)?.unwrap_or(i64::MAX);
    if end_ms < start_ms {
        return Err(Refused::bad_data("end timestamp must not be before start timestamp"));
    }
    let (_, expr) = parse(source, parameters)?;
    let selectors: Vec<Vec<Matcher>> =
        expr.selectors().into_iter().map(|(selector, _)| selector.matchers.clone()).collect();
    Ok(response::exemplars(&lock(&source.store).exemplars(&selectors, start_ms, end_ms)))
}

/// The query, as text and as tree.
pub(super) fn parse(source: &Source, parameters: &Parameters) -> Result<(String, Expr), Refused> {
    let query = parameters.get("query").unwrap_or_default();
    Ok((query.to_owned(), source.features.parse(query)?))
}
