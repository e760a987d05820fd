//! Where Flyball decides differently from KEDA, the HorizontalPodAutoscaler and the VerticalPodAutoscaler, on
//! purpose: told where a manifest is about to meet the difference.

use super::{Facts, Manifests, Place, autoscalers};

pub(super) fn no_data(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let unsaid = manifests.triggers().filter(|(.., trigger)| {
        trigger.kind == "prometheus" && !trigger.metadata.contains_key("ignoreNullValues")
    });
    unsaid
        .map(|(origin, path, _)| {
            let message = "an empty result is 0 for KEDA, and scales in; Flyball holds the replicas and says what is missing";
            let help = "write ignoreNullValues: \"true\" for KEDA's rule, or \"false\" to fail on it in both";
            Place::new(origin, format!("{path}.metadata"), message, help)
        })
        .collect()
}

pub(super) fn polling(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let polled =
        manifests.scaled_objects.iter().filter_map(|object| Some((object, object.spec.polling_interval?)));
    polled
        .map(|(object, seconds)| {
            let message = format!(
                "KEDA polls every {seconds} s, and the HPA syncs every 15 s; Flyball decides every second"
            );
            let help = "leave it; the pace of change follows behavior in both";
            Place::new(&object.origin, "spec.pollingInterval", message, help)
        })
        .collect()
}

pub(super) fn to_zero(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let sleepers = manifests
        .scaled_objects
        .iter()
        .filter(|object| object.spec.min_replicas() == 0 || object.spec.idle_replica_count.is_some());
    sleepers
        .map(|object| {
            let message = "after cooldownPeriod KEDA goes from any number of replicas to zero at once; Flyball goes \
                           there by the policies of behavior";
            Place::new(&object.origin, "spec.minReplicaCount", message, "leave it")
        })
        .collect()
}

pub(super) fn pace(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let plain = manifests.scaled_objects.iter().filter(|object| object.spec.behavior().is_none());
    plain
        .map(|object| {
            let message = "without behavior the HPA doubles at most at each sync; Flyball takes the defaults of behavior: \
                           100 % or 4 pods in 15 s up, a window of 300 s down";
            let help = "write advanced.horizontalPodAutoscalerConfig.behavior for another pace";
            Place::new(&object.origin, "spec.advanced", message, help)
        })
        .collect()
}

/// What two controllers would fight over is one decision here.
pub(super) fn both_axes(manifests: &Manifests, facts: Facts<'_>) -> Vec<Place> {
    let fights = autoscalers::two_axes(manifests, facts).into_iter();
    fights
        .map(|place| {
            let message = "the HPA and the VPA each act on the other's result; Flyball decides replicas and requests together, and \
                           measures use against the requests that the pods have";
            Place { message: message.to_owned(), help: "leave it on Flyball".to_owned(), ..place }
        })
        .collect()
}
