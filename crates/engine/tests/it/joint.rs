//! Both axes on one target: a load goes to size first, then to replicas, and comes back the other way, without a fight.

use std::time::Duration;

use flyball_engine::vertical::{
    ContainerRecommendation, ContainerSizing, Resource, Resources, Sizing, VerticalReason,
};
use flyball_engine::{
    ContainerRequests, Decision, Milli, Observation, Pod, PodRequests, PodValue, Reading, Reason, Time,
};
use proptest::prelude::*;

use crate::play::{Play, at, cpu, ready_pod, scaled_object, target};

/// At most this much CPU for each replica.
const MAX_MILLIS: i64 = 250;
const MIN_MILLIS: i64 = 50;
/// Pods may use twice what they request.
const LIMIT_RATIO: i64 = 2;

/// A target whose replicas share a load evenly, sized by a VerticalPodAutoscaler and scaled by CPU.
struct World {
    play: Play,
    request: i64,
    room: Option<i64>,
}

impl World {
    fn new() -> Self {
        let mut play = Play::new(scaled_object(1, 5, None, vec![cpu(50)]));
        play.scale(at(0), 1);
        Self { play, request: MIN_MILLIS, room: None }
    }

    fn pods(&self) -> Vec<Pod> {
        let container = ContainerRequests {
            name: "model".into(),
            requests: [("cpu".into(), Milli::new(self.request))].into_iter().collect(),
        };
        let pod = |index| Pod {
            requests: PodRequests { containers: vec![container.clone()], ..PodRequests::default() },
            ..ready_pod(index)
        };
        (0..self.play.replicas).map(pod).collect()
    }

    /// One second under a load, if it can be read; what is decided is carried out at once.
    fn second(&mut self, now: Time, load: Option<i64>) -> Decision {
        let (pods, sizing) = (self.pods(), Some(Box::new(self.sizing())));
        let share = load.map(|load| (load / i64::from(self.play.replicas)).min(LIMIT_RATIO * self.request));
        let value = |pod: &Pod| PodValue {
            pod: pod.name.clone(),
            value: Milli::new(share.unwrap_or(0)),
            at: now,
            window: Duration::from_secs(1),
            starting: false,
        };
        let reading = match load {
            Some(_) => Reading::PerPod { values: pods.iter().map(value).collect(), at: now },
            None => Reading::Failed { error: "no answer".to_owned() },
        };
        let engine = &mut self.play.engine;
        engine.observe(now, Observation::Pods { target: target(), pods });
        engine.observe(now, Observation::Metric { target: target(), metric: "cpu".into(), reading });
        engine.observe(now, Observation::Sizing { target: target(), sizing });
        let decision = self.play.decide(now).expect("it is due every second");
        let next = decision.sizes[0].requests().amount(Resource::Cpu);
        self.room = self.room.map(|room| room - (next - self.request));
        self.request = next;
        decision
    }

    /// The recommender says what VPA's would: the use with its margin, which alone would fight the replicas.
    fn sizing(&self) -> Sizing {
        let millis = |millis| Resources::new(Some(millis), None);
        let mut recommended = ContainerRecommendation::new("model");
        (recommended.lower_bound, recommended.target, recommended.upper_bound) =
            (millis(50), millis(60), millis(70));
        let (min_allowed, max_allowed) = (millis(MIN_MILLIS), millis(MAX_MILLIS));
        let container =
            ContainerSizing { requests: millis(self.request), recommended, min_allowed, max_allowed };
        Sizing { containers: vec![container], room_cpu_millis: self.room }
    }
}

/// How often a course of numbers turned round.
fn turns(course: &[i64]) -> usize {
    let directions = course.windows(2).map(|pair| (pair[1] - pair[0]).signum()).filter(|sign| *sign != 0);
    let mut directions: Vec<i64> = directions.collect();
    directions.dedup();
    directions.len().saturating_sub(1)
}

/// Plays loads one after the other, each for 15 minutes. After each: replicas, request, and how often each turned.
fn play(world: &mut World, loads: &[i64]) -> Vec<(u32, i64, usize, usize)> {
    let mut ends = Vec::new();
    for (phase, load) in loads.iter().enumerate() {
        let (mut replicas, mut requests) = (vec![i64::from(world.play.replicas)], vec![world.request]);
        for second in 0..900 {
            world.second(at(1 + phase as u64 * 900 + second), Some(*load));
            replicas.push(world.play.replicas.into());
            requests.push(world.request);
        }
        ends.push((world.play.replicas, world.request, turns(&replicas), turns(&requests)));
    }
    ends
}

#[test]
fn a_load_goes_up_then_out_and_comes_in_then_down() {
    let ends = play(&mut World::new(), &[20, 60, 125, 300, 600, 125, 20]);
    let expected = [(1, 50), (1, 120), (1, 250), (3, 250), (5, 250), (1, 250), (1, 50)];
    let found: Vec<_> = ends.iter().map(|(replicas, request, ..)| (*replicas, *request)).collect();
    assert_eq!(found, expected);
    assert!(ends.iter().all(|(.., out, up)| (*out, *up) == (0, 0)), "{ends:?}");
}

#[test]
fn without_room_on_the_node_a_load_goes_out_at_once() {
    let mut world = World::new();
    world.room = Some(30);
    let ends = play(&mut world, &[160, 20]);
    // 80m at 50 % is 40m for each.
    assert_eq!(ends, [(4, 80, 0, 0), (1, 50, 0, 0)]);
}

#[test]
fn both_axes_give_their_reasons() {
    let mut world = World::new();
    let decision = world.second(at(1), Some(90));
    let text = decision.to_string();
    let steps = [
        "recommend 1 → 1  WithinTolerance: cpu is at 50 % of the 0.18 that each pod is to request where 50 % is wanted",
        "size      model cpu 50m → 180m  UtilizationTarget: a load of 90m takes so much of 1 replica at 50 % utilization",
    ];
    assert!(steps.iter().all(|step| text.contains(step)), "{text}");
    let decision = world.second(at(2), Some(1));
    let last = decision.sizes[0].desired.steps.last().expect("a step");
    assert!(matches!(last.reason, VerticalReason::ShrinkStabilized { .. }), "{decision}");
    for second in 3..60 {
        world.second(at(second), Some(600));
    }
    let decision = world.second(at(60), Some(600));
    assert_eq!((decision.current, world.request), (5, 250));
    let last = decision.sizes[0].desired.steps.last().expect("a step");
    assert_eq!(last.reason, VerticalReason::NotAtMinimum { replicas: 5, min: 1 });
    assert!(matches!(decision.steps[0].reason, Reason::WithinTolerance { .. }), "{decision}");
}

#[test]
fn what_cannot_be_read_takes_nothing_away() {
    let mut world = World::new();
    play(&mut world, &[125]);
    for second in 0..900 {
        let decision = world.second(at(2000 + second), None);
        assert_eq!((decision.desired, world.request), (1, 250));
        assert_eq!(
            decision.sizes[0].desired.steps.last().expect("a step").reason,
            VerticalReason::Unmeasured
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever the loads: neither axis turns round while a load lasts, bounds hold, and at its end enough is there.
    #[test]
    fn no_axis_turns_round_while_a_load_lasts(loads in prop::collection::vec(1..900_i64, 1..5)) {
        let mut world = World::new();
        for ((replicas, request, out, up), load) in play(&mut world, &loads).into_iter().zip(&loads) {
            prop_assert!(out <= 1 && up <= 1, "{load}m: replicas turned {out} times, the request {up} times");
            prop_assert!((1..=5).contains(&replicas) && (MIN_MILLIS..=MAX_MILLIS).contains(&request));
            let at_target = i64::from(replicas) * request / 2;
            let most = 5 * MAX_MILLIS / 2;
            // The HorizontalPodAutoscaler cuts 55.9 % off to 55, which is within its tolerance.
            prop_assert!(at_target * 112 / 100 + 2 >= (*load).min(most), "{load}m on {replicas} of {request}m");
        }
    }
}
