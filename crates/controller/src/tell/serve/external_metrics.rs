//! `external.metrics.k8s.io/v1beta1`: the triggers' values, as KEDA's metrics server answers them.
//!
//! The autoscaler itself does not need it, since it writes the scale directly; `kubectl get --raw` and dashboards do.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use flyball_api::scaled_object::NAME_LABEL;
use flyball_engine::Time;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use crate::tell::serve::{LabelQuery, status};

/// A trigger's metric, as namespace, ScaledObject and name of the metric in lower case.
pub(crate) type MetricKey = (String, String, String);

/// The newest value of every trigger that has one.
pub(crate) type Values = Arc<Mutex<BTreeMap<MetricKey, (f64, Time)>>>;

/// The routes, below `/apis/external.metrics.k8s.io/v1beta1`.
pub(crate) fn router(values: Values) -> Router {
    Router::new()
        .route("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}", get(metric))
        .with_state(values)
}

#[derive(Deserialize)]
struct Selection {
    #[serde(rename = "labelSelector", default)]
    label_selector: LabelQuery,
}

async fn metric(
    State(values): State<Values>,
    Path((namespace, metric)): Path<(String, String)>,
    Query(selection): Query<Selection>,
) -> Response {
    let Some(object) = selection.label_selector.get(NAME_LABEL) else {
        return status(StatusCode::BAD_REQUEST, "BadRequest", "scaledObject name is not specified");
    };
    let key = (namespace, object.to_owned(), metric.to_ascii_lowercase());
    let Some((value, at)) = values.lock().get(&key).copied() else {
        let message = format!("no matching metrics found for {metric}");
        return status(StatusCode::NOT_FOUND, "NotFound", &message);
    };
    let item = json!({
        "metricName": metric,
        "metricLabels": null,
        "timestamp": Time::from_seconds(at.as_millis() / 1000),
        "value": flyball_api::trigger::quantity(value).to_string(),
    });
    let list = json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": "external.metrics.k8s.io/v1beta1",
        "metadata": {},
        "items": [item],
    });
    Json(list).into_response()
}
