//! The table of kinds: everything that is specific to one resource.
//!
//! Each verb is implemented once and reads this table. A built-in kind is a [`Row`] in a file of its own or of
//! related kinds, plus its line in [`ROWS`]. An established CustomResourceDefinition adds a kind for each version
//! it serves. Readers take a snapshot ([`Registry`] behind an `Arc`), so changing a CRD does not affect requests in
//! progress.
//!
//! Names, short names, categories and subresources are those of `kubectl api-resources` on Kubernetes 1.37. Kinds
//! that nothing here acts on (DaemonSets, RBAC, …) are stored, so that manifests that contain them apply.

mod autoscaling;
mod batch;
mod bodies;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod custom;
pub(crate) mod events;
pub(crate) mod extension;
mod network;
pub(crate) mod pod;
pub(crate) mod policy;
mod rbac;
mod reviews;
pub(crate) mod row;
pub(crate) mod service;
mod storage;
#[cfg(test)]
mod tests;
pub(crate) mod workloads;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::schema::{Schema, builtin};
use custom::CustomKind;
pub(crate) use row::{Generation, Row, Sub};

/// The built-in kinds, in discovery's order.
const ROWS: &[&Row] = &[
    &config::CONFIG_MAP,
    &network::ENDPOINTS,
    &events::EVENT,
    &config::LIMIT_RANGE,
    &cluster::NAMESPACE,
    &cluster::NODE,
    &storage::PERSISTENT_VOLUME_CLAIM,
    &storage::PERSISTENT_VOLUME,
    &pod::POD,
    &pod::POD_TEMPLATE,
    &workloads::REPLICATION_CONTROLLER,
    &config::RESOURCE_QUOTA,
    &config::SECRET,
    &config::SERVICE_ACCOUNT,
    &service::SERVICE,
    &workloads::CONTROLLER_REVISION,
    &workloads::DAEMON_SET,
    &workloads::DEPLOYMENT,
    &workloads::REPLICA_SET,
    &workloads::STATEFUL_SET,
    &events::EVENT_V1,
    &reviews::SELF_SUBJECT_REVIEW,
    &reviews::LOCAL_SUBJECT_ACCESS_REVIEW,
    &reviews::SELF_SUBJECT_ACCESS_REVIEW,
    &reviews::SELF_SUBJECT_RULES_REVIEW,
    &reviews::SUBJECT_ACCESS_REVIEW,
    &autoscaling::HORIZONTAL_POD_AUTOSCALER,
    &autoscaling::HORIZONTAL_POD_AUTOSCALER_V1,
    &batch::CRON_JOB,
    &batch::JOB,
    &cluster::CERTIFICATE_SIGNING_REQUEST,
    &network::INGRESS,
    &network::INGRESS_CLASS,
    &network::NETWORK_POLICY,
    &policy::POD_DISRUPTION_BUDGET,
    &rbac::CLUSTER_ROLE_BINDING,
    &rbac::CLUSTER_ROLE,
    &rbac::ROLE_BINDING,
    &rbac::ROLE,
    &storage::STORAGE_CLASS,
    &extension::MUTATING_WEBHOOK_CONFIGURATION,
    &extension::VALIDATING_WEBHOOK_CONFIGURATION,
    &extension::CUSTOM_RESOURCE_DEFINITION,
    &cluster::PRIORITY_CLASS,
    &cluster::LEASE,
    &network::ENDPOINT_SLICE,
];

/// What defines a kind.
#[derive(Debug, Clone)]
pub(crate) enum Definition {
    /// A row of [`ROWS`].
    Builtin(&'static Row),
    /// A version of a CustomResourceDefinition.
    Custom(Arc<CustomKind>),
}

/// A resource of one group and version.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) namespaced: bool,
    /// Group and plural under which objects are stored (`apps/deployments`).
    pub(crate) storage: Arc<str>,
    /// The `apiVersion` of the stored form.
    pub(crate) stored_api_version: String,
    pub(crate) subresources: Vec<Sub>,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) definition: Definition,
}

/// The verbs of a stored resource.
pub(crate) const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl From<&'static Row> for Kind {
    fn from(row: &'static Row) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let own_api_version = || group_version(row.group, row.version);
        Self {
            group: row.group.into(),
            version: row.version.into(),
            kind: row.kind.into(),
            plural: row.plural.into(),
            singular: row.kind.to_lowercase(),
            namespaced: row.namespaced,
            storage: row.storage().into(),
            stored_api_version: row
                .stored_as
                .map_or_else(own_api_version, |stored| stored.api_version.into()),
            subresources: row.subresources.to_vec(),
            short_names: owned(row.short_names),
            categories: if row.in_all { owned(&["all"]) } else { Vec::new() },
            definition: Definition::Builtin(row),
        }
    }
}

impl Kind {
    /// Returns `apps/v1`, or `v1` in the core group.
    pub(crate) fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }

    /// Returns the kind of a list: `DeploymentList`.
    pub(crate) fn list_kind(&self) -> String {
        self.custom().map_or_else(|| format!("{}List", self.kind), |custom| custom.list_kind.clone())
    }

    pub(crate) fn has(&self, sub: Sub) -> bool {
        self.subresources.contains(&sub)
    }

    /// Returns the row of a built-in kind.
    pub(crate) fn row(&self) -> Option<&'static Row> {
        match &self.definition {
            Definition::Builtin(row) => Some(row),
            Definition::Custom(_) => None,
        }
    }

    /// Returns the CRD's definition of a custom kind.
    pub(crate) fn custom(&self) -> Option<&Arc<CustomKind>> {
        match &self.definition {
            Definition::Builtin(_) => None,
            Definition::Custom(custom) => Some(custom),
        }
    }

    /// Returns whether this is the built-in kind of that row, in any version.
    pub(crate) fn is(&self, row: &Row) -> bool {
        self.row().is_some_and(|own| own.plural == row.plural && own.kind == row.kind)
    }

    /// Returns whether the kind only has `create` and is not stored.
    pub(crate) fn is_review(&self) -> bool {
        self.row().is_some_and(|row| row.review)
    }

    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        if self.is_review() { &["create"] } else { &VERBS }
    }

    /// Returns whether a write may become durable later; see [`crate::store`].
    pub(crate) fn relaxed(&self) -> bool {
        self.row().is_some_and(|row| row.relaxed)
    }

    /// Returns the fields that a field selector may name (`pkg/registry/*/strategy.go`,
    /// `pkg/apis/core/v1/conversion.go`).
    pub(crate) fn selectable_fields(&self) -> Vec<&str> {
        let mut fields = vec!["metadata.name", "metadata.namespace"];
        match &self.definition {
            Definition::Builtin(row) => fields.extend_from_slice(row.field_selectors),
            Definition::Custom(custom) => fields.extend(custom.selectable_fields.iter().map(String::as_str)),
        }
        fields
    }

    /// Returns whether an object has `metadata.generation`.
    pub(crate) fn has_generation(&self, object: &Value) -> bool {
        match self.row().map(|row| row.generation) {
            None | Some(Generation::Always) => true,
            Some(Generation::WithSpec) => object.get("spec").is_some(),
            Some(Generation::Never) => false,
        }
    }

    /// Applies defaults to an object in stored form. Custom resources get theirs from the schema when they are
    /// decoded.
    pub(crate) fn apply_defaults(&self, object: &mut Value) {
        if let Some(row) = self.row() {
            (row.defaults)(object);
        }
    }

    /// Sets the status and other server-set fields of a new object.
    pub(crate) fn prepare_for_create(&self, object: &mut Value, now: Timestamp) {
        if let Some(row) = self.row() {
            (row.on_create)(object, now);
        }
    }

    /// Copies fields that an update cannot change from the current object.
    pub(crate) fn prepare_for_update(&self, current: &Value, object: &mut Value, sub: Option<Sub>) {
        if let Some(row) = self.row() {
            (row.on_update)(current, object, sub);
        }
    }

    /// Converts from the stored form to this version.
    pub(crate) fn to_version(&self, mut stored: Value) -> Value {
        if let Some(as_stored) = self.row().and_then(|row| row.stored_as) {
            return (as_stored.from_stored)(stored);
        }
        let api_version = self.api_version();
        if stored["apiVersion"] != api_version {
            stored["apiVersion"] = api_version.into();
        }
        stored
    }

    /// Converts from this version to the stored form.
    pub(crate) fn to_stored(&self, mut object: Value) -> Value {
        if let Some(as_stored) = self.row().and_then(|row| row.stored_as) {
            return (as_stored.to_stored)(object);
        }
        object["apiVersion"] = self.stored_api_version.clone().into();
        object
    }

    /// Returns whether this version is the stored form, so that stored bytes can be sent as they are.
    pub(crate) fn is_stored_form(&self) -> bool {
        match self.row() {
            Some(row) => row.stored_as.is_none(),
            None => self.stored_api_version == self.api_version(),
        }
    }

    /// Returns the schema of the whole object, or `None` if the kind has none.
    pub(crate) fn schema(&self) -> Option<Arc<Schema>> {
        match &self.definition {
            Definition::Custom(custom) => Some(custom.schema.clone()),
            Definition::Builtin(row) => Some(builtin::of(&self.api_version(), row.kind, row.schema)),
        }
    }

    /// Returns the schema of the stored form; an unrestricted one if there is none.
    pub(crate) fn stored_schema(&self) -> Arc<Schema> {
        let found = match self.row().and_then(|row| row.stored_as) {
            Some(stored) => schema_of(stored.api_version, &self.kind),
            None => self.schema(),
        };
        found.unwrap_or_else(|| Arc::new(Schema::any().clone()))
    }
}

impl crate::status::ResourceName for Kind {
    fn group(&self) -> &str {
        &self.group
    }

    fn plural(&self) -> &str {
        &self.plural
    }

    fn kind(&self) -> &str {
        &self.kind
    }
}

/// Returns the schema generator of a built-in kind or of a subresource's body.
pub(crate) fn generator(api_version: &str, kind: &str) -> Option<builtin::Generator> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let wanted = |row: &&Row| row.group == group && row.version == version && row.kind == kind;
    ROWS.iter().copied().chain(&bodies::BODIES).find(wanted).map(|row| row.schema)
}

/// Returns the schema of a built-in kind or of a subresource's body.
pub(crate) fn schema_of(api_version: &str, kind: &str) -> Option<Arc<Schema>> {
    Some(builtin::of(api_version, kind, generator(api_version, kind)?))
}

/// Returns `group/version`, or only the version in the core group.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// All served kinds, in discovery's order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    pub(crate) kinds: Vec<Arc<Kind>>,
}

impl Registry {
    /// Returns the built-in kinds.
    pub(crate) fn builtin() -> Self {
        Self::of(ROWS)
    }

    fn of(rows: &[&'static Row]) -> Self {
        Self { kinds: rows.iter().map(|row| Arc::new(Kind::from(*row))).collect() }
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let found =
            |kind: &&Arc<Kind>| kind.plural == plural && kind.version == version && kind.group == group;
        self.kinds.iter().find(found).cloned()
    }

    /// Returns the kind of a built-in row, as long as the table has it.
    pub(crate) fn of_row(&self, row: &Row) -> Option<Arc<Kind>> {
        self.find(row.group, row.version, row.plural)
    }

    /// Returns one kind for each stored resource: the one of the stored version, or else the first.
    pub(crate) fn stored(&self) -> Vec<Arc<Kind>> {
        let mut found: Vec<Arc<Kind>> = Vec::new();
        for kind in self.kinds.iter().filter(|kind| !kind.is_review()) {
            match found.iter_mut().find(|one| one.storage == kind.storage) {
                Some(one) if kind.api_version() == kind.stored_api_version => *one = kind.clone(),
                Some(_) => {}
                None => found.push(kind.clone()),
            }
        }
        found
    }
}
