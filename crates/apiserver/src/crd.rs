//! CustomResourceDefinitions: an accepted one adds a row to the table of kinds for each version it serves.
//!
//! A CRD is accepted in the write that stores it (names free, status conditions set), so a client that has created
//! one can use it at once; `kubectl wait --for=condition=Established` finds the condition there. Versions of a kind
//! share one storage and differ in `apiVersion` only (conversion strategy `None`).

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::jsonpath::JsonPath;
use crate::kinds::{Conversion, Kind, Registry, Sub};
use crate::object::{self, at, list, set, text};
use crate::path::{Path, shortened};
use crate::schema::{Pattern, Schema};
use crate::server::Inner;
use crate::status::{FieldError, PROBLEMS_MAX};
use crate::validate::names;
use crate::verbs::{empty, second};

/// The storage name of CRDs.
pub(crate) const STORAGE: &str = "apiextensions.k8s.io/customresourcedefinitions";
/// The finalizer that keeps a CRD until its custom resources are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// CRDs on one server; each keeps its schema in memory.
const DEFINITIONS_MAX: usize = 500;
/// Schemas within those of one CRD: each field has one. Large CRDs have some thousands, and each may take kilobytes.
const SCHEMAS_MAX: usize = 30_000;
/// Different patterns in one CRD. Each is compiled when the CRD is stored, and may take a megabyte once it is used.
const PATTERNS_MAX: usize = 200;
/// Printer columns of one version, printed for each object of a list.
const COLUMNS_MAX: usize = 64;
/// Length of the paths in `subresources.scale`.
const SCALE_PATH_BYTES_MAX: usize = 1024;

/// A printer column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) path: JsonPath,
}

/// Paths of the scale subresource, without the leading dot.
#[derive(Debug, Clone)]
pub(crate) struct ScalePaths {
    pub(crate) spec: String,
    pub(crate) status: String,
    pub(crate) selector: Option<String>,
}

/// What a CRD says about one version.
#[derive(Debug, Clone)]
pub(crate) struct CustomKind {
    pub(crate) list_kind: String,
    pub(crate) schema: Arc<Schema>,
    pub(crate) columns: Vec<Column>,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) selectable_fields: Vec<String>,
    /// The name of the CRD, to read its texts for OpenAPI.
    pub(crate) definition: String,
}

/// Reads all stored CRDs into the registry; at start.
pub(crate) fn load(server: &Inner) {
    let (found, _) = server.store.list(&STORAGE.into(), "", None);
    server.change_registry(|registry| {
        for stored in found {
            add(registry, &stored.value());
        }
    });
}

fn add(registry: &mut Registry, crd: &Value) {
    if is_established(crd) {
        let after = |row: &Arc<Kind>| row.custom.as_ref().is_some_and(|c| *c.definition > *object::name(crd));
        let place = registry.kinds.iter().position(after).unwrap_or(registry.kinds.len());
        registry.kinds.splice(place..place, kinds(crd).into_iter().map(Arc::new));
    }
}

/// Brings the rows of one CRD up to date with the store. The store is read while the registry is held, so that of
/// two writes at once the later one stays.
pub(crate) fn reload(server: &Inner, name: &str) {
    server.change_registry(|registry| {
        remove(registry, name);
        if let Some(stored) = server.store.get(&crate::store::Key::new(&STORAGE.into(), "", name)) {
            add(registry, &stored.value());
        }
    });
}

/// Takes the rows of one CRD off the table: the kind is no longer served.
pub(crate) fn withdraw(server: &Inner, name: &str) {
    server.change_registry(|registry| remove(registry, name));
}

fn remove(registry: &mut Registry, name: &str) {
    registry.kinds.retain(|row| row.custom.as_ref().is_none_or(|custom| custom.definition != name));
}

fn is_established(crd: &Value) -> bool {
    let true_of =
        |condition: &Value| text(condition, "type") == "Established" && text(condition, "status") == "True";
    list(crd, "status.conditions").iter().any(true_of)
}

/// The rows of a CRD.
fn kinds(crd: &Value) -> Vec<Kind> {
    let (group, plural) = (text(crd, "spec.group"), text(crd, "spec.names.plural"));
    let strings = |path| list(crd, path).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let versions = list(crd, "spec.versions");
    let stored = versions
        .iter()
        .find(|version| version["storage"] == true)
        .map_or("", |version| text(version, "name"));
    let mut served: Vec<&Value> = versions.iter().filter(|version| version["served"] == true).collect();
    served.sort_by_key(|version| std::cmp::Reverse(priority(text(version, "name"))));
    let row = |version: &&Value| Kind {
        group: group.to_owned(),
        version: text(version, "name").to_owned(),
        kind: text(crd, "spec.names.kind").to_owned(),
        plural: plural.to_owned(),
        singular: text(crd, "spec.names.singular").to_owned(),
        namespaced: text(crd, "spec.scope") == "Namespaced",
        storage: format!("{group}/{plural}").into(),
        stored_api_version: format!("{group}/{stored}"),
        conversion: Conversion::ApiVersion,
        subresources: subresources(version),
        short_names: strings("spec.names.shortNames"),
        categories: strings("spec.names.categories"),
        review: false,
        custom: Some(Arc::new(custom_kind(crd, version))),
    };
    served.iter().map(row).collect()
}

/// Kubernetes' order of versions: GA before beta before alpha, newer before older.
fn priority(version: &str) -> (u8, u64, u64) {
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

fn columns(version: &Value) -> Vec<Column> {
    let read = |column: &Value| {
        Some(Column {
            name: text(column, "name").to_owned(),
            kind: text(column, "type").to_owned(),
            format: text(column, "format").to_owned(),
            description: text(column, "description").to_owned(),
            priority: object::integer(column, "priority").unwrap_or(0),
            path: JsonPath::parse(text(column, "jsonPath")).ok()?,
        })
    };
    let columns: Vec<Column> =
        list(version, "additionalPrinterColumns").iter().take(COLUMNS_MAX).filter_map(read).collect();
    if !columns.is_empty() {
        return columns;
    }
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    read(&age).into_iter().collect()
}

/// The raw schema of a kind, with its texts; for OpenAPI.
pub(crate) fn raw_schema(server: &Inner, kind: &Kind) -> Option<Value> {
    let custom = kind.custom.as_ref()?;
    let key = crate::store::Key::new(&STORAGE.into(), "", &custom.definition);
    let crd = server.store.get(&key)?.value();
    let version = list(&crd, "spec.versions").iter().find(|version| text(version, "name") == kind.version)?;
    at(version, "schema.openAPIV3Schema").cloned()
}

/// Fills in names (`apiextensions/v1/defaults.go`).
pub(crate) fn apply_defaults(crd: &mut Value) {
    let kind = text(crd, "spec.names.kind").to_owned();
    let names = object::ensure(object::ensure(crd, "spec"), "names");
    object::default(names, "singular", kind.to_lowercase());
    object::default(names, "listKind", format!("{kind}List"));
    object::default(&mut crd["spec"], "conversion", json!({"strategy": "None"}));
}

/// What is wrong with a CRD.
pub(crate) fn validate(crd: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (group, plural, name) = (text(crd, "spec.group"), text(crd, "spec.names.plural"), object::name(crd));
    if name != format!("{plural}.{group}") {
        let detail = format!("must be spec.names.plural+\".\"+spec.group: {plural}.{group}");
        errors.push(FieldError::invalid("metadata.name", &name.into(), detail));
    }
    for (field, problem) in
        [("spec.group", names::dns_subdomain(group)), ("spec.names.plural", names::dns_label(plural))]
    {
        match problem {
            _ if text(crd, field).is_empty() => errors.push(FieldError::required(field, "")),
            Some(why) => errors.push(FieldError::invalid(field, &text(crd, field).into(), why)),
            None => {}
        }
    }
    if text(crd, "spec.names.kind").is_empty() {
        errors.push(FieldError::required("spec.names.kind", ""));
    }
    let scope = text(crd, "spec.scope");
    if !["Cluster", "Namespaced"].contains(&scope) {
        errors.push(FieldError::not_supported("spec.scope", &scope.into(), &["Cluster", "Namespaced"]));
    }
    if text(crd, "spec.conversion.strategy") != "None" {
        let strategy = &crd["spec"]["conversion"]["strategy"];
        errors.push(FieldError::not_supported("spec.conversion.strategy", strategy, &["None"]));
    }
    versions(crd, &mut errors);
    errors
}

fn versions(crd: &Value, errors: &mut Vec<FieldError>) {
    let versions = list(crd, "spec.versions");
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", &crd["spec"]["versions"], detail));
    }
    let mut schemas = Schemas::default();
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let name = text(version, "name");
        if let Some(why) = names::dns_1035_label(name) {
            errors.push(FieldError::invalid(format!("{path}.name"), &name.into(), why));
        }
        match at(version, "schema.openAPIV3Schema") {
            None => {
                errors.push(FieldError::required(
                    format!("{path}.schema.openAPIV3Schema"),
                    "schemas are required",
                ));
            }
            Some(schema) => {
                let path = format!("{path}.schema.openAPIV3Schema");
                schemas.visit(schema, Path::Root.field(&path), 0, errors);
            }
        }
        let columns = list(version, "additionalPrinterColumns");
        if columns.len() > COLUMNS_MAX {
            let path = format!("{path}.additionalPrinterColumns");
            errors.push(FieldError::too_many(path, columns.len(), COLUMNS_MAX));
        }
        for (index, column) in columns.iter().take(COLUMNS_MAX).enumerate() {
            if let Err(why) = JsonPath::parse(text(column, "jsonPath")) {
                let path = format!("{path}.additionalPrinterColumns[{index}].jsonPath");
                errors.push(FieldError::invalid(path, &column["jsonPath"], why));
            }
        }
        for field in ["specReplicasPath", "statusReplicasPath", "labelSelectorPath"] {
            let field = format!("subresources.scale.{field}");
            if text(version, &field).len() > SCALE_PATH_BYTES_MAX {
                errors.push(FieldError::too_long(format!("{path}.{field}"), SCALE_PATH_BYTES_MAX));
            }
        }
    }
    if schemas.count > SCHEMAS_MAX {
        let why = format!("the schemas have more than {SCHEMAS_MAX} fields together");
        errors.push(FieldError::forbidden("spec.versions", &why));
    }
    if schemas.patterns.len() > PATTERNS_MAX {
        let why = format!("the schemas have more than {PATTERNS_MAX} different patterns");
        errors.push(FieldError::forbidden("spec.versions", &why));
    }
}

/// What the schemas of a CRD have, as far as there are bounds on it.
#[derive(Default)]
struct Schemas<'a> {
    count: usize,
    patterns: BTreeSet<&'a str>,
}

impl<'a> Schemas<'a> {
    fn visit(&mut self, schema: &'a Value, path: Path<'_>, depth: usize, errors: &mut Vec<FieldError>) {
        self.count += 1;
        if self.count > SCHEMAS_MAX || errors.len() > PROBLEMS_MAX {
            return;
        }
        if depth > crate::schema::DEPTH_MAX {
            return errors.push(FieldError::forbidden(path, "the schema is nested too deep"));
        }
        if schema.get("$ref").is_some() {
            errors.push(FieldError::forbidden(path.field("$ref"), "$ref is not supported"));
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
            self.pattern(pattern, path.field("pattern"), errors);
        }
        for (key, inner) in object::map(schema, "properties").into_iter().flatten() {
            let name = format!("properties[{}]", shortened(key));
            self.visit(inner, path.field(&name), depth + 1, errors);
        }
        for key in ["items", "additionalProperties", "not"] {
            if let Some(inner) = schema.get(key) {
                self.visit(inner, path.field(key), depth + 1, errors);
            }
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            let list_path = path.field(key);
            for (index, inner) in list(schema, key).iter().enumerate() {
                self.visit(inner, list_path.item(index), depth + 1, errors);
            }
        }
    }

    fn pattern(&mut self, pattern: &'a str, path: Path<'_>, errors: &mut Vec<FieldError>) {
        let new = self.patterns.len() <= PATTERNS_MAX && self.patterns.insert(pattern);
        if new && Pattern::compile(pattern).is_none() {
            let why =
                "must be a valid regular expression (look-around and back-references are not supported)";
            errors.push(FieldError::invalid(path, &pattern.into(), why));
        }
    }
}

/// Sets status and finalizer of a CRD that is about to be stored.
pub(crate) fn accept(server: &Inner, crd: &mut Value, now: Timestamp) {
    if at(crd, "metadata.deletionTimestamp").is_some() {
        return;
    }
    let taken = taken_by(server, crd);
    let key = crate::store::Key::new(&STORAGE.into(), "", object::name(crd));
    let full = server.store.get(&key).is_none() && server.store.count(STORAGE) >= DEFINITIONS_MAX;
    let (accepted, reason, message) = match taken {
        _ if full => {
            ("False", "TooMany", format!("{DEFINITIONS_MAX} definitions are the limit of this server"))
        }
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

fn taken_by(server: &Inner, crd: &Value) -> Option<String> {
    let registry = server.registry();
    let (group, kind) = (text(crd, "spec.group"), text(crd, "spec.names.kind"));
    let other = |row: &&Arc<Kind>| {
        row.group == group
            && row.kind == kind
            && row.custom.as_ref().is_none_or(|custom| custom.definition != object::name(crd))
    };
    registry.kinds.iter().find(other).map(|_| format!("\"{kind}\" is already in use"))
}

/// Sets a condition, keeping its time when it did not change.
fn condition(crd: &mut Value, name: &str, status: &str, reason: &str, message: &str, now: Timestamp) {
    let list = object::ensure(crd, "status");
    object::default(list, "conditions", json!([]));
    let Some(conditions) = list["conditions"].as_array_mut() else { return };
    let mut new = json!({"type": name, "status": status, "reason": reason, "message": message});
    match conditions.iter_mut().find(|condition| text(condition, "type") == name) {
        Some(old) => {
            let same = text(old, "status") == status;
            new["lastTransitionTime"] =
                if same { old["lastTransitionTime"].clone() } else { second(now).into() };
            *old = new;
        }
        None => {
            new["lastTransitionTime"] = second(now).into();
            conditions.push(new);
        }
    }
}

/// Notes that a CRD is being deleted.
pub(crate) fn terminate(crd: &mut Value, now: Timestamp) {
    condition(
        crd,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        now,
    );
}

/// Follows a stored change: the registry, and for a deletion the custom resources.
pub(crate) fn written(server: &Arc<Inner>, kind: &Arc<Kind>, crd: &Value) {
    reload(server, object::name(crd));
    if at(crd, "metadata.deletionTimestamp").is_some() && !list(crd, "metadata.finalizers").is_empty() {
        let custom: Vec<Arc<Kind>> = kinds(crd).into_iter().take(1).map(Arc::new).collect();
        empty::definition(server, kind, object::name(crd), custom);
    }
}
