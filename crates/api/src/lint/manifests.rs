//! The objects that are looked at together, each with where it came from.

use std::collections::BTreeMap;
use std::ops::Deref;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Container, LimitRange, PodTemplateSpec, Service};
use kube::{Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kinds::monitor::{PodMonitor, ServiceMonitor};
use crate::kinds::scaled_job::ScaledJob;
use crate::kinds::scaled_object::{ScaleTrigger, ScaledObject};
use crate::kinds::scrape_config::ScrapeConfig;
use crate::kinds::vertical_pod_autoscaler::VerticalPodAutoscaler;
use crate::problem::Checked;
use crate::read::read;

/// Where `kubectl apply` keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Where an object came from, and what it is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The number of its document, as whoever read it counts.
    pub document: usize,
    /// The object, as `kind/name`.
    pub object: String,
    /// Its namespace; `default` where it names none, as with `kubectl apply`.
    pub namespace: String,
}

impl Origin {
    /// The origin of any object; of anything else, only the document.
    pub fn of(document: usize, object: &Value) -> Origin {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let namespace = Some(text("/metadata/namespace")).filter(|text| !text.is_empty());
        Origin {
            document,
            object: format!("{}/{}", text("/kind").to_lowercase(), text("/metadata/name")),
            namespace: namespace.unwrap_or("default").to_owned(),
        }
    }

    /// The name of the object.
    pub fn name(&self) -> &str {
        self.object.split_once('/').map_or("", |(_, name)| name)
    }
}

/// An object, and where it came from.
#[derive(Clone, Debug)]
pub struct Sourced<K> {
    /// Where it came from.
    pub origin: Origin,
    /// The object.
    pub object: K,
}

impl<K> Deref for Sourced<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.object
    }
}

/// A workload with pods: a Deployment, StatefulSet, ReplicaSet, or any other kind with a pod template.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The kind.
    pub kind: String,
    /// How many pods it asks for, if it says so.
    pub replicas: Option<i32>,
    /// How many its manifest asks for, and not only a default of the API server or whoever scales it.
    pub written_replicas: Option<i32>,
    /// What its pods look like.
    pub template: PodTemplateSpec,
}

impl Workload {
    /// The containers of its pods, with their paths.
    pub(super) fn containers(&self) -> impl Iterator<Item = (String, &Container)> {
        let containers = self.template.spec.iter().flat_map(|pod| pod.containers.iter().enumerate());
        containers.map(|(index, container)| (format!("spec.template.spec.containers[{index}]"), container))
    }
}

#[derive(Deserialize)]
struct AnyWorkload {
    spec: WorkloadSpec,
}

#[derive(Deserialize)]
struct WorkloadSpec {
    replicas: Option<i32>,
    template: PodTemplateSpec,
}

/// The objects that are looked at together, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// What is scaled by metrics.
    pub scaled_objects: Vec<Sourced<ScaledObject>>,
    /// What starts Jobs by metrics.
    pub scaled_jobs: Vec<Sourced<ScaledJob>>,
    /// What is scaled by HorizontalPodAutoscalers of their own, not by KEDA's.
    pub hpas: Vec<Sourced<HorizontalPodAutoscaler>>,
    /// What is sized.
    pub vpas: Vec<Sourced<VerticalPodAutoscaler>>,
    /// The workloads.
    pub workloads: Vec<Sourced<Workload>>,
    /// How the workloads are reached.
    pub services: Vec<Sourced<Service>>,
    /// What is scraped by Service.
    pub service_monitors: Vec<Sourced<ServiceMonitor>>,
    /// What is scraped by pod.
    pub pod_monitors: Vec<Sourced<PodMonitor>>,
    /// What is scraped by address.
    pub scrape_configs: Vec<Sourced<ScrapeConfig>>,
    /// The labels of pods that are no workload's: those of Jobs, and those alone.
    pub other_pods: Vec<Sourced<BTreeMap<String, String>>>,
    /// What containers get that ask for nothing.
    pub limit_ranges: Vec<Sourced<LimitRange>>,
}

impl Manifests {
    /// Takes in an object of a running world, where fields may have been filled in by others than its manifest.
    ///
    /// # Errors
    /// If a field has a wrong type or is missing.
    pub fn add_live(&mut self, document: usize, object: &Value) -> Checked<()> {
        let workloads = self.workloads.len();
        self.add(document, object)?;
        if let Some(workload) = self.workloads.get_mut(workloads) {
            workload.object.written_replicas =
                applied(object, "replicas").and_then(|replicas| replicas.try_into().ok());
        }
        Ok(())
    }

    /// Takes in an object; one of a kind without rules is left out.
    ///
    /// # Errors
    /// If a field has a wrong type or is missing.
    pub fn add(&mut self, document: usize, object: &Value) -> Checked<()> {
        let origin = Origin::of(document, object);
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
        match (group, text("kind")) {
            ("keda.sh", "ScaledObject") => push(&mut self.scaled_objects, origin, object),
            ("keda.sh", "ScaledJob") => {
                self.add_pods(origin.clone(), object.pointer("/spec/jobTargetRef/template/metadata/labels"))?;
                push(&mut self.scaled_jobs, origin, object)
            }
            ("autoscaling", "HorizontalPodAutoscaler") => self.add_hpa(origin, object),
            ("autoscaling.k8s.io", "VerticalPodAutoscaler") => push(&mut self.vpas, origin, object),
            ("monitoring.coreos.com", "ServiceMonitor") => push(&mut self.service_monitors, origin, object),
            ("monitoring.coreos.com", "PodMonitor") => push(&mut self.pod_monitors, origin, object),
            ("monitoring.coreos.com", "ScrapeConfig") => push(&mut self.scrape_configs, origin, object),
            ("", "Service") => push(&mut self.services, origin, object),
            ("", "LimitRange") => push(&mut self.limit_ranges, origin, object),
            ("", "Pod") => self.add_pods(origin, object.pointer("/metadata/labels")),
            ("batch", "CronJob") => {
                self.add_pods(origin, object.pointer("/spec/jobTemplate/spec/template/metadata/labels"))
            }
            ("batch", _) => self.add_pods(origin, object.pointer("/spec/template/metadata/labels")),
            (_, kind) if object.pointer("/spec/template/spec/containers").is_some() => {
                let AnyWorkload { spec: WorkloadSpec { replicas, template } } = read(object)?;
                let written_replicas = replicas;
                let object = Workload { kind: kind.to_owned(), replicas, written_replicas, template };
                self.workloads.push(Sourced { origin, object });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Pods with these labels; what is no text among them is the API server's to refuse.
    fn add_pods(&mut self, origin: Origin, labels: Option<&Value>) -> Checked<()> {
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        self.other_pods.push(Sourced { origin, object: labels.filter_map(text).collect() });
        Ok(())
    }

    /// Only v2 says what it scales by; KEDA's own belong to their ScaledObjects.
    fn add_hpa(&mut self, origin: Origin, object: &Value) -> Checked<()> {
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let owned = owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "ScaledObject"));
        if owned || object["apiVersion"] != "autoscaling/v2" {
            return Ok(());
        }
        push(&mut self.hpas, origin, object)
    }

    /// The workload of a kind and name in a namespace.
    pub(super) fn workload(&self, kind: &str, name: &str, namespace: &str) -> Option<&Sourced<Workload>> {
        self.workloads.iter().find(|workload| {
            workload.kind == kind && workload.origin.name() == name && workload.origin.namespace == namespace
        })
    }

    /// The workload that a ScaledObject scales.
    pub(super) fn target(&self, object: &Sourced<ScaledObject>) -> Option<&Sourced<Workload>> {
        let reference = &object.spec.scale_target_ref;
        self.workload(reference.kind_or_default(), &reference.name, &object.origin.namespace)
    }

    /// Every trigger of KEDA's, with its path and the object that has it.
    pub(super) fn triggers(&self) -> impl Iterator<Item = (&Origin, String, &ScaleTrigger)> {
        let objects = self.scaled_objects.iter().map(|object| (&object.origin, &object.spec.triggers));
        let jobs = self.scaled_jobs.iter().map(|job| (&job.origin, &job.spec.triggers));
        objects.chain(jobs).flat_map(|(origin, triggers)| {
            let paths = (0..triggers.len()).map(|index| format!("spec.triggers[{index}]"));
            paths.zip(triggers).map(move |(path, trigger)| (origin, path, trigger))
        })
    }
}

/// A number of `spec` that a manifest has applied: what `kubectl apply` keeps of the last one, or what is there where a
/// manager has applied it at the server. Other managers own a field too when the server filled in its default.
fn applied(object: &Value, field: &str) -> Option<i64> {
    let last = object.pointer("/metadata/annotations").and_then(|all| all[LAST_APPLIED].as_str());
    let last: Option<Value> = last.and_then(|text| serde_json::from_str(text).ok());
    let by_client = last.and_then(|manifest| manifest["spec"][field].as_i64());
    let managers = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut managers = managers.into_iter().flatten();
    let at_server = managers.any(|manager| {
        manager["operation"] == "Apply"
            && manager["subresource"].is_null()
            && !manager["fieldsV1"]["f:spec"][format!("f:{field}")].is_null()
    });
    by_client.or_else(|| object["spec"][field].as_i64().filter(|_| at_server))
}

fn push<K>(list: &mut Vec<Sourced<K>>, origin: Origin, object: &Value) -> Checked<()>
where
    K: DeserializeOwned + Resource<DynamicType = ()> + ResourceExt,
{
    list.push(Sourced { origin, object: read(object)? });
    Ok(())
}
