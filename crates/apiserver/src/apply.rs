//! Server-side apply: merges applied configurations by schema and tracks the owner of each field.
//!
//! The applied configuration is merged into the live object by schema ([`merge`]). Fields that the same manager
//! applied before and now omits are removed, unless another manager owns them too. Changing a field that another
//! manager owns is a conflict: refused, or taken over with `force`. Sets of fields are in [`fields`]; [`managed`]
//! maintains `metadata.managedFields`, the record of owners, for all kinds of writes.

pub(crate) mod fields;
pub(crate) mod managed;
pub(crate) mod merge;

use serde_json::{Value, json};

use crate::body::Body;
use crate::kinds::Sub;
use crate::object::{self, at, list, text};
use crate::status::{Failure, FieldError, Result};
use crate::verbs::write::{self, WriteResult};
use crate::verbs::{Call, scale};
use fields::FieldSet;
use managed::{Entry, ManagedOperation};

/// Handles PATCH with `application/apply-patch+yaml`.
pub(crate) async fn apply(call: &mut Call<'_>, body: Body) -> Result<WriteResult> {
    if call.parameters.field_manager.is_none() {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        let message = format!("PatchOptions.meta.k8s.io \"\" is invalid: {error}");
        return Err(Failure::new(422, "Invalid", message));
    }
    let mut config = body.value;
    if !config.is_object() {
        return Err(Failure::bad_request("an apply patch must be an object"));
    }
    // A Scale has one field and no lists, so applying it is a merge.
    if call.sub == Some(Sub::Scale) {
        return scale::patch(call, |current| {
            let mut wanted = current.clone();
            json_patch::merge(&mut wanted, &config);
            Ok(wanted)
        })
        .await;
    }
    if !list(&config, "metadata.managedFields").is_empty() {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    write::identify(call, &mut config)?;
    if object::name(&config).is_empty() {
        object::set(&mut config, "metadata.name", call.name.clone().into());
    }
    if object::name(&config) != call.name {
        return Err(Failure::bad_request("the name of the object does not match the name on the URL"));
    }
    write::decode(call, &mut config, body.duplicates)?;
    let config = call.kind.to_stored(config);
    let schema = call.kind.stored_schema();
    let applied = managed::owned(call, &schema, &config);
    if call.server.store.get(&call.key()).is_none() {
        return create(call, config, &applied).await;
    }
    let operation = ManagedOperation::Apply(&applied);
    write::modify_stored(call, operation, |live| applied_to(call, live, &config, &applied).map(Some)).await
}

async fn create(call: &Call<'_>, config: Value, applied: &FieldSet) -> Result<WriteResult> {
    let missing = call.sub.is_some() || at(&config, "metadata.uid").is_some();
    if missing {
        return Err(Failure::not_found(&call.kind, &call.name));
    }
    let mut object = call.kind.to_version(config);
    write::apply_custom_defaults(call, &mut object)?;
    write::insert(call, object, ManagedOperation::Apply(applied)).await
}

/// Returns the live object with the configuration applied; a conflict is an error unless forced.
fn applied_to(call: &Call<'_>, live: &Value, config: &Value, applied: &FieldSet) -> Result<Value> {
    let schema = call.kind.stored_schema();
    let entries = managed::read(live);
    let mut wanted = live.clone();
    let mut config = config.clone();
    managed::strip(call, &mut config);
    merge::merge(&schema, &mut wanted, &config);
    let (changed, _) = fields::compare(&schema, live, &wanted);
    let is_mine = |entry: &&Entry| managed::is_applier(call, entry);
    let conflicts: Vec<(&Entry, FieldSet)> = entries
        .iter()
        .filter(|entry| !is_mine(entry))
        .map(|entry| (entry, entry.fields.intersection(&changed)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if !conflicts.is_empty() && !call.parameters.force {
        return Err(refusal(&conflicts));
    }
    if let Some(mine) = entries.iter().find(is_mine) {
        let mut gone = mine.fields.difference(applied);
        for other in entries.iter().filter(|entry| !is_mine(entry)) {
            gone = gone.difference(&other.fields);
        }
        merge::remove(&schema, &mut wanted, &gone, applied);
    }
    let version = text(&config, "metadata.resourceVersion");
    if !version.is_empty() {
        object::set(&mut wanted, "metadata.resourceVersion", version.into());
    }
    Ok(wanted)
}

/// Maximum number of conflicts listed in one response.
const CONFLICTS_MAX: usize = 100;

fn refusal(conflicts: &[(&Entry, FieldSet)]) -> Failure {
    let mut causes = Vec::new();
    let mut sentences = Vec::new();
    let count: usize = conflicts.iter().map(|(_, fields)| fields.len()).sum();
    for (entry, fields) in conflicts {
        let (who, paths) = (entry.describe(), fields.paths(CONFLICTS_MAX - causes.len()));
        for path in &paths {
            let message = format!("conflict with {who}");
            causes.push(json!({"reason": "FieldManagerConflict", "message": message, "field": path}));
        }
        match paths.as_slice() {
            [] => break,
            [only] if conflicts.len() == 1 => sentences.push(format!("conflict with {who}: {only}")),
            several => sentences.push(format!("conflicts with {who}:\n- {}", several.join("\n- "))),
        }
    }
    if count > causes.len() {
        sentences.push(format!("and {} more", count - causes.len()));
    }
    let plural = if count == 1 { "conflict" } else { "conflicts" };
    let message = format!("Apply failed with {count} {plural}: {}", sentences.join("\n"));
    let mut failure = Failure::new(409, "Conflict", message);
    failure.details = Some(json!({"causes": causes}));
    failure
}
