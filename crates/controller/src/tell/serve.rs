//! What the autoscaler answers: the Prometheus API, the metrics APIs that Kubernetes aggregates, and its decisions.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer};
use serde_json::json;

pub(crate) mod decisions;
pub(crate) mod external_metrics;
pub(crate) mod host;
pub(crate) mod live_facts;
pub(crate) mod prometheus;
pub(crate) mod questions;
pub(crate) mod resource_metrics;

/// The `labelSelector` of a request: comma-separated equalities, which is all that clients of the metrics APIs send.
#[derive(Debug, Default)]
pub(crate) struct LabelQuery(BTreeMap<String, String>);

impl LabelQuery {
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(name, value)| labels.get(name) == Some(value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for LabelQuery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LabelQuery, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        let parse = |pair: &str| {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "unable to parse requirement `{pair}`: expected `name=value`"
                ))
            })?;
            Ok((name.trim().to_owned(), value.trim_start_matches('=').trim().to_owned()))
        };
        pairs.map(parse).collect::<Result<_, D::Error>>().map(LabelQuery)
    }
}

/// Kubernetes' answer for an object that is not there.
pub(crate) fn not_found(group: &str, plural: &str, name: &str) -> Response {
    let message = format!("{plural}.{group} \"{name}\" not found");
    status(StatusCode::NOT_FOUND, "NotFound", &message)
}

/// A Kubernetes `Status` for a failure.
pub(crate) fn status(code: StatusCode, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    (code, Json(body)).into_response()
}
