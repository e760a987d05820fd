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
use flyball_metrics::promql::QueryError;
use flyball_metrics::response::{self, ErrorKind};
use flyball_metrics::{Store, promql::EngineOptions};
use jiff::Timestamp;
use serde_json::json;

use crate::scrape::pool::Shown;

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
        .fallback(async || {
            failure(
                ErrorKind::NotFound,
                "no such endpoint; see https://prometheus.io/docs/prometheus/latest/querying/api/",
            )
        })
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

fn failure(kind: ErrorKind, message: &str) -> Response {
    let status = StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, answer(response::error(kind, message))).into_response()
}

fn query_failure(error: &QueryError) -> Response {
    failure(ErrorKind::from(error), &error.to_string())
}

fn options() -> EngineOptions {
    EngineOptions::default()
}
