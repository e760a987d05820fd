//! The adapters of `custom.metrics.k8s.io` and `external.metrics.k8s.io`, asked as kube-controller-manager asks them
//! (`pkg/controller/podautoscaler/metrics/client.go`), but not more often than every few seconds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flyball_api::plan::Ask;
use flyball_api::quantity::Quantity;
use flyball_engine::{Milli, PodValue, Reading, Time};
use kube::Client;
use serde::Deserialize;

use crate::facts;
use crate::source::custom::Place;

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
/// An adapter is asked for one metric at most this often: a third of kube-controller-manager's 15 s.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Whether there is an adapter is asked again after this.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// An adapter that takes longer would hold up every other target.
const TIMEOUT: Duration = Duration::from_secs(1);
/// What a value covers if the adapter does not say.
const WINDOW_DEFAULT: Duration = Duration::from_secs(60);

/// What an adapter says.
#[derive(Clone, Debug)]
pub(super) enum Answered {
    /// A reading, or that it failed.
    Reading(Reading),
    /// It does not know the metric.
    NoSuchMetric,
    /// None is registered.
    NoAdapter,
}

/// Asks adapters through the API server.
pub(super) struct Adapters {
    client: Client,
    /// The version of each group that is served, if any is.
    served: BTreeMap<&'static str, (Instant, Option<String>)>,
    answers: BTreeMap<String, (Instant, Answered)>,
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
    pub(super) fn new(client: Client) -> Adapters {
        Adapters { client, served: BTreeMap::new(), answers: BTreeMap::new() }
    }

    /// What the adapter says of a metric now, or said a moment ago.
    pub(super) async fn ask(&mut self, ask: &Ask, place: Place<'_>, now: Time) -> Answered {
        let (group, api) = match ask {
            Ask::External { .. } => (EXTERNAL, "external metrics API"),
            _ => (CUSTOM, "custom metrics API"),
        };
        let Some(version) = self.version(group).await else { return Answered::NoAdapter };
        let Some(path) = path(ask, place) else { return Answered::NoAdapter };
        let path = format!("/apis/{group}/{version}/namespaces/{}/{path}", place.namespace);
        if let Some((_, answer)) = self.answers.get(&path).filter(|(at, _)| at.elapsed() < ASK_EVERY) {
            return answer.clone();
        }
        let answer = match self.get::<ValueList>(&path).await {
            Ok(list) => reading(ask, &list.items, api, now),
            Err(Refused { missing: true, .. }) => Answered::NoSuchMetric,
            Err(Refused { error, .. }) => {
                failed(ask, &format!("unable to fetch metrics from {api}: {error}"))
            }
        };
        self.answers.retain(|_, (at, _)| at.elapsed() < LOOK_EVERY);
        self.answers.insert(path, (Instant::now(), answer.clone()));
        answer
    }

    async fn version(&mut self, group: &'static str) -> Option<String> {
        if let Some((_, version)) = self.served.get(group).filter(|(at, _)| at.elapsed() < LOOK_EVERY) {
            return version.clone();
        }
        let found = self.get::<Group>(&format!("/apis/{group}")).await;
        let version = found.ok().map(|group| group.preferred_version.version);
        self.served.insert(group, (Instant::now(), version.clone()));
        version
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, Refused> {
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| Refused { missing: false, error: error.to_string() })?;
        match tokio::time::timeout(TIMEOUT, self.client.request::<T>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => {
                Err(Refused { missing: [400, 404].contains(&status.code), error: status.message.clone() })
            }
            Ok(Err(error)) => Err(Refused { missing: false, error: error.to_string() }),
            Err(_) => {
                Err(Refused { missing: false, error: format!("no answer within {} s", TIMEOUT.as_secs()) })
            }
        }
    }
}

/// Why there is no answer; `missing` if the adapter does not know the metric.
struct Refused {
    missing: bool,
    error: String,
}

/// The path of a metric below its namespace.
fn path(ask: &Ask, place: Place<'_>) -> Option<String> {
    let query = |pairs: &[(&str, String)]| {
        let given: Vec<(&str, &str)> = pairs
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        if given.is_empty() { String::new() } else { format!("?{}", crate::encode_query(&given)) }
    };
    let name = crate::encode;
    Some(match ask {
        Ask::Pods { metric, selector } => {
            let pairs =
                [("labelSelector", place.pods.to_owned()), ("metricLabelSelector", selector.to_string())];
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
        Ask::Resource { .. } | Ask::Trigger(_) | Ask::Asked { .. } => return None,
    })
}

fn reading(ask: &Ask, items: &[Item], api: &str, now: Time) -> Answered {
    if items.is_empty() {
        return failed(ask, &format!("no metrics returned from {api}"));
    }
    let amount = |item: &Item| Quantity::parse(&item.value).map(|value| Milli::new(value.milli_value()));
    let at = |item: &Item| item.timestamp.map_or(now, facts::engine_time);
    if let Ask::Pods { .. } = ask {
        let values: Result<Vec<PodValue>, _> = items
            .iter()
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
        Ok(sum) => Answered::Reading(Reading::Value { value: sum.as_f64(), at: at(&items[0]) }),
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
        Ask::Resource { .. } | Ask::Trigger(_) | Ask::Asked { .. } => error.to_owned(),
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
        let place = Place { namespace: "shop", pods: "app=model" };
        let paths = asks().map(|ask| path(&ask, place).unwrap());
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
        let now = Time::from_seconds(100);
        let [pods, object, _, external] = asks();
        let list = |items: serde_json::Value| {
            serde_json::from_value::<ValueList>(json!({ "items": items })).unwrap()
        };
        let at = "1970-01-01T00:01:30Z";
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
                    at: Time::from_seconds(90),
                    window: Duration::from_secs(30),
                    starting: false,
                }],
                at: now,
            },
        );
        let value = |value| Reading::Value { value, at: Time::from_seconds(90) };
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
}
