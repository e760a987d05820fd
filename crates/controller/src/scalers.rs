//! The autoscaler objects, and what each asks for: ScaledObjects, and HorizontalPodAutoscalers of their own.
//!
//! An object that cannot be planned is kept with its problems, so that its status can tell them; it does not keep
//! others from working. Of two objects with one target the older one has it, as KEDA's webhook would have seen to.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_api::keda_hpa::{AskedMetrics, keda_hpa};
use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_api::plan::{Plan, plan_hpa, plan_scaled_object, scaled_object_owner};
use flyball_api::problem::{Checked, Problem};
use flyball_api::trigger::Trigger;
use flyball_engine::{Rules, TargetId, ZeroRule};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt;

use crate::cluster::Cluster;
use crate::source::credentials;
use crate::workload::{self, WorkloadRef};

/// What asks for a target to be scaled.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    ScaledObject(Arc<ScaledObject>),
    Autoscaler(Arc<HorizontalPodAutoscaler>),
}

impl Owner {
    /// Kind, namespace and name: what makes it the same one from one look to the next.
    pub(crate) fn key(&self) -> OwnerKey {
        match self {
            Owner::ScaledObject(object) => key("ScaledObject", &**object),
            Owner::Autoscaler(object) => key("HorizontalPodAutoscaler", &**object),
        }
    }

    pub(crate) fn workload(&self) -> WorkloadRef {
        match self {
            Owner::ScaledObject(object) => WorkloadRef::of_scaled_object(object),
            Owner::Autoscaler(object) => WorkloadRef::of_autoscaler(object),
        }
    }

    pub(crate) fn target(&self) -> TargetId {
        let workload = self.workload();
        TargetId::new(workload.kind, workload.namespace, workload.name)
    }

    fn created(&self) -> Option<jiff::Timestamp> {
        match self {
            Owner::ScaledObject(object) => object.creation_timestamp(),
            Owner::Autoscaler(object) => object.creation_timestamp(),
        }
        .map(|time| time.0)
    }
}

/// See [`Owner::key`].
pub(crate) type OwnerKey = (&'static str, String, String);

fn key(kind: &'static str, object: &impl ResourceExt) -> OwnerKey {
    (kind, object.namespace().unwrap_or_default(), object.name_any())
}

/// An autoscaler object that was understood.
#[derive(Clone, Debug)]
pub(crate) struct Scaler {
    pub(crate) owner: Owner,
    pub(crate) workload: WorkloadRef,
    pub(crate) plan: Plan,
    /// Of a ScaledObject.
    pub(crate) triggers: Vec<Trigger>,
    /// As KEDA would make it of a ScaledObject; else the object itself.
    pub(crate) autoscaler: HorizontalPodAutoscaler,
}

/// An autoscaler object that was not, and why.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) owner: Owner,
    pub(crate) problems: Vec<Problem>,
}

/// Every autoscaler object.
#[derive(Debug, Default)]
pub(crate) struct Scalers {
    pub(crate) by_target: BTreeMap<TargetId, Scaler>,
    pub(crate) broken: Vec<Broken>,
}

/// Reads every autoscaler object that is watched.
pub(crate) fn read(cluster: &Cluster) -> Scalers {
    let mut owners: Vec<Owner> =
        cluster.scaled_objects.state().into_iter().map(Owner::ScaledObject).collect();
    let mut plain = cluster.autoscalers.state();
    plain.retain(|hpa| {
        scaled_object_owner(hpa).is_none() && !owners.iter().any(|owner| takes_over(owner, hpa))
    });
    owners.extend(plain.into_iter().map(Owner::Autoscaler));
    owners.retain(|owner| !is_going(owner));
    owners.sort_by_key(|owner| (owner.created(), owner.key()));
    let mut scalers = Scalers::default();
    for owner in owners {
        let target = owner.target();
        if let Some(first) = scalers.by_target.get(&target) {
            let problems = vec![taken(&owner, &target, &first.owner)];
            scalers.broken.push(Broken { owner, problems });
            continue;
        }
        match scaler(&owner, &|object| triggers(cluster, object)) {
            Ok(scaler) => drop(scalers.by_target.insert(target, scaler)),
            Err(problems) => scalers.broken.push(Broken { owner, problems }),
        }
    }
    scalers
}

/// Whether a ScaledObject makes this HorizontalPodAutoscaler its own, which it then overwrites.
fn takes_over(owner: &Owner, hpa: &HorizontalPodAutoscaler) -> bool {
    let Owner::ScaledObject(object) = owner else { return false };
    object.namespace() == hpa.namespace() && object.transfers_hpa() && object.hpa_name() == hpa.name_any()
}

/// Zero replicas set by hand switch a HorizontalPodAutoscaler off, as on a cluster.
fn hpa_rules() -> Rules {
    Rules { zero: ZeroRule::Hpa { scale_to_zero: true }, ..Rules::default() }
}

fn is_going(owner: &Owner) -> bool {
    match owner {
        Owner::ScaledObject(object) => object.metadata.deletion_timestamp.is_some(),
        Owner::Autoscaler(object) => object.metadata.deletion_timestamp.is_some(),
    }
}

fn taken(owner: &Owner, target: &TargetId, first: &Owner) -> Problem {
    let (kind, _, name) = first.key();
    let field = if matches!(owner, Owner::ScaledObject(_)) {
        "spec.scaleTargetRef.name"
    } else {
        "spec.scaleTargetRef"
    };
    let message = format!("the workload '{}' is already managed by the {kind} '{name}'", target.name);
    Problem::invalid(field, target.name.as_str(), message).help(format!(
        "delete one of the two, or name another target; `kubectl delete {} {name}` removes the other",
        kind.to_lowercase()
    ))
}

pub(crate) fn scaler(
    owner: &Owner,
    triggers: &dyn Fn(&ScaledObject) -> Checked<Vec<Trigger>>,
) -> Checked<Scaler> {
    let (plan, triggers, autoscaler) = match owner {
        Owner::Autoscaler(object) => (plan_hpa(object, hpa_rules())?, Vec::new(), (**object).clone()),
        Owner::ScaledObject(object) => scaled_object(object, triggers(object)?)?,
    };
    Ok(Scaler { owner: owner.clone(), workload: owner.workload(), plan, triggers, autoscaler })
}

/// The triggers of a ScaledObject, with their credentials and the environment of its workload.
fn triggers(cluster: &Cluster, object: &ScaledObject) -> Checked<Vec<Trigger>> {
    let namespace = object.namespace().unwrap_or_default();
    let template = workload::template(cluster, &WorkloadRef::of_scaled_object(object));
    let container = object.spec.scale_target_ref.env_source_container_name.as_deref();
    credentials::triggers(cluster, &namespace, &object.spec.triggers, template.as_ref(), container)
}

fn scaled_object(
    object: &ScaledObject,
    triggers: Vec<Trigger>,
) -> Checked<(Plan, Vec<Trigger>, HorizontalPodAutoscaler)> {
    let asked = AskedMetrics::new();
    let plan = plan_scaled_object(object, &triggers, &asked, Rules::default())?;
    let autoscaler = keda_hpa(object, &triggers, &asked)?;
    Ok((plan, triggers, autoscaler))
}
