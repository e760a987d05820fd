//! KEDA's rules, one table each: activation, cooldowns, idle, pauses, fallback, modifiers.

use std::time::Duration;

use flyball_engine::{
    Activation, Bounds, Composite, Fallback, FallbackBehavior, Formula, Metric, MetricTarget, Metrics, Milli,
    Pause, Policy, PolicyError, Rules, ZeroRule,
};

use crate::play::{Play, START, at, autoscaler, check, cpu, external, external_value, scaled_object};

/// KEDA's way to and from zero.
fn one_step(policy: Policy) -> Policy {
    Policy { rules: Rules { zero: ZeroRule::OneStep, ..Rules::default() }, ..policy }
}

#[test]
fn activation_is_strictly_above_the_threshold() {
    let mut metric = external("rate", 1);
    metric.activation_threshold = 5.0;
    check(
        scaled_object(0, 10, None, vec![metric]),
        "9 scale 0; rate 5 => 0→0 recommend:AboveTarget activate:ScalerNotActive
         10 rate 5.001 => 0→4 recommend:AboveTarget activate:ScalerActive pace:ScaleUpLimit",
    );
}

#[test]
fn keda_starts_with_the_minimum_and_drops_to_zero_at_once() {
    let policy = || one_step(scaled_object(0, 50, None, vec![external("rate", 20)]));
    check(
        policy(),
        "9 scale 0; rate 70 => 0→1 recommend:AboveTarget activate:ScalerActive
         10 => 1→4 recommend:AboveTarget
         20 rate 0 => 4→4 recommend:BelowTarget activate:ScalerCooldown stabilize:ScaleDownStabilized
         309 => 4→4 recommend:BelowTarget activate:ScalerCooldown stabilize:ScaleDownStabilized
         311 => 4→0 recommend:BelowTarget activate:ScalerNotActive",
    );
    check(
        one_step(scaled_object(3, 50, None, vec![external("rate", 20)])),
        "9 scale 0; rate 70 => 0→3 recommend:AboveTarget activate:ScalerActive
         20 scale 1; rate 0 => 1→3 recommend:BelowTarget bound:TooFewReplicas",
    );
}

#[test]
fn idle_replicas_while_not_in_use() {
    check(
        one_step(scaled_object(2, 50, Some(0), vec![external("rate", 20)])),
        "9 scale 0; rate 0 => 0→0 recommend:BelowTarget activate:ScalerNotActive
         10 rate 20 => 0→2 recommend:AboveTarget activate:ScalerActive
         20 rate 0 => 2→2 recommend:BelowTarget activate:ScalerCooldown
         310 => 2→2 recommend:BelowTarget activate:ScalerCooldown
         311 => 2→0 recommend:BelowTarget activate:ScalerNotActive",
    );
    // One idle replica is below the minimum of two, and stays until there is something to do.
    check(
        scaled_object(2, 50, Some(1), vec![external("rate", 20)]),
        "9 scale 1; rate 0 => 1→1 recommend:BelowTarget activate:ScalerNotActive
         10 rate 90 => 1→5 recommend:AboveTarget activate:ScalerActive",
    );
}

#[test]
fn without_idle_and_with_a_minimum_nothing_is_special() {
    check(
        scaled_object(1, 50, None, vec![external("rate", 20)]),
        "9 scale 0; rate 0 => 0→1 recommend:BelowTarget bound:TooFewReplicas
         400 => 1→1 recommend:BelowTarget bound:TooFewReplicas",
    );
}

#[test]
fn the_initial_cooldown_counts_until_it_was_first_active() {
    let created = |initial_s| {
        let initial_cooldown = Duration::from_secs(initial_s);
        let activation = Activation { created: START, initial_cooldown, ..Activation::default() };
        let policy = scaled_object(0, 50, None, vec![external("rate", 20)]);
        one_step(Policy { activation: Some(activation), ..policy })
    };
    check(
        created(60),
        "0 scale 1; rate 0 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         60 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         61 => 1→0 recommend:BelowTarget activate:ScalerNotActive",
    );
    check(created(0), "1 scale 1; rate 0 => 1→0 recommend:BelowTarget activate:ScalerNotActive");
    check(
        created(60),
        "0 scale 1; rate 5 => 1→1 recommend:BelowTarget
         1 rate 0 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         300 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         301 => 1→0 recommend:BelowTarget activate:ScalerNotActive",
    );
}

#[test]
fn a_trigger_in_error_neither_starts_nor_stops() {
    let metrics = || vec![external("rate", 20), external("queue", 5)];
    check(
        one_step(scaled_object(0, 50, None, metrics())),
        "9 scale 1; rate 0; queue failed => 1→1 recommend:FailedGetExternalMetric
         900 => 1→1 recommend:FailedGetExternalMetric
         901 scale 0 => 0→0 recommend:BelowTarget activate:TriggerError
         902 rate 5 => 0→1 recommend:AboveTarget activate:ScalerActive",
    );
}

#[test]
fn cpu_alone_is_always_in_use_and_does_not_activate_beside_others() {
    check(
        one_step(scaled_object(0, 50, None, vec![cpu(50)])),
        "9 scale 0 => 0→1 recommend:MetricMissing activate:ScalerActive
         900 => 1→1 recommend:MetricMissing",
    );
    check(
        one_step(scaled_object(0, 50, None, vec![cpu(50), external("rate", 20)])),
        "9 scale 0; rate 0 => 0→0 recommend:BelowTarget activate:ScalerNotActive",
    );
}

#[test]
fn force_activation_keeps_it_in_use() {
    let activation = Activation { created: START, forced: true, ..Activation::default() };
    let policy = scaled_object(0, 50, None, vec![external("rate", 20)]);
    check(
        Policy { activation: Some(activation), ..policy },
        "9 scale 0; rate 0 => 0→1 recommend:BelowTarget activate:ForceActivation
         900 => 1→1 recommend:BelowTarget bound:TooFewReplicas",
    );
}

#[test]
fn pauses_hold() {
    let paused = |pause| Policy { pause, ..scaled_object(0, 50, None, vec![external("rate", 20)]) };
    check(paused(Pause::AtCurrent), "9 scale 3; rate 900 => 3→3 bound:ScaledObjectPaused");
    check(
        paused(Pause::AtReplicas(60)),
        "9 scale 3; rate 900 => 3→60 bound:ScaledObjectPaused
         10 => 60→60 bound:ScaledObjectPaused",
    );
    let no_in = Pause::Directions { scale_in: true, scale_out: false };
    check(
        paused(no_in),
        "9 scale 3; rate 100 => 3→5 recommend:AboveTarget
         10 scale 90 => 90→90 recommend:BelowTarget bound:ScaledObjectPaused
         400 scale 5; rate 0 => 5→5 recommend:BelowTarget activate:ScalerNotActive bound:ScaledObjectPaused",
    );
    let no_out = Pause::Directions { scale_in: false, scale_out: true };
    check(
        paused(no_out),
        "9 scale 0; rate 900 => 0→0 recommend:AboveTarget activate:ScalerActive pace:ScaleUpLimit bound:ScaledObjectPaused",
    );
}

fn with_fallback(behavior: FallbackBehavior, replicas: u32, metric: Metric) -> Policy {
    let fallback = Some(Fallback { failure_threshold: 2, replicas, behavior });
    Policy { fallback, ..scaled_object(1, 50, None, vec![metric]) }
}

#[test]
fn the_fallback_counts_after_more_failures_than_its_threshold() {
    // A failure counts once in each polling interval of 30 s, however often it is seen.
    check(
        with_fallback(FallbackBehavior::Static, 6, external("rate", 20)),
        "0 scale 3; rate failed => 3→3 recommend:FailedGetExternalMetric
         1 rate failed => 3→3 recommend:FailedGetExternalMetric
         59 rate failed => 3→3 recommend:FailedGetExternalMetric
         60 rate failed => 3→6 recommend:FallbackExists
         61 rate 60 => 6→6 recommend:BelowTarget stabilize:ScaleDownStabilized
         62 rate failed => 6→6 recommend:FailedGetExternalMetric",
    );
}

#[test]
fn the_fallbacks_behaviors() {
    let table = [
        (FallbackBehavior::Static, 3, 6),
        (FallbackBehavior::CurrentReplicas, 3, 3),
        (FallbackBehavior::CurrentReplicasIfHigher, 3, 6),
        (FallbackBehavior::CurrentReplicasIfLower, 3, 3),
        (FallbackBehavior::CurrentReplicasIfHigher, 7, 7),
        (FallbackBehavior::ScalingModifiers, 3, 6),
    ];
    for (behavior, current, desired) in table {
        let scenario = format!("90 scale {current} => {current}→{desired} recommend:FallbackExists");
        check(with_fallback(behavior, 6, external("rate", 20)), &scenario);
    }
    // A Value target is shared out over the ready pods; without any it can't be.
    let value = || with_fallback(FallbackBehavior::Static, 6, external_value("latency", 20));
    check(value(), "90 ready 3; scale 3 => 3→6 recommend:FallbackExists");
    check(value(), "90 ready 0; scale 3 => 3→3 recommend:MetricMissing");
}

#[test]
fn a_fallback_starts_a_target_unless_it_is_to_none() {
    let fallback =
        |replicas| Some(Fallback { failure_threshold: 0, replicas, behavior: FallbackBehavior::Static });
    let policy = |replicas| {
        one_step(Policy {
            fallback: fallback(replicas),
            ..scaled_object(0, 50, None, vec![external("rate", 20)])
        })
    };
    check(
        policy(4),
        "9 scale 0; rate failed => 0→1 recommend:FallbackExists activate:ScalerActive
         10 => 1→4 recommend:FallbackExists",
    );
    check(policy(0), "9 scale 1; rate failed => 1→0 recommend:FallbackExists activate:ScalerNotActive");
}

fn named(name: &str) -> Metric {
    let mut metric = external(name, 20);
    metric.formula_name = Some(name.into());
    metric
}

fn modified(formula: &str, activation_target: f64, fallback: Option<Fallback>) -> Policy {
    let formula = Formula::new(formula).expect("a good formula");
    let target = MetricTarget::AverageValue(Milli::new(10_000));
    let composite = Composite::new(formula, target, activation_target).expect("a good composite");
    let metrics = Metrics::new(vec![named("rate"), named("queue")], Some(composite)).expect("good metrics");
    Policy { fallback, metrics, ..scaled_object(0, 50, None, vec![external("unused", 1)]) }
}

#[test]
fn a_formula_decides_in_place_of_its_triggers() {
    check(
        modified("queue > 5 ? rate * 2 : rate", 0.0, None),
        "9 scale 1; rate 20; queue 0 => 1→2 recommend:AboveTarget
         10 queue 6 => 2→4 recommend:AboveTarget
         11 queue failed => 4→4 recommend:FailedGetExternalMetric",
    );
}

#[test]
fn the_composite_metric_activates_in_place_of_its_triggers() {
    check(
        one_step(modified("rate - queue", 5.0, None)),
        "9 scale 0; rate 100; queue 95 => 0→0 recommend:AboveTarget activate:ScalerNotActive
         10 queue 94 => 0→1 recommend:AboveTarget activate:ScalerActive",
    );
}

#[test]
fn what_a_formula_does_with_a_failing_trigger() {
    let fallback = |behavior| Some(Fallback { failure_threshold: 0, replicas: 5, behavior });
    check(
        modified("rate + (queue ?? 30)", 0.0, fallback(FallbackBehavior::ScalingModifiers)),
        "9 scale 1; rate 10; queue failed => 1→4 recommend:AboveTarget",
    );
    check(
        modified("queue", 0.0, fallback(FallbackBehavior::ScalingModifiers)),
        "9 scale 1; rate 10; queue failed => 1→5 recommend:FallbackExists",
    );
    check(
        modified("rate + queue", 0.0, fallback(FallbackBehavior::Static)),
        "9 scale 1; rate 10; queue failed => 1→5 recommend:FallbackExists",
    );
    check(
        modified("rate + queue", 0.0, fallback(FallbackBehavior::ScalingModifiers)),
        "9 scale 1; rate 10; queue failed => 1→1 recommend:FailedGetExternalMetric",
    );
    check(
        modified("rate / queue", 0.0, None),
        "9 scale 1; rate 10; queue 0 => 1→1 recommend:FailedGetExternalMetric",
    );
}

#[test]
fn every_edge_of_a_formulas_result() {
    // formula, what the composite metric asks for with 10 per replica
    let table = [
        ("0", Some(0)),
        ("-5", Some(0)),
        ("0.0001", Some(0)),
        ("0.001", Some(1)),
        ("10.001", Some(1)), // within the tolerance
        ("11.001", Some(2)),
        ("1e300", Some(i32::MAX.unsigned_abs())),
        ("-1e300", Some(0)),
        ("rate / 0", None),
        ("-rate / 0", None),
        ("0 / 0", None),
        ("int(rate) % int(queue - 5)", None),
        ("rate > 0 ? nil : rate", None),
        ("queue < 0 ? 1 : nil", None),
        ("queue", None),
        ("queue ?? rate", None),
        ("max(rate, 30)", Some(3)),
        ("now().Hour() < 23 ? rate : 30", Some(2)),
    ];
    for (formula, replicas) in table {
        let mut play = Play::new(modified(formula, 0.0, None));
        play.scale(at(9), 1);
        play.fact(at(9), "rate 20");
        play.fact(at(9), "queue 5");
        if formula.starts_with("queue") {
            play.fact(at(9), "queue failed");
        }
        let decision = play.decide(at(9)).expect("a decision");
        assert_eq!(decision.proposals[0].replicas, replicas, "{formula}: {decision}");
    }
}

#[test]
fn nonsense_is_refused() {
    let refused = |bounds: (u32, u32, Option<u32>)| Bounds::new(bounds.0, bounds.1, bounds.2).err();
    let table = [
        ((1, 0, None), Some(PolicyError::Max { max: 0 })),
        ((3, 2, None), Some(PolicyError::MinOverMax { min: 3, max: 2 })),
        ((2, 3, Some(2)), Some(PolicyError::IdleNotBelowMin { idle: 2, min: 2 })),
        ((0, 3, Some(0)), None),
        ((0, 3, Some(1)), Some(PolicyError::IdleNotBelowMin { idle: 1, min: 0 })),
    ];
    for (bounds, error) in table {
        assert_eq!(refused(bounds), error, "{bounds:?}");
    }
    let twice = Metrics::new(vec![external("rate", 1), external("rate", 2)], None);
    assert_eq!(twice.err(), Some(PolicyError::MetricTwice { metric: "rate".into() }));
    assert_eq!(Metrics::new(Vec::new(), None).err(), Some(PolicyError::MetricCount { count: 0 }));
    let formula = Formula::new("rate + gone").expect("a good formula");
    let composite = Composite::new(formula, MetricTarget::Value(Milli::new(1)), 0.0).ok();
    let unknown = Metrics::new(vec![named("rate")], composite);
    assert_eq!(unknown.err(), Some(PolicyError::FormulaName { name: "gone".into() }));
}

#[test]
fn a_policy_is_read_back_as_it_was_written() {
    let policy = modified("max(rate, queue ?? 1)", 2.5, None);
    let json = serde_json::to_string(&policy).expect("a policy can be written");
    assert_eq!(serde_json::from_str::<Policy>(&json).expect("and read"), policy);
    let crossed = json.replace("\"min\":0,\"max\":50", "\"min\":51,\"max\":50");
    let error = serde_json::from_str::<Policy>(&crossed).expect_err("nonsense").to_string();
    assert!(error.contains("min replicas 51 is more than max replicas 50"), "{error}");
    let plain = autoscaler(1, 2, vec![cpu(50)]);
    let json = serde_json::to_string(&plain).expect("a policy can be written");
    assert_eq!(serde_json::from_str::<Policy>(&json).expect("and read"), plain);
}
