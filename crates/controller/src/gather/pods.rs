//! The pods of a round, found by the labels that a workload selects: without an index each workload would look at the
//! pods of all others.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::gather::workload::Workload;

/// Pods by namespace, and in there by each of their labels.
#[derive(Default)]
pub(crate) struct Pods(HashMap<String, Namespace>);

#[derive(Default)]
struct Namespace {
    all: Vec<Arc<Pod>>,
    /// Places in `all`, by name and value of a label.
    by_label: HashMap<(String, String), Vec<usize>>,
}

impl Pods {
    pub(crate) fn new(pods: Vec<Arc<Pod>>) -> Pods {
        let mut index = Pods::default();
        for pod in pods {
            let namespace = index.0.entry(pod.namespace().unwrap_or_default()).or_default();
            for (name, value) in pod.labels() {
                let places = namespace.by_label.entry((name.clone(), value.clone())).or_default();
                places.push(namespace.all.len());
            }
            namespace.all.push(pod);
        }
        index
    }

    /// The pods that a workload selects.
    pub(crate) fn of(&self, namespace: &str, workload: &Workload) -> Vec<Arc<Pod>> {
        let Some(namespace) = self.0.get(namespace) else { return Vec::new() };
        let selected = |pod: &&Arc<Pod>| workload.selects(pod.labels());
        match namespace.fewest(workload) {
            Some(places) => {
                places.iter().map(|place| &namespace.all[*place]).filter(selected).cloned().collect()
            }
            None => namespace.all.iter().filter(selected).cloned().collect(),
        }
    }
}

impl Namespace {
    /// Where the pods stand that have the rarest label of the selector; none if it demands no label with a value.
    fn fewest(&self, workload: &Workload) -> Option<&[usize]> {
        let demanded = workload.selector().ok()?.match_labels.as_ref()?;
        let places = |(name, value): (&String, &String)| {
            self.by_label.get(&(name.clone(), value.clone())).map_or(&[][..], Vec::as_slice)
        };
        demanded.iter().map(places).min_by_key(|places| places.len())
    }
}

#[cfg(test)]
mod tests {
    use flyball_api::selector::parse;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    use super::*;

    fn pod(namespace: &str, name: &str, labels: &[(&str, &str)]) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some(namespace.into());
        pod.metadata.name = Some(name.into());
        pod.metadata.labels = Some(labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
        Arc::new(pod)
    }

    #[test]
    fn a_workload_finds_the_pods_that_its_selector_matches() {
        let pods = Pods::new(vec![
            pod("a", "web-1", &[("app", "web"), ("track", "stable")]),
            pod("a", "web-2", &[("app", "web"), ("track", "canary")]),
            pod("a", "bare", &[]),
            pod("b", "web-3", &[("app", "web")]),
        ]);
        let cases: [(&str, &str, &[&str]); 8] = [
            ("a", "app=web", &["web-1", "web-2"]),
            ("a", "app=web,track=canary", &["web-2"]),
            ("a", "app=web,track notin (canary)", &["web-1"]),
            ("a", "!app", &["bare"]),
            ("a", "track", &["web-1", "web-2"]),
            ("a", "app=other", &[]),
            ("a", "", &[]),
            ("c", "app=web", &[]),
        ];
        for (namespace, text, expected) in cases {
            let selector = Ok(LabelSelector::from(parse(text).expect("a selector")));
            let workload = Workload::of_scale(1, selector);
            let found: Vec<String> = pods.of(namespace, &workload).iter().map(|pod| pod.name_any()).collect();
            assert_eq!(found, expected, "{text} in {namespace}");
        }
    }
}
