//! `/api/v1/query`, `/api/v1/query_range` and `/api/v1/format_query`.

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::{parse_step_ms, parse_time_ms, promql, response};

use crate::lock;
use crate::serve::prometheus::parameters::Parameters;
use crate::serve::prometheus::{Refused, Source, options, respond};

pub(super) async fn instant(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(evaluate_instant(&source, &parameters))
}

fn evaluate_instant(source: &Source, parameters: &Parameters) -> Result<String, Refused> {
    let time_ms = parameters.time_ms("time")?;
    let query = parameters.get("query").unwrap_or_default();
    let expr = promql::parse(query)?;
    Ok(response::query(&promql::eval_instant(&lock(&source.store), query, &expr, time_ms, &options())?))
}

pub(super) async fn range(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(evaluate_range(&source, &parameters))
}

fn evaluate_range(source: &Source, parameters: &Parameters) -> Result<String, Refused> {
    let start_ms = parameters.required("start", parse_time_ms)?;
    let end_ms = parameters.required("end", parse_time_ms)?;
    let step_ms = parameters.required("step", parse_step_ms)?;
    let query = parameters.get("query").unwrap_or_default();
    let expr = promql::parse(query)?;
    let range = (start_ms, end_ms, step_ms);
    Ok(response::query(&promql::eval_range(&lock(&source.store), query, &expr, range, &options())?))
}

pub(super) async fn format(parameters: Parameters) -> Response {
    let expr = promql::parse(parameters.get("query").unwrap_or_default());
    respond(expr.map(|expr| response::data(&expr.to_string())).map_err(Refused::from))
}
