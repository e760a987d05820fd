//! Reads the running world: the objects around a target, and live facts about the autoscalers in manifests.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use flyball_api::lint::live::{self, Asked, LiveFacts};
use flyball_api::lint::{self, Finding};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;

use super::documents::Document;
use super::facts::facts;
use super::report::Report;
use crate::cli::Check;
use crate::place;

/// The kinds read around a target: API version, kind, and whether all namespaces are read. Monitors may select from every
/// namespace, so everything that they may select is read from all.
const KINDS: [(&str, &str, bool); 15] = [
    ("apps/v1", "Deployment", true),
    ("apps/v1", "StatefulSet", true),
    ("apps/v1", "DaemonSet", true),
    ("batch/v1", "Job", true),
    ("batch/v1", "CronJob", true),
    ("v1", "Pod", true),
    ("v1", "Service", true),
    ("v1", "LimitRange", false),
    ("keda.sh/v1alpha1", "ScaledObject", false),
    ("keda.sh/v1alpha1", "ScaledJob", false),
    ("autoscaling/v2", "HorizontalPodAutoscaler", false),
    ("autoscaling.k8s.io/v1", "VerticalPodAutoscaler", false),
    ("monitoring.coreos.com/v1", "ServiceMonitor", true),
    ("monitoring.coreos.com/v1", "PodMonitor", true),
    ("monitoring.coreos.com/v1alpha1", "ScrapeConfig", true),
];

/// Short names of kinds, as in kubectl.
const SHORT: [(&str, &str); 10] = [
    ("deploy", "deployment"),
    ("sts", "statefulset"),
    ("svc", "service"),
    ("so", "scaledobject"),
    ("sj", "scaledjob"),
    ("hpa", "horizontalpodautoscaler"),
    ("vpa", "verticalpodautoscaler"),
    ("smon", "servicemonitor"),
    ("pmon", "podmonitor"),
    ("scfg", "scrapeconfig"),
];

/// Checks a running target and everything in its namespace related to it.
pub(crate) async fn check_target(options: &Check, kind: &str, name: &str) -> Result<Report> {
    let client = client(options).await?;
    let namespace = options.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let wanted = format!("{}/{name}", full_kind(kind));
    let documents = around(&client, &namespace).await?;
    let related = related(&documents, &namespace, &wanted);
    if related.is_empty() {
        let known: Vec<String> =
            documents.iter().map(reference).filter(|known| known.ends_with(name)).collect();
        let hint =
            if known.is_empty() { String::new() } else { format!("; did you mean {}?", known.join(" or ")) };
        bail!("no {wanted} in namespace {namespace}{hint}");
    }
    let (manifests, _) = super::sort(&documents);
    let mut findings = lint::check(&manifests, &facts);
    let mut asked = live::asked(&manifests, &facts);
    asked.retain(|asked| related.contains(&asked.origin.document));
    in_world(&client, &asked, &mut findings).await?;
    findings.retain(|finding| related.contains(&finding.origin.document));
    Ok(Report::new(documents, findings).about(related.len()))
}

/// Adds the running world's findings about the autoscalers in manifests.
pub(crate) async fn check_files(
    options: &Check,
    documents: &[Document],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let (manifests, _) = super::sort(documents);
    let asked = live::asked(&manifests, &facts);
    if asked.is_empty() {
        return Ok(());
    }
    in_world(&client(options).await?, &asked, findings).await
}

async fn client(options: &Check) -> Result<Client> {
    let path = place::find_kubeconfig(options.kubeconfig.clone())?;
    let kubeconfig =
        Kubeconfig::read_from(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Adds the world's findings, and removes findings that it refutes.
async fn in_world(client: &Client, asked: &[Asked], findings: &mut Vec<Finding>) -> Result<()> {
    for asked in asked {
        let facts = live_facts(client, asked)
            .await
            .context("cannot read live facts: does the kubeconfig belong to a world of `flyball up`?")?;
        findings.retain(|finding| !live::refutes(asked, &facts, finding));
        findings.extend(live::check(asked, &facts));
    }
    Ok(())
}

async fn live_facts(client: &Client, asked: &Asked) -> Result<LiveFacts> {
    let mut pairs = vec![("kind", asked.kind.as_str()), ("name", asked.name.as_str())];
    for query in &asked.queries {
        pairs.extend([("server", query.server.as_str()), ("query", query.query.as_str())]);
    }
    let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    let namespace = escape(&asked.origin.namespace);
    let path = format!("/apis/flyball.dev/v1alpha1/namespaces/{namespace}/livefacts?{}", query.join("&"));
    let request = http::Request::get(path).body(Vec::new())?;
    Ok(client.request(request).await?)
}

fn escape(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Lists the objects that may be related to a target. Kinds that the world does not serve have none.
async fn around(client: &Client, namespace: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for (version, kind, everywhere) in KINDS {
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = match everywhere {
            true => Api::all_with(client.clone(), &resource),
            false => Api::namespaced_with(client.clone(), namespace, &resource),
        };
        match api.list(&ListParams::default()).await {
            Ok(list) => {
                for mut object in list.items {
                    object.types = Some(kube::api::TypeMeta {
                        api_version: resource.api_version.clone(),
                        kind: kind.to_owned(),
                    });
                    documents.push(Document::live(serde_json::to_value(object)?));
                }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error).with_context(|| format!("cannot list {}", resource.plural)),
        }
    }
    Ok(documents)
}

fn full_kind(kind: &str) -> String {
    let lower = kind.to_ascii_lowercase();
    if let Some((_, full)) = SHORT.iter().find(|(short, _)| *short == lower) {
        return (*full).to_owned();
    }
    lower.strip_suffix('s').filter(|_| !lower.ends_with("ss")).unwrap_or(&lower).to_owned()
}

/// Returns `kind/name`, with the kind in lower case.
fn reference(document: &Document) -> String {
    let text = |pointer: &str| document.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("/kind").to_lowercase(), text("/metadata/name"))
}

/// Returns the documents related to a target: itself, its workload, the autoscalers of that workload, the Services of its
/// pods, and the monitors that select from its namespace.
fn related(documents: &[Document], namespace: &str, wanted: &str) -> BTreeSet<usize> {
    let target_of = |document: &Document| {
        let spec = &document.object["spec"];
        let reference =
            [&spec["scaleTargetRef"], &spec["targetRef"]].into_iter().find(|found| found.is_object())?;
        let kind = reference["kind"].as_str().unwrap_or("Deployment").to_lowercase();
        Some(format!("{kind}/{}", reference["name"].as_str().unwrap_or_default()))
    };
    let is_here = |document: &&Document| {
        let own = document.object.pointer("/metadata/namespace").and_then(Value::as_str);
        own.is_none_or(|own| own == namespace)
    };
    let mut here = documents.iter().filter(is_here);
    let Some(start) = here.find(|document| reference(document) == wanted) else {
        return BTreeSet::new();
    };
    let workload = target_of(start).unwrap_or_else(|| wanted.to_owned());
    let labels = documents
        .iter()
        .filter(is_here)
        .find(|document| reference(document) == workload)
        .and_then(|document| document.object.pointer("/spec/template/metadata/labels"));
    let leads_to = |document: &Document| {
        let selector = document.object.pointer("/spec/selector").and_then(Value::as_object);
        let is_service = document.object["kind"] == "Service";
        is_service
            && selector.zip(labels).is_some_and(|(selector, labels)| {
                !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
            })
    };
    let looks_here = |document: &Document| {
        let selector = &document.object["spec"]["namespaceSelector"];
        let names = selector["matchNames"].as_array().filter(|names| !names.is_empty());
        let is_monitor = matches!(
            document.object["kind"].as_str(),
            Some("ServiceMonitor" | "PodMonitor" | "ScrapeConfig")
        );
        is_monitor
            && match names {
                _ if selector["any"] == true => true,
                Some(names) => names.iter().any(|name| name == namespace),
                None => is_here(&document),
            }
    };
    let belongs = |document: &Document| {
        let own = reference(document);
        let is_part = own == wanted
            || own == workload
            || target_of(document).as_deref() == Some(&workload)
            || leads_to(document);
        is_part && is_here(&document) || looks_here(document)
    };
    (0..documents.len()).filter(|index| belongs(&documents[*index])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_belongs_to_a_target() {
        let objects = [
            json!({"kind": "Deployment", "metadata": {"name": "model"}, "spec": {"template": {"metadata": {"labels": {"app": "model", "v": "1"}}}}}),
            json!({"kind": "Deployment", "metadata": {"name": "other"}}),
            json!({"kind": "Service", "metadata": {"name": "front"}, "spec": {"selector": {"app": "model"}}}),
            json!({"kind": "Service", "metadata": {"name": "else"}, "spec": {"selector": {"app": "other"}}}),
            json!({"kind": "ScaledObject", "metadata": {"name": "so"}, "spec": {"scaleTargetRef": {"name": "model"}}}),
            json!({"kind": "VerticalPodAutoscaler", "metadata": {"name": "v"}, "spec": {"targetRef": {"kind": "Deployment", "name": "other"}}}),
            json!({"kind": "ServiceMonitor", "metadata": {"name": "m"}}),
            json!({"kind": "Deployment", "metadata": {"name": "model", "namespace": "other"}}),
            json!({"kind": "ServiceMonitor", "metadata": {"name": "theirs", "namespace": "other"}}),
            json!({"kind": "PodMonitor", "metadata": {"name": "all", "namespace": "other"}, "spec": {"namespaceSelector": {"any": true}}}),
        ];
        let documents: Vec<Document> = objects.into_iter().map(Document::live).collect();
        for (wanted, expected) in [
            ("deployment/model", vec![0, 2, 4, 6, 9]),
            ("scaledobject/so", vec![0, 2, 4, 6, 9]),
            ("deployment/other", vec![1, 5, 6, 9]),
            ("deployment/none", vec![]),
        ] {
            let found: Vec<usize> = related(&documents, "default", wanted).into_iter().collect();
            assert_eq!(found, expected, "{wanted}");
        }
    }

    #[test]
    fn kinds_are_named_as_kubectl_has_them() {
        for (kind, expected) in
            [("deploy", "deployment"), ("Deployments", "deployment"), ("HPA", "horizontalpodautoscaler")]
        {
            assert_eq!(full_kind(kind), expected);
        }
    }
}
