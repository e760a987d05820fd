//! The vertical axis: what holds whatever is recommended, limited and written down, and the edges of its numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_engine::vertical::*;
use flyball_engine::{Name, Time};
use proptest::prelude::*;

const START: Time = Time::from_seconds(1_800_000_000);

fn at(minutes: u64) -> Time {
    START + Duration::from_secs(60 * minutes)
}

fn id(pod: u32) -> ContainerId {
    ContainerId::new(format!("model-{pod}"), "model")
}

/// Numbers that break things, and ordinary ones.
fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 0..2_000_000_000_i64,
        2 => prop::sample::select(vec![0, 1, -1, i64::MIN, i64::MAX, AMOUNT_MAX, AMOUNT_MAX + 1, -1000]),
        1 => any::<i64>(),
    ]
}

fn resources() -> impl Strategy<Value = Resources> {
    (prop::option::of(amount()), prop::option::of(amount()))
        .prop_map(|(cpu, memory)| Resources::new(cpu, memory))
}

fn container_resources() -> impl Strategy<Value = ContainerResources> {
    (resources(), resources()).prop_map(|(requests, limits)| ContainerResources { requests, limits })
}

fn container_policy() -> impl Strategy<Value = ContainerPolicy> {
    (resources(), resources(), any::<bool>(), prop::bool::weighted(0.1)).prop_map(|(min, max, only, off)| {
        let values = if only { ControlledValues::RequestsOnly } else { ControlledValues::RequestsAndLimits };
        ContainerPolicy { off, min_allowed: min, max_allowed: max, values, ..ContainerPolicy::default() }
    })
}

fn limit_range() -> impl Strategy<Value = Option<LimitRange>> {
    let range = (resources(), resources(), resources()).prop_map(|(min, max, default_limit)| LimitRange {
        min,
        max,
        default_limit,
    });
    prop::option::of(range)
}

fn pod_facts() -> impl Strategy<Value = PodFacts> {
    let containers = prop::collection::vec((0..3_u32, container_resources(), any::<bool>()), 1..4);
    (containers, any::<bool>(), prop::option::of(0..100_000_u64), 0..6_u8, any::<bool>()).prop_map(
        |(containers, pending, age, resize, boosted)| {
            let facts = containers.into_iter().map(|(name, spec, killed)| {
                let mut facts = ContainerFacts::new(NAMES[name as usize], spec);
                let ran_for = Duration::from_secs(120);
                facts.last_termination = killed.then_some(Termination { oom_killed: true, ran_for });
                facts
            });
            let mut pod = PodFacts::new("pod", facts.collect());
            pod.pending = pending;
            pod.started = age.map(|age| at(100_000) - Duration::from_secs(60 * age));
            pod.ready_since = pod.started;
            let states = [Resizing::Deferred, Resizing::Infeasible, Resizing::InProgress, Resizing::Error];
            let state = states.get(usize::from(resize)).copied();
            pod.resize = state.map(|state| Resize { state, since: at(99_000) });
            if boosted {
                let original = pod.containers[0].spec;
                pod.boosted.push(Boosted { container: pod.containers[0].name.clone(), original });
            }
            pod
        },
    )
}

const NAMES: [&str; 3] = ["model", "proxy", "unknown"];

/// What happens to a recommender.
#[derive(Clone, Debug)]
enum Happening {
    Cpu(i64),
    Memory(i64),
    Oom(i64),
}

fn happening() -> impl Strategy<Value = (u32, u64, Happening)> {
    let happening = prop_oneof![
        4 => amount().prop_map(Happening::Cpu),
        4 => amount().prop_map(Happening::Memory),
        1 => amount().prop_map(Happening::Oom),
    ];
    (0..6_u32, 0..20_000_u64, happening)
}

fn tell(recommender: &mut Recommender, policy: &VerticalPolicy, happenings: &[(u32, u64, Happening)]) {
    for (pod, minutes, happening) in happenings {
        let (id, at) = (id(*pod), at(*minutes));
        // Refused samples are part of the game.
        let _ = match *happening {
            Happening::Cpu(millis) => recommender.cpu_used(&id, at, millis).map(|()| None),
            Happening::Memory(bytes) => recommender.memory_used(&id, at, bytes, policy),
            Happening::Oom(bytes) => recommender.oom_killed(&id, at, bytes, policy),
        };
    }
}

fn assert_ordered(recommended: &[ContainerRecommendation]) {
    for one in recommended {
        for (resource, target) in one.target.iter() {
            let (lower, upper) = (one.lower_bound.get(resource), one.upper_bound.get(resource));
            assert!(lower.is_none_or(|lower| lower <= target), "{one:?}");
            assert!(upper.is_none_or(|upper| target <= upper), "{one:?}");
        }
    }
}

/// Steps of one resource start where the last one ended, and end at the target.
fn assert_connected(one: &ContainerRecommendation) {
    for resource in Resource::ALL {
        let steps: Vec<_> = one.steps.iter().filter(|step| step.resource == resource).collect();
        for pair in steps.windows(2) {
            assert_eq!(pair[0].to, pair[1].from, "{one:?}");
        }
        if let Some(last) = steps.last() {
            assert_eq!(Some(last.to), one.target.get(resource), "{one:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever was sampled: the bounds are in order, the policy's maximum holds, and the chain is connected.
    #[test]
    fn recommendations_keep_their_order(
        happenings in prop::collection::vec(happening(), 0..60),
        own in container_policy(),
        integer in any::<bool>(),
        round in (amount(), amount()),
    ) {
        let policy = VerticalPolicy { other_containers: own, ..VerticalPolicy::default() };
        let rules = VerticalRules {
            integer_cpu: integer,
            round_cpu_millis: round.0,
            round_memory_bytes: round.1,
            ..VerticalRules::default()
        };
        let mut recommender = Recommender::new(RecommenderSettings::default());
        tell(&mut recommender, &policy, &happenings);
        let recommended = recommender.recommend(&policy, &rules);
        assert_ordered(&recommended);
        for one in &recommended {
            assert_connected(one);
            for (resource, target) in one.target.iter() {
                let max = policy.other_containers.max_allowed.bound(resource);
                prop_assert!(max.is_none_or(|max| target <= max));
            }
        }
    }

    /// Whatever a namespace, a policy and a pod say: nothing panics, and what a pod is to get is in order.
    #[test]
    fn a_pod_gets_what_is_in_order(
        targets in prop::collection::vec((0..3_u32, resources(), resources(), resources()), 0..4),
        pods in prop::collection::vec(pod_facts(), 1..5),
        own in container_policy(),
        ranges in (limit_range(), limit_range()),
        mode in 0..5_usize,
        configured in prop::sample::select(vec![0, 1, 3, 7, u32::MAX]),
    ) {
        let modes = [
            UpdateMode::Off, UpdateMode::Initial, UpdateMode::Recreate, UpdateMode::InPlaceOrRecreate, UpdateMode::InPlace,
        ];
        let policy = VerticalPolicy { mode: modes[mode], other_containers: own, ..VerticalPolicy::default() };
        let (ranges, rules) = (LimitRanges { container: ranges.0, pod: ranges.1 }, VerticalRules::default());
        let recommended: Vec<_> = targets.into_iter().map(|(name, target, lower, upper)| {
            let mut one = ContainerRecommendation::new(NAMES[name as usize]);
            (one.target, one.lower_bound, one.upper_bound) = (target, lower, upper);
            one
        }).collect();
        let capped = for_pod(&recommended, &pods[0].containers, &policy, &ranges, &rules);
        assert_ordered(&capped);
        let new = NewPod { containers: &pods[0].containers, has_annotations: false };
        admission_patch(&"vpa".into(), new, &recommended, &policy, &ranges, &rules);
        let groups = [(Configured::Replicas(configured), pods.clone())];
        let infeasible = BTreeMap::new();
        let round = Round { policy: &policy, recommended: &recommended, ranges: &ranges, rules: &rules, groups: &groups, infeasible: &infeasible };
        let plan = round.plan(at(100_000));
        prop_assert_eq!(plan.len(), pods.len(), "each pod gets one answer");
        let evicted = plan.iter().filter(|update| update.action == Action::Evict).count();
        prop_assert!(evicted == 0 || matches!(policy.mode, UpdateMode::Recreate | UpdateMode::InPlaceOrRecreate));
    }

    /// Whatever a checkpoint holds, it is loaded or refused, and what is loaded can be used.
    #[test]
    fn checkpoints_are_loaded_or_refused(
        weights in prop::collection::btree_map(prop_oneof![-2..200_i64, any::<i64>()], any::<u32>(), 0..20),
        total in prop_oneof![0.0..1e6, any::<f64>()],
        reference in prop::option::of(any::<u64>()),
        samples in any::<u64>(),
        version in prop::sample::select(vec!["v3", "v2", ""]),
    ) {
        let reference_timestamp = reference.map(Time::from_millis);
        let histogram = HistogramCheckpoint { reference_timestamp, bucket_weights: weights, total_weight: total };
        let checkpoint = Checkpoint {
            version: version.to_owned(),
            cpu_histogram: histogram.clone(),
            memory_histogram: histogram,
            total_samples_count: samples,
            ..Checkpoint::default()
        };
        let (policy, rules) = (VerticalPolicy::default(), VerticalRules::default());
        let mut recommender = Recommender::new(RecommenderSettings::default());
        if recommender.load(START, &"model".into(), &checkpoint).is_ok() {
            tell(&mut recommender, &policy, &[(0, 5, Happening::Cpu(100)), (0, 5, Happening::Memory(1 << 28))]);
            assert_ordered(&recommender.recommend(&policy, &rules));
            recommender.save(at(6), &"model".into(), &rules);
        }
    }

    /// A checkpoint brings back what was recommended, up to the rounding of its weights.
    #[test]
    fn a_checkpoint_brings_the_recommendation_back(
        loads in prop::collection::vec((1..4000_i64, (1..4000_i64).prop_map(|mib| mib << 20)), 50..200),
    ) {
        let (policy, rules) = (VerticalPolicy::default(), VerticalRules::default());
        let mut recommender = Recommender::new(RecommenderSettings::default());
        for (minutes, (cpu, memory)) in loads.iter().enumerate() {
            let at = at(minutes as u64);
            recommender.cpu_used(&id(0), at, *cpu).expect("in order");
            recommender.memory_used(&id(0), at, *memory, &policy).expect("in order");
        }
        let name: Name = "model".into();
        let checkpoint = recommender.save(at(500), &name, &rules).expect("a history");
        let text = serde_json::to_string(&checkpoint).expect("plain data");
        let mut restarted = Recommender::new(RecommenderSettings::default());
        restarted.load(at(500), &name, &serde_json::from_str(&text).expect("what was written")).expect("what was saved");
        let [before, after] = [&recommender, &restarted].map(|one| one.recommend(&policy, &rules)[0].target);
        for (resource, before) in before.iter() {
            let after = after.amount(resource) as f64 / before as f64;
            prop_assert!((0.9..1.1).contains(&after), "{resource}: {before} became {after} times as much");
        }
    }
}

/// Amounts at the ends of what a number can hold: nothing wraps around.
#[test]
fn edges_of_amounts() {
    let both = |request, limit| ContainerResources {
        requests: Resources::new(Some(request), None),
        limits: Resources::new(Some(limit), None),
    };
    let table = [
        // original request and limit, recommendation → limit
        (both(0, 0), 100, None),
        (both(1, i64::MAX), 2, Some(i64::MAX)),
        (both(-1, i64::MAX), 2, Some(i64::MIN)),
        (both(i64::MIN, 1), i64::MIN, Some(1)),
        (both(3, 2), i64::MAX, Some(6_148_914_691_236_517_204)),
        (both(1, 2), -5, Some(-10)),
        (both(1, 1), i64::MIN, Some(i64::MIN)),
    ];
    for (original, recommended, limit) in table {
        let got = proportional_limit(Resource::Cpu, &original, recommended, &Resources::default()).0;
        assert_eq!(got, limit, "{original:?} {recommended}");
    }
    let rounded = [
        (0, 5, Some(0)),
        (-7, 5, Some(-5)),
        (i64::MAX, 2, Some(i64::MAX)),
        (i64::MIN, 3, Some(i64::MIN + 2)),
    ];
    for (value, scale, expected) in rounded {
        assert_eq!(round_up_to_scale(value, scale), expected, "{value} to {scale}");
    }
    let clamped =
        [(f64::NAN, 0), (f64::INFINITY, AMOUNT_MAX), (f64::NEG_INFINITY, 0), (1e300, AMOUNT_MAX), (-0.5, 0)];
    for (estimate, amount) in clamped {
        assert_eq!(clamp_amount(estimate), amount, "{estimate}");
    }
}

/// Contradicting bounds: the maximum wins over the minimum, the policy over the LimitRange, the limit over all.
#[test]
fn contradicting_caps() {
    let memory = |bytes| Resources::new(None, Some(bytes));
    let range = LimitRange { min: memory(500), max: memory(400), default_limit: Resources::default() };
    let ranges = LimitRanges { container: Some(range), pod: None };
    let own = ContainerResources { requests: memory(100), limits: memory(100) };
    let containers = [ContainerFacts::new("model", own)];
    let mut one = ContainerRecommendation::new("model");
    (one.lower_bound, one.target, one.upper_bound) = (memory(50), memory(200), memory(900));
    let table = [
        (ContainerPolicy::default(), 400),
        (ContainerPolicy { min_allowed: memory(600), ..ContainerPolicy::default() }, 600),
        (
            ContainerPolicy {
                min_allowed: memory(600),
                max_allowed: memory(300),
                ..ContainerPolicy::default()
            },
            300,
        ),
        (ContainerPolicy { values: ControlledValues::RequestsOnly, ..ContainerPolicy::default() }, 100),
    ];
    for (policy, expected) in table {
        let policy = VerticalPolicy { other_containers: policy, ..VerticalPolicy::default() };
        let capped = for_pod(&[one.clone()], &containers, &policy, &ranges, &VerticalRules::default());
        assert_eq!(capped[0].target, memory(expected), "{policy:?}");
    }
}

/// A LimitRange for pods scales target and bounds on their own. Upstream's order may break, ours does not.
#[test]
fn a_pod_limit_range_keeps_the_order_by_our_rules() {
    let memory = |bytes| Resources::new(None, Some(bytes));
    let range = LimitRange { min: memory(1000), ..LimitRange::default() };
    let ranges = LimitRanges { container: None, pod: Some(range) };
    let own = ContainerResources { requests: memory(100), limits: memory(100) };
    let containers = [ContainerFacts::new("model", own), ContainerFacts::new("proxy", own)];
    let one = |name, lower, target, upper| {
        let mut one = ContainerRecommendation::new(name);
        (one.lower_bound, one.target, one.upper_bound) = (memory(lower), memory(target), memory(upper));
        one
    };
    // The lower bounds are brought up to 1000 in all, which for the first container is more than its target.
    let recommended = [one("model", 90, 100, 500), one("proxy", 10, 900, 950)];
    let policy = VerticalPolicy::default();
    let upstream = for_pod(&recommended, &containers, &policy, &ranges, &VerticalRules::upstream());
    assert_eq!((upstream[0].lower_bound, upstream[0].target), (memory(900), memory(100)));
    let ours = for_pod(&recommended, &containers, &policy, &ranges, &VerticalRules::default());
    assert_eq!((ours[0].lower_bound, ours[0].target), (memory(100), memory(100)));
    assert_ordered(&ours);
}

/// Upstream writes the upper bound of a container without a recommendation into a list that does not exist, and panics.
#[test]
fn a_container_without_a_recommendation_takes_part_in_a_pods_limit_range() {
    let cpu = |millis| Resources::new(Some(millis), None);
    let range = LimitRange { max: cpu(1000), ..LimitRange::default() };
    let ranges = LimitRanges { container: None, pod: Some(range) };
    let own = ContainerResources { requests: cpu(400), limits: cpu(400) };
    let containers = [ContainerFacts::new("model", own), ContainerFacts::new("proxy", own)];
    let mut model = ContainerRecommendation::new("model");
    (model.target, model.upper_bound) = (cpu(1600), cpu(2000));
    let (policy, rules) = (VerticalPolicy::default(), VerticalRules::default());
    let capped = for_pod(&[model], &containers, &policy, &ranges, &rules);
    assert_eq!(capped.iter().map(|one| one.target).collect::<Vec<_>>(), [cpu(800), cpu(200)]);
    assert_eq!(capped[1].upper_bound, Resources::default());
}

/// Minutes from a step until the CPU target has followed it.
fn minutes_to_follow(settings: RecommenderSettings, from: i64, to: i64) -> u64 {
    let (policy, rules) = (VerticalPolicy::default(), VerticalRules::default());
    let mut recommender = Recommender::new(settings);
    let steady = 8 * 24 * 60;
    (0..steady).for_each(|minute| recommender.cpu_used(&id(0), at(minute), from).expect("in order"));
    for minute in 0..10_000 {
        recommender.cpu_used(&id(0), at(steady + minute), to).expect("in order");
        let target = recommender.recommend(&policy, &rules)[0].target.cpu_millis.expect("controlled");
        if if from < to { target >= to } else { target < 2 * to } {
            return minute + 1;
        }
    }
    10_000
}

#[test]
fn the_recommender_flyball_follows_a_step_within_minutes() {
    let table = [
        // recommender, from, to → minutes until the target has followed
        ("default", RecommenderSettings::default(), 100, 1000, 3 * 60..4 * 60),
        ("flyball", RecommenderSettings::flyball(), 100, 1000, 1..4),
        ("default", RecommenderSettings::default(), 1000, 100, 79 * 60..81 * 60),
        ("flyball", RecommenderSettings::flyball(), 1000, 100, 3 * 60..4 * 60),
    ];
    for (name, settings, from, to, minutes) in table {
        let found = minutes_to_follow(settings, from, to);
        assert!(minutes.contains(&found), "{name} from {from}m to {to}m: {found} minutes");
    }
}

/// One of twelve replicas is killed. VPA's target is the 90th percentile of all replicas, which does not move.
#[test]
fn a_kill_raises_memory_before_the_restarted_container_can_die_again() {
    let mib = |mib: i64| mib << 20;
    let policy = VerticalPolicy { mode: UpdateMode::InPlaceOrRecreate, ..VerticalPolicy::default() };
    let rules = VerticalRules::default();
    let request = mib(300);
    let after_kill = |settings| {
        let mut recommender = Recommender::new(settings);
        for minute in 0..120 {
            for pod in 0..12 {
                recommender.cpu_used(&id(pod), at(minute), 50).expect("in order");
                recommender.memory_used(&id(pod), at(minute), mib(200), &policy).expect("in order");
            }
        }
        recommender.oom_killed(&id(7), at(120), request, &policy).expect("now");
        recommender.recommend(&policy, &rules)
    };
    let memory = |recommended: &[ContainerRecommendation]| recommended[0].target.amount(Resource::Memory);
    assert!(memory(&after_kill(RecommenderSettings::default())) < request);
    let recommended = after_kill(RecommenderSettings::flyball());
    assert!(memory(&recommended) >= mib(600) * 115 / 100, "{recommended:?}");

    let requests = Resources::new(Some(50), Some(request));
    let containers = || vec![ContainerFacts::new("model", ContainerResources { requests, limits: requests })];
    let pods = (0..12).map(|pod| PodFacts::new(format!("model-{pod}"), containers())).collect();
    let groups = [(Configured::Replicas(12), pods)];
    let (ranges, infeasible) = (LimitRanges::default(), BTreeMap::new());
    let round = Round {
        policy: &policy,
        recommended: &recommended,
        ranges: &ranges,
        rules: &rules,
        groups: &groups,
        infeasible: &infeasible,
    };
    for update in round.plan(at(120)) {
        let Action::Resize(new) = &update.action else { panic!("{update:?}") };
        assert_eq!(new[0].1.limits.memory_bytes, recommended[0].target.memory_bytes, "{update:?}");
        assert!(matches!(update.reason, UpdateReason::OutsideBounds(_)), "{update:?}");
    }
}
