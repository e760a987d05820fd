//! The table of kinds: what the server knows about each resource besides its schema.
//!
//! Each verb is written once and asks this table. The rows of the built-in kinds are in [`builtin`]; an
//! established CustomResourceDefinition adds one for each version it serves. Readers take a snapshot
//! ([`Registry`] behind an `Arc`), so a CRD that changes never changes a request under way.

pub(crate) mod builtin;

use std::sync::Arc;

use crate::crd::CustomKind;
use crate::schema::Schema;

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

/// How the stored form becomes the form of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// This is the stored form, or differs from it in `apiVersion` only.
    ApiVersion,
    /// autoscaling/v1, stored as autoscaling/v2.
    HorizontalPodAutoscalerV1,
    /// events.k8s.io/v1, stored as core/v1.
    EventV1,
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
    /// Group and plural of the stored form.
    pub(crate) storage: Arc<str>,
    /// The apiVersion of the stored form.
    pub(crate) stored_api_version: String,
    pub(crate) conversion: Conversion,
    pub(crate) subresources: Vec<Sub>,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    /// Only `create` exists, and nothing is stored (SelfSubjectReview and the like).
    pub(crate) review: bool,
    /// For a kind that a CRD defines.
    pub(crate) custom: Option<Arc<CustomKind>>,
}

/// What can be done with a resource that is stored.
pub(crate) const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl Kind {
    /// `apps/v1`, or `v1` in the core group.
    pub(crate) fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }

    /// `DeploymentList`.
    pub(crate) fn list_kind(&self) -> String {
        self.custom.as_ref().map_or_else(|| format!("{}List", self.kind), |custom| custom.list_kind.clone())
    }

    /// `deployments.apps`, or `pods` in the core group.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub(crate) fn has(&self, sub: Sub) -> bool {
        self.subresources.contains(&sub)
    }

    /// Is this a built-in kind with this storage name (`apps/deployments`)?
    pub(crate) fn is(&self, storage: &str) -> bool {
        self.custom.is_none() && &*self.storage == storage
    }

    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        if self.review { &["create"] } else { &VERBS }
    }

    /// May reach the disk a little later; see [`crate::store`].
    pub(crate) fn relaxed(&self) -> bool {
        self.is("core/events") || self.is("coordination.k8s.io/leases")
    }

    /// The schema of the whole object, or nothing when the kind has none.
    pub(crate) fn schema(&self) -> Option<Arc<Schema>> {
        match &self.custom {
            Some(custom) => Some(custom.schema.clone()),
            None => crate::schema::builtin::of(&self.group, &self.version, &self.kind),
        }
    }
}

impl Kind {
    /// The schema of the stored form; says nothing where there is none.
    pub(crate) fn stored_schema(&self) -> Arc<Schema> {
        let found = match &self.custom {
            Some(custom) => Some(custom.schema.clone()),
            None => {
                let (group, version) =
                    self.stored_api_version.split_once('/').unwrap_or(("", &self.stored_api_version));
                crate::schema::builtin::of(group, version, &self.kind)
            }
        };
        found.unwrap_or_else(|| Arc::new(Schema::any().clone()))
    }
}

/// `group/version`, or only the version in the core group.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// All kinds, in the order discovery shows them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    pub(crate) kinds: Vec<Arc<Kind>>,
}

impl Registry {
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let found =
            |kind: &&Arc<Kind>| kind.plural == plural && kind.version == version && kind.group == group;
        self.kinds.iter().find(found).cloned()
    }

    /// The row of the stored form (or the first one) of each resource that is stored.
    pub(crate) fn stored(&self) -> Vec<Arc<Kind>> {
        let mut rows: Vec<Arc<Kind>> = Vec::new();
        for kind in self.kinds.iter().filter(|kind| !kind.review) {
            match rows.iter_mut().find(|row| row.storage == kind.storage) {
                Some(row) if kind.api_version() == kind.stored_api_version => *row = kind.clone(),
                Some(_) => {}
                None => rows.push(kind.clone()),
            }
        }
        rows
    }
}
