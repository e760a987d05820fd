//! `flyball.dev/v1alpha1`: the decisions, for `flyball why` and for whoever else asks.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use flyball_engine::Time;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::keep::history::{History, Record};

/// The group and version under which decisions are served.
pub(crate) const GROUP: &str = "flyball.dev";
/// See [`GROUP`].
pub(crate) const VERSION: &str = "v1alpha1";

/// The routes, below `/apis/flyball.dev/v1alpha1`.
pub(crate) fn router(history: Arc<Mutex<History>>) -> Router {
    Router::new()
        .route("/apis/flyball.dev/v1alpha1/decisions", get(list_all))
        .route("/apis/flyball.dev/v1alpha1/namespaces/{namespace}/decisions", get(list))
        .with_state(history)
}

/// Selects decisions; all by default.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    kind: Option<String>,
    name: Option<String>,
    /// Decisions that ended before this time are left out.
    since: Option<Time>,
    /// The newest so many.
    last: Option<usize>,
}

async fn list_all(State(history): State<Arc<Mutex<History>>>, Query(wanted): Query<Wanted>) -> Json<Value> {
    decision_list(&history, None, &wanted)
}

async fn list(
    State(history): State<Arc<Mutex<History>>>,
    Path(namespace): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Json<Value> {
    decision_list(&history, Some(&namespace), &wanted)
}

fn decision_list(history: &Mutex<History>, namespace: Option<&str>, wanted: &Wanted) -> Json<Value> {
    let history = history.lock();
    let is_wanted = |record: &&Record| {
        let target = &record.decision.target;
        namespace.is_none_or(|namespace| target.namespace.as_str() == namespace)
            && wanted.kind.as_deref().is_none_or(|kind| target.kind.as_str() == kind)
            && wanted.name.as_deref().is_none_or(|name| target.name.as_str() == name)
            && wanted.since.is_none_or(|since| record.decision.at >= since)
    };
    let records: Vec<&Record> = history.all().filter(is_wanted).collect();
    let skipped = wanted.last.map_or(0, |last| records.len().saturating_sub(last));
    let items: Vec<Value> = records[skipped..].iter().map(|record| object(record)).collect();
    let api_version = format!("{GROUP}/{VERSION}");
    Json(json!({ "kind": "DecisionList", "apiVersion": api_version, "metadata": {}, "items": items }))
}

/// A record as a Kubernetes object, so that `kubectl get decisions` works too.
fn object(record: &Record) -> Value {
    let target = &record.decision.target;
    let name = format!("{}-{}-{}", target.kind, target.name, record.since.as_millis()).to_ascii_lowercase();
    json!({
        "kind": "Decision",
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": { "name": name, "namespace": target.namespace, "creationTimestamp": whole_seconds(record.since) },
        "since": record.since,
        "times": record.times,
        "decision": record.decision,
        "text": record.decision.to_string(),
    })
}

/// Kubernetes' clients read timestamps of whole seconds only.
fn whole_seconds(time: Time) -> Time {
    Time::from_seconds(time.as_millis() / 1000)
}
