//! What holds whatever happens: random policies, random facts, at random times.

use std::time::Duration;

use flyball_engine::{
    Activation, Behavior, Decision, Fallback, FallbackBehavior, MetricSource, Milli, Name, Observation,
    Pause, Phase, Pod, PodValue, Policy, PolicyKind, Readiness, Reading, Reason, Rules, ScalingPolicy,
    ScalingRules, SelectPolicy, Stage, Time, ZeroRule,
};
use proptest::prelude::*;

use crate::play::{Play, START, at, autoscaler, cpu, external, external_value, scaled_object, target};

/// Metrics of every policy here.
const METRICS: [&str; 3] = ["rate", "latency", "cpu"];

/// What happens before an evaluation.
#[derive(Clone, Debug)]
enum Happening {
    Read(usize, Reading),
    Pods(Vec<Pod>),
    Waiting(u32),
    /// Somebody else sets the replicas.
    Scale(u32),
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.0..300.0, 1 => Just(0.0), 1 => any::<f64>()]
}

fn reading(metric: usize) -> BoxedStrategy<Reading> {
    let per_pod = prop::collection::vec((0..12_u32, 0..4_000_i64, 0..400_u64), 0..12).prop_map(|values| {
        let value = |(pod, milli, age)| PodValue {
            pod: pod_name(pod),
            value: Milli::new(milli),
            at: at(3600) - Duration::from_secs(age),
            window: Duration::from_secs(15),
            starting: false,
        };
        Reading::PerPod { values: values.into_iter().map(value).collect(), at: at(3600) }
    });
    let unavailable = prop_oneof![
        Just(Reading::Missing { why: "gone".to_owned() }),
        Just(Reading::Stale { last: 5.0, at: START, why: "refused".to_owned() }),
        Just(Reading::Partial { value: 0.0, at: at(3600), why: "a store did not answer".to_owned() }),
        Just(Reading::Failed { error: "refused".to_owned() }),
    ];
    let total = prop_oneof![
        value().prop_map(|value| Reading::Value { value, at: at(3600) }),
        Just(Reading::Idle { at: at(3600) }),
    ];
    if METRICS[metric] == "cpu" {
        prop_oneof![9 => per_pod, 1 => unavailable].boxed()
    } else {
        prop_oneof![8 => total, 2 => unavailable].boxed()
    }
}

fn pod_name(index: u32) -> Name {
    format!("model-{index:04}").into()
}

fn pod() -> impl Strategy<Value = Pod> {
    let phase = prop_oneof![8 => Just(Phase::Running), 1 => Just(Phase::Pending), 1 => Just(Phase::Failed)];
    let ready = prop::option::weighted(0.9, (prop::bool::weighted(0.8), 0..900_u64));
    (0..12_u32, phase, any::<bool>(), prop::option::weighted(0.9, 0..900_u64), ready, 0..2_000_i64).prop_map(
        |(index, phase, deleting, started, ready, request)| {
            let container = flyball_engine::ContainerRequests {
                name: "model".into(),
                requests: [("cpu".into(), Milli::new(request))].into_iter().collect(),
            };
            Pod {
                name: pod_name(index),
                phase,
                deleting: deleting && request % 4 == 0,
                started: started.map(|age| at(3600) - Duration::from_secs(age)),
                ready: ready
                    .map(|(ready, age)| Readiness { ready, since: at(3600) - Duration::from_secs(age) }),
                requests: flyball_engine::PodRequests {
                    pod: Default::default(),
                    containers: vec![container],
                },
            }
        },
    )
}

fn happening() -> impl Strategy<Value = Happening> {
    let pods = prop::collection::vec(pod(), 0..12).prop_map(|mut pods| {
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        pods.dedup_by(|a, b| a.name == b.name);
        Happening::Pods(pods)
    });
    prop_oneof![
        6 => (0..METRICS.len()).prop_flat_map(|metric| reading(metric).prop_map(move |r| Happening::Read(metric, r))),
        2 => pods,
        1 => (0..3_u32).prop_map(Happening::Waiting),
        1 => (0..40_u32).prop_map(Happening::Scale),
    ]
}

/// Pauses of so many seconds, and what happened in them.
type History = Vec<(u64, Vec<Happening>)>;

fn history() -> impl Strategy<Value = History> {
    prop::collection::vec(
        (prop_oneof![8 => 0..20_u64, 1 => 0..700_u64], prop::collection::vec(happening(), 0..4)),
        1..60,
    )
}

fn rules() -> impl Strategy<Value = ScalingRules> {
    let policy = (any::<bool>(), 1..200_u32, 1..120_u64).prop_map(|(pods, value, seconds)| ScalingPolicy {
        kind: if pods { PolicyKind::Pods } else { PolicyKind::Percent },
        value,
        period: Duration::from_secs(seconds),
    });
    let select = prop_oneof![
        3 => Just(SelectPolicy::Max), 2 => Just(SelectPolicy::Min), 1 => Just(SelectPolicy::Disabled)
    ];
    (prop::option::of(0..400_u64), select, prop::collection::vec(policy, 1..3)).prop_map(
        |(window, select, policies)| {
            ScalingRules::new(window.map(Duration::from_secs), select, policies, None).expect("good rules")
        },
    )
}

fn behavior() -> impl Strategy<Value = Option<Behavior>> {
    prop::option::of((rules(), rules()).prop_map(|(scale_up, scale_down)| Behavior { scale_up, scale_down }))
}

/// A policy over all metrics: an autoscaler or a ScaledObject.
fn policy() -> impl Strategy<Value = Policy> {
    let fallback = (0..3_u32, 0..20_u32).prop_map(|(failure_threshold, replicas)| Fallback {
        failure_threshold,
        replicas,
        behavior: FallbackBehavior::Static,
    });
    let zero = prop_oneof![
        Just(ZeroRule::OneLoop),
        Just(ZeroRule::OneStep),
        Just(ZeroRule::Hpa { scale_to_zero: true })
    ];
    (0..6_u32, 0..40_u32, any::<bool>(), behavior(), prop::option::weighted(0.2, fallback), zero).prop_map(
        |(min, more, keda, behavior, fallback, zero)| {
            let metrics = vec![external("rate", 20), external_value("latency", 1), cpu(50)];
            let max = (min + more).max(1);
            let policy =
                if keda { scaled_object(min, max, None, metrics) } else { autoscaler(min, max, metrics) };
            Policy { behavior, fallback, rules: Rules { zero, ..Rules::default() }, ..policy }
        },
    )
}

/// Plays a history and hands out each decision with the time.
fn play(policy: Policy, history: &History, mut look: impl FnMut(Time, &Decision)) -> Play {
    let mut play = Play::new(policy);
    play.scale(START, 3);
    let mut seconds = 3600;
    for (pause, happenings) in history {
        seconds += pause;
        for happening in happenings.iter().cloned() {
            match happening {
                Happening::Scale(replicas) => play.scale(at(seconds), replicas),
                Happening::Read(metric, reading) => play.engine.observe(
                    at(seconds),
                    Observation::Metric { target: target(), metric: METRICS[metric].into(), reading },
                ),
                Happening::Pods(pods) => {
                    play.engine.observe(at(seconds), Observation::Pods { target: target(), pods })
                }
                Happening::Waiting(requests) => {
                    play.engine.observe(at(seconds), Observation::Waiting { target: target(), requests });
                }
            }
        }
        if let Some(decision) = play.decide(at(seconds)) {
            look(at(seconds), &decision);
        }
    }
    play
}

/// As far as the policies of one direction let the replicas go from `current`, given those of a period ago.
fn allowed(rules: &ScalingRules, current: u32, up: bool, before: impl Fn(Duration) -> u32) -> u32 {
    let limits = rules.policies().iter().map(|policy| {
        let (start, value) = (f64::from(before(policy.period)), f64::from(policy.value));
        let limit = match (policy.kind, up) {
            (PolicyKind::Pods, true) => start + value,
            (PolicyKind::Pods, false) => start - value,
            (PolicyKind::Percent, true) => (start * (1.0 + value / 100.0)).ceil(),
            (PolicyKind::Percent, false) => (start * (1.0 - value / 100.0)).trunc(),
        };
        limit.max(0.0) as u32
    });
    let most_change = rules.select() == SelectPolicy::Max;
    let chosen = match rules.select() {
        SelectPolicy::Disabled => Some(current),
        _ if most_change == up => limits.max(),
        _ => limits.min(),
    };
    let chosen = chosen.expect("there is a policy");
    if up { chosen.max(current) } else { chosen.min(current) }
}

/// Nobody else sets the replicas.
fn undisturbed(history: History) -> History {
    let keep = |happening: &Happening| !matches!(happening, Happening::Scale(_));
    history.into_iter().map(|(pause, list)| (pause, list.into_iter().filter(keep).collect())).collect()
}

fn is_unavailable(decision: &Decision) -> bool {
    decision.proposals.iter().any(flyball_engine::Proposal::is_unavailable)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_chain_is_connected_and_every_sentence_can_be_said(policy in policy(), history in history()) {
        play(policy, &history, |_, decision| {
            assert!(!decision.steps.is_empty());
            let mut replicas = decision.current;
            for step in &decision.steps {
                assert_eq!(step.from, replicas, "{decision}");
                assert!(!step.reason.to_string().is_empty());
                replicas = step.to;
            }
            assert_eq!(replicas, decision.desired, "{decision}");
            assert!(decision.steps.is_sorted_by_key(|step| step.stage), "{decision}");
        });
    }

    #[test]
    fn bounds_hold(policy in policy(), history in history()) {
        let (min, max, idle) = (policy.bounds.min(), policy.bounds.max(), policy.bounds.idle());
        play(policy, &history, |_, decision| {
            // A HorizontalPodAutoscaler leaves alone what somebody set to zero.
            if !decision.steps.iter().any(|step| step.reason == Reason::ScalingDisabled) {
                assert!(decision.desired <= max, "{decision}");
                assert!(decision.desired >= idle.unwrap_or(min), "{decision}");
            }
        });
    }

    #[test]
    fn the_same_facts_give_the_same_bytes(policy in policy(), history in history()) {
        let render = || {
            let mut text = String::new();
            play(policy.clone(), &history, |_, decision| {
                let json = serde_json::to_string(decision).expect("a decision can be written");
                assert_eq!(&serde_json::from_str::<Decision>(&json).expect("and read"), decision);
                text.push_str(&json);
            });
            text
        };
        prop_assert_eq!(render(), render());
    }

    #[test]
    fn what_cant_be_measured_takes_nothing_away(policy in policy(), history in history()) {
        let max = policy.bounds.max();
        play(policy, &history, |_, decision| {
            if is_unavailable(decision) {
                assert!(decision.desired >= decision.current.min(max), "{decision}");
            }
        });
    }

    #[test]
    fn a_paused_target_never_moves(policy in policy(), history in history(), scale_in: bool, scale_out: bool) {
        play(Policy { pause: Pause::AtCurrent, ..policy.clone() }, &history, |_, decision| {
            assert_eq!(decision.desired, decision.current);
        });
        let pause = Pause::AtReplicas(policy.bounds.max() + 7);
        play(Policy { pause, ..policy.clone() }, &history, |_, decision| {
            assert_eq!(decision.desired, policy.bounds.max() + 7);
        });
        let rules = Rules { zero: ZeroRule::OneLoop, ..policy.rules };
        let pause = Pause::Directions { scale_in, scale_out };
        play(Policy { pause, rules, ..policy }, &history, |_, decision| {
            assert!(!scale_in || decision.desired >= decision.current, "{decision}");
            assert!(!scale_out || decision.desired <= decision.current, "{decision}");
        });
    }

    #[test]
    fn no_scale_in_within_the_window_of_a_higher_recommendation(
        policy in policy(), history in history(), window_s in 1..400_u64,
    ) {
        let scale_down = ScalingRules::new(
            Some(Duration::from_secs(window_s)), SelectPolicy::Max, ScalingRules::default_down().policies().to_vec(), None,
        ).expect("good rules");
        let behavior = Some(Behavior { scale_down, ..Behavior::default() });
        let rules = Rules { zero: ZeroRule::OneLoop, ..policy.rules };
        // A plain autoscaler, since a ScaledObject's recommendations also come from its activation.
        let policy = Policy { behavior, rules, activation: None, fallback: None, ..policy };
        let max = policy.bounds.max();
        let mut recommended: Vec<(Time, u32)> = Vec::new();
        play(policy, &history, |now, decision| {
            let measured = decision.follows_metrics();
            if let Some(step) = decision.steps.first().filter(|step| step.stage == Stage::Recommend && measured) {
                if decision.desired < decision.current {
                    let window = recommended.iter().filter(|(at, _)| now.since(*at) < Duration::from_secs(window_s));
                    let highest = window.map(|(_, replicas)| *replicas).max().unwrap_or(0);
                    assert!(decision.desired >= highest.min(decision.current).min(max), "{highest} in {decision}");
                }
                recommended.push((now, step.to));
            }
        });
    }

    /// Each policy counts from the replicas that there were at the start of its period; none given are the defaults.
    #[test]
    fn never_faster_than_the_policies(policy in policy(), history in history()) {
        let rules = Rules { zero: ZeroRule::OneLoop, ..policy.rules };
        let policy = Policy { rules, activation: None, ..policy };
        let behavior = policy.behavior.clone().unwrap_or_default();
        let (min, max) = (policy.bounds.min(), policy.bounds.max());
        let mut timeline: Vec<(Time, u32)> = vec![(START, 3)];
        play(policy, &undisturbed(history), |now, decision| {
            let before = |period: Duration| {
                let then = now - period;
                timeline.iter().rev().find(|(at, _)| *at <= then).expect("the start is long ago").1
            };
            let highest = allowed(&behavior.scale_up, decision.current, true, before).max(min);
            let lowest = allowed(&behavior.scale_down, decision.current, false, before).min(max);
            assert!((lowest..=highest).contains(&decision.desired), "{lowest} to {highest}: {decision}");
            timeline.push((now, decision.desired));
        });
    }

    /// All else equal, for each metric alone and for the whole decision.
    #[test]
    fn more_load_never_gives_fewer_replicas(
        policy in policy(), history in history(), low in 0.0..200.0, more in 0.0..200.0, metric in 0..2_usize,
    ) {
        let decide = |value: f64| {
            let mut played = play(policy.clone(), &history, |_, _| {});
            let end = at(3600 + 60 * 700);
            // `Value` multiplies the ready pods and its tolerance keeps all replicas: the original's rule gives fewer
            // for more load when pods are not ready, so here they are.
            played.fact(end, &format!("ready {}", played.replicas));
            for (index, name) in METRICS.iter().enumerate() {
                let reading = match (*name, index == metric) {
                    (_, true) => Reading::Value { value, at: end },
                    ("cpu", false) => continue,
                    (_, false) => Reading::Value { value: 10.0, at: end },
                };
                played.engine.observe(end, Observation::Metric { target: target(), metric: (*name).into(), reading });
            }
            played.decide(end).map(|decision| decision.desired)
        };
        prop_assert!(decide(low) <= decide(low + more));
    }

    #[test]
    fn targets_do_not_disturb_each_other(policy in policy(), history in history()) {
        let mut alone = Vec::new();
        play(policy.clone(), &history, |_, decision| alone.push(decision.clone()));
        let mut beside = Vec::new();
        let mut play = Play::new(policy.clone());
        let other = flyball_engine::TargetId::new("Deployment", "default", "other");
        play.engine.observe(START, Observation::Policy { target: other.clone(), policy: Box::new(policy) });
        play.scale(START, 3);
        let mut seconds = 3600;
        for (pause, happenings) in &history {
            seconds += pause;
            let scale = flyball_engine::Scale { spec_replicas: 7, status_replicas: 7, selector: flyball_engine::Selector::Valid };
            play.engine.observe(at(seconds), Observation::Scale { target: other.clone(), scale });
            for happening in happenings.iter().cloned() {
                let now = at(seconds);
                match happening {
                    Happening::Scale(replicas) => play.scale(now, replicas),
                    Happening::Read(metric, reading) => {
                        let metric: Name = METRICS[metric].into();
                        let to_other = Observation::Metric { target: other.clone(), metric: metric.clone(), reading: reading.clone() };
                        play.engine.observe(now, to_other);
                        play.engine.observe(now, Observation::Metric { target: target(), metric, reading });
                    }
                    Happening::Pods(pods) => play.engine.observe(now, Observation::Pods { target: target(), pods }),
                    Happening::Waiting(requests) => {
                        play.engine.observe(now, Observation::Waiting { target: target(), requests });
                    }
                }
            }
            for decision in play.engine.evaluate(at(seconds)) {
                if decision.target != other {
                    if decision.rescales() {
                        let (from, to) = (decision.current, decision.desired);
                        play.engine.observe(at(seconds), Observation::Rescaled { target: target(), from, to, error: None });
                        play.scale(at(seconds), to);
                    }
                    beside.push(decision);
                }
            }
        }
        prop_assert_eq!(alone, beside);
    }

    /// Utilization and averages over random pods: no panic, and never more than Kubernetes can count.
    #[test]
    fn any_pods_and_values_give_a_number(
        pods in prop::collection::vec(pod(), 0..12),
        values in prop::collection::vec((0..14_u32, any::<i64>()), 0..14),
        current in 0..100_u32,
    ) {
        let source = MetricSource::Pods { metric: "queue".into() };
        let wanted = flyball_engine::MetricTarget::AverageValue(Milli::new(1));
        let queue = flyball_engine::Metric::new("queue", source, wanted).expect("a good metric");
        let mut play = Play::new(autoscaler(0, i32::MAX.unsigned_abs(), vec![queue, cpu(1)]));
        play.scale(at(3600), current);
        play.engine.observe(at(3600), Observation::Pods { target: target(), pods });
        for metric in ["queue", "cpu"] {
            let values = values.iter().map(|(pod, value)| PodValue {
                pod: pod_name(*pod), value: Milli::new(*value), at: at(3600), window: Duration::ZERO,
                starting: false,
            });
            let reading = Reading::PerPod { values: values.collect(), at: at(3600) };
            play.engine.observe(at(3600), Observation::Metric { target: target(), metric: metric.into(), reading });
        }
        let decision = play.decide(at(3600)).expect("a decision");
        prop_assert!(decision.desired <= i32::MAX.unsigned_abs());
    }
}

#[test]
fn the_default_activation_is_kedas() {
    let activation = Activation::default();
    assert_eq!((activation.cooldown.as_secs(), activation.polling_interval.as_secs()), (300, 30));
}
