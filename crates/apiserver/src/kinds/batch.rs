//! Jobs and CronJobs (`pkg/apis/batch`).

use jiff::Timestamp;
use k8s_openapi::api::batch::v1;
use serde_json::{Value, json};

use super::pod::{self, template_defaults};
use super::row::{Row, Sub, namespaced};
use super::workloads::template;
use crate::cells::{
    AGE, NAME, age, column, containers, number, or_none, selector, since, status_count, wide,
};
use crate::duration;
use crate::object::{at, copy, default, ensure, integer, list, name, set, text};
use crate::problems::Problems;

const BATCH: [&str; 2] = ["batch", "v1"];

pub(crate) const JOB: Row = Row {
    in_all: true,
    subresources: &[Sub::Status],
    columns: const {
        &[
            NAME,
            column("Status"),
            column("Completions"),
            column("Duration"),
            AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ]
    },
    cells: job,
    field_selectors: &["status.successful"],
    defaults: |object| job_defaults(ensure(object, "spec")),
    on_create: |object, _| {
        object["status"] = json!({});
        select_own_pods(object);
    },
    on_update: |current, object, _| {
        for path in ["spec.selector", "spec.manualSelector"] {
            if at(object, path).is_none() {
                copy(current, object, path);
            }
        }
    },
    validate: |object, problems| validate_job(&object["spec"], "spec", problems),
    validate_update: |current, object, _, problems| {
        for path in ["spec.selector", "spec.completionMode"] {
            problems.immutable(current, object, path);
        }
        if at(object, "spec.suspend") != Some(&Value::Bool(true)) {
            problems.immutable(current, object, "spec.template");
        }
    },
    ..namespaced::<v1::Job>(BATCH, "Job", "jobs")
};

pub(crate) const CRON_JOB: Row = Row {
    short_names: &["cj"],
    in_all: true,
    subresources: &[Sub::Status],
    columns: const {
        &[
            NAME,
            column("Schedule"),
            column("Timezone"),
            column("Suspend"),
            number("Active"),
            column("Last Schedule"),
            AGE,
        ]
    },
    cells: cron_job,
    defaults: cron_job_defaults,
    on_create: |object, _| object["status"] = json!({}),
    validate: |object, problems| validate_cron_job(&object["spec"], problems),
    ..namespaced::<v1::CronJob>(BATCH, "CronJob", "cronjobs")
};

fn job_defaults(spec: &mut Value) {
    if at(spec, "completions").is_none() && at(spec, "parallelism").is_none() {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "podReplacementPolicy", "TerminatingOrFailed");
    default(spec, "manualSelector", false);
    template_defaults(spec);
}

fn cron_job_defaults(object: &mut Value) {
    let spec = ensure(object, "spec");
    default(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    if let Some(template) = spec.get_mut("jobTemplate") {
        let job = ensure(template, "spec");
        if let Some(pods) = job.get_mut("template") {
            pod::defaults::spec(ensure(pods, "spec"));
        }
    }
}

/// Makes a Job select its pods by its uid, unless `manualSelector` is set.
fn select_own_pods(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    let metadata = ensure(ensure(ensure(job, "spec"), "template"), "metadata");
    let labels = ensure(metadata, "labels");
    for prefix in ["batch.kubernetes.io/", ""] {
        labels[format!("{prefix}controller-uid")] = uid.clone();
        labels[format!("{prefix}job-name")] = name.clone();
    }
    set(job, "spec.selector", json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
}

fn validate_job(spec: &Value, path: &str, problems: &mut Problems) {
    for key in
        ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"]
    {
        problems.not_negative(spec, path, key);
    }
    problems.one_of(spec, path, "completionMode", &["Indexed", "NonIndexed"]);
    template(spec, path, &["OnFailure", "Never"], problems);
}

fn validate_cron_job(spec: &Value, problems: &mut Problems) {
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        problems.required("spec.schedule", "");
    } else if !schedule.starts_with('@') && schedule.split_whitespace().count() != 5 {
        let count = schedule.split_whitespace().count();
        problems.invalid(
            "spec.schedule",
            &schedule.into(),
            format!("expected exactly 5 fields, found {count}: [{schedule}]"),
        );
    }
    problems.one_of(spec, "spec", "concurrencyPolicy", &["Allow", "Forbid", "Replace"]);
    validate_job(at(spec, "jobTemplate.spec").unwrap_or(&Value::Null), "spec.jobTemplate.spec", problems);
}

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object);
    let succeeded = status_count(object, "succeeded");
    let completions =
        match (integer(object, "spec.completions"), integer(object, "spec.parallelism").unwrap_or(0)) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
            (None, _) => format!("{succeeded}/1"),
        };
    let is = |kind: &str| {
        list(object, "status.conditions")
            .iter()
            .any(|one| text(one, "type") == kind && text(one, "status") == "True")
    };
    let status = match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if at(object, "metadata.deletionTimestamp").is_some() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    let start = text(object, "status.startTime").parse::<Timestamp>().ok();
    let end = text(object, "status.completionTime").parse::<Timestamp>().unwrap_or(now);
    let took = start.map_or_else(String::new, |start| duration::human(end.duration_since(start)));
    vec![
        name(object).into(),
        status.into(),
        completions.into(),
        took.into(),
        age(object, now),
        names,
        images,
        selector(object),
    ]
}

fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let last = text(object, "status.lastScheduleTime");
    let last = if last.is_empty() { "<none>".to_owned() } else { since(last, now) };
    let suspend = if object["spec"]["suspend"] == true { "True" } else { "False" };
    vec![
        name(object).into(),
        text(object, "spec.schedule").into(),
        or_none(text(object, "spec.timeZone").into()),
        suspend.into(),
        list(object, "status.active").len().into(),
        last.into(),
        age(object, now),
    ]
}
