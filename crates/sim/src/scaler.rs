//! Who decides in the virtual cluster, and what each of them gets to see.
//!
//! - The engine, by HPA's rules on CPU (a sample of 15 s, up to 15 s old, decided every 15 s), by KEDA's on a rate (of the
//!   last minute, decided every 15 s), and by an objective (measured and decided every second).
//! - Knative's KPA: concurrency each second, decided every two.
//! - Nobody: a fixed number.
//! - A clairvoyant: the plan of [`Optimum`](crate::Optimum), ordered a start-up ahead.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_engine::{
    Activation, Bounds, ContainerRequests, CpuUse, Decision, Demand, Engine, Latency, Metric, MetricSource,
    MetricTarget, Metrics, Milli, Objectives, Observation, Phase, Pod, PodRequests, PodValue, Policy,
    Readiness, Reading, Rules, Scale, Selector, Slo, TargetId, Time, ZeroRule,
};
use thiserror::Error;

use crate::cluster::{Cluster, Second};
use crate::kpa::{Kpa, KpaConfig};
use crate::profile::Profile;
use crate::text::rate;

/// The simulation begins here: a Monday, so that reports have readable times.
pub(crate) const START: Time = Time::from_seconds(1_798_416_000);

/// HPA's and KEDA's loop, and the resolution of metrics-server.
const SYNC: u64 = 15;

/// Who decides, as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum ScalerKind {
    /// An objective, by the engine.
    Slo,
    /// HPA's rules on CPU, with this utilization wanted (0–1).
    Hpa(f64),
    /// KEDA's rules on the arrival rate, with so much wanted of each replica.
    Keda(Wanted),
    /// Knative's KPA, with this utilization wanted (0–1).
    Kpa(f64),
    /// A fixed number of replicas.
    Static(u32),
    /// The plan of one who knows the future.
    Clairvoyant,
}

/// How much of a rate is wanted of each replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// Requests a second.
    Rate(f64),
    /// This part of what a replica can do at all (0–1).
    Part(f64),
}

/// Why a policy can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("policy `{text}`: {why}; write slo, hpa:70%, keda:70%, keda:20/s, kpa:70%, static:5 or clairvoyant")]
pub struct ScalerError {
    text: String,
    why: String,
}

impl ScalerKind {
    /// `slo`, `hpa:70%`, `keda:70%` of a replica's capacity or `keda:20/s`, `kpa:70%`, `static:5`, `clairvoyant`.
    ///
    /// # Errors
    ///
    /// An unknown name, or a number out of its range.
    pub fn parse(text: &str) -> Result<Self, ScalerError> {
        let error = |why: String| ScalerError { text: text.to_owned(), why };
        let (name, value) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value)));
        let part = || part_of(value.unwrap_or("70%")).map_err(error);
        match (name, value) {
            ("slo", None) => Ok(Self::Slo),
            ("hpa", _) => part().map(Self::Hpa),
            ("keda", Some(value)) if !value.ends_with('%') => match rate(value) {
                Ok(rate) if rate > 0.0 => Ok(Self::Keda(Wanted::Rate(rate))),
                Ok(_) => Err(error("its rate must be above zero".to_owned())),
                Err(why) => Err(error(why)),
            },
            ("keda", _) => part().map(|part| Self::Keda(Wanted::Part(part))),
            ("kpa", _) => part().map(Self::Kpa),
            ("static", Some(value)) => value
                .parse()
                .map(Self::Static)
                .map_err(|_| error(format!("`{value}` is no number of replicas"))),
            ("clairvoyant", None) => Ok(Self::Clairvoyant),
            _ => Err(error(format!("`{name}` is no policy, or lacks its number"))),
        }
    }

    /// As it is written.
    pub fn name(&self) -> String {
        let percent = |part: f64| (part * 1000.0).round() / 10.0;
        match self {
            Self::Slo => "slo".to_owned(),
            Self::Hpa(part) => format!("hpa:{}%", percent(*part)),
            Self::Keda(Wanted::Part(part)) => format!("keda:{}%", percent(*part)),
            Self::Keda(Wanted::Rate(rate)) => format!("keda:{rate}/s"),
            Self::Kpa(part) => format!("kpa:{}%", percent(*part)),
            Self::Static(replicas) => format!("static:{replicas}"),
            Self::Clairvoyant => "clairvoyant".to_owned(),
        }
    }
}

fn part_of(text: &str) -> Result<f64, String> {
    let percent: Option<f64> = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    percent
        .filter(|percent| (1.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("`{text}` is no percentage from 1% to 100%"))
}

/// What was decided at one second.
pub(crate) struct Verdict {
    pub(crate) to: u32,
    pub(crate) reason: String,
}

/// Who decides.
pub(crate) enum Scaler {
    Engine(Box<ByEngine>),
    Kpa(Kpa),
    Static(u32),
    Plan { replicas: Vec<u32>, lead: usize },
}

/// What all need to know.
pub(crate) struct Given<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) objectives: &'a Objectives,
    pub(crate) risk: Option<f64>,
    pub(crate) bounds: Bounds,
}

impl Scaler {
    pub(crate) fn new(kind: &ScalerKind, given: &Given<'_>, plan: &[u32], initial: u32) -> Self {
        match kind {
            ScalerKind::Static(replicas) => Self::Static(*replicas),
            ScalerKind::Clairvoyant => {
                #[expect(clippy::cast_possible_truncation, reason = "a start-up in seconds")]
                let lead = given.profile.startup.as_secs() as usize + 1;
                Self::Plan { replicas: plan.to_vec(), lead }
            }
            ScalerKind::Kpa(part) => {
                let config = KpaConfig {
                    total: f64::from(given.profile.concurrency),
                    utilization: *part,
                    min: given.bounds.min(),
                    max: given.bounds.max(),
                    ..KpaConfig::default()
                };
                Self::Kpa(Kpa::new(config, 0, initial))
            }
            ScalerKind::Slo | ScalerKind::Hpa(_) | ScalerKind::Keda(_) => {
                Self::Engine(Box::new(ByEngine::new(kind, given)))
            }
        }
    }

    /// What is wanted after the second `at`, of which the last of `seconds` is the measurement; none to keep what there is.
    pub(crate) fn decide(&mut self, at: u64, seconds: &[Second], cluster: &Cluster<'_>) -> Option<Verdict> {
        let last = seconds.last()?;
        let to = match self {
            Self::Engine(engine) => return engine.decide(at, seconds, cluster),
            Self::Static(replicas) => *replicas,
            Self::Plan { replicas, lead } => {
                #[expect(clippy::cast_possible_truncation, reason = "seconds of a load")]
                let (from, to) = (at as usize, (at as usize + *lead).min(replicas.len()));
                // What is ordered now serves only at the end; what is still needed until then stays.
                replicas.get(from..to).and_then(|ahead| ahead.iter().max().copied()).unwrap_or(1)
            }
            Self::Kpa(kpa) => {
                kpa.observe(at, last.in_flight);
                if !at.is_multiple_of(2) {
                    return None;
                }
                kpa.decide(at, last.ready)?.desired
            }
        };
        (to != cluster.size()).then(|| Verdict { to, reason: String::new() })
    }
}

/// The engine, with what it is told.
pub(crate) struct ByEngine {
    engine: Engine,
    target: TargetId,
    kind: ScalerKind,
    concurrency: f64,
    startup: Duration,
    names: BTreeMap<u32, flyball_engine::Name>,
    told: Option<(u32, u32)>,
}

const METRIC: &str = "s0";

impl ByEngine {
    fn new(kind: &ScalerKind, given: &Given<'_>) -> Self {
        let target = TargetId::new("Deployment", "default", "model");
        let (service, concurrency) =
            (given.profile.service.mean().as_secs_f64(), f64::from(given.profile.concurrency));
        let policy = policy(kind, given, concurrency / service);
        let mut engine = Engine::new();
        engine.observe(START, Observation::Policy { target: target.clone(), policy: Box::new(policy) });
        Self {
            engine,
            target,
            kind: kind.clone(),
            concurrency,
            startup: given.profile.startup,
            names: BTreeMap::new(),
            told: None,
        }
    }

    fn decide(&mut self, at: u64, seconds: &[Second], cluster: &Cluster<'_>) -> Option<Verdict> {
        let now = START + Duration::from_secs(at);
        let (last, target) = (seconds.last()?, self.target.clone());
        let is_slo = self.kind == ScalerKind::Slo;
        if !is_slo && !at.is_multiple_of(SYNC) {
            return None;
        }
        let scale = Scale {
            spec_replicas: cluster.size(),
            status_replicas: cluster.size(),
            selector: Selector::Valid,
        };
        self.engine.observe(now, Observation::Scale { target: target.clone(), scale });
        let counts = (last.ready, cluster.size());
        if !is_slo || self.told != Some(counts) {
            self.told = Some(counts);
            let pods = self.pods(now, cluster);
            self.engine.observe(now, Observation::Pods { target: target.clone(), pods });
        }
        match &self.kind {
            ScalerKind::Slo => {
                let demand = Ok(Box::new(self.demand(now, last)));
                self.engine.observe(now, Observation::Demand { target: target.clone(), demand });
            }
            ScalerKind::Hpa(_) => {
                let reading = self.cpu(at, now, seconds, cluster);
                self.engine.observe(
                    now,
                    Observation::Metric { target: target.clone(), metric: METRIC.into(), reading },
                );
            }
            _ => {
                let window = seconds.len().min(60);
                let sum: f64 = seconds.iter().rev().take(window).map(|second| second.arrived).sum();
                let reading = Reading::Value { value: sum / window as f64, at: now };
                self.engine.observe(
                    now,
                    Observation::Metric { target: target.clone(), metric: METRIC.into(), reading },
                );
            }
        }
        let decision = self.engine.evaluate(now).pop()?;
        if !decision.rescales() {
            return None;
        }
        let (from, to) = (decision.current, decision.desired);
        self.engine.observe(now, Observation::Rescaled { target, from, to, error: None });
        Some(Verdict { to, reason: said(&decision) })
    }

    fn demand(&self, now: Time, last: &Second) -> Demand {
        let latency = (last.completed > 0.0).then(|| Latency::Over {
            share: (last.over / last.completed).clamp(0.0, 1.0),
            count: last.completed,
            mean: Some(last.latency_sum / last.completed),
        });
        let all = last.arrived.max(1.0);
        Demand {
            at: now,
            window: Duration::from_secs(1),
            rate: last.arrived,
            in_flight: Some(last.in_flight),
            latency,
            errors: Some((last.refused / all).min(1.0)),
            cpu: Some(CpuUse { used: last.busy, per_replica: self.concurrency }),
        }
    }

    /// CPU of each serving replica, averaged over the last whole sample of metrics-server.
    fn cpu(&self, at: u64, now: Time, seconds: &[Second], cluster: &Cluster<'_>) -> Reading {
        // The sample is on average half a period old.
        let (age, window) = (7_usize, SYNC);
        let sample = seconds.iter().rev().skip(age).take(15);
        let (mut busy, mut ready, mut count) = (0.0, 0.0, 0.0);
        for second in sample {
            (busy, ready, count) = (busy + second.busy, ready + f64::from(second.ready), count + 1.0);
        }
        if count == 0.0 || ready == 0.0 {
            return Reading::Missing { why: "no sample yet".to_owned() };
        }
        let each = Milli::from_f64(busy / ready);
        let sampled = now - Duration::from_secs(age as u64);
        let began = at.saturating_sub(age as u64) * 1_000_000;
        let serving = cluster.replicas.iter().filter(|replica| replica.ready <= began);
        let values = serving.map(|replica| PodValue {
            pod: self.name(replica.id),
            value: each,
            at: sampled,
            window: Duration::from_secs(window),
            starting: false,
        });
        Reading::PerPod { values: values.collect(), at: sampled }
    }

    fn name(&self, id: u32) -> flyball_engine::Name {
        self.names.get(&id).cloned().unwrap_or_else(|| format!("model-{id:09}").into())
    }

    fn pods(&mut self, now: Time, cluster: &Cluster<'_>) -> Vec<Pod> {
        #[expect(clippy::cast_possible_truncation, reason = "a number of requests at once")]
        let cpu = Milli::new((self.concurrency * 1000.0) as i64);
        let first = cluster.replicas.first().map_or(0, |replica| replica.id);
        self.names = self.names.split_off(&first);
        let mut pods = Vec::with_capacity(cluster.replicas.len());
        for replica in &cluster.replicas {
            let name = self
                .names
                .entry(replica.id)
                .or_insert_with(|| format!("model-{:09}", replica.id).into())
                .clone();
            let (created, ready) = (moment(replica.created), moment(replica.ready));
            let is_ready = ready <= now;
            let requests = BTreeMap::from([("cpu".into(), cpu)]);
            let container = ContainerRequests { name: "server".into(), requests };
            pods.push(Pod {
                name,
                phase: Phase::Running,
                deleting: false,
                // Those that served from the start were started before it.
                started: Some(if replica.ready == 0 { created - self.startup } else { created }),
                ready: Some(Readiness { ready: is_ready, since: if is_ready { ready } else { created } }),
                requests: PodRequests { pod: BTreeMap::new(), containers: vec![container] },
            });
        }
        pods
    }
}

fn moment(micros: u64) -> Time {
    START + Duration::from_micros(micros)
}

/// What the decision's chain says, in one line.
fn said(decision: &Decision) -> String {
    let steps = decision.steps.iter().map(|step| format!("{} → {}: {}", step.from, step.to, step.reason));
    steps.collect::<Vec<_>>().join("; ")
}

fn policy(kind: &ScalerKind, given: &Given<'_>, capacity: f64) -> Policy {
    let bounds = given.bounds;
    let metric = |source, target| {
        let metric = Metric::new(METRIC, source, target).and_then(|metric| Metrics::new(vec![metric], None));
        metric.map(|metrics| Policy {
            evaluate_every: Duration::from_secs(SYNC),
            rules: Rules::hpa(),
            ..Policy::new(bounds, metrics)
        })
    };
    let policy = match kind {
        ScalerKind::Hpa(part) => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
            let percent = (part * 100.0).round() as u32;
            metric(MetricSource::Resource { resource: "cpu".into() }, MetricTarget::Utilization(percent))
        }
        ScalerKind::Keda(wanted) => {
            let each = match wanted {
                Wanted::Rate(rate) => *rate,
                Wanted::Part(part) => part * capacity,
            };
            let source = MetricSource::External { metric: METRIC.into(), selector: None };
            let policy = metric(source, MetricTarget::AverageValue(Milli::from_f64(each.max(0.001))));
            let activation = Some(Activation { created: START, ..Activation::default() });
            let rules = Rules { zero: ZeroRule::OneStep, ..Rules::hpa() };
            policy.map(|policy| Policy { activation, rules, ..policy })
        }
        _ => {
            let mut slo = Slo::new(given.objectives.clone());
            if let Some(risk) = given.risk {
                slo.risk = risk;
            }
            Ok(Policy::for_objective(bounds, slo))
        }
    };
    // Targets are above zero by the parsers; an objective without metrics is the rest.
    policy.unwrap_or_else(|_| Policy::for_objective(bounds, Slo::new(given.objectives.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_named() {
        for (text, name) in [
            ("slo", "slo"),
            ("hpa:70%", "hpa:70%"),
            ("hpa", "hpa:70%"),
            ("keda:50%", "keda:50%"),
            ("keda:20/s", "keda:20/s"),
            ("kpa", "kpa:70%"),
            ("static:5", "static:5"),
            ("clairvoyant", "clairvoyant"),
        ] {
            assert_eq!(ScalerKind::parse(text).expect(text).name(), name);
        }
        for (text, why) in [
            ("hpa:700%", "`700%` is no percentage"),
            ("vpa", "`vpa` is no policy"),
            ("keda:0/s", "above zero"),
            ("static:many", "`many` is no number of replicas"),
            ("static", "lacks its number"),
        ] {
            let error = ScalerKind::parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
