//! Pods that the selectors of two autoscalers' targets both select. Both autoscalers stop, as in Kubernetes: neither
//! could tell its own pods from the other's. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flyball_engine::Selector;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::gather::workload::Workload;

/// Which autoscalers select each pod, by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<(String, String), BTreeSet<String>>);

impl Claims {
    /// The claims of every autoscaler on the pods of its target.
    pub(crate) fn of<'a>(
        autoscalers: impl Iterator<Item = (&'a HorizontalPodAutoscaler, &'a [Arc<Pod>])>,
    ) -> Claims {
        let mut claims = Claims::default();
        for (autoscaler, pods) in autoscalers {
            let name = format!("{}/{}", autoscaler.namespace().unwrap_or_default(), autoscaler.name_any());
            for pod in pods {
                claims.0.entry(key(pod)).or_default().insert(name.clone());
            }
        }
        claims
    }

    /// Whether the workload's selector selects no pod of another target.
    pub(crate) fn judge(&self, workload: &Workload, pods: &[Arc<Pod>]) -> Selector {
        let all: BTreeSet<&String> = pods.iter().filter_map(|pod| self.0.get(&key(pod))).flatten().collect();
        if all.len() < 2 {
            return workload.selector_state();
        }
        Selector::Ambiguous {
            selector: workload.selector_text(),
            autoscalers: all.into_iter().cloned().collect(),
        }
    }
}

fn key(pod: &Pod) -> (String, String) {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn workload(selector: serde_json::Value) -> Workload {
        Workload::of_scale(1, Ok(from_value(selector).unwrap()))
    }

    #[test]
    fn a_pod_that_two_autoscalers_select_stops_both() {
        let hpa = |name: &str| -> HorizontalPodAutoscaler {
            from_value(json!({
                "metadata": { "name": name, "namespace": "default" },
                "spec": { "maxReplicas": 3, "scaleTargetRef": { "kind": "Deployment", "name": name } },
            }))
            .unwrap()
        };
        let pod = |name: &str, labels: serde_json::Value| -> Arc<Pod> {
            let metadata = json!({ "name": name, "namespace": "default", "labels": labels });
            Arc::new(from_value(json!({ "metadata": metadata })).unwrap())
        };
        let both = pod("both", json!({ "app": "model", "tier": "web" }));
        let one = pod("one", json!({ "app": "model" }));
        let other = pod("other", json!({ "app": "queue" }));
        let (wide, narrow) = (
            workload(json!({ "matchLabels": { "app": "model" } })),
            workload(json!({ "matchLabels": { "tier": "web" } })),
        );
        let (a, b, c) = (hpa("a"), hpa("b"), hpa("c"));
        let (of_a, of_b, of_c) = ([both.clone(), one], [both], [other]);
        let all = [(&a, of_a.as_slice()), (&b, of_b.as_slice()), (&c, of_c.as_slice())];
        let claims = Claims::of(all.into_iter());
        let ambiguous = |selector: &str| Selector::Ambiguous {
            selector: selector.to_owned(),
            autoscalers: vec!["default/a".to_owned(), "default/b".to_owned()],
        };
        assert_eq!(claims.judge(&wide, &of_a), ambiguous("app=model"));
        assert_eq!(claims.judge(&narrow, &of_b), ambiguous("tier=web"));
        let queue = workload(json!({ "matchLabels": { "app": "queue" } }));
        assert_eq!(claims.judge(&queue, &of_c), Selector::Valid);
        assert_eq!(claims.judge(&workload(json!({})), &[]), Selector::Missing);
        let unparsable = Workload::of_scale(1, Err("no".to_owned()));
        assert_eq!(claims.judge(&unparsable, &[]), Selector::Invalid { error: "no".to_owned() });
    }
}
