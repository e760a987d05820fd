//! What is said: sentences, turning points, and when the engine wants to be asked again.

use std::time::Duration;

use flyball_engine::{
    Behavior, Decision, Milli, Observation, Pause, Policy, PolicyKind, Reason, Rules, ScalingPolicy,
    ScalingRules, SelectPolicy, Side, TurningPoint,
};

use crate::play::{Play, at, autoscaler, external, external_value, scaled_object, target};

fn decided(policy: Policy, facts: &[&str]) -> Decision {
    let mut play = Play::new(policy);
    for fact in facts {
        play.fact(at(10), fact);
    }
    play.decide(at(10)).expect("a decision")
}

#[test]
fn a_decision_reads_as_sentences() {
    let decision =
        decided(autoscaler(1, 50, vec![external("request_rate", 20)]), &["scale 3", "request_rate 83.2"]);
    assert_eq!(
        decision.to_string(),
        "2027-01-15T08:00:10Z Deployment/default/model 3 → 5\n  \
         recommend 3 → 5  AboveTarget: request_rate reads 83.2 where 20 per replica is wanted, so 5 replicas"
    );
    let decision =
        decided(autoscaler(1, 50, vec![external("request_rate", 20)]), &["scale 9", "request_rate 20"]);
    assert_eq!(
        decision.steps[1].to_string(),
        "stabilize 1 → 9  ScaleDownStabilized: 9 replicas were recommended at 2027-01-15T08:00:10Z, \
         which counts for 300 s until 2027-01-15T08:05:10Z"
    );
    let decision =
        decided(autoscaler(1, 90, vec![external("request_rate", 20)]), &["scale 9", "request_rate 900"]);
    assert_eq!(
        decision.steps[1].to_string(),
        "pace      45 → 18  ScaleUpLimit: no more than 18 now: 100 % in 15 s, of which 0 are used and 9 left"
    );
    let mut play = Play::new(autoscaler(1, 90, vec![external("request_rate", 20)]));
    ["scale 9", "request_rate 300"].iter().for_each(|fact| play.fact(at(10), fact));
    play.decide(at(10));
    play.fact(at(12), "request_rate 900");
    let decision = play.decide(at(12)).expect("a decision");
    assert_eq!(
        decision.steps[1].reason.to_string(),
        "no more than 18 now: 100 % in 15 s, of which 6 are used and 3 left; more from 2027-01-15T08:00:25Z on"
    );
    let decision = decided(autoscaler(1, 50, vec![external("rate", 20)]), &["scale 3", "rate missing"]);
    assert_eq!(
        decision.steps[0].reason.to_string(),
        "rate has had no data since 2027-01-15T08:00:00Z: no series matches; nothing is taken away without it"
    );
}

#[test]
fn every_metric_is_shown_and_the_highest_wins() {
    let metrics = vec![external("rate", 20), external("queue", 5), external_value("latency", 1)];
    let decision =
        decided(autoscaler(1, 50, metrics), &["ready 3", "scale 3", "rate 83.2", "queue 10", "latency 2"]);
    let replicas: Vec<_> = decision.proposals.iter().map(|p| p.replicas).collect();
    assert_eq!(replicas, [Some(5), Some(2), Some(6)]);
    assert!(matches!(&decision.steps[0].reason, Reason::AboveTarget(m) if m.metric == *"latency"));
}

/// The value at or just past a turning point leads to the replicas it names, and the one before it does not.
#[test]
fn turning_points_are_where_the_recommendation_turns() {
    let recommended = |milli: i64, by_value: bool| {
        let metric = if by_value { external_value("rate", 60) } else { external("rate", 20) };
        let reading = format!("rate {}", Milli::new(milli));
        decided(autoscaler(0, 50, vec![metric]), &["ready 3", "scale 3", &reading])
    };
    for value in [1, 30_000, 39_999, 40_000, 53_999, 54_000, 60_000, 64_000, 66_001, 83_200, 200_000] {
        for by_value in [false, true] {
            let decision = recommended(value, by_value);
            assert_eq!(decision.turning_points.len(), 2, "{decision}");
            for point in &decision.turning_points {
                let edge = point.value.get();
                let (past, before) = match point.side {
                    Side::Above => (edge + 1, edge),
                    Side::AtLeast => (edge, edge - 1),
                    Side::Below => (edge - 1, edge),
                    Side::AtMost => (edge, edge + 1),
                };
                assert_eq!(recommended(past, by_value).steps[0].to, point.replicas, "at {value}: {point}");
                assert_eq!(
                    recommended(before, by_value).steps[0].to,
                    decision.steps[0].to,
                    "at {value}: {point}"
                );
            }
        }
    }
    let texts: Vec<String> =
        recommended(60_000, false).turning_points.iter().map(ToString::to_string).collect();
    let window = "3 replicas were recommended at 2027-01-15T08:00:10Z, which counts for 300 s until 2027-01-15T08:05:10Z";
    let fewer = format!("with rate at most 40 it asks for 2, and gets 3: {window}");
    assert_eq!(texts, ["with rate above 66 it goes to 4", &fewer]);
}

/// What a turning point leads to at this moment is what the target goes to if the metric reads it in a second.
#[test]
fn turning_points_know_what_the_later_stages_make_of_them() {
    let one = ScalingPolicy { kind: PolicyKind::Pods, value: 1, period: Duration::from_secs(15) };
    let disabled = ScalingRules::new(Some(Duration::ZERO), SelectPolicy::Disabled, vec![one], None);
    let disabled = disabled.expect("good rules");
    let disabled = Behavior { scale_up: ScalingRules::default_up(), scale_down: disabled };
    let plain = || autoscaler(1, 50, vec![external("rate", 20)]);
    let at_once = |policy: Policy| Policy {
        rules: Rules { downscale_stabilization: Duration::ZERO, ..policy.rules },
        ..policy
    };
    let paused = Pause::Directions { scale_in: true, scale_out: false };
    for (policy, facts, code) in [
        (plain(), ["scale 3", "rate 60"], "ScaleDownStabilized"),
        (Policy { behavior: Some(disabled), ..plain() }, ["scale 3", "rate 60"], "ScaleDownLimit"),
        (at_once(Policy { pause: paused, ..plain() }), ["scale 3", "rate 60"], "ScaledObjectPaused"),
        (
            at_once(scaled_object(0, 50, None, vec![external("rate", 20)])),
            ["scale 1", "rate 20"],
            "ScalerCooldown",
        ),
    ] {
        let mut play = Play::new(policy);
        facts.iter().for_each(|fact| play.fact(at(10), fact));
        let decision = play.decide(at(10)).expect("a decision");
        let point = decision.turning_points.last().expect("one for fewer").clone();
        let step = point.steps.iter().find(|step| step.reason.code() == code).expect(code);
        play.fact(at(11), &format!("rate {}", point.value));
        let then = play.decide(at(11)).expect("a decision");
        assert_eq!(
            then.desired,
            point.steps.last().map_or(point.replicas, |last| last.to),
            "{point}\n{then}"
        );
        assert!(then.steps.iter().any(|then| then.reason.code() == step.reason.code()), "{point}\n{then}");
    }
}

#[test]
fn turning_points_keep_to_the_bounds_and_the_activation_threshold() {
    let texts = |policy: Policy, facts: &[&str]| -> Vec<String> {
        let bare = |point: &TurningPoint| TurningPoint { steps: Vec::new(), ..point.clone() }.to_string();
        decided(policy, facts).turning_points.iter().map(bare).collect()
    };
    let mut busy = external("rate", 20);
    busy.activation_threshold = 30.0;
    let scaled = |min, idle| scaled_object(min, 5, idle, vec![busy.clone()]);
    // At the maximum nothing leads to more, at the minimum nothing to fewer.
    let plain = || autoscaler(2, 5, vec![external("rate", 20)]);
    assert_eq!(texts(plain(), &["scale 5", "rate 200"]), ["with rate at most 80 it goes to 4"]);
    assert_eq!(texts(plain(), &["scale 2", "rate 20"]), ["with rate above 44 it goes to 3"]);
    assert_eq!(
        texts(plain(), &["scale 4", "rate 70"]),
        ["with rate above 88 it goes to 5", "with rate at most 60 it goes to 3"]
    );
    // From zero it takes more than the threshold; back to zero, no more than that.
    assert_eq!(texts(scaled(0, None), &["scale 0", "rate 25"]), ["with rate above 30 it goes to 2"]);
    assert_eq!(texts(scaled(0, None), &["scale 0", "rate 5"]), ["with rate above 30 it goes to 2"]);
    assert_eq!(
        texts(scaled(2, Some(0)), &["scale 2", "rate 35"]),
        ["with rate above 44 it goes to 3", "with rate at most 30 it goes to 0"]
    );
}

#[test]
fn it_says_when_it_wants_to_be_asked() {
    let mut play = Play::new(scaled_object(0, 5, None, vec![external("rate", 20)]));
    assert_eq!(play.engine.next_evaluation(), None, "the scale is not known");
    play.fact(at(10), "scale 0");
    assert!(play.engine.next_evaluation().is_some_and(|due| due <= at(10)));
    assert!(play.decide(at(10)).is_some());
    assert!(play.decide(at(10)).is_none(), "one decision at one time");
    assert_eq!(play.engine.next_evaluation(), Some(at(11)));
    let almost = at(11) - Duration::from_millis(20);
    assert!(play.decide(almost).is_some(), "a tick that comes a little early is not lost");
    assert!(play.decide(at(11)).is_none(), "and counts");
    play.fact(at(10), "waiting 1");
    assert!(play.engine.next_evaluation().is_some_and(|due| due <= at(10)), "at once");
    play.engine.observe(at(10), Observation::Deleted { target: target() });
    assert_eq!(play.engine.next_evaluation(), None);
    assert!(play.decide(at(20)).is_none());
}

#[test]
fn memory_given_back_decides_as_if_nothing_had_happened() {
    let policy = || autoscaler(1, 50, vec![external("rate", 20)]);
    let mut first = Play::new(policy());
    first.fact(at(0), "scale 9");
    first.fact(at(0), "rate 180");
    first.decide(at(0));
    let memory = Box::new(first.engine.memory(&target()).cloned().expect("a memory"));
    let mut second = Play::new(policy());
    second.engine.observe(at(1), Observation::Memory { target: target(), memory });
    for play in [&mut first, &mut second] {
        play.fact(at(1), "scale 9");
        play.fact(at(1), "rate 20");
    }
    assert_eq!(first.decide(at(299)), second.decide(at(299)));
    assert_eq!(first.decide(at(300)).map(|d| d.desired), Some(1));
    assert_eq!(second.decide(at(300)).map(|d| d.desired), Some(1));
}

#[test]
fn a_scale_in_that_is_disabled_says_so_from_the_first_moment() {
    let down = ScalingRules::default_down();
    let scale_down =
        ScalingRules::new(None, SelectPolicy::Disabled, down.policies().to_vec(), None).expect("good rules");
    let behavior = Some(Behavior { scale_down, ..Behavior::default() });
    let mut play = Play::new(Policy { behavior, ..autoscaler(2, 12, vec![external("load", 1)]) });
    let mut reasons_at = |seconds, fact| {
        play.fact(at(seconds), "scale 5");
        play.fact(at(seconds), fact);
        let decision = play.decide(at(seconds)).expect("a decision");
        assert_eq!(decision.desired, 5, "{decision}");
        decision.to_string()
    };
    reasons_at(10, "load 5");
    for (seconds, reason) in [
        (20, "after that it stays too: scale-in is disabled (selectPolicy: Disabled)"),
        (400, "no fewer than 5: scale-in is disabled (selectPolicy: Disabled)"),
    ] {
        let reasons = reasons_at(seconds, "load 1");
        assert!(reasons.contains(reason), "{reasons}");
    }
}
