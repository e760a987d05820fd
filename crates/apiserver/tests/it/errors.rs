//! User errors and their responses: Kubernetes' codes, reasons, causes and messages.

use serde_json::{Value, json};

use crate::support::*;

fn causes(status: &Value) -> Vec<String> {
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    causes.iter().map(|cause| format!("{}: {}", text(&cause["field"]), text(&cause["message"]))).collect()
}

async fn check(name: &str, path: &str, object: Value, code: u16, expected: &[&str]) {
    let server = server().await;
    let (got, status) = post(&server, path, &object).await;
    assert_eq!(got, code, "{name}: {status}");
    assert_eq!(causes(&status), expected, "{name}");
}

fn changed(mut object: Value, pointer: &str, value: Value) -> Value {
    *object.pointer_mut(pointer).expect("the pointer is there") = value;
    object
}

#[tokio::test]
async fn a_deployment_is_told_everything_that_is_wrong_with_it() {
    let object = || deployment("model");
    check(
        "selector",
        DEPLOYMENTS,
        changed(object(), "/spec/selector/matchLabels/app", json!("other")),
        422,
        &["spec.template.metadata.labels: Invalid value: {\"app\":\"model\"}: `selector` does not match template `labels`"],
    )
    .await;
    let mut several = object();
    several["spec"]["replicas"] = json!(-1);
    several["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("200m");
    several["spec"]["template"]["spec"]["containers"][0]["image"] = json!("");
    several["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(70000);
    several["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    check(
        "several at once",
        DEPLOYMENTS,
        several,
        422,
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.spec.containers[0].image: Required value",
            "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.template.spec.containers[0].resources.requests: Invalid value: \"200m\": must be less than or equal to cpu limit of 100m",
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    )
    .await;
    check(
        "no containers",
        DEPLOYMENTS,
        changed(object(), "/spec/template/spec/containers", json!([])),
        422,
        &["spec.template.spec.containers: Required value"],
    )
    .await;
}

#[tokio::test]
async fn an_autoscaler_is_checked() {
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let hpa = |spec: Value| json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": spec});
    let target = json!({"kind": "Deployment", "name": "m"});
    check(
        "min above max",
        path,
        hpa(json!({"scaleTargetRef": target, "minReplicas": 5, "maxReplicas": 2})),
        422,
        &["spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`"],
    )
    .await;
    check("zero needs an external metric", path, hpa(json!({"scaleTargetRef": target, "minReplicas": 0, "maxReplicas": 2})), 422, &[
        "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
    ])
    .await;
    let metrics =
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]);
    check("no target", path, hpa(json!({"scaleTargetRef": target, "maxReplicas": 2, "metrics": metrics})), 422, &[
        "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
    ])
    .await;
}

#[tokio::test]
async fn fields_and_types_are_checked_all_at_once() {
    let server = server().await;
    let mut object = deployment("model");
    object["spec"]["replcas"] = json!(2);
    object["spec"]["template"]["spec"]["containers"][0]["imagee"] = json!("x");
    let (code, status) = post(&server, &format!("{DEPLOYMENTS}?fieldValidation=Strict"), &object).await;
    let message = status["message"].as_str().unwrap_or_default();
    assert_eq!(code, 400);
    assert_eq!(
        message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.replcas\", unknown field \"spec.template.spec.containers[0].imagee\""
    );
    assert_eq!(post(&server, &format!("{DEPLOYMENTS}?fieldValidation=Ignore"), &object).await.0, 201);

    let mut object = deployment("typed");
    object["spec"]["replicas"] = json!("two");
    object["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("12Mib");
    let (code, status) = post(&server, DEPLOYMENTS, &object).await;
    let message = status["message"].as_str().unwrap_or_default();
    assert_eq!(code, 400);
    assert!(
        message.contains(
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
        ),
        "{message}"
    );
    assert!(message.contains("quantities must match the regular expression"), "{message}");
}

#[tokio::test]
async fn failures_have_the_status_that_clients_expect() {
    let server = server().await;
    post(&server, DEPLOYMENTS, &deployment("model")).await;
    let (code, status) = post(&server, DEPLOYMENTS, &deployment("model")).await;
    assert_eq!(
        (code, &status["reason"], &status["message"]),
        (409, &json!("AlreadyExists"), &json!("deployments.apps \"model\" already exists"))
    );
    let (code, status) = get(&server, &format!("{PODS}/none")).await;
    assert_eq!(code, 404);
    assert_eq!(
        status,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "pods \"none\" not found",
            "reason": "NotFound", "details": {"name": "none", "kind": "pods"}, "code": 404,
        })
    );
    let (code, status) = post(&server, "/api/v1/namespaces/nowhere/pods", &pod("p", json!({}))).await;
    assert_eq!((code, &status["message"]), (404, &json!("namespaces \"nowhere\" not found")));
    assert_eq!(get(&server, "/apis/nothing/v1/x").await.0, 404);
    let selector = json!({"spec": {"selector": {"matchLabels": {"app": "other"}}, "template": {"metadata": {"labels": {"app": "other"}}}}});
    let (code, status) = patch(&server, &format!("{DEPLOYMENTS}/model"), "merge-patch+json", &selector).await;
    assert_eq!(code, 422);
    assert_eq!(
        causes(&status),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"other\"}}: field is immutable"]
    );
    assert_eq!(patch(&server, &format!("{DEPLOYMENTS}/model"), "unknown", &json!({})).await.0, 415);
    assert_eq!(request(&server, "PUT", DEPLOYMENTS, "application/json", &json!({})).await.0, 405);
    let big = json!({"metadata": {"name": "big"}, "data": {"x": "y".repeat(4 << 20)}});
    assert_eq!(post(&server, "/api/v1/namespaces/default/configmaps", &big).await.0, 413);
}

#[tokio::test]
async fn admission_rules_can_refuse_and_warn() {
    use flyball_apiserver::{AdmissionResponse, FieldError};
    let server = server().await;
    server.register_admission(
        "apps",
        "deployments",
        std::sync::Arc::new(|request| {
            let Some(object) = request.object else { return AdmissionResponse::denied("deployments stay") };
            let replicas = &object["spec"]["replicas"];
            if replicas.as_i64() > Some(3) {
                return AdmissionResponse::invalid(vec![FieldError::invalid(
                    "spec.replicas",
                    replicas,
                    "too many",
                )]);
            }
            AdmissionResponse { warnings: vec!["few replicas".into()], ..AdmissionResponse::allowed() }
        }),
    );
    let (code, status) =
        post(&server, DEPLOYMENTS, &changed(deployment("model"), "/spec/replicas", json!(9))).await;
    assert_eq!((code, causes(&status)), (422, vec!["spec.replicas: Invalid value: 9: too many".to_owned()]));
    assert_eq!(post(&server, DEPLOYMENTS, &deployment("model")).await.0, 201);
    let (code, status) =
        request(&server, "DELETE", &format!("{DEPLOYMENTS}/model"), "application/json", &Value::Null).await;
    assert_eq!(code, 403);
    assert!(
        status["message"]
            .as_str()
            .is_some_and(|message| message.contains("denied the request: deployments stay"))
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn no_path_or_query_panics(path in "/(api|apis)/[a-z0-9./%?=&,()!-]{0,60}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(async {
            let server = server().await;
            if path.parse::<http::Uri>().is_ok() && !path.contains("watch") {
                let (code, _) = get(&server, &path).await;
                assert!(code < 500, "{path}: {code}");
            }
        });
    }
}
