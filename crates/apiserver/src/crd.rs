//! CustomResourceDefinitions: an accepted one adds a kind to the table for each version it serves.
//!
//! A CRD is accepted by the write that stores it, which checks names and sets status conditions, so clients can use
//! its kind at once and `kubectl wait --for=condition=Established` succeeds immediately. Versions of a kind share
//! one storage and differ only in `apiVersion` (conversion strategy `None`).

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::jsonpath::JsonPath;
use crate::kinds::custom::{CustomKind, PrinterColumn, ScalePaths};
use crate::kinds::extension::{COLUMNS_MAX, CUSTOM_RESOURCE_DEFINITION};
use crate::kinds::{Definition, Kind, Registry, Sub};
use crate::object::{self, at, list, rfc3339, set, text};
use crate::schema::Schema;
use crate::state::ServerState;

/// Finalizer that keeps a CRD until its custom resources are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Maximum number of CRDs; each keeps its schema in memory.
const DEFINITIONS_MAX: usize = 500;

/// Loads all stored CRDs into the registry at start.
pub(crate) fn load(server: &ServerState) {
    let (found, _) = server.store.list(&CUSTOM_RESOURCE_DEFINITION.storage().into(), "", None);
    server.change_registry(|registry| {
        for stored in found {
            add(registry, &stored.value());
        }
    });
}

fn add(registry: &mut Registry, crd: &Value) {
    if is_established(crd) {
        let after = |row: &Arc<Kind>| row.custom().is_some_and(|c| *c.definition > *object::name(crd));
        let place = registry.kinds.iter().position(after).unwrap_or(registry.kinds.len());
        registry.kinds.splice(place..place, kinds(crd).into_iter().map(Arc::new));
    }
}

/// Synchronizes the kinds of one CRD with the store. The store is read while the registry is locked, so that of two
/// concurrent writes the later one prevails.
pub(crate) fn reload(server: &ServerState, name: &str) {
    server.change_registry(|registry| {
        remove(registry, name);
        if let Some(stored) =
            server.store.get(&crate::store::Key::new(&CUSTOM_RESOURCE_DEFINITION.storage().into(), "", name))
        {
            add(registry, &stored.value());
        }
    });
}

/// Removes the kinds of one CRD from the registry, so that they are no longer served.
pub(crate) fn unregister(server: &ServerState, name: &str) {
    server.change_registry(|registry| remove(registry, name));
}

fn remove(registry: &mut Registry, name: &str) {
    registry.kinds.retain(|row| row.custom().is_none_or(|custom| custom.definition != name));
}

fn is_established(crd: &Value) -> bool {
    let true_of =
        |condition: &Value| text(condition, "type") == "Established" && text(condition, "status") == "True";
    list(crd, "status.conditions").iter().any(true_of)
}

/// Returns the kinds that a CRD defines.
pub(crate) fn kinds(crd: &Value) -> Vec<Kind> {
    let (group, plural) = (text(crd, "spec.group"), text(crd, "spec.names.plural"));
    let strings = |path| list(crd, path).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let versions = list(crd, "spec.versions");
    let stored = versions
        .iter()
        .find(|version| version["storage"] == true)
        .map_or("", |version| text(version, "name"));
    let mut served: Vec<&Value> = versions.iter().filter(|version| version["served"] == true).collect();
    served.sort_by_key(|version| std::cmp::Reverse(version_priority(text(version, "name"))));
    let row = |version: &&Value| Kind {
        group: group.to_owned(),
        version: text(version, "name").to_owned(),
        kind: text(crd, "spec.names.kind").to_owned(),
        plural: plural.to_owned(),
        singular: text(crd, "spec.names.singular").to_owned(),
        namespaced: text(crd, "spec.scope") == "Namespaced",
        storage: format!("{group}/{plural}").into(),
        stored_api_version: format!("{group}/{stored}"),
        subresources: subresources(version),
        short_names: strings("spec.names.shortNames"),
        categories: strings("spec.names.categories"),
        definition: Definition::Custom(Arc::new(custom_kind(crd, version))),
    };
    served.iter().map(row).collect()
}

/// Sort key for Kubernetes' version order: GA before beta before alpha, newer before older.
fn version_priority(version: &str) -> (u8, u64, u64) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().unwrap_or(0);
    let (stage, minor) = match &rest[digits..] {
        "" => (3, ""),
        stage if stage.starts_with("beta") => (2, &stage[4..]),
        stage if stage.starts_with("alpha") => (1, &stage[5..]),
        _ => (0, ""),
    };
    (stage, major, minor.parse().unwrap_or(0))
}

fn subresources(version: &Value) -> Vec<Sub> {
    let all = [("scale", Sub::Scale), ("status", Sub::Status)];
    let has = |name: &str| at(version, "subresources").is_some_and(|subs| subs.get(name).is_some());
    all.into_iter().filter(|(name, _)| has(name)).map(|(_, sub)| sub).collect()
}

fn custom_kind(crd: &Value, version: &Value) -> CustomKind {
    let schema = at(version, "schema.openAPIV3Schema");
    let path = |field: &str| {
        let text = text(version, &format!("subresources.scale.{field}"));
        Some(text.trim_start_matches('.').to_owned()).filter(|text| !text.is_empty())
    };
    let scale = path("specReplicasPath").map(|spec| ScalePaths {
        spec,
        status: path("statusReplicasPath").unwrap_or_default(),
        selector: path("labelSelectorPath"),
    });
    let selectable = list(version, "selectableFields").iter().map(|field| text(field, "jsonPath"));
    CustomKind {
        list_kind: text(crd, "spec.names.listKind").to_owned(),
        schema: Arc::new(schema.map_or_else(|| Schema::any().clone(), Schema::of_custom_resource)),
        columns: columns(version),
        scale,
        selectable_fields: selectable.map(|path| path.trim_start_matches('.').to_owned()).collect(),
        definition: object::name(crd).to_owned(),
    }
}

fn columns(version: &Value) -> Vec<PrinterColumn> {
    let read = |column: &Value| {
        Some(PrinterColumn {
            name: text(column, "name").to_owned(),
            kind: text(column, "type").to_owned(),
            format: text(column, "format").to_owned(),
            description: text(column, "description").to_owned(),
            priority: object::integer(column, "priority").unwrap_or(0),
            path: JsonPath::parse(text(column, "jsonPath")).ok()?,
        })
    };
    let columns: Vec<PrinterColumn> =
        list(version, "additionalPrinterColumns").iter().take(COLUMNS_MAX).filter_map(read).collect();
    if !columns.is_empty() {
        return columns;
    }
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    read(&age).into_iter().collect()
}

/// Returns a kind's raw schema with descriptions, for OpenAPI.
pub(crate) fn raw_schema(server: &ServerState, kind: &Kind) -> Option<Value> {
    let custom = kind.custom()?;
    let key = crate::store::Key::new(&CUSTOM_RESOURCE_DEFINITION.storage().into(), "", &custom.definition);
    let crd = server.store.get(&key)?.value();
    let version = list(&crd, "spec.versions").iter().find(|version| text(version, "name") == kind.version)?;
    at(version, "schema.openAPIV3Schema").cloned()
}

/// Sets the status and finalizer of a CRD before it is stored.
pub(crate) fn set_status(server: &ServerState, crd: &mut Value, now: Timestamp) {
    if at(crd, "metadata.deletionTimestamp").is_some() {
        return;
    }
    let taken = name_conflict(server, crd);
    let key = crate::store::Key::new(&CUSTOM_RESOURCE_DEFINITION.storage().into(), "", object::name(crd));
    let full = server.store.get(&key).is_none()
        && server.store.count(&CUSTOM_RESOURCE_DEFINITION.storage()) >= DEFINITIONS_MAX;
    let (accepted, reason, message) = match taken {
        _ if full => (
            "False",
            "TooMany",
            format!("this server accepts at most {DEFINITIONS_MAX} CustomResourceDefinitions"),
        ),
        Some(message) => ("False", "NameConflict", message),
        None => ("True", "NoConflicts", "no conflicts found".into()),
    };
    condition(crd, "NamesAccepted", accepted, reason, &message, now);
    let (reason, message) = match accepted {
        "True" => ("InitialNamesAccepted", "the initial names have been accepted"),
        _ => ("NotAccepted", "not all names are accepted"),
    };
    condition(crd, "Established", accepted, reason, message, now);
    let names = crd["spec"]["names"].clone();
    set(crd, "status.acceptedNames", names);
    let stored: Vec<Value> = list(crd, "spec.versions")
        .iter()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    let status = object::ensure(crd, "status");
    object::default(status, "storedVersions", json!([]));
    if let Some(versions) = status["storedVersions"].as_array_mut() {
        versions.extend(stored.into_iter().filter(|name| !versions.contains(name)).collect::<Vec<_>>());
    }
    let metadata = object::ensure(crd, "metadata");
    object::default(metadata, "finalizers", json!([]));
    if let Some(finalizers) = metadata["finalizers"].as_array_mut()
        && !finalizers.iter().any(|one| one == CLEANUP)
    {
        finalizers.push(CLEANUP.into());
    }
}

fn name_conflict(server: &ServerState, crd: &Value) -> Option<String> {
    let registry = server.registry();
    let (group, kind) = (text(crd, "spec.group"), text(crd, "spec.names.kind"));
    let other = |row: &&Arc<Kind>| {
        row.group == group
            && row.kind == kind
            && row.custom().is_none_or(|custom| custom.definition != object::name(crd))
    };
    registry.kinds.iter().find(other).map(|_| format!("\"{kind}\" is already in use"))
}

/// Sets a condition, keeping its transition time if the status is unchanged.
fn condition(crd: &mut Value, name: &str, status: &str, reason: &str, message: &str, now: Timestamp) {
    let list = object::ensure(crd, "status");
    object::default(list, "conditions", json!([]));
    let Some(conditions) = list["conditions"].as_array_mut() else { return };
    let mut new = json!({"type": name, "status": status, "reason": reason, "message": message});
    match conditions.iter_mut().find(|condition| text(condition, "type") == name) {
        Some(old) => {
            let same = text(old, "status") == status;
            new["lastTransitionTime"] =
                if same { old["lastTransitionTime"].clone() } else { rfc3339(now).into() };
            *old = new;
        }
        None => {
            new["lastTransitionTime"] = rfc3339(now).into();
            conditions.push(new);
        }
    }
}

/// Sets the Terminating condition of a CRD.
pub(crate) fn mark_terminating(crd: &mut Value, now: Timestamp) {
    condition(
        crd,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        now,
    );
}
