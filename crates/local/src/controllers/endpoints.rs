//! Endpoints and EndpointSlices: which pods answer for a Service that has a selector.
//!
//! One slice a Service: a node has at most 110 pods and a slice holds 1000. The rules are `pkg/controller/endpointslice`'s: a pod
//! with an address that has not ended is an endpoint; `ready` unless it is going; `serving` as long as it is ready; `terminating`
//! once it is going. The older Endpoints object says the same for tools that still read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort as OldPort, EndpointSubset, Endpoints, Pod, Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use tokio::task::JoinSet;

use super::pods::{is_finished, is_ready};
use crate::cluster::{Cluster, Key, Queue, owned_by, reference, work};
use crate::hash::{fnv1a, safe};

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.kubernetes.io";

pub(super) fn start(cluster: &Cluster, tasks: &mut JoinSet<()>) {
    let queue = Arc::new(Queue::default());
    let services = Arc::clone(&queue);
    cluster.services.on_change(move |old, new| {
        old.into_iter().chain(new).for_each(|service| services.add(Key::of(&**service)));
    });
    let (owners, services) = (Arc::clone(&queue), cluster.services.clone());
    cluster.pods.on_change(move |old, new| {
        let namespace = old.or(new).and_then(|pod| pod.namespace()).unwrap_or_default();
        for service in services.in_namespace(&namespace) {
            if old.into_iter().chain(new).any(|pod| selects(&service, pod)) {
                owners.add(Key::of(&*service));
            }
        }
    });
    let slices = Arc::clone(&queue);
    cluster.slices.on_change(move |_, new| {
        new.and_then(|slice| service_of(slice)).into_iter().for_each(|k| slices.add(k))
    });
    let cluster = cluster.clone();
    tasks.spawn(work("endpoints", queue, move |key| reconcile(cluster.clone(), key)));
}

/// The Service a slice belongs to.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.labels().get(SERVICE_NAME)?.clone();
    Some(Key { namespace: slice.namespace().unwrap_or_default(), name })
}

fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    service.spec.as_ref()?.selector.as_ref().filter(|selector| !selector.is_empty())
}

fn selects(service: &Service, pod: &Pod) -> bool {
    selector(service).is_some_and(|s| s.iter().all(|(key, value)| pod.labels().get(key) == Some(value)))
}

async fn reconcile(cluster: Cluster, key: Key) -> Result<Option<Duration>, kube::Error> {
    let old_api: Api<Endpoints> = Api::namespaced(cluster.client.clone(), &key.namespace);
    let Some(service) = cluster.services.get(&key) else {
        // the slice goes with its owner, but Endpoints have none
        match old_api.delete(&key.name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
        return Ok(None);
    };
    if selector(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let pods: Vec<Arc<Pod>> = cluster
        .pods
        .in_namespace(&key.namespace)
        .into_iter()
        .filter(|pod| selects(&service, pod) && !is_finished(pod) && ip(pod).is_some())
        .collect();
    write_slice(&cluster, &key, slice(&service, &pods)).await?;
    write_endpoints(&old_api, endpoints(&service, &pods)).await?;
    Ok(None)
}

async fn write_slice(cluster: &Cluster, key: &Key, wanted: EndpointSlice) -> Result<(), kube::Error> {
    let api: Api<EndpointSlice> = Api::namespaced(cluster.client.clone(), &key.namespace);
    let name = wanted.name_any();
    let shown = cluster.slices.get(&Key { namespace: key.namespace.clone(), name: name.clone() });
    let answer = match shown {
        Some(shown) if shown.endpoints == wanted.endpoints && shown.ports == wanted.ports => return Ok(()),
        Some(shown) => {
            let changed = EndpointSlice {
                endpoints: wanted.endpoints,
                ports: wanted.ports,
                ..EndpointSlice::clone(&shown)
            };
            api.replace(&name, &PostParams::default(), &changed).await?
        }
        None => api.create(&PostParams::default(), &wanted).await?,
    };
    cluster.slices.absorb(answer);
    Ok(())
}

async fn write_endpoints(api: &Api<Endpoints>, wanted: Endpoints) -> Result<(), kube::Error> {
    match api.get_opt(&wanted.name_any()).await? {
        Some(shown) if shown.subsets == wanted.subsets => Ok(()),
        Some(shown) => {
            let changed = Endpoints { subsets: wanted.subsets, ..shown };
            api.replace(&changed.name_any(), &PostParams::default(), &changed).await.map(drop)
        }
        None => api.create(&PostParams::default(), &wanted).await.map(drop),
    }
}

fn ip(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty())
}

/// A Service port's target on the pods: a number, or the port of that name in the first pod that has it.
fn target(port: &ServicePort, pods: &[Arc<Pod>]) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let containers = pods.iter().flat_map(|pod| pod.spec.iter().flat_map(|s| &s.containers));
            let mut ports = containers.flat_map(|c| c.ports.iter().flatten());
            ports.find(|p| p.name.as_ref() == Some(name)).map(|p| p.container_port)
        }
    }
}

fn metadata(service: &Service, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: service.namespace(),
        labels: Some(service.labels().clone()),
        ..ObjectMeta::default()
    }
}

fn slice(service: &Service, pods: &[Arc<Pod>]) -> EndpointSlice {
    let name = service.name_any();
    let mut metadata = metadata(service, format!("{name}-{}", &safe(fnv1a(name.as_bytes()))[..5]));
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    metadata.owner_references = Some(owned_by(service));
    let spec = service.spec.as_ref();
    let unready_too = spec.and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let endpoints = pods.iter().map(|pod| {
        let terminating = pod.metadata.deletion_timestamp.is_some();
        let serving = is_ready(pod) || unready_too;
        Endpoint {
            addresses: ip(pod).into_iter().collect(),
            conditions: Some(EndpointConditions {
                ready: Some(serving && (!terminating || unready_too)),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
            target_ref: Some(k8s_openapi::api::core::v1::ObjectReference {
                api_version: None,
                resource_version: None,
                ..reference(&**pod)
            }),
            ..Endpoint::default()
        }
    });
    let ports = spec.iter().flat_map(|s| s.ports.iter().flatten()).filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target(port, pods)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    EndpointSlice {
        metadata,
        address_type: "IPv4".to_owned(),
        endpoints: Some(endpoints.collect()),
        ports: Some(ports.collect()),
    }
}

fn endpoints(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
    let unready_too = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let address = |pod: &Arc<Pod>| EndpointAddress {
        ip: ip(pod).unwrap_or_default(),
        node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        target_ref: Some(k8s_openapi::api::core::v1::ObjectReference {
            api_version: None,
            resource_version: None,
            ..reference(&**pod)
        }),
        hostname: None,
    };
    let staying = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let (ready, unready): (Vec<_>, Vec<_>) = staying.partition(|pod| unready_too || is_ready(pod));
    let some = |list: Vec<EndpointAddress>| (!list.is_empty()).then_some(list);
    let ports: Vec<OldPort> = service
        .spec
        .iter()
        .flat_map(|s| s.ports.iter().flatten())
        .filter_map(|port| {
            Some(OldPort {
                name: port.name.clone(),
                port: target(port, pods)?,
                protocol: port.protocol.clone(),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    let subset = EndpointSubset {
        addresses: some(ready.into_iter().map(address).collect()),
        not_ready_addresses: some(unready.into_iter().map(address).collect()),
        ports: Some(ports),
    };
    let empty = subset.addresses.is_none() && subset.not_ready_addresses.is_none();
    Endpoints { metadata: metadata(service, service.name_any()), subsets: (!empty).then(|| vec![subset]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, ready: &str, more: Value) -> Arc<Pod> {
        let mut pod = json!({"metadata": {"name": name, "namespace": "ns"},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8000}]}]},
            "status": {"podIP": format!("127.64.0.{}", name.len()), "conditions": [{"type": "Ready", "status": ready}]}});
        json_patch::merge(&mut pod, &more);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn endpoints_say_ready_serving_and_terminating() {
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "model", "namespace": "ns"},
            "spec": {"selector": {"app": "model"}, "ports": [
                {"name": "web", "port": 80, "targetPort": "web"}, {"name": "metrics", "port": 9100, "targetPort": 9100}]}}))
        .unwrap();
        let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let pods = [pod("a", "True", json!({})), pod("bb", "False", json!({})), pod("ccc", "True", gone)];
        let slice = slice(&service, &pods);
        let seen: Vec<_> = slice
            .endpoints
            .iter()
            .flatten()
            .map(|e| {
                let c = e.conditions.clone().unwrap();
                (e.addresses[0].clone(), c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("127.64.0.1".to_owned(), true, true, false),
                ("127.64.0.2".to_owned(), false, false, false),
                ("127.64.0.3".to_owned(), false, true, true),
            ]
        );
        let ports: Vec<_> = slice.ports.unwrap().into_iter().map(|p| p.port.unwrap()).collect();
        assert_eq!(ports, [8000, 9100]);
        let old = endpoints(&service, &pods).subsets.unwrap().remove(0);
        assert_eq!((old.addresses.unwrap().len(), old.not_ready_addresses.unwrap().len()), (1, 1));
    }
}
