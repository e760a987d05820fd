//! What an object asks of the autoscaler: a policy for the engine, and what must be read for it.
//!
//! What to ask is separated from how to decide: a [`Plan`] has a [`Policy`], which knows no URL, and one
//! [`Query`] for each of its metrics, which knows no target. An object that cannot be planned is told with
//! everything that is wrong with it.

mod behavior;
mod hpa;
mod scaled_object;

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_engine::{MetricName, Policy, TargetId};
use kube::core::Selector;

use crate::trigger::Trigger;

pub(crate) use hpa::engine_name;
pub use hpa::{metric_keys, plan_hpa, scaled_object_owner};
pub use scaled_object::plan_scaled_object;

/// A policy, the workload it is for, and what must be read for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The workload, as the engine knows it.
    pub target: TargetId,
    /// The API version of the workload.
    pub api_version: String,
    /// How the workload is scaled.
    pub policy: Policy,
    /// What must be read: one for each metric of the policy, in its order.
    pub queries: Vec<Query>,
}

/// What must be read for one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The metric that the answer is for.
    pub metric: MetricName,
    /// What to ask, and whom.
    pub ask: Ask,
    /// How long an answer holds: a polling interval with `useCachedMetrics`. None is asked anew each time.
    pub keep_for: Option<Duration>,
}

/// What to ask, and whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The use of a resource by the workload's pods; by one container of each, if it is named.
    Resource {
        /// `cpu` or `memory`.
        resource: String,
        /// The one container that counts.
        container: Option<String>,
    },
    /// A metric of each of the workload's pods.
    Pods {
        /// The name of the metric.
        metric: String,
        /// The labels of the series.
        selector: Selector,
    },
    /// A metric of one object in the workload's namespace.
    Object {
        /// The API version of the object.
        api_version: String,
        /// The kind of the object.
        kind: String,
        /// The name of the object.
        name: String,
        /// The name of the metric.
        metric: String,
        /// The labels of the series.
        selector: Selector,
    },
    /// A metric of the external metrics API.
    External {
        /// The name of the metric.
        metric: String,
        /// The labels of the series.
        selector: Selector,
    },
    /// Whatever a trigger says.
    Trigger(Box<Trigger>),
}

/// Names that are told apart: a name that is taken gets a number.
#[derive(Default)]
struct Names(BTreeMap<String, usize>);

impl Names {
    fn unique(&mut self, name: String) -> String {
        let taken = self.0.entry(name.clone()).or_default();
        *taken += 1;
        if *taken == 1 { name } else { format!("{name}#{taken}") }
    }
}
