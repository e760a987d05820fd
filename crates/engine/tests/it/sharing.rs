//! A pool that is too small for all.

use flyball_engine::{Engine, Observation, Policy, Reading, Scale, Selector, Share, TargetId};

use crate::play::{START, autoscaler, external};

/// Name, priority, current replicas, wanted replicas.
type Claim = (&'static str, i32, u32, u32);

/// These targets in a pool of this capacity, and what each gets.
fn share(capacity: u32, targets: &[Claim]) -> Vec<(String, u32)> {
    let mut engine = Engine::new();
    engine.observe(START, Observation::Capacity { pool: "gpu".into(), replicas: capacity });
    for (name, priority, current, wanted) in targets {
        let target = TargetId::new("Deployment", "default", *name);
        let share = Some(Share { pool: "gpu".into(), priority: *priority });
        let policy = Policy { share, ..autoscaler(0, 100, vec![external("need", 1)]) };
        engine.observe(START, Observation::Policy { target: target.clone(), policy: Box::new(policy) });
        let scale = Scale { spec_replicas: *current, status_replicas: *current, selector: Selector::Valid };
        engine.observe(START, Observation::Scale { target: target.clone(), scale });
        let reading = Reading::Value { value: f64::from(*wanted), at: START };
        engine.observe(START, Observation::Metric { target, metric: "need".into(), reading });
    }
    engine.evaluate(START).into_iter().map(|d| (d.target.name.to_string(), d.desired)).collect()
}

#[test]
fn room_goes_by_priority_and_then_in_proportion() {
    let table: [(u32, &[Claim], &[u32]); 6] = [
        (20, &[("a", 0, 4, 6), ("b", 0, 4, 8)], &[6, 8]), // enough for all
        (11, &[("a", 0, 4, 6), ("b", 0, 4, 8)], &[5, 6]), // 3 of 6 more: half for each
        (10, &[("a", 0, 4, 6), ("b", 0, 4, 8)], &[5, 5]), // 2 of 6: 0.67 and 1.33
        (11, &[("a", 0, 4, 6), ("b", 9, 4, 8)], &[4, 7]), // b first
        (5, &[("a", 0, 4, 6), ("b", 0, 4, 8)], &[4, 4]),  // what runs keeps running
        (9, &[("a", 0, 4, 8), ("b", 0, 4, 8), ("c", 0, 0, 0)], &[5, 4, 0]), // equal: by name
    ];
    for (capacity, targets, expected) in table {
        let granted: Vec<u32> = share(capacity, targets).into_iter().map(|(_, replicas)| replicas).collect();
        assert_eq!(granted, expected, "{capacity} for {targets:?}");
    }
}
