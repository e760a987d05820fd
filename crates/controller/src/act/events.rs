//! Kubernetes events about autoscalers, counted where they repeat, as `kubectl describe` shows them.
//!
//! Warnings that differ in nothing but numbers are one event: its count grows, and its message is the newest. Another
//! cause is another event, and so is another size, which is what a reader looks for. They are written beside the loop, one after the other; an event is never worth waiting for.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_api::status::without_numbers;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::api_error;

/// Events that wait to be written; more are dropped. The first decisions about a thousand objects have some thousands.
const QUEUE_MAX: usize = 16_384;
/// Events that are counted up rather than written anew; the oldest are forgotten beyond this.
const REMEMBERED_MAX: usize = 4096;
/// An event that is this old is written anew, as Kubernetes' own correlator does.
const REPEAT_SECONDS_MAX: i64 = 600;
/// A write that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is still unwritten this long after the end is dropped.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// An event to be written.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) about: ObjectReference,
    /// The reporting component: `horizontal-pod-autoscaler` or `keda-operator`.
    pub(crate) component: &'static str,
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Takes events to be written; clones share one writer, which ends with the last of them.
#[derive(Clone)]
pub(crate) struct Events(mpsc::Sender<Order>);

enum Order {
    Write(Box<Note>),
    /// Answer when everything before is written.
    Flush(oneshot::Sender<()>),
}

impl Events {
    pub(crate) fn start(client: Client) -> Events {
        let (orders, inbox) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(Writer { client, remembered: BTreeMap::new() }.run(inbox));
        Events(orders)
    }

    /// Writes an event, or counts it up. Never waits.
    pub(crate) fn publish(&self, note: Note) {
        if self.0.try_send(Order::Write(Box::new(note))).is_err() {
            tracing::debug!("an event is dropped: too many at once");
        }
    }

    /// Waits a moment for what is to be written.
    pub(crate) async fn finish(&self) {
        let (done, wait) = oneshot::channel();
        if self.0.send_timeout(Order::Flush(done), FINISH_MAX).await.is_ok() {
            let _ = timeout(FINISH_MAX, wait).await;
        }
    }
}

struct Writer {
    client: Client,
    remembered: BTreeMap<Key, Remembered>,
}

/// The object's uid, the reason, and the message, of a warning without its numbers.
type Key = (String, String, String);

#[derive(Debug)]
struct Remembered {
    name: String,
    count: i32,
    at: Timestamp,
}

impl Writer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        while let Some(order) = inbox.recv().await {
            match order {
                Order::Write(note) => self.publish(&note).await,
                Order::Flush(done) => drop(done.send(())),
            }
        }
    }

    /// A failure is logged and nothing else.
    async fn publish(&mut self, note: &Note) {
        let now = Timestamp::now();
        match timeout(TIMEOUT, self.write(note, now)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    reason = note.reason,
                    error = api_error::message(&error),
                    "cannot write an event"
                );
            }
            Err(_) => tracing::warn!(reason = note.reason, "cannot write an event: no answer in time"),
        }
        self.forget(now);
    }

    async fn write(&mut self, note: &Note, now: Timestamp) -> kube::Result<()> {
        let namespace = note.about.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let uid = note.about.uid.clone().unwrap_or_default();
        let message = if note.warning { without_numbers(&note.message) } else { note.message.clone() };
        let key = (uid, note.reason.clone(), message);
        if let Some(known) = self.remembered.get_mut(&key).filter(|known| known.is_recent(now)) {
            let patch =
                json!({ "count": known.count + 1, "lastTimestamp": Time(now), "message": note.message });
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

    /// Looks through what is remembered only when that has grown too large: most events find room.
    fn forget(&mut self, now: Timestamp) {
        if self.remembered.len() <= REMEMBERED_MAX {
            return;
        }
        self.remembered.retain(|_, known| known.is_recent(now));
        while self.remembered.len() > REMEMBERED_MAX {
            self.remembered.pop_first();
        }
    }
}

impl Remembered {
    fn is_recent(&self, now: Timestamp) -> bool {
        now.as_second() - self.at.as_second() < REPEAT_SECONDS_MAX
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
