//! kubectl's output for autoscalers, byte for byte: the real kubectl against a served socket; skipped where kubectl
//! is not installed.
//!
//! `printing/*.txt` contains scenarios. `== name` starts one, in a namespace of that name; then follow YAML
//! documents with their status, and commands (`$ kubectl …`) with their complete output. An event refers to the
//! first object; `-3h` is a time that long ago. Only ages in seconds and dates differ between runs; they are
//! normalized to `0s` and `Thu, 01 Jan 1970 00:00:00 +0000`, which have the same width.

use std::path::Path;
use std::process::Stdio;

use flyball_apiserver::{ApiServer, write_private};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::kubectl::installed;
use crate::support::*;

/// API paths of the kinds that a scenario may use.
const PATHS: [(&str, &str, &str); 5] = [
    ("HorizontalPodAutoscaler", "apis/autoscaling/v2", "horizontalpodautoscalers"),
    ("ScaledObject", "apis/keda.sh/v1alpha1", "scaledobjects"),
    ("ScaledJob", "apis/keda.sh/v1alpha1", "scaledjobs"),
    ("VerticalPodAutoscaler", "apis/autoscaling.k8s.io/v1", "verticalpodautoscalers"),
    ("Event", "api/v1", "events"),
];

/// Runs one scenario and compares the output.
struct Situation<'a> {
    name: &'a str,
    documents: Vec<Value>,
    commands: Vec<(&'a str, &'a str)>,
}

fn situations(text: &str) -> Vec<Situation<'_>> {
    let parts = text.split("\n== ").skip(1);
    parts
        .map(|part| {
            let (name, rest) = part.split_once('\n').expect("a situation has lines");
            let (documents, commands) = rest.split_once("$ kubectl ").expect("a situation has a command");
            let commands = commands.trim_end_matches('\n').split("\n$ kubectl ");
            Situation {
                name: name.trim(),
                documents: documents
                    .split("\n---\n")
                    .filter(|document| !document.trim().is_empty())
                    .map(|document| serde_saphyr::from_str(document).expect("a document is YAML"))
                    .collect(),
                commands: commands.map(|one| one.split_once('\n').unwrap_or((one, ""))).collect(),
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_prints_autoscalers_as_on_a_cluster() {
    if !installed().await {
        return;
    }
    let server = server().await;
    for crd in flyball_api::kinds::crds() {
        let crd = serde_json::to_value(crd).expect("a definition is JSON");
        let (code, answer) =
            post(&server, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await;
        assert_eq!(code, 201, "{answer}");
    }
    let folder = tempfile::tempdir().expect("there is room for a folder");
    serve(&server, folder.path()).await;
    let (mut count, mut wrong) = (0, Vec::new());
    for file in ["hpa", "describe", "keda", "vpa"] {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/printing").join(format!("{file}.txt"));
        let text = std::fs::read_to_string(path).expect("the file is there");
        for situation in situations(&text) {
            count += 1;
            wrong.extend(check(&server, folder.path(), &situation).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 25, "{count} situations");
}

/// Returns the commands whose output differs from the expected one.
async fn check(server: &ApiServer, folder: &Path, situation: &Situation<'_>) -> Vec<String> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": situation.name}});
    assert_eq!(post(server, "/api/v1/namespaces", &namespace).await.0, 201, "{}", situation.name);
    let mut about = Value::Null;
    for document in &situation.documents {
        let stored = create(server, situation.name, document.clone(), &about).await;
        if about.is_null() {
            about = stored;
        }
    }
    let mut wrong = Vec::new();
    for (command, expected) in &situation.commands {
        let printed = fixed(&run(folder, situation.name, command).await);
        if printed.trim_end_matches('\n') != *expected {
            wrong.push(format!("== {}\n$ kubectl {command}\n{printed}", situation.name));
        }
    }
    wrong
}

/// Stores a document, and then its status, as a controller would.
async fn create(server: &ApiServer, namespace: &str, mut document: Value, about: &Value) -> Value {
    let kind = document["kind"].as_str().expect("a document has a kind").to_owned();
    if kind == "Event" {
        fill_event(&mut document, about);
    }
    let (_, group, plural) = PATHS.iter().find(|(own, ..)| *own == kind).expect("the kind has a path");
    document["apiVersion"] = group.trim_start_matches("apis/").trim_start_matches("api/").into();
    let path = format!("/{group}/namespaces/{namespace}/{plural}");
    let (code, mut stored) = post(server, &path, &document).await;
    assert_eq!(code, 201, "{namespace}: {stored}");
    if !document["status"].is_null() {
        stored["status"] = document["status"].clone();
        let name = stored["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let (code, answer) =
            request(server, "PUT", &format!("{path}/{name}/status"), "application/json", &stored).await;
        assert_eq!(code, 200, "{namespace}: {answer}");
    }
    stored
}

fn fill_event(event: &mut Value, about: &Value) {
    let metadata = &about["metadata"];
    event["involvedObject"] = json!({
        "apiVersion": about["apiVersion"], "kind": about["kind"], "name": metadata["name"],
        "namespace": metadata["namespace"], "uid": metadata["uid"],
    });
    for key in ["firstTimestamp", "lastTimestamp"] {
        let ago: SignedDuration =
            event[key].as_str().expect("an event has times").parse().expect("a time is a duration");
        let at = Timestamp::now().saturating_add(ago).expect("it is not that long ago");
        event[key] = Timestamp::from_second(at.as_second()).expect("a time").to_string().into();
    }
}

async fn serve(server: &ApiServer, folder: &Path) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    write_private(&folder.join("config"), &server.kubeconfig(address)).expect("the file can be written");
    let served = server.clone();
    tokio::spawn(async move { served.serve(listener, std::future::pending()).await });
}

/// Returns kubectl's stdout and stderr.
async fn run(folder: &Path, namespace: &str, arguments: &str) -> String {
    let output = Command::new("kubectl")
        .args(["--kubeconfig", &folder.join("config").display().to_string()])
        .args(["--cache-dir", &folder.join("cache").display().to_string(), "--namespace", namespace])
        .args(arguments.split_whitespace())
        .env("HOME", folder)
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .await
        .expect("kubectl starts");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Normalizes the parts of the text that depend on the time of the run.
fn fixed(text: &str) -> String {
    let age = regex::Regex::new(r"\b\d+s\b( *)").expect("a good expression");
    let date = regex::Regex::new(r"(?m)^(CreationTimestamp: +).*$").expect("a good expression");
    let text = age.replace_all(text, |found: &regex::Captures<'_>| {
        let width = if found[1].is_empty() { 0 } else { found[0].len() };
        format!("{:<width$}", "0s")
    });
    date.replace_all(&text, "${1}Thu, 01 Jan 1970 00:00:00 +0000").into_owned()
}
