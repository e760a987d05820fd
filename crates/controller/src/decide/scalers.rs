//! The autoscaler objects, and what each asks for: ScaledObjects, and HorizontalPodAutoscalers of their own.
//!
//! An object that cannot be planned is kept with its problems, so that its status can tell them; it does not keep
//! others from working. Of two objects with one target the older one has it, as KEDA's webhook would have seen to.
//!
//! An object is planned when it, the template of its workload, or anything that holds credentials has changed, and not
//! in every round: most rounds find the counters of changes where they were, and look no further.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use flyball_api::keda_hpa::keda_hpa;
use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_api::plan::{Plan, plan_hpa, plan_scaled_object, scaled_object_owner};
use flyball_api::problem::{Checked, Problem};
use flyball_api::trigger::Trigger;
use flyball_engine::{Rules, TargetId, ZeroRule};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::gather::cluster::Cluster;
use crate::gather::source::credentials;
use crate::gather::workload::{self, WorkloadRef};

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

    fn metadata(&self) -> &ObjectMeta {
        match self {
            Owner::ScaledObject(object) => &object.metadata,
            Owner::Autoscaler(object) => &object.metadata,
        }
    }

    fn created(&self) -> Option<jiff::Timestamp> {
        self.metadata().creation_timestamp.as_ref().map(|time| time.0)
    }

    /// Whether it is the very same object.
    fn is_same(&self, other: &Owner) -> bool {
        match (self, other) {
            (Owner::ScaledObject(own), Owner::ScaledObject(other)) => Arc::ptr_eq(own, other),
            (Owner::Autoscaler(own), Owner::Autoscaler(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }

    /// Whether it asks for the same as another state of it: nothing but the status is different.
    fn asks_as(&self, other: &Owner) -> bool {
        let (own, other) = (self.metadata(), other.metadata());
        own.uid == other.uid
            && own.generation.is_some()
            && own.generation == other.generation
            && own.annotations == other.annotations
            && own.labels == other.labels
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

impl Scaler {
    /// The same for another state of its object.
    fn owned_by(&self, owner: Owner) -> Scaler {
        Scaler { owner, ..self.clone() }
    }
}

/// An autoscaler object that was not, and why.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) owner: Owner,
    pub(crate) problems: Vec<Problem>,
}

impl Broken {
    /// Whether it says the same of the same object, but for the object's status.
    pub(crate) fn is_same(&self, other: &Broken) -> bool {
        self.owner.asks_as(&other.owner) && self.problems == other.problems
    }
}

/// Every autoscaler object.
#[derive(Debug, Default)]
pub(crate) struct Scalers {
    pub(crate) by_target: BTreeMap<TargetId, Arc<Scaler>>,
    pub(crate) broken: Vec<Broken>,
    planned: HashMap<OwnerKey, Planned>,
    seen: Option<SourceVersions>,
}

/// The counters of changes at the last look.
#[derive(Clone, Copy, Debug, PartialEq)]
struct SourceVersions {
    scalers: u64,
    workloads: u64,
    credentials: u64,
}

/// What came of an object, and what that rests on.
#[derive(Debug)]
struct Planned {
    owner: Owner,
    template: Option<TemplateVersion>,
    outcome: Checked<Arc<Scaler>>,
}

/// Which workload it is whose template was read, and its generation.
type TemplateVersion = (Option<String>, Option<i64>);

/// What is different from the last look.
#[derive(Debug, Default)]
pub(crate) struct ScalerChanges {
    /// Targets that nothing scales any more.
    pub(crate) gone: Vec<TargetId>,
    /// Targets that nothing scaled before.
    pub(crate) added: Vec<Arc<Scaler>>,
    /// Targets that are scaled by another policy.
    pub(crate) changed: Vec<Arc<Scaler>>,
}

impl Scalers {
    /// Reads the objects that have changed; nothing if none has.
    pub(crate) fn update(&mut self, cluster: &Cluster) -> Option<ScalerChanges> {
        let revisions = &cluster.revisions;
        let now = SourceVersions {
            scalers: revisions.scalers.now(),
            workloads: revisions.workloads.now(),
            credentials: revisions.credentials.now(),
        };
        let before = self.seen.replace(now);
        let same_workloads = before.is_some_and(|before| before.workloads == now.workloads);
        let same_credentials = before.is_some_and(|before| before.credentials == now.credentials);
        let is_stale = |one: &Planned| one.template != template_version(cluster, &one.owner);
        let unchanged = before.is_some_and(|before| before.scalers == now.scalers)
            && (same_workloads || !self.planned.values().any(is_stale));
        if unchanged {
            return None;
        }
        let mut planned = std::mem::take(&mut self.planned);
        let old = std::mem::take(&mut self.by_target);
        self.broken.clear();
        for owner in owners(cluster) {
            let known = planned.remove(&owner.key()).filter(|_| same_credentials);
            self.take(cluster, owner, known);
        }
        Some(self.news_since(&old))
    }

    /// Takes in one object, of which something may be known.
    fn take(&mut self, cluster: &Cluster, owner: Owner, known: Option<Planned>) {
        let template = template_version(cluster, &owner);
        let known = known.filter(|known| known.template == template && known.owner.asks_as(&owner));
        let outcome = match known {
            Some(known) if known.owner.is_same(&owner) => known.outcome,
            Some(known) => known.outcome.map(|same| Arc::new(same.owned_by(owner.clone()))),
            None => scaler(&owner, &|object| triggers(cluster, object)).map(Arc::new),
        };
        let target = owner.target();
        match (&outcome, self.by_target.get(&target)) {
            (_, Some(first)) => {
                let problems = vec![taken(&owner, &target, &first.owner)];
                self.broken.push(Broken { owner: owner.clone(), problems });
            }
            (Ok(scaler), None) => drop(self.by_target.insert(target, Arc::clone(scaler))),
            (Err(problems), None) => {
                self.broken.push(Broken { owner: owner.clone(), problems: problems.clone() });
            }
        }
        self.planned.insert(owner.key(), Planned { owner, template, outcome });
    }

    fn news_since(&self, old: &BTreeMap<TargetId, Arc<Scaler>>) -> ScalerChanges {
        let mut news = ScalerChanges::default();
        news.gone.extend(old.keys().filter(|target| !self.by_target.contains_key(target)).cloned());
        for (target, scaler) in &self.by_target {
            match old.get(target) {
                None => news.added.push(Arc::clone(scaler)),
                Some(known) if Arc::ptr_eq(known, scaler) => {}
                Some(known) if known.plan.policy == scaler.plan.policy => {}
                Some(_) => news.changed.push(Arc::clone(scaler)),
            }
        }
        news
    }
}

/// Every object that is watched and stays, the oldest first.
fn owners(cluster: &Cluster) -> Vec<Owner> {
    let objects = cluster.scaled_objects.state();
    let names = |object: &ScaledObject| (object.namespace(), object.hpa_name());
    let taken_over: BTreeSet<_> =
        objects.iter().filter(|object| object.transfers_hpa()).map(|object| names(object)).collect();
    // A ScaledObject overwrites the HorizontalPodAutoscaler that it takes over.
    let is_plain = |hpa: &Arc<HorizontalPodAutoscaler>| {
        scaled_object_owner(hpa).is_none() && !taken_over.contains(&(hpa.namespace(), hpa.name_any()))
    };
    let plain = cluster.autoscalers.state().into_iter().filter(is_plain);
    let mut owners: Vec<Owner> = objects.into_iter().map(Owner::ScaledObject).collect();
    owners.extend(plain.map(Owner::Autoscaler));
    owners.retain(|owner| owner.metadata().deletion_timestamp.is_none());
    owners.sort_by_cached_key(|owner| (owner.created(), owner.key()));
    owners
}

/// What a change of the workload's template shows in; only a ScaledObject's triggers are read with it.
fn template_version(cluster: &Cluster, owner: &Owner) -> Option<TemplateVersion> {
    let Owner::ScaledObject(object) = owner else { return None };
    let reference = WorkloadRef::of_scaled_object(object);
    let version = |metadata: &ObjectMeta| (metadata.uid.clone(), metadata.generation);
    match (reference.api_version.as_str(), reference.kind.as_str()) {
        ("apps/v1", "Deployment") => {
            let found =
                cluster.deployments.get(&ObjectRef::new(&reference.name).within(&reference.namespace));
            found.map(|found| version(&found.metadata))
        }
        ("apps/v1", "StatefulSet") => {
            let found =
                cluster.stateful_sets.get(&ObjectRef::new(&reference.name).within(&reference.namespace));
            found.map(|found| version(&found.metadata))
        }
        _ => None,
    }
}

/// Zero replicas set by hand switch a HorizontalPodAutoscaler off, as on a cluster.
fn hpa_rules() -> Rules {
    Rules { zero: ZeroRule::Hpa { scale_to_zero: true }, ..Rules::default() }
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
    let plan = plan_scaled_object(object, &triggers, Rules::default())?;
    let autoscaler = keda_hpa(object, &triggers)?;
    Ok((plan, triggers, autoscaler))
}
