//! `/api/v1/query`, `/api/v1/query_range` and `/api/v1/format_query`.

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::promql;
use flyball_metrics::{parse_step_ms, response};

use crate::lock;
use crate::serve::prometheus::parameters::Parameters;
use crate::serve::prometheus::{Source, answer, options, query_failure};

pub(super) async fn instant(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(|| {
        let time_ms = parameters.time_ms("time")?;
        let query = parameters.get("query").unwrap_or_default();
        let expr = promql::parse(query).map_err(|error| query_failure(&error.into()))?;
        let result = promql::eval_instant(&lock(&source.store), query, &expr, time_ms, &options());
        result.map(|result| response::query(&result)).map_err(|error| query_failure(&error))
    })
}

pub(super) async fn range(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(|| {
        let start_ms = parameters.required("start", flyball_metrics::parse_time_ms)?;
        let end_ms = parameters.required("end", flyball_metrics::parse_time_ms)?;
        let step_ms = parameters.required("step", parse_step_ms)?;
        let query = parameters.get("query").unwrap_or_default();
        let expr = promql::parse(query).map_err(|error| query_failure(&error.into()))?;
        let range = (start_ms, end_ms, step_ms);
        let result = promql::eval_range(&lock(&source.store), query, &expr, range, &options());
        result.map(|result| response::query(&result)).map_err(|error| query_failure(&error))
    })
}

pub(super) async fn format(parameters: Parameters) -> Response {
    respond(|| {
        let expr = promql::parse(parameters.get("query").unwrap_or_default());
        expr.map(|expr| response::data(&expr.to_string())).map_err(|error| query_failure(&error.into()))
    })
}

fn respond(work: impl FnOnce() -> Result<String, Response>) -> Response {
    work().map_or_else(|failure| failure, answer)
}
