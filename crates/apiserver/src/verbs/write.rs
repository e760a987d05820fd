//! Create, update and patch: the only path into the store.
//!
//! Steps: identity (names, uid, resourceVersion), decoding (types, unknown fields), defaults, the kind's strategy
//! (status handled separately, addresses allocated), validation, admission, managedFields. A patch that loses a
//! race is applied again to the newer object, unless it names a resourceVersion.

use serde_json::{Value, json};

use super::{Call, admit, follow};
use crate::admission::Operation;
use crate::apply::managed;
use crate::kinds::Sub;
use crate::kinds::cluster::NAMESPACE;
use crate::kinds::config::LIMIT_RANGE;
use crate::kinds::extension::CUSTOM_RESOURCE_DEFINITION;
use crate::kinds::pod::POD;
use crate::object::{self, at, copy, remove, set, text};
use crate::request::FieldValidation;
use crate::schema::decode as schema_decode;
use crate::status::{Failure, FieldError, Result};
use crate::store::{Change, Key, Precondition, WriteError};
use crate::{crd, limits, services, uid, validate};

/// Attempts of a patch that keeps losing races, as in Kubernetes' API server.
const RACES_MAX: usize = 5;

/// The result of a write.
pub(crate) struct WriteResult {
    /// The object in the call's version.
    pub(crate) object: Value,
    pub(crate) created: bool,
}

/// Handles POST: names, decodes and stores a new object.
pub(crate) async fn create(call: &mut Call<'_>, body: crate::body::Body) -> Result<WriteResult> {
    let mut object = body.value;
    if !object.is_object() {
        return Err(Failure::bad_request(format!("the body must be a {} object", call.kind.kind)));
    }
    if text(&object, "metadata.name").is_empty() && !text(&object, "metadata.generateName").is_empty() {
        let generated = format!("{}{}", text(&object, "metadata.generateName"), uid::suffix());
        set(&mut object, "metadata.name", generated.into());
    }
    identify(call, &mut object)?;
    call.name = object::name(&object).to_owned();
    decode_and_default(call, &mut object, body.duplicates)?;
    insert(call, object, managed::ManagedOperation::Update).await
}

/// Stores a decoded new object.
pub(crate) async fn insert(
    call: &Call<'_>,
    object: Value,
    operation: managed::ManagedOperation<'_>,
) -> Result<WriteResult> {
    if call.kind.namespaced {
        namespace_is_open(call)?;
    }
    let mut object = call.kind.to_stored(object);
    initialize(call, &mut object);
    call.kind.apply_defaults(&mut object);
    let ranges = limit_ranges(call);
    limits::apply_defaults(&ranges, &mut object);
    admit::mutate(call, Operation::Create, &mut object)?;
    call.kind.prepare_for_create(&mut object, call.now);
    let _allocating = services::lock_allocation(call.server, &call.kind).await;
    let allocated = services::allocate(call.server, &call.kind, &mut object, None);
    refuse_invalid(call, validate::create(&call.kind, &object).into_iter().chain(allocated).collect())?;
    if call.kind.is(&CUSTOM_RESOURCE_DEFINITION) {
        crd::set_status(call.server, &mut object, call.now);
    }
    check_limit_ranges(call, &ranges, &object)?;
    admit::admit(call, Operation::Create, Some(&object), None)?;
    managed::record(call, operation, None, &mut object)?;
    if call.parameters.dry_run {
        if call.server.store.get(&call.key()).is_some() {
            return Err(Failure::already_exists(&call.kind, &call.name));
        }
        return Ok(WriteResult { object: call.kind.to_version(object), created: true });
    }
    let object = commit(call, object, Precondition::Absent, false)
        .await
        .map_err(|refused| call.write_failure(refused))?;
    follow::after_write(call.server, &call.kind, &object);
    Ok(WriteResult { object: call.kind.to_version(object), created: true })
}

/// Handles PUT: replaces the stored object, if the versions match.
pub(crate) async fn update(call: &Call<'_>, body: crate::body::Body) -> Result<WriteResult> {
    let mut object = body.value;
    if !object.is_object() {
        return Err(Failure::bad_request(format!("the body must be a {} object", call.kind.kind)));
    }
    identify(call, &mut object)?;
    if object::name(&object) != call.name {
        return Err(Failure::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            object::name(&object),
            call.name
        )));
    }
    if call.kind.custom().is_some() && text(&object, "metadata.resourceVersion").is_empty() {
        let why = "must be specified for an update";
        let error = FieldError::invalid("metadata.resourceVersion", &0.into(), why);
        return Err(Failure::invalid(&call.kind, &call.name, &[error]));
    }
    decode_and_default(call, &mut object, body.duplicates)?;
    modify(call, managed::ManagedOperation::Update, |_| Ok(Some(object.clone()))).await
}

/// Updates the stored object by a function from its current form (in the call's version) to the desired one; `None`
/// leaves it unchanged.
pub(crate) async fn modify(
    call: &Call<'_>,
    operation: managed::ManagedOperation<'_>,
    change: impl Fn(&Value) -> Result<Option<Value>>,
) -> Result<WriteResult> {
    modify_stored(call, operation, |current| {
        let wanted = change(&call.kind.to_version(current.clone()))?;
        Ok(wanted.map(|wanted| call.kind.to_stored(wanted)))
    })
    .await
}

/// Updates the stored object as [`modify`] does, by a function over the stored form.
pub(crate) async fn modify_stored(
    call: &Call<'_>,
    operation: managed::ManagedOperation<'_>,
    change: impl Fn(&Value) -> Result<Option<Value>>,
) -> Result<WriteResult> {
    for _ in 0..RACES_MAX {
        let stored = call.stored()?;
        let current = stored.value();
        let Some(wanted) = change(&current)? else {
            return Ok(WriteResult { object: call.kind.to_version(current), created: false });
        };
        let pinned = text(&wanted, "metadata.resourceVersion").to_owned();
        if !pinned.is_empty() && pinned != stored.revision.to_string() {
            return Err(Failure::modified(&call.kind, &call.name));
        }
        let _allocating = services::lock_allocation(call.server, &call.kind).await;
        let object = prepare(call, &current, wanted, operation)?;
        if object == current || call.parameters.dry_run {
            return Ok(WriteResult { object: call.kind.to_version(object), created: false });
        }
        let finished = is_ready_for_removal(&object);
        match commit(call, object, Precondition::Revision(stored.revision), finished).await {
            Ok(object) => {
                follow::after_write(call.server, &call.kind, &object);
                return Ok(WriteResult { object: call.kind.to_version(object), created: false });
            }
            Err(WriteError::Modified) => {}
            Err(refused) => return Err(call.write_failure(refused)),
        }
    }
    Err(Failure::modified(&call.kind, &call.name))
}

/// Returns the LimitRanges that apply to a pod of this call; none for other kinds.
fn limit_ranges(call: &Call<'_>) -> Vec<Value> {
    if !call.kind.is(&POD) {
        return Vec::new();
    }
    let (ranges, _) = call.server.store.list(&LIMIT_RANGE.storage().into(), &call.namespace, None);
    ranges.iter().map(crate::store::Stored::value).collect()
}

/// Refuses a pod that violates a LimitRange.
fn check_limit_ranges(call: &Call<'_>, ranges: &[Value], pod: &Value) -> Result<()> {
    match limits::violation(ranges, pod) {
        Some(why) => Err(Failure::forbidden(&call.kind, object::name(pod), &why)),
        None => Ok(()),
    }
}

/// Returns whether the object is being deleted and has neither finalizers nor a grace period left.
fn is_ready_for_removal(object: &Value) -> bool {
    let held = at(object, "metadata.deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) > 0;
    at(object, "metadata.deletionTimestamp").is_some()
        && object::list(object, "metadata.finalizers").is_empty()
        && object::list(object, "spec.finalizers").is_empty()
        && !held
}

/// Returns the object to store when `wanted` replaces `current`, both in stored form.
fn prepare(
    call: &Call<'_>,
    current: &Value,
    wanted: Value,
    operation: managed::ManagedOperation<'_>,
) -> Result<Value> {
    let kind = &call.kind;
    let mut object = wanted;
    let uid = text(&object, "metadata.uid");
    if !uid.is_empty() && uid != text(current, "metadata.uid") {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            text(current, "metadata.uid")
        );
        return Err(Failure::conflict(kind, &call.name, &why));
    }
    // Server-owned metadata stays as stored, whatever the request says.
    for path in [
        "metadata.uid",
        "metadata.creationTimestamp",
        "metadata.deletionTimestamp",
        "metadata.deletionGracePeriodSeconds",
        "metadata.generation",
        "metadata.generateName",
        "metadata.resourceVersion",
    ] {
        copy(current, &mut object, path);
    }
    remove(&mut object, "metadata.selfLink");
    separate_status(call, current, &mut object);
    kind.apply_defaults(&mut object);
    if call.sub != Some(Sub::Status) {
        kind.prepare_for_update(current, &mut object, call.sub);
        bump_generation(call, current, &mut object);
    }
    let allocated = services::allocate(call.server, kind, &mut object, Some(current));
    let mut errors = validate::update(kind, current, &object, call.sub);
    errors.extend(allocated);
    refuse_invalid(call, errors)?;
    if kind.is(&CUSTOM_RESOURCE_DEFINITION) && call.sub.is_none() {
        crd::set_status(call.server, &mut object, call.now);
    }
    if call.sub == Some(Sub::Resize) {
        check_limit_ranges(call, &limit_ranges(call), &object)?;
    }
    admit::admit(call, Operation::Update, Some(&object), Some(current))?;
    managed::record(call, operation, Some(current), &mut object)?;
    Ok(object)
}

/// Keeps the status on writes of the main resource, and everything else on writes of `/status`.
fn separate_status(call: &Call<'_>, current: &Value, object: &mut Value) {
    match call.sub {
        Some(Sub::Status) => {
            let mut kept = current.clone();
            copy(object, &mut kept, "status");
            copy(object, &mut kept, "metadata.managedFields");
            if call.kind.row().is_some_and(|row| row.status_has_metadata) {
                for path in ["metadata.labels", "metadata.annotations", "metadata.finalizers"] {
                    copy(object, &mut kept, path);
                }
            }
            *object = kept;
        }
        Some(Sub::Finalize) => {
            let mut kept = current.clone();
            copy(object, &mut kept, "spec.finalizers");
            *object = kept;
        }
        Some(Sub::Binding) => {}
        _ if call.kind.has(Sub::Status) => copy(current, object, "status"),
        _ => {}
    }
}

/// Increments the generation if anything but metadata and status changed.
fn bump_generation(call: &Call<'_>, current: &Value, object: &mut Value) {
    let wanted = |value: &Value| {
        let mut wanted = value.clone();
        for path in ["metadata", "status", "apiVersion"] {
            remove(&mut wanted, path);
        }
        wanted
    };
    // A binding assigns a node, which is not part of the desired state.
    let is_counted = call.kind.has_generation(object) && call.sub != Some(Sub::Binding);
    if is_counted && wanted(current) != wanted(object) {
        let before = object::integer(current, "metadata.generation").unwrap_or(0);
        set(object, "metadata.generation", (before + 1).into());
    }
}

fn initialize(call: &Call<'_>, object: &mut Value) {
    for path in [
        "metadata.resourceVersion",
        "metadata.selfLink",
        "metadata.deletionTimestamp",
        "metadata.deletionGracePeriodSeconds",
        "metadata.generation",
    ] {
        remove(object, path);
    }
    set(object, "metadata.uid", uid::uid().into());
    set(object, "metadata.creationTimestamp", call.now_text().into());
    if call.kind.has_generation(object) {
        set(object, "metadata.generation", 1.into());
    }
    if call.kind.has(Sub::Status) && !call.kind.row().is_some_and(|row| row.keeps_new_status) {
        remove(object, "status");
    }
}

/// Checks apiVersion, kind and namespace, and fills in missing ones.
pub(crate) fn identify(call: &Call<'_>, object: &mut Value) -> Result<()> {
    let (api_version, kind) = (call.kind.api_version(), &call.kind.kind);
    let given = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    for (key, given, wanted) in
        [("apiVersion", given("apiVersion"), &api_version), ("kind", given("kind"), kind)]
    {
        if !given.is_empty() && given != *wanted {
            return Err(Failure::bad_request(format!(
                "the {key} in the data ({given}) does not match the expected {key} ({wanted})"
            )));
        }
    }
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.clone().into();
    object::ensure(object, "metadata");
    if !call.kind.namespaced {
        remove(object, "metadata.namespace");
        return Ok(());
    }
    match object::namespace(object) {
        "" => set(object, "metadata.namespace", call.namespace.clone().into()),
        namespace if namespace != call.namespace => {
            return Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        _ => {}
    }
    Ok(())
}

/// Decodes, and applies the defaults of custom resources.
pub(crate) fn decode_and_default(call: &Call<'_>, object: &mut Value, duplicates: Vec<String>) -> Result<()> {
    decode(call, object, duplicates)?;
    if let Some(custom) = call.kind.custom() {
        schema_decode::prune_nulls(&custom.schema, object);
    }
    apply_custom_defaults(call, object)
}

/// Applies the defaults of a CRD's schema.
pub(crate) fn apply_custom_defaults(call: &Call<'_>, object: &mut Value) -> Result<()> {
    match call.kind.custom() {
        Some(custom) if !custom.schema.apply_defaults(object) => {
            let definition = &custom.definition;
            let why = format!("the defaults of {definition} would make the object too large");
            Err(Failure::forbidden(&call.kind, object::name(object), &why))
        }
        _ => Ok(()),
    }
}

/// Checks types, and unknown and duplicate fields by `fieldValidation`, in the call's version.
pub(crate) fn decode(call: &Call<'_>, object: &mut Value, duplicates: Vec<String>) -> Result<()> {
    let Some(schema) = call.kind.schema() else { return Ok(()) };
    let managed_fields = remove(object, "metadata.managedFields");
    let report = if call.kind.custom().is_some() {
        schema_decode::prune(&schema, object)
    } else {
        schema_decode::typed(&schema, object)
    };
    if let Some(managed_fields) = managed_fields {
        set(object, "metadata.managedFields", managed_fields);
    }
    let cannot = |why: &str| {
        let (version, kind) = (&call.kind.version, &call.kind.kind);
        Failure::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
    };
    if !report.wrong.is_empty() {
        return Err(cannot(&report.wrong.join(", ")));
    }
    let unknown = report.unknown.iter().map(|path| format!("unknown field \"{path}\""));
    let problems: Vec<String> =
        unknown.chain(duplicates.iter().map(|path| format!("duplicate field \"{path}\""))).collect();
    match call.parameters.field_validation {
        FieldValidation::Strict if !problems.is_empty() => {
            return Err(cannot(&format!("strict decoding error: {}", problems.join(", "))));
        }
        FieldValidation::Warn => problems.into_iter().for_each(|problem| call.warn(problem)),
        _ => {}
    }
    Ok(())
}

pub(crate) fn refuse_invalid(call: &Call<'_>, errors: Vec<FieldError>) -> Result<()> {
    if errors.is_empty() { Ok(()) } else { Err(Failure::invalid(&call.kind, &call.name, &errors)) }
}

/// Refuses creation in a namespace that is missing or terminating.
fn namespace_is_open(call: &Call<'_>) -> Result<()> {
    let kind = call.server.registry().of_row(&NAMESPACE);
    let Some(kind) = kind else { return Ok(()) };
    let Some(namespace) = call.server.store.get(&Key::new(&kind.storage, "", &call.namespace)) else {
        return Err(Failure::not_found(&kind, &call.namespace));
    };
    if at(&namespace.value(), "metadata.deletionTimestamp").is_some() {
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            call.namespace
        );
        let mut failure = Failure::forbidden(&call.kind, &call.name, &why);
        let cause = json!({"reason": "NamespaceTerminating", "message": why, "field": "metadata.namespace"});
        set(failure.details.get_or_insert_with(|| json!({})), "causes", json!([cause]));
        return Err(failure);
    }
    Ok(())
}

/// Stores the object and returns it with its new resourceVersion.
pub(crate) async fn commit(
    call: &Call<'_>,
    object: Value,
    precondition: Precondition,
    delete: bool,
) -> std::result::Result<Value, WriteError> {
    if !delete {
        crate::bounds::check(&object).map_err(WriteError::TooLarge)?;
    }
    let change = Change { key: call.key(), precondition, object, delete, relaxed: call.kind.relaxed() };
    let stored = call.server.store.write(change).await?;
    Ok(stored.value())
}
