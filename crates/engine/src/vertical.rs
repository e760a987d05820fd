//! How much CPU and memory each container gets, and why: the rules of the VerticalPodAutoscaler as pure functions.
//!
//! Three questions, as VPA's three components ask them, which is also the order in which to read the files:
//!
//! - **What should a container ask for?** [`Recommender`] is told what containers use and when they are killed for want
//!   of memory (`recommend`), keeps it in histograms that forget (`history`, `peaks`, `decay`, `histogram`), and
//!   estimates target and bounds (`estimate`), which rounding and the policy then bound (`cap`).
//! - **Which running pod is changed, when and how?** [`Round::plan`] (`update`) asks who is furthest off (`priority`),
//!   whether it can be resized where it runs (`in_place`), and how many may be away at once (`budget`).
//! - **What does a new pod get?** [`admission_patch`] (`admit`) fits the recommendation to the pod: LimitRanges
//!   (`limit_range`), limits in their old proportion (`limits`), more CPU while it starts (`boost`).
//!
//! Beside VPA's `default` recommender there is `flyball` (`recent`, [`RecommenderSettings::flyball`]), which reacts within
//! minutes, for pods that are resized in place.
//!
//! A fourth question has no counterpart in VPA: **which axis takes a load** of a target that is also scaled horizontally (`joint`).
//! The engine asks it in each decision about a target whose size it was told
//! ([`Observation::Sizing`](crate::Observation::Sizing)).
//!
//! Amounts are whole: millicores, bytes ([`Resources`]). Every target carries the steps that led to it
//! ([`VerticalStep`]), and every pod the reason why it is changed or not ([`UpdateReason`]). The numbers are VPA's to
//! the last digit; [`VerticalRules`] says where our rules differ.
//!
//! ```
//! use flyball_engine::Time;
//! use flyball_engine::vertical::*;
//!
//! let (policy, rules) = (VerticalPolicy::default(), VerticalRules::default());
//! let mut recommender = Recommender::new(RecommenderSettings::default());
//! let (model, start) = (ContainerId::new("model-0", "model"), 1_800_000_000);
//! for minute in 0..2880 {
//!     let at = Time::from_seconds(start + 60 * minute);
//!     recommender.cpu_used(&model, at, 100).expect("in order");
//!     recommender.memory_used(&model, at, 300 << 20, &policy).expect("in order");
//! }
//! let recommended = recommender.recommend(&policy, &rules);
//! assert_eq!(recommended[0].target, Resources::new(Some(126), Some(380_258_472)));
//! assert_eq!(recommended[0].steps[1].to_string(), "cpu 110m → 126m  SafetyMargin: with a safety margin of 15 %");
//! ```

mod admit;
mod boost;
mod budget;
mod cap;
mod decay;
mod estimate;
mod facts;
mod format;
mod histogram;
mod history;
mod in_place;
pub(crate) mod joint;
mod limit_range;
mod limits;
mod oom;
mod peaks;
mod policy;
mod priority;
mod reason;
mod recent;
mod recent_use;
mod recommend;
mod resources;
mod startup_boost;
mod update;
mod update_reason;

pub use admit::{
    ContainerChange, IN_PLACE_UPDATED_ANNOTATION, NewPod, OBSERVED_CONTAINERS_ANNOTATION, PatchOperation,
    PatchValue, STARTUP_BOOST_ANNOTATION_PREFIX, UPDATES_ANNOTATION, admission_patch, changes,
    container_resources, resize_patch,
};
pub use budget::{Configured, Group};
pub use cap::{for_pod, for_status};
pub use decay::DecayingHistogram;
pub use estimate::{
    ContainerRecommendation, EstimatorSettings, Percentiles, confidence, stretch, with_margin,
};
pub use facts::{Boosted, ContainerFacts, PodFacts, Resize, Resizing, Termination, observed_containers};
pub use format::{humanize_memory, integer_cpu, round_up, round_up_to_scale};
pub use histogram::{Buckets, CheckpointError, Histogram, HistogramCheckpoint};
pub use history::{Checkpoint, ContainerHistory, HalfLives};
pub use in_place::{Attempts, InPlace, Targets, decide, has_lower_target};
pub use joint::{ContainerSize, ContainerSizing, Sizing, WantedCpu};
pub use limit_range::{LimitRange, LimitRanges, PodShare, fit_pod};
pub use limits::{LimitNote, proportional_limit, proportional_limits};
pub use oom::{ContainerLook, ContainerState, EvictionEvent, oom_killed};
pub use peaks::{MemorySettings, PeakChange, Rejected};
pub use policy::{
    ChangeRequirement, ContainerPolicy, ControlledValues, EvictionRequirement, MemoryOverrides, UpdateMode,
    VerticalPolicy, VerticalRules,
};
pub use priority::{Priority, accept, requirements_hold};
pub use reason::{VerticalReason, VerticalStep};
pub use recommend::{ContainerId, Recommender, RecommenderSettings};
pub use resources::{
    AMOUNT_MAX, ContainerResources, Resource, Resources, clamp_amount, cpu_from_cores, scale_amount,
};
pub use startup_boost::{BoostError, More, StartupBoost};
pub use update::{Action, PodUpdate, Round};
pub use update_reason::{Outside, UpdateReason};
