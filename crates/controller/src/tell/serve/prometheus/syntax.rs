//! `/api/v1/format_query` and `/api/v1/parse_query`: a query, printed and as a tree.

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::{promql, response};

use crate::tell::serve::prometheus::parameters::Parameters;
use crate::tell::serve::prometheus::run::ask;
use crate::tell::serve::prometheus::{Source, respond};

pub(super) async fn format(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(ask(&source, parameters, |query| Ok(response::data(&promql::prettify(&query.parse()?.1)))).await)
}

pub(super) async fn parse_query(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(ask(&source, parameters, |query| Ok(response::data(&promql::tree(&query.parse()?.1)))).await)
}
