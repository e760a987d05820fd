//! What a ScaledJob means: its policy for the engine, the Jobs it creates, which of them go, and its status.
//!
//! The rules are KEDA's (`pkg/scaling/executor/scale_jobs.go`, `controllers/keda/scaledjob_controller.go`,
//! `apis/keda/v1alpha1/scaledjob_types.go`). Nothing here reads a clock or a cluster.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use flyball_engine::{JobCalculation, JobPolicy, JobStrategy};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Resource, ResourceExt};

use crate::kinds::condition::PlainCondition;
use crate::kinds::scaled_job::{ScaledJob, ScaledJobSpec, ScaledJobStatus};
use crate::kinds::scaled_object::TriggerActivity;
use crate::scaled_object::PAUSED;
use crate::status::joined;

/// Names the ScaledJob on its Jobs and their pods.
pub const NAME_LABEL: &str = "scaledjob.keda.sh/name";
/// The generation of the ScaledJob that a Job was made from.
pub const GENERATION: &str = "scaledjob.keda.sh/generation";
/// Labels of the ScaledJob that its Jobs do not get.
const EXCLUDED_LABELS: &str = "scaledjob.keda.sh/job-excluded-labels";
/// The label by which the pods of a Job are found.
const JOB_NAME_LABEL: &str = "job-name";

const POLLING_INTERVAL_SECONDS_DEFAULT: i32 = 30;
const HISTORY_LIMIT_DEFAULT: i32 = 100;

fn count(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

impl ScaledJobSpec {
    /// How often the triggers are read.
    pub fn polling_interval(&self) -> Duration {
        let seconds = self.polling_interval.unwrap_or(POLLING_INTERVAL_SECONDS_DEFAULT);
        Duration::from_secs(count(seconds).max(1).into())
    }

    /// How many Jobs to start.
    pub fn policy(&self) -> JobPolicy {
        let strategy = self.scaling_strategy.clone().unwrap_or_default();
        let ratio = strategy.custom_scaling_running_job_percentage.as_deref();
        let ratio = ratio.and_then(|text| text.trim().parse::<f64>().ok()).filter(|ratio| ratio.is_finite());
        let how = match (strategy.strategy.as_deref(), ratio) {
            (Some("accurate"), _) => JobStrategy::Accurate,
            (Some("eager"), _) => JobStrategy::Eager,
            (Some("custom"), Some(running_ratio)) => JobStrategy::Custom {
                deduction: count(strategy.custom_scaling_queue_length_deduction.unwrap_or(0)),
                running_ratio,
            },
            // A ratio that is no number makes `custom` the default, as with KEDA.
            _ => JobStrategy::Default,
        };
        let calculation = match strategy.multiple_scalers_calculation.as_deref() {
            Some("min") => JobCalculation::Min,
            Some("avg") => JobCalculation::Avg,
            Some("sum") => JobCalculation::Sum,
            _ => JobCalculation::Max,
        };
        let (min, max) = (count(self.min_replica_count.unwrap_or(0)), self.max_replica_count.map(count));
        JobPolicy::new(min, max, how, calculation)
    }

    /// Whether Jobs of an older generation are deleted; the deprecated field wins.
    fn replaces_at_once(&self) -> bool {
        let strategy = self.rollout.as_ref().and_then(|rollout| rollout.strategy.as_deref());
        self.rollout_strategy.as_deref().filter(|text| !text.is_empty()).or(strategy) != Some("gradual")
    }

    /// Whether what the deleted Jobs own is waited for.
    pub fn deletes_in_foreground(&self) -> bool {
        let policy = self.rollout.as_ref().and_then(|rollout| rollout.propagation_policy.as_deref());
        policy == Some("foreground")
    }
}

impl ScaledJob {
    /// Whether no Jobs are started.
    pub fn is_paused(&self) -> bool {
        self.annotations()
            .get(PAUSED)
            .is_some_and(|text| !matches!(text.as_str(), "0" | "f" | "F" | "false" | "FALSE" | "False"))
    }

    /// The next Job.
    pub fn job(&self) -> Job {
        let name = self.name_any();
        let excluded = self.annotations().get(EXCLUDED_LABELS).cloned().unwrap_or_default();
        let excluded: Vec<&str> = excluded.split(',').collect();
        let mut labels: BTreeMap<String, String> = [
            ("app.kubernetes.io/name", name.as_str()),
            ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION")),
            ("app.kubernetes.io/part-of", name.as_str()),
            ("app.kubernetes.io/managed-by", "keda-operator"),
        ]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .into();
        let own = self.labels().iter().filter(|(label, _)| !excluded.contains(&label.as_str()));
        labels.extend(own.map(|(label, value)| (label.clone(), value.clone())));
        labels.insert(NAME_LABEL.to_owned(), name.clone());
        let mut annotations = self.annotations().clone();
        annotations.insert(GENERATION.to_owned(), self.metadata.generation.unwrap_or(0).to_string());
        let mut spec = self.spec.job_target_ref.clone();
        let pod = spec.template.metadata.get_or_insert_default();
        pod.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name.clone());
        if let Some(pod) = &mut spec.template.spec {
            pod.restart_policy.get_or_insert_with(|| "OnFailure".to_owned());
        }
        Job {
            metadata: ObjectMeta {
                generate_name: Some(format!("{name}-")),
                namespace: self.namespace(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: self.controller_owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            status: None,
        }
    }
}

/// How a Job ended, if it has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Failed,
}

fn end(job: &Job) -> Option<End> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.status == "True").find_map(|condition| {
        match condition.type_.as_str() {
            "Complete" => Some(End::Complete),
            "Failed" => Some(End::Failed),
            _ => None,
        }
    })
}

/// Whether a Job works no more, though its pods may still be ending: Kubernetes says so before it says how it ended.
fn is_ending(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| {
        condition.status == "True"
            && matches!(condition.type_.as_str(), "SuccessCriteriaMet" | "FailureTarget")
    })
}

/// Unfinished Jobs, and of them those that wait for their pods. What is ending is counted as neither: KEDA counts a Job
/// until its last pod is gone, and a pod that is about to go as one that runs, and so starts too few.
pub fn unfinished<'a>(
    spec: &ScaledJobSpec,
    jobs: impl IntoIterator<Item = &'a Job>,
    pods: &[&Pod],
) -> (u32, u32) {
    let needed = spec.scaling_strategy.as_ref().map(|strategy| strategy.pending_pod_conditions.as_slice());
    let needed = needed.unwrap_or_default();
    let running: Vec<&Job> = jobs.into_iter().filter(|job| end(job).is_none() && !is_ending(job)).collect();
    let waits = |job: &&&Job| {
        let name = job.name_any();
        let own = pods.iter().filter(|pod| pod.labels().get(JOB_NAME_LABEL) == Some(&name));
        !own.into_iter().any(|pod| has_started(pod, needed))
    };
    let pending = running.iter().filter(waits).count();
    (u32::try_from(running.len()).unwrap_or(u32::MAX), u32::try_from(pending).unwrap_or(u32::MAX))
}

fn has_started(pod: &Pod, needed: &[String]) -> bool {
    let Some(status) = &pod.status else { return false };
    let phase = status.phase.as_deref();
    if pod.metadata.deletion_timestamp.is_some() && phase != Some("Succeeded") {
        return false;
    }
    if needed.is_empty() {
        return matches!(phase, Some("Running" | "Succeeded"));
    }
    let is_true = |kind: &String| {
        status.conditions.iter().flatten().any(|found| found.type_ == *kind && found.status == "True")
    };
    needed.iter().all(is_true)
}

/// Jobs that were made from another version of the ScaledJob and are not to finish.
pub fn outdated<'a>(object: &ScaledJob, jobs: impl IntoIterator<Item = &'a Job>) -> Vec<&'a Job> {
    if !object.spec.replaces_at_once() {
        return Vec::new();
    }
    let generation = object.metadata.generation.unwrap_or(0).to_string();
    jobs.into_iter().filter(|job| job.annotations().get(GENERATION) != Some(&generation)).collect()
}

/// Ended Jobs beyond what is kept of them, those that ended first.
pub fn beyond_history<'a>(spec: &ScaledJobSpec, jobs: impl IntoIterator<Item = &'a Job>) -> Vec<&'a Job> {
    let limit = |limit: Option<i32>| limit.map_or(HISTORY_LIMIT_DEFAULT, |limit| limit.max(0)) as usize;
    let kept = [
        (End::Complete, limit(spec.successful_jobs_history_limit)),
        (End::Failed, limit(spec.failed_jobs_history_limit)),
    ];
    let mut ended: Vec<(End, &Job)> = jobs.into_iter().filter_map(|job| Some((end(job)?, job))).collect();
    ended.sort_by_key(|(_, job)| Reverse(ended_at(job)));
    let beyond = kept.into_iter().flat_map(|(how, limit)| {
        ended.iter().filter(move |(end, _)| *end == how).skip(limit).map(|(_, job)| *job)
    });
    beyond.collect()
}

/// When a Job ended; a failed one has no completion time, but its condition has a time.
fn ended_at(job: &Job) -> Option<Time> {
    let status = job.status.as_ref()?;
    let failed = status.conditions.iter().flatten().find(|condition| condition.type_ == "Failed");
    status.completion_time.clone().or_else(|| failed?.last_transition_time.clone())
}

/// What was seen of a ScaledJob in one poll.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Poll {
    /// Whether it is paused.
    pub paused: bool,
    /// What is wrong with the object, if it cannot be read.
    pub problems: Option<String>,
    /// Each trigger: the name of its metric, and whether it is active; nothing if it cannot be read.
    pub triggers: Vec<(String, Option<bool>)>,
    /// Whether Jobs are wanted.
    pub active: bool,
    /// The time of the poll.
    pub at: Option<Time>,
}

/// The status after a poll.
pub fn status(mut status: ScaledJobStatus, object: &ScaledJob, poll: &Poll) -> ScaledJobStatus {
    let conditions = &mut status.conditions;
    for (kind, state) in [("Ready", "Unknown"), ("Active", "Unknown"), ("Paused", "False")] {
        if !conditions.iter().any(|condition| condition.kind == kind) {
            conditions.push(condition(kind, state, None));
        }
    }
    let mut set = |kind: &str, state: &str, reason: &str, message: &str| {
        let new = condition(kind, state, Some((reason, message)));
        if let Some(old) = conditions.iter_mut().find(|old| old.kind == kind) {
            *old = new;
        }
    };
    let was_paused = object
        .status
        .iter()
        .flat_map(|status| &status.conditions)
        .any(|condition| condition.kind == "Paused" && condition.status == "True");
    match (poll.paused, was_paused) {
        (true, _) => set("Paused", "True", "ScaledJobPaused", "ScaledJob is paused"),
        (false, true) => set("Paused", "False", "ScaledJobUnpaused", "ScaledJob is unpaused"),
        (false, false) => {}
    }
    if let Some(problems) = &poll.problems {
        let message = format!("ScaledJob doesn't have correct triggers specification: {problems}");
        set("Ready", "False", "ScaledJobCheckFailed", &message);
        return status;
    }
    let failing = poll.triggers.iter().filter(|(_, active)| active.is_none()).count();
    match failing {
        _ if poll.paused => {
            set("Ready", "True", "ScaledJobReady", "ScaledJob is defined correctly and is ready for scaling")
        }
        0 => {
            set("Ready", "True", "ScaledJobReady", "ScaledJob is defined correctly and is ready for scaling")
        }
        _ if failing < poll.triggers.len() => {
            let message = "Some triggers defined in ScaledJob are not working correctly";
            set("Ready", "Unknown", "PartialTriggerError", message);
        }
        _ => set("Ready", "False", "TriggerError", "Triggers defined in ScaledJob are not working correctly"),
    }
    if !poll.paused {
        match poll.active {
            true => set("Active", "True", "ScalerActive", "Scaling is performed because triggers are active"),
            false => set(
                "Active",
                "False",
                "ScalerNotActive",
                "Scaling is not performed because triggers are not active",
            ),
        }
        status.external_metric_names = poll.triggers.iter().map(|(name, _)| name.clone()).collect();
        status.triggers_activity = poll
            .triggers
            .iter()
            .map(|(name, active)| (name.clone(), TriggerActivity { is_active: active.unwrap_or(false) }))
            .collect();
        if poll.active {
            status.last_active_time = poll.at.clone().or(status.last_active_time);
        }
    }
    let triggers = &object.spec.triggers;
    status.triggers_types = joined(triggers.iter().map(|trigger| trigger.kind.as_str()));
    let names =
        triggers.iter().filter_map(|trigger| Some(trigger.authentication_ref.as_ref()?.name.as_str()));
    status.authentications_types = joined(names);
    status
}

fn condition(kind: &str, state: &str, why: Option<(&str, &str)>) -> PlainCondition {
    PlainCondition {
        kind: kind.to_owned(),
        status: state.to_owned(),
        reason: why.map(|(reason, _)| reason.to_owned()),
        message: why.map(|(_, message)| message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(spec: Value) -> ScaledJob {
        let mut whole = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob",
            "metadata": {"name": "train", "namespace": "ml", "uid": "u", "generation": 3, "labels": {"team": "a", "secret": "x"},
                         "annotations": {"scaledjob.keda.sh/job-excluded-labels": "secret"}},
            "spec": {"jobTargetRef": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
                     "triggers": [{"type": "cron", "metadata": {}}]},
        });
        for (key, value) in spec.as_object().unwrap() {
            whole["spec"][key] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    /// A Job of a generation; ended so many seconds after the epoch, or not.
    fn job(name: &str, generation: &str, end: Option<(&str, i64)>) -> Job {
        let mut value = json!({"metadata": {"name": name, "annotations": {GENERATION: generation}}});
        if let Some((kind, seconds)) = end {
            let time = format!("1970-01-01T00:00:{seconds:02}Z");
            let condition = json!({"type": kind, "status": "True", "lastTransitionTime": time});
            value["status"] = json!({"conditions": [condition]});
            if kind == "Complete" {
                value["status"]["completionTime"] = json!(time);
            }
        }
        serde_json::from_value(value).unwrap()
    }

    fn names(jobs: Vec<&Job>) -> Vec<String> {
        jobs.into_iter().map(ResourceExt::name_any).collect()
    }

    #[test]
    fn policies_are_kedas() {
        let policy = |strategy, min, max| JobPolicy::new(min, max, strategy, JobCalculation::Max);
        for (spec, expected) in [
            (json!({}), policy(JobStrategy::Default, 0, None)),
            (json!({"minReplicaCount": 2, "maxReplicaCount": 9}), policy(JobStrategy::Default, 2, Some(9))),
            (json!({"scalingStrategy": {"strategy": "accurate"}}), policy(JobStrategy::Accurate, 0, None)),
            (json!({"scalingStrategy": {"strategy": "eager"}}), policy(JobStrategy::Eager, 0, None)),
            (
                json!({"scalingStrategy": {"strategy": "custom", "customScalingQueueLengthDeduction": 1, "customScalingRunningJobPercentage": "0.5"}}),
                policy(JobStrategy::Custom { deduction: 1, running_ratio: 0.5 }, 0, None),
            ),
            (
                json!({"scalingStrategy": {"strategy": "custom", "customScalingRunningJobPercentage": "half"}}),
                policy(JobStrategy::Default, 0, None),
            ),
            (
                json!({"scalingStrategy": {"multipleScalersCalculation": "sum"}}),
                JobPolicy::new(0, None, JobStrategy::Default, JobCalculation::Sum),
            ),
        ] {
            assert_eq!(object(spec.clone()).spec.policy(), expected, "{spec}");
        }
    }

    #[test]
    fn a_job_says_whose_it_is() {
        let job = object(json!({})).job();
        assert_eq!(job.metadata.generate_name.as_deref(), Some("train-"));
        let labels = job.metadata.labels.unwrap();
        assert_eq!((labels[NAME_LABEL].as_str(), labels["team"].as_str()), ("train", "a"));
        assert!(!labels.contains_key("secret"));
        assert_eq!(job.metadata.annotations.unwrap()[GENERATION], "3");
        let owner = &job.metadata.owner_references.unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.controller), ("ScaledJob", Some(true)));
        let template = job.spec.unwrap().template;
        assert_eq!(template.metadata.unwrap().labels.unwrap()[NAME_LABEL], "train");
        assert_eq!(template.spec.unwrap().restart_policy.as_deref(), Some("OnFailure"));
    }

    #[test]
    fn jobs_run_wait_or_have_ended() {
        let jobs = [job("a", "3", None), job("b", "3", None), job("c", "3", Some(("Complete", 1)))];
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"job-name": "a"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]},
        }))
        .unwrap();
        let spec = object(json!({})).spec;
        assert_eq!(unfinished(&spec, &jobs, &[&pod]), (2, 1));
        assert_eq!(unfinished(&spec, &jobs, &[]), (2, 2));
        let strict = object(json!({"scalingStrategy": {"pendingPodConditions": ["Ready"]}})).spec;
        assert_eq!(unfinished(&strict, &jobs, &[&pod]), (2, 2));
        let mut going = pod.clone();
        going.metadata.deletion_timestamp = serde_json::from_value(json!("1970-01-01T00:00:01Z")).unwrap();
        assert_eq!(unfinished(&spec, &jobs, &[&going]), (2, 2), "its place is to be taken by another pod");
        let ending = [job("a", "3", None), job("b", "3", Some(("SuccessCriteriaMet", 1)))];
        assert_eq!(unfinished(&spec, &ending, &[&pod]), (1, 0), "what is done works no more");
        let failing = [job("a", "3", Some(("FailureTarget", 1)))];
        assert_eq!(unfinished(&spec, &failing, &[&pod]), (0, 0));
    }

    #[test]
    fn old_jobs_go() {
        let jobs = [
            job("first", "3", Some(("Complete", 1))),
            job("second", "3", Some(("Complete", 2))),
            job("third", "2", Some(("Complete", 3))),
            job("failed", "2", Some(("Failed", 1))),
            job("runs", "2", None),
        ];
        let history = |spec: Value| names(beyond_history(&object(spec).spec, &jobs));
        assert_eq!(history(json!({})), Vec::<String>::new());
        assert_eq!(history(json!({"successfulJobsHistoryLimit": 1})), ["second", "first"]);
        assert_eq!(history(json!({"failedJobsHistoryLimit": 0})), ["failed"]);
        assert_eq!(names(outdated(&object(json!({})), &jobs)), ["third", "failed", "runs"]);
        assert!(outdated(&object(json!({"rollout": {"strategy": "gradual"}})), &jobs).is_empty());
        assert!(
            outdated(
                &object(json!({"rolloutStrategy": "gradual", "rollout": {"strategy": "immediate"}})),
                &jobs
            )
            .is_empty()
        );
    }

    #[test]
    fn the_status_tells_how_the_triggers_are() {
        let said = |poll: &Poll| -> Vec<String> {
            let status = status(ScaledJobStatus::default(), &object(json!({})), poll);
            let word = |c: &PlainCondition| {
                format!("{} {} {}", c.kind, c.status, c.reason.as_deref().unwrap_or("-"))
            };
            status.conditions.iter().map(word).collect()
        };
        let named = |active: &[Option<bool>]| {
            active
                .iter()
                .enumerate()
                .map(|(index, active)| (format!("s{index}"), *active))
                .collect::<Vec<_>>()
        };
        let poll =
            |triggers: &[Option<bool>], active| Poll { triggers: named(triggers), active, ..Poll::default() };
        for (poll, ready, active) in [
            (poll(&[Some(true)], true), "Ready True ScaledJobReady", "Active True ScalerActive"),
            (poll(&[Some(false)], false), "Ready True ScaledJobReady", "Active False ScalerNotActive"),
            (
                poll(&[Some(true), None], true),
                "Ready Unknown PartialTriggerError",
                "Active True ScalerActive",
            ),
            (poll(&[None], false), "Ready False TriggerError", "Active False ScalerNotActive"),
            (
                Poll { problems: Some("x".to_owned()), ..Poll::default() },
                "Ready False ScaledJobCheckFailed",
                "Active Unknown -",
            ),
        ] {
            assert_eq!(said(&poll), [ready, active, "Paused False -"], "{poll:?}");
        }
        let paused = said(&Poll { paused: true, ..Poll::default() });
        assert_eq!(paused, ["Ready True ScaledJobReady", "Active Unknown -", "Paused True ScaledJobPaused"]);
    }
}
