//! How long a decision takes: three metrics, one of them cpu, over 10 and 1,000 pods; and 10,000 targets at once.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use flyball_engine::{
    Bounds, ContainerRequests, Engine, Metric, MetricSource, MetricTarget, Metrics, Milli, Observation,
    Phase, Pod, PodRequests, PodValue, Policy, Readiness, Reading, Scale, Selector, TargetId, Time,
};

const START: Time = Time::from_seconds(1_800_000_000);
/// Long before, so that cpu is measured from the first evaluation on.
const SERVING_SINCE: Time = Time::from_seconds(1_799_990_000);

fn policy() -> Policy {
    let external = |name: &str, target| {
        Metric::new(name, MetricSource::External { metric: name.into(), selector: None }, target)
            .expect("a good metric")
    };
    let cpu = MetricSource::Resource { resource: "cpu".into() };
    let metrics = vec![
        external("request_rate", MetricTarget::AverageValue(Milli::new(20_000))),
        external("latency_p95", MetricTarget::Value(Milli::new(100))),
        Metric::new("cpu", cpu, MetricTarget::Utilization(50)).expect("a good metric"),
    ];
    let metrics = Metrics::new(metrics, None).expect("good metrics");
    Policy::new(Bounds::new(1, 2000, None).expect("good bounds"), metrics)
}

fn pod(index: u32) -> Pod {
    let requests = [("cpu".into(), Milli::new(500))].into_iter().collect();
    Pod {
        name: format!("model-7d9f8b6c5d-{index:05}").into(),
        phase: Phase::Running,
        deleting: false,
        started: Some(SERVING_SINCE),
        ready: Some(Readiness { ready: true, since: SERVING_SINCE }),
        requests: PodRequests {
            containers: vec![ContainerRequests { name: "model".into(), requests }],
            ..Default::default()
        },
    }
}

fn readings(target: &TargetId, pods: u32, now: Time) -> [Observation; 3] {
    let metric = |metric: &str, reading| Observation::Metric {
        target: target.clone(),
        metric: metric.into(),
        reading,
    };
    let values = (0..pods).map(|index| PodValue {
        pod: pod(index).name,
        value: Milli::new(200 + i64::from(index % 100)),
        at: now,
        window: Duration::from_secs(15),
        starting: false,
    });
    [
        metric("request_rate", Reading::Value { value: f64::from(pods) * 21.0, at: now }),
        metric("latency_p95", Reading::Value { value: 0.094, at: now }),
        metric("cpu", Reading::PerPod { values: values.collect(), at: now }),
    ]
}

fn add_target(engine: &mut Engine, target: &TargetId, pods: u32) {
    engine.observe(START, Observation::Policy { target: target.clone(), policy: Box::new(policy()) });
    let scale = Scale { spec_replicas: pods, status_replicas: pods, selector: Selector::Valid };
    engine.observe(START, Observation::Scale { target: target.clone(), scale });
    engine.observe(START, Observation::Pods { target: target.clone(), pods: (0..pods).map(pod).collect() });
    for reading in readings(target, pods, START) {
        engine.observe(START, reading);
    }
}

fn target(index: u32) -> TargetId {
    TargetId::new("Deployment", "default", format!("model-{index}"))
}

fn evaluate(criterion: &mut Criterion) {
    for pods in [10, 1000] {
        let mut engine = Engine::new();
        add_target(&mut engine, &target(0), pods);
        let mut now = START;
        criterion.bench_function(&format!("evaluate/3 metrics, {pods} pods"), |bencher| {
            bencher.iter(|| {
                now = now + Duration::from_secs(1);
                black_box(engine.evaluate(now))
            });
        });
        criterion.bench_function(&format!("observe/pods and 3 metrics, {pods} pods"), |bencher| {
            let list: Vec<Pod> = (0..pods).map(pod).collect();
            let facts = || {
                (Observation::Pods { target: target(0), pods: list.clone() }, readings(&target(0), pods, now))
            };
            bencher.iter_batched(
                facts,
                |(pods, readings)| {
                    engine.observe(now, pods);
                    for reading in readings {
                        engine.observe(now, reading);
                    }
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
    let mut engine = Engine::new();
    for index in 0..10_000 {
        add_target(&mut engine, &target(index), 10);
    }
    let mut now = START;
    criterion.bench_function("evaluate/10,000 targets of 10 pods", |bencher| {
        bencher.iter(|| {
            now = now + Duration::from_secs(1);
            black_box(engine.evaluate(now))
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = evaluate
}
criterion_main!(benches);
