//! Pods that a kubelet evicted because its node ran out of memory, from the events that it tells
//! (`pkg/recommender/input/oom/observer.go`).

use flyball_api::quantity::Quantity;
use flyball_engine::Time;
use flyball_engine::vertical::EvictionEvent;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use crate::gather::facts;

const REASON: &str = "Evicted";
/// Evictions that wait to be taken in; VPA lets as many wait.
const WAITING_MAX: usize = 5_000;

/// A container that was evicted for the memory it used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Eviction {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
    pub(super) used_bytes: i64,
    pub(super) at: Time,
}

/// Watches for them.
pub(super) struct Evictions {
    waiting: Receiver<Eviction>,
    watch: JoinHandle<()>,
}

impl Evictions {
    pub(super) fn watch(client: Client) -> Evictions {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let watch = tokio::spawn(async move {
            let configuration = watcher::Config::default().fields(&format!("reason={REASON}"));
            let events = watcher(Api::<Event>::all(client), configuration).default_backoff();
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let seen = match event {
                    Ok(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) => evicted(&event),
                    Ok(_) => Vec::new(),
                    Err(error) => {
                        tracing::warn!(%error, "cannot watch evictions, trying again");
                        Vec::new()
                    }
                };
                for eviction in seen {
                    if let Err(error) = sender.try_send(eviction) {
                        tracing::warn!(%error, "an eviction is left out");
                    }
                }
            }
        });
        Evictions { waiting, watch }
    }

    /// Those that were not taken yet.
    pub(super) fn take(&mut self) -> Vec<Eviction> {
        std::iter::from_fn(|| self.waiting.try_recv().ok()).collect()
    }
}

impl Drop for Evictions {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn evicted(event: &Event) -> Vec<Eviction> {
    let annotation = |name: &str| event.annotations().get(name).map(String::as_str).unwrap_or_default();
    let told = EvictionEvent {
        reason: event.reason.as_deref().unwrap_or_default(),
        containers: annotation("offending_containers"),
        usages: annotation("offending_containers_usage"),
        resources: annotation("starved_resource"),
    };
    let parse = |text: &str| Quantity::parse(text).ok().map(Quantity::value);
    let at = [&event.last_timestamp, &event.first_timestamp].into_iter().flatten().next().map(|time| time.0);
    let at = at.or(event.event_time.as_ref().map(|time| time.0)).map(facts::engine_time).unwrap_or_default();
    let about = &event.involved_object;
    let eviction = |(container, used_bytes): (&str, i64)| Eviction {
        namespace: about.namespace.clone().unwrap_or_default(),
        pod: about.name.clone().unwrap_or_default(),
        container: container.to_owned(),
        used_bytes,
        at,
    };
    told.memory_used(parse).into_iter().map(eviction).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn what_was_used_is_read_from_the_annotations() {
        let check = |usages: &str, starved: &str, expected: &[(&str, i64)]| {
            let event: Event = from_value(json!({
                "metadata": { "annotations": {
                    "offending_containers": "a,b", "offending_containers_usage": usages, "starved_resource": starved,
                } },
                "reason": "Evicted", "lastTimestamp": "2026-01-01T00:00:00Z",
                "involvedObject": { "kind": "Pod", "namespace": "shop", "name": "model-0" },
            }))
            .unwrap();
            let found = evicted(&event);
            assert!(found.iter().all(|one| (&*one.namespace, &*one.pod) == ("shop", "model-0")));
            assert!(found.iter().all(|one| one.at == Time::from_seconds(1_767_225_600)));
            let found: Vec<_> = found.iter().map(|one| (one.container.as_str(), one.used_bytes)).collect();
            assert_eq!(found, expected, "{usages} {starved}");
        };
        check("1Ki,2Ki", "memory,memory", &[("a", 1024), ("b", 2048)]);
        check("1Ki,2Ki", "memory,ephemeral-storage", &[("a", 1024)]);
        check("1Ki,x", "memory,memory", &[("a", 1024)]);
        check("1Ki", "memory,memory", &[]);
    }
}
