//! PATCH: JSON patch, merge patch, strategic merge patch, and server-side apply.

mod json;
pub(crate) mod strategic;

use serde_json::Value;

use crate::apply::managed::ManagedOperation;
use crate::body::Body;
use crate::kinds::Sub;
use crate::status::{Failure, Result};
use crate::verbs::write::{self, WriteResult};
use crate::verbs::{Call, scale};

/// The type of a patch, by its media type.
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
            "application/strategic-merge-patch+json" if call.kind.row().is_some() => Self::Strategic,
            "application/apply-patch+yaml" => Self::Apply,
            _ => {
                let strategic =
                    if call.kind.row().is_some() { ", application/strategic-merge-patch+json" } else { "" };
                return Err(Failure::unsupported_media_type(format!(
                    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json{strategic}, application/apply-patch+yaml"
                )));
            }
        };
        Ok(found)
    }
}

/// Applies a patch to an object, its status or its scale.
pub(crate) async fn apply(call: &mut Call<'_>, patch: PatchType, body: Body) -> Result<WriteResult> {
    if patch == PatchType::Apply {
        return crate::apply::apply(call, body).await;
    }
    if call.sub == Some(Sub::Scale) {
        return scale::patch(call, |current| patched(call, patch, current, &body.value)).await;
    }
    write::modify(call, ManagedOperation::Update, |current| {
        let mut object = patched(call, patch, current, &body.value)?;
        check_name_unchanged(call, current, &object)?;
        write::identify(call, &mut object)?;
        write::decode_and_default(call, &mut object, body.duplicates.clone())?;
        Ok(Some(object))
    })
    .await
}

fn check_name_unchanged(call: &Call<'_>, current: &Value, object: &Value) -> Result<()> {
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

/// Returns the patched object. A resourceVersion in the patch makes it conditional on that version.
fn patched(call: &Call<'_>, patch: PatchType, current: &Value, body: &Value) -> Result<Value> {
    let mut base = current.clone();
    // Without a resourceVersion, the patch applies to any version.
    crate::object::remove(&mut base, "metadata.resourceVersion");
    match patch {
        PatchType::Json => {
            if json::names_version(body) {
                base = current.clone();
            }
            json::apply(&mut base, body)?;
            Ok(base)
        }
        PatchType::Merge | PatchType::Strategic if !body.is_object() => {
            Err(Failure::bad_request("a patch must be an object"))
        }
        PatchType::Merge => {
            json_patch::merge(&mut base, body);
            Ok(base)
        }
        PatchType::Strategic | PatchType::Apply => {
            let scale = call.sub == Some(Sub::Scale);
            let schema =
                if scale { crate::kinds::schema_of("autoscaling/v1", "Scale") } else { call.kind.schema() };
            let schema = schema.ok_or_else(|| Failure::internal("the kind has no schema"))?;
            strategic::merge(&schema, &mut base, body)?;
            Ok(base)
        }
    }
}
