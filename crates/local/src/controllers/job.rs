//! Jobs: pods that run to their end, so many at once, so many in all.
//!
//! Follows `pkg/controller/job` for `NonIndexed` Jobs: `parallelism` and `completions` (unset: one success ends it, and no
//! more pods are made), failed pods replaced after 10 s, doubled up to 10 min, until `backoffLimit` is exceeded, `activeDeadlineSeconds`,
//! `suspend` and `ttlSecondsAfterFinished`. `Indexed` Jobs are refused with an event.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use tokio::task::JoinSet;

use super::pods::{self, is_active, is_ready, phase};
use crate::cluster::{Cluster, Key, Queue, Severity, controller_key, reference, work};

const COMPONENT: &str = "job-controller";
/// Kubernetes' `DefaultJobPodFailureBackOff` and `MaxJobPodFailureBackOff`.
const BACK_OFF_FIRST: Duration = Duration::from_secs(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(600);

pub(super) fn start(cluster: &Cluster, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::default());
    let jobs = Arc::clone(&queue);
    cluster.jobs.on_change(move |_, new| new.into_iter().for_each(|job| jobs.add(Key::of(&**job))));
    let owners = Arc::clone(&queue);
    cluster.pods.on_change(move |old, new| {
        old.into_iter()
            .chain(new)
            .filter_map(|pod| controller_key::<Job>(&**pod))
            .for_each(|key| owners.add(key));
    });
    let cluster = cluster.clone();
    tasks.spawn(work("job", queue, move |key| reconcile(cluster.clone(), key)));
}

/// The pods of a Job, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    active: i32,
    ready: i32,
    succeeded: i32,
    failed: i32,
    last_failure: Option<Timestamp>,
}

/// What to do with a Job.
#[derive(Debug, PartialEq)]
enum Verdict {
    Create(i32),
    Delete(i32),
    Wait(Option<Duration>),
    Complete,
    Fail(&'static str, String),
}

async fn reconcile(cluster: Cluster, key: Key) -> Result<Option<Duration>, kube::Error> {
    let Some(job) = cluster.jobs.get(&key) else { return Ok(None) };
    let Some(spec) = job.spec.clone() else { return Ok(None) };
    if job.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    if let Some(end) = finished_at(&job) {
        return expire(&cluster, &job, &spec, end).await;
    }
    let matches = spec.selector.clone().unwrap_or_default();
    let pods = pods::claim(&cluster, &*job, &matches).await?;
    let now = Timestamp::now();
    let started = job.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(now, |t| t.0);
    let counts = count(&pods);
    let verdict = if spec.completion_mode.as_deref() == Some("Indexed") {
        Verdict::Fail("NotSupported", "completionMode Indexed is not supported on this machine".to_owned())
    } else {
        judge(&spec, &counts, started, now)
    };
    let again = act(&cluster, &job, &spec, &pods, &verdict).await?;
    report(&cluster, &job, &spec, &verdict, started).await?;
    Ok(again)
}

fn count(pods: &[Arc<Pod>]) -> Counts {
    let mut counts = Counts::default();
    for pod in pods {
        match phase(pod) {
            "Succeeded" => counts.succeeded += 1,
            "Failed" => {
                counts.failed += 1;
                counts.last_failure = counts.last_failure.max(ended_at(pod));
            }
            _ if is_active(pod) => {
                counts.active += 1;
                counts.ready += i32::from(is_ready(pod));
            }
            _ => {}
        }
    }
    counts
}

fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().filter_map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).max()
}

fn judge(spec: &JobSpec, counts: &Counts, started: Timestamp, now: Timestamp) -> Verdict {
    let parallelism = spec.parallelism.unwrap_or(1);
    if counts.failed > spec.backoff_limit.unwrap_or(6) {
        return Verdict::Fail(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit".to_owned(),
        );
    }
    let deadline =
        spec.active_deadline_seconds.and_then(|s| started.checked_add(SignedDuration::from_secs(s)).ok());
    if deadline.is_some_and(|at| at <= now) {
        return Verdict::Fail("DeadlineExceeded", "Job was active longer than specified deadline".to_owned());
    }
    if spec.suspend == Some(true) {
        return if counts.active > 0 { Verdict::Delete(counts.active) } else { Verdict::Wait(None) };
    }
    let wanted = match spec.completions {
        Some(completions) if counts.succeeded >= completions => return Verdict::Complete,
        Some(completions) => parallelism.min(completions - counts.succeeded),
        // a work queue: the first success says that there is nothing left to begin
        None if counts.succeeded > 0 && counts.active == 0 => return Verdict::Complete,
        None if counts.succeeded > 0 => counts.active,
        None => parallelism,
    };
    let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).ok();
    let deadline = deadline.and_then(until);
    if counts.active > wanted {
        return Verdict::Delete(counts.active - wanted);
    }
    if counts.active == wanted {
        return Verdict::Wait(deadline);
    }
    let pause = BACK_OFF_FIRST.saturating_mul(1 << (counts.failed - 1).clamp(0, 16)).min(BACK_OFF_MAX);
    let ready_at = counts
        .last_failure
        .and_then(|at| at.checked_add(SignedDuration::try_from(pause).unwrap_or_default()).ok())
        .filter(|at| *at > now);
    match ready_at.and_then(until) {
        Some(wait) => Verdict::Wait(Some(deadline.map_or(wait, |d| d.min(wait)))),
        None => Verdict::Create(wanted - counts.active),
    }
}

async fn act(
    cluster: &Cluster,
    job: &Job,
    spec: &JobSpec,
    pods: &[Arc<Pod>],
    verdict: &Verdict,
) -> Result<Option<Duration>, kube::Error> {
    let mut active: Vec<Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
    let surplus = match verdict {
        Verdict::Create(count) => {
            let pod = pods::from_template(job, &spec.template);
            for _ in 0..*count {
                pods::create(cluster, job, COMPONENT, &pod).await?;
            }
            let deadline = spec.active_deadline_seconds.and_then(|s| u64::try_from(s).ok());
            return Ok(deadline.map(Duration::from_secs));
        }
        Verdict::Wait(again) => return Ok(*again),
        Verdict::Delete(count) => usize::try_from(*count).unwrap_or(0),
        Verdict::Complete => 0,
        Verdict::Fail(..) => active.len(),
    };
    pods::deletion_order(&mut active);
    for pod in active.iter().take(surplus) {
        pods::delete(cluster, job, COMPONENT, pod).await?;
    }
    Ok(None)
}

async fn report(
    cluster: &Cluster,
    job: &Job,
    spec: &JobSpec,
    verdict: &Verdict,
    started: Timestamp,
) -> Result<(), kube::Error> {
    let fresh: Vec<Arc<Pod>> = cluster
        .pods
        .in_namespace(&job.namespace().unwrap_or_default())
        .into_iter()
        .filter(|pod| crate::cluster::controls(job, &**pod))
        .collect();
    let counts = count(&fresh);
    let now = Time(Timestamp::now());
    let shown = job.status.clone().unwrap_or_default();
    let some = |n: i32| (n > 0).then_some(n);
    let mut status = JobStatus {
        active: some(counts.active),
        ready: Some(counts.ready),
        succeeded: some(counts.succeeded),
        failed: some(counts.failed),
        start_time: (spec.suspend != Some(true)).then_some(Time(started)),
        ..shown.clone()
    };
    let end = match verdict {
        Verdict::Complete => {
            status.completion_time = Some(now.clone());
            Some(("Complete", "CompletionsReached", "Reached expected number of succeeded pods".to_owned()))
        }
        Verdict::Fail(reason, message) => Some(("Failed", *reason, message.clone())),
        _ => None,
    };
    if let Some((kind, reason, message)) = end {
        let (severity, event, text) = match kind {
            "Complete" => (Severity::Normal, "Completed", "Job completed".to_owned()),
            _ => (Severity::Warning, reason, message.clone()),
        };
        cluster.recorder.record(&reference(job), COMPONENT, severity, event, text);
        status.conditions.get_or_insert_default().push(JobCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_probe_time: Some(now.clone()),
            last_transition_time: Some(now),
        });
    }
    if shown == status {
        return Ok(());
    }
    let changed = Job { status: Some(status), ..job.clone() };
    let api: Api<Job> = Api::namespaced(cluster.client.clone(), &job.namespace().unwrap_or_default());
    cluster.jobs.absorb(api.replace_status(&job.name_any(), &PostParams::default(), &changed).await?);
    Ok(())
}

fn finished_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    Some(end.last_transition_time.as_ref().map_or(Timestamp::MIN, |t| t.0))
}

/// Removes a finished Job when its time is over.
async fn expire(
    cluster: &Cluster,
    job: &Job,
    spec: &JobSpec,
    end: Timestamp,
) -> Result<Option<Duration>, kube::Error> {
    let Some(seconds) = spec.ttl_seconds_after_finished else { return Ok(None) };
    let left = end
        .checked_add(SignedDuration::from_secs(seconds.into()))
        .ok()
        .and_then(|at| Duration::try_from(at.duration_since(Timestamp::now())).ok())
        .filter(|left| !left.is_zero());
    if left.is_none() {
        let api: Api<Job> = Api::namespaced(cluster.client.clone(), &job.namespace().unwrap_or_default());
        api.delete(&job.name_any(), &DeleteParams::background()).await?;
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, active: i32, succeeded: i32, failed: i32, expected: Verdict) {
        let mut whole = json!({"template": {}});
        json_patch::merge(&mut whole, &spec);
        let spec: JobSpec = serde_json::from_value(whole).unwrap();
        let now = Timestamp::from_second(1000).unwrap();
        let last_failure = (failed > 0).then(|| Timestamp::from_second(995).unwrap());
        let counts = Counts { active, succeeded, failed, last_failure, ready: 0 };
        let started = Timestamp::from_second(900).unwrap();
        assert_eq!(judge(&spec, &counts, started, now), expected, "{spec:?} {counts:?}");
    }

    #[test]
    fn jobs_are_judged_by_their_counts() {
        let one = json!({"completions": 1, "parallelism": 1});
        check(one.clone(), 0, 0, 0, Verdict::Create(1));
        check(one.clone(), 1, 0, 0, Verdict::Wait(None));
        check(one.clone(), 0, 1, 0, Verdict::Complete);
        check(one.clone(), 0, 0, 1, Verdict::Wait(Some(Duration::from_secs(5))));
        check(one.clone(), 0, 0, 2, Verdict::Wait(Some(Duration::from_secs(15))));
        let many = json!({"completions": 5, "parallelism": 3});
        check(many.clone(), 0, 0, 0, Verdict::Create(3));
        check(many.clone(), 2, 3, 0, Verdict::Wait(None));
        check(many.clone(), 3, 4, 0, Verdict::Delete(2));
        let queue = json!({"parallelism": 2});
        check(queue.clone(), 1, 0, 0, Verdict::Create(1));
        check(queue.clone(), 1, 1, 0, Verdict::Wait(None));
        check(queue.clone(), 0, 2, 0, Verdict::Complete);
        let late = json!({"completions": 1, "activeDeadlineSeconds": 100});
        let text = "Job was active longer than specified deadline".to_owned();
        check(late, 1, 0, 0, Verdict::Fail("DeadlineExceeded", text));
        let text = "Job has reached the specified backoff limit".to_owned();
        check(json!({"backoffLimit": 1}), 0, 0, 2, Verdict::Fail("BackoffLimitExceeded", text));
        check(json!({"suspend": true}), 2, 0, 0, Verdict::Delete(2));
    }
}
