//! Names of things: metrics, pods, containers, resources, pools, and the workload that is scaled.
//!
//! A name is shared, not copied: a decision names its target and its metrics, and decisions are kept.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name, cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

/// A metric's name, unique within one policy: `s0-prometheus`, `cpu`.
pub type MetricName = Name;
/// The name of a pool of nodes or accelerators.
pub type PoolName = Name;

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

/// The workload that is scaled: the `scaleTargetRef` of an autoscaler. Written `Deployment/default/model`, as the HPA
/// writes it in its errors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetId {
    /// The namespace it lives in.
    pub namespace: Name,
    /// Its kind, such as `Deployment`.
    pub kind: Name,
    /// Its name.
    pub name: Name,
}

impl TargetId {
    /// The workload of that kind and name.
    pub fn new(kind: impl Into<Name>, namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { namespace: namespace.into(), kind: kind.into(), name: name.into() }
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}
