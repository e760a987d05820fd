//! The rules about pods: whether they say when they are ready, and which program they run.

use k8s_openapi::api::core::v1::Container;

use super::{Facts, Manifests, Origin, Place};

/// Every container of every workload that serves something: one without ports gets no requests.
fn servers(manifests: &Manifests) -> impl Iterator<Item = (&Origin, String, &Container)> {
    manifests.workloads.iter().flat_map(|workload| {
        let containers = workload.containers().map(|(path, container)| (&workload.origin, path, container));
        containers.filter(|(_, _, container)| container.ports.as_ref().is_some_and(|ports| !ports.is_empty()))
    })
}

pub(super) fn no_readiness_probe(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let unprobed = servers(manifests).filter(|(.., container)| container.readiness_probe.is_none());
    unprobed
        .map(|(origin, path, container)| {
            let message = format!("container {} has no readiness probe", container.name);
            let help = "add one that succeeds once the model is loaded";
            Place::new(origin, format!("{path}.readinessProbe"), message, help)
        })
        .collect()
}

/// A liveness probe that may kill a model while it loads.
pub(super) fn no_startup_probe(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let restarted = servers(manifests)
        .filter(|(.., container)| container.liveness_probe.is_some() && container.startup_probe.is_none());
    restarted
        .map(|(origin, path, container)| {
            let message = format!("container {} has a liveness probe and no startup probe", container.name);
            let help = "add a startup probe with the time that loading may take";
            Place::new(origin, format!("{path}.startupProbe"), message, help)
        })
        .collect()
}

pub(super) fn moving_tag(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let containers = manifests.workloads.iter().flat_map(|workload| {
        workload.containers().map(|(path, container)| (&workload.origin, path, container))
    });
    containers
        .filter_map(|(origin, path, container)| {
            let image = container.image.as_deref().filter(|image| !image.contains('@'))?;
            let name = image.rsplit('/').next().unwrap_or(image);
            let tag = name.split_once(':').map_or("latest", |(_, tag)| tag);
            let message =
                format!("{image:?} is whatever was pushed last; running pods keep what they started with");
            let help = "write a version, and change it with each push";
            (tag == "latest").then(|| Place::new(origin, format!("{path}.image"), message, help))
        })
        .collect()
}
