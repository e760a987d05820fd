//! The status of a VerticalPodAutoscaler: what is recommended, and whether that worked.
//!
//! Conditions, reasons and sentences are VPA's (`pkg/recommender/model/vpa.go`, `input/cluster_feeder.go`).

use std::collections::BTreeMap;

use flyball_engine::vertical::{ContainerRecommendation, Resources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{resource_list, resources};
use crate::kinds::vertical_pod_autoscaler::{
    RecommendedContainerResources, RecommendedPodResources, ResourceList, VerticalPodAutoscaler,
    VerticalPodAutoscalerStatus, VpaCondition,
};

const NO_PODS: &str = "No pods match this VPA object";

/// What a recommender found out about one VerticalPodAutoscaler.
#[derive(Clone, Debug, Default)]
pub struct Findings<'a> {
    /// By container name.
    pub recommended: &'a [ContainerRecommendation],
    /// Whether any pod is sized.
    pub has_pods: bool,
    /// Why the target cannot be sized: a sentence.
    pub unsupported: Option<String>,
}

/// The status to show, given the one that is shown: a condition that does not change keeps its time.
pub fn status(
    object: &VerticalPodAutoscaler,
    found: &Findings<'_>,
    now: Time,
) -> VerticalPodAutoscalerStatus {
    let shown = object.status.clone().unwrap_or_default();
    let mut conditions: BTreeMap<String, VpaCondition> =
        shown.conditions.into_iter().map(|condition| (condition.kind.clone(), condition)).collect();
    for gone in ["ConfigDeprecated", "ConfigUnsupported", "NoPodsMatched"] {
        let keeps = match gone {
            "ConfigUnsupported" => found.unsupported.is_some(),
            "NoPodsMatched" => !found.has_pods,
            _ => false,
        };
        if !keeps {
            conditions.remove(gone);
        }
    }
    let mut set = |kind: &str, is_true: bool, reason: &str, message: &str| {
        let status = if is_true { "True" } else { "False" };
        let before = conditions.get(kind).filter(|before| before.status == status);
        let since =
            before.and_then(|before| before.last_transition_time.clone()).unwrap_or_else(|| now.clone());
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let condition = VpaCondition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            last_transition_time: Some(since),
            reason: text(reason),
            message: text(message),
            observed_generation: object.metadata.generation,
        };
        conditions.insert(kind.to_owned(), condition);
    };
    if let Some(why) = &found.unsupported {
        set("ConfigUnsupported", true, "", why);
    }
    if !found.has_pods {
        set("NoPodsMatched", true, "NoPodsMatched", NO_PODS);
    }
    let (provided, why) = match (found.recommended.is_empty(), found.has_pods) {
        (false, _) => (true, ("", "")),
        (true, true) => (false, ("", "")),
        (true, false) => (false, ("NoPodsMatched", NO_PODS)),
    };
    set("RecommendationProvided", provided, why.0, why.1);
    VerticalPodAutoscalerStatus {
        recommendation: (!found.recommended.is_empty()).then(|| recommendation(found.recommended)),
        conditions: conditions.into_values().collect(),
        observed_generation: object.metadata.generation,
    }
}

/// Recommendations as a status shows them.
pub fn recommendation(all: &[ContainerRecommendation]) -> RecommendedPodResources {
    let one = |one: &ContainerRecommendation| RecommendedContainerResources {
        container_name: one.container.to_string(),
        target: resource_list(&one.target),
        lower_bound: resource_list(&one.lower_bound),
        upper_bound: resource_list(&one.upper_bound),
        uncapped_target: resource_list(&one.uncapped_target),
    };
    RecommendedPodResources { container_recommendations: all.iter().map(one).collect() }
}

/// What a status recommends: how updater and admission hear of it, whoever the recommender is.
pub fn recommended(status: Option<&VerticalPodAutoscalerStatus>) -> Vec<ContainerRecommendation> {
    let all = status.and_then(|status| status.recommendation.as_ref());
    let all = all.map(|all| all.container_recommendations.as_slice()).unwrap_or_default();
    let one = |one: &RecommendedContainerResources| ContainerRecommendation {
        target: sensible(&one.target),
        lower_bound: sensible(&one.lower_bound),
        upper_bound: sensible(&one.upper_bound),
        uncapped_target: sensible(&one.uncapped_target),
        ..ContainerRecommendation::new(one.container_name.as_str())
    };
    all.iter().map(one).collect()
}

/// Amounts that a container can request; a negative one, which no pod could have, is as if it were not there.
fn sensible(list: &ResourceList) -> Resources {
    let amounts = resources(list);
    let at_least_none = |amount: &i64| *amount >= 0;
    Resources::new(amounts.cpu_millis.filter(at_least_none), amounts.memory_bytes.filter(at_least_none))
}
