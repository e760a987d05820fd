//! From a case to facts: the engine's words for pods, metrics, rules and history.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_engine::{
    Behavior, Bounds, ContainerRequests, Decision, Engine, Event, Events, Memory, Metric, MetricSource,
    MetricTarget, Metrics, Milli, Name, NoBehavior, Observation, Phase, Pod, PodRequests, PodValue, Policy,
    PolicyKind, Readiness, Reading, Recommendation, Recommendations, Rules, Scale, ScalingPolicy,
    ScalingRules, SelectPolicy, Selector, TargetId, Time, Tolerance, ZeroRule,
};

use crate::case;

/// Later than the oldest age in the file.
pub(crate) const NOW: Time = Time::from_seconds(2_000_000_000);

pub(crate) fn ago(seconds: u64) -> Time {
    NOW - Duration::from_secs(seconds)
}

pub(crate) fn target() -> TargetId {
    TargetId::new("Deployment", "test-namespace", "test-rc")
}

/// kube-controller-manager's settings as its tests have them.
pub(crate) fn rules(tolerance: case::Tolerance) -> Rules {
    Rules {
        zero: ZeroRule::Hpa { scale_to_zero: false },
        cpu_initialization: Duration::from_secs(120),
        initial_readiness_delay: Duration::from_secs(10),
        tolerance: Tolerance { down: tolerance.down, up: tolerance.up },
        ..Rules::hpa()
    }
}

/// An engine that knows one target.
pub(crate) struct World {
    pub(crate) engine: Engine,
}

impl World {
    pub(crate) fn new(policy: Policy, memory: Memory, scale: (u32, u32), pods: Vec<Pod>) -> Self {
        let mut world = Self { engine: Engine::new() };
        world.observe(Observation::Policy { target: target(), policy: Box::new(policy) });
        world.observe(Observation::Memory { target: target(), memory: Box::new(memory) });
        world.scale(scale.0, scale.1, Selector::Valid);
        world.observe(Observation::Pods { target: target(), pods });
        world
    }

    pub(crate) fn observe(&mut self, observation: Observation) {
        self.engine.observe(NOW, observation);
    }

    pub(crate) fn scale(&mut self, spec_replicas: u32, status_replicas: u32, selector: Selector) {
        let scale = Scale { spec_replicas, status_replicas, selector };
        self.observe(Observation::Scale { target: target(), scale });
    }

    pub(crate) fn read(&mut self, metric: &str, reading: Reading) {
        self.observe(Observation::Metric { target: target(), metric: metric.into(), reading });
    }

    pub(crate) fn decide(&mut self) -> Result<Decision, String> {
        self.engine.evaluate(NOW).pop().ok_or_else(|| "no decision".to_owned())
    }

    pub(crate) fn memory(&self) -> Memory {
        self.engine.memory(&target()).cloned().unwrap_or_default()
    }
}

/// A policy of one metric named `metric`, that does not clamp.
pub(crate) fn policy_of(source: MetricSource, wanted: MetricTarget, rules: Rules) -> Result<Policy, String> {
    let metric = Metric::new("metric", source, wanted).map_err(|e| e.to_string())?;
    let metrics = Metrics::new(vec![metric], None).map_err(|e| e.to_string())?;
    Ok(Policy { rules, ..Policy::new(bounds(0, i32::MAX.unsigned_abs())?, metrics) })
}

/// A policy whose metric asks for as many replicas as it reads.
pub(crate) fn policy_of_wish(min: u32, max: u32, rules: Rules) -> Result<Policy, String> {
    let source = MetricSource::External { metric: "wish".into(), selector: None };
    let wanted = MetricTarget::AverageValue(Milli::new(1000));
    let rules = Rules { zero: ZeroRule::OneLoop, tolerance: Tolerance { down: 0.0, up: 0.0 }, ..rules };
    Ok(Policy { bounds: bounds(min, max)?, ..policy_of(source, wanted, rules)? })
}

pub(crate) fn wish(replicas: u32) -> Reading {
    Reading::Value { value: replicas.into(), at: NOW }
}

pub(crate) fn bounds(min: u32, max: u32) -> Result<Bounds, String> {
    Bounds::new(min, max, None).map_err(|e| e.to_string())
}

pub(crate) fn source(kind: &str, resource: Option<&str>, container: Option<&str>) -> MetricSource {
    let resource = || Name::from(resource.unwrap_or("cpu"));
    match (kind, container) {
        ("Resource", None) => MetricSource::Resource { resource: resource() },
        ("Resource" | "ContainerResource", container) => MetricSource::ContainerResource {
            resource: resource(),
            container: container.unwrap_or_default().into(),
        },
        ("Pods", _) => MetricSource::Pods { metric: "qps".into() },
        ("Object", _) => MetricSource::Object { kind: "Deployment".into(), metric: "qps".into() },
        ("External", _) => MetricSource::External { metric: "qps".into(), selector: None },
        (other, _) => MetricSource::Unknown { type_name: other.into() },
    }
}

pub(crate) fn pods(pods: &[case::Pod], resource: &str) -> Vec<Pod> {
    pods.iter().map(|own| pod(own, resource)).collect()
}

pub(crate) fn pod(own: &case::Pod, resource: &str) -> Pod {
    let request = |name: &String, milli: Option<i64>| ContainerRequests {
        name: name.as_str().into(),
        requests: milli.map(|milli| (Name::from(resource), Milli::new(milli))).into_iter().collect(),
    };
    let restarted = |c: &&case::Container| c.restart_policy.as_deref() == Some("Always");
    let mut containers: Vec<_> =
        own.requests_milli.iter().map(|(name, milli)| request(name, *milli)).collect();
    containers.extend(own.containers.iter().map(|c| request(&c.name, c.request_milli)));
    containers
        .extend(own.init_containers.iter().filter(restarted).map(|c| request(&c.name, c.request_milli)));
    Pod {
        name: own.name.as_str().into(),
        phase: match own.phase.as_deref() {
            Some("Pending") => Phase::Pending,
            Some("Succeeded") => Phase::Succeeded,
            Some("Failed") => Phase::Failed,
            _ => Phase::Running,
        },
        deleting: own.deleted,
        started: own.start_age_s.map(ago),
        ready: own.ready.as_ref().map(|ready| Readiness {
            ready: ready == "True",
            since: own.ready_transition_age_s.map_or(Time::default(), ago),
        }),
        requests: PodRequests { pod: BTreeMap::new(), containers },
    }
}

/// The pods' values of a resource, of one container, or of a metric of their own.
pub(crate) fn per_pod(metrics: &[case::PodMetric], container: Option<&str>) -> Reading {
    let value = |own: &case::PodMetric| match container {
        Some(container) => own.usage_milli.get(container).copied(),
        None if own.usage_milli.is_empty() => Some(own.value_milli),
        None => Some(own.usage_milli.values().sum()),
    };
    let values = metrics.iter().filter_map(|own| {
        let (at, window) = (ago(own.age_s), Duration::from_secs(own.window_s));
        Some(PodValue {
            pod: own.pod.as_str().into(),
            value: Milli::new(value(own)?),
            at,
            window,
            starting: false,
        })
    });
    Reading::PerPod { values: values.collect(), at: NOW }
}

/// One value for the whole target, in thousandths.
pub(crate) fn total(values_milli: &[i64]) -> Reading {
    let sum: Milli = values_milli.iter().map(|milli| Milli::new(*milli)).sum();
    Reading::Value { value: sum.as_f64(), at: NOW }
}

pub(crate) fn scaling_rules(rules: &case::Rules, with_tolerance: bool) -> Result<ScalingRules, String> {
    let select = match rules.select.as_str() {
        "Max" => SelectPolicy::Max,
        "Min" => SelectPolicy::Min,
        "Disabled" => SelectPolicy::Disabled,
        other => return Err(format!("unknown selectPolicy {other}")),
    };
    let policies = rules.policies.iter().map(|policy| ScalingPolicy {
        kind: if policy.kind == "Pods" { PolicyKind::Pods } else { PolicyKind::Percent },
        value: policy.value,
        period: Duration::from_secs(policy.period_s),
    });
    let tolerance = match rules.tolerance.as_deref().filter(|_| with_tolerance) {
        Some(text) => Some(text.parse().map_err(|_| format!("tolerance {text}"))?),
        None => None,
    };
    let window = rules.stabilization_s.map(Duration::from_secs);
    ScalingRules::new(window, select, policies.collect(), tolerance).map_err(|e| e.to_string())
}

/// `behavior` with the default policies and these windows.
pub(crate) fn windows(up_s: u64, down_s: u64) -> Result<Behavior, String> {
    let with = |rules: ScalingRules, seconds| {
        let window = Some(Duration::from_secs(seconds));
        ScalingRules::new(window, rules.select(), rules.policies().to_vec(), None).map_err(|e| e.to_string())
    };
    Ok(Behavior {
        scale_up: with(ScalingRules::default_up(), up_s)?,
        scale_down: with(ScalingRules::default_down(), down_s)?,
    })
}

pub(crate) fn recommendations(list: &[case::Recommendation]) -> Recommendations {
    Recommendations::new(
        list.iter().map(|r| Recommendation { replicas: r.replicas, at: ago(r.age_s) }).collect(),
    )
}

pub(crate) fn events(list: &[case::Event]) -> Events {
    Events::new(list.iter().map(|e| Event { change: e.change, at: ago(e.age_s), outdated: false }).collect())
}

/// A wish, and no history but the one given.
pub(crate) fn legacy(factor: f64, minimum: f64) -> NoBehavior {
    NoBehavior::Legacy { factor, minimum }
}
