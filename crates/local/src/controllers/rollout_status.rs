//! A Deployment's status: counts, and the conditions that `kubectl rollout status` and `kubectl wait` read.
//!
//! Reasons and messages are those of `pkg/controller/deployment/progress.go` and `sync.go`. Progress is: more updated pods, fewer old
//! ones, more ready or available ones. Without any for `progressDeadlineSeconds`, `Progressing` turns False.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::deployment::{Rollout, replicas};
use super::replica_set::is_failure;
use crate::cluster::Cluster;

/// No deadline: what the API server calls "infinite".
const NO_DEADLINE: i32 = i32::MAX;

/// Writes the status if it changed; answers when the progress deadline has to be looked at.
pub(super) async fn report(
    cluster: &Cluster,
    rollout: &Rollout<'_>,
) -> Result<Option<Duration>, kube::Error> {
    let deployment = &rollout.deployment;
    let now = Timestamp::now();
    let new = status(rollout, now);
    if deployment.status.as_ref() != Some(&new) {
        let mut changed = Deployment::clone(deployment);
        changed.status = Some(new.clone());
        let api: Api<Deployment> =
            Api::namespaced(cluster.client.clone(), &deployment.namespace().unwrap_or_default());
        let answer = api.replace_status(&deployment.name_any(), &PostParams::default(), &changed).await?;
        cluster.deployments.absorb(answer);
    }
    Ok(deadline_in(rollout, &new, now))
}

fn sets<'a>(rollout: &'a Rollout<'_>) -> impl Iterator<Item = &'a ReplicaSet> {
    rollout.old.iter().chain(&rollout.new).map(|set| &**set)
}

fn status(rollout: &Rollout<'_>, now: Timestamp) -> DeploymentStatus {
    let shown = rollout.deployment.status.clone().unwrap_or_default();
    let sum = |count: &dyn Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
        sets(rollout).filter_map(|set| set.status.as_ref()).map(count).sum()
    };
    let total = sum(&|s| s.replicas);
    let available = sum(&|s| s.available_replicas.unwrap_or(0));
    let wanted: i32 = sets(rollout).map(replicas).sum();
    let some = |n: i32| (n > 0).then_some(n);
    let mut status = DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: some(total),
        updated_replicas: some(
            rollout.new.as_ref().and_then(|set| set.status.as_ref()).map_or(0, |s| s.replicas),
        ),
        ready_replicas: some(sum(&|s| s.ready_replicas.unwrap_or(0))),
        available_replicas: some(available),
        unavailable_replicas: some((wanted - available).max(0)),
        collision_count: shown.collision_count,
        conditions: None,
        ..DeploymentStatus::default()
    };
    let mut conditions = shown.conditions.clone().unwrap_or_default();
    set(&mut conditions, availability(rollout, available), now, false);
    if let Some((outcome, progressed)) = progress(rollout, &shown, &status, now) {
        set(&mut conditions, outcome, now, progressed);
    }
    conditions.retain(|c| !is(c, "ReplicaFailure"));
    conditions.extend(replica_failure(rollout, &shown));
    status.conditions = Some(conditions);
    status
}

type Outcome = (&'static str, &'static str, &'static str, String);

fn availability(rollout: &Rollout<'_>, available: i32) -> Outcome {
    if available >= rollout.wishes.available_min() {
        ("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned())
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        ("Available", "False", "MinimumReplicasUnavailable", message)
    }
}

/// The Progressing condition to set, and whether this is progress (a new time); `None` keeps the one that is shown.
fn progress(
    rollout: &Rollout<'_>,
    shown: &DeploymentStatus,
    new: &DeploymentStatus,
    now: Timestamp,
) -> Option<(Outcome, bool)> {
    let before = shown.conditions.iter().flatten().find(|c| is(c, "Progressing"));
    let reason = before.and_then(|c| c.reason.as_deref()).unwrap_or_default();
    let condition = |status, reason, message: String| ("Progressing", status, reason, message);
    if rollout.spec.paused == Some(true) {
        let outcome = condition("Unknown", "DeploymentPaused", "Deployment is paused".to_owned());
        return (reason != "DeploymentPaused").then_some((outcome, true));
    }
    let name = rollout.new.as_ref().map(|set| set.name_any()).unwrap_or_default();
    if is_complete(rollout, new) {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        let outcome = condition("True", "NewReplicaSetAvailable", message.clone());
        let same =
            reason == "NewReplicaSetAvailable" && before.and_then(|c| c.message.as_ref()) == Some(&message);
        return (!same).then_some((outcome, true));
    }
    if reason == "DeploymentPaused" {
        return Some((condition("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned()), true));
    }
    let just_created = before.is_none_or(|c| !c.message.as_ref().is_some_and(|m| m.contains(&name)));
    if just_created && !name.is_empty() {
        let message = format!("Created new replica set \"{name}\"");
        return Some((condition("True", "NewReplicaSetCreated", message), true));
    }
    let count = |n: Option<i32>| n.unwrap_or(0);
    let old = |s: &DeploymentStatus| count(s.replicas) - count(s.updated_replicas);
    let progressed = count(new.updated_replicas) > count(shown.updated_replicas)
        || old(new) < old(shown)
        || count(new.ready_replicas) > count(shown.ready_replicas)
        || count(new.available_replicas) > count(shown.available_replicas);
    if progressed {
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        return Some((condition("True", "ReplicaSetUpdated", message), true));
    }
    // a finished rollout that later loses pods has no deadline to miss
    if reason == "NewReplicaSetAvailable" || !is_late(rollout, before?, now) {
        return None;
    }
    let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
    Some((condition("False", "ProgressDeadlineExceeded", message), false))
}

fn is_complete(rollout: &Rollout<'_>, status: &DeploymentStatus) -> bool {
    let wanted = rollout.wishes.replicas;
    let is = |n: Option<i32>| n.unwrap_or(0) == wanted;
    is(status.updated_replicas) && is(status.replicas) && is(status.available_replicas)
}

fn deadline_at(rollout: &Rollout<'_>, condition: &DeploymentCondition) -> Option<Timestamp> {
    let seconds = rollout.spec.progress_deadline_seconds.filter(|s| *s != NO_DEADLINE)?;
    let since = condition.last_update_time.as_ref().map(|t| t.0).or_else(|| rollout.revision_created_at())?;
    since.checked_add(SignedDuration::from_secs(seconds.into())).ok()
}

fn is_late(rollout: &Rollout<'_>, condition: &DeploymentCondition, now: Timestamp) -> bool {
    deadline_at(rollout, condition).is_some_and(|at| at <= now)
}

fn deadline_in(rollout: &Rollout<'_>, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let condition = status.conditions.iter().flatten().find(|c| is(c, "Progressing"))?;
    let at = deadline_at(rollout, condition).filter(|at| *at > now && !is_complete(rollout, status))?;
    Duration::try_from(at.duration_since(now)).ok()
}

fn replica_failure(rollout: &Rollout<'_>, shown: &DeploymentStatus) -> Option<DeploymentCondition> {
    let failed = sets(rollout)
        .flat_map(|set| set.status.iter().flat_map(|s| s.conditions.iter().flatten()))
        .find(|c| is_failure(c))?;
    let before = shown.conditions.iter().flatten().find(|c| is(c, "ReplicaFailure"));
    Some(DeploymentCondition {
        type_: Some("ReplicaFailure".to_owned()),
        status: failed.status.clone(),
        reason: failed.reason.clone(),
        message: failed.message.clone(),
        last_transition_time: failed.last_transition_time.clone(),
        last_update_time: before
            .and_then(|c| c.last_update_time.clone())
            .or(failed.last_transition_time.clone()),
    })
}

fn is(condition: &DeploymentCondition, kind: &str) -> bool {
    condition.type_.as_deref() == Some(kind)
}

fn set(conditions: &mut Vec<DeploymentCondition>, outcome: Outcome, now: Timestamp, progressed: bool) {
    let (kind, status, reason, message) = outcome;
    let before = conditions.iter().find(|c| is(c, kind));
    if before.is_some_and(|c| c.status.as_deref() == Some(status) && c.reason.as_deref() == Some(reason))
        && !progressed
    {
        return;
    }
    let since =
        before.filter(|c| c.status.as_deref() == Some(status)).and_then(|c| c.last_transition_time.clone());
    let condition = DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: since.or(Some(Time(now))),
        last_update_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|c| is(c, kind)) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}
