//! Both axes of one target: which of them takes a load.
//!
//! Replicas follow utilization, which is use over request. A VerticalPodAutoscaler that moves the request on its own
//! moves the utilization with no change of load, and the two undo each other. So here one rule sizes both:
//!
//! 1. **Memory is vertical.** Replicas don't share it.
//! 2. **CPU goes up in place first**: while the replicas are at their minimum, each gets what brings its utilization to
//!    the target, as far as `maxAllowed` and the room on its node go.
//! 3. **Then out**: what is left over is for the horizontal axis, which measures utilization against the new request.
//!    Above the minimum the request stays, so the same load still means the same replicas.
//! 4. **In before down**: only when the replicas are back at their minimum does CPU shrink, and not below the most that
//!    was needed within the stabilization window.
//!
//! So every load has one pair of size and replicas, and both grow and shrink with it. Without a utilization target for
//! CPU the recommender's target holds, and only the last rule is added.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::estimate::ContainerRecommendation;
use super::reason::{VerticalReason, VerticalStep};
use super::resources::{Resource, Resources, proportion};
use crate::name::Name;
use crate::time::Time;

/// How far CPU may be off without a change: the HorizontalPodAutoscaler's tolerance, so that one axis or the other acts.
const TOLERANCE_PERCENT: i64 = 10;

/// No container shrinks below this, in millicores: VPA's smallest bucket.
const CPU_MIN_MILLIS: i64 = 10;

/// More entries than a window of five minutes, evaluated every second, can leave after those outdone are dropped.
const WANTED_MAX: usize = 64;

/// What the engine is told of a target's size: what each replica has, and may and should have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sizing {
    /// Each container of a replica.
    pub containers: Vec<ContainerSizing>,
    /// How many millicores more each replica could get where it runs; none if that is not known.
    pub room_cpu_millis: Option<i64>,
}

/// One container of a replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSizing {
    /// What it requests.
    pub requests: Resources,
    /// What its recommender says, within its policy; only controlled resources have a target.
    pub recommended: ContainerRecommendation,
    /// The policy's `minAllowed`.
    pub min_allowed: Resources,
    /// The policy's `maxAllowed`.
    pub max_allowed: Resources,
}

/// What was decided for one container of each replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSize {
    /// What it requests.
    pub current: Resources,
    /// What it should, with the steps that led there. Where the axes share CPU, its bounds are the target: any other
    /// request is to be changed.
    pub desired: ContainerRecommendation,
}

/// How much CPU was needed, for the stabilization window: entries that no later one outdoes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WantedCpu(Vec<(Time, i64)>);

impl WantedCpu {
    /// Adds what is wanted now, and says the most that was within `window`, and when.
    fn record(&mut self, now: Time, millis: i64, window: Duration) -> (Time, i64) {
        self.0.retain(|(at, earlier)| now.since(*at) <= window && *earlier > millis);
        self.0.push((now, millis));
        if self.0.len() > WANTED_MAX {
            // The older one is more: it is remembered a little longer.
            self.0[1].1 = self.0[0].1;
            self.0.remove(0);
        }
        self.0[0]
    }
}

/// What the target's CPU metric says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CpuLoad {
    /// Nothing is to be brought to a utilization.
    NoTarget,
    /// It can't be read, or no replica was measured.
    Unmeasured,
    /// What the replicas use together.
    Measured {
        /// In millicores.
        total_millis: i64,
        /// The target utilization.
        percent: u32,
        /// Only this container is measured; none for whole pods.
        container: Option<Name>,
    },
}

/// How many replicas there are, and must be at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replicas {
    pub(crate) current: u32,
    pub(crate) min: u32,
}

impl Sizing {
    /// Sizes each container.
    pub(crate) fn decide(
        &self,
        now: Time,
        replicas: Replicas,
        load: &CpuLoad,
        window: Duration,
        wanted: &mut WantedCpu,
    ) -> Vec<ContainerSize> {
        let size =
            |own: &ContainerSizing| ContainerSize { current: own.requests, desired: own.recommended.clone() };
        let mut sizes: Vec<ContainerSize> = self.containers.iter().map(size).collect();
        let at_minimum = replicas.current <= replicas.min;
        let Replicas { current, min } = replicas;
        match load {
            CpuLoad::NoTarget if at_minimum => {}
            CpuLoad::NoTarget => {
                let shrinks = |size: &&mut ContainerSize| size.cpu_target() < size.current.cpu_millis;
                let reason = VerticalReason::NotAtMinimum { replicas: current, min };
                sizes.iter_mut().filter(shrinks).for_each(|size| size.keep_cpu(reason));
            }
            CpuLoad::Unmeasured => {
                sizes.iter_mut().for_each(|size| size.keep_cpu(VerticalReason::Unmeasured));
            }
            CpuLoad::Measured { total_millis, percent, container } => {
                let share = Share::new(self, *total_millis, *percent, container.as_ref(), min.max(1));
                if let Some(share) = share {
                    let highest = wanted.record(now, share.wanted, window);
                    let (next, reason) = share.next(replicas, highest, window);
                    share.divide(self, &mut sizes, next, reason);
                }
            }
        }
        sizes
    }
}

/// The CPU that the containers of a replica share.
struct Share {
    members: Vec<usize>,
    /// What they request together.
    requested: i64,
    /// What would bring the minimum of replicas to the target utilization.
    wanted: i64,
    least: i64,
    most: i64,
    target: VerticalReason,
}

impl Share {
    /// None if no container's CPU is controlled, or none requests any.
    fn new(
        sizing: &Sizing,
        total_millis: i64,
        percent: u32,
        container: Option<&Name>,
        replicas: u32,
    ) -> Option<Self> {
        let measured =
            |own: &ContainerSizing| container.is_none_or(|name| own.recommended.container == *name);
        let (mut members, mut requested, mut others) = (Vec::new(), 0_i64, 0_i64);
        let (mut least, mut most) = (0_i64, 0_i64);
        for (index, own) in sizing.containers.iter().enumerate().filter(|(_, own)| measured(own)) {
            let request = own.requests.amount(Resource::Cpu);
            if own.recommended.target.cpu_millis.is_none() || request <= 0 {
                others = others.saturating_add(request.max(0));
                continue;
            }
            members.push(index);
            requested = requested.saturating_add(request);
            let (min, max) = own.cpu_bounds();
            (least, most) = (least.saturating_add(min), most.saturating_add(max));
        }
        if members.is_empty() {
            return None;
        }
        let room = sizing.room_cpu_millis.map_or(i64::MAX, |room| requested.saturating_add(room.max(0)));
        let at_target = i64::from(percent.max(1)).saturating_mul(replicas.into());
        let (wanted, _) = proportion(total_millis.max(0), at_target, 100);
        let target = VerticalReason::UtilizationTarget { total_millis, percent, replicas };
        Some(Self {
            members,
            requested,
            wanted: wanted.saturating_sub(others).max(0),
            least: least.min(most),
            most: most.min(room).max(least.min(requested)),
            target,
        })
    }

    /// What they should request together, and why that is not what is wanted.
    fn next(
        &self,
        replicas: Replicas,
        (seen_at, highest): (Time, i64),
        window: Duration,
    ) -> (i64, Option<VerticalReason>) {
        let Replicas { current, min } = replicas;
        if current > min {
            return (self.requested, Some(VerticalReason::NotAtMinimum { replicas: current, min }));
        }
        let (next, reason) = if self.wanted >= self.requested || highest == self.wanted {
            (self.wanted, None)
        } else {
            (highest.min(self.requested), Some(VerticalReason::ShrinkStabilized { seen_at, window }))
        };
        let tolerance =
            self.requested / 100 * TOLERANCE_PERCENT + self.requested % 100 * TOLERANCE_PERCENT / 100;
        let bounded = next.clamp(self.least, self.most.max(self.least));
        if (bounded - self.requested).abs() <= tolerance && self.requested <= self.most {
            let near = (self.wanted - self.requested).abs() <= tolerance;
            let held = reason.filter(|_| !near);
            return (self.requested, Some(held.unwrap_or(VerticalReason::NearEnough)));
        }
        let reason = match next {
            _ if bounded < next => Some(VerticalReason::NoMoreRoom),
            _ if bounded > next => Some(VerticalReason::MinAllowed),
            _ => reason,
        };
        (bounded, reason)
    }

    /// Each gets its share, in the proportion of what they have.
    fn divide(
        &self,
        sizing: &Sizing,
        sizes: &mut [ContainerSize],
        next: i64,
        reason: Option<VerticalReason>,
    ) {
        for &index in &self.members {
            let current = sizes[index].current.amount(Resource::Cpu);
            let part = |whole| proportion(current, self.requested, whole).0;
            let (min, max) = sizing.containers[index].cpu_bounds();
            let to = if next == self.requested { current } else { part(next).clamp(min, max.max(min)) };
            sizes[index].set_cpu(part(self.wanted), to, self.target, reason);
        }
    }
}

impl ContainerSizing {
    /// Between what its CPU may be; the maximum wins.
    fn cpu_bounds(&self) -> (i64, i64) {
        let max = self.max_allowed.bound(Resource::Cpu).unwrap_or(i64::MAX).max(1);
        let min = self.min_allowed.amount(Resource::Cpu).max(CPU_MIN_MILLIS);
        (min.min(max), max)
    }
}

impl ContainerSize {
    /// What it is to request: the target, or what it has where nothing is recommended.
    pub fn requests(&self) -> Resources {
        self.desired.target.or(self.current)
    }

    fn cpu_target(&self) -> Option<i64> {
        self.desired.target.cpu_millis
    }

    /// Keeps the CPU it has, whatever is recommended.
    fn keep_cpu(&mut self, reason: VerticalReason) {
        if let (Some(_), Some(current)) = (self.cpu_target(), self.current.cpu_millis) {
            self.desired.step(Resource::Cpu, current, reason);
            self.pin_cpu(current);
        }
    }

    /// By the utilization target to `wanted`, and from there to `to`.
    fn set_cpu(&mut self, wanted: i64, to: i64, target: VerticalReason, reason: Option<VerticalReason>) {
        let from = self.current.amount(Resource::Cpu);
        self.desired.steps.retain(|step| step.resource != Resource::Cpu);
        self.desired.steps.push(VerticalStep { resource: Resource::Cpu, from, to: wanted, reason: target });
        self.desired.target.cpu_millis = Some(wanted);
        self.desired.uncapped_target.cpu_millis = Some(wanted);
        self.desired.step(Resource::Cpu, to, reason.unwrap_or(VerticalReason::Rounded));
        self.pin_cpu(to);
    }

    fn pin_cpu(&mut self, millis: i64) {
        self.desired.lower_bound.cpu_millis = Some(millis);
        self.desired.upper_bound.cpu_millis = Some(millis);
    }
}
