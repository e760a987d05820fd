//! The Prometheus HTTP API, over what was scraped here, so that curl, promtool and Grafana find what they expect.
//!
//! Every endpoint takes its parameters from the URL and, as a POST, from a form. A query holds the store while it runs;
//! its samples are limited by [`EngineOptions`], so it cannot hold it for long.

mod parameters;
mod query;
mod series;
mod targets;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flyball_metrics::promql::{ParseError, QueryError};
use flyball_metrics::response::{self, ErrorKind};
use flyball_metrics::{Store, promql::EngineOptions};
use jiff::Timestamp;
use serde_json::json;

use crate::scrape::pool::Shown;

const NO_ENDPOINT: &str = "no such endpoint; see https://prometheus.io/docs/prometheus/latest/querying/api/";

/// What the handlers read.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) targets: Arc<Mutex<Vec<Shown>>>,
    pub(crate) started: Timestamp,
}

/// The routes of the API.
pub(crate) fn router(source: Source) -> Router {
    Router::new()
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/format_query", get(query::format).post(query::format))
        .route("/api/v1/series", get(series::series).post(series::series))
        .route("/api/v1/labels", get(series::label_names).post(series::label_names))
        .route("/api/v1/label/{name}/values", get(series::label_values))
        .route("/api/v1/metadata", get(series::metadata))
        .route("/api/v1/targets", get(targets::list))
        .route("/api/v1/rules", get(async || answer(response::data(&json!({ "groups": [] })))))
        .route("/api/v1/alerts", get(async || answer(response::data(&json!({ "alerts": [] })))))
        .route("/api/v1/status/buildinfo", get(build_info))
        .route("/api/v1/status/runtimeinfo", get(series::runtime_info))
        .route("/-/healthy", get(async || "Flyball is Healthy.\n"))
        .route("/-/ready", get(async || "Flyball is Ready.\n"))
        .fallback(async || Refused { kind: ErrorKind::NotFound, message: NO_ENDPOINT.to_owned() })
        .with_state(source)
}

/// Clients look at the version to know what they may ask; this is the Prometheus whose rules are followed.
async fn build_info() -> Response {
    let version = concat!("3.14.0+flyball-", env!("CARGO_PKG_VERSION"));
    let info = json!({
        "version": version, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
    });
    answer(response::data(&info))
}

fn answer(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A request that gets no answer, and why.
struct Refused {
    kind: ErrorKind,
    message: String,
}

impl Refused {
    fn bad_data(message: impl Into<String>) -> Refused {
        Refused { kind: ErrorKind::BadData, message: message.into() }
    }
}

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Refused {
        Refused { kind: ErrorKind::from(&error), message: error.to_string() }
    }
}

impl From<ParseError> for Refused {
    fn from(error: ParseError) -> Refused {
        QueryError::from(error).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, answer(response::error(self.kind, &self.message))).into_response()
    }
}

/// The body that was worked out, or why there is none.
fn respond(body: Result<String, Refused>) -> Response {
    body.map_or_else(Refused::into_response, answer)
}

fn options() -> EngineOptions {
    EngineOptions::default()
}
