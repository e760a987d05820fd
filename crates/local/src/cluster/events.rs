//! Events as Kubernetes writes them: one object for the same thing happening again, with a count.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::acting_as;

/// Events waiting to be written; more are dropped, as Kubernetes drops them.
const QUEUE_MAX: usize = 1024;
/// Events remembered for counting: `client-go` keeps 4096 for a whole cluster.
const REMEMBERED_MAX: usize = 1024;

/// Whether an event needs attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Happening {
    namespace: String,
    name: String,
    uid: String,
    severity: Severity,
    reason: String,
    message: String,
    component: &'static str,
    field_path: Option<String>,
}

/// Writes events in the background; clones share one writer.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::Sender<(ObjectReference, Happening)>);

/// The reference to an object that its events carry.
pub(crate) fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: object.meta().name.clone(),
        namespace: object.meta().namespace.clone(),
        uid: object.uid(),
        resource_version: object.resource_version(),
        field_path: None,
    }
}

impl Recorder {
    pub(crate) fn start(client: Client, tasks: &mut JoinSet<()>) -> Self {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        tasks.spawn(write_all(client, inbox));
        Recorder(queue)
    }

    /// Notes that something happened to an object. Never waits, never fails.
    pub(crate) fn record(
        &self,
        about: &ObjectReference,
        component: &'static str,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        let happening = Happening {
            namespace: about.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            name: about.name.clone().unwrap_or_default(),
            uid: about.uid.clone().unwrap_or_default(),
            severity,
            reason: reason.to_owned(),
            message: message.into(),
            component,
            field_path: about.field_path.clone(),
        };
        if self.0.try_send((about.clone(), happening)).is_err() {
            tracing::debug!(reason, "event dropped: too many at once");
        }
    }
}

async fn write_all(client: Client, mut inbox: mpsc::Receiver<(ObjectReference, Happening)>) {
    let mut written: BTreeMap<Happening, (String, i32)> = BTreeMap::new();
    let mut clients: BTreeMap<&'static str, Client> = BTreeMap::new();
    while let Some((about, happening)) = inbox.recv().await {
        let name = program(happening.component);
        let client = clients.entry(name).or_insert_with(|| acting_as(&client, name));
        let api: Api<Event> = Api::namespaced(client.clone(), &happening.namespace);
        let now = Timestamp::now();
        if let Some((name, count)) = written.get_mut(&happening) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": Time(now)});
            if api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.is_ok() {
                continue;
            }
        }
        let event = new_event(about, &happening, now);
        match api.create(&PostParams::default(), &event).await {
            Ok(event) => {
                if written.len() >= REMEMBERED_MAX {
                    written.pop_first();
                }
                written.insert(happening, (event.name_any(), 1));
            }
            Err(e) => tracing::debug!(reason = happening.reason, "event not written: {e}"),
        }
    }
}

/// The program of a cluster that a component is part of.
fn program(component: &str) -> &'static str {
    match component {
        "kubelet" => "kubelet",
        "default-scheduler" => "kube-scheduler",
        "flyball-proxy" => "kube-proxy",
        _ => "kube-controller-manager",
    }
}

fn new_event(about: ObjectReference, happening: &Happening, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", happening.name, now.as_nanosecond())),
            namespace: Some(happening.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: about,
        type_: Some(format!("{:?}", happening.severity)),
        reason: Some(happening.reason.clone()),
        message: Some(happening.message.clone()),
        source: Some(EventSource { component: Some(happening.component.to_owned()), host: None }),
        reporting_component: Some(happening.component.to_owned()),
        reporting_instance: Some(String::new()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        ..Event::default()
    }
}
