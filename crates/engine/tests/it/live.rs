//! Our own rules: evaluated every second, one loop from 0 to N, no data is not no load.

use std::time::Duration;

use flyball_engine::{Behavior, Policy, PolicyKind, ScalingPolicy, ScalingRules, SelectPolicy};

use crate::play::{autoscaler, check, external, external_value, scaled_object};

fn rules(window_s: u64, kind: PolicyKind, value: u32, period_s: u64) -> ScalingRules {
    let policy = ScalingPolicy { kind, value, period: Duration::from_secs(period_s) };
    ScalingRules::new(Some(Duration::from_secs(window_s)), SelectPolicy::Max, vec![policy], None)
        .expect("good rules")
}

#[test]
fn without_behavior_it_doubles_every_15_s_and_waits_300_s_to_go_down() {
    check(
        autoscaler(1, 50, vec![external("rate", 20)]),
        "0 scale 1; rate 83.2 => 1→5 recommend:AboveTarget
         1 rate 600 => 5→5 recommend:AboveTarget pace:ScaleUpLimit
         14 => 5→5 recommend:AboveTarget pace:ScaleUpLimit
         15 => 5→10 recommend:AboveTarget pace:ScaleUpLimit
         30 => 10→20 recommend:AboveTarget pace:ScaleUpLimit
         45 => 20→30 recommend:AboveTarget
         46 rate 100 => 30→30 recommend:BelowTarget stabilize:ScaleDownStabilized
         345 => 30→5 recommend:BelowTarget",
    );
}

#[test]
fn bounds_hold_and_are_the_reason() {
    check(
        autoscaler(2, 4, vec![external("rate", 20)]),
        "0 scale 2; rate 500 => 2→4 recommend:AboveTarget bound:TooManyReplicas
         1 => 4→4 recommend:AboveTarget bound:TooManyReplicas
         2 rate 0 => 4→4 recommend:BelowTarget stabilize:ScaleDownStabilized
         302 => 4→2 recommend:BelowTarget bound:TooFewReplicas
         303 scale 9 => 9→2 recommend:BelowTarget bound:TooFewReplicas",
    );
}

#[test]
fn no_data_is_not_no_load() {
    let metrics = || vec![external("rate", 20), external("queue", 5)];
    check(
        autoscaler(1, 50, metrics()),
        "0 scale 4 => 4→4 recommend:MetricMissing
         400 rate 20; queue missing => 4→4 recommend:MetricMissing
         401 rate 20; queue stale => 4→4 recommend:MetricStale
         402 rate 20; queue failed => 4→4 recommend:FailedGetExternalMetric
         403 rate 120; queue failed => 4→6 recommend:AboveTarget
         404 rate NaN; queue 5 => 6→6 recommend:FailedGetExternalMetric
         405 rate inf; queue 5 => 6→6 recommend:FailedGetExternalMetric
         406 rate 20; queue 5 => 6→6 recommend:BelowTarget stabilize:ScaleDownStabilized
         706 => 6→1 recommend:BelowTarget",
    );
    // The source says that nothing happened: that is a value.
    check(
        autoscaler(1, 50, vec![external_value("latency", 1)]),
        "0 ready 4; scale 4; latency idle => 4→4 recommend:NoLoad stabilize:ScaleDownStabilized
         300 => 4→1 recommend:NoLoad bound:TooFewReplicas",
    );
}

#[test]
fn a_value_that_grows_too_old_is_stale() {
    let mut metric = external("rate", 20);
    metric.age_max = Some(Duration::from_secs(300));
    check(
        autoscaler(1, 50, vec![metric]),
        "0 scale 5; rate 100 => 5→5 recommend:WithinTolerance
         300 => 5→5 recommend:WithinTolerance
         301 => 5→5 recommend:MetricStale",
    );
}

#[test]
fn one_loop_from_zero_to_many_and_back() {
    let policy = scaled_object(0, 50, None, vec![external("rate", 20)]);
    check(
        policy,
        "0 scale 0; rate 0 => 0→0 recommend:BelowTarget activate:ScalerCooldown
         1 => 0→0 recommend:BelowTarget activate:ScalerNotActive
         5 rate 70 => 0→4 recommend:AboveTarget activate:ScalerActive
         19 => 4→4 recommend:BelowTarget
         20 rate 10 => 4→4 recommend:BelowTarget stabilize:ScaleDownStabilized
         100 rate 0 => 4→4 recommend:BelowTarget activate:ScalerCooldown stabilize:ScaleDownStabilized
         319 => 4→1 recommend:BelowTarget activate:ScalerCooldown
         320 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         321 => 1→0 recommend:BelowTarget activate:ScalerNotActive",
    );
}

#[test]
fn zero_is_reached_by_the_policies_like_any_number() {
    let policy = scaled_object(0, 50, None, vec![external("rate", 20)]);
    let behavior = Behavior { scale_down: rules(0, PolicyKind::Pods, 2, 60), ..Behavior::default() };
    check(
        Policy { behavior: Some(behavior), ..policy },
        "0 scale 5; rate 100 => 5→5 recommend:WithinTolerance
         1 rate 0 => 5→3 recommend:BelowTarget activate:ScalerCooldown pace:ScaleDownLimit
         61 => 3→1 recommend:BelowTarget activate:ScalerCooldown
         300 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         301 => 1→0 recommend:BelowTarget activate:ScalerNotActive",
    );
}

#[test]
fn cooldown_and_window_run_side_by_side() {
    check(
        scaled_object(0, 50, None, vec![external("rate", 20)]),
        "0 scale 1; rate 20 => 1→1 recommend:WithinTolerance
         1 rate 0 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         300 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         301 => 1→0 recommend:BelowTarget activate:ScalerNotActive",
    );
}

#[test]
fn waiting_requests_start_a_target_whose_metrics_are_silent() {
    check(
        scaled_object(0, 50, None, vec![external("rate", 20)]),
        "0 scale 0; rate missing => 0→0 recommend:MetricMissing activate:TriggerError
         0 waiting 3 => 0→1 recommend:MetricMissing activate:RequestsWaiting
         2 waiting 0; rate 0 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         303 => 1→0 recommend:BelowTarget activate:ScalerNotActive",
    );
}

#[test]
fn a_slow_policy_does_not_keep_a_target_at_zero() {
    // 100 % of nothing is nothing, and the window remembers zero.
    let behavior = Behavior { scale_up: rules(60, PolicyKind::Percent, 100, 60), ..Behavior::default() };
    check(
        Policy { behavior: Some(behavior), ..scaled_object(0, 50, None, vec![external("rate", 20)]) },
        "0 scale 0; rate 0 => 0→0 recommend:BelowTarget activate:ScalerCooldown
         9 rate 70 => 0→1 recommend:AboveTarget activate:ScalerActive stabilize:ScaleUpStabilized
         60 => 1→1 recommend:AboveTarget pace:ScaleUpLimit
         70 => 1→2 recommend:AboveTarget pace:ScaleUpLimit",
    );
}

#[test]
fn scale_up_waits_for_its_window() {
    let behavior = Behavior { scale_up: rules(30, PolicyKind::Pods, 50, 15), ..Behavior::default() };
    check(
        Policy { behavior: Some(behavior), ..autoscaler(1, 50, vec![external("rate", 20)]) },
        "0 scale 1; rate 20 => 1→1 recommend:WithinTolerance
         1 rate 100 => 1→1 recommend:AboveTarget stabilize:ScaleUpStabilized
         29 rate 80 => 1→1 recommend:AboveTarget stabilize:ScaleUpStabilized
         30 rate 100 => 1→4 recommend:AboveTarget stabilize:ScaleUpStabilized
         59 => 4→5 recommend:AboveTarget",
    );
}

#[test]
fn an_answer_that_is_not_whole_scales_out_and_never_in() {
    let rate = || vec![external("rate", 10)];
    check(
        autoscaler(1, 50, rate()),
        "0 ready 4; scale 4; rate 5+ => 4→4 recommend:MetricPartial
         400 rate 70+ => 4→7 recommend:AboveTarget
         800 rate 70+ => 7→7 recommend:MetricPartial
         1200 rate 5 => 7→1 recommend:BelowTarget",
    );
    // What is missing of it could be above the activation threshold.
    check(
        scaled_object(0, 50, None, rate()),
        "0 scale 0; rate 0+ => 0→0 recommend:MetricPartial activate:TriggerError
         1 rate 15+ => 0→2 recommend:AboveTarget activate:ScalerActive
         900 rate 0+ => 2→2 recommend:MetricPartial
         901 rate 0 => 2→0 recommend:BelowTarget activate:ScalerNotActive",
    );
}

#[test]
fn a_negative_number_scales_in_no_further_than_zero() {
    let mut busy = external("rate", 10);
    check(
        autoscaler(1, 50, vec![busy.clone()]),
        "0 ready 4; scale 4; rate -5 => 4→4 recommend:NegativeValue stabilize:ScaleDownStabilized
         300 => 4→1 recommend:NegativeValue bound:TooFewReplicas",
    );
    // Zero is above this threshold, and there is nothing below zero.
    busy.activation_threshold = -1.0;
    check(
        scaled_object(0, 50, None, vec![busy]),
        "0 ready 4; scale 4; rate -5 => 4→4 recommend:NegativeValue stabilize:ScaleDownStabilized
         900 => 4→1 recommend:NegativeValue bound:TooFewReplicas",
    );
}
