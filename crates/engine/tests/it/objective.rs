//! An objective: what it asks for, and what no measurement may make it do.

use std::time::Duration;

use flyball_engine::{
    Activation, Bounds, CpuUse, Decision, Demand, Engine, Latency, Observation, Phase, Pod, PodRequests,
    Policy, Readiness, Scale, Selector, Slo, Time,
};
use proptest::prelude::*;

use crate::play::{at, target};

/// A target whose replicas take 100 ms for a request on a core each, and 20 s to start.
struct Served {
    engine: Engine,
    second: u64,
    /// When each replica serves.
    ready_at: Vec<u64>,
    max: u32,
}

impl Served {
    fn new(min: u32, max: u32, replicas: u32) -> Self {
        let bounds = Bounds::new(min, max, None).expect("good bounds");
        let policy = Policy::for_objective(bounds, Slo::new("p95 < 300ms".parse().expect("an objective")));
        Self::with(policy, replicas)
    }

    fn with(policy: Policy, replicas: u32) -> Self {
        let (mut engine, max) = (Engine::new(), policy.bounds.max());
        engine.observe(at(0), Observation::Policy { target: target(), policy: Box::new(policy) });
        Self { engine, second: 0, ready_at: vec![0; replicas as usize], max }
    }

    fn size(&self) -> u32 {
        u32::try_from(self.ready_at.len()).expect("few replicas")
    }

    /// What is measured at such a rate, without any queue.
    fn measured(&self, rate: f64) -> Demand {
        let latency = (rate > 0.0).then_some(Latency::Over { share: 0.0, count: rate, mean: Some(0.1) });
        Demand {
            at: at(self.second),
            window: Duration::from_secs(1),
            rate,
            in_flight: Some(rate * 0.1),
            latency,
            errors: None,
            cpu: Some(CpuUse { used: rate * 0.1, per_replica: 1.0 }),
        }
    }

    /// A second passes with this measurement; the decision is carried out.
    fn tick(&mut self, demand: Option<Result<Demand, String>>) -> Decision {
        self.second += 1;
        let now = at(self.second);
        let scale =
            Scale { spec_replicas: self.size(), status_replicas: self.size(), selector: Selector::Valid };
        self.engine.observe(now, Observation::Scale { target: target(), scale });
        let pods =
            self.ready_at.iter().enumerate().map(|(index, since)| pod(index, *since, self.second)).collect();
        self.engine.observe(now, Observation::Pods { target: target(), pods });
        if let Some(demand) = demand {
            self.engine.observe(now, Observation::Demand { target: target(), demand: demand.map(Box::new) });
        }
        let decision = self.engine.evaluate(now).pop().expect("it is due every second");
        if decision.rescales() {
            let (from, to) = (decision.current, decision.desired);
            self.engine.observe(now, Observation::Rescaled { target: target(), from, to, error: None });
            self.ready_at.resize(to as usize, self.second + 20);
        }
        decision
    }

    fn run(&mut self, seconds: u64, rate: f64) -> Decision {
        let mut last = None;
        for _ in 0..seconds {
            self.second += 1;
            let demand = self.measured(rate);
            self.second -= 1;
            last = Some(self.tick(Some(Ok(demand))));
        }
        last.expect("at least a second")
    }
}

fn pod(index: usize, since: u64, now: u64) -> Pod {
    Pod {
        name: format!("model-{index:05}").into(),
        phase: Phase::Running,
        deleting: false,
        started: Some(at(since.saturating_sub(20))),
        ready: Some(Readiness { ready: since <= now, since: at(since) }),
        requests: PodRequests::default(),
    }
}

#[test]
fn replicas_follow_the_rate_between_the_bounds() {
    // Requests a second, and between how many replicas of ten a second each.
    for (rate, fewest, most) in [(5.0, 1, 2), (50.0, 6, 8), (200.0, 21, 26), (1000.0, 50, 50)] {
        let mut served = Served::new(1, 50, 5);
        let decision = served.run(900, rate);
        assert!((fewest..=most).contains(&decision.desired), "{rate}: {decision}");
        let stages = decision.steps.windows(2).all(|pair| pair[0].to == pair[1].from);
        assert!(stages, "{decision}");
    }
}

#[test]
fn each_step_says_why() {
    let mut served = Served::new(1, 50, 10);
    served.run(600, 80.0);
    let decision = served.run(2, 300.0);
    let said: Vec<&str> = decision.steps.iter().map(|step| step.reason.code()).collect();
    assert_eq!(said.first(), Some(&"ObjectiveDemand"), "{decision}");
    let text = decision.to_string();
    assert!(text.contains("requests/s arrive, and a replica carries"), "{text}");
    assert!(text.contains("p95 < 300ms"), "{text}");
}

#[test]
fn nothing_is_taken_away_without_a_measurement_nor_before_it_could_be_got_back() {
    let mut served = Served::new(1, 100, 30);
    served.run(600, 200.0);
    let before = served.size();
    // The measurements end: the last one counts for a while, and nothing goes.
    for _ in 0..600 {
        let decision = served.tick(None);
        assert!(decision.desired >= before, "{decision}");
    }
    let decision = served.tick(Some(Err("the source is gone".to_owned())));
    assert_eq!((decision.desired, decision.steps[0].reason.code()), (before, "FailedGetExternalMetric"));
    // With less load they go, and not within the start-up time.
    served.run(20, 200.0);
    let held = served.run(15, 50.0);
    assert!(held.desired >= 20, "{held}");
    assert!(served.run(600, 50.0).desired <= 9);
}

#[test]
fn replicas_that_start_are_ordered_once() {
    let mut served = Served::new(1, 1000, 10);
    served.run(600, 80.0);
    let mut most = 0;
    for _ in 0..120 {
        most = most.max(served.run(1, 400.0).desired);
    }
    // 400 a second need 42 or so; what waits is not measured here, so there is no more to order.
    assert!((42..=56).contains(&most), "{most}");
}

#[test]
fn a_target_goes_to_zero_and_comes_back() {
    let mut policy = Policy::for_objective(
        Bounds::new(0, 50, None).expect("good bounds"),
        Slo::new("p95 < 300ms".parse().expect("an objective")),
    );
    policy.activation =
        Some(Activation { created: at(0), cooldown: Duration::from_secs(30), ..Activation::default() });
    let mut served = Served::with(policy, 5);
    served.run(300, 40.0);
    assert_eq!(served.run(120, 0.0).desired, 0);
    assert!(served.run(1, 40.0).desired >= 1);
}

#[test]
fn what_is_remembered_is_bounded_and_can_be_given_back() {
    let mut served = Served::new(1, 50, 5);
    served.run(7200, 100.0);
    let memory = served.engine.memory(&target()).expect("it is known").clone();
    let json = serde_json::to_string(&memory).expect("it can be written");
    assert!(json.len() < 200_000, "{} bytes", json.len());
    assert_eq!(serde_json::from_str::<flyball_engine::Memory>(&json).expect("and read"), memory);
    let before = served.run(1, 100.0);
    let mut again = Served::new(1, 50, before.desired);
    again.second = served.second;
    again
        .engine
        .observe(at(served.second), Observation::Memory { target: target(), memory: Box::new(memory) });
    assert_eq!(again.run(1, 100.0).desired, before.desired);
}

#[test]
fn the_same_facts_give_the_same_bytes() {
    let course = || {
        let mut served = Served::new(1, 50, 5);
        let decisions: Vec<Decision> =
            (0..600_u32).map(|second| served.run(1, 100.0 + f64::from(second * 37 % 61))).collect();
        serde_json::to_string(&decisions).expect("they can be written")
    };
    assert_eq!(course(), course());
}

/// A measurement that means nothing good.
fn wild() -> impl Strategy<Value = (f64, f64, f64, u64)> {
    let number = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-1.0),
        Just(0.0),
        Just(1e300),
        Just(f64::MIN_POSITIVE),
        0.0..1e6,
    ];
    let clock = prop_oneof![Just(0_u64), Just(1), Just(86_400), Just(4_000_000_000), 0..100_000_u64];
    (number.clone(), number.clone(), number, clock)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is measured: never outside the bounds, never in by what is no measurement, one bounded step at most.
    #[test]
    fn no_measurement_makes_it_leave_its_bounds(list in prop::collection::vec(wild(), 1..80), min in 0..4_u32) {
        let mut served = Served::new(min, 40, 5);
        served.run(60, 40.0);
        for (rate, in_flight, cpu, clock) in list {
            let before = served.size();
            let mut demand = served.measured(40.0);
            demand.rate = rate;
            demand.in_flight = Some(in_flight);
            demand.cpu = Some(CpuUse { used: cpu, per_replica: 1.0 });
            demand.at = Time::from_seconds(clock);
            let is_measurement = rate >= 0.0 && rate.is_finite() && in_flight >= 0.0 && in_flight.is_finite()
                && cpu >= 0.0 && cpu.is_finite();
            let decision = served.tick(Some(Ok(demand)));
            prop_assert!((min..=served.max).contains(&decision.desired), "{}", decision);
            prop_assert!(is_measurement || decision.desired >= before, "{}", decision);
        }
    }

    /// One wild measurement among good ones moves the replicas by one bounded step, and they come back.
    #[test]
    fn one_wild_measurement_is_one_bounded_step((rate, in_flight, cpu, _) in wild()) {
        let mut served = Served::new(1, 1000, 10);
        served.run(300, 80.0);
        let before = served.size();
        let mut demand = served.measured(80.0);
        demand.at = at(served.second + 1);
        (demand.rate, demand.in_flight) = (rate, Some(in_flight));
        demand.cpu = Some(CpuUse { used: cpu, per_replica: 1.0 });
        let decision = served.tick(Some(Ok(demand)));
        prop_assert!(decision.desired <= before * 10, "{}", decision);
        let next = served.run(1, 80.0);
        prop_assert!(next.desired <= decision.desired.max(before + 2), "{}", next);
        let later = served.run(400, 80.0);
        prop_assert!(later.desired.abs_diff(before) <= 2, "{} of {}", later, before);
    }
}
