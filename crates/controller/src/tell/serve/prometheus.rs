//! The Prometheus HTTP API, over what was scraped here, so that curl, promtool and Grafana find what they expect.
//!
//! Every endpoint takes its parameters from the URL and, as a POST, from a form. What Prometheus has and this store has not
//! (rules, alerts, Alertmanagers) is answered with none. Nothing is sent for other origins (CORS): a page in a browser
//! has no business with the metrics of this machine.

mod compress;
mod explain;
mod federate;
mod metadata;
mod parameters;
mod push;
mod query;
mod run;
mod series;
mod status;
mod syntax;
mod targets;
#[cfg(test)]
mod tests;
mod unread;

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use flyball_metrics::Store;
use flyball_metrics::promql::{ParseError, QueryError};
use flyball_metrics::response::{self, ErrorKind};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::features::Features;
use crate::gather::scrape::pools::SharedPools;
use crate::gather::scrape::status::TargetStatus;
use crate::tell::serve::questions::Questions;

const NO_ENDPOINT: &str = "no such endpoint; see https://prometheus.io/docs/prometheus/latest/querying/api/";

/// What the handlers read.
#[derive(Clone)]
pub(crate) struct Source {
    store: Arc<Mutex<Store>>,
    targets: Arc<Mutex<Vec<TargetStatus>>>,
    pools: SharedPools,
    features: Features,
    started: Timestamp,
    questions: Questions,
    /// A request that sends samples is read and written while it holds one of these.
    pushing: Arc<Semaphore>,
}

impl Source {
    pub(crate) fn new(store: Arc<Mutex<Store>>, targets: Arc<Mutex<Vec<TargetStatus>>>) -> Source {
        let questions = Questions::new(Arc::clone(&store));
        Source {
            store,
            targets,
            pools: SharedPools::default(),
            features: Features::default(),
            started: Timestamp::now(),
            questions,
            pushing: Arc::new(Semaphore::new(push::PUSHES_AT_ONCE_MAX)),
        }
    }

    /// Serves the scrape pools as well, with the targets that their rules dropped.
    pub(crate) fn with_pools(self, pools: SharedPools) -> Source {
        Source { pools, ..self }
    }

    /// Shares the limits of questions with other askers.
    pub(crate) fn with_questions(self, questions: Questions) -> Source {
        Source { questions, ..self }
    }

    /// Takes queries that use these features.
    pub(crate) fn with_features(self, features: Features) -> Source {
        Source { features, ..self }
    }
}

/// The routes of the API.
pub(crate) fn router(source: Source) -> Router {
    Router::new()
        .route("/api/v1/write", post(push::write))
        .route("/api/v1/otlp/v1/metrics", post(push::otlp::metrics))
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/query_exemplars", get(query::exemplars).post(query::exemplars))
        .route("/api/v1/explain", get(explain::explain).post(explain::explain))
        .route("/api/v1/format_query", get(syntax::format).post(syntax::format))
        .route("/api/v1/parse_query", get(syntax::parse_query).post(syntax::parse_query))
        .route("/api/v1/series", get(series::series).post(series::series))
        .route("/api/v1/labels", get(series::label_names).post(series::label_names))
        .route("/api/v1/label/{name}/values", get(series::label_values))
        .route("/api/v1/metadata", get(metadata::of_metrics))
        .route("/api/v1/targets", get(targets::list))
        .route("/api/v1/targets/metadata", get(metadata::of_targets))
        .route("/api/v1/targets/relabel_steps", get(targets::relabel_steps))
        .route("/api/v1/scrape_pools", get(targets::pools))
        .route("/api/v1/rules", none(json!({ "groups": [] })))
        .route("/api/v1/alerts", none(json!({ "alerts": [] })))
        .route(
            "/api/v1/alertmanagers",
            none(json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] })),
        )
        .route("/api/v1/status/buildinfo", get(status::build_info))
        .route("/api/v1/status/config", get(status::config))
        .route("/api/v1/status/flags", get(status::flags))
        .route("/api/v1/status/runtimeinfo", get(status::runtime_info))
        .route("/api/v1/status/tsdb", get(status::tsdb))
        .route("/federate", get(federate::page))
        .route("/-/healthy", get(async || "Flyball is Healthy.\n"))
        .route("/-/ready", get(async || "Flyball is Ready.\n"))
        .fallback(async || Refused { kind: ErrorKind::NotFound, message: NO_ENDPOINT.to_owned() })
        .layer(axum::middleware::from_fn(compress::compress))
        .layer(axum::middleware::from_fn_with_state(unread::UnreadAnswers::default(), unread::bound))
        // Its trailers would be lost behind the layer.
        .route(push::grpc::EXPORT, post(push::grpc::export))
        .with_state(source)
}

/// An endpoint for what there is none of here.
fn none(data: Value) -> MethodRouter<Source> {
    get(async move || answer(response::data(&data)))
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
    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

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
        (self.status(), answer(response::error(self.kind, &self.message))).into_response()
    }
}

/// The body that was worked out, or why there is none.
fn respond(body: Result<String, Refused>) -> Response {
    body.map_or_else(Refused::into_response, answer)
}
