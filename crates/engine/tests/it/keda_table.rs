//! KEDA's scale loop as a table (`RequestScale` in `executor/scale_scaledobjects.go`): one test for each of its rows, from
//! the top, first match first. A rows are for a target in use, I rows for one that is not.

use std::time::Duration;

use flyball_engine::{
    Activation, ActivityState, Bounds, Fallback, FallbackBehavior, Metric, Metrics, Pause, Policy, Rules,
    ZeroRule,
};

use crate::play::{Play, START, at, check, external, scaled_object};

/// KEDA's way to and from zero, so that its table can be read off.
fn keda(min: u32, idle: Option<u32>, metrics: Vec<Metric>) -> Policy {
    let rules = Rules { zero: ZeroRule::OneStep, ..Rules::default() };
    Policy { rules, ..scaled_object(min, 50, idle, metrics) }
}

fn rate() -> Vec<Metric> {
    vec![external("rate", 20)]
}

fn two() -> Vec<Metric> {
    vec![external("rate", 20), external("queue", 5)]
}

fn with_fallback(replicas: u32, policy: Policy) -> Policy {
    let fallback = Some(Fallback { failure_threshold: 3, replicas, behavior: FallbackBehavior::Static });
    Policy { fallback, ..policy }
}

#[test]
fn row_0_replicas_that_cannot_be_read_stop_the_loop() {
    check(
        keda(0, None, rate()),
        "9 unreadable gone => 0→0 recommend:FailedGetScale
         10 scale 3; rate 50 => 3→3 recommend:BelowTarget
         11 unreadable gone; rate 0 => 3→3 recommend:FailedGetScale",
    );
}

#[test]
fn row_0b_a_pause_comes_before_everything_else() {
    let paused = |pause| Policy { pause, ..keda(0, None, rate()) };
    check(paused(Pause::AtCurrent), "9 scale 0; rate 50 => 0→0 bound:ScaledObjectPaused");
    check(paused(Pause::AtCurrent), "900 scale 5; rate 0 => 5→5 bound:ScaledObjectPaused");
    check(paused(Pause::AtReplicas(0)), "9 scale 5; rate 50 => 5→0 bound:ScaledObjectPaused");
    check(paused(Pause::AtReplicas(u32::MAX)), "9 scale 5 => 5→4294967295 bound:ScaledObjectPaused");
}

#[test]
fn row_a1_a_target_in_use_starts_with_its_minimum_or_one() {
    for (min, idle, from, to) in [(0, None, 0, 1), (3, None, 0, 3), (3, Some(0), 0, 3), (3, Some(1), 1, 3)] {
        let scenario =
            format!("9 scale {from}; rate 900 => {from}→{to} recommend:AboveTarget activate:ScalerActive");
        check(keda(min, idle, rate()), &scenario);
    }
    // Between idle and the minimum it is brought up to the minimum.
    check(keda(3, Some(0), rate()), "9 scale 1; rate 5 => 1→3 recommend:BelowTarget bound:TooFewReplicas");
    let pause = Pause::Directions { scale_in: false, scale_out: true };
    check(
        Policy { pause, ..keda(0, None, rate()) },
        "9 scale 0; rate 900 => 0→0 recommend:AboveTarget activate:ScalerActive bound:ScaledObjectPaused",
    );
}

#[test]
fn row_a1_force_activation_counts_as_active() {
    let activation = Some(Activation { created: START, forced: true, ..Activation::default() });
    check(
        Policy { activation, ..keda(2, Some(0), rate()) },
        "9 scale 0; rate 0 => 0→2 recommend:BelowTarget activate:ForceActivation
         900 => 2→2 recommend:BelowTarget bound:TooFewReplicas",
    );
}

#[test]
fn row_a2_one_trigger_in_error_beside_an_active_one_takes_nothing_away() {
    check(
        keda(0, None, two()),
        "9 scale 0; rate 20; queue failed => 0→1 recommend:AboveTarget activate:ScalerActive
         10 scale 5 => 5→5 recommend:FailedGetExternalMetric
         30 rate 200 => 5→10 recommend:AboveTarget",
    );
}

/// When it was last active is kept as long as anything is active, whatever else fails: the cooldown counts from the last
/// trigger that was, as KEDA's documentation has it.
#[test]
fn row_a3_the_time_it_was_last_active_moves_on() {
    for facts in [["scale 1", "rate 20", "queue 0"], ["scale 1", "rate 20", "queue failed"]] {
        let mut play = Play::new(keda(0, None, two()));
        facts.iter().for_each(|fact| play.fact(at(9), fact));
        for second in [9, 400] {
            let activity =
                play.decide(at(second)).and_then(|decision| decision.activity).expect("an activity");
            assert_eq!((activity.state, activity.last_active), (ActivityState::Active, Some(at(second))));
        }
    }
}

#[test]
fn row_i1_an_error_waits_for_its_fallback() {
    check(
        with_fallback(6, keda(0, None, rate())),
        "9 scale 4; rate failed => 4→4 recommend:FailedGetExternalMetric
         80 => 4→4 recommend:FailedGetExternalMetric
         99 => 4→6 recommend:FallbackExists",
    );
}

#[test]
fn row_i2_an_error_without_fallback_leaves_the_replicas_alone() {
    check(
        keda(0, None, rate()),
        "9 scale 4; rate failed => 4→4 recommend:FailedGetExternalMetric
         9000 => 4→4 recommend:FailedGetExternalMetric",
    );
    check(
        keda(0, None, rate()),
        "9 scale 0; rate failed => 0→0 recommend:FailedGetExternalMetric activate:TriggerError",
    );
}

#[test]
fn row_i3_a_target_not_in_use_goes_to_idle_or_zero_once_the_cooldown_is_over() {
    let active = "9 scale 5; rate 100 => 5→5 recommend:WithinTolerance";
    // Idle, or zero if the minimum is zero.
    for (min, idle, floor) in [(0, None, 0), (2, Some(0), 0), (2, Some(1), 1)] {
        check(
            keda(min, idle, rate()),
            &format!(
                "{active}
                 308 rate 0 => 5→5 recommend:BelowTarget activate:ScalerCooldown stabilize:ScaleDownStabilized
                 310 => 5→{floor} recommend:BelowTarget activate:ScalerNotActive"
            ),
        );
    }
    let pause = Pause::Directions { scale_in: true, scale_out: false };
    check(
        Policy { pause, ..keda(0, None, rate()) },
        "900 scale 5; rate 0 => 5→5 recommend:BelowTarget activate:ScalerNotActive bound:ScaledObjectPaused",
    );
}

#[test]
fn row_i3_the_initial_cooldown_counts_only_while_it_was_never_active() {
    let initial_cooldown = Duration::from_secs(600);
    let activation = Some(Activation { created: START, initial_cooldown, ..Activation::default() });
    check(
        Policy { activation: activation.clone(), ..keda(0, None, rate()) },
        "9 scale 1; rate 0 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         600 => 1→1 recommend:BelowTarget activate:ScalerCooldown
         601 => 1→0 recommend:BelowTarget activate:ScalerNotActive",
    );
    check(
        Policy { activation, ..keda(0, None, rate()) },
        "9 scale 1; rate 5 => 1→1 recommend:BelowTarget
         310 rate 0 => 1→0 recommend:BelowTarget activate:ScalerNotActive",
    );
}

#[test]
fn row_i4_a_target_below_its_minimum_is_brought_up_to_it() {
    check(keda(3, None, rate()), "9 scale 1; rate 20 => 1→3 recommend:WithinTolerance bound:TooFewReplicas");
    check(keda(3, None, rate()), "9 scale 0; rate 0 => 0→3 recommend:BelowTarget bound:TooFewReplicas");
}

#[test]
fn row_i5_otherwise_only_the_autoscalers_own_rules_move_it() {
    check(
        keda(2, None, rate()),
        "9 scale 3; rate 0 => 3→3 recommend:BelowTarget stabilize:ScaleDownStabilized
         308 => 3→3 recommend:BelowTarget stabilize:ScaleDownStabilized
         309 => 3→2 recommend:BelowTarget bound:TooFewReplicas",
    );
    check(keda(0, None, rate()), "9 scale 0; rate 0 => 0→0 recommend:BelowTarget activate:ScalerNotActive");
}

/// A fallback to no replicas lets the target go, but only once it counts.
#[test]
fn row_i3_an_error_with_a_fallback_to_none() {
    check(
        with_fallback(0, keda(0, None, rate())),
        "9 scale 4; rate failed => 4→4 recommend:FailedGetExternalMetric
         89 => 4→4 recommend:FailedGetExternalMetric
         99 => 4→0 recommend:FallbackExists activate:ScalerNotActive",
    );
}

#[test]
fn the_bounds_of_a_policy_at_every_edge() {
    let largest = i32::MAX.unsigned_abs();
    for (min, max, idle, accepted) in [
        (0, 1, None, true),
        (0, 0, None, false),
        (largest, largest, None, true),
        (1, largest + 1, None, false),
        (u32::MAX, u32::MAX, None, false),
        (largest, largest, Some(largest - 1), true),
        (largest, largest, Some(largest), false),
        (1, 1, Some(u32::MAX), false),
    ] {
        assert_eq!(Bounds::new(min, max, idle).is_ok(), accepted, "{min} {max} {idle:?}");
    }
    assert!(Metrics::new((0..256).map(|index| external(&index.to_string(), 1)).collect(), None).is_ok());
    assert!(Metrics::new((0..257).map(|index| external(&index.to_string(), 1)).collect(), None).is_err());
}
