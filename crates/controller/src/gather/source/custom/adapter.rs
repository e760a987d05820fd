//! The adapters of `custom.metrics.k8s.io` and `external.metrics.k8s.io`, asked as kube-controller-manager asks them
//! (`pkg/controller/podautoscaler/metrics/client.go`), but not more often than every few seconds, and in the background.

use std::time::Duration;

use flyball_api::plan::Ask;
use flyball_api::quantity::Quantity;
use flyball_engine::{Milli, PodValue, Reading, Time};
use kube::Client;
use serde::Deserialize;

use crate::gather::facts;
use crate::gather::source::polls::{BackgroundPolls, Freshness};
use crate::gather::url;

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
/// The shortest time between two requests for the same metric: a third of kube-controller-manager's 15 s.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// The time between two look-ups of the adapter.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A metric that was not read for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// An adapter that takes longer counts as not answering.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A value that an adapter gives may be so old, as in a query of Prometheus.
const VALUE_AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// What a value covers if the adapter does not say.
const WINDOW_DEFAULT: Duration = Duration::from_secs(60);

/// Whose metrics are asked for.
#[derive(Clone, Copy)]
pub(crate) struct MetricScope<'a> {
    pub(crate) namespace: &'a str,
    /// The label selector of the target's pods.
    pub(crate) pods: &'a str,
}

/// What an adapter says.
#[derive(Clone, Debug)]
pub(super) enum Answered {
    /// A reading, or that there is none.
    Reading(Reading),
    /// There is none, and this program answers in its place.
    Here,
}

/// Asks adapters through the API server.
pub(super) struct Adapters {
    client: Client,
    /// Whether this program answers where there is no adapter. Then the external metrics are its own, too.
    answers_here: bool,
    /// The version of each group that is served, if any is.
    served: BackgroundPolls<&'static str, Result<Option<String>, String>>,
    answers: BackgroundPolls<String, Answered>,
}

/// `MetricValueList` and `ExternalMetricValueList`.
#[derive(Deserialize)]
struct ValueList {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(default)]
    described_object: Described,
    timestamp: Option<jiff::Timestamp>,
    window_seconds: Option<u64>,
    value: String,
}

#[derive(Default, Deserialize)]
struct Described {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    preferred_version: GroupVersion,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
}

impl Adapters {
    pub(super) fn new(client: Client, answers_here: bool) -> Adapters {
        let (served, answers) = (BackgroundPolls::every(LOOK_EVERY), BackgroundPolls::every(ASK_EVERY));
        Adapters { client, answers_here, served, answers }
    }

    /// What the adapter said of a metric a moment ago. Never waits.
    pub(super) fn ask(&mut self, ask: &Ask, scope: MetricScope<'_>, now: Time) -> Answered {
        let (group, api) = match ask {
            Ask::External { .. } => (EXTERNAL, "external metrics API"),
            _ => (CUSTOM, "custom metrics API"),
        };
        let not_yet =
            || Answered::Reading(Reading::Missing { why: format!("the {api} has not answered yet") });
        let client = self.client.clone();
        let look = || async move { version(&client, group).await };
        let version = match self.served.read(&group, Freshness::LastAnswer, look) {
            Some(Ok(Some(version))) => version,
            Some(Ok(None)) if self.answers_here => return Answered::Here,
            Some(Ok(None)) => return failed(ask, &format!("no adapter is registered for {group}")),
            Some(Err(error)) => {
                let why = format!("cannot find out whether an adapter is registered for {group}: {error}");
                return failed(ask, &why);
            }
            None => return not_yet(),
        };
        let Some(path) = path(ask, scope) else { return Answered::Here };
        let path = format!("/apis/{group}/{version}/namespaces/{}/{path}", scope.namespace);
        self.answers.forget_older_than(FORGET_AFTER);
        let (client, asked, is_own) =
            (self.client.clone(), ask.clone(), self.answers_here && group == EXTERNAL);
        let fetch = {
            let path = path.clone();
            || async move {
                match get::<ValueList>(&client, &path).await {
                    Ok(list) => reading(&asked, &list.items, api, now),
                    Err(Refused { missing: true, .. }) if is_own => Answered::Here,
                    Err(Refused { error, .. }) => {
                        failed(&asked, &format!("unable to fetch metrics from {api}: {error}"))
                    }
                }
            }
        };
        self.answers.read(&path, Freshness::LastAnswer, fetch).unwrap_or_else(not_yet)
    }
}

/// The version in which a group is served; `None` if it is not.
async fn version(client: &Client, group: &str) -> Result<Option<String>, String> {
    match get::<Group>(client, &format!("/apis/{group}")).await {
        Ok(group) => Ok(Some(group.preferred_version.version)),
        Err(Refused { missing: true, .. }) => Ok(None),
        Err(Refused { error, .. }) => Err(error),
    }
}

async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T, Refused> {
    let request = http::Request::get(path).body(Vec::new());
    let request = request.map_err(|error| Refused { missing: false, error: error.to_string() })?;
    match tokio::time::timeout(TIMEOUT, client.request::<T>(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => {
            Err(Refused { missing: [400, 404].contains(&status.code), error: status.message.clone() })
        }
        Ok(Err(error)) => Err(Refused { missing: false, error: error.to_string() }),
        Err(_) => Err(Refused { missing: false, error: format!("no answer within {} s", TIMEOUT.as_secs()) }),
    }
}

/// Why there is no answer; `missing` if nothing is there.
struct Refused {
    missing: bool,
    error: String,
}

/// The path of a metric below its namespace.
fn path(ask: &Ask, scope: MetricScope<'_>) -> Option<String> {
    let query = |pairs: &[(&str, String)]| {
        let given: Vec<(&str, &str)> = pairs
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        if given.is_empty() { String::new() } else { format!("?{}", url::query(&given)) }
    };
    let name = url::segment;
    Some(match ask {
        Ask::Pods { metric, selector } => {
            let pairs =
                [("labelSelector", scope.pods.to_owned()), ("metricLabelSelector", selector.to_string())];
            format!("pods/*/{}{}", name(metric), query(&pairs))
        }
        Ask::Object { kind, metric, selector, .. } if kind == "Namespace" => {
            format!("metrics/{}{}", name(metric), query(&[("metricLabelSelector", selector.to_string())]))
        }
        Ask::Object { api_version, kind, name: object, metric, selector } => {
            let group = api_version.split_once('/').map(|(group, _)| group);
            let plural =
                kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("", "", kind)).plural;
            let resource = group.map_or(plural.clone(), |group| format!("{plural}.{group}"));
            let query = query(&[("metricLabelSelector", selector.to_string())]);
            format!("{resource}/{}/{}{query}", name(object), name(metric))
        }
        Ask::External { metric, selector } => {
            format!("{}{}", name(metric), query(&[("labelSelector", selector.to_string())]))
        }
        Ask::Resource { .. } | Ask::Trigger(_) => return None,
    })
}

fn reading(ask: &Ask, items: &[Item], api: &str, now: Time) -> Answered {
    if items.is_empty() {
        return failed(ask, &format!("no metrics returned from {api}"));
    }
    let amount = |item: &Item| Quantity::parse(&item.value).map(|value| Milli::new(value.milli_value()));
    let at = |item: &Item| item.timestamp.map_or(now, facts::engine_time);
    let is_old = |item: &&Item| now.since(at(item)) > VALUE_AGE_MAX;
    if let Ask::Pods { .. } = ask {
        let values: Result<Vec<PodValue>, _> = items
            .iter()
            .filter(|item| !is_old(item))
            .map(|item| {
                let window = item.window_seconds.map_or(WINDOW_DEFAULT, Duration::from_secs);
                let pod = item.described_object.name.as_str().into();
                amount(item).map(|value| PodValue { pod, value, at: at(item), window, starting: false })
            })
            .collect();
        return match values {
            Ok(values) => Answered::Reading(Reading::PerPod { values, at: now }),
            Err(error) => failed(ask, &error.to_string()),
        };
    }
    match items.iter().map(amount).sum::<Result<Milli, _>>() {
        Ok(sum) => {
            // A sum is as old as the oldest of what was summed.
            let at = items.iter().map(at).min().unwrap_or(now);
            Answered::Reading(match items.iter().find(is_old) {
                None => Reading::Value { value: sum.as_f64(), at },
                Some(_) => {
                    Reading::Stale { last: sum.as_f64(), at, why: format!("the {api} has no newer value") }
                }
            })
        }
        Err(error) => failed(ask, &error.to_string()),
    }
}

/// In the words of kube-controller-manager.
fn failed(ask: &Ask, error: &str) -> Answered {
    let error = match ask {
        Ask::External { metric, selector } => {
            format!("unable to get external metric {metric}/{selector}: {error}")
        }
        Ask::Object { kind, name, metric, .. } => {
            format!("unable to get metric {metric}: {kind} {name}: {error}")
        }
        Ask::Pods { metric, .. } => format!("unable to get metric {metric}: {error}"),
        Ask::Resource { .. } | Ask::Trigger(_) => error.to_owned(),
    };
    Answered::Reading(Reading::Failed { error })
}

#[cfg(test)]
mod tests {
    use flyball_api::selector::parse;
    use serde_json::json;

    use super::*;

    fn asks() -> [Ask; 4] {
        let selector = |text: &str| parse(text).unwrap();
        let object = |api_version: &str, kind: &str, name: &str| Ask::Object {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            metric: "hits".to_owned(),
            selector: selector(""),
        };
        [
            Ask::Pods { metric: "in_flight".to_owned(), selector: selector("verb=GET") },
            object("networking.k8s.io/v1", "Ingress", "main"),
            object("v1", "Namespace", "shop"),
            Ask::External { metric: "queue/length".to_owned(), selector: selector("q=a") },
        ]
    }

    #[test]
    fn paths_are_those_that_adapters_serve() {
        let scope = MetricScope { namespace: "shop", pods: "app=model" };
        let paths = asks().map(|ask| path(&ask, scope).unwrap());
        assert_eq!(
            paths,
            [
                "pods/*/in_flight?labelSelector=app%3Dmodel&metricLabelSelector=verb%3DGET",
                "ingresses.networking.k8s.io/main/hits",
                "metrics/hits",
                "queue%2Flength?labelSelector=q%3Da",
            ]
        );
    }

    #[test]
    fn answers_become_readings() {
        let now = Time::from_seconds(1000);
        let [pods, object, _, external] = asks();
        let list = |items: serde_json::Value| {
            serde_json::from_value::<ValueList>(json!({ "items": items })).unwrap()
        };
        let at = "1970-01-01T00:16:30Z";
        let check = |ask: &Ask, items: serde_json::Value, expected: Reading| match reading(
            ask,
            &list(items).items,
            "custom metrics API",
            now,
        ) {
            Answered::Reading(found) => assert_eq!(found, expected),
            other => panic!("{other:?}"),
        };
        check(
            &pods,
            json!([{ "describedObject": { "name": "a" }, "timestamp": at, "windowSeconds": 30, "value": "1500m" }]),
            Reading::PerPod {
                values: vec![PodValue {
                    pod: "a".into(),
                    value: Milli::new(1500),
                    at: Time::from_seconds(990),
                    window: Duration::from_secs(30),
                    starting: false,
                }],
                at: now,
            },
        );
        let value = |value| Reading::Value { value, at: Time::from_seconds(990) };
        let old =
            json!([{ "timestamp": "1970-01-01T00:10:00Z", "value": "2" }, { "timestamp": at, "value": "1" }]);
        let why = "the custom metrics API has no newer value".to_owned();
        check(&external, old, Reading::Stale { last: 3.0, at: Time::from_seconds(600), why });
        check(&object, json!([{ "timestamp": at, "value": "2k" }]), value(2000.0));
        let several = json!([{ "timestamp": at, "value": "2" }, { "timestamp": at, "value": "500m" }]);
        check(&external, several, value(2.5));
        let failed = |error: &str| Reading::Failed { error: error.to_owned() };
        check(
            &external,
            json!([]),
            failed(
                "unable to get external metric queue/length/q=a: no metrics returned from custom metrics API",
            ),
        );
        check(
            &object,
            json!([{ "value": "many" }]),
            failed(&format!(
                "unable to get metric hits: Ingress main: {}",
                Quantity::parse("many").unwrap_err()
            )),
        );
    }

    /// What External metric `m` is answered while the API server says this of the group, and that of the metric.
    async fn asked(answers_here: bool, group: (u16, &'static str), metric: (u16, &'static str)) -> Answered {
        use axum::http::StatusCode;
        use axum::routing::get;
        let say = |(status, body): (u16, &'static str)| {
            async move || {
                let json = [("content-type", "application/json")];
                (StatusCode::from_u16(status).unwrap(), json, body)
            }
        };
        let api = axum::Router::new()
            .route("/apis/custom.metrics.k8s.io", get(say(group)))
            .route("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/metrics/hits", get(say(metric)));
        let mut adapters = Adapters::new(Client::new(api, "shop"), answers_here);
        let [_, _, of_namespace, _] = asks();
        let scope = MetricScope { namespace: "shop", pods: "app=model" };
        for _ in 0..200 {
            let answered = adapters.ask(&of_namespace, scope, Time::from_seconds(1000));
            match &answered {
                Answered::Reading(Reading::Missing { why }) if why.ends_with("has not answered yet") => {}
                _ => return answered,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never answers");
    }

    #[tokio::test]
    async fn an_adapter_that_fails_is_not_answered_for() {
        let group = r#"{"preferredVersion":{"version":"v1beta2"}}"#;
        let status =
            r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"it is down","code":503}"#;
        let missing =
            r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no such metric","code":404}"#;
        let good = r#"{"items":[{"value":"7"}]}"#;
        for (answers_here, of_group, of_metric, expected) in [
            (true, (200, group), (200, good), "value 7"),
            (true, (404, missing), (200, good), "here"),
            (false, (404, missing), (200, good), "no adapter is registered for custom.metrics.k8s.io"),
            (true, (503, status), (200, good), "cannot find out whether an adapter is registered"),
            (true, (200, "<html>"), (200, good), "cannot find out whether an adapter is registered"),
            (
                true,
                (200, group),
                (503, status),
                "unable to fetch metrics from custom metrics API: it is down",
            ),
            (
                true,
                (200, group),
                (404, missing),
                "unable to fetch metrics from custom metrics API: no such metric",
            ),
            (true, (200, group), (200, "{}"), "no metrics returned from custom metrics API"),
            (true, (200, group), (200, r#"{"items":null}"#), "unable to fetch metrics"),
        ] {
            let said = match asked(answers_here, of_group, of_metric).await {
                Answered::Here => "here".to_owned(),
                Answered::Reading(Reading::Value { value, .. }) => format!("value {value}"),
                Answered::Reading(Reading::Failed { error }) => error,
                other => format!("{other:?}"),
            };
            assert!(said.contains(expected), "{of_group:?} {of_metric:?}: {said}");
        }
    }
}
