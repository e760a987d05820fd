//! Scenarios as text: facts, and the decision they lead to.
//!
//! Each line is `<seconds> <fact>; <fact> => <current>→<desired> <stage:Code> <stage:Code>`. A fact is `scale N`,
//! `unreadable WHY` (of the scale), `waiting N`, `ready N` (that many ready pods), or a metric's name and what it reads: a
//! number, `idle`, `missing`, `stale` or `failed`. Without `=>` nothing is evaluated. A decision is carried out at once.

use std::fmt::Write as _;
use std::time::Duration;

use flyball_engine::{
    Activation, Bounds, Decision, Engine, Metric, MetricSource, MetricTarget, Metrics, Milli, Observation,
    Phase, Pod, PodRequests, Policy, Readiness, Reading, Scale, Selector, TargetId, Time,
};

/// The second 0 of every scenario.
pub(crate) const START: Time = Time::from_seconds(1_800_000_000);

pub(crate) fn at(seconds: u64) -> Time {
    START + Duration::from_secs(seconds)
}

pub(crate) fn target() -> TargetId {
    TargetId::new("Deployment", "default", "model")
}

/// An External metric that wants `average` for each replica.
pub(crate) fn external(name: &str, average: i64) -> Metric {
    let source = MetricSource::External { metric: name.into(), selector: None };
    Metric::new(name, source, MetricTarget::AverageValue(Milli::new(average * 1000))).expect("a good metric")
}

/// An External metric that wants `value` in all.
pub(crate) fn external_value(name: &str, value: i64) -> Metric {
    let source = MetricSource::External { metric: name.into(), selector: None };
    Metric::new(name, source, MetricTarget::Value(Milli::new(value * 1000))).expect("a good metric")
}

pub(crate) fn cpu(percent: u32) -> Metric {
    let source = MetricSource::Resource { resource: "cpu".into() };
    Metric::new("cpu", source, MetricTarget::Utilization(percent)).expect("a good metric")
}

/// A ScaledObject's policy, created at the start.
pub(crate) fn scaled_object(min: u32, max: u32, idle: Option<u32>, metrics: Vec<Metric>) -> Policy {
    Policy {
        activation: Some(Activation { created: START, ..Activation::default() }),
        ..autoscaler_with(Bounds::new(min, max, idle).expect("good bounds"), metrics)
    }
}

/// A plain autoscaler's policy.
pub(crate) fn autoscaler(min: u32, max: u32, metrics: Vec<Metric>) -> Policy {
    autoscaler_with(Bounds::new(min, max, None).expect("good bounds"), metrics)
}

fn autoscaler_with(bounds: Bounds, metrics: Vec<Metric>) -> Policy {
    Policy::new(bounds, Metrics::new(metrics, None).expect("good metrics"))
}

/// An engine with one target.
pub(crate) struct Play {
    pub(crate) engine: Engine,
    pub(crate) replicas: u32,
}

impl Play {
    pub(crate) fn new(policy: Policy) -> Self {
        let mut engine = Engine::new();
        engine.observe(START, Observation::Policy { target: target(), policy: Box::new(policy) });
        Self { engine, replicas: 0 }
    }

    /// Takes in one fact, as text.
    pub(crate) fn fact(&mut self, now: Time, fact: &str) {
        let (name, what) = fact.trim().split_once(' ').expect("a name and a value");
        let number = || what.parse::<u32>().expect("a whole number");
        let observation = match name {
            "scale" => return self.scale(now, number()),
            "unreadable" => Observation::ScaleFailed { target: target(), error: what.to_owned() },
            "waiting" => Observation::Waiting { target: target(), requests: number() },
            "ready" => Observation::Pods { target: target(), pods: (0..number()).map(ready_pod).collect() },
            metric => {
                Observation::Metric { target: target(), metric: metric.into(), reading: reading(now, what) }
            }
        };
        self.engine.observe(now, observation);
    }

    pub(crate) fn scale(&mut self, now: Time, replicas: u32) {
        self.replicas = replicas;
        let scale = Scale { spec_replicas: replicas, status_replicas: replicas, selector: Selector::Valid };
        self.engine.observe(now, Observation::Scale { target: target(), scale });
    }

    /// Decides, and carries the decision out.
    pub(crate) fn decide(&mut self, now: Time) -> Option<Decision> {
        let decision = self.engine.evaluate(now).pop()?;
        if decision.rescales() {
            let (from, to) = (decision.current, decision.desired);
            self.engine.observe(now, Observation::Rescaled { target: target(), from, to, error: None });
            self.scale(now, to);
        }
        Some(decision)
    }
}

fn reading(now: Time, what: &str) -> Reading {
    match what {
        "idle" => Reading::Idle { at: now },
        "missing" => Reading::Missing { why: "no series matches".to_owned() },
        "stale" => Reading::Stale { last: 1.0, at: START, why: String::new() },
        "failed" => Reading::Failed { error: "connection refused".to_owned() },
        partial if partial.ends_with('+') => Reading::Partial {
            value: partial.trim_end_matches('+').parse().expect("a number"),
            at: now,
            why: "a store did not answer".to_owned(),
        },
        number => Reading::Value { value: number.parse().expect("a number"), at: now },
    }
}

pub(crate) fn ready_pod(index: u32) -> Pod {
    Pod {
        name: format!("model-{index:04}").into(),
        phase: Phase::Running,
        deleting: false,
        started: Some(START - Duration::from_secs(3600)),
        ready: Some(Readiness { ready: true, since: START - Duration::from_secs(3590) }),
        requests: PodRequests::default(),
    }
}

/// Plays a scenario and compares every decision.
#[track_caller]
pub(crate) fn check(policy: Policy, scenario: &str) {
    let mut play = Play::new(policy);
    let (mut expected, mut found) = (String::new(), String::new());
    for line in scenario.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (facts, decision) =
            line.split_once("=>").map_or((line, None), |(facts, d)| (facts, Some(d.trim())));
        let (seconds, facts) = facts.trim().split_once(' ').unwrap_or((facts.trim(), ""));
        let now = at(seconds.parse().expect("seconds"));
        for fact in facts.split(';').filter(|fact| !fact.trim().is_empty()) {
            play.fact(now, fact);
        }
        if let Some(decision) = decision {
            let rendered =
                play.decide(now).map_or_else(|| "nothing".to_owned(), |decision| render(&decision));
            writeln!(found, "{seconds} {rendered}").expect("a text can be written to");
            writeln!(expected, "{seconds} {decision}").expect("a text can be written to");
        }
    }
    assert_eq!(found, expected, "found on the left, expected on the right");
}

fn render(decision: &Decision) -> String {
    let mut text = format!("{}→{}", decision.current, decision.desired);
    for step in &decision.steps {
        write!(text, " {}:{}", step.stage, step.reason.code()).expect("a text can be written to");
    }
    text
}
