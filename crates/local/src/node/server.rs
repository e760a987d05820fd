//! What kubectl and metrics-server ask a kubelet: logs, usage, health.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Deserialize;

use super::pod::PodContext;
use super::state::Run;
use super::{Node, machine};
use crate::cluster::Key;
use crate::container::cgroup::Usage;
use crate::container::logs::{self, LogOptions};

pub(super) fn router(node: Node) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs))
        .route("/metrics/resource", get(resource_metrics))
        .with_state(node)
}

/// The query of `pods/log`, as the API server passes it on.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LogQuery {
    follow: Option<String>,
    previous: Option<String>,
    timestamps: Option<String>,
    tail_lines: Option<String>,
    since_seconds: Option<String>,
    since_time: Option<String>,
    limit_bytes: Option<String>,
}

impl LogQuery {
    fn options(&self) -> Result<LogOptions, String> {
        let number = |name: &str, text: &Option<String>| -> Result<Option<usize>, String> {
            text.as_ref()
                .map(|t| t.parse().map_err(|_| format!("{name}: `{t}` is not a whole number")))
                .transpose()
        };
        let since_time = self.since_time.as_ref().map(|text| {
            text.parse::<Timestamp>().map_err(|e| format!("sinceTime: `{text}` is not an RFC 3339 time: {e}"))
        });
        let since_seconds = number("sinceSeconds", &self.since_seconds)?.map(|seconds| {
            let ago = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::MIN)
        });
        Ok(LogOptions {
            tail_lines: number("tailLines", &self.tail_lines)?,
            since: since_time.transpose()?.or(since_seconds),
            timestamps: is_true(&self.timestamps),
            limit_bytes: number("limitBytes", &self.limit_bytes)?,
        })
    }
}

/// Go's `strconv.ParseBool`.
fn is_true(value: &Option<String>) -> bool {
    matches!(value.as_deref(), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

async fn container_logs(
    State(node): State<Node>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(query): Query<LogQuery>,
) -> Response {
    let bad = |problem: String| (StatusCode::BAD_REQUEST, problem).into_response();
    let options = match query.options() {
        Ok(options) => options,
        Err(problem) => return bad(problem),
    };
    let key = Key { namespace, name };
    let Some(pod) = node.cluster.pods.get(&key) else {
        return (StatusCode::NOT_FOUND, format!("pods \"{}\" not found", key.name)).into_response();
    };
    let uid = pod.uid().unwrap_or_default();
    let statuses = pod.status.iter().flat_map(|s| {
        s.init_container_statuses.iter().flatten().chain(s.container_statuses.iter().flatten())
    });
    let Some(status) = statuses.into_iter().find(|c| c.name == container) else {
        return bad(format!("container {container} is not valid for pod {}", key.name));
    };
    let context = node.contexts().into_iter().find(|context| context.uid == uid);
    let live = context.as_ref().and_then(|context| live_log(context, &container));
    let mut restart = live.as_ref().map_or(status.restart_count, |(restart, _)| *restart);
    let previous = is_true(&query.previous);
    if previous {
        restart -= 1;
    }
    let dir = logs::pod_dir(&node.log_dir, &key.namespace, &key.name, &uid).join(&container);
    // between two starts the last one's log is the one to show
    let newest = [restart, restart - 1].into_iter().map(|r| logs::path(&dir, r)).find(|path| path.exists());
    let Some(path) = newest else {
        let what = if previous { "previous terminated container" } else { "container" };
        let waiting = status.state.as_ref().and_then(|s| s.waiting.as_ref()?.reason.clone());
        let why = waiting
            .filter(|_| !previous)
            .map_or_else(|| "not found".to_owned(), |reason| format!("is waiting to start: {reason}"));
        return bad(format!("{what} \"{container}\" in pod \"{}\" {why}", key.name));
    };
    let follow = is_true(&query.follow) && !previous;
    let changes = live.filter(|_| follow).map(|(_, changes)| changes);
    let body = Body::from_stream(logs::read(path, options, changes));
    ([("content-type", "text/plain; charset=utf-8")], body).into_response()
}

/// The restart count and the changes of the log that is being written.
fn live_log(context: &Arc<PodContext>, container: &str) -> Option<(i32, tokio::sync::watch::Receiver<u64>)> {
    let state = context.state();
    let index = state.init.iter().chain(&state.containers).position(|c| c.name == container)?;
    let log = context.live(index)?.log.upgrade()?;
    Some((context.container_state(index)?.restarts, log.changes()))
}

/// The kubelet's `/metrics/resource`, read when asked, with the time of the reading.
async fn resource_metrics(State(node): State<Node>) -> Response {
    let mut containers = Vec::new();
    for context in node.contexts() {
        let state = context.state();
        for (index, container) in state.init.iter().chain(&state.containers).enumerate() {
            let Run::Running { since } = container.run else { continue };
            let Some(usage) = usage(&context, index) else { continue };
            let labels = format!(
                "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
                container.name, context.key.namespace, context.key.name
            );
            containers.push((labels, usage, since));
        }
    }
    let now = Timestamp::now().as_millisecond();
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(&str, f64)>| {
        let _ = writeln!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value} {now}");
        }
    };
    let each = |value: fn(&Usage, Timestamp) -> f64| -> Vec<(&str, f64)> {
        containers.iter().map(|(labels, usage, since)| (labels.as_str(), value(usage, *since))).collect()
    };
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        each(|usage, _| usage.cpu_seconds),
    );
    family(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
        each(|usage, _| usage.working_set_bytes as f64),
    );
    family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        each(|_, since| since.as_millisecond() as f64 / 1000.0),
    );
    family(
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
        vec![("", machine::cpu_seconds())],
    );
    family(
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the node in bytes",
        vec![("", machine::memory_used_bytes() as f64)],
    );
    family(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
        vec![("", 0.0)],
    );
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// From the control group, or from the processes where there is none.
fn usage(context: &PodContext, index: usize) -> Option<Usage> {
    let live = context.live(index)?;
    live.group.and_then(|group| group.usage()).or_else(|| {
        let pid = live.process.upgrade()?.pid()?;
        let (cpu_seconds, working_set_bytes) = machine::process_tree(pid)?;
        Some(Usage { cpu_seconds, working_set_bytes })
    })
}
