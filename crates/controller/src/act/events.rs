//! Kubernetes events about autoscalers, counted where they repeat, as `kubectl describe` shows them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;

/// Events that are counted up rather than written anew; the oldest are forgotten beyond this.
const REMEMBERED_MAX: usize = 1024;
/// An event that is this old is written anew, as Kubernetes' own correlator does.
const REPEAT_SECONDS_MAX: i64 = 600;

/// What is to be told.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) about: ObjectReference,
    /// Who tells it: `horizontal-pod-autoscaler`, or `keda-operator`.
    pub(crate) component: &'static str,
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Writes events.
pub(crate) struct Events {
    client: Client,
    remembered: BTreeMap<Key, Remembered>,
}

type Key = (String, String, String);

#[derive(Debug)]
struct Remembered {
    name: String,
    count: i32,
    at: Timestamp,
}

impl Events {
    pub(crate) fn new(client: Client) -> Events {
        Events { client, remembered: BTreeMap::new() }
    }

    /// Writes an event, or counts it up. A failure is logged: an event is never worth stopping for.
    pub(crate) async fn publish(&mut self, note: &Note) {
        let now = Timestamp::now();
        if let Err(error) = self.write(note, now).await {
            tracing::warn!(reason = note.reason, %error, "cannot write an event");
        }
        self.forget(now);
    }

    async fn write(&mut self, note: &Note, now: Timestamp) -> kube::Result<()> {
        let namespace = note.about.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let key = (note.about.uid.clone().unwrap_or_default(), note.reason.clone(), note.message.clone());
        if let Some(known) = self.remembered.get_mut(&key) {
            let patch = json!({ "count": known.count + 1, "lastTimestamp": Time(now) });
            match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => {
                    known.count += 1;
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let created = api.create(&PostParams::default(), &event(note, namespace, now)).await?;
        let name = created.metadata.name.unwrap_or_default();
        self.remembered.insert(key, Remembered { name, count: 1, at: now });
        Ok(())
    }

    fn forget(&mut self, now: Timestamp) {
        self.remembered.retain(|_, known| now.as_second() - known.at.as_second() < REPEAT_SECONDS_MAX);
        while self.remembered.len() > REMEMBERED_MAX {
            self.remembered.pop_first();
        }
    }
}

fn event(note: &Note, namespace: &str, now: Timestamp) -> Event {
    let about = note.about.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: note.about.clone(),
        reason: Some(note.reason.clone()),
        message: Some(note.message.clone()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(note.component.to_owned()), host: None }),
        ..Event::default()
    }
}

/// A reference to an object, as events have it.
pub(crate) fn about<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    object.object_ref(&())
}
