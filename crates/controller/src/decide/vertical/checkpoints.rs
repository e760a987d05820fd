//! What recommenders learned, kept as VerticalPodAutoscalerCheckpoints in VPA's format (`pkg/recommender/checkpoint`).
//!
//! They are read without a type: a checkpoint that somebody else broke must cost its container's history and nothing
//! else.

use std::collections::BTreeMap;

use flyball_api::kinds::vertical_pod_autoscaler::VerticalPodAutoscalerCheckpoint;
use flyball_engine::vertical::Checkpoint;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::targets::Key;
use crate::gather::workload::FIELD_MANAGER;

/// The checkpoints of one VerticalPodAutoscaler: container and `status`.
pub(super) type Loaded = BTreeMap<Key, Vec<(String, Value)>>;

fn resource() -> ApiResource {
    ApiResource::erase::<VerticalPodAutoscalerCheckpoint>(&())
}

/// All checkpoints, by the VerticalPodAutoscaler that they are of.
pub(super) async fn read_all(client: &Client) -> Loaded {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource());
    let listed = match api.list(&ListParams::default()).await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(%error, "cannot read VerticalPodAutoscalerCheckpoints, starting without a history");
            return Loaded::new();
        }
    };
    let mut loaded = Loaded::new();
    for object in listed {
        let text = |path: &str| object.data.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let (Some(vpa), Some(container)) = (text("/spec/vpaObjectName"), text("/spec/containerName")) else {
            tracing::warn!(checkpoint = object.name_any(), "a checkpoint says not what it is of");
            continue;
        };
        let status = object.data.get("status").cloned().unwrap_or_default();
        loaded.entry((object.namespace().unwrap_or_default(), vpa)).or_default().push((container, status));
    }
    loaded
}

/// Reads the `status` of a checkpoint.
pub(super) fn parse(status: Value) -> Result<Checkpoint, String> {
    serde_json::from_value(status).map_err(|error| error.to_string())
}

/// Writes one checkpoint.
pub(super) async fn write(
    client: &Client,
    of: &Key,
    container: &str,
    checkpoint: &Checkpoint,
) -> kube::Result<()> {
    let (namespace, vpa) = of;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource());
    let name = format!("{vpa}-{container}");
    let spec = json!({ "vpaObjectName": vpa, "containerName": container });
    // a merge would keep buckets that are empty now
    let operations = json!([
        { "op": "add", "path": "/spec", "value": spec },
        { "op": "add", "path": "/status", "value": checkpoint },
    ]);
    let patch: json_patch::Patch = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&name, &parameters, &Patch::Json::<()>(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => return other.map(drop),
    }
    let data = json!({ "spec": spec, "status": checkpoint });
    let object = DynamicObject::new(&name, &resource()).within(namespace).data(data);
    api.create(&PostParams::default(), &object).await.map(drop)
}

/// Removes the checkpoints of VerticalPodAutoscalers that are gone.
pub(super) async fn remove_orphans(client: &Client, exists: impl Fn(&Key) -> bool) -> kube::Result<()> {
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource());
    for object in all.list(&ListParams::default()).await? {
        let namespace = object.namespace().unwrap_or_default();
        let vpa = object.data.pointer("/spec/vpaObjectName").and_then(Value::as_str).unwrap_or_default();
        if !exists(&(namespace.clone(), vpa.to_owned())) {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource());
            api.delete(&object.name_any(), &DeleteParams::default()).await?;
        }
    }
    Ok(())
}
