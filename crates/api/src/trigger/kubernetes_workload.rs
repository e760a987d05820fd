//! The `kubernetes-workload` trigger: how many pods match a selector.
//!
//! Parameters and messages are those of KEDA (`scalers/kubernetes_workload_scaler.go`). Pods that succeeded
//! or failed do not count.

use kube::core::Selector;

use super::description::{Described, Description, TriggerMetric};
use super::parameters::{Parameter, Parameters};
use super::target::TriggerTarget;
use crate::selector;

const POD_SELECTOR: Parameter = Parameter::required(
    &["podSelector"],
    "The label selector of the pods that are counted, in the namespace of the object. Pods that succeeded or failed do \
     not count.",
    "write labels, such as \"app=queue\"",
);
const VALUE: Parameter = Parameter::required(
    &["value"],
    "The wanted number of pods.",
    "write the wanted number of pods in quotes, such as \"2\"",
);
const ACTIVATION_VALUE: Parameter =
    Parameter::optional(&["activationValue"], "The trigger is active above this number.").default("0");
const GROUP_BY_NODE: Parameter =
    Parameter::optional(&["groupByNode"], "Whether the nodes that the pods run on are counted instead.")
        .default("false");

pub(super) const DESCRIPTION: Description = Description {
    names: &["kubernetes-workload"],
    summary: "How many pods match a selector: to scale one workload with another. Counted from memory at each \
              decision.",
    example: "- type: kubernetes-workload\n  metadata:\n    podSelector: \"app=queue\"\n    value: \"2\"\n",
    parameters: &[POD_SELECTOR, VALUE, ACTIVATION_VALUE, GROUP_BY_NODE],
};

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
        let selector = parameters.required(&POD_SELECTOR);
        let value = parameters.number(&VALUE);
        let activation_value = parameters.number(&ACTIVATION_VALUE);
        let group_by_node = parameters.flag(&GROUP_BY_NODE).unwrap_or(false);
        if value.is_some_and(|value| value <= 0.0) {
            parameters.refuse(&VALUE, "value must be a float greater than 0", "");
        }
        let pod_selector = selector.and_then(|text| match selector::parse(&text) {
            Ok(selector) => Some(selector),
            Err(error) => {
                parameters.refuse(&POD_SELECTOR, error.to_string(), POD_SELECTOR.help);
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

impl Described for KubernetesWorkload {
    fn kind(&self) -> &str {
        "kubernetes-workload"
    }

    fn metric(&self, namespace: &str) -> TriggerMetric {
        TriggerMetric::External(format!("workload-{namespace}"))
    }

    fn activation(&self) -> Option<f64> {
        Some(self.activation_value)
    }

    fn written_target(&self) -> Option<(&'static Parameter, f64)> {
        Some((&VALUE, self.value))
    }

    fn target(&self, average: bool) -> TriggerTarget {
        TriggerTarget::amount(self.value, average)
    }
}
