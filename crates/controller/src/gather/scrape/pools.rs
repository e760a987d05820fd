//! What discovery made of each pool: its targets, its rules, and what they dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flyball_metrics::relabel::Rule;

use parking_lot::Mutex;

use super::target::{Job, LabelMap, ScrapeTarget};

/// The most dropped targets that are remembered; Prometheus keeps all, unless `keep_dropped_targets` says otherwise.
const DROPPED_MAX: usize = 1_000;

/// What discovery found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Discovered {
    /// What is scraped, in a stable order.
    pub(crate) targets: Vec<ScrapeTarget>,
    /// The pools, those without a target included.
    pub(crate) pools: Pools,
    /// Pools that are left out, or targets of them, and why.
    pub(crate) problems: BTreeSet<(String, String)>,
}

/// What is known of the pools beside their targets; replaced as a whole.
pub(crate) type SharedPools = Arc<Mutex<Arc<Pools>>>;

/// What is known of the pools beside their targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pools {
    /// The rules that make targets of discovered labels, by pool.
    pub(crate) relabelings: BTreeMap<String, Arc<[Rule]>>,
    /// What the rules dropped, as far as it is remembered: the pool and the discovered labels.
    pub(crate) dropped: Vec<(String, LabelMap)>,
    /// How many targets the rules dropped, by pool.
    pub(crate) dropped_counts: BTreeMap<String, usize>,
}

impl Discovered {
    pub(super) fn refuse(&mut self, pool: &str, problem: String) {
        self.problems.insert((pool.to_owned(), problem));
    }

    /// Adds what a job makes of its places.
    pub(super) fn add(&mut self, pool: &str, job: Result<Job<'_>, String>, places: Vec<LabelMap>) {
        let job = match job {
            Ok(job) => job,
            Err(problem) => return self.refuse(pool, problem),
        };
        self.pools.add(pool, &job);
        let before = self.targets.len();
        for labels in places {
            match job.target(labels.clone()) {
                Ok(Some(target)) => self.targets.push(target),
                Ok(None) => self.pools.drop_target(pool, labels, job.keep_dropped_max()),
                Err(problem) => self.refuse(pool, problem),
            }
        }
        let added = self.targets.len() - before;
        if let Some(limit) = job.targets_max().filter(|limit| added > *limit) {
            let why = format!("target_limit exceeded (number of targets: {added}, limit: {limit})");
            self.targets[before..].iter_mut().for_each(|target| target.refused = Some(why.clone()));
        }
    }
}

impl Pools {
    pub(super) fn add(&mut self, pool: &str, job: &Job<'_>) {
        self.relabelings.insert(pool.to_owned(), job.relabelings());
        self.dropped_counts.entry(pool.to_owned()).or_default();
    }

    fn drop_target(&mut self, pool: &str, labels: LabelMap, kept_max: Option<usize>) {
        let count = self.dropped_counts.entry(pool.to_owned()).or_default();
        *count += 1;
        if self.dropped.len() < DROPPED_MAX && kept_max.is_none_or(|max| *count <= max) {
            self.dropped.push((pool.to_owned(), labels));
        }
    }
}
