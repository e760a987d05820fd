//! Tests of the table: a kind added only here is served like any other.

use axum::body::{Body, to_bytes};
use http::{Request, header};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::row::{Row, namespaced};
use super::{ROWS, Sub};
use crate::cells::{AGE, NAME, age, column};
use crate::object::{default, name, text};
use crate::{ApiServer, Options};

static WIDGET: Row = Row {
    short_names: &["wd"],
    subresources: &[Sub::Status],
    columns: const { &[NAME, column("Color"), AGE] },
    cells: |object, now| vec![name(object).into(), text(object, "data.color").into(), age(object, now)],
    field_selectors: &["data.color"],
    defaults: |object| default(&mut object["data"], "size", "small"),
    on_create: |object, _| object["status"] = json!({"phase": "New"}),
    validate: |object, problems| problems.one_of(object, "", "data.color", &["blue", "red"]),
    validate_update: |current, object, _, problems| problems.immutable(current, object, "data.size"),
    ..namespaced::<ConfigMap>(["test.flyball.dev", "v1"], "Widget", "widgets")
};

const WIDGETS: &str = "/apis/test.flyball.dev/v1/namespaces/default/widgets";

async fn call(server: &ApiServer, method: &str, path: &str, accept: &str, body: Value) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, accept)
        .header(header::CONTENT_TYPE, "application/json")
        .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) })
        .unwrap();
    let response = server.router().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn widget(name: &str, color: &str) -> Value {
    json!({"apiVersion": "test.flyball.dev/v1", "kind": "Widget", "metadata": {"name": name}, "data": {"color": color}})
}

/// Watches widgets for a second; returns event types and names.
async fn watched(server: &ApiServer, query: &str) -> Vec<(String, String)> {
    let request = Request::builder()
        .uri(format!("{WIDGETS}?watch=true&timeoutSeconds=1&{query}"))
        .body(Body::empty())
        .unwrap();
    let response = server.router().oneshot(request).await.unwrap();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let events = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let event = |line: &[u8]| {
        let event: Value = serde_json::from_slice(line).unwrap();
        (text(&event, "type").to_owned(), text(&event, "object.metadata.name").to_owned())
    };
    events.map(event).collect()
}

#[tokio::test]
async fn a_new_kind_is_one_row() {
    let server = ApiServer::open(Options::default()).await.unwrap();
    assert_eq!(call(&server, "GET", WIDGETS, "", Value::Null).await.0, 404);
    server.add_kind(&WIDGET);

    let json = "application/json";
    let (code, created) = call(&server, "POST", WIDGETS, json, widget("a", "red")).await;
    assert_eq!(
        (code, &created["data"]["size"], &created["status"]["phase"]),
        (201, &json!("small"), &json!("New"))
    );
    assert_eq!(call(&server, "POST", WIDGETS, json, widget("b", "blue")).await.0, 201);
    let (code, refused) = call(&server, "POST", WIDGETS, json, widget("c", "green")).await;
    let message = "Widget.test.flyball.dev \"c\" is invalid: data.color: Unsupported value: \"green\": supported values: \
                   \"blue\", \"red\"";
    assert_eq!((code, refused["message"].as_str()), (422, Some(message)));

    let (_, list) =
        call(&server, "GET", &format!("{WIDGETS}?fieldSelector=data.color%3Dblue"), json, Value::Null).await;
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|item| text(item, "metadata.name")).collect();
    assert_eq!((list["kind"].as_str(), names), (Some("WidgetList"), vec!["b"]));

    assert_eq!(
        watched(&server, "resourceVersion=0").await,
        [("ADDED".into(), "a".into()), ("ADDED".into(), "b".into())]
    );
    assert_eq!(watched(&server, "fieldSelector=data.color%3Dblue").await, [("ADDED".into(), "b".into())]);

    let as_table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let (_, table) = call(&server, "GET", &format!("{WIDGETS}/a"), as_table, Value::Null).await;
    assert_eq!(table["columnDefinitions"][1]["name"], "Color");
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..2], [json!("a"), json!("red")]);

    let mut changed = created.clone();
    changed["data"]["size"] = json!("large");
    let (code, refused) = call(&server, "PUT", &format!("{WIDGETS}/a"), json, changed).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("data.size")));

    let (_, discovered) = call(&server, "GET", "/apis/test.flyball.dev/v1", json, Value::Null).await;
    let resource = &discovered["resources"][0];
    assert_eq!((&resource["name"], &resource["shortNames"]), (&json!("widgets"), &json!(["wd"])));
}

/// Every row is consistent: as many cells as columns, unique names, a schema of its stored form.
#[test]
fn rows_make_sense() {
    let mut names = std::collections::BTreeSet::new();
    for row in ROWS {
        let cells = (row.cells)(&json!({"metadata": {"name": "a"}}), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells.len(), row.columns.len(), "{}", row.kind);
        assert!(names.insert((row.group, row.version, row.plural)), "{} is there twice", row.plural);
        if let Some(stored) = row.stored_as {
            assert!(super::schema_of(stored.api_version, row.kind).is_some(), "{}", row.kind);
        }
    }
}
