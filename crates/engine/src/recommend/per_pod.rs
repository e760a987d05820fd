//! Replicas from a metric that each pod has: cpu, memory, or one of its own (`replica_calculator.go`).
//!
//! The ratio of what the pods use to what is wanted, times the pods that count. Pods that could not be measured are
//! filled in so that they slow a change down and never cause one: when there is too little load they are taken to use
//! all they asked for, when there is too much they and the unready ones are taken to use nothing. If that turns the
//! result around, nothing changes.
//!
//! Utilization is a whole percentage, cut off; averages are cut off to a thousandth. Ratios are computed exactly in
//! the order written here, so that rounding agrees with the original's.

use std::time::Duration;

use crate::decision::CurrentMetric;
use crate::metric::{MetricSource, MetricTarget};
use crate::milli::Milli;
use crate::pod::{Pod, PodGroup, PodValue, Sampled};
use crate::reason::Over;
use crate::recommend::{Outcome, Verdict, View, ceil};
use crate::rules::{Rules, Tolerance};
use crate::time::Time;

/// One metric's values and requests, in the order of the target's pods. Made when either arrives, so that an
/// evaluation compares no names.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodTable {
    samples: Vec<Option<Sample>>,
    /// What the pods requested; none if this metric does not compare with it.
    requests: Option<Result<Vec<Milli>, String>>,
    /// Values of pods that the selector does not list: an average counts them, as the original does.
    extra: Sums,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    value: Milli,
    at: Time,
    window: Duration,
    starting: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    pods: u32,
    value: i64,
    request: i64,
    /// What the requests come to at the assumed utilization.
    assumed: i64,
}

impl Sums {
    fn add(&mut self, value: Milli, request: Milli, assumed: i64) {
        self.pods += 1;
        self.value = self.value.saturating_add(value.get());
        self.request = self.request.saturating_add(request.get());
        self.assumed = self.assumed.saturating_add(assumed);
    }
}

impl PodTable {
    /// Brings `pods` (by name) and the values of a metric together.
    pub(crate) fn new(
        source: &MetricSource,
        target: MetricTarget,
        pods: &[Pod],
        values: &[PodValue],
    ) -> Self {
        let mut samples = vec![None; pods.len()];
        let mut extra = Sums::default();
        // Values mostly come in the order of the pods, so the next pod is tried before it is searched for.
        let mut next = 0;
        for own in values {
            let found = match pods.get(next) {
                Some(pod) if pod.name == own.pod => Ok(next),
                _ => pods.binary_search_by(|pod| pod.name.cmp(&own.pod)),
            };
            match found {
                Ok(index) => {
                    samples[index] = Some(Sample {
                        value: own.value,
                        at: own.at,
                        window: own.window,
                        starting: own.starting,
                    });
                    next = index + 1;
                }
                Err(_) => extra.add(own.value, Milli::default(), 0),
            }
        }
        let requests = match (source, target) {
            (MetricSource::Resource { resource }, MetricTarget::Utilization(_)) => Some((resource, None)),
            (MetricSource::ContainerResource { resource, container }, MetricTarget::Utilization(_)) => {
                Some((resource, Some(container)))
            }
            _ => None,
        };
        let requests = requests
            .map(|(resource, container)| pods.iter().map(|pod| pod.request(resource, container)).collect());
        Self { samples, requests, extra }
    }
}

/// The pods of one metric, summed by group.
#[derive(Default)]
struct Groups {
    ready: Sums,
    /// Those that are starting among them.
    unready: Sums,
    starting: u32,
    missing: Sums,
}

/// How many replicas the pods' metric asks for.
pub(crate) fn replicas(
    view: &View<'_>,
    source: &MetricSource,
    target: MetricTarget,
    table: &PodTable,
    tolerance: Tolerance,
) -> Result<Outcome, String> {
    if table.extra.pods == 0 && table.samples.iter().all(Option::is_none) {
        return Err(nothing_returned(source));
    }
    if view.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let requests = match &table.requests {
        Some(Ok(requests)) => Some(requests.as_slice()),
        _ => None,
    };
    let groups = group(view, source, target, table, requests);
    if groups.ready.pods == 0 && table.extra.pods == 0 {
        return Err(none_counts(&groups, &view.policy.rules));
    }
    if let Some(Err(error)) = &table.requests {
        return Err(error.clone());
    }
    let over = Over::Pods {
        ready: groups.ready.pods,
        missing: groups.missing.pods,
        unready: groups.unready.pods - groups.starting,
        starting: groups.starting,
    };
    let kind = match target {
        MetricTarget::Utilization(percent) => Kind::Utilization { percent },
        MetricTarget::AverageValue(amount) | MetricTarget::Value(amount) => {
            Kind::Average { amount, extra: table.extra }
        }
    };
    let Some(first) = kind.usage(&groups.ready, &[]) else {
        return Err("no metrics returned matched known pods".to_owned());
    };
    let (replicas, verdict) = decide(&kind, &groups, table.extra.pods, &first, view.counts.spec, tolerance);
    let current = match target {
        MetricTarget::Utilization(_) => CurrentMetric::Utilization {
            percent: i32::try_from(first.value).unwrap_or(i32::MAX),
            average: Milli::new(groups.ready.value / i64::from(groups.ready.pods.max(1))),
        },
        _ => CurrentMetric::AverageValue(Milli::new(first.value)),
    };
    let value = match target {
        MetricTarget::Utilization(_) => Milli::new(first.value.saturating_mul(1000)),
        _ => Milli::new(first.value),
    };
    let sized_request = requests.and_then(|_| view.sized_request(source));
    Ok(Outcome { replicas, verdict, value, over, current, sized_request })
}

/// The HorizontalPodAutoscaler's words where its metrics API has nothing for the pods.
fn nothing_returned(source: &MetricSource) -> String {
    match source {
        MetricSource::Resource { resource } | MetricSource::ContainerResource { resource, .. } => format!(
            "unable to get metrics for resource {resource}: no metrics returned from resource metrics API"
        ),
        MetricSource::Pods { metric } => {
            format!("unable to get metric {metric}: no metrics returned from custom metrics API")
        }
        _ => "no metrics returned".to_owned(),
    }
}

/// And where it has something, but not for a pod that counts.
fn none_counts(groups: &Groups, rules: &Rules) -> String {
    let mut error = "did not receive metrics for targeted pods (pods might be unready)".to_owned();
    if groups.starting > 0 {
        let (pods, verb) = if groups.starting == 1 { ("pod", "is") } else { ("pods", "are") };
        let seconds = rules.cpu_start_max.as_secs();
        error.push_str(&format!(
            ": {} {pods} {verb} starting, which is no load; its use counts once it has fallen by half, or {seconds} s \
             after the start where no probe says when a pod is ready",
            groups.starting
        ));
    }
    error
}

/// What the pods that count use together; none if there are none.
pub(crate) fn used(
    view: &View<'_>,
    source: &MetricSource,
    target: MetricTarget,
    table: &PodTable,
) -> Option<Milli> {
    let ready = group(view, source, target, table, None).ready;
    (ready.pods > 0).then_some(Milli::new(ready.value))
}

/// Puts the pods into their groups, with what the unmeasured ones are assumed to use.
fn group(
    view: &View<'_>,
    source: &MetricSource,
    target: MetricTarget,
    table: &PodTable,
    requests: Option<&[Milli]>,
) -> Groups {
    let is_cpu = match source {
        MetricSource::Resource { resource } | MetricSource::ContainerResource { resource, .. } => {
            *resource == *"cpu"
        }
        _ => false,
    };
    let assumed_percent = match target {
        MetricTarget::Utilization(percent) => i64::from(percent.max(100)),
        _ => 0,
    };
    let sized = view.sized_request(source);
    let mut groups = Groups::default();
    for (index, pod) in view.pods.iter().enumerate() {
        let sample = table.samples.get(index).copied().flatten();
        let request = requests.map_or(Milli::default(), |requests| sized.unwrap_or(requests[index]));
        let value = sample.map_or(Milli::default(), |sample| sample.value);
        let sampled = sample.map(|Sample { at, window, starting, .. }| Sampled { at, window, starting });
        let sums = match pod.group(view.now, is_cpu, sampled, &view.policy.rules) {
            PodGroup::Ignored => continue,
            PodGroup::Starting => {
                groups.starting += 1;
                &mut groups.unready
            }
            PodGroup::Unready => &mut groups.unready,
            PodGroup::Missing => &mut groups.missing,
            PodGroup::Ready => &mut groups.ready,
        };
        sums.add(value, request, request.get().saturating_mul(assumed_percent) / 100);
    }
    groups
}

/// What is wanted of each pod.
enum Kind {
    Utilization { percent: u32 },
    Average { amount: Milli, extra: Sums },
}

/// What the pods use, and that over what is wanted.
struct Usage {
    /// Percent, or the average in thousandths.
    value: i64,
    ratio: f64,
}

/// Pods that were not measured, and what they are taken to use in all.
struct Filled {
    pods: u32,
    request: i64,
    value: i64,
}

impl Kind {
    /// The usage of the measured pods and those filled in; none when they requested nothing.
    fn usage(&self, ready: &Sums, filled: &[Filled]) -> Option<Usage> {
        let add =
            |start: i64, part: fn(&Filled) -> i64| filled.iter().map(part).fold(start, i64::saturating_add);
        let value = add(ready.value, |f| f.value);
        match *self {
            Self::Utilization { percent } => {
                let request = add(ready.request, |f| f.request);
                if request == 0 {
                    return None;
                }
                let used = i128::from(value) * 100 / i128::from(request);
                let value = i64::from(i32::try_from(used).unwrap_or(i32::MAX));
                Some(Usage { value, ratio: value as f64 / f64::from(percent) })
            }
            Self::Average { amount, extra } => {
                let pods = add(i64::from(ready.pods) + i64::from(extra.pods), |f| f.pods.into());
                let value = value.saturating_add(extra.value) / pods.max(1);
                Some(Usage { value, ratio: value as f64 / amount.get() as f64 })
            }
        }
    }

    /// What missing pods are taken to use when there is too little load: all that is wanted of them.
    fn assumed(&self, missing: &Sums) -> i64 {
        match self {
            Self::Utilization { .. } => missing.assumed,
            Self::Average { amount, .. } => amount.get().saturating_mul(missing.pods.into()),
        }
    }
}

fn decide(
    kind: &Kind,
    groups: &Groups,
    extra_pods: u32,
    first: &Usage,
    current: u32,
    tolerance: Tolerance,
) -> (u32, Verdict) {
    let fill_unready = groups.unready.pods > 0 && first.ratio > 1.0;
    if !fill_unready && groups.missing.pods == 0 {
        return if tolerance.holds(first.ratio) {
            (current, Verdict::Tolerated)
        } else {
            (ceil(first.ratio * f64::from(groups.ready.pods)), Verdict::Measured)
        };
    }
    let mut filled = Vec::with_capacity(2);
    if groups.missing.pods > 0 && first.ratio != 1.0 {
        let value = if first.ratio < 1.0 { kind.assumed(&groups.missing) } else { 0 };
        filled.push(Filled { pods: groups.missing.pods, request: groups.missing.request, value });
    }
    if fill_unready {
        filled.push(Filled { pods: groups.unready.pods, request: groups.unready.request, value: 0 });
    }
    let Some(second) = kind.usage(&groups.ready, &filled) else {
        return (current, Verdict::Unmeasured);
    };
    let turned = |one: f64, other: f64| one < 1.0 && other > 1.0;
    if tolerance.holds(second.ratio) {
        return (
            current,
            if tolerance.holds(first.ratio) { Verdict::Tolerated } else { Verdict::Unmeasured },
        );
    }
    if turned(first.ratio, second.ratio) || turned(second.ratio, first.ratio) {
        return (current, Verdict::Unmeasured);
    }
    let measured = groups.ready.pods + extra_pods + filled.iter().map(|f| f.pods).sum::<u32>();
    let replicas = ceil(second.ratio * f64::from(measured));
    let wrong_way = second.ratio < 1.0 && replicas > current || second.ratio > 1.0 && replicas < current;
    if wrong_way { (current, Verdict::Unmeasured) } else { (replicas, Verdict::Measured) }
}
