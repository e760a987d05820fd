//! What is next for a Job, from its spec and what its pods have come to: a pure function of both and the time.
//!
//! Follows `pkg/controller/job`. Without `completions` one success ends the Job and no more pods are made. Failed pods are
//! replaced after 10 s, doubled up to 10 min, until more than `backoffLimit` have failed; where containers are restarted in
//! their pods (`OnFailure`), their restarts count instead. An `Indexed` Job needs each index to succeed once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::Pod;

use super::failure_policy::{Action, action};
use super::indexes;
use crate::controllers::pods::{is_ready, phase};

/// Kubernetes' `DefaultJobPodFailureBackOff` and `MaxJobPodFailureBackOff`.
const BACK_OFF_FIRST: Duration = Duration::from_secs(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(600);

/// The pods of a Job, counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) active: i32,
    pub(super) ready: i32,
    /// On their way out.
    pub(super) terminating: i32,
    /// Of an `Indexed` Job: its indexes.
    pub(super) succeeded: i32,
    /// Those that a policy ignores are not among them.
    pub(super) failed: i32,
    pub(super) last_failure: Option<Timestamp>,
    /// Of containers in pods that run.
    pub(super) restarts: i32,
    pub(super) active_indexes: BTreeSet<i32>,
    pub(super) succeeded_indexes: BTreeSet<i32>,
    /// Indexes that are given up.
    pub(super) failed_indexes: BTreeSet<i32>,
    /// What a pod failure policy says.
    pub(super) fail_job: Option<String>,
}

/// What to do with a Job.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// As many pods, each with its index if the Job has indexes.
    Create(Vec<Option<i32>>),
    Delete(i32),
    Wait(Option<Duration>),
    Complete(&'static str, &'static str),
    Fail(&'static str, String),
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

pub(super) fn count(spec: &JobSpec, pods: &[Arc<Pod>]) -> Counts {
    let mut counts = Counts::default();
    let mut failures: BTreeMap<i32, i32> = BTreeMap::new();
    for pod in pods {
        let index = indexes::of(pod).filter(|_| is_indexed(spec));
        match phase(pod) {
            "Succeeded" => {
                counts.succeeded += 1;
                counts.succeeded_indexes.extend(index);
            }
            "Failed" => {
                let action = action(spec, pod);
                if action != Action::Ignore {
                    counts.failed += 1;
                    counts.last_failure = counts.last_failure.max(ended_at(pod));
                    *failures.entry(index.unwrap_or(-1)).or_default() += 1;
                }
                match action {
                    Action::FailIndex => counts.failed_indexes.extend(index),
                    Action::FailJob(why) => counts.fail_job = counts.fail_job.or(Some(why)),
                    Action::Count | Action::Ignore => {}
                }
            }
            _ if pod.metadata.deletion_timestamp.is_some() => counts.terminating += 1,
            _ => {
                counts.active += 1;
                counts.ready += i32::from(is_ready(pod));
                counts.restarts += restarts(pod);
                counts.active_indexes.extend(index);
            }
        }
    }
    if is_indexed(spec) {
        counts.succeeded = counts.succeeded_indexes.len() as i32;
    }
    if let Some(limit) = spec.backoff_limit_per_index {
        let given_up = failures.into_iter().filter(|(index, count)| *index >= 0 && *count > limit);
        counts.failed_indexes.extend(given_up.map(|(index, _)| index));
    }
    let succeeded = counts.succeeded_indexes.clone();
    counts.failed_indexes.retain(|index| !succeeded.contains(index));
    counts
}

fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().filter_map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).max()
}

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.iter();
    let all = status.flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten());
    all.map(|c| c.restart_count).sum()
}

pub(super) fn judge(spec: &JobSpec, counts: &Counts, started: Timestamp, now: Timestamp) -> Verdict {
    if let Some(end) = success(spec, counts).or_else(|| failure(spec, counts)) {
        return end;
    }
    let deadline = deadline(spec, started);
    if deadline.is_some_and(|at| at <= now) && spec.suspend != Some(true) {
        return Verdict::Fail("DeadlineExceeded", "Job was active longer than specified deadline".to_owned());
    }
    if spec.suspend == Some(true) {
        return if counts.active > 0 { Verdict::Delete(counts.active) } else { Verdict::Wait(None) };
    }
    let wanted = wanted(spec, counts);
    if counts.active > wanted {
        return Verdict::Delete(counts.active - wanted);
    }
    let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).ok();
    let deadline = deadline.and_then(until);
    let leaving = if waits_for_the_end(spec) { counts.terminating } else { 0 };
    let missing = wanted - counts.active - leaving;
    if missing <= 0 {
        return Verdict::Wait(deadline);
    }
    match back_off_ends(counts, now).and_then(until) {
        Some(wait) => Verdict::Wait(Some(deadline.map_or(wait, |d| d.min(wait)))),
        None => Verdict::Create(next_indexes(spec, counts, missing)),
    }
}

/// When an active Job has to be looked at for its deadline.
pub(super) fn deadline(spec: &JobSpec, started: Timestamp) -> Option<Timestamp> {
    spec.active_deadline_seconds.and_then(|s| started.checked_add(SignedDuration::from_secs(s)).ok())
}

fn success(spec: &JobSpec, counts: &Counts) -> Option<Verdict> {
    let completions = spec.completions.unwrap_or(0);
    let rules = spec.success_policy.iter().flat_map(|policy| &policy.rules);
    let is_met = rules.into_iter().any(|rule| {
        let wanted = rule.succeeded_indexes.as_ref().map(|text| indexes::parse(text, completions));
        let among = match &wanted {
            Some(wanted) => counts.succeeded_indexes.intersection(wanted).count(),
            None => counts.succeeded_indexes.len(),
        };
        let needed =
            rule.succeeded_count.map_or(wanted.map_or(usize::MAX, |w| w.len()), |n| n.max(0) as usize);
        among >= needed
    });
    if is_met {
        return Some(Verdict::Complete("SuccessPolicy", "Matched rules at index 0"));
    }
    let is_complete = match spec.completions {
        Some(completions) => counts.succeeded >= completions,
        // a work queue: the first success says that there is nothing left to begin
        None => counts.succeeded > 0 && counts.active == 0 && counts.terminating == 0,
    };
    is_complete
        .then_some(Verdict::Complete("CompletionsReached", "Reached expected number of succeeded pods"))
}

fn failure(spec: &JobSpec, counts: &Counts) -> Option<Verdict> {
    if let Some(why) = &counts.fail_job {
        return Some(Verdict::Fail("PodFailurePolicy", why.clone()));
    }
    let given_up = counts.failed_indexes.len() as i32;
    if spec.max_failed_indexes.is_some_and(|max| given_up > max) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Verdict::Fail("MaxFailedIndexesExceeded", message.to_owned()));
    }
    if given_up > 0 && spec.completions.is_some_and(|all| counts.succeeded + given_up >= all) {
        return Some(Verdict::Fail("FailedIndexes", "Job has failed indexes".to_owned()));
    }
    // with a limit for each index there is none for all, unless it is set
    let default = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
    let limit = spec.backoff_limit.unwrap_or(default);
    let in_place = spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("OnFailure");
    let restarted = in_place && counts.restarts > 0 && counts.restarts >= limit;
    (counts.failed > limit || restarted).then(|| {
        let message = "Job has reached the specified backoff limit";
        Verdict::Fail("BackoffLimitExceeded", message.to_owned())
    })
}

/// How many pods are to be active now.
fn wanted(spec: &JobSpec, counts: &Counts) -> i32 {
    let parallelism = spec.parallelism.unwrap_or(1);
    match spec.completions {
        Some(completions) => {
            let left = completions - counts.succeeded - counts.failed_indexes.len() as i32;
            parallelism.min(left.max(0))
        }
        None if counts.succeeded > 0 => counts.active,
        None => parallelism,
    }
}

/// Whether a pod that is going is replaced only when it has ended.
fn waits_for_the_end(spec: &JobSpec) -> bool {
    match spec.pod_replacement_policy.as_deref() {
        Some(policy) => policy == "Failed",
        None => spec.pod_failure_policy.is_some(),
    }
}

fn back_off_ends(counts: &Counts, now: Timestamp) -> Option<Timestamp> {
    let pause = BACK_OFF_FIRST.saturating_mul(1 << (counts.failed - 1).clamp(0, 16)).min(BACK_OFF_MAX);
    let pause = SignedDuration::try_from(pause).unwrap_or_default();
    counts.last_failure.and_then(|at| at.checked_add(pause).ok()).filter(|at| *at > now)
}

fn next_indexes(spec: &JobSpec, counts: &Counts, missing: i32) -> Vec<Option<i32>> {
    let missing = missing as usize;
    if !is_indexed(spec) {
        return vec![None; missing];
    }
    let taken = |index: &i32| {
        counts.active_indexes.contains(index)
            || counts.succeeded_indexes.contains(index)
            || counts.failed_indexes.contains(index)
    };
    (0..spec.completions.unwrap_or(0)).filter(|index| !taken(index)).take(missing).map(Some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(spec: &Value) -> JobSpec {
        let mut whole = json!({"template": {}});
        json_patch::merge(&mut whole, spec);
        serde_json::from_value(whole).unwrap()
    }

    fn verdict(job: &Value, counts: &Counts) -> Verdict {
        let (started, now) = (Timestamp::from_second(900).unwrap(), Timestamp::from_second(1000).unwrap());
        judge(&spec(job), counts, started, now)
    }

    fn check(job: Value, active: i32, succeeded: i32, failed: i32, expected: Verdict) {
        let last_failure = (failed > 0).then(|| Timestamp::from_second(995).unwrap());
        let counts = Counts { active, succeeded, failed, last_failure, ..Counts::default() };
        assert_eq!(verdict(&job, &counts), expected, "{job} {counts:?}");
    }

    fn create(count: usize) -> Verdict {
        Verdict::Create(vec![None; count])
    }

    fn complete() -> Verdict {
        Verdict::Complete("CompletionsReached", "Reached expected number of succeeded pods")
    }

    #[test]
    fn jobs_are_judged_by_their_counts() {
        let one = json!({"completions": 1, "parallelism": 1});
        check(one.clone(), 0, 0, 0, create(1));
        check(one.clone(), 1, 0, 0, Verdict::Wait(None));
        check(one.clone(), 0, 1, 0, complete());
        check(one.clone(), 0, 0, 1, Verdict::Wait(Some(Duration::from_secs(5))));
        check(one, 0, 0, 2, Verdict::Wait(Some(Duration::from_secs(15))));
        let many = json!({"completions": 5, "parallelism": 3});
        check(many.clone(), 0, 0, 0, create(3));
        check(many.clone(), 2, 3, 0, Verdict::Wait(None));
        check(many, 3, 4, 0, Verdict::Delete(2));
        let queue = json!({"parallelism": 2});
        check(queue.clone(), 1, 0, 0, create(1));
        check(queue.clone(), 1, 1, 0, Verdict::Wait(None));
        check(queue, 0, 2, 0, complete());
        let late = json!({"completions": 1, "activeDeadlineSeconds": 100});
        let text = "Job was active longer than specified deadline".to_owned();
        check(late, 1, 0, 0, Verdict::Fail("DeadlineExceeded", text));
        let early = json!({"completions": 1, "activeDeadlineSeconds": 130});
        check(early, 1, 0, 0, Verdict::Wait(Some(Duration::from_secs(30))));
        let text = "Job has reached the specified backoff limit".to_owned();
        check(json!({"backoffLimit": 1}), 0, 0, 2, Verdict::Fail("BackoffLimitExceeded", text));
        check(json!({"suspend": true}), 2, 0, 0, Verdict::Delete(2));
        check(json!({"suspend": true, "activeDeadlineSeconds": 1}), 0, 0, 0, Verdict::Wait(None));
    }

    #[test]
    fn restarts_in_place_count_towards_the_limit() {
        let check = |limit: i32, restarts: i32, fails: bool| {
            let job = json!({"backoffLimit": limit, "template": {"spec": {"restartPolicy": "OnFailure", "containers": []}}});
            let counts = Counts { active: 1, restarts, ..Counts::default() };
            assert_eq!(
                matches!(verdict(&job, &counts), Verdict::Fail("BackoffLimitExceeded", _)),
                fails,
                "{limit} {restarts}"
            );
        };
        check(1, 0, false);
        check(1, 1, true);
        check(0, 1, true);
        check(3, 2, false);
    }

    #[test]
    fn each_index_has_to_succeed_once() {
        let check = |more: Value, active: &[i32], succeeded: &[i32], failed: &[i32], expected: Verdict| {
            let mut job = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 2});
            json_patch::merge(&mut job, &more);
            let counts = Counts {
                active: active.len() as i32,
                succeeded: succeeded.len() as i32,
                active_indexes: active.iter().copied().collect(),
                succeeded_indexes: succeeded.iter().copied().collect(),
                failed_indexes: failed.iter().copied().collect(),
                ..Counts::default()
            };
            assert_eq!(verdict(&job, &counts), expected, "{job} {counts:?}");
        };
        let create = |indexes: &[i32]| Verdict::Create(indexes.iter().copied().map(Some).collect());
        check(json!({}), &[], &[], &[], create(&[0, 1]));
        check(json!({}), &[1], &[0], &[], create(&[2]));
        check(json!({}), &[], &[0, 1, 2, 3], &[], complete());
        let per_index = json!({"backoffLimitPerIndex": 1});
        check(per_index.clone(), &[], &[0], &[1], create(&[2, 3]));
        let text = "Job has failed indexes".to_owned();
        check(per_index, &[], &[0, 2, 3], &[1], Verdict::Fail("FailedIndexes", text));
        let text = "Job has exceeded the specified maximal number of failed indexes".to_owned();
        check(
            json!({"maxFailedIndexes": 1}),
            &[],
            &[],
            &[0, 1],
            Verdict::Fail("MaxFailedIndexesExceeded", text),
        );
        let policy = json!({"successPolicy": {"rules": [{"succeededIndexes": "0-1"}]}});
        let met = Verdict::Complete("SuccessPolicy", "Matched rules at index 0");
        check(policy.clone(), &[3], &[0, 1], &[], met);
        check(policy, &[1, 3], &[0, 2], &[], Verdict::Wait(None));
    }
}
