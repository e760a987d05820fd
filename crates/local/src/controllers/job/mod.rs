//! Jobs: pods that run to their end, so many at once, so many in all.
//!
//! What is next is decided in `judge`, from the counts of the Job's pods; here it is carried out and shown. A Job that has
//! succeeded or failed says so in two steps, as in Kubernetes: `SuccessCriteriaMet` or `FailureTarget` at once, `Complete`
//! or `Failed` when the last of its pods has ended.

mod failure_policy;
mod indexes;
mod judge;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use tokio::task::JoinSet;

use self::judge::{Verdict, count, deadline, is_indexed, judge};
use super::pods::{self, is_active};
use crate::cluster::{Cluster, Key, Queue, Severity, controller_key, controls, reference, work};

const COMPONENT: &str = "job-controller";

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

async fn reconcile(cluster: Cluster, key: Key) -> Result<Option<Duration>, kube::Error> {
    let Some(job) = cluster.jobs.get(&key) else { return Ok(None) };
    let Some(spec) = job.spec.clone() else { return Ok(None) };
    if job.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    if let Some(end) = condition(&job, "Complete").or_else(|| condition(&job, "Failed")) {
        return expire(&cluster, &job, &spec, end).await;
    }
    let matches = spec.selector.clone().unwrap_or_default();
    let pods = pods::claim(&cluster, &*job, &matches).await?;
    let now = Timestamp::now();
    let started = started_at(&job, &spec, now);
    // what was decided holds, whatever becomes of the pods that led to it
    let verdict = match decided(&job) {
        Some(verdict) => verdict,
        None => judge(&spec, &count(&spec, &pods), started, now),
    };
    let again = act(&cluster, &job, &spec, &pods, &verdict).await?;
    report(&cluster, &job, &spec, &verdict, started).await?;
    let overdue = deadline(&spec, started).and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    Ok(again.into_iter().chain(overdue.filter(|_| matches!(verdict, Verdict::Create(_)))).min())
}

/// When the Job began; it begins anew when it is resumed.
fn started_at(job: &Job, spec: &JobSpec, now: Timestamp) -> Timestamp {
    let resumes = spec.suspend != Some(true) && condition(job, "Suspended").is_some();
    let shown = job.status.as_ref().and_then(|s| s.start_time.as_ref()).filter(|_| !resumes);
    shown.map_or(now, |time| time.0)
}

/// The condition of a kind, if it is true.
fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind && c.status == "True")
}

fn decided(job: &Job) -> Option<Verdict> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    if let Some(met) = condition(job, "SuccessCriteriaMet") {
        let by_policy = met.reason.as_deref() == Some("SuccessPolicy");
        return Some(if by_policy {
            Verdict::Complete("SuccessPolicy", "Matched rules at index 0")
        } else {
            Verdict::Complete("CompletionsReached", "Reached expected number of succeeded pods")
        });
    }
    let failed = condition(job, "FailureTarget")?;
    const REASONS: [&str; 5] = [
        "PodFailurePolicy",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
        "BackoffLimitExceeded",
        "DeadlineExceeded",
    ];
    let reason = REASONS.into_iter().find(|reason| Some(*reason) == failed.reason.as_deref());
    Some(Verdict::Fail(reason.unwrap_or("BackoffLimitExceeded"), text(&failed.message)))
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
        Verdict::Create(indexes) => {
            for index in indexes {
                let mut pod = pods::from_template(job, &spec.template);
                if let Some(index) = index {
                    indexes::give(job, &mut pod, *index);
                }
                pods::create(cluster, job, COMPONENT, &pod).await?;
            }
            return Ok(None);
        }
        Verdict::Wait(again) => return Ok(*again),
        Verdict::Delete(count) => usize::try_from(*count).unwrap_or(0),
        Verdict::Complete(..) | Verdict::Fail(..) => active.len(),
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
    let namespace = job.namespace().unwrap_or_default();
    let here = cluster.pods.in_namespace(&namespace);
    let fresh: Vec<Arc<Pod>> = here.into_iter().filter(|pod| controls(job, &**pod)).collect();
    let shown = job.status.clone().unwrap_or_default();
    let mut status = status(spec, &fresh, &shown, started);
    let changes = conditions(&mut status, spec, verdict);
    for (kind, reason, message) in changes {
        let (severity, reason, message) = match kind {
            "Complete" => (Severity::Normal, "Completed", "Job completed".to_owned()),
            "Failed" => (Severity::Warning, reason, message),
            "Suspended" => (Severity::Normal, "Suspended", message),
            "Resumed" => (Severity::Normal, "Resumed", message),
            _ => continue,
        };
        cluster.recorder.record(&reference(job), COMPONENT, severity, reason, message);
    }
    if shown == status {
        return Ok(());
    }
    let changed = Job { status: Some(status), ..job.clone() };
    let api: Api<Job> = Api::namespaced(cluster.client.clone(), &namespace);
    cluster.jobs.absorb(api.replace_status(&job.name_any(), &PostParams::default(), &changed).await?);
    Ok(())
}

fn status(spec: &JobSpec, pods: &[Arc<Pod>], shown: &JobStatus, started: Timestamp) -> JobStatus {
    let counts = count(spec, pods);
    let some = |n: i32| (n > 0).then_some(n);
    let indexes = |set| Some(indexes::text(set)).filter(|text| is_indexed(spec) && !text.is_empty());
    let failed = pods.iter().filter(|pod| pods::phase(pod) == "Failed").count() as i32;
    JobStatus {
        active: some(counts.active),
        ready: Some(counts.ready),
        terminating: Some(counts.terminating),
        succeeded: some(counts.succeeded),
        failed: some(failed),
        completed_indexes: indexes(&counts.succeeded_indexes),
        failed_indexes: indexes(&counts.failed_indexes).filter(|_| spec.backoff_limit_per_index.is_some()),
        start_time: (spec.suspend != Some(true)).then_some(Time(started)),
        ..shown.clone()
    }
}

/// Sets the conditions that follow from a verdict; gives those that are new, for events.
fn conditions(
    status: &mut JobStatus,
    spec: &JobSpec,
    verdict: &Verdict,
) -> Vec<(&'static str, &'static str, String)> {
    let mut new = Vec::new();
    let is_over = status.active.is_none() && status.terminating.unwrap_or(0) == 0;
    let (first, last, reason, message) = match verdict {
        Verdict::Complete(reason, message) => {
            ("SuccessCriteriaMet", "Complete", *reason, (*message).to_owned())
        }
        Verdict::Fail(reason, message) => ("FailureTarget", "Failed", *reason, message.clone()),
        Verdict::Create(_) | Verdict::Delete(_) | Verdict::Wait(_) => {
            if spec.suspend == Some(true) {
                let message = "Job suspended".to_owned();
                new.extend(set(status, "Suspended", "True", "JobSuspended", message));
            } else if status.conditions.iter().flatten().any(|c| c.type_ == "Suspended") {
                let message = "Job resumed".to_owned();
                let resumed = set(status, "Suspended", "False", "JobResumed", message);
                new.extend(resumed.map(|(_, reason, message)| ("Resumed", reason, message)));
            }
            return new;
        }
    };
    new.extend(set(status, first, "True", reason, message.clone()));
    if is_over {
        let ended = set(status, last, "True", reason, message);
        if ended.is_some() && last == "Complete" {
            status.completion_time = Some(Time(Timestamp::now()));
        }
        new.extend(ended);
    }
    new
}

/// Sets one condition; gives it if it changed.
fn set(
    status: &mut JobStatus,
    kind: &'static str,
    value: &str,
    reason: &'static str,
    message: String,
) -> Option<(&'static str, &'static str, String)> {
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().any(|c| c.type_ == kind && c.status == value) {
        return None;
    }
    let now = Time(Timestamp::now());
    conditions.retain(|c| c.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.clone()),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now),
    });
    Some((kind, reason, message))
}

/// Removes a finished Job when its time is over.
async fn expire(
    cluster: &Cluster,
    job: &Job,
    spec: &JobSpec,
    end: &JobCondition,
) -> Result<Option<Duration>, kube::Error> {
    let Some(seconds) = spec.ttl_seconds_after_finished else { return Ok(None) };
    let ended_at = end.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
    let left = ended_at
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
