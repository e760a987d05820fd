//! A row of the table of kinds: all that the server knows of a built-in resource.
//!
//! A row is data and pure functions over an object. What it leaves out is what most kinds have: no defaults, no rules, Name
//! and Created At as columns.

use jiff::Timestamp;
use k8s_openapi::schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use crate::cells::{self, Cells, Column};
use crate::names;
use crate::problems::Problems;

/// A subresource and what it does.
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
    /// The path segment.
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

    /// Group, version and kind of the body, where it is not the parent's.
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

/// How objects of this version are stored, where that is as another version or under another group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredAs {
    /// The group, as in the names of the store.
    pub(crate) group: &'static str,
    /// The `apiVersion`.
    pub(crate) api_version: &'static str,
    pub(crate) from_stored: fn(Value) -> Value,
    pub(crate) to_stored: fn(Value) -> Value,
}

/// Whether objects have `metadata.generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Those with a `spec`.
    WithSpec,
    Always,
    Never,
}

/// What the server knows of a built-in resource of one group and version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The API group, "" for core.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) short_names: &'static [&'static str],
    /// Whether `kubectl get all` shows it.
    pub(crate) in_all: bool,
    pub(crate) subresources: &'static [Sub],
    /// Only `create` exists, and nothing is stored (SelfSubjectReview and the like).
    pub(crate) review: bool,
    pub(crate) stored_as: Option<StoredAs>,
    /// The JSON schema, with that of all it refers to.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) columns: &'static [Column],
    pub(crate) cells: Cells,
    /// `conditions` of a row of a table, which kubectl may filter by.
    pub(crate) row_conditions: fn(&Value) -> Option<Value>,
    /// Fields that can be selected, beside `metadata.name` and `metadata.namespace`.
    pub(crate) field_selectors: &'static [&'static str],
    /// What is wrong with a name, if anything is.
    pub(crate) name_rule: fn(&str) -> Option<String>,
    /// Fills in what a manifest leaves out.
    pub(crate) defaults: fn(&mut Value),
    /// Sets the status and the other fields that a new object gets from the server.
    pub(crate) on_create: fn(&mut Value, Timestamp),
    /// Takes over from the current object (first) what an update keeps, whatever the new one says.
    pub(crate) on_update: fn(&Value, &mut Value, Option<Sub>),
    /// Checks an object by itself.
    pub(crate) validate: fn(&Value, &mut Problems),
    /// Checks what may not change, against the current object (first).
    pub(crate) validate_update: fn(&Value, &Value, Option<Sub>, &mut Problems),
    pub(crate) generation: Generation,
    /// Whether a write may reach the disk a little later: see [`crate::store`].
    pub(crate) relaxed: bool,
    /// Whether a new object keeps the status that it comes with.
    pub(crate) keeps_new_status: bool,
    /// Whether `/status` sets labels, annotations and finalizers as well.
    pub(crate) status_has_metadata: bool,
}

/// A row of a resource that lives in namespaces, with the schema of `T`.
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

/// A row of a resource outside namespaces, with the schema of `T`.
pub(crate) const fn cluster_scoped<T: JsonSchema>(
    group_version: [&'static str; 2],
    kind: &'static str,
    plural: &'static str,
) -> Row {
    Row { namespaced: false, ..namespaced::<T>(group_version, kind, plural) }
}

impl Row {
    /// Group and plural under which objects are stored: `core/pods`, `apps/deployments`.
    pub(crate) fn storage(&self) -> String {
        let group = match (&self.stored_as, self.group) {
            (Some(stored), _) => stored.group,
            (None, "") => "core",
            (None, group) => group,
        };
        format!("{group}/{}", self.plural)
    }
}
