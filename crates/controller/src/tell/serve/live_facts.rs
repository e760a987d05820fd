//! What this world knows of one target, for `flyball check --live`: what its queries find now and found before, what is
//! scraped of its pods, which of them no node has room for, and how its decisions went.
//!
//! These are facts only; the rules that judge them are `flyball_api::lint::live`'s.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use flyball_api::lint::live::{
    LiveDecisions, LiveFacts, LiveHistory, LiveQuery, LiveSelector, PodWithoutRoom, ScrapedTarget,
};
use flyball_engine::{Reason, Time};
use flyball_metrics::promql::{self, EngineOptions, Expr, SelectorExplanation, Value};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use parking_lot::Mutex;

use crate::features::Features;
use crate::gather::cluster::Cluster;
use crate::gather::facts::time_from_ms;
use crate::gather::scrape::status::TargetStatus;
use crate::gather::source::servers::{Server, Servers};
use crate::gather::workload::{WorkloadRef, Workloads};
use crate::keep::history::{History, Record};
use crate::tell::serve::questions::{Asked, QUESTION_TIMEOUT_MAX, Questions};
use crate::tell::serve::status;

/// More queries than an object can have triggers.
const QUERIES_MAX: usize = 100;
/// The range of the values that are read: what the store keeps.
const HISTORY_MS: i64 = 3_600_000;
/// The step of the values that are read.
const HISTORY_STEP_MS: i64 = 30_000;
/// What the servers and the Services measured is compared over this time.
const MEAN_WINDOW: &str = "10m";
/// How far back turns are counted.
const TURNS_MS: u64 = 3_600_000;

/// What the handler reads.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) features: Features,
    pub(crate) questions: Questions,
    pub(crate) servers: Servers,
    pub(crate) targets: Arc<Mutex<Vec<TargetStatus>>>,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) cluster: Cluster,
    pub(crate) workloads: Workloads,
}

/// The route, below the group of the decisions.
pub(crate) fn router(source: Source) -> Router {
    Router::new()
        .route("/apis/flyball.dev/v1alpha1/namespaces/{namespace}/livefacts", get(answer))
        .with_state(source)
}

/// `kind` and `name` of the target, then a `server` and a `query` for each trigger.
async fn answer(
    State(source): State<Source>,
    Path(namespace): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Json<LiveFacts>, Response> {
    let begun = Instant::now();
    let all = |wanted: &'static str| {
        parameters.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    let (kind, name) = (all("kind").next().unwrap_or_default(), all("name").next().unwrap_or_default());
    let now_ms = Timestamp::now().as_millisecond();
    let asked = all("server").zip(all("query")).take(QUERIES_MAX);
    let queries: Vec<Asks> = asked.map(|(server, query)| source.asks(server, query, &namespace)).collect();
    let features = source.features;
    let pods = source.pods(kind, name, &namespace);
    let services = source.services(&pods, &namespace);
    let within = namespace.clone();
    let answers = source.questions.ask(begun, QUESTION_TIMEOUT_MAX, move |asked| {
        let queries: Vec<LiveQuery> =
            queries.into_iter().map(|asks| asks.answer(asked, features, now_ms)).collect();
        let options = asked.options(EngineOptions::default());
        (queries, service_mean(asked.store().into(), &within, &services, now_ms, &options))
    });
    let (queries, service_mean_seconds) = answers.await.map_err(|unanswered| {
        status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &unanswered.message)
    })?;
    let history = source.history.lock();
    let records: Vec<&Record> = history
        .all()
        .filter(|record| {
            let target = &record.decision.target;
            target.kind.as_str() == kind
                && target.name.as_str() == name
                && target.namespace.as_str() == namespace
        })
        .collect();
    Ok(Json(LiveFacts {
        queries,
        scraped: scraped(&source.targets.lock(), &pods),
        pods_running: pods.iter().filter(|pod| phase(pod) == Some("Running")).count(),
        pods_without_room: pods.iter().filter_map(|pod| without_room(pod)).collect(),
        decisions: decisions(&records, time_from_ms(now_ms)),
        service_mean_seconds,
    }))
}

/// A trigger to be examined.
enum Asks {
    /// Nothing: this server knows.
    Server(String),
    /// What this query finds here.
    Query(String),
}

impl Asks {
    fn answer(self, asked: &Asked, features: Features, now_ms: i64) -> LiveQuery {
        let query = match self {
            Asks::Server(server) => return LiveQuery { server: Some(server), ..LiveQuery::default() },
            Asks::Query(query) => query,
        };
        match features.parse(&query) {
            Ok(expr) => {
                let options = asked.options(EngineOptions::default());
                query_facts(asked.store().into(), &query, &expr, now_ms, &options)
            }
            Err(error) => LiveQuery { error: Some(error.to_string()), ..LiveQuery::default() },
        }
    }
}

impl Source {
    /// A real server is queried by the loop; its series are not in our store.
    fn asks(&self, server: &str, query: &str, namespace: &str) -> Asks {
        if self.servers.of(server, namespace) != Server::Here {
            return Asks::Server(server.to_owned());
        }
        Asks::Query(query.to_owned())
    }

    /// The names of the Services that lead to one of these pods.
    fn services(&self, pods: &[Arc<Pod>], namespace: &str) -> Vec<String> {
        let services = self.cluster.services.state();
        let leads = services.iter().filter(|service| {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            service.namespace().as_deref() == Some(namespace)
                && selector.is_some_and(|selector| {
                    !selector.is_empty()
                        && pods.iter().any(|pod| {
                            selector.iter().all(|(name, value)| pod.labels().get(name) == Some(value))
                        })
                })
        });
        leads.map(|service| service.name_any()).collect()
    }

    fn pods(&self, kind: &str, name: &str, namespace: &str) -> Vec<Arc<Pod>> {
        let reference = WorkloadRef {
            api_version: "apps/v1".to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let Some(Ok(workload)) = self.workloads.watched(&reference) else { return Vec::new() };
        let mut pods = self.cluster.pods.state();
        pods.retain(|pod| pod.namespace().as_deref() == Some(namespace) && workload.selects(pod.labels()));
        pods
    }
}

/// What a query finds in the store, now and in the past.
fn query_facts(
    store: promql::Source<'_>,
    query: &str,
    expr: &Expr,
    now_ms: i64,
    options: &EngineOptions,
) -> LiveQuery {
    let selectors = promql::explain(store, expr, now_ms, options);
    let result = promql::eval_instant(store, query, expr, now_ms, options).map(|result| result.value);
    let has_result = match &result {
        Ok(Value::Vector(samples)) => !samples.is_empty(),
        Ok(_) => true,
        Err(_) => false,
    };
    let error = match result {
        Err(error) => Some(error.to_string()),
        Ok(Value::Vector(samples)) if samples.len() > 1 => {
            Some(format!("the query returns {} series: aggregate them, as in sum(…)", samples.len()))
        }
        Ok(_) => None,
    };
    LiveQuery {
        server: None,
        error,
        selectors: selectors.into_iter().map(|found| selector_facts(found, now_ms)).collect(),
        history: past(store, query, expr, now_ms, options),
        bucket_bounds: bucket_bounds(store, expr, options),
        has_result,
        server_mean_seconds: server_mean(store, expr, now_ms, options),
    }
}

/// The mean of what the servers measured of their own requests, if a query selects their histogram of seconds.
fn server_mean(store: promql::Source<'_>, expr: &Expr, now_ms: i64, options: &EngineOptions) -> Option<f64> {
    let selectors = expr.selectors();
    let (base, selector) = selectors.iter().find_map(|(selector, _)| {
        let base = selector.name.as_deref()?.strip_suffix("_bucket")?;
        (base.ends_with("_seconds") && !base.starts_with("flyball_service_")).then_some((base, selector))
    })?;
    let matchers = selector.matchers.iter().filter(|matcher| !matches!(matcher.name(), "__name__" | "le"));
    let matchers: Vec<String> = matchers.map(ToString::to_string).collect();
    mean(store, base, &matchers.join(","), now_ms, options)
}

/// The mean of what Services measured: from a request's arrival to the headers of its answer.
fn service_mean(
    store: promql::Source<'_>,
    namespace: &str,
    services: &[String],
    now_ms: i64,
    options: &EngineOptions,
) -> Option<f64> {
    if services.is_empty() {
        return None;
    }
    let matchers = format!("namespace={namespace:?},service=~{:?}", services.join("|"));
    mean(store, "flyball_service_request_duration_seconds", &matchers, now_ms, options)
}

/// The mean of a histogram over the last minutes in which it had observations.
fn mean(
    store: promql::Source<'_>,
    base: &str,
    matchers: &str,
    now_ms: i64,
    options: &EngineOptions,
) -> Option<f64> {
    let sum = |suffix: &str| format!("sum(increase({base}_{suffix}{{{matchers}}}[{MEAN_WINDOW}]))");
    let query = format!("{} / {}", sum("sum"), sum("count"));
    let expr = promql::parse(&query).ok()?;
    match promql::eval_instant(store, &query, &expr, now_ms, options).ok()?.value {
        Value::Vector(samples) => samples.first()?.value.float().filter(|mean| mean.is_finite()),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "an age in milliseconds is far below 2^52")]
fn selector_facts(found: SelectorExplanation, now_ms: i64) -> LiveSelector {
    LiveSelector {
        selector: found.selector,
        series: found.series_matched,
        samples: found.samples,
        newest_age_seconds: found.newest_ms.map(|newest| (now_ms - newest) as f64 / 1000.0),
        nearest: found.nearest,
    }
}

/// The lowest and highest value that the query had, and how far back the values reach.
#[expect(clippy::cast_precision_loss, reason = "an hour in milliseconds is far below 2^52")]
fn past(
    store: promql::Source<'_>,
    query: &str,
    expr: &Expr,
    now_ms: i64,
    options: &EngineOptions,
) -> Option<LiveHistory> {
    let times = (now_ms - HISTORY_MS, now_ms, HISTORY_STEP_MS);
    let result = promql::eval_range(store, query, expr, times, options).ok()?;
    let Value::Matrix(series) = result.value else { return None };
    let samples = series.iter().flat_map(|series| &series.samples).filter(|sample| sample.value.is_finite());
    let (mut first_ms, mut history) =
        (now_ms, LiveHistory { seconds: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY });
    for sample in samples {
        first_ms = first_ms.min(sample.timestamp_ms);
        history.min = history.min.min(sample.value);
        history.max = history.max.max(sample.value);
    }
    history.seconds = (now_ms - first_ms) as f64 / 1000.0;
    history.min.is_finite().then_some(history)
}

/// The bounds of the histograms that a query selects, in order, without +Inf.
fn bucket_bounds(store: promql::Source<'_>, expr: &Expr, options: &EngineOptions) -> Vec<f64> {
    let selections: Vec<_> =
        expr.selectors().into_iter().map(|(selector, _)| selector.matchers.clone()).collect();
    let selected = promql::select(store, &selections, &options.stop).unwrap_or_default();
    let buckets = selected.iter().filter(|series| series.labels().get("__name__").ends_with("_bucket"));
    let mut bounds: Vec<f64> = buckets
        .filter_map(|series| series.labels().get("le").parse::<f64>().ok())
        .filter(|bound| bound.is_finite())
        .collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    bounds
}

/// The targets that are pods of these.
fn scraped(targets: &[TargetStatus], pods: &[Arc<Pod>]) -> Vec<ScrapedTarget> {
    let is_ours = |shown: &&TargetStatus| {
        let label = |name: &str| shown.target.labels.get(name).map(String::as_str).unwrap_or_default();
        // A pod that ends may refuse its last scrapes.
        pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).any(|pod| {
            pod.name_any() == label("pod") && pod.namespace().unwrap_or_default() == label("namespace")
        })
    };
    targets
        .iter()
        .filter(is_ours)
        .map(|shown| ScrapedTarget {
            url: shown.target.url.clone(),
            up: shown.status.up,
            error: shown.status.last_error.clone(),
        })
        .collect()
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn without_room(pod: &Pod) -> Option<PodWithoutRoom> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let refused = conditions.iter().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let message = refused.message.clone().unwrap_or_default();
    Some(PodWithoutRoom { name: pod.name_any(), message })
}

/// How the decisions about a target went, from its records in the order of their times.
#[expect(clippy::cast_precision_loss, reason = "times in milliseconds are far below 2^52")]
fn decisions(records: &[&Record], now: Time) -> LiveDecisions {
    let held = |record: &&&Record| {
        let steps = &record.decision.steps;
        steps.iter().any(|step| matches!(step.reason, Reason::TooManyReplicas { .. }))
            && !record.decision.rescales()
    };
    let pinned_since = records.iter().rev().take_while(held).last().map(|record| record.since);
    let seconds = |since: Time| now.as_millis().saturating_sub(since.as_millis()) as f64 / 1000.0;
    let wanted = records
        .last()
        .and_then(|record| record.decision.proposals.iter().filter_map(|proposal| proposal.replicas).max());
    let from = now.as_millis().saturating_sub(TURNS_MS);
    let grows: Vec<bool> = records
        .iter()
        .map(|record| &record.decision)
        .filter(|decision| decision.rescales() && decision.at.as_millis() >= from)
        .map(|decision| decision.desired > decision.current)
        .collect();
    LiveDecisions {
        pinned_seconds: pinned_since.map(seconds),
        wanted,
        turns: grows.windows(2).filter(|pair| pair[0] != pair[1]).count(),
    }
}

#[cfg(test)]
mod tests {
    use flyball_engine::{Decision, Stage, Step, TargetId};
    use flyball_metrics::{Labels, Sample, Store, StoreOptions};

    use super::*;

    fn record(at: u64, current: u32, desired: u32, capped: bool) -> Record {
        let reason = if capped { Reason::TooManyReplicas { max: 5 } } else { Reason::ScalingDisabled };
        let decision = Decision {
            target: TargetId::new("Deployment", "default", "model"),
            at: Time::from_seconds(at),
            current,
            desired,
            steps: vec![Step { stage: Stage::Bound, from: current, to: desired, reason }],
            proposals: Vec::new(),
            activity: None,
            turning_points: Vec::new(),
            sizes: Vec::new(),
        };
        Record { since: Time::from_seconds(at), times: 1, decision }
    }

    #[test]
    fn decisions_show_what_is_pinned_and_what_turns() {
        let check = |records: &[(u64, u32, u32, bool)], pinned: Option<f64>, turns: usize| {
            let records: Vec<Record> =
                records.iter().map(|&(at, from, to, capped)| record(at, from, to, capped)).collect();
            let found = decisions(&records.iter().collect::<Vec<_>>(), Time::from_seconds(10_000));
            assert_eq!((found.pinned_seconds, found.turns), (pinned, turns), "{records:?}");
        };
        check(&[], None, 0);
        check(&[(9_000, 5, 5, true)], Some(1000.0), 0);
        check(&[(8_000, 5, 5, true), (9_000, 5, 5, false)], None, 0);
        check(&[(8_000, 4, 5, true), (8_001, 5, 5, true), (9_000, 5, 5, true)], Some(1999.0), 0);
        check(&[(9_000, 1, 2, false), (9_100, 2, 1, false), (9_200, 1, 2, false)], None, 2);
        check(&[(1_000, 1, 2, false), (9_100, 2, 1, false)], None, 0);
    }

    /// The servers' own measure, of the series that the query selects, beside that of the Services.
    #[test]
    fn what_servers_and_services_measure_is_averaged() {
        let mut store = Store::new(StoreOptions::default());
        let mut count = |name: &str, label: (&str, &str), each: f64| {
            let labels = Labels::new([("__name__", name), ("namespace", "default"), label]);
            for second in 0..300 {
                store.append_to(&labels, Sample::new(second * 1000, second as f64 * each)).unwrap();
            }
        };
        count("d_seconds_sum", ("job", "a"), 0.5);
        count("d_seconds_count", ("job", "a"), 100.0);
        count("d_seconds_sum", ("job", "b"), 100.0);
        count("d_seconds_count", ("job", "b"), 1.0);
        count("flyball_service_request_duration_seconds_sum", ("service", "front"), 15.0);
        count("flyball_service_request_duration_seconds_count", ("service", "front"), 100.0);
        let near =
            |found: Option<f64>, wanted: f64| assert!((found.unwrap() - wanted).abs() < 1e-9, "{found:?}");
        let options = EngineOptions::default();
        let server =
            |query: &str| server_mean((&store).into(), &promql::parse(query).unwrap(), 299_000, &options);
        near(server("histogram_quantile(0.95, sum by (le) (rate(d_seconds_bucket{job=\"a\"}[1m])))"), 0.005);
        assert_eq!(server("sum(rate(d_seconds_count[1m]))"), None);
        assert_eq!(server("sum(rate(flyball_service_request_duration_seconds_bucket[1m]))"), None);
        near(
            service_mean(
                (&store).into(),
                "default",
                &["front".to_owned(), "none".to_owned()],
                299_000,
                &options,
            ),
            0.15,
        );
        assert_eq!(service_mean((&store).into(), "default", &[], 299_000, &options), None);
        assert_eq!(service_mean((&store).into(), "other", &["front".to_owned()], 299_000, &options), None);
    }

    #[test]
    fn a_query_shows_what_it_finds_and_found() {
        let mut store = Store::new(StoreOptions::default());
        for le in ["0.1", "0.5", "+Inf"] {
            let labels = Labels::new([("__name__", "d_bucket"), ("le", le)]);
            for second in 0..1200 {
                store.append_to(&labels, Sample::new(second * 1000, second as f64)).unwrap();
            }
        }
        let look = |query: &str, now_ms: i64| {
            let (expr, options) = (promql::parse(query).unwrap(), EngineOptions::default());
            query_facts((&store).into(), query, &expr, now_ms, &options)
        };
        let found = look("histogram_quantile(0.95, sum(rate(d_bucket[1m])) by (le))", 1_199_000);
        assert_eq!(found.bucket_bounds, [0.1, 0.5]);
        let history = found.history.unwrap();
        assert!((history.seconds - 1170.0).abs() < 60.0 && (history.max - 0.095).abs() < 1e-9, "{history:?}");
        assert_eq!((found.selectors[0].series, found.error), (3, None));
        let missing = look("sum(rate(d_buckets[1m]))", 1_199_000);
        assert_eq!((missing.selectors[0].series, missing.history), (0, None));
        assert_eq!(missing.selectors[0].nearest, ["d_bucket"]);
        let old = look("sum(rate(d_bucket[1m]))", 1_500_000);
        assert_eq!((old.selectors[0].samples, old.selectors[0].newest_age_seconds), (0, Some(301.0)));
        assert!(look("d_bucket", 1_199_000).error.is_some());
    }
}
