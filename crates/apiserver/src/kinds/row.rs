//! A row of the table of kinds: everything specific to a built-in resource.
//!
//! A row is data and pure functions of an object. Omitted fields take the common case: no defaults, no validation
//! rules, columns Name and Created At.

use jiff::Timestamp;
use k8s_openapi::schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use crate::cells::{self, Cells, Column};
use crate::names;
use crate::problems::Problems;

/// A subresource that a kind may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sub {
    Status,
    Scale,
    Finalize,
    Log,
    Eviction,
    Binding,
    Resize,
    Proxy,
}

impl Sub {
    /// Returns the subresource's path segment.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Finalize => "finalize",
            Self::Log => "log",
            Self::Eviction => "eviction",
            Self::Binding => "binding",
            Self::Resize => "resize",
            Self::Proxy => "proxy",
        }
    }

    pub(crate) fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Status | Self::Scale | Self::Resize => &["get", "patch", "update"],
            Self::Finalize => &["update"],
            Self::Log => &["get"],
            Self::Eviction | Self::Binding => &["create"],
            Self::Proxy => &["get"],
        }
    }

    /// Returns group, version and kind of the body if they differ from the parent's.
    pub(crate) fn response_kind(self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Self::Scale => Some(("autoscaling", "v1", "Scale")),
            Self::Eviction => Some(("policy", "v1", "Eviction")),
            Self::Binding => Some(("", "v1", "Binding")),
            Self::Proxy => Some(("", "v1", "NodeProxyOptions")),
            Self::Status | Self::Finalize | Self::Log | Self::Resize => None,
        }
    }
}

/// The stored form of a resource that is stored as another version or under another group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredAs {
    /// The group in storage names.
    pub(crate) group: &'static str,
    /// The `apiVersion` of the stored form.
    pub(crate) api_version: &'static str,
    pub(crate) from_stored: fn(Value) -> Value,
    pub(crate) to_stored: fn(Value) -> Value,
}

/// Which objects have `metadata.generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Only objects with a `spec`.
    WithSpec,
    Always,
    Never,
}

/// Everything specific to a built-in resource of one group and version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The API group, "" for core.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) short_names: &'static [&'static str],
    /// Whether the resource is in the category `all`, which `kubectl get all` lists.
    pub(crate) in_all: bool,
    pub(crate) subresources: &'static [Sub],
    /// Whether only `create` exists and nothing is stored (SelfSubjectReview and the like).
    pub(crate) review: bool,
    pub(crate) stored_as: Option<StoredAs>,
    /// Generates the JSON schema, including the schemas it refers to.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) columns: &'static [Column],
    pub(crate) cells: Cells,
    /// Returns the `conditions` of an object's table row, by which kubectl may filter it.
    pub(crate) row_conditions: fn(&Value) -> Option<Value>,
    /// Selectable fields besides `metadata.name` and `metadata.namespace`.
    pub(crate) field_selectors: &'static [&'static str],
    /// Returns what is wrong with a name, or `None`.
    pub(crate) name_rule: fn(&str) -> Option<String>,
    /// Applies defaults to an object in stored form.
    pub(crate) defaults: fn(&mut Value),
    /// Sets the status and other server-set fields of a new object.
    pub(crate) on_create: fn(&mut Value, Timestamp),
    /// Copies fields that an update cannot change from the current object (first argument).
    pub(crate) on_update: fn(&Value, &mut Value, Option<Sub>),
    /// Validates an object by itself.
    pub(crate) validate: fn(&Value, &mut Problems),
    /// Validates an update against the current object (first argument).
    pub(crate) validate_update: fn(&Value, &Value, Option<Sub>, &mut Problems),
    pub(crate) generation: Generation,
    /// Whether a write may become durable later: see [`crate::store`].
    pub(crate) relaxed: bool,
    /// Whether creation keeps a status in the request.
    pub(crate) keeps_new_status: bool,
    /// Whether `/status` also sets labels, annotations and finalizers.
    pub(crate) status_has_metadata: bool,
}

/// Returns a row of a namespaced resource with the schema of `T`.
pub(crate) const fn namespaced<T: JsonSchema>(
    [group, version]: [&'static str; 2],
    kind: &'static str,
    plural: &'static str,
) -> Row {
    Row {
        group,
        version,
        kind,
        plural,
        namespaced: true,
        short_names: &[],
        in_all: false,
        subresources: &[],
        review: false,
        stored_as: None,
        schema: SchemaGenerator::subschema_for::<T>,
        columns: const { &[cells::NAME, cells::column("Created At")] },
        cells: cells::name_and_creation,
        row_conditions: |_| None,
        field_selectors: &[],
        name_rule: names::dns_subdomain,
        defaults: |_| {},
        on_create: |_, _| {},
        on_update: |_, _, _| {},
        validate: |_, _| {},
        validate_update: |_, _, _, _| {},
        generation: Generation::WithSpec,
        relaxed: false,
        keeps_new_status: false,
        status_has_metadata: false,
    }
}

/// Returns a row of a cluster-scoped resource with the schema of `T`.
pub(crate) const fn cluster_scoped<T: JsonSchema>(
    group_version: [&'static str; 2],
    kind: &'static str,
    plural: &'static str,
) -> Row {
    Row { namespaced: false, ..namespaced::<T>(group_version, kind, plural) }
}

impl Row {
    /// Returns the group and plural under which objects are stored: `core/pods`, `apps/deployments`.
    pub(crate) fn storage(&self) -> String {
        let group = match (&self.stored_as, self.group) {
            (Some(stored), _) => stored.group,
            (None, "") => "core",
            (None, group) => group,
        };
        format!("{group}/{}", self.plural)
    }
}
