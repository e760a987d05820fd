//! Pods as the engine wants to know them. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_api::quantity::Quantity;
use flyball_engine::{ContainerRequests, Milli, Name, Phase, PodRequests, PodValue, Readiness, Time};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};
use kube::ResourceExt;

use crate::gather::usage::{UsageLog, Use};

const SECOND: Duration = Duration::from_secs(1);

/// A pod of a target, as far as scaling goes.
pub(crate) fn pod(pod: &Pod) -> flyball_engine::Pod {
    let status = pod.status.as_ref();
    flyball_engine::Pod {
        name: pod.name_any().into(),
        phase: phase(status.and_then(|status| status.phase.as_deref())),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        started: status.and_then(|status| status.start_time.as_ref()).map(|time| engine_time(time.0)),
        ready: readiness(pod),
        requests: pod.spec.as_ref().map(|spec| requests(spec, status)).unwrap_or_default(),
    }
}

fn phase(text: Option<&str>) -> Phase {
    match text {
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        _ => Phase::Pending,
    }
}

fn readiness(pod: &Pod) -> Option<Readiness> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    let since = ready.last_transition_time.as_ref().map_or(Time::default(), |time| engine_time(time.0));
    let ready = ready.status == "True";
    // The API keeps whole seconds: at the end of it the pod was ready for certain.
    Some(Readiness { ready, since: if ready { since + SECOND } else { since } })
}

/// Whether a container says by a probe when its start is over.
fn is_probed(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .into_iter()
        .any(|container| container.readiness_probe.is_some() || container.startup_probe.is_some())
}

/// What each container asked for; sidecars (init containers that restart) count, as in Kubernetes. While a resize in
/// place is under way, it is what the node has given so far, since that is what the use was measured against.
fn requests(spec: &PodSpec, status: Option<&PodStatus>) -> PodRequests {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let pod = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    PodRequests {
        pod: pod.map(quantities).unwrap_or_default(),
        containers: containers.map(|container| container_requests(container, status)).collect(),
    }
}

fn container_requests(container: &Container, status: Option<&PodStatus>) -> ContainerRequests {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let mut requests = requests.map(quantities).unwrap_or_default();
    for (resource, given) in given(container, status) {
        if let Some(request) = requests.get_mut(&resource) {
            *request = given;
        }
    }
    ContainerRequests { name: container.name.as_str().into(), requests }
}

/// The resources that the node has actuated for a container, if its status says them.
fn given(container: &Container, status: Option<&PodStatus>) -> BTreeMap<Name, Milli> {
    let statuses = status.into_iter().flat_map(|status| {
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten())
    });
    let own = statuses.into_iter().find(|own| own.name == container.name);
    let requests = own.and_then(|own| own.resources.as_ref()).and_then(|own| own.requests.as_ref());
    requests.map(quantities).unwrap_or_default()
}

type Quantities = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// Quantities that do not parse are left out: the API server admits none.
fn quantities(all: &Quantities) -> BTreeMap<Name, Milli> {
    let parsed = all.iter().filter_map(|(name, text)| Some((name, Quantity::parse(&text.0).ok()?)));
    parsed.map(|(name, quantity)| (name.as_str().into(), Milli::new(quantity.milli_value()))).collect()
}

/// What the pods use of `resource`, or one container of them does. A pod without complete numbers is left out.
pub(crate) fn usage(
    log: &UsageLog,
    pods: &[std::sync::Arc<Pod>],
    resource: &str,
    container: Option<&str>,
) -> Vec<PodValue> {
    let value_of = |pod: &std::sync::Arc<Pod>| {
        let used = log.pod(&(pod.namespace().unwrap_or_default(), pod.name_any()))?;
        let chosen: Vec<&Use> = used
            .iter()
            .filter(|(name, _)| container.is_none_or(|wanted| wanted == **name))
            .map(|(_, used)| used)
            .collect();
        let newest = chosen.iter().max_by_key(|used| used.at_ms)?;
        let starting = resource == "cpu" && chosen.iter().any(|used| used.starting) && !is_probed(pod);
        let milli = chosen.iter().map(|used| amount(used, resource)).sum::<Option<i64>>()?;
        Some(PodValue {
            pod: pod.name_any().into(),
            value: Milli::new(milli),
            at: time_from_ms(newest.at_ms),
            window: Duration::from_millis(newest.window_ms.unsigned_abs()),
            starting,
        })
    };
    pods.iter().filter_map(value_of).collect()
}

/// An amount in thousandths, rounded up as the HorizontalPodAutoscaler does.
fn amount(used: &Use, resource: &str) -> Option<i64> {
    match resource {
        "cpu" => i64::try_from(used.cpu_nanocores.div_ceil(1_000_000)).ok(),
        "memory" => i64::try_from(used.memory_bytes).ok()?.checked_mul(1000),
        _ => None,
    }
}

/// The engine's time of a Kubernetes timestamp.
pub(crate) fn engine_time(timestamp: Timestamp) -> Time {
    time_from_ms(timestamp.as_millisecond())
}

/// The engine's time of milliseconds since the epoch; times before it are the epoch.
pub(crate) fn time_from_ms(millis: i64) -> Time {
    Time::from_millis(u64::try_from(millis).unwrap_or(0))
}
