//! The page's manifests, a VerticalPodAutoscaler beside a CPU trigger: upstream's two autoscalers fight, ours do not.

use std::time::Duration;

use flyball_engine::vertical::{ContainerPolicy, ContainerResources, Resources, VerticalPolicy};
use flyball_engine::{Activation, Bounds, Metric, MetricSource, MetricTarget, Metrics, Policy};
use flyball_sim::{Phase, Side, Tug, turns};

const HOUR: u64 = 3600;

/// 1 to 5 replicas at 50 % of 50m, between 50m and 500m, with limits of twice the requests.
fn page(loads: &[(i64, u64)]) -> Tug {
    let cpu = MetricSource::Resource { resource: "cpu".into() };
    let metric = Metric::new("cpu", cpu, MetricTarget::Utilization(50)).expect("a good metric");
    let metrics = Metrics::new(vec![metric], None).expect("good metrics");
    let mut horizontal = Policy::new(Bounds::new(1, 5, None).expect("good bounds"), metrics);
    horizontal.activation = Some(Activation::default());
    let other_containers = ContainerPolicy {
        min_allowed: Resources::new(Some(50), Some(64 << 20)),
        max_allowed: Resources::new(Some(500), Some(512 << 20)),
        ..ContainerPolicy::default()
    };
    Tug {
        horizontal,
        vertical: VerticalPolicy { other_containers, ..VerticalPolicy::default() },
        resources: ContainerResources {
            requests: Resources::new(Some(50), Some(64 << 20)),
            limits: Resources::new(Some(100), Some(128 << 20)),
        },
        memory_bytes: 60 << 20,
        startup: Duration::from_secs(60),
        phases: loads
            .iter()
            .map(|(load_millis, hours)| Phase { load_millis: *load_millis, seconds: hours * HOUR })
            .collect(),
    }
}

/// A load comes, and stays for three days. Upstream first goes out, then its VerticalPodAutoscaler, which saw the one
/// replica that took it all, makes them larger, so that they go in again; and half a day later smaller, so that they go out.
#[test]
fn upstreams_axes_fight_and_ours_do_not() {
    let tug = page(&[(100, 72), (20, 24)]);
    let [upstream, ours] = [Side::Upstream, Side::Flyball].map(|side| tug.play(side));
    let fight = &upstream.phases[0];
    assert!(fight.replica_turns > 1 && fight.size_turns > 0 && fight.evictions > 0, "{fight:?}");
    for phase in &ours.phases {
        assert_eq!((phase.replica_turns, phase.size_turns, phase.evictions), (0, 0, 0), "{phase:?}");
    }
    // 100m at 50 % are 200m, and the smallest size is 50m.
    let ends = ours.phases.iter().map(|phase| (phase.replicas, phase.request_millis));
    assert_eq!(ends.collect::<Vec<_>>(), [(1, 200), (1, 50)]);
}

#[test]
fn turns_are_counted_where_the_direction_changes() {
    for (course, expected) in
        [(vec![], 0), (vec![1, 2, 2, 3], 0), (vec![1, 4, 4, 2, 4], 2), (vec![3, 1, 1, 2], 1)]
    {
        assert_eq!(turns(course.iter().copied()), expected, "{course:?}");
    }
}
