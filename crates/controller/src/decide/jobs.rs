//! ScaledJobs: reads their triggers once in a polling interval, starts Jobs by the engine's rules, and clears away old ones.
//!
//! Unlike replicas, Jobs are counted up from what a queue says, so a queue that is read twice before it shows what was
//! started would start too many. So the interval is the object's own, as with KEDA, and not every second.
//!
//! Triggers are read in a round; what follows from them is written beside the loop, and the object is not looked at again
//! before that has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flyball_api::kinds::scaled_job::{ScaledJob, ScaledJobStatus};
use flyball_api::problem::Problem;
use flyball_api::scaled_job::{self, NAME_LABEL, Poll};
use flyball_api::trigger::{Trigger, TriggerMetric, TriggerTarget};
use flyball_engine::{JobTrigger, Reading, Time};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;

use crate::act::events::{self, Events, Note};
use crate::act::write::write_status;
use crate::api_error;
use crate::gather::cluster::Cluster;
use crate::gather::source::{Sources, credentials};

const COMPONENT: &str = "keda-operator";

/// Namespace and name.
type Key = (String, String);

/// The ScaledJobs, and when each was last evaluated.
pub(crate) struct JobScalers {
    writer: Arc<Writer>,
    cluster: Cluster,
    known: BTreeMap<Key, JobScalerState>,
    writing: JoinSet<()>,
}

/// What is known of one.
#[derive(Debug)]
struct JobScalerState {
    polled: Time,
    /// A changed object is evaluated at once.
    generation: Option<i64>,
    paused: bool,
    /// The status that was written last; locked by the task that writes the next.
    status: Arc<tokio::sync::Mutex<Option<ScaledJobStatus>>>,
    writing: Option<tokio::task::AbortHandle>,
}

/// Writes Jobs, statuses and events, beside the loop.
struct Writer {
    client: Client,
    events: Events,
}

/// One look at a ScaledJob, to be carried out.
struct DueScaledJob {
    object: Arc<ScaledJob>,
    jobs: Vec<Arc<Job>>,
    poll: Poll,
    /// How many Jobs to start.
    create: u32,
    errors: Vec<String>,
}

/// Triggers that were read: for the engine, and for the status.
#[derive(Default)]
struct Read {
    demands: Vec<JobTrigger>,
    shown: Vec<(String, Option<bool>)>,
    errors: Vec<String>,
}

impl JobScalers {
    pub(crate) fn new(client: Client, cluster: Cluster, events: Events) -> JobScalers {
        JobScalers {
            writer: Arc::new(Writer { client, events }),
            cluster,
            known: BTreeMap::new(),
            writing: JoinSet::new(),
        }
    }

    /// The triggers of every ScaledJob that can be read, each with its namespace, for what is kept of their queries.
    pub(crate) fn triggers(&self) -> Vec<(String, Trigger)> {
        let objects = self.cluster.scaled_jobs.state();
        let of_object = |object: &Arc<ScaledJob>| {
            let namespace = object.namespace().unwrap_or_default();
            let triggers = self.read_triggers(object).unwrap_or_default();
            triggers.into_iter().map(move |trigger| (namespace.clone(), trigger))
        };
        objects.iter().flat_map(of_object).collect()
    }

    /// Looks at every ScaledJob that is due.
    pub(crate) fn round(&mut self, sources: &mut Sources, now: Time) {
        while self.writing.try_join_next().is_some() {}
        let mut objects = self.cluster.scaled_jobs.state();
        objects.retain(|object| object.metadata.deletion_timestamp.is_none());
        objects.sort_by_cached_key(|object| key(object));
        if self.known.len() > objects.len()
            || objects.iter().any(|object| !self.known.contains_key(&key(object)))
        {
            let keys: BTreeSet<Key> = objects.iter().map(|object| key(object)).collect();
            self.known.retain(|known, _| keys.contains(known));
        }
        for object in objects {
            if self.is_due(&object, now) {
                self.poll(object, sources, now);
            }
        }
    }

    /// What is still being carried out is not due: its Jobs would be started twice.
    fn is_due(&self, object: &ScaledJob, now: Time) -> bool {
        let Some(known) = self.known.get(&key(object)) else { return true };
        let passed = Duration::from_millis(now.as_millis().saturating_sub(known.polled.as_millis()));
        known.writing.as_ref().is_none_or(tokio::task::AbortHandle::is_finished)
            && (passed >= object.spec.polling_interval()
                || known.generation != object.metadata.generation
                || known.paused != object.is_paused())
    }

    fn poll(&mut self, object: Arc<ScaledJob>, sources: &mut Sources, now: Time) {
        let at = Timestamp::from_second(i64::try_from(now.as_millis() / 1000).unwrap_or(0)).ok();
        let mut poll = Poll { paused: object.is_paused(), at: at.map(MetaTime), ..Poll::default() };
        let jobs = self.jobs_of(&object);
        let (mut create, mut errors) = (0, Vec::new());
        match self.read_triggers(&object) {
            Err(problems) => {
                poll.problems = Some(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
            }
            Ok(triggers) if !poll.paused => {
                // It is still due in the next round.
                let Some(read) = read(&object, &triggers, sources, now) else { return };
                create = self.wanted(&object, &jobs, &read);
                let at_least = object.spec.min_replica_count.unwrap_or(0) > 0;
                poll.active = at_least || read.demands.iter().any(|demand| demand.active);
                (poll.triggers, errors) = (read.shown, read.errors);
            }
            Ok(_) => {}
        }
        let known = self.known.entry(key(&object)).or_insert_with(|| JobScalerState {
            polled: now,
            generation: None,
            paused: false,
            status: Arc::default(),
            writing: None,
        });
        known.polled = now;
        known.generation = object.metadata.generation;
        known.paused = poll.paused;
        let (writer, status) = (Arc::clone(&self.writer), Arc::clone(&known.status));
        let due = DueScaledJob { object, jobs, poll, create, errors };
        known.writing = Some(self.writing.spawn(async move { writer.carry_out(due, &status).await }));
    }

    fn read_triggers(&self, object: &ScaledJob) -> Result<Vec<Trigger>, Vec<Problem>> {
        let namespace = object.namespace().unwrap_or_default();
        let template = Some(&object.spec.job_target_ref.template);
        let container = object.spec.env_source_container_name.as_deref();
        credentials::triggers(&self.cluster, &namespace, &object.spec.triggers, template, container)
    }

    /// How many Jobs are to be started. Those of an older version that are deleted now do not count.
    fn wanted(&self, object: &ScaledJob, jobs: &[Arc<Job>], read: &Read) -> u32 {
        let outdated = scaled_job::outdated(object, jobs.iter().map(|job| &**job));
        let stays = |job: &&Job| !outdated.iter().any(|old| std::ptr::eq(*old, *job));
        let pods = self.cluster.pods.state();
        let namespace = object.namespace();
        let pods: Vec<&Pod> =
            pods.iter().map(|pod| &**pod).filter(|pod| pod.metadata.namespace == namespace).collect();
        let current = jobs.iter().map(|job| &**job).filter(stays);
        let (running, pending) = scaled_job::unfinished(&object.spec, current, &pods);
        let decision = object.spec.policy().decide(&read.demands, running, pending);
        if decision.create > 0 {
            tracing::info!(scaled_job = object.name_any(), namespace, "{decision}");
        }
        decision.create
    }

    fn jobs_of(&self, object: &ScaledJob) -> Vec<Arc<Job>> {
        let (namespace, name) = key(object);
        let mut jobs = self.cluster.jobs.state();
        jobs.retain(|job| {
            job.namespace().as_deref() == Some(&namespace)
                && job.labels().get(NAME_LABEL) == Some(&name)
                && job.metadata.deletion_timestamp.is_none()
        });
        jobs
    }
}

impl Writer {
    async fn carry_out(&self, due: DueScaledJob, written: &tokio::sync::Mutex<Option<ScaledJobStatus>>) {
        self.clear_away(&due.object, &due.jobs).await;
        for error in &due.errors {
            self.publish(&due.object, true, "KEDAScalerFailed", error.clone());
        }
        if due.create > 0 {
            self.create(&due.object, due.create).await;
        }
        self.tell(&due.object, &due.poll, written).await;
    }

    async fn create(&self, object: &ScaledJob, count: u32) {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let job = object.job();
        for _ in 0..count {
            if let Err(error) = api.create(&PostParams::default(), &job).await {
                let name = job.metadata.generate_name.as_deref().unwrap_or_default();
                let message = format!("Failed to create job {name}: {}", api_error::message(&error));
                self.publish(object, true, "KEDAJobCreateFailed", message);
            }
        }
        self.publish(object, false, "KEDAJobsCreated", format!("Created {count} jobs"));
    }

    /// Deletes Jobs of an older version of the object, and ended ones beyond what is kept.
    async fn clear_away(&self, object: &ScaledJob, jobs: &[Arc<Job>]) {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let outdated = scaled_job::outdated(object, jobs.iter().map(|job| &**job));
        if !outdated.is_empty() {
            let message = format!("Deleting {} jobs of an older version", outdated.len());
            self.publish(object, false, "ScaledJobRolloutCleanupStarted", message);
            let parameters = match object.spec.deletes_in_foreground() {
                true => DeleteParams::foreground(),
                false => DeleteParams::background(),
            };
            let failed = delete(&api, &outdated, &parameters).await;
            let (warning, reason, message) = match failed {
                None => (
                    false,
                    "ScaledJobRolloutCleanupCompleted",
                    format!("Deleted {} jobs of an older version", outdated.len()),
                ),
                Some(error) => (true, "ScaledJobRolloutCleanupFailed", error),
            };
            self.publish(object, warning, reason, message);
        }
        let beyond = scaled_job::beyond_history(&object.spec, jobs.iter().map(|job| &**job));
        if let Some(error) = delete(&api, &beyond, &DeleteParams::background()).await {
            tracing::warn!(scaled_job = object.name_any(), error, "cannot delete old jobs");
        }
    }

    async fn tell(
        &self,
        object: &ScaledJob,
        poll: &Poll,
        written: &tokio::sync::Mutex<Option<ScaledJobStatus>>,
    ) {
        let (namespace, name) = key(object);
        let mut written = written.lock().await;
        let before = written.take().or_else(|| object.status.clone()).unwrap_or_default();
        let after = scaled_job::status(before.clone(), object, poll);
        for (warning, reason, message) in news(&before, &after) {
            self.publish(object, warning, &reason, message);
        }
        let api: Api<ScaledJob> = Api::namespaced(self.client.clone(), &namespace);
        if after != before
            && let Err(error) = write_status(&api, &name, &after).await
        {
            *written = Some(before);
            let error = api_error::message(&error);
            return tracing::warn!(scaled_job = name, namespace, error, "cannot write a status");
        }
        *written = Some(after);
    }

    fn publish(&self, object: &ScaledJob, warning: bool, reason: &str, message: String) {
        let about = events::about(object);
        self.events.publish(Note {
            about,
            component: COMPONENT,
            warning,
            reason: reason.to_owned(),
            message,
        });
    }
}

fn key(object: &ScaledJob) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Reads each trigger; none while an answer is on its way. What cannot be read starts no Job: no data is not a queue.
fn read(object: &ScaledJob, triggers: &[Trigger], sources: &mut Sources, now: Time) -> Option<Read> {
    let namespace = object.namespace().unwrap_or_default();
    // All are asked before any is waited for.
    let readings: Vec<Option<Reading>> =
        triggers.iter().map(|trigger| sources.read_new(trigger, &namespace, now)).collect();
    let readings: Vec<Reading> = readings.into_iter().collect::<Option<_>>()?;
    let mut read = Read::default();
    for (trigger, reading) in triggers.iter().zip(readings) {
        let (TriggerMetric::External(name) | TriggerMetric::Resource { resource: name, .. }) =
            trigger.metric(&namespace);
        let queue_length = match reading {
            // The queue is at least as long as what there is of a partial answer.
            Reading::Value { value, .. } | Reading::Partial { value, .. } => Ok(value),
            Reading::Idle { .. } => Ok(0.0),
            Reading::Missing { why } => Err(why),
            Reading::Failed { error } => Err(error),
            Reading::Stale { why, .. } => Err(format!("there is no new value: {why}")),
            Reading::PerPod { .. } => Err("a Job has no use to scale by".to_owned()),
        };
        match queue_length {
            Ok(queue_length) => {
                let active = queue_length > trigger.activation().unwrap_or(0.0);
                read.demands.push(JobTrigger { queue_length, target: target(trigger), active });
                read.shown.push((name, Some(active)));
            }
            Err(why) => {
                read.errors.push(format!("{name}: {why}"));
                read.shown.push((name, None));
            }
        }
    }
    Some(read)
}

/// How much of its queue one Job takes.
fn target(trigger: &Trigger) -> f64 {
    match trigger.target {
        TriggerTarget::AverageValue(amount) | TriggerTarget::Value(amount) => amount.as_f64(),
        TriggerTarget::Utilization(_) => 0.0,
    }
}

async fn delete(api: &Api<Job>, jobs: &[&Job], parameters: &DeleteParams) -> Option<String> {
    let mut failed = None;
    for job in jobs {
        match api.delete(&job.name_any(), parameters).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                failed = Some(format!("cannot delete job {}: {}", job.name_any(), api_error::message(&error)))
            }
        }
    }
    failed
}

/// Conditions that changed and are worth an event: severity, reason and message.
fn news(before: &ScaledJobStatus, after: &ScaledJobStatus) -> Vec<(bool, String, String)> {
    let changed = after.conditions.iter().filter(|condition| !before.conditions.contains(condition));
    changed
        .filter(|condition| matches!(condition.kind.as_str(), "Ready" | "Paused"))
        .filter_map(|condition| {
            let (reason, message) = (condition.reason.clone()?, condition.message.clone()?);
            let warning = condition.kind == "Ready" && condition.status != "True";
            Some((warning, reason, message))
        })
        .collect()
}
