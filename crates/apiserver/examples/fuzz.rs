//! Fuzzes the server: `cargo run --release -p flyball-apiserver --example fuzz -- --seconds 3600`.
//!
//! Sends realistic requests for many kinds, and mutates their path, query, headers, and body (JSON, YAML, protobuf,
//! every patch type), in process. Findings are panics, responses of 500 and above that indicate a bug, slow
//! requests, and growing memory. `--seed N` repeats a run; each finding names its request.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock and its arguments")]

#[path = "../tests/counting/mod.rs"]
mod counting;

use std::time::{Duration, Instant};

use axum::body::Body;
use flyball_apiserver::{ApiServer, Options};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

/// Time above which a request is a finding. Debug builds are many times slower.
const TIME_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 3 });
/// Maximum memory of one request, and of everything stored.
const MEMORY_MAX: usize = 700 << 20;
/// Requests per server; then a new one starts, and memory must have returned to its former level.
const ROUND: u64 = 20_000;
/// Memory that a dropped server may leave behind: schemas of built-in kinds, caches.
const LEFT_MAX: usize = 64 << 20;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or(0)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A kind: its path, with the namespace if it is namespaced, and an object.
struct Kind {
    path: &'static str,
    object: Value,
}

fn kinds() -> Vec<Kind> {
    let kind = |path, api_version: &str, kind: &str, rest: Value| {
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {
            "name": "a", "labels": {"app": "a"}, "annotations": {"note": "text"}, "finalizers": ["example.com/hold"]}});
        object
            .as_object_mut()
            .into_iter()
            .for_each(|map| map.extend(rest.as_object().cloned().unwrap_or_default()));
        Kind { path, object }
    };
    let probe = json!({"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1});
    let pod = json!({"containers": [{
        "name": "c", "image": "i:1", "args": ["a", "b"], "ports": [{"containerPort": 8000, "name": "http"}], "readinessProbe": probe,
        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": {"requests": {"cpu": "50m", "memory": "1Gi"}, "limits": {"cpu": "100m", "memory": "2Gi"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]}], "volumes": [{"name": "v", "emptyDir": {}}]});
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": pod});
    let selector = json!({"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]});
    let mut job = template.clone();
    job["spec"]["restartPolicy"] = json!("Never");
    let thing = json!({"type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "minimum": 1, "default": 3}, "code": {"type": "string", "pattern": "^[a-z]{1,9}$", "nullable": true},
        "list": {"type": "array", "maxItems": 9, "items": {"type": "object", "properties": {"x": {"type": "string", "default": "d"}}}},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "map": {"type": "object", "additionalProperties": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": thing}}},
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
        "additionalPrinterColumns": [{"name": "X", "type": "string", "jsonPath": ".spec.list[?(@.x==\"d\")].x"}]});
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    vec![
        kind(
            "/api/v1/namespaces/default/configmaps",
            "v1",
            "ConfigMap",
            json!({"data": {"a": "1", "b": "2"}}),
        ),
        kind(
            "/api/v1/namespaces/default/secrets",
            "v1",
            "Secret",
            json!({"stringData": {"a": "1"}, "data": {"b": "YQ=="}}),
        ),
        kind("/api/v1/namespaces/default/pods", "v1", "Pod", json!({"spec": pod})),
        kind(
            "/api/v1/namespaces/default/services",
            "v1",
            "Service",
            json!({"spec": {"selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": "http"}], "type": "NodePort"}}),
        ),
        kind(
            "/api/v1/namespaces/default/limitranges",
            "v1",
            "LimitRange",
            json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "max": {"cpu": "2"}}]}}),
        ),
        kind("/api/v1/namespaces", "v1", "Namespace", json!({})),
        kind("/api/v1/nodes", "v1", "Node", json!({"spec": {"podCIDR": "10.0.0.0/24"}})),
        kind(
            "/api/v1/namespaces/default/events",
            "v1",
            "Event",
            json!({"involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"}, "reason": "R"}),
        ),
        kind(
            "/apis/apps/v1/namespaces/default/deployments",
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 1, "selector": selector, "template": template, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}}}),
        ),
        kind(
            "/apis/apps/v1/namespaces/default/statefulsets",
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"serviceName": "a", "selector": selector, "template": template}}),
        ),
        kind(
            "/apis/batch/v1/namespaces/default/jobs",
            "batch/v1",
            "Job",
            json!({"spec": {"template": job, "backoffLimit": 2}}),
        ),
        kind(
            "/apis/batch/v1/namespaces/default/cronjobs",
            "batch/v1",
            "CronJob",
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": job}}}}),
        ),
        kind(
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "a", "apiVersion": "apps/v1"}, "maxReplicas": 3, "metrics": [metric], "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}]}}}}),
        ),
        kind(
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {"minAvailable": "50%", "selector": selector}}),
        ),
        kind(
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            "coordination.k8s.io/v1",
            "Lease",
            json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 3, "renewTime": "2026-01-01T00:00:00.000000Z"}}),
        ),
        kind(
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        ),
        kind(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"}, "versions": [version]}}),
        ),
        kind(
            "/apis/example.com/v1/namespaces/default/things",
            "example.com/v1",
            "Thing",
            json!({"spec": {"size": 2, "code": "abc", "list": [{}], "parts": [{"name": "p"}], "map": {"a": 1}, "free": {"x": [1]}}}),
        ),
        kind(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
            json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}),
        ),
    ]
}

/// Returns a value that is often invalid where it is inserted.
fn hostile(random: &mut Random) -> Value {
    match random.below(24) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(i64::MAX),
        3 => json!(u64::MAX),
        4 => json!(1e308),
        5 => json!(""),
        6 => json!("x".repeat(1 << random.below(17))),
        7 => json!("é\u{0}\u{202e}\u{1f600}/.%\\\"'"),
        8 => json!([]),
        9 => json!({}),
        10 => Value::Array(vec![json!({}); 1 << random.below(13)]),
        11 => (0..random.below(110)).fold(json!(1), |inner, _| json!({"a": inner})),
        12 => (0..random.below(110)).fold(json!(1), |inner, _| json!([inner])),
        13 => json!("2026-13-45T99:99:99Z"),
        14 => {
            json!(*random.pick(&["1e99", "-0", "1Ki1", "9".repeat(40).as_str(), "0x1", "+1.5.5E3", "100m"]))
        }
        15 => json!(*random.pick(&["(a{1000}){1000}", "[", "(?i)\\pL{200}", "^(a|a)*$", "\\"])),
        16 => json!(true),
        17 => json!({"$patch": *random.pick(&["replace", "delete", "merge", "x"])}),
        18 => json!([{"$patch": "replace"}, {"name": "c"}]),
        19 => Value::Array((0..1 << random.below(12)).map(|n| json!({"name": n.to_string()})).collect()),
        20 => Value::Object((0..1 << random.below(12)).map(|n| (format!("k{n}"), json!(n))).collect()),
        21 => json!({"f:spec": {"f:x": {}, ".": {}, "k:{\"name\":\"a\"}": {}}}),
        22 => json!("../../etc/passwd"),
        _ => json!(random.next()),
    }
}

/// Mutates a random part of a value.
fn mutate(random: &mut Random, value: &mut Value) {
    match value {
        Value::Object(map) if !map.is_empty() && !random.one_in(6) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = random.pick(&keys).clone();
            match random.below(12) {
                0 => drop(map.remove(&key)),
                1 => {
                    let new = random.pick(&[
                        "$patch",
                        "$retainKeys",
                        "$setElementOrder/containers",
                        "$deleteFromPrimitiveList/finalizers",
                        "",
                        "a.b",
                        "a/b",
                        "managedFields",
                        "default",
                        "$ref",
                        "pattern",
                    ]);
                    map.insert((*new).to_owned(), hostile(random));
                }
                2 => {
                    let other = random.pick(&keys).clone();
                    let copied = map[&other].clone();
                    map.insert(key, copied);
                }
                _ => map
                    .values_mut()
                    .nth(keys.iter().position(|one| *one == key).unwrap_or(0))
                    .into_iter()
                    .for_each(|inner| mutate(random, inner)),
            }
        }
        Value::Array(items) if !items.is_empty() && !random.one_in(4) => match random.below(6) {
            0 => {
                let again = random.pick(items).clone();
                let doublings = if random.one_in(40) { 12 } else { 3 };
                let count = 1 << random.below(doublings);
                items.extend(vec![again; count]);
            }
            1 => drop(items.pop()),
            _ => {
                let index = random.below(items.len());
                mutate(random, &mut items[index]);
            }
        },
        other => *other = hostile(random),
    }
}

fn pointer(random: &mut Random, value: &Value) -> String {
    let mut path = String::new();
    let mut at = value;
    while !random.one_in(3) {
        match at {
            Value::Object(map) if !map.is_empty() => {
                let (key, inner) = map.iter().nth(random.below(map.len())).unwrap_or_else(|| unreachable!());
                path += &format!("/{}", key.replace('~', "~0").replace('/', "~1"));
                at = inner;
            }
            Value::Array(items) if !items.is_empty() => {
                let index = random.below(items.len());
                path += &format!("/{index}");
                at = &items[index];
            }
            _ => break,
        }
    }
    if random.one_in(4) {
        path += *random.pick(&["/-", "/x", "/0", "/", "/~1", "/99999999999999999999"]);
    }
    path
}

fn operations(random: &mut Random, object: &Value) -> Value {
    let count = if random.one_in(20) { 2000 } else { 1 + random.below(30) };
    let mut operation = || {
        let name = *random.pick(&["add", "remove", "replace", "move", "copy", "copy", "test"]);
        let (path, from) = (pointer(random, object), pointer(random, object));
        json!({"op": name, "path": path, "from": from, "value": hostile(random)})
    };
    (0..count).map(|_| operation()).collect()
}

/// Encodes an object as a body; returns media type and bytes.
fn body(random: &mut Random, method: &str, object: &Value) -> (String, Vec<u8>) {
    let mut value = object.clone();
    for _ in 0..random.below(5) {
        mutate(random, &mut value);
    }
    let media_type = match method {
        "PATCH" => *random.pick(&[
            "json-patch+json",
            "merge-patch+json",
            "strategic-merge-patch+json",
            "apply-patch+yaml",
        ]),
        _ => *random.pick(&["json", "json", "json", "yaml", "vnd.kubernetes.protobuf"]),
    };
    if media_type == "json-patch+json" {
        value = operations(random, object);
    }
    let mut bytes = value.to_string().into_bytes();
    if media_type == "yaml" && random.one_in(3) {
        bytes = b"a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, {<<: *a}]\n".repeat(1 + random.below(3));
    }
    if media_type == "vnd.kubernetes.protobuf" {
        bytes = protobuf(random);
    }
    for _ in 0..if random.one_in(4) { random.below(8) } else { 0 } {
        let at = random.below(bytes.len());
        match random.below(3) {
            0 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            1 => bytes.insert(at.min(bytes.len()), random.next() as u8),
            _ => bytes.truncate(at),
        }
    }
    (format!("application/{media_type}"), bytes)
}

/// Encodes a message as kubectl does: nested fields with mostly known numbers.
fn protobuf(random: &mut Random) -> Vec<u8> {
    fn field(tag: usize, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![(tag << 3 | 2) as u8];
        let mut length = bytes.len();
        while length > 0x7f {
            field.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        [&field, bytes].concat()
    }
    fn message(random: &mut Random, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..random.below(6) {
            let tag = 1 + random.below(12);
            match random.below(4) {
                0 => bytes.extend([(tag << 3) as u8, random.below(128) as u8]),
                1 => bytes.extend(field(tag, b"text")),
                _ if depth < 6 => bytes.extend(field(tag, &message(random, depth + 1))),
                _ => bytes.extend(field(tag, b"")),
            }
        }
        if random.one_in(30) { bytes.repeat(1 + random.below(200)) } else { bytes }
    }
    let (version, kind) = *random.pick(&[
        ("v1", "Pod"),
        ("v1", "Service"),
        ("apps/v1", "Deployment"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("v1", "ConfigMap"),
    ]);
    let meta = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &meta), field(2, &message(random, 0))].concat()
}

fn query(random: &mut Random) -> String {
    const KEYS: [&str; 14] = [
        "watch",
        "labelSelector",
        "fieldSelector",
        "limit",
        "continue",
        "resourceVersion",
        "resourceVersionMatch",
        "sendInitialEvents",
        "timeoutSeconds",
        "dryRun",
        "fieldManager",
        "fieldValidation",
        "force",
        "includeObject",
    ];
    const VALUES: [&str; 22] = [
        "true",
        "1",
        "0",
        "",
        "a=b",
        "a%20in%20(b,c)",
        "metadata.name=a",
        "All",
        "Strict",
        "Warn",
        "Ignore",
        "NotOlderThan",
        "Exact",
        "-1",
        "99999999999999999999",
        "%00%ff%",
        "a%3Db%2C!c%2Cd%3E1",
        "()",
        "((((",
        "MSAvYQ",
        "Object",
        "manager",
    ];
    let pairs: Vec<String> =
        (0..random.below(4)).map(|_| format!("{}={}", random.pick(&KEYS), random.pick(&VALUES))).collect();
    pairs.join("&")
}

fn request(random: &mut Random, kinds: &[Kind]) -> (Request<Body>, String) {
    let kind = random.pick(kinds);
    let method =
        *random.pick(&["GET", "GET", "POST", "POST", "POST", "PUT", "PATCH", "PATCH", "PATCH", "DELETE"]);
    let mut object = kind.object.clone();
    let name = *random.pick(&["a", "b", "c", "things.example.com"]);
    if kind.object["kind"] != "CustomResourceDefinition" || random.one_in(4) {
        object["metadata"]["name"] = name.into();
    }
    let name = object["metadata"]["name"].as_str().unwrap_or(name).to_owned();
    let mut path = kind.path.to_owned();
    if method != "POST" && !random.one_in(8) {
        path += &format!("/{name}");
        if random.one_in(5) {
            path += *random.pick(&[
                "/status",
                "/scale",
                "/log",
                "/binding",
                "/eviction",
                "/resize",
                "/finalize",
                "/proxy/x",
                "/x",
            ]);
        }
    }
    if random.one_in(30) {
        path = (*random.pick(&[
            "/api",
            "/apis",
            "/openapi/v2",
            "/openapi/v3",
            "/openapi/v3/apis/apps/v1",
            "/version",
            "/healthz",
            "/%2e%2e/%00",
            "//",
            "/apis//v1/x",
            "/api/v1/namespaces//pods/a",
        ]))
        .to_owned();
    }
    let uri = format!("{path}?{}", query(random));
    let (media_type, bytes) = body(random, method, &object);
    let accept = *random.pick(&[
        "application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "application/vnd.kubernetes.protobuf, */*",
        "x",
    ]);
    let shown = format!(
        "{method} {uri} ({media_type}, {accept})\n{}",
        String::from_utf8_lossy(&bytes[..bytes.len().min(2000)])
    );
    let request = Request::builder()
        .method(method)
        .uri(&uri)
        .header("content-type", media_type)
        .header("accept", accept)
        .header("user-agent", *random.pick(&["fuzz/1", "", "/", "kubectl/v1.37.2"]));
    (request.body(Body::from(bytes)).unwrap_or_else(|_| Request::new(Body::empty())), shown)
}

/// Outcome of a request: its code, or why there is none.
async fn ask(server: &ApiServer, request: Request<Body>) -> Result<u16, String> {
    let server = server.clone();
    let asked = tokio::spawn(async move {
        let Ok(response) = server.router().oneshot(request).await;
        let code = response.status().as_u16();
        let mut body = response.into_body();
        // Watches are endless; their first events are enough.
        while let Ok(Some(Ok(_))) = tokio::time::timeout(Duration::from_millis(20), body.frame()).await {}
        code
    });
    asked.await.map_err(|error| format!("a panic: {error}"))
}

#[derive(Default)]
struct Summary {
    requests: u64,
    codes: Map<String, Value>,
    findings: u64,
    slowest: Duration,
    largest: usize,
}

impl Summary {
    fn note(&mut self, what: &str, shown: &str) {
        self.findings += 1;
        println!("FINDING {what}\n{shown}\n");
    }

    async fn check(&mut self, server: &ApiServer, request: Request<Body>, shown: &str) {
        let before = counting::allocated();
        counting::forget_peak();
        let started = Instant::now();
        let result = ask(server, request).await;
        let (time, memory) = (started.elapsed(), counting::peak().saturating_sub(before));
        self.requests += 1;
        self.slowest = self.slowest.max(time);
        self.largest = self.largest.max(memory);
        match result {
            Err(why) => self.note(&why, shown),
            Ok(code) => {
                let count = self.codes.get(&code.to_string()).and_then(Value::as_u64).unwrap_or(0);
                self.codes.insert(code.to_string(), (count + 1).into());
                // 504 answers a resourceVersion in the future, and 503 stands for a node whose server is not there.
                if code >= 500 && code != 504 && !(code == 503 && shown.contains("/proxy")) {
                    self.note(&format!("code {code}"), shown);
                }
            }
        }
        if time > TIME_MAX {
            self.note(&format!("{time:?}"), shown);
        }
        if memory > MEMORY_MAX {
            self.note(&format!("{} MB", memory >> 20), shown);
        }
    }

    fn print(&self, started: Instant) {
        println!(
            "{:>5} s  {} requests  {} findings  slowest {:?}  largest {} MB  now {} MB  {}",
            started.elapsed().as_secs(),
            self.requests,
            self.findings,
            self.slowest,
            self.largest >> 20,
            counting::allocated() >> 20,
            Value::Object(self.codes.clone())
        );
    }
}

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> std::process::ExitCode {
    let (seconds, seed) = (argument("--seconds", 60), argument("--seed", 1));
    let (kinds, mut random) = (kinds(), Random(seed));
    let (started, mut summary, mut minute) = (Instant::now(), Summary::default(), 1);
    let (mut left, mut round) = (None, 0);
    println!("seed {seed}, {seconds} s");
    while started.elapsed().as_secs() < seconds {
        let server = match ApiServer::open(Options::default()).await {
            Ok(server) => server,
            Err(error) => {
                println!("no server: {error}");
                return std::process::ExitCode::FAILURE;
            }
        };
        for _ in 0..ROUND {
            let (request, shown) = request(&mut random, &kinds);
            summary.check(&server, request, &shown).await;
            if started.elapsed().as_secs() >= minute * 60 {
                minute += 1;
                summary.print(started);
            }
            if started.elapsed().as_secs() >= seconds {
                break;
            }
        }
        server.close();
        drop(server);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (now, first) = (counting::allocated(), *left.get_or_insert(counting::allocated()));
        if now > first + LEFT_MAX {
            summary.note(
                &format!("{} MB are left after round {round}, {} MB after the first", now >> 20, first >> 20),
                "",
            );
        }
        round += 1;
    }
    summary.print(started);
    if summary.findings == 0 { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
