//! Create, read, update, delete through kube's client; defaults, subresources, lists.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::*;

fn typed<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("the object has the type")
}

#[tokio::test]
async fn a_deployment_lives_through_kubes_client() {
    let api: Api<Deployment> = Api::default_namespaced(client().await);
    let created = api.create(&PostParams::default(), &typed(deployment("model"))).await.expect("it is valid");
    let spec = created.spec.clone();
    assert_eq!(spec.revision_history_limit, Some(10));
    assert_eq!(spec.template.spec.as_ref().map(|spec| spec.restart_policy.as_deref()), Some(Some("Always")));
    assert_eq!(created.metadata.generation, Some(1));

    let merge = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let patched = api.patch("model", &PatchParams::default(), &merge).await.expect("it applies");
    assert_eq!(patched.metadata.generation, Some(2));
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "tty": true}]}}}});
    let patched =
        api.patch("model", &PatchParams::default(), &Patch::Strategic(strategic)).await.expect("it applies");
    let containers = patched.spec.template.spec.expect("it has containers").containers;
    assert_eq!(
        (containers.len(), containers[0].image.as_deref(), containers[0].tty),
        (1, Some("model:latest"), Some(true))
    );

    let scale: Scale = api.get_scale("model").await.expect("it has a scale");
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(3));
    assert_eq!(scale.status.and_then(|status| status.selector).as_deref(), Some("app=model"));
    let scale = Patch::Merge(json!({"spec": {"replicas": 5}}));
    api.patch_scale("model", &PatchParams::default(), &scale).await.expect("it scales");

    let status =
        Patch::Merge(json!({"spec": {"replicas": 9}, "status": {"replicas": 5, "readyReplicas": 4}}));
    let updated = api.patch_status("model", &PatchParams::default(), &status).await.expect("it has a status");
    assert_eq!(updated.spec.replicas, Some(5), "the status subresource leaves the spec alone");
    assert_eq!(updated.metadata.generation, Some(4), "and the generation");
    assert_eq!(updated.status.and_then(|status| status.ready_replicas), Some(4));

    let stale = created;
    let error = api.replace("model", &PostParams::default(), &stale).await.expect_err("it was changed since");
    assert!(error.to_string().contains("the object has been modified; please apply your changes"), "{error}");
    api.delete("model", &DeleteParams::default()).await.expect("it is there");
    assert!(api.get_opt("model").await.expect("the server answers").is_none());
}

#[tokio::test]
async fn a_write_that_changes_nothing_writes_nothing() {
    let server = server().await;
    let (_, created) = post(&server, DEPLOYMENTS, &deployment("model")).await;
    let path = format!("{DEPLOYMENTS}/model");
    let (_, again) = patch(&server, &path, "merge-patch+json", &json!({"spec": {"replicas": 1}})).await;
    assert_eq!(again["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    assert_eq!(again["metadata"]["managedFields"], created["metadata"]["managedFields"]);
}

#[tokio::test]
async fn lists_have_selectors_and_pages() {
    let client = client().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    for index in 0..7 {
        let map =
            json!({"metadata": {"name": format!("m{index}"), "labels": {"odd": (index % 2).to_string()}}});
        api.create(&PostParams::default(), &typed(map)).await.expect("it is valid");
    }
    let names = |list: kube::api::ObjectList<ConfigMap>| -> Vec<String> {
        list.items.into_iter().filter_map(|item| item.metadata.name).collect()
    };
    let odd =
        api.list(&ListParams::default().labels("odd in (1),odd!=0")).await.expect("the selector is valid");
    assert_eq!(names(odd), ["m1", "m3", "m5"]);
    let one =
        api.list(&ListParams::default().fields("metadata.name=m4")).await.expect("the selector is valid");
    assert_eq!(names(one), ["m4"]);
    let first = api.list(&ListParams::default().limit(3)).await.expect("it lists");
    assert_eq!(first.metadata.remaining_item_count, Some(4));
    let token = first.metadata.continue_.clone().expect("there is more");
    assert_eq!(names(first), ["m0", "m1", "m2"]);
    let rest = api.list(&ListParams::default().continue_token(&token)).await.expect("the token is valid");
    assert_eq!(names(rest), ["m3", "m4", "m5", "m6"]);
    let wrong =
        api.list(&ListParams::default().fields("spec.x=1")).await.expect_err("the field is not supported");
    assert!(wrong.to_string().contains("field label not supported: spec.x"), "{wrong}");

    let pods: Api<Pod> = Api::default_namespaced(client);
    for (name, node) in [("a", "here"), ("b", "there")] {
        let mut object = pod(name, json!({}));
        object["spec"]["nodeName"] = node.into();
        pods.create(&PostParams::default(), &typed(object)).await.expect("it is valid");
    }
    let there = pods.list(&ListParams::default().fields("spec.nodeName=there,status.phase!=Running")).await;
    assert_eq!(there.expect("the selector is valid").items.len(), 1);
}

#[tokio::test]
async fn services_get_addresses_of_their_own() {
    let client = client().await;
    let api: Api<Service> = Api::default_namespaced(client);
    let service = |name: &str, node_port: Option<i32>| -> Service {
        let ports =
            json!([{"name": "web", "port": 8000, "nodePort": node_port}, {"name": "m", "port": 9100}]);
        typed(
            json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "selector": {"a": "b"}, "ports": ports}}),
        )
    };
    let first =
        api.create(&PostParams::default(), &service("one", Some(30100))).await.expect("30100 is free");
    let spec = first.spec.expect("it has a spec");
    let ip: std::net::Ipv4Addr =
        spec.cluster_ip.expect("it has an address").parse().expect("it is an address");
    assert!(ip.octets()[0] == 127 && (96..112).contains(&ip.octets()[1]), "{ip}");
    let ports = spec.ports.expect("it has ports");
    assert_eq!(ports[0].node_port, Some(30100));
    assert!(ports[1].node_port.is_some_and(|port| (30000..=32767).contains(&port) && port != 30100));
    let error =
        api.create(&PostParams::default(), &service("two", Some(30100))).await.expect_err("30100 is taken");
    let expected = "Service \"two\" is invalid: spec.ports[0].nodePort: Invalid value: 30100: provided port is already allocated";
    assert!(error.to_string().contains(expected), "{error}");
    let second = api.create(&PostParams::default(), &service("two", None)).await.expect("others are free");
    assert_ne!(second.spec.and_then(|spec| spec.cluster_ip), Some(ip.to_string()));
}

#[tokio::test]
async fn an_autoscaler_is_the_same_in_both_versions() {
    let server = server().await;
    let hpa = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "model"}, "maxReplicas": 5, "targetCPUUtilizationPercentage": 50},
    });
    let (code, _) =
        post(&server, "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", &hpa).await;
    assert_eq!(code, 201);
    let (_, v2) = get(&server, "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/h").await;
    assert_eq!(v2["apiVersion"], "autoscaling/v2");
    assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    assert_eq!(v2["spec"]["minReplicas"], 1);
    let path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers/h";
    let (code, v1) =
        patch(&server, path, "merge-patch+json", &json!({"spec": {"targetCPUUtilizationPercentage": 70}}))
            .await;
    assert_eq!((code, &v1["spec"]["targetCPUUtilizationPercentage"]), (200, &json!(70)), "{v1}");
}

#[tokio::test]
async fn events_are_seen_in_both_groups_and_names_are_generated() {
    let server = server().await;
    let client = kube::Client::new(server.router(), "default");
    let api: Api<Event> = Api::default_namespaced(client.clone());
    let event = json!({
        "metadata": {"generateName": "e-"}, "reason": "Scaled", "message": "m", "type": "Normal",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default", "uid": "u"},
    });
    let created = api.create(&PostParams::default(), &typed(event)).await.expect("it is valid");
    let name = created.metadata.name.expect("it has a name");
    assert!(name.starts_with("e-") && name.len() == 7, "{name}");
    let about =
        ListParams::default().fields("involvedObject.name=p,involvedObject.kind=Pod,involvedObject.uid=u");
    assert_eq!(api.list(&about).await.expect("the selector is valid").items.len(), 1);
    let (_, newer) = get(&server, &format!("/apis/events.k8s.io/v1/namespaces/default/events/{name}")).await;
    assert_eq!((&newer["note"], &newer["regarding"]["name"]), (&json!("m"), &json!("p")));

    let namespaces: Api<Namespace> = Api::all(client);
    assert_eq!(namespaces.list(&ListParams::default()).await.expect("it lists").items.len(), 4);
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let server = server().await;
    let (code, object) = post(&server, &format!("{DEPLOYMENTS}?dryRun=All"), &deployment("model")).await;
    assert_eq!((code, &object["spec"]["revisionHistoryLimit"]), (201, &json!(10)));
    assert_eq!(get(&server, &format!("{DEPLOYMENTS}/model")).await.0, 404);
    post(&server, DEPLOYMENTS, &deployment("model")).await;
    let path = format!("{DEPLOYMENTS}/model?dryRun=All");
    let (_, patched) = patch(&server, &path, "merge-patch+json", &json!({"spec": {"replicas": 7}})).await;
    assert_eq!(patched["spec"]["replicas"], 7);
    crate::support::request(&server, "DELETE", &path, "application/json", &json!(null)).await;
    assert_eq!(get(&server, &format!("{DEPLOYMENTS}/model")).await.1["spec"]["replicas"], 1);
}
