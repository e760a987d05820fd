//! A metric of a policy: what is measured, and how much of it is wanted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::milli::Milli;
use crate::name::{MetricName, Name};
use crate::policy_error::PolicyError;
use crate::time::optional_seconds;

/// One entry of an autoscaler's metrics, or one trigger of a ScaledObject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedMetric")]
pub struct Metric {
    name: MetricName,
    source: MetricSource,
    target: MetricTarget,
    /// Active above this, strictly; only External metrics activate. In the metric's unit. KEDA's default is 0.
    pub activation_threshold: f64,
    /// The name a formula knows it by (`triggers[].name`); none keeps it out of formulas.
    pub formula_name: Option<Name>,
    /// The trigger's type, such as `prometheus`, for explanations; empty for a plain HPA metric.
    pub trigger_type: String,
    /// A value older than this is stale; none means that the source judges its own age.
    #[serde(with = "optional_seconds")]
    pub age_max: Option<Duration>,
}

/// The same before [`Metric::new`] has looked at it.
#[derive(Deserialize)]
struct UncheckedMetric {
    name: MetricName,
    source: MetricSource,
    target: MetricTarget,
    #[serde(default)]
    activation_threshold: f64,
    #[serde(default)]
    formula_name: Option<Name>,
    #[serde(default)]
    trigger_type: String,
    #[serde(default, with = "optional_seconds")]
    age_max: Option<Duration>,
}

/// What is measured: `spec.metrics[].type` of `autoscaling/v2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricSource {
    /// A resource of whole pods.
    Resource {
        /// `cpu`, `memory`.
        resource: Name,
    },
    /// A resource of one container in each pod.
    ContainerResource {
        /// `cpu`, `memory`.
        resource: Name,
        /// Its name.
        container: Name,
    },
    /// A value each pod has of its own.
    Pods {
        /// The metric's name.
        metric: Name,
    },
    /// A value that describes one Kubernetes object.
    Object {
        /// The object's kind.
        kind: Name,
        /// The metric's name.
        metric: Name,
    },
    /// A value from outside: every KEDA trigger except cpu and memory.
    External {
        /// The metric's name.
        metric: Name,
        /// `selector.matchLabels`, if there is a selector.
        selector: Option<BTreeMap<String, String>>,
    },
    /// A type that this version does not know. It can't be computed, and the other metrics can.
    Unknown {
        /// The type as written.
        type_name: Name,
    },
}

/// How much is wanted: `target` of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricTarget {
    /// Percent of what the pods requested.
    Utilization(u32),
    /// For each replica.
    AverageValue(Milli),
    /// In all, whatever the replicas.
    Value(Milli),
}

impl Metric {
    /// A metric that activates above zero, takes part in no formula, and whose values do not age.
    ///
    /// # Errors
    ///
    /// A target of zero or less, or of a type that this source can't have: Utilization is for Resource and
    /// ContainerResource, Value for Object and External.
    pub fn new(
        name: impl Into<MetricName>,
        source: MetricSource,
        target: MetricTarget,
    ) -> Result<Self, PolicyError> {
        let name = name.into();
        let positive = match target {
            MetricTarget::Utilization(percent) => percent > 0,
            MetricTarget::AverageValue(amount) | MetricTarget::Value(amount) => amount.get() > 0,
        };
        if !positive {
            return Err(PolicyError::MetricTarget { metric: name });
        }
        let fits = match source {
            MetricSource::Resource { .. } | MetricSource::ContainerResource { .. } => {
                !matches!(target, MetricTarget::Value(_))
            }
            MetricSource::Pods { .. } => matches!(target, MetricTarget::AverageValue(_)),
            MetricSource::Object { .. } | MetricSource::External { .. } => {
                !matches!(target, MetricTarget::Utilization(_))
            }
            MetricSource::Unknown { .. } => true,
        };
        if !fits {
            let (source, target) = (source.type_name().to_owned(), target.type_name());
            return Err(PolicyError::MetricTargetType {
                metric: name,
                source_type: source,
                target_type: target,
            });
        }
        Ok(Self {
            name,
            source,
            target,
            activation_threshold: 0.0,
            formula_name: None,
            trigger_type: String::new(),
            age_max: None,
        })
    }

    /// Its name, unique in its policy.
    pub fn name(&self) -> &MetricName {
        &self.name
    }

    /// What is measured.
    pub fn source(&self) -> &MetricSource {
        &self.source
    }

    /// How much of it is wanted.
    pub fn target(&self) -> MetricTarget {
        self.target
    }

    /// Whether it can activate a target: cpu and memory can't, they need a pod to be measured at all.
    pub fn activates(&self) -> bool {
        matches!(self.source, MetricSource::External { .. })
    }
}

impl TryFrom<UncheckedMetric> for Metric {
    type Error = PolicyError;

    fn try_from(metric: UncheckedMetric) -> Result<Self, PolicyError> {
        let UncheckedMetric {
            name,
            source,
            target,
            activation_threshold,
            formula_name,
            trigger_type,
            age_max,
        } = metric;
        let metric = Self::new(name, source, target)?;
        Ok(Self { activation_threshold, formula_name, trigger_type, age_max, ..metric })
    }
}

impl MetricSource {
    /// `type` as `autoscaling/v2` writes it.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Resource { .. } => "Resource",
            Self::ContainerResource { .. } => "ContainerResource",
            Self::Pods { .. } => "Pods",
            Self::Object { .. } => "Object",
            Self::External { .. } => "External",
            Self::Unknown { type_name } => type_name.as_str(),
        }
    }

    /// The resource it is the use of, and the one container that counts, if it is one.
    pub(crate) fn resource(&self) -> Option<(&Name, Option<&Name>)> {
        match self {
            Self::Resource { resource } => Some((resource, None)),
            Self::ContainerResource { resource, container } => Some((resource, Some(container))),
            _ => None,
        }
    }

    /// How a status writes its values: memory in powers of 1024, since v1.36.
    pub fn quantity_format(&self) -> QuantityFormat {
        match self {
            Self::Resource { resource } | Self::ContainerResource { resource, .. }
                if *resource == *"memory" =>
            {
                QuantityFormat::BinarySI
            }
            _ => QuantityFormat::DecimalSI,
        }
    }

    /// Whether its value needs the pods: all but a whole target's value.
    pub fn is_per_pod(&self) -> bool {
        matches!(self, Self::Resource { .. } | Self::ContainerResource { .. } | Self::Pods { .. })
    }
}

/// How a status writes a quantity: `resource.Format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuantityFormat {
    /// `n u m k M G T P E`.
    DecimalSI,
    /// `Ki Mi Gi Ti Pi Ei`.
    BinarySI,
}

impl MetricTarget {
    /// `target.type` as `autoscaling/v2` writes it.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Utilization(_) => "Utilization",
            Self::AverageValue(_) => "AverageValue",
            Self::Value(_) => "Value",
        }
    }
}

impl fmt::Display for MetricTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utilization(percent) => write!(f, "{percent} %"),
            Self::AverageValue(amount) => write!(f, "{amount} per replica"),
            Self::Value(amount) => write!(f, "{amount}"),
        }
    }
}
