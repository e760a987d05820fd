//! Each metric says how many replicas it needs; the highest wins (`computeReplicasForMetrics`).
//!
//! A metric that can't be used asks for nothing. If none can be used, or if the others ask for fewer replicas than
//! there are, the current replicas are kept: **no data is not no load**, and only a value may scale in. The others may
//! still scale out.
//!
//! A trigger that failed more often than its fallback allows asks for the fallback's replicas instead, by the same
//! arithmetic (KEDA `pkg/fallback`); cpu and memory never fall back. With a formula, the External metrics feed it and the
//! composite metric asks in their place; if one of them falls back, so does the composite.

mod composite;
mod fallback;
mod metric;
pub(crate) mod per_pod;
pub(crate) mod reading;
mod slo;
pub(crate) mod total;

pub use slo::SloMemory;

use crate::decision::{CurrentMetric, Proposal};
use crate::demand::Demand;
use crate::metric::{MetricSource, MetricTarget};
use crate::milli::Milli;
use crate::name::Name;
use crate::pod::Pod;
use crate::policy::{Policy, SLO_METRIC_NAME};
use crate::reason::{Measured, Over, Reason};
use crate::rules::Tolerance;
use crate::time::Time;
use crate::vertical::ContainerSize;
use crate::vertical::joint::CpuLoad;
use reading::{Kept, Usable};
use slo::Asked;
use total::Counts;

/// Everything the metrics are judged by.
pub(crate) struct View<'a> {
    pub(crate) now: Time,
    pub(crate) policy: &'a Policy,
    pub(crate) counts: Counts,
    /// By name.
    pub(crate) pods: &'a [Pod],
    /// In the order of the policy's metrics.
    pub(crate) readings: &'a [Kept],
    /// What each container of a replica is to request; empty where nobody sizes them.
    pub(crate) sizes: Vec<ContainerSize>,
}

impl View<'_> {
    /// What each pod is to request of a resource, in thousandths, where somebody sizes it. Only of CPU: memory that
    /// replicas don't share says nothing of how many there should be.
    pub(crate) fn sized_request(&self, source: &MetricSource) -> Option<Milli> {
        let (resource, container) = source.resource().filter(|_| !self.sizes.is_empty())?;
        let counted = |size: &&ContainerSize| container.is_none_or(|name| size.desired.container == *name);
        let sized = self.sizes.iter().filter(counted);
        let requests: Vec<i64> = sized.filter_map(|size| size.requests().cpu_millis).collect();
        let total = requests.iter().copied().fold(0, i64::saturating_add);
        (*resource == *"cpu" && total > 0).then_some(Milli::new(total))
    }

    /// What the pods use of the CPU that they are to use a share of.
    pub(crate) fn cpu_load(&self) -> CpuLoad {
        let metrics = self.policy.metrics.list().iter().zip(self.readings);
        for (metric, kept) in metrics {
            let (Some((resource, container)), MetricTarget::Utilization(percent)) =
                (metric.source().resource(), metric.target())
            else {
                continue;
            };
            if *resource != *"cpu" {
                continue;
            }
            let used = match kept.usable(self.now, metric) {
                Ok(Usable::PerPod(table)) => per_pod::used(self, metric.source(), metric.target(), table),
                _ => None,
            };
            return used.map_or(CpuLoad::Unmeasured, |used| CpuLoad::Measured {
                total_millis: used.get(),
                percent,
                container: container.cloned(),
            });
        }
        CpuLoad::NoTarget
    }

    /// `behavior`'s tolerances, where given, before the controller's.
    pub(crate) fn tolerance(&self) -> Tolerance {
        let own = self.policy.behavior.as_ref();
        let controller = self.policy.rules.tolerance;
        Tolerance {
            down: own.and_then(|own| own.scale_down.tolerance()).unwrap_or(controller.down),
            up: own.and_then(|own| own.scale_up.tolerance()).unwrap_or(controller.up),
        }
    }
}

/// What the metrics say together.
pub(crate) struct Recommended {
    /// In the policy's order, the composite metric before the others.
    pub(crate) proposals: Vec<Proposal>,
    /// The replicas to go on with; none to keep the current ones.
    pub(crate) replicas: Option<u32>,
    /// Steps that led to the last one, where the winner took several.
    pub(crate) before: Vec<(u32, Reason)>,
    /// Why: the winner's reason, or that of the first metric that can't be used.
    pub(crate) reason: Reason,
}

/// What the objective asks for, if there is one, having learned from the measurement.
pub(crate) fn objective(
    view: &View<'_>,
    demand: Option<&Result<Box<Demand>, String>>,
    memory: &mut Option<Box<SloMemory>>,
) -> Option<Asked> {
    let slo = view.policy.slo.as_ref()?;
    Some(slo::step(view, slo, demand, memory.get_or_insert_default()))
}

/// Asks every metric, and the objective, and takes the highest.
pub(crate) fn recommend(view: &View<'_>, asked: Option<Asked>) -> Recommended {
    let mut proposals = Vec::with_capacity(view.readings.len() + 1);
    proposals.extend(view.policy.metrics.composite().map(|composite| composite::propose(view, composite)));
    let metrics = view.policy.metrics.list().iter().zip(view.readings);
    proposals.extend(metrics.map(|(metric, kept)| metric::propose(view, metric, kept)));
    // Last, so that the others keep the places of their metrics.
    let mut before = Vec::new();
    if let Some(asked) = asked {
        proposals.push(asked.proposal);
        before = asked.before;
    }
    let broken = proposals.iter().find(|p| p.is_unavailable());
    let (replicas, deciding) = match (highest(&proposals), broken) {
        (Some((replicas, winner)), None) => (Some(replicas), winner),
        (Some((replicas, winner)), Some(_)) if replicas >= view.counts.spec => (Some(replicas), winner),
        (_, Some(broken)) => (None, broken),
        // Only a policy without metrics and objective has neither, and there is none.
        (None, None) => {
            return Recommended { proposals, replicas: None, before, reason: Reason::ScalingDisabled };
        }
    };
    let reason = deciding.reason.clone();
    if *deciding.metric.as_str() != *SLO_METRIC_NAME {
        before.clear();
    }
    Recommended { proposals, replicas, before, reason }
}

/// The highest proposal; the first of several, unless they ask for none at all.
fn highest(proposals: &[Proposal]) -> Option<(u32, &Proposal)> {
    let mut best: Option<(u32, &Proposal)> = None;
    for proposal in proposals {
        if let Some(replicas) = proposal.replicas
            && best.is_none_or(|(highest, _)| highest == 0 || replicas > highest)
        {
            best = Some((replicas, proposal));
        }
    }
    best
}

/// Rounds up to whole replicas: NaN and less than none are none, and the end is Kubernetes' largest integer.
pub(crate) fn ceil(replicas: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    let whole = replicas.ceil().clamp(0.0, f64::from(i32::MAX)) as u32;
    whole
}

/// What the arithmetic of one metric comes to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) replicas: u32,
    pub(crate) verdict: Verdict,
    pub(crate) value: Milli,
    pub(crate) over: Over,
    pub(crate) current: CurrentMetric,
    /// What each pod is to request, where that and not its request is what its use is compared with.
    pub(crate) sized_request: Option<Milli>,
}

/// How it came to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// By the measured ratio.
    Measured,
    /// The ratio is within the tolerance.
    Tolerated,
    /// The unmeasured pods could turn it around.
    Unmeasured,
}

/// What a proposal says: replicas, if it asks for any; why; and what its metric reads.
struct Judgement {
    replicas: Option<u32>,
    reason: Reason,
    current: Option<CurrentMetric>,
}

impl Judgement {
    /// It asks for nothing.
    fn none(reason: Reason) -> Self {
        Self { replicas: None, reason, current: None }
    }
}

impl Outcome {
    /// Puts the reason to the numbers.
    fn judge(self, metric: &Name, target: MetricTarget, tolerance: Tolerance) -> Judgement {
        let wanted = match target {
            MetricTarget::Utilization(percent) => i64::from(percent) * 1000,
            MetricTarget::AverageValue(amount) | MetricTarget::Value(amount) => amount.get(),
        };
        let times = match self.over {
            Over::Replicas(replicas) => replicas,
            Over::Pods { .. } | Over::Ready(_) => 1,
        };
        let above = i128::from(self.value.get()) > i128::from(wanted) * i128::from(times);
        let (metric, replicas) = (metric.clone(), self.replicas);
        let Self { value, over, sized_request, .. } = self;
        let measured = Measured { metric, value, target, over, sized_request, replicas };
        let reason = match self.verdict {
            Verdict::Measured if above => Reason::AboveTarget(measured),
            Verdict::Measured => Reason::BelowTarget(measured),
            Verdict::Tolerated => Reason::WithinTolerance { measured, tolerance },
            Verdict::Unmeasured => Reason::UnmeasuredPodsDecide(measured),
        };
        Judgement { replicas: Some(replicas), reason, current: Some(self.current) }
    }
}
