//! The HorizontalPodAutoscaler's arithmetic, one row for each rule and each edge of the numbers.

use std::time::Duration;

use flyball_engine::{
    ContainerRequests, CurrentMetric, Decision, Metric, MetricSource, MetricTarget, Milli, Observation,
    Phase, Pod, PodRequests, PodValue, Readiness, Reading,
};

use crate::play::{Play, at, autoscaler, cpu, external, external_value, target};

const NOW_S: u64 = 3600;

/// Pods as words: `r300` is ready and uses 300 of the 1000 it requested, `u300` has never been ready, `m` has no
/// value, `p` is pending, `d300` is being deleted, `f` failed, `s` succeeded, `y300` is young and became ready within the
/// window of its value; `b300` began 10 s ago and its use has not fallen since, `o300` likewise and it has, `B300` began
/// 130 s ago and its use has not fallen.
fn pods(words: &str) -> (Vec<Pod>, Reading) {
    let (mut pods, mut values) = (Vec::new(), Vec::new());
    for (index, word) in words.split_whitespace().enumerate() {
        let (kind, used) = word.split_at(1);
        let (age_s, window_s) = match kind {
            "y" => (20, 30),
            "b" | "o" => (10, 5),
            "B" => (130, 5),
            _ => (3000, 30),
        };
        let requests = [("cpu".into(), Milli::new(1000))].into_iter().collect();
        let pod = Pod {
            name: format!("pod-{index}").into(),
            phase: match kind {
                "p" => Phase::Pending,
                "f" => Phase::Failed,
                "s" => Phase::Succeeded,
                _ => Phase::Running,
            },
            deleting: kind == "d",
            started: Some(at(NOW_S - age_s)),
            ready: Some(Readiness { ready: kind != "u", since: at(NOW_S - age_s) }),
            requests: PodRequests {
                containers: vec![ContainerRequests { name: "app".into(), requests }],
                ..Default::default()
            },
        };
        if let Ok(milli) = used.parse() {
            let (at, window) = (at(NOW_S), Duration::from_secs(window_s));
            let (pod, value, starting) = (pod.name.clone(), Milli::new(milli), matches!(kind, "b" | "B"));
            values.push(PodValue { pod, value, at, window, starting });
        }
        pods.push(pod);
    }
    (pods, Reading::PerPod { values, at: at(NOW_S) })
}

fn decide(metric: Metric, current: u32, words: &str) -> Decision {
    let name = metric.name().clone();
    let mut play = Play::new(autoscaler(0, i32::MAX.unsigned_abs(), vec![metric]));
    let (pods, reading) = pods(words);
    play.scale(at(NOW_S), current);
    play.engine.observe(at(NOW_S), Observation::Pods { target: target(), pods });
    play.engine.observe(at(NOW_S), Observation::Metric { target: target(), metric: name, reading });
    play.decide(at(NOW_S)).expect("a decision")
}

#[test]
fn utilization_by_ready_unready_and_missing_pods() {
    // target, replicas, pods, replicas wanted, percent shown
    let table = [
        (50, 2, "r800 r800", 4, 80, "AboveTarget"),
        (50, 2, "r550 r540", 2, 54, "WithinTolerance"), // 54.5 is cut off
        (50, 4, "r100 r100 r100 r100", 1, 10, "BelowTarget"),
        // Unready pods slow a scale-up down, or stop it.
        (50, 2, "r900 r900 u900", 4, 90, "AboveTarget"), // 1800/3000 = 60 %, times 3
        (50, 2, "r600 u900", 2, 60, "UnmeasuredPodsDecide"), // 30 % would turn it around
        (50, 2, "r100 u900", 1, 10, "BelowTarget"),      // and have no say in a scale-down
        (50, 2, "y900 r100", 1, 10, "BelowTarget"),      // its sample is from before it was ready
        (50, 2, "p r100", 1, 10, "BelowTarget"),
        // Missing pods are taken to use all when there is too little load, and nothing when there is too much.
        (50, 4, "r100 r100 r100 m", 3, 10, "BelowTarget"), // 1300/4000 = 32 %
        (50, 2, "r100 m", 2, 10, "UnmeasuredPodsDecide"),
        (50, 3, "r900 r900 m", 4, 90, "AboveTarget"), // 1800/3000 = 60 %
        (150, 4, "r100 m", 2, 10, "BelowTarget"),     // at the target, since it is over 100 %: 1600/2000
        // A start is no load: not alone, and not beside pods that have some. Once its use has fallen, or after 120 s, a
        // pod counts.
        (50, 2, "r900 b900", 2, 90, "UnmeasuredPodsDecide"), // 900/2000 = 45 %
        (50, 2, "r400 b900", 1, 40, "BelowTarget"),
        (50, 1, "o900", 2, 90, "AboveTarget"),
        (50, 1, "B900", 2, 90, "AboveTarget"),
        // Those on their way out count for nothing.
        (50, 2, "r800 r800 d9000 f s", 4, 80, "AboveTarget"),
    ];
    for (percent, current, words, replicas, shown, code) in table {
        let decision = decide(cpu(percent), current, words);
        let proposal = &decision.proposals[0];
        assert_eq!(proposal.replicas, Some(replicas), "{words}: {decision}");
        assert_eq!(proposal.reason.code(), code, "{words}: {decision}");
        let Some(CurrentMetric::Utilization { percent, .. }) = proposal.current else {
            panic!("{words}: {decision}")
        };
        assert_eq!(percent, shown, "{words}: {decision}");
    }
}

#[test]
fn what_makes_a_pods_metric_unusable() {
    let table = [
        (
            "",
            "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource \
             metrics API",
        ),
        (
            "m m",
            "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource \
             metrics API",
        ),
        (
            "m u500",
            "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)",
        ),
        (
            "b900",
            "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready): 1 pod is \
             starting, which is no load; its use counts once it has fallen by half, or 120 s after the start where no \
             probe says when a pod is ready",
        ),
        (
            "u500",
            "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)",
        ),
    ];
    for (words, error) in table {
        let decision = decide(cpu(50), 2, words);
        assert_eq!(decision.desired, 2, "{words}");
        assert!(decision.steps[0].reason.to_string().contains(error), "{words}: {decision}");
    }
    let source = MetricSource::ContainerResource { resource: "cpu".into(), container: "sidecar".into() };
    let sidecar = Metric::new("sidecar", source, MetricTarget::Utilization(50)).expect("a good metric");
    let reason = decide(sidecar, 2, "r500").steps[0].reason.to_string();
    assert!(
        reason.contains("failed to get cpu utilization: container sidecar not found in Pod pod-0"),
        "{reason}"
    );
    let source = MetricSource::Resource { resource: "memory".into() };
    let memory = Metric::new("memory", source, MetricTarget::Utilization(50)).expect("a good metric");
    let reason = decide(memory, 2, "r500").steps[0].reason.to_string();
    assert!(reason.contains("missing request for memory in container app of Pod pod-0"), "{reason}");
}

#[test]
fn averages_of_the_pods_own_metric_ignore_readiness() {
    let queue = || {
        let wanted = MetricTarget::AverageValue(Milli::new(1000));
        Metric::new("queue", MetricSource::Pods { metric: "queue".into() }, wanted).expect("a good metric")
    };
    let table = [
        (3, "r2000 r2000 u2000", 6),
        (3, "r500 r500 m", 2),   // 500, 500 and the target for the missing one: 666 × 3
        (3, "r2000 r2000 m", 4), // 2000, 2000 and nothing: 1333 × 3
        (3, "r1500 m m", 3),
        (3, "r0 r0 r0", 0),
    ];
    for (current, words, replicas) in table {
        let decision = decide(queue(), current, words);
        assert_eq!(decision.proposals[0].replicas, Some(replicas), "{words}: {decision}");
    }
}

#[test]
fn every_edge_of_a_target() {
    let percent = MetricTarget::Utilization;
    let average = |milli| MetricTarget::AverageValue(Milli::new(milli));
    let value = |milli| MetricTarget::Value(Milli::new(milli));
    let source = |external: bool| match external {
        true => MetricSource::External { metric: "rate".into(), selector: None },
        false => MetricSource::Resource { resource: "cpu".into() },
    };
    for (external, target, accepted) in [
        (false, percent(0), false),
        (false, percent(1), true),
        (false, percent(u32::MAX), true),
        (false, average(0), false),
        (false, average(-1), false),
        (false, average(i64::MIN), false),
        (false, average(i64::MAX), true),
        (false, value(1), false),
        (true, value(0), false),
        (true, value(-1), false),
        (true, value(1), true),
        (true, value(i64::MAX), true),
        (true, percent(50), false),
    ] {
        assert_eq!(Metric::new("m", source(external), target).is_ok(), accepted, "{external} {target:?}");
    }
}

#[test]
fn every_edge_of_the_numbers() {
    let largest = i32::MAX.unsigned_abs();
    let by_average = |value: &str, current: u32| (external("metric", 10), value.to_owned(), current);
    let by_value = |value: &str, current: u32| (external_value("metric", 10), value.to_owned(), current);
    let table = [
        (by_average("0", 0), Some(0)),
        (by_average("0", 5), Some(0)),
        (by_average("-7", 5), Some(0)),
        (by_average("0.0001", 5), Some(0)), // less than a thousandth
        (by_average("0.001", 5), Some(1)),
        (by_average("10", 0), Some(1)),
        (by_average("10.001", 0), Some(2)),
        (by_average("1e300", 5), Some(largest)),
        (by_average("9223372036854775.807", 5), Some(largest)),
        (by_average("NaN", 5), None),
        (by_average("inf", 5), None),
        (by_average("-inf", 5), None),
        (by_value("0", 0), Some(0)),
        (by_value("25", 0), Some(3)), // no ready pods to multiply: the ratio itself
        (by_value("25", 4), Some(10)),
        (by_value("11", 4), Some(4)), // both ends of the tolerance are inside
        (by_value("9", 4), Some(4)),
        (by_value("11.001", 4), Some(5)),
        (by_value("8.999", 4), Some(4)),
        (by_value("7.499", 4), Some(3)),
        (by_value("1e300", 4), Some(largest)),
    ];
    for ((metric, value, current), replicas) in table {
        let wanted = metric.target();
        let mut play = Play::new(autoscaler(0, largest, vec![metric]));
        play.fact(at(0), &format!("ready {current}"));
        play.fact(at(0), &format!("scale {current}"));
        play.fact(at(0), &format!("metric {value}"));
        let decision = play.decide(at(0)).expect("a decision");
        assert_eq!(decision.proposals[0].replicas, replicas, "{value} of {wanted} at {current}: {decision}");
    }
    // `Value` multiplies the ready pods: none ready is none, and no pod at all is no answer.
    for (facts, replicas) in [
        (["ready 0", "scale 3", "metric 25"], None),
        (["ready 0", "scale 3", "metric 10"], Some(3)),
        (["ready 0", "scale 0", "metric 25"], Some(3)),
        (["ready 1", "scale 3", "metric 25"], Some(3)),
    ] {
        let mut play = Play::new(autoscaler(0, largest, vec![external_value("metric", 10)]));
        facts.iter().for_each(|fact| play.fact(at(0), fact));
        let decision = play.decide(at(0)).expect("a decision");
        assert_eq!(decision.proposals[0].replicas, replicas, "{facts:?}: {decision}");
    }
    // The largest number of replicas there is, and nothing to divide by.
    let decision = decide(cpu(u32::MAX), u32::MAX, "r9223372036854775807 r9223372036854775807");
    assert_eq!(decision.proposals[0].replicas, Some(1), "{decision}");
    let decision = decide(cpu(1), 1, "r9223372036854775807");
    assert_eq!(decision.proposals[0].replicas, Some(largest), "{decision}");
}
