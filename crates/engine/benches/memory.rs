//! How much memory a target takes besides its pods: three metrics, a quarter of an hour of evaluations at changing load.

#![allow(missing_docs, reason = "a program")]
#![allow(unsafe_code, reason = "a global allocator that counts is unsafe to declare")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flyball_engine::{
    Bounds, Engine, Metric, MetricSource, MetricTarget, Metrics, Milli, Observation, Policy, Reading, Scale,
    Selector, TargetId, Time,
};

/// Bytes that are allocated now.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const TARGETS: u32 = 1000;
const START: Time = Time::from_seconds(1_800_000_000);

fn policy() -> Policy {
    let metrics = ["request_rate", "latency_p95", "queue_length"].map(|name| {
        let source = MetricSource::External { metric: name.into(), selector: None };
        let wanted = MetricTarget::AverageValue(Milli::new(20_000));
        Metric::new(name, source, wanted).expect("a good metric")
    });
    let metrics = Metrics::new(metrics.to_vec(), None).expect("good metrics");
    Policy::new(Bounds::new(1, 2000, None).expect("good bounds"), metrics)
}

fn main() {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let mut engine = Engine::new();
    let targets: Vec<TargetId> =
        (0..TARGETS).map(|index| TargetId::new("Deployment", "default", format!("model-{index}"))).collect();
    let names = ALLOCATED.load(Ordering::Relaxed) - before;
    for target in &targets {
        let policy = Box::new(policy());
        engine.observe(START, Observation::Policy { target: target.clone(), policy });
    }
    // Falling and rising load every second keeps the most recommendations.
    for second in 0..900_u32 {
        let now = START + Duration::from_secs(second.into());
        for target in &targets {
            let scale = Scale { spec_replicas: 50, status_replicas: 50, selector: Selector::Valid };
            engine.observe(now, Observation::Scale { target: target.clone(), scale });
            let value = 1000.0 - f64::from(second % 300) * 3.0;
            for metric in ["request_rate", "latency_p95", "queue_length"] {
                let (metric, reading) = (metric.into(), Reading::Value { value, at: now });
                engine.observe(now, Observation::Metric { target: target.clone(), metric, reading });
            }
        }
        drop(engine.evaluate(now));
    }
    let bytes = ALLOCATED.load(Ordering::Relaxed) - before - names;
    println!("memory: {} bytes a target besides its pods", bytes / TARGETS as usize);
}
