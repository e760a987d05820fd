//! How long one round takes for 1,000 VerticalPodAutoscalers with 5 pods each: a minute's samples, the recommendations,
//! and what to do with each pod. Prints how much memory the recommenders hold, by the process' resident size.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::disallowed_methods, reason = "the process' own size is read from /proc")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use flyball_engine::Time;
use flyball_engine::vertical::{
    Configured, ContainerFacts, ContainerId, ContainerResources, LimitRanges, PodFacts, Recommender,
    RecommenderSettings, Resources, Round, UpdateMode, VerticalPolicy, VerticalRules,
};

const START: Time = Time::from_seconds(1_800_000_000);
const VPAS: usize = 1000;
const PODS: usize = 5;

/// One VerticalPodAutoscaler with its pods.
struct World {
    recommender: Recommender,
    groups: Vec<(Configured, Vec<PodFacts>)>,
}

fn pod(index: usize) -> PodFacts {
    let requests = Resources::new(Some(50), Some(64 << 20));
    let limits = Resources::new(Some(100), Some(128 << 20));
    let container = ContainerFacts::new("model", ContainerResources { requests, limits });
    let mut pod = PodFacts::new(format!("model-7d9f8b6c5d-{index}"), vec![container]);
    pod.started = Some(START);
    pod
}

fn world() -> World {
    let pods = (0..PODS).map(pod).collect();
    let recommender = Recommender::new(RecommenderSettings::default());
    World { recommender, groups: vec![(Configured::Replicas(5), pods)] }
}

fn minute(world: &mut World, minute: u64, policy: &VerticalPolicy) {
    let at = START + Duration::from_secs(60 * minute);
    for (index, pod) in world.groups[0].1.iter().enumerate() {
        let id = ContainerId::new(pod.name.clone(), "model");
        let wave = i64::try_from((minute * 37 + index as u64 * 11) % 100).expect("small");
        world.recommender.cpu_used(&id, at, 100 + wave).expect("in order");
        world.recommender.memory_used(&id, at, (200 + wave) << 20, policy).expect("in order");
    }
}

/// Recommends and plans; says how many pods are to be changed.
fn round(world: &World, now: Time, policy: &VerticalPolicy, rules: &VerticalRules) -> usize {
    let recommended = world.recommender.recommend(policy, rules);
    let round = Round {
        policy,
        recommended: &recommended,
        ranges: &LimitRanges::default(),
        rules,
        groups: &world.groups,
        infeasible: &BTreeMap::new(),
    };
    round.plan(now).len()
}

fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kibibytes| kibibytes * 1024)
}

fn thousand_vpas(c: &mut Criterion) {
    let policy = VerticalPolicy { mode: UpdateMode::InPlaceOrRecreate, ..VerticalPolicy::default() };
    let rules = VerticalRules::default();
    let before = resident_bytes();
    let mut worlds: Vec<World> = (0..VPAS).map(|_| world()).collect();
    let mut passed = 0;
    for world in &mut worlds {
        (0..60).for_each(|at| minute(world, at, &policy));
    }
    passed += 60;
    if let Some((before, after)) = before.zip(resident_bytes()) {
        println!("1000 VPAs with 5 pods each hold {} MB", (after - before) / 1_000_000);
    }
    let mut group = c.benchmark_group("1000 VPAs with 5 pods each");
    group.sample_size(10);
    group.bench_function("a minute's samples", |b| {
        b.iter(|| {
            worlds.iter_mut().for_each(|world| minute(world, passed, &policy));
            passed += 1;
        });
    });
    let now = START + Duration::from_secs(60 * passed);
    group.bench_function("recommend and plan", |b| {
        b.iter(|| worlds.iter().map(|world| black_box(round(world, now, &policy, &rules))).sum::<usize>());
    });
    group.finish();
}

criterion_group!(benches, thousand_vpas);
criterion_main!(benches);
