//! The `scale` subresource: autoscaling/v1 Scale of built-in workloads, and of custom kinds that define its paths.

use serde_json::{Value, json};

use super::Call;
use super::write::{WriteResult, modify_stored};
use crate::apply::managed::ManagedOperation;
use crate::kinds::Kind;
use crate::kinds::workloads::REPLICATION_CONTROLLER;
use crate::object::{self, at, set, text};
use crate::selector::Labels;
use crate::status::{Failure, FieldError, Result};

struct Paths<'a> {
    spec: &'a str,
    status: &'a str,
    selector: Option<&'a str>,
}

fn paths(kind: &Kind) -> Paths<'_> {
    match kind.custom().and_then(|custom| custom.scale.as_ref()) {
        Some(scale) => {
            Paths { spec: &scale.spec, status: &scale.status, selector: scale.selector.as_deref() }
        }
        None => Paths { spec: "spec.replicas", status: "status.replicas", selector: None },
    }
}

/// Returns the Scale of a stored object.
pub(crate) fn of(kind: &Kind, object: &Value) -> Result<Value> {
    let paths = paths(kind);
    let replicas = |path: &str| object::integer(object, path).unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {}, "spec": {"replicas": replicas(paths.spec)}, "status": {"replicas": replicas(paths.status)},
    });
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = at(&object["metadata"], field) {
            scale["metadata"][field] = value.clone();
        }
    }
    let selector = match (paths.selector, at(object, "spec.selector")) {
        (Some(path), _) => text(object, path).to_owned(),
        (None, Some(selector)) if kind.is(&REPLICATION_CONTROLLER) => {
            Labels::from_object(&json!({"matchLabels": selector})).to_string()
        }
        (None, Some(selector)) if kind.row().is_some() => Labels::from_object(selector).to_string(),
        _ => String::new(),
    };
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

/// Handles PUT of a Scale.
pub(crate) async fn update(call: &Call<'_>, body: crate::body::Body) -> Result<WriteResult> {
    patch(call, |_| Ok(body.value.clone())).await
}

/// Updates the object by a function from its current Scale to the desired one.
pub(crate) async fn patch(call: &Call<'_>, change: impl Fn(&Value) -> Result<Value>) -> Result<WriteResult> {
    let written = modify_stored(call, ManagedOperation::Update, |current| {
        let scale = change(&of(&call.kind, current)?)?;
        let replicas = wanted(call, &scale)?;
        let mut object = current.clone();
        set(&mut object, paths(&call.kind).spec, replicas.into());
        let version = text(&scale, "metadata.resourceVersion");
        set(&mut object, "metadata.resourceVersion", version.into());
        Ok(Some(object))
    })
    .await?;
    let object = call.kind.to_stored(written.object);
    Ok(WriteResult { object: of(&call.kind, &object)?, created: false })
}

fn wanted(call: &Call<'_>, scale: &Value) -> Result<i64> {
    let value = at(scale, "spec.replicas").cloned().unwrap_or_else(|| 0.into());
    let error = match value.as_i64() {
        None => {
            return Err(Failure::bad_request(format!(
                "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must be an integer, not {value}"
            )));
        }
        Some(replicas) if replicas < 0 => {
            FieldError::invalid("spec.replicas", &value, "must be greater than or equal to 0")
        }
        Some(replicas) if replicas > i64::from(i32::MAX) => {
            FieldError::invalid("spec.replicas", &value, "must be an int32")
        }
        Some(replicas) => return Ok(replicas),
    };
    let name = if call.name.is_empty() { object::name(scale) } else { &call.name };
    let mut failure = Failure::invalid(&call.kind, name, &[error]);
    failure.message = failure.message.replacen(&call.kind.kind, "Scale", 1);
    Err(failure)
}
