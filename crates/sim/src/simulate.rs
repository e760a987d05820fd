//! One load, one server, one policy: what users would have seen, and what it would have cost.

use std::time::Duration;

use flyball_engine::{Bounds, Objectives};
use serde::Serialize;

use crate::cluster::{Cluster, REQUESTS_MAX, Second};
use crate::load::{Arrivals, Load};
use crate::optimum::{Optimum, needed};
use crate::profile::Profile;
use crate::scaler::{Given, Scaler, ScalerKind};

/// Points of a report's course: enough for a plot.
const COURSE_MAX: usize = 720;

/// Changes that a report lists; all are counted.
pub const CHANGES_MAX: usize = 2000;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Setup {
    /// When requests arrive.
    pub load: Load,
    /// How rates become requests.
    pub arrivals: Arrivals,
    /// The load is of single requests, so it has no true rate.
    pub is_times: bool,
    /// One replica.
    pub profile: Profile,
    /// What is promised.
    pub objectives: Objectives,
    /// The risk of the objective's policy, if not its own.
    pub risk: Option<f64>,
    /// Between how many replicas.
    pub bounds: Bounds,
    /// Replicas that serve at the start; none: as many as the load needs then.
    pub initial: Option<u32>,
    /// Of the random numbers.
    pub seed: u64,
}

/// A setup with what does not depend on the policy: computed once, for all of them.
#[derive(Clone, Debug)]
pub struct Simulation {
    setup: Setup,
    optimum: Optimum,
    bound: f64,
    allowed: f64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SimulationReport {
    /// As it was asked for.
    pub policy: String,
    /// Requests in all.
    pub requests: f64,
    /// The share over the objective's bound, those refused included (0–1).
    pub over: f64,
    /// The share that may be (0–1).
    pub allowed: f64,
    /// The objective was kept over the whole time.
    pub kept: bool,
    /// The share that was refused (0–1).
    pub refused: f64,
    /// Latencies in seconds; none where requests were never answered.
    pub latency: Quantiles,
    /// Replica-seconds, from creation on.
    pub replica_seconds: f64,
    /// On average.
    pub replicas_mean: f64,
    /// At most.
    pub replicas_max: u32,
    /// Replica-seconds over those of one who knows the future.
    pub times_optimal: f64,
    /// Changes of replicas.
    pub changes: usize,
    /// Changes of direction.
    pub turns: usize,
    /// The share of the time at the maximum (0–1).
    pub at_max: f64,
    /// The most replicas over the most that were needed.
    pub overshoot: f64,
    /// Decisions, "keep" included.
    pub decisions: u64,
    /// The first [`CHANGES_MAX`] changes.
    pub changed: Vec<Change>,
    /// A course for plots.
    pub course: Vec<Point>,
}

/// Latencies in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "named by what they are")]
pub struct Quantiles {
    pub mean: f64,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
}

/// One change of replicas.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Seconds since the start.
    pub second: u64,
    /// Before.
    pub from: u32,
    /// After.
    pub to: u32,
    /// In the policy's words; empty for one that says nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// One stretch of the course.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Its beginning, in seconds since the start.
    pub second: u64,
    /// Requests a second.
    pub rate: f64,
    /// The most replicas in it.
    pub replicas: u32,
    /// Of these, those that served at its end.
    pub ready: u32,
    /// Replicas of one who knows the future.
    pub optimum: u32,
    /// The share of requests over the bound, of those answered in it (0–1).
    pub over: f64,
}

impl Simulation {
    /// Computes the optimum.
    pub fn new(setup: Setup) -> Self {
        let (bound, allowed) = setup.objectives.latency().unwrap_or((3600.0, 0.01));
        let bounds = (setup.bounds.min().max(1), setup.bounds.max());
        let optimum = Optimum::of(&setup.load, setup.is_times, &setup.profile, bound, allowed, bounds);
        Self { setup, optimum, bound, allowed }
    }

    /// What one who knows the future would pay, in replica-seconds.
    pub fn optimum(&self) -> &Optimum {
        &self.optimum
    }

    /// Requests flow rather than being followed one by one.
    pub fn flows(&self) -> bool {
        self.setup.load.requests() > REQUESTS_MAX
    }

    /// The replicas that the mean rate needs: a first guess.
    pub fn mean_need(&self) -> u32 {
        needed(&self.setup.profile, self.setup.load.mean_rate(), self.bound, self.allowed)
    }

    /// Lives through the whole load with one policy.
    pub fn run(&self, kind: &ScalerKind) -> SimulationReport {
        let setup = &self.setup;
        let initial = match kind {
            ScalerKind::Static(replicas) => *replicas,
            _ => setup.initial.unwrap_or_else(|| self.optimum.replicas.first().copied().unwrap_or(1)),
        };
        let mut cluster =
            Cluster::new(&setup.load, setup.arrivals, &setup.profile, self.bound, initial, setup.seed);
        let given = Given {
            profile: &setup.profile,
            objectives: &setup.objectives,
            risk: setup.risk,
            bounds: setup.bounds,
        };
        let mut scaler = Scaler::new(kind, &given, &self.optimum.replicas, initial);
        let length = setup.load.length().as_secs_f64().ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a load is at most a year"
        )]
        let length = length as u64;
        let mut seconds: Vec<Second> = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let mut paid = Vec::with_capacity(seconds.capacity());
        let mut changes = Vec::new();
        let mut decisions = 0;
        for at in 1..=length {
            seconds.push(cluster.tick());
            paid.push(cluster.size());
            decisions += 1;
            if let Some(verdict) = scaler.decide(at, &seconds, &cluster)
                && verdict.to != cluster.size()
            {
                let change =
                    Change { second: at, from: cluster.size(), to: verdict.to, reason: verdict.reason };
                changes.push(change);
                cluster.scale(verdict.to);
            }
        }
        self.report(kind, cluster, &seconds, &paid, changes, decisions)
    }

    fn report(
        &self,
        kind: &ScalerKind,
        cluster: Cluster<'_>,
        seconds: &[Second],
        paid: &[u32],
        mut changed: Vec<Change>,
        decisions: u64,
    ) -> SimulationReport {
        let (latencies, over) = cluster.finish();
        let requests = latencies.count();
        let share = |part: f64| if requests > 0.0 { part / requests } else { 0.0 };
        let replica_seconds: f64 = paid.iter().map(|replicas| f64::from(*replicas)).sum();
        let (most, need) = (peak(paid), peak(&self.optimum.replicas));
        let max = self.setup.bounds.max();
        let count = paid.len().max(1) as f64;
        let changes = changed.len();
        let turns = crate::turns(paid.iter().map(|replicas| i64::from(*replicas)));
        changed.truncate(CHANGES_MAX);
        SimulationReport {
            policy: kind.name(),
            requests,
            over: share(over),
            allowed: self.allowed,
            kept: share(over) <= self.allowed,
            refused: share(seconds.iter().map(|second| second.refused).sum()),
            latency: Quantiles {
                mean: latencies.mean(),
                p50: latencies.quantile(0.5),
                p90: latencies.quantile(0.9),
                p95: latencies.quantile(0.95),
                p99: latencies.quantile(0.99),
                p999: latencies.quantile(0.999),
            },
            replica_seconds,
            replicas_mean: replica_seconds / count,
            replicas_max: most,
            times_optimal: replica_seconds / self.optimum.replica_seconds.max(1e-9),
            changes,
            turns,
            at_max: paid.iter().filter(|replicas| **replicas >= max).count() as f64 / count,
            overshoot: f64::from(most) / f64::from(need.max(1)),
            decisions,
            changed,
            course: self.course(seconds, paid),
        }
    }

    fn course(&self, seconds: &[Second], paid: &[u32]) -> Vec<Point> {
        let step = seconds.len().div_ceil(COURSE_MAX).max(1);
        let point = |(index, seconds): (usize, &[Second])| {
            let stretch = index * step..index * step + seconds.len();
            let most = |list: &[u32]| list.get(stretch.clone()).map_or(0, peak);
            let sum = |part: fn(&Second) -> f64| seconds.iter().map(part).sum::<f64>();
            Point {
                second: (index * step) as u64,
                rate: sum(|second| second.arrived) / seconds.len() as f64,
                replicas: most(paid),
                ready: seconds.last().map_or(0, |second| second.ready),
                optimum: most(&self.optimum.replicas),
                over: sum(|second| second.over) / sum(|second| second.completed).max(1.0),
            }
        };
        seconds.chunks(step).enumerate().map(point).collect()
    }
}

fn peak(replicas: &[u32]) -> u32 {
    replicas.iter().copied().max().unwrap_or(0)
}

/// How long a load in words lasts if nobody says: an hour.
pub const LENGTH_DEFAULT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(load: &str, minutes: u64) -> Setup {
        Setup {
            load: Load::parse(load, Duration::from_secs(minutes * 60)).expect("a load"),
            arrivals: Arrivals::Poisson,
            is_times: false,
            profile: Profile::default(),
            objectives: "99% < 720ms".parse().expect("an objective"),
            risk: None,
            bounds: Bounds::new(1, 200, None).expect("bounds"),
            initial: None,
            seed: 24,
        }
    }

    fn run(setup: &Setup, policy: &str) -> SimulationReport {
        Simulation::new(setup.clone()).run(&ScalerKind::parse(policy).expect("a policy"))
    }

    /// A fixed number of replicas is a queue whose answer is known: the share that waits too long of M/G/k.
    #[test]
    fn fixed_replicas_agree_with_the_theory() {
        // Replicas, and between what percentages of 130 requests a second take longer than 720 ms.
        for (replicas, least, most) in [(19, 60.0, 100.0), (21, 0.0, 4.0), (23, 0.0, 0.1), (30, 0.0, 0.001)] {
            let report = run(&setup("constant:130/s", 30), &format!("static:{replicas}"));
            let over = report.over * 100.0;
            assert!((least..=most).contains(&over), "{replicas}: {over}");
            assert!((report.requests / (130.0 * 1800.0) - 1.0).abs() < 0.01, "{}", report.requests);
            assert_eq!((report.changes, report.replicas_mean), (0, f64::from(replicas)));
        }
    }

    #[test]
    fn every_router_serves_every_request_once() {
        for router in ["central", "least-loaded", "round-robin"] {
            let profile = format!("service=100ms,cv=0.3,concurrency=2,startup=20s,router={router}");
            let profile = Profile::parse(&profile).expect("a profile");
            let report = run(&Setup { profile, ..setup("step:20/s,150/s@5m,20/s@10m", 15) }, "slo");
            assert!((report.requests / ((20.0 * 600.0) + 150.0 * 300.0) - 1.0).abs() < 0.03, "{router}");
            assert!(report.latency.mean > 0.09 && report.replicas_max < 60, "{router}: {report:?}");
        }
    }

    #[test]
    fn a_full_queue_refuses_and_refused_requests_miss() {
        for router in ["central", "least-loaded", "round-robin"] {
            let profile = format!("service=100ms,cv=0,queue=5,router={router}");
            let profile = Profile::parse(&profile).expect("a profile");
            let report = run(&Setup { profile, ..setup("constant:40/s", 10) }, "static:2");
            // Two replicas answer half of them.
            assert!((0.45..0.55).contains(&report.refused), "{router}: {}", report.refused);
            assert!(report.over >= report.refused, "{router}");
        }
    }

    #[test]
    fn a_flow_agrees_with_single_requests() {
        let flowing = Load::parse("constant:1e6/s", Duration::from_secs(1200)).expect("a load");
        let profile = Profile::parse("service=10ms,cv=1,concurrency=100,startup=10s").expect("a profile");
        let simulation = Simulation::new(Setup {
            load: flowing,
            profile,
            objectives: "99% < 50ms".parse().expect("an objective"),
            bounds: Bounds::new(1, 1000, None).expect("bounds"),
            ..setup("constant:1/s", 1)
        });
        assert!(simulation.flows());
        // A million requests a second of 10 ms keep ten thousand places busy, a hundred in each replica.
        for (policy, least, most) in [("static:90", 0.9, 1.0), ("static:110", 0.0, 0.001), ("slo", 0.0, 0.01)]
        {
            let report = simulation.run(&ScalerKind::parse(policy).expect("a policy"));
            assert!((least..=most).contains(&report.over), "{policy}: {}", report.over);
            assert!((100.0..120.0).contains(&report.replicas_mean) || policy == "static:90", "{policy}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_one_does_not() {
        let setup = setup("burst:20/s..100/s:every=5m:for=30s", 20);
        for policy in ["slo", "hpa:70%", "keda:50%", "kpa:70%"] {
            let bytes =
                |setup: &Setup| serde_json::to_string(&run(setup, policy)).expect("it can be written");
            assert_eq!(bytes(&setup), bytes(&setup), "{policy}");
            assert_ne!(bytes(&setup), bytes(&Setup { seed: 25, ..setup.clone() }), "{policy}");
        }
    }

    /// The reference emulation of a step from 20 to 200 requests a second for twenty minutes, 35 s of start-up.
    #[test]
    fn a_step_is_answered_better_than_by_its_peers() {
        let setup = setup("step:20/s,200/s@20m,20/s@40m", 60);
        let slo = run(&setup, "slo");
        assert!(slo.over <= 0.035 && slo.times_optimal <= 1.6, "{} {}", slo.over, slo.times_optimal);
        for (policy, least) in [("hpa:70%", 0.25), ("keda:70%", 0.12), ("hpa:50%", 0.12), ("keda:50%", 0.07)]
        {
            let peer = run(&setup, policy);
            assert!(peer.over >= least && peer.over > slo.over, "{policy}: {}", peer.over);
            assert!(peer.times_optimal > slo.times_optimal, "{policy}: {}", peer.times_optimal);
        }
        let clairvoyant = run(&setup, "clairvoyant");
        assert!(
            (clairvoyant.times_optimal - 1.0).abs() < 0.01 && clairvoyant.over < 0.002,
            "{clairvoyant:?}"
        );
    }

    /// A model server that starts for five minutes, and twice the load: what is ordered is counted, so the need is
    /// ordered once. Beyond it are the bound of a rate that was never seen before, and replicas for the thousand requests
    /// that wait by then.
    #[test]
    fn long_starts_make_no_overshoot() {
        let profile = Profile::parse("service=690ms,cv=0.3,startup=300s").expect("a profile");
        let objectives = "99% < 3s".parse().expect("an objective");
        let setup = Setup { profile, objectives, ..setup("step:5/s,12/s@30m", 120) };
        let slo = run(&setup, "slo");
        let need = Simulation::new(setup.clone()).optimum().replicas.iter().copied().max().unwrap_or(0);
        assert!(f64::from(slo.replicas_max) <= 1.6 * f64::from(need), "{} of {need}", slo.replicas_max);
        assert!(run(&setup, "kpa:70%").replicas_max > 2 * need);
    }
}
