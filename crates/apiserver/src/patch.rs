//! PATCH: JSON patch, merge patch, strategic merge patch, and server-side apply.

pub(crate) mod strategic;

use serde_json::Value;

use crate::apply::managed::How;
use crate::body::Body;
use crate::kinds::Sub;
use crate::status::{Failure, Result};
use crate::verbs::write::{self, Written};
use crate::verbs::{Call, scale};

/// Operations in one JSON patch, as Kubernetes limits them (`maxJSONPatchOperations`).
const OPERATIONS_MAX: usize = 10_000;

/// The form of a patch, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchType {
    pub(crate) fn of(content_type: &str, call: &Call<'_>) -> Result<Self> {
        let found = match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Self::Json,
            "application/merge-patch+json" => Self::Merge,
            "application/strategic-merge-patch+json" if call.kind.custom.is_none() => Self::Strategic,
            "application/apply-patch+yaml" => Self::Apply,
            _ => {
                let strategic =
                    if call.kind.custom.is_none() { ", application/strategic-merge-patch+json" } else { "" };
                return Err(Failure::unsupported_media_type(format!(
                    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json{strategic}, application/apply-patch+yaml"
                )));
            }
        };
        Ok(found)
    }
}

/// Applies a patch to the object, its status or its scale.
pub(crate) async fn apply(call: &mut Call<'_>, patch: PatchType, body: Body) -> Result<Written> {
    if patch == PatchType::Apply {
        return crate::apply::apply(call, body).await;
    }
    if call.sub == Some(Sub::Scale) {
        return scale::patch(call, |current| patched(call, patch, current, &body.value)).await;
    }
    write::modify(call, How::Update, |current| {
        let mut object = patched(call, patch, current, &body.value)?;
        identity_kept(call, current, &object)?;
        write::identify(call, &mut object)?;
        write::strictly(call, &mut object, body.duplicates.clone())?;
        Ok(Some(object))
    })
    .await
}

fn identity_kept(call: &Call<'_>, current: &Value, object: &Value) -> Result<()> {
    if crate::object::name(current) == crate::object::name(object) {
        return Ok(());
    }
    let error = crate::status::FieldError::invalid(
        "metadata.name",
        &object["metadata"]["name"],
        "field is immutable",
    );
    Err(Failure::invalid(&call.kind, &call.name, &[error]))
}

/// The object after the patch. A resourceVersion in it makes the patch conditional on that version.
fn patched(call: &Call<'_>, patch: PatchType, current: &Value, body: &Value) -> Result<Value> {
    let mut base = current.clone();
    // Without a version in the patch, it applies to whatever is there.
    crate::object::remove(&mut base, "metadata.resourceVersion");
    match patch {
        PatchType::Json => json(&base, current, body),
        PatchType::Merge | PatchType::Strategic if !body.is_object() => {
            Err(Failure::bad_request("a patch must be an object"))
        }
        PatchType::Merge => {
            json_patch::merge(&mut base, body);
            Ok(base)
        }
        PatchType::Strategic | PatchType::Apply => {
            let scale = call.sub == Some(Sub::Scale);
            let schema = if scale {
                crate::schema::builtin::of("autoscaling", "v1", "Scale")
            } else {
                call.kind.schema()
            };
            let schema = schema.ok_or_else(|| Failure::internal("the kind has no schema"))?;
            strategic::merge(&schema, &mut base, body)?;
            Ok(base)
        }
    }
}

fn json(base: &Value, current: &Value, body: &Value) -> Result<Value> {
    let operations = body.as_array().map_or(0, Vec::len);
    if operations > OPERATIONS_MAX {
        let text =
            format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {operations}");
        return Err(Failure::new(413, "RequestEntityTooLarge", text));
    }
    let patch: json_patch::Patch = serde_json::from_value(body.clone())
        .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?;
    let tests_version =
        patch.0.iter().any(|operation| operation.path().as_str() == "/metadata/resourceVersion");
    let mut object = if tests_version { current.clone() } else { base.clone() };
    json_patch::patch(&mut object, &patch).map_err(|error| {
        let message = format!("the server rejected our request due to an error in our request: {error}");
        Failure::new(422, "Invalid", message)
    })?;
    Ok(object)
}
