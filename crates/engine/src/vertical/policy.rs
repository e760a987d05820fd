//! What a user asked for: the meaning of a VerticalPodAutoscaler's `spec`, with VPA's defaults filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::peaks::MemorySettings;
use super::resources::{Resource, Resources};
use super::startup_boost::StartupBoost;
use crate::name::Name;
use crate::time::{optional_seconds, seconds};

/// How the pods of one target are sized.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerticalPolicy {
    /// Whether and how running pods are changed.
    pub mode: UpdateMode,
    /// For each container that has its own entry.
    pub containers: BTreeMap<Name, ContainerPolicy>,
    /// For all others: the entry of `*`.
    pub other_containers: ContainerPolicy,
    /// `updatePolicy.minReplicas`.
    pub min_replicas: Option<u32>,
    /// `updatePolicy.evictionRequirements`: all must hold.
    pub eviction_requirements: Vec<EvictionRequirement>,
    /// `updatePolicy.evictAfterOOMSeconds`.
    #[serde(with = "optional_seconds")]
    pub evict_after_oom: Option<Duration>,
    /// `spec.startupBoost`, unless a container has its own.
    pub startup_boost: Option<StartupBoost>,
    /// Containers with the annotation `vpa-post-processor.kubernetes.io/NAME_integerCPU: "true"`.
    pub integer_cpu: BTreeSet<Name>,
}

impl VerticalPolicy {
    /// The policy of a container.
    pub fn container(&self, name: &Name) -> &ContainerPolicy {
        self.containers.get(name).unwrap_or(&self.other_containers)
    }

    /// The startup boost of a container.
    pub fn boost(&self, container: &Name) -> Option<&StartupBoost> {
        self.container(container).startup_boost.as_ref().or(self.startup_boost.as_ref())
    }
}

/// `updatePolicy.updateMode`. `Auto` is `Recreate`'s older name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateMode {
    /// Only recommends.
    Off,
    /// Sizes pods as they are created.
    Initial,
    /// And evicts those that run.
    #[default]
    Recreate,
    /// And resizes those that run, or evicts them where that is impossible.
    InPlaceOrRecreate,
    /// And resizes those that run; never evicts.
    InPlace,
}

impl UpdateMode {
    /// Running pods are changed.
    pub fn changes_running(self) -> bool {
        !matches!(self, Self::Off | Self::Initial)
    }

    /// A resize in place is tried.
    pub fn resizes(self) -> bool {
        matches!(self, Self::InPlaceOrRecreate | Self::InPlace)
    }
}

/// `resourcePolicy.containerPolicies[]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerPolicy {
    /// `mode: Off`: no recommendation, no change.
    pub off: bool,
    /// No less than this.
    pub min_allowed: Resources,
    /// No more than this; wins over `min_allowed`.
    pub max_allowed: Resources,
    /// `controlledResources`: only these are recommended.
    pub controlled: Vec<Resource>,
    /// `controlledValues`.
    pub values: ControlledValues,
    /// Where memory is gathered in another way.
    pub memory: MemoryOverrides,
    /// More CPU while it starts.
    pub startup_boost: Option<StartupBoost>,
}

impl Default for ContainerPolicy {
    fn default() -> Self {
        Self {
            off: false,
            min_allowed: Resources::default(),
            max_allowed: Resources::default(),
            controlled: Resource::ALL.to_vec(),
            values: ControlledValues::default(),
            memory: MemoryOverrides::default(),
            startup_boost: None,
        }
    }
}

impl ContainerPolicy {
    /// Of these, the ones that are controlled.
    pub fn controlled_of(&self, resources: Resources) -> Resources {
        let mut kept = Resources::default();
        for (resource, amount) in resources.iter().filter(|(resource, _)| self.controlled.contains(resource))
        {
            kept.set(resource, Some(amount));
        }
        kept
    }
}

/// `controlledValues`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlledValues {
    /// Limits move with requests, in their old proportion.
    #[default]
    RequestsAndLimits,
    /// Limits stay, and requests stay under them.
    RequestsOnly,
}

/// Settings of one container policy that take the place of the recommender's (gate `PerVPAConfig`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryOverrides {
    /// `memoryAggregationIntervalSeconds`.
    #[serde(with = "optional_seconds")]
    pub interval: Option<Duration>,
    /// `memoryAggregationIntervalCount`.
    pub interval_count: Option<u32>,
    /// `oomBumpUpRatio`.
    pub oom_bump_up_ratio: Option<f64>,
    /// `oomMinBumpUp`, in bytes.
    pub oom_min_bump_up_bytes: Option<i64>,
}

impl MemoryOverrides {
    /// The settings that hold.
    pub fn over(&self, settings: MemorySettings) -> MemorySettings {
        MemorySettings {
            interval: self.interval.unwrap_or(settings.interval),
            interval_count: self.interval_count.unwrap_or(settings.interval_count),
            oom_bump_up_ratio: self.oom_bump_up_ratio.unwrap_or(settings.oom_bump_up_ratio),
            oom_min_bump_up_bytes: self.oom_min_bump_up_bytes.unwrap_or(settings.oom_min_bump_up_bytes),
        }
    }
}

/// `updatePolicy.evictionRequirements[]`: holds when one of the resources changes in this direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvictionRequirement {
    /// Any of these.
    pub resources: Vec<Resource>,
    /// Which way.
    pub change: ChangeRequirement,
}

/// `changeRequirement`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeRequirement {
    /// The target is strictly more than the request.
    TargetHigherThanRequests,
    /// The target is strictly less than the request.
    TargetLowerThanRequests,
}

/// Settings of the components rather than of one autoscaler, and where our rules differ from the originals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerticalRules {
    /// Lower ≤ target ≤ upper after every cap. Upstream scales the three independently to a pod's LimitRange, so that
    /// a pod may be evicted again and again (kubernetes/autoscaler#8776).
    pub ordered: bool,
    /// Checkpoints include the peaks of the intervals that still run. Upstream leaves them out, so that a restart
    /// forgets a day's peaks, kills included.
    pub keep_unfinished_peaks: bool,
    /// `--container-recommendation-max-allowed-cpu` and `-memory`; a container policy's own maximum wins.
    pub max_allowed: Resources,
    /// `--round-cpu-millicores`.
    pub round_cpu_millis: i64,
    /// `--round-memory-bytes`.
    pub round_memory_bytes: i64,
    /// `--cpu-integer-post-processor-enabled`.
    pub integer_cpu: bool,
    /// `--min-replicas`: fewer live pods are not disrupted.
    pub min_replicas: u32,
    /// `--eviction-tolerance`: this share (0–1) of the replicas may be away at once.
    pub eviction_tolerance: f64,
    /// `--pod-update-threshold`: smaller differences (0.1 is 10 %) wait.
    pub pod_update_threshold: f64,
    /// `--in-recommendation-bounds-eviction-lifetime-threshold`: a pod whose requests lie within the bounds is only
    /// changed when it is that old.
    #[serde(with = "seconds")]
    pub lifetime_threshold: Duration,
    /// `--evict-after-oom-threshold`: killed sooner after its start, a container is changed at once.
    #[serde(with = "seconds")]
    pub evict_after_oom: Duration,
    /// A container that was killed soon after its start is changed at once only as long as it needs more memory.
    /// Upstream changes it at every round, however small the change, for as long as the status remembers the kill.
    pub quick_oom_only_for_more: bool,
    /// `--in-place-skip-disruption-budget`: a resize that restarts nothing needs no budget.
    pub in_place_skip_disruption_budget: bool,
    /// The gate `CPUStartupBoost`.
    pub startup_boost: bool,
    /// `--max-allowed-cpu-boost`, in millicores.
    pub max_allowed_cpu_boost_millis: Option<i64>,
}

impl VerticalRules {
    /// VPA 1.7's own, and its defaults.
    pub const fn upstream() -> Self {
        Self {
            ordered: false,
            keep_unfinished_peaks: false,
            max_allowed: Resources::new(None, None),
            round_cpu_millis: 1,
            round_memory_bytes: 1,
            integer_cpu: false,
            min_replicas: 2,
            eviction_tolerance: 0.5,
            pod_update_threshold: 0.1,
            lifetime_threshold: Duration::from_secs(12 * 3600),
            evict_after_oom: Duration::from_secs(600),
            quick_oom_only_for_more: false,
            in_place_skip_disruption_budget: false,
            startup_boost: false,
            max_allowed_cpu_boost_millis: None,
        }
    }
}

impl Default for VerticalRules {
    /// Ours: the same numbers, the bounds in order, nothing forgotten over a restart, no change because of a kill that has
    /// been answered, and resizes that restart nothing at once.
    fn default() -> Self {
        Self {
            ordered: true,
            keep_unfinished_peaks: true,
            quick_oom_only_for_more: true,
            in_place_skip_disruption_budget: true,
            startup_boost: true,
            ..Self::upstream()
        }
    }
}
