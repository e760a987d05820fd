//! `/api/v1/format_query` and `/api/v1/parse_query`: a query, printed and as a tree.

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::{promql, response};

use crate::serve::prometheus::parameters::Parameters;
use crate::serve::prometheus::query::parse;
use crate::serve::prometheus::{Source, respond};

pub(super) async fn format(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(parse(&source, &parameters).map(|(_, expr)| response::data(&promql::prettify(&expr))))
}

pub(super) async fn parse_query(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(parse(&source, &parameters).map(|(_, expr)| response::data(&promql::tree(&expr))))
}
