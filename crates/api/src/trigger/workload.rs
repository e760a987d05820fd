//! The `kubernetes-workload` trigger: how many pods match a selector.
//!
//! Parameters and messages are those of KEDA (`scalers/kubernetes_workload_scaler.go`). Pods that succeeded
//! or failed do not count.

use kube::core::Selector;

use super::parameters::{METADATA, Parameters};
use crate::selector;

/// How many pods match a selector.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesWorkload {
    /// Which pods count.
    pub pod_selector: Selector,
    /// The wanted number.
    pub value: f64,
    /// The trigger is active above this.
    pub activation_value: f64,
    /// Whether the nodes that the pods run on are counted instead.
    pub group_by_node: bool,
}

impl KubernetesWorkload {
    pub(super) fn parse(parameters: &mut Parameters<'_>) -> Option<Self> {
        let selector = parameters.required(&["podSelector"], METADATA, "write labels, such as \"app=queue\"");
        let value =
            parameters.required_number("value", "write the wanted number of pods in quotes, such as \"2\"");
        let activation_value = parameters.number_or("activationValue", 0.0);
        let group_by_node = parameters.flag("groupByNode").unwrap_or(false);
        if value.is_some_and(|value| value <= 0.0) {
            parameters.refuse("value", "value must be a float greater than 0", "");
        }
        let pod_selector = selector.and_then(|text| match selector::parse(&text) {
            Ok(selector) => Some(selector),
            Err(error) => {
                parameters.refuse("podSelector", error.to_string(), "write labels, such as \"app=queue\"");
                None
            }
        });
        Some(Self {
            pod_selector: pod_selector?,
            value: value?,
            activation_value: activation_value?,
            group_by_node,
        })
    }
}
