//! Every fact the engine can be told. It learns about the world only through these, and none of them decides.
//!
//! The order in which facts about different targets or metrics arrive does not matter; of two facts about the same
//! thing the later one counts.

use serde::{Deserialize, Serialize};

use crate::demand::Demand;
use crate::memory::Memory;
use crate::name::{MetricName, PoolName, TargetId};
use crate::pod::{Pod, PodValue};
use crate::policy::Policy;
use crate::time::Time;
use crate::vertical::Sizing;

/// A fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// A target's policy was created or changed.
    Policy {
        /// The workload it scales.
        target: TargetId,
        /// How.
        policy: Box<Policy>,
    },
    /// The policy is gone; everything about the target is forgotten.
    Deleted {
        /// The workload it scaled.
        target: TargetId,
    },
    /// What is remembered of a target from before a restart. Comes before the first evaluation.
    Memory {
        /// The workload.
        target: TargetId,
        /// What [`Engine::memory`](crate::Engine::memory) gave.
        memory: Box<Memory>,
    },
    /// The target's scale subresource was read.
    Scale {
        /// The workload.
        target: TargetId,
        /// What it says.
        scale: Scale,
    },
    /// The target's scale subresource could not be read.
    ScaleFailed {
        /// The workload.
        target: TargetId,
        /// Why.
        error: String,
    },
    /// The target's pods, all of them.
    Pods {
        /// The workload.
        target: TargetId,
        /// What its selector lists.
        pods: Vec<Pod>,
    },
    /// A metric was read, or could not be.
    Metric {
        /// The workload.
        target: TargetId,
        /// A metric of its policy; others are ignored.
        metric: MetricName,
        /// What came of it.
        reading: Reading,
    },
    /// The target's requests were measured, or could not be; only a policy with an objective uses it.
    Demand {
        /// The workload.
        target: TargetId,
        /// The measurement, or why there is none.
        demand: Result<Box<Demand>, String>,
    },
    /// Requests wait at the target's Services because no pod is ready. One is enough to start the target at once.
    Waiting {
        /// The workload.
        target: TargetId,
        /// How many wait now; zero when none is left.
        requests: u32,
    },
    /// How large the target's replicas are and should be; none once it is sized by nobody.
    Sizing {
        /// The workload.
        target: TargetId,
        /// Each container.
        sizing: Option<Box<Sizing>>,
    },
    /// A decision was carried out, or could not be.
    Rescaled {
        /// The workload.
        target: TargetId,
        /// `spec.replicas` before.
        from: u32,
        /// `spec.replicas` asked for.
        to: u32,
        /// Why the scale subresource could not be written; none when it was.
        error: Option<String>,
    },
    /// A pool of nodes or accelerators has room for this many replicas of the targets that share it.
    Capacity {
        /// The pool.
        pool: PoolName,
        /// Room in all, what runs there now included.
        replicas: u32,
    },
}

/// A target's scale subresource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// `spec.replicas`: what is asked for, the *current* replicas of a decision.
    pub spec_replicas: u32,
    /// `status.replicas`: what exists, surge pods of a rollout included.
    pub status_replicas: u32,
    /// Whether its pods can be told apart.
    pub selector: Selector,
}

/// What came of the scale subresource's `status.selector`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// It selects the target's pods and no other autoscaler's.
    Valid,
    /// It is empty.
    Missing,
    /// It can't be parsed.
    Invalid {
        /// The parser's words.
        error: String,
    },
    /// It selects pods that another autoscaler's selector selects too.
    Ambiguous {
        /// The selector.
        selector: String,
        /// The autoscalers, `namespace/name`.
        autoscalers: Vec<String>,
    },
}

/// One attempt to read a metric. The kinds are never confused: **no data is not no load**, and only a value may
/// scale in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reading {
    /// The whole target's value: the sum of what an Object or External metric returned.
    Value {
        /// Any number. A negative one counts as zero; one that is not finite is no value at all.
        #[serde(with = "any_f64")]
        value: f64,
        /// The time of the sample.
        at: Time,
    },
    /// One value for each pod: a Resource, ContainerResource or Pods metric.
    PerPod {
        /// In any order. A pod without a value is left out.
        values: Vec<PodValue>,
        /// When they were read.
        at: Time,
    },
    /// The source answered and says that nothing happened in its window: a quantile or a ratio over fresh series
    /// whose rate is zero, which is NaN in PromQL. It counts as no load.
    Idle {
        /// The time of the evaluation.
        at: Time,
    },
    /// The source answered and has no such series.
    Missing {
        /// Which selector matches nothing, and what is near.
        why: String,
    },
    /// The source says itself that its answer is not whole: a store behind it did not answer, or samples were left out.
    /// There is at least that much load, so it may scale out; what is missing may be load, so it never scales in.
    Partial {
        /// As for a `Value`.
        #[serde(with = "any_f64")]
        value: f64,
        /// The time of the sample.
        at: Time,
        /// The source's words.
        why: String,
    },
    /// There was a value, and it is too old to act on.
    Stale {
        /// The last value.
        #[serde(with = "any_f64")]
        last: f64,
        /// Its time.
        at: Time,
        /// Why there is no newer one; empty where nothing is known but its age.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// The source could not be asked, or answered with an error.
    Failed {
        /// The source's words.
        error: String,
    },
}

/// JSON has no NaN and no infinity, and a measured value may be either: these are written as text.
mod any_f64 {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(f64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() { serializer.serialize_f64(*value) } else { serializer.collect_str(value) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(value) => Ok(value),
            NumberOrText::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}
