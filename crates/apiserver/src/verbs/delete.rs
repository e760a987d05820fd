//! DELETE of an object or a collection: at once, after a pod's grace period, or when the finalizers are gone.
//!
//! The garbage collector is a controller outside this crate. `propagationPolicy` is recorded for it as in
//! Kubernetes: `Foreground` adds the finalizer `foregroundDeletion`, `Orphan` adds `orphan`, and the garbage
//! collector removes them; `Background` (the default) adds nothing.

use serde_json::{Value, json};

use super::{Call, admit, follow, read};
use crate::crd;
use crate::kinds::Sub;
use crate::kinds::cluster::NAMESPACE;
use crate::kinds::extension::CUSTOM_RESOURCE_DEFINITION;
use crate::kinds::pod::POD;
use crate::object::{self, at, list, rfc3339, set, text};
use crate::status::{Failure, Result};
use crate::store::{Precondition, Stored, WriteError};

/// Attempts of a deletion that keeps losing races with other writes.
const RACES_MAX: usize = 10;

/// `DeleteOptions`, from the body and the query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) grace_period_seconds: Option<i64>,
    propagation_policy: String,
    uid: String,
    resource_version: String,
    pub(crate) dry_run: bool,
}

impl Options {
    pub(crate) fn read(call: &Call<'_>, body: &Value) -> Result<Self> {
        let policy = call.parameters.propagation_policy.clone();
        let options = Self {
            grace_period_seconds: call
                .parameters
                .grace_period_seconds
                .or_else(|| object::integer(body, "gracePeriodSeconds")),
            propagation_policy: policy.unwrap_or_else(|| text(body, "propagationPolicy").to_owned()),
            uid: text(body, "preconditions.uid").to_owned(),
            resource_version: text(body, "preconditions.resourceVersion").to_owned(),
            dry_run: call.parameters.dry_run || list(body, "dryRun").iter().any(|value| value == "All"),
        };
        match options.propagation_policy.as_str() {
            "" | "Background" | "Foreground" | "Orphan" => Ok(options),
            other => Err(Failure::new(
                422,
                "Invalid",
                format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"{other}\": supported values: \"Background\", \"Foreground\", \"Orphan\""
                ),
            )),
        }
    }
}

/// Deletes one object. Returns the object while it waits for its grace period or finalizers, else a Status.
pub(crate) async fn delete(call: &Call<'_>, options: &Options) -> Result<Value> {
    for _ in 0..RACES_MAX {
        let stored = call.stored()?;
        match attempt(call, options, &stored).await {
            Err(WriteError::Modified) => {}
            Err(refused) => return Err(call.write_failure(refused)),
            Ok(answer) => return answer,
        }
    }
    Err(Failure::modified(&call.kind, &call.name))
}

async fn attempt(
    call: &Call<'_>,
    options: &Options,
    stored: &Stored,
) -> std::result::Result<Result<Value>, WriteError> {
    let mut object = stored.value();
    if let Err(failure) = preconditions(call, options, &object, stored.revision) {
        return Ok(Err(failure));
    }
    if let Err(failure) = admit::admit(call, crate::admission::Operation::Delete, None, Some(&object)) {
        return Ok(Err(failure));
    }
    let seconds = grace_period(call, options, &object);
    add_finalizer(options, &mut object);
    let lingers = seconds > 0
        || !list(&object, "metadata.finalizers").is_empty()
        || !list(&object, "spec.finalizers").is_empty();
    if lingers && !mark_for_deletion(call, &mut object, seconds) {
        return Ok(Ok(call.kind.to_version(object)));
    }
    if options.dry_run {
        return Ok(Ok(if lingers { call.kind.to_version(object) } else { success(call, &object) }));
    }
    let object =
        super::write::commit(call, object, Precondition::Revision(stored.revision), !lingers).await?;
    follow::after_write(call.server, &call.kind, &object);
    if lingers {
        return Ok(Ok(call.kind.to_version(object)));
    }
    Ok(Ok(if call.kind.is(&POD) { call.kind.to_version(object) } else { success(call, &object) }))
}

fn preconditions(call: &Call<'_>, options: &Options, object: &Value, revision: u64) -> Result<()> {
    let uid = text(object, "metadata.uid");
    if !options.uid.is_empty() && options.uid != uid {
        let why =
            format!("Precondition failed: UID in precondition: {}, UID in object meta: {uid}", options.uid);
        return Err(Failure::conflict(&call.kind, &call.name, &why));
    }
    if !options.resource_version.is_empty() && options.resource_version != revision.to_string() {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {}, ResourceVersion in object meta: {revision}",
            options.resource_version
        );
        return Err(Failure::conflict(&call.kind, &call.name, &why));
    }
    let protected = ["default", "kube-system", "kube-public", "kube-node-lease"];
    if call.kind.is(&NAMESPACE) && protected.contains(&call.name.as_str()) {
        return Err(Failure::forbidden(&call.kind, &call.name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// Returns the grace period in seconds. Only pods assigned to a node and still running have one.
fn grace_period(call: &Call<'_>, options: &Options, object: &Value) -> i64 {
    let ended = ["Succeeded", "Failed"].contains(&text(object, "status.phase"));
    if !call.kind.is(&POD) || text(object, "spec.nodeName").is_empty() || ended {
        return 0;
    }
    let own = object::integer(object, "spec.terminationGracePeriodSeconds").unwrap_or(30);
    let wanted = options.grace_period_seconds.unwrap_or(own).max(0);
    // A grace period that has started can be shortened, never extended.
    object::integer(object, "metadata.deletionGracePeriodSeconds").map_or(wanted, |before| wanted.min(before))
}

fn add_finalizer(options: &Options, object: &mut Value) {
    let finalizer = match options.propagation_policy.as_str() {
        "Foreground" => "foregroundDeletion",
        "Orphan" => "orphan",
        _ => return,
    };
    let metadata = object::ensure(object, "metadata");
    object::default(metadata, "finalizers", json!([]));
    if let Some(finalizers) = metadata["finalizers"].as_array_mut()
        && !finalizers.iter().any(|one| one == finalizer)
    {
        finalizers.push(finalizer.into());
    }
}

/// Sets the deletion timestamp and grace period; returns false when nothing changes.
fn mark_for_deletion(call: &Call<'_>, object: &mut Value, seconds: i64) -> bool {
    let before = object::integer(object, "metadata.deletionGracePeriodSeconds");
    if at(object, "metadata.deletionTimestamp").is_some() && before.is_none_or(|before| before == seconds) {
        return false;
    }
    let deadline = call.now + jiff::SignedDuration::from_secs(seconds);
    set(object, "metadata.deletionTimestamp", rfc3339(deadline).into());
    set(object, "metadata.deletionGracePeriodSeconds", seconds.into());
    if let Some(generation) = object::integer(object, "metadata.generation") {
        set(object, "metadata.generation", (generation + 1).into());
    }
    if call.kind.is(&NAMESPACE) {
        set(object, "status.phase", "Terminating".into());
    }
    if call.kind.is(&CUSTOM_RESOURCE_DEFINITION) {
        crd::mark_terminating(object, call.now);
    }
    true
}

fn success(call: &Call<'_>, object: &Value) -> Value {
    let mut details =
        json!({"name": call.name, "kind": call.kind.plural, "uid": text(object, "metadata.uid")});
    if !call.kind.group.is_empty() {
        details["group"] = call.kind.group.clone().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Deletes every object that a list with the same parameters returns.
pub(crate) async fn delete_collection(call: &Call<'_>, options: &Options) -> Result<Value> {
    let listed = read::matching(call)?;
    for stored in &listed.items {
        let object = stored.value();
        let mut one = call.for_object(call.kind.clone(), object::namespace(&object), object::name(&object));
        one.parameters = call.parameters.clone();
        match delete(&one, options).await {
            // Already deleted concurrently.
            Err(failure) if failure.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
}

/// Removes one of the server's own finalizers from an object that is being deleted (namespaces, CRDs).
pub(crate) async fn release(call: &mut Call<'_>, path: &'static str, finalizer: &'static str) -> Result<()> {
    call.sub = (path == "spec.finalizers").then_some(Sub::Finalize);
    let dropped = |current: &Value| {
        let mut object = current.clone();
        let kept: Vec<Value> = list(current, path).iter().filter(|one| *one != finalizer).cloned().collect();
        set(&mut object, path, kept.into());
        Ok(Some(object))
    };
    super::write::modify(call, crate::apply::managed::ManagedOperation::Update, dropped).await.map(drop)
}
