//! Memory that a single request can make the server allocate: requests whose data multiplies, each with its
//! expected response.
//!
//! A separate program, because it has a counting allocator. All cases are one test, because they share the counter.
#![allow(clippy::disallowed_methods, reason = "tests use the clock")]

mod counting;
#[path = "it/support.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use std::time::Instant;

use axum::body::Body;
use flyball_apiserver::ApiServer;
use http::Request;
use serde_json::{Value, json};
use support::*;

/// Maximum memory of one request, including everything it creates: a few copies of the largest accepted object.
const MEMORY_MAX: usize = 500 << 20;

struct Case {
    name: &'static str,
    method: &'static str,
    path: String,
    media_type: &'static str,
    body: Vec<u8>,
    codes: &'static [u16],
    /// Text that the response contains.
    says: &'static str,
}

async fn check(server: &ApiServer, case: Case) {
    let request = Request::builder()
        .method(case.method)
        .uri(&case.path)
        .header("content-type", format!("application/{}", case.media_type))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        .body(Body::from(case.body))
        .expect("the request is well formed");
    let before = counting::allocated();
    counting::forget_peak();
    let started = Instant::now();
    let (code, answer) = send(server, request).await;
    let (peak, time) = (counting::peak().saturating_sub(before), started.elapsed());
    let answer = answer.to_string();
    println!("{:>4} MB {:>6} ms  {code}  {}", peak >> 20, time.as_millis(), case.name);
    let shown: String = answer.chars().take(300).collect();
    assert!(case.codes.contains(&code), "{}: {code} {shown}", case.name);
    assert!(answer.contains(case.says), "{}: {shown}", case.name);
    assert!(peak <= MEMORY_MAX, "{}: {} MB", case.name, peak >> 20);
    assert!(code == 200 || answer.len() < 1 << 20, "{}: an answer of {} bytes", case.name, answer.len());
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";

fn definition(spec: Value, columns: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            }],
        },
    })
}

fn thing(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec})
}

fn case(
    name: &'static str,
    method: &'static str,
    path: &str,
    body: &Value,
    code: &'static [u16],
    says: &'static str,
) -> Case {
    Case {
        name,
        method,
        path: path.into(),
        media_type: "json",
        body: body.to_string().into_bytes(),
        codes: code,
        says,
    }
}

fn patches() -> Vec<Case> {
    let deployment = format!("{DEPLOYMENTS}/model");
    let copy = |index| json!({"op": "copy", "from": "/metadata", "path": format!("/metadata/x{index}")});
    let doubling: Vec<Value> = (0..30).map(copy).collect();
    let containers: Vec<Value> = (0..100_000).map(|index| json!({"name": format!("c{index}")})).collect();
    let merge = |containers: &[Value]| json!({"spec": {"template": {"spec": {"containers": containers}}}});
    let patch = |name, media_type, body: &Value, codes, says| Case {
        media_type,
        ..case(name, "PATCH", &deployment, body, codes, says)
    };
    vec![
        patch(
            "a JSON patch of copies",
            "json-patch+json",
            &doubling.into(),
            &[422],
            "accumulated size increase",
        ),
        patch(
            "a strategic patch of many containers",
            "strategic-merge-patch+json",
            &merge(&containers),
            &[413, 422],
            "",
        ),
        patch("a merge patch of many containers", "merge-patch+json", &merge(&containers), &[413, 422], ""),
        patch(
            "a merge patch of long lists",
            "merge-patch+json",
            &merge(&vec![json!([]); 1_000_000]),
            &[400, 413],
            "",
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let mut laughs = String::from("data:\n  a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..7 {
        let before = vec![format!("*a{}", level - 1); 10].join(",");
        laughs.push_str(&format!("  a{level}: &a{level} [{before}]\n"));
    }
    let maps = format!("[{}]", vec![r#"{"a":1}"#; 370_000].join(","));
    let long = "k".repeat(1 << 20);
    let unknown: serde_json::Map<String, Value> = (0..100_000).map(|n| (n.to_string(), json!(1))).collect();
    let template = vec![json!({}); 900_000];
    vec![
        Case {
            media_type: "yaml",
            body: laughs.into_bytes(),
            ..case("YAML that laughs", "POST", MAPS, &json!({}), &[400, 413], "")
        },
        Case {
            body: maps.into_bytes(),
            ..case("many small maps", "POST", MAPS, &json!({}), &[413], "more memory")
        },
        case("many fields below a long key", "POST", MAPS, &json!({long: unknown}), &[422, 400], ""),
        case(
            "many empty containers",
            "POST",
            PODS,
            &json!({"metadata": {"name": "p"}, "spec": {"containers": template}}),
            &[400],
            "too many items",
        ),
        case(
            "many containers",
            "POST",
            PODS,
            &json!({"metadata": {"name": "p"}, "spec": {"containers": vec![json!({"name": "c"}); 60_000]}}),
            &[400],
            "",
        ),
        case(
            "many wrong annotations",
            "POST",
            MAPS,
            &json!({"metadata": {"name": "m", "annotations": (0..120_000).map(|n| (format!("/{n}"), json!("x"))).collect::<serde_json::Map<_, _>>()}}),
            &[422],
            "more",
        ),
    ]
}

fn definitions() -> Vec<Case> {
    let nested = format!(".a{}", "[?(@".repeat(100_000));
    let patterns: serde_json::Map<String, Value> = (0..300)
        .map(|n| (format!("p{n}"), json!({"type": "string", "pattern": format!("^[a-z]+{n}$")})))
        .collect();
    let fields: serde_json::Map<String, Value> = (0..100_000).map(|n| (format!("p{n}"), json!({}))).collect();
    let define = |name, spec: &Value, says| {
        case(name, "POST", CRDS, &definition(spec.clone(), json!([])), &[422, 413], says)
    };
    vec![
        case(
            "a path of nested filters",
            "POST",
            CRDS,
            &definition(json!({}), json!([{"name": "A", "type": "string", "jsonPath": nested}])),
            &[422],
            "longer than",
        ),
        define("many patterns", &json!({"type": "object", "properties": patterns}), "different patterns"),
        define("many fields", &json!({"type": "object", "properties": fields}), ""),
        define(
            "a reference",
            &json!({"$ref": "#/definitions/io.k8s.api.core.v1.PodSpec"}),
            "$ref is not supported",
        ),
    ]
}

/// A CRD whose defaults multiply, and objects that request them.
async fn defaults(server: &ApiServer) {
    let items =
        json!({"type": "object", "properties": {"big": {"type": "string", "default": "x".repeat(500_000)}}});
    let spec = json!({"type": "object", "properties": {
        "list": {"type": "array", "items": items}, "map": {"type": "object", "additionalProperties": items},
    }});
    let column = |n| json!({"name": format!("C{n}"), "type": "string", "jsonPath": ".spec.list[*].big"});
    let columns: Vec<Value> = (0..64).map(column).collect();
    let (code, status) = post(server, CRDS, &definition(spec, columns.into())).await;
    assert_eq!(code, 201, "{status}");
    let map: serde_json::Map<String, Value> = (0..50_000).map(|n| (n.to_string(), json!({}))).collect();
    check(
        server,
        case(
            "defaults in each item",
            "POST",
            THINGS,
            &thing(json!({"list": vec![json!({}); 100_000]})),
            &[403],
            "the defaults of",
        ),
    )
    .await;
    check(
        server,
        case("defaults in each value", "POST", THINGS, &thing(json!({"map": map})), &[403, 413], ""),
    )
    .await;
    check(
        server,
        case("a few defaults", "POST", THINGS, &thing(json!({"list": vec![json!({}); 5]})), &[201], ""),
    )
    .await;
    check(server, case("columns of large values", "GET", THINGS, &Value::Null, &[200], "columnDefinitions"))
        .await;
}

/// Many managers, each with many fields.
async fn managers(server: &ApiServer) {
    let apply = |manager: usize, value: &str| {
        let data: serde_json::Map<String, Value> =
            (0..60_000).map(|n| (format!("k{n}"), value.into())).collect();
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned"}, "data": data});
        let path = format!("{MAPS}/owned?fieldManager=m{manager}");
        Case {
            media_type: "apply-patch+yaml",
            ..case("an apply", "PATCH", &path, &map, &[200, 201, 409, 413], "")
        }
    };
    check(server, apply(0, "a")).await;
    check(server, Case { codes: &[409], says: "and 59900 more", ..apply(1, "b") }).await;
    check(server, apply(2, "a")).await;
    check(server, Case { codes: &[413], says: "limit is 3145728", ..apply(3, "a") }).await;
}

#[test]
fn no_request_takes_more_memory_than_some_of_the_largest_objects() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        let server = server().await;
        assert_eq!(post(&server, DEPLOYMENTS, &deployment("model")).await.0, 201);
        for case in patches().into_iter().chain(bodies()).chain(definitions()) {
            check(&server, case).await;
        }
        defaults(&server).await;
        managers(&server).await;
        let selector: Vec<String> = (0..2000).map(|n| format!("l{n}")).collect();
        let path = format!("{PODS}?labelSelector={}", selector.join(","));
        check(&server, case("a long selector", "GET", &path, &Value::Null, &[400], "too many requirements"))
            .await;
    });
}
