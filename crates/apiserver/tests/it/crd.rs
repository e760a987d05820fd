//! Custom resources: a CRD adds a kind at once, with schema, columns, status and scale.

use serde_json::{Value, json};

use crate::support::*;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

pub(crate) fn widget_definition() -> Value {
    let spec = json!({
        "type": "object", "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 10},
            "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
            "code": {"type": "string", "pattern": "^[a-z]+$"},
            "port": {"x-kubernetes-int-or-string": true},
            "replicas": {"type": "integer"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "parts": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}},
            },
        },
    });
    let condition =
        json!({"type": "object", "properties": {"type": {"type": "string"}, "status": {"type": "string"}}});
    let status = json!({
        "type": "object",
        "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}, "conditions": {"type": "array", "items": condition}},
    });
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
            "subresources": {"status": {}, "scale": {
                "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
            "additionalPrinterColumns": [
                {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                {"name": "Color", "type": "string", "priority": 1, "jsonPath": ".spec.color"},
            ],
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wi"], "categories": ["all"]},
            "versions": [version("v1", true), version("v1beta1", false)],
        },
    })
}

pub(crate) fn widget(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "creationTimestamp": null}, "spec": spec})
}

#[tokio::test]
async fn a_definition_can_be_used_at_once() {
    let server = server().await;
    let (code, crd) = post(&server, CRDS, &widget_definition()).await;
    assert_eq!(code, 201, "{crd}");
    assert_eq!(crd["status"]["conditions"][1]["type"], "Established");
    assert_eq!(crd["spec"]["names"]["singular"], "widget");

    let mut object = widget(json!({"size": 3, "free": {"any": 1}, "unknown": 1}));
    let (code, created) = post(&server, WIDGETS, &object).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(
        created["spec"],
        json!({"size": 3, "free": {"any": 1}, "color": "red"}),
        "pruned and defaulted"
    );
    object["metadata"]["name"] = "strict".into();
    let (code, status) = post(&server, &format!("{WIDGETS}?fieldValidation=Strict"), &object).await;
    assert_eq!(
        (code, &status["message"]),
        (
            400,
            &json!(
                "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.unknown\""
            )
        )
    );

    let (_, other) = get(&server, "/apis/example.com/v1beta1/namespaces/default/widgets/w").await;
    assert_eq!((&other["apiVersion"], &other["spec"]["size"]), (&json!("example.com/v1beta1"), &json!(3)));
    let path = format!("{WIDGETS}/w");
    let (_, updated) = patch(
        &server,
        &format!("{path}/status"),
        "merge-patch+json",
        &json!({"spec": {"size": 9}, "status": {"replicas": 2, "selector": "a=b"}}),
    )
    .await;
    assert_eq!((&updated["spec"]["size"], &updated["status"]["replicas"]), (&json!(3), &json!(2)));
    assert_eq!(updated["metadata"]["generation"], 1);
    let (_, scale) =
        patch(&server, &format!("{path}/scale"), "merge-patch+json", &json!({"spec": {"replicas": 4}})).await;
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(4), &json!("a=b")));
    assert_eq!(get(&server, &path).await.1["metadata"]["generation"], 2);
    let (code, _) = patch(&server, &path, "strategic-merge-patch+json", &json!({})).await;
    assert_eq!(code, 415);
}

#[tokio::test]
async fn values_are_checked_against_the_schema() {
    let server = server().await;
    post(&server, CRDS, &widget_definition()).await;
    let spec = json!({"size": 11, "color": "green", "code": "A1", "port": true, "parts": [{"name": "a"}, {"name": "a", "n": "x"}]});
    let (code, status) = post(&server, WIDGETS, &widget(spec)).await;
    assert_eq!(code, 422);
    let mut causes: Vec<String> = status["details"]["causes"].as_array().map_or_else(Vec::new, |all| {
        all.iter()
            .map(|one| {
                format!(
                    "{}: {}",
                    one["field"].as_str().unwrap_or_default(),
                    one["message"].as_str().unwrap_or_default()
                )
            })
            .collect()
    });
    causes.sort();
    assert_eq!(
        causes,
        [
            "spec.code: Invalid value: \"A1\": spec.code in body should match '^[a-z]+$'",
            "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
            "spec.parts[1].n: Invalid value: \"string\": spec.parts[1].n in body must be of type integer: \"string\"",
            "spec.parts[1]: Duplicate value: {\"name\":\"a\"}",
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10",
        ]
    );
    let (_, status) = post(&server, WIDGETS, &widget(json!({}))).await;
    assert_eq!(status["message"], "Widget.example.com \"w\" is invalid: spec.size: Required value");
}

#[tokio::test]
async fn tables_show_the_columns_of_the_definition() {
    let server = server().await;
    post(&server, CRDS, &widget_definition()).await;
    post(&server, WIDGETS, &widget(json!({"size": 3}))).await;
    let status = json!({"status": {"conditions": [{"type": "Active", "status": "False"}, {"type": "Ready", "status": "True"}]}});
    patch(&server, &format!("{WIDGETS}/w/status"), "merge-patch+json", &status).await;
    let request = http::Request::get(WIDGETS)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        .body(axum::body::Body::empty())
        .expect("the request is well formed");
    let (_, table) = send(&server, request).await;
    let cells = table["rows"][0]["cells"].as_array().expect("there are cells");
    assert_eq!((&cells[..3], &cells[4]), (&[json!("w"), json!(3), json!("True")][..], &json!("red")));
    let names: Vec<&Value> = table["columnDefinitions"]
        .as_array()
        .map_or_else(Vec::new, |all| all.iter().map(|one| &one["name"]).collect());
    assert_eq!(names, ["Name", "Size", "Ready", "Age", "Color"]);
    assert_eq!(table["columnDefinitions"][4]["priority"], 1);
}

#[tokio::test]
async fn a_deleted_definition_takes_its_objects_along() {
    let server = server().await;
    post(&server, CRDS, &widget_definition()).await;
    post(&server, WIDGETS, &widget(json!({"size": 3}))).await;
    let path = format!("{CRDS}/widgets.example.com");
    let (code, crd) = request(&server, "DELETE", &path, "application/json", &Value::Null).await;
    assert_eq!((code, &crd["status"]["conditions"][2]["type"]), (200, &json!("Terminating")));
    crate::lifecycle::until_gone(&server, &path).await;
    assert_eq!(get(&server, WIDGETS).await.0, 404, "the kind is gone");
    post(&server, CRDS, &widget_definition()).await;
    assert_eq!(get(&server, WIDGETS).await.1["items"], json!([]), "and its objects are");
}

#[tokio::test]
async fn a_wrong_definition_is_refused() {
    let server = server().await;
    let mut crd = widget_definition();
    crd["metadata"]["name"] = "other".into();
    crd["spec"]["versions"][1]["storage"] = true.into();
    crd["spec"]["versions"][0]["additionalPrinterColumns"][0]["jsonPath"] = ".spec[".into();
    let (code, status) = post(&server, CRDS, &crd).await;
    let fields: Vec<&Value> = status["details"]["causes"]
        .as_array()
        .map_or_else(Vec::new, |all| all.iter().map(|one| &one["field"]).collect());
    assert_eq!(code, 422);
    assert_eq!(
        fields,
        ["metadata.name", "spec.versions", "spec.versions[0].additionalPrinterColumns[0].jsonPath"]
    );
}

/// A key followed only by a comment is null. Kubernetes treats it as absent where the schema allows no null, except
/// in server-side apply.
#[tokio::test]
async fn nulls_are_absent_where_none_are_allowed() {
    let server = server().await;
    post(&server, CRDS, &widget_definition()).await;
    let nulls = || json!({"size": 1, "color": null, "code": null, "parts": null, "free": {"kept": null}});
    let (code, created) = post(&server, WIDGETS, &widget(nulls())).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["spec"], json!({"size": 1, "color": "red", "free": {"kept": null}}));
    let change = json!([{"op": "add", "path": "/spec/code", "value": null}, {"op": "add", "path": "/spec/parts", "value": [{"name": "p", "n": null}]}]);
    let (code, patched) = patch(&server, &format!("{WIDGETS}/w"), "json-patch+json", &change).await;
    assert_eq!((code, &patched["spec"]["parts"]), (200, &json!([{"name": "p"}])), "{patched}");
    let mut required = widget(json!({"size": null}));
    required["metadata"]["name"] = json!("r");
    let (code, status) = post(&server, WIDGETS, &required).await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["reason"]),
        (422, &json!("FieldValueRequired")),
        "{status}"
    );
    let mut applied = widget(json!({"size": 1, "code": null}));
    applied["metadata"] = json!({"name": "applied"});
    let path = format!("{WIDGETS}/applied?fieldManager=m");
    let (code, status) = patch(&server, &path, "apply-patch+yaml", &applied).await;
    assert_eq!(code, 422, "{status}");
    assert!(
        status["message"].as_str().is_some_and(|text| text.contains("must be of type string: \"null\"")),
        "{status}"
    );
}
