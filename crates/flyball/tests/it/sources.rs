//! Sources of metrics that break, and targets that must keep their replicas: `tables/broken-sources.yaml`, all at once
//! against one world.
//!
//! Each row has a source of its own at the server of this test, and a trigger for each of its variants. Triggers of the
//! same variant share ScaledObjects, which keeps the test quick: what each trigger asks for stands in every decision, so
//! one that asks for too little is seen although the others of its object fail. The targets are paused Deployments, so
//! they have a scale and no pods. A bait, a series that reads little, stands in the built-in store for every trigger
//! that is not to be answered from there.

mod server;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sources::server::{Send, Server};
use crate::world::{World, text};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tables/broken-sources.yaml");
/// Replicas that every target has, and that the good answer asks for.
const REPLICAS: u64 = 4;
/// Longer than anything takes until it is seen, on a machine that builds something else, too.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long nothing may happen once every source is seen to be broken: some polls and their time-outs.
const WATCH: Duration = Duration::from_secs(6);
/// Triggers of one ScaledObject. A control has its own: it changes the replicas.
const TRIGGERS_MAX: usize = 12;
/// Codes of metrics that can't be used.
const UNUSABLE: [&str; 4] = ["MetricMissing", "MetricStale", "MetricPartial", "MetricUnavailable"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Prometheus,
    Page,
    Api,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Goes {
    Holds,
    In,
    Out,
}

/// How the trigger and its ScaledObject are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Variant {
    /// `minReplicaCount: 1`, and `ignoreNullValues` unset.
    Plain,
    /// `minReplicaCount: 0`.
    Zero,
    /// `ignoreNullValues: "true"` and `minReplicaCount: 0`.
    Nulls,
    /// `ignoreNullValues: "false"`.
    Strict,
    /// `fallback` to 6.
    Fallback,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    kind: Kind,
    #[serde(default)]
    body: String,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default, rename = "type")]
    content_type: String,
    #[serde(default)]
    send: Send,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    address: Option<String>,
    #[serde(default = "holds")]
    goes: Goes,
    #[serde(default = "plain_and_nulls")]
    with: Vec<Variant>,
}

fn ok() -> u16 {
    200
}

fn holds() -> Goes {
    Goes::Holds
}

fn plain_and_nulls() -> Vec<Variant> {
    vec![Variant::Plain, Variant::Nulls]
}

/// A row in one of its variants: one trigger of a ScaledObject.
struct Case<'a> {
    row: &'a Row,
    number: usize,
    variant: Variant,
    /// The ScaledObject's and its target's name.
    object: String,
    /// Which trigger it is there.
    index: usize,
}

/// Every row in every variant, shared out over ScaledObjects.
fn cases(rows: &[Row]) -> Vec<Case<'_>> {
    let all =
        rows.iter().enumerate().flat_map(|(number, row)| row.with.iter().map(move |v| (number, row, *v)));
    let mut counts: BTreeMap<Variant, usize> = BTreeMap::new();
    all.map(|(number, row, variant)| {
        let (object, index) = if row.goes == Goes::Holds {
            let count = counts.entry(variant).or_default();
            *count += 1;
            (format!("{variant:?}-{}", (*count - 1) / TRIGGERS_MAX), (*count - 1) % TRIGGERS_MAX)
        } else {
            (format!("control-{number}-{variant:?}"), 0)
        };
        Case { row, number, variant, object: object.to_lowercase(), index }
    })
    .collect()
}

pub(crate) fn a_source_that_breaks_never_scales_in() {
    let table = std::fs::read_to_string(TABLE).expect("a file of the repository");
    let rows: Vec<Row> = serde_saphyr::from_str(&table).expect("a table");
    let cases = cases(&rows);
    let broken = cases.iter().filter(|case| case.row.goes == Goes::Holds).count();
    assert!(broken >= 120, "{broken} broken sources");
    let server = Server::start(rows.iter().map(Row::answers).collect());
    let world = World::up(&[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(&world, &server, &rows, &cases));
    why_says_what_came_back(&world, &server, &cases);
}

async fn run(world: &World, server: &Server, rows: &[Row], cases: &[Case<'_>]) {
    let client = client(world).await;
    for (path, object) in services(server).into_iter().chain(pages(server, rows)) {
        create(&client, path, &object).await;
    }
    let mut objects: BTreeMap<&str, Vec<&Case<'_>>> = BTreeMap::new();
    cases.iter().for_each(|case| objects.entry(&case.object).or_default().push(case));
    for (name, triggers) in objects {
        create(&client, "/apis/apps/v1/namespaces/default/deployments", &deployment(name)).await;
        let object = scaled_object(name, &triggers, server);
        create(&client, "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects", &object).await;
    }
    let reads_well = |case: &Case<'_>, decisions: &[Value]| {
        case.row.from.is_some()
            || decisions.last().is_some_and(|last| case.proposal(last)["replicas"] == REPLICAS)
    };
    until(&client, cases, "every source answers well once", reads_well).await;
    server.break_all();
    let services = "/api/v1/namespaces/default/services/deleted";
    let deletion = http::Request::delete(services).body(Vec::new()).expect("a request");
    client.request::<Value>(deletion).await.expect("it is there");
    let as_expected = |case: &Case<'_>, decisions: &[Value]| case.is_as_expected(decisions);
    until(&client, cases, "every source is seen as its row says", as_expected).await;
    tokio::time::sleep(WATCH).await;
    let decisions = decisions(&client).await;
    let wrong: Vec<String> = cases.iter().filter_map(|case| case.wrong(&decisions[&case.object])).collect();
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), world.said());
}

impl Row {
    /// What its source answers before and after it breaks.
    fn answers(&self) -> server::Answers {
        let (good, default_type) = match self.kind {
            Kind::Prometheus => (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[NOW,"40"]}]}}"#,
                "application/json",
            ),
            Kind::Page => ("queue 40\nother 1\n", "text/plain; version=0.0.4"),
            Kind::Api => (r#"{"n": 40}"#, "application/json"),
        };
        let answer = |status: u16, content_type: &str, body: &str, send: Send| server::Answer {
            status,
            content_type: content_type.to_owned(),
            body: body.to_owned(),
            send,
        };
        let own_type = if self.content_type.is_empty() { default_type } else { &self.content_type };
        let broken = answer(self.status, own_type, &self.body, self.send);
        match self.from {
            Some(_) => (broken.clone(), broken),
            None => (answer(200, default_type, good, Send::Whole), broken),
        }
    }

    /// Where its source is.
    fn url(&self, server: &Server, number: usize) -> String {
        let port = server.port.to_string();
        let address = self.address.clone().unwrap_or_else(|| format!("http://127.0.0.1:{port}"));
        let address = address.replace("{PORT}", &port).replace("{CLOSED}", &server.closed_port.to_string());
        format!("{address}/r{number}")
    }
}

fn deployment(name: &str) -> Value {
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": REPLICAS, "paused": true, "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "main", "image": "webmakaka/house-price-model" }] },
            },
        },
    })
}

/// The ScaledObject of these triggers, which are all of one variant.
fn scaled_object(name: &str, cases: &[&Case<'_>], server: &Server) -> Value {
    let at_once = json!({
        "stabilizationWindowSeconds": 0, "policies": [{ "type": "Pods", "value": 100, "periodSeconds": 1 }],
    });
    let variant = cases[0].variant;
    let mut spec = json!({
        "scaleTargetRef": { "name": name },
        "minReplicaCount": u8::from(!matches!(variant, Variant::Zero | Variant::Nulls)),
        "maxReplicaCount": 20, "pollingInterval": 1, "cooldownPeriod": 0,
        "advanced": { "horizontalPodAutoscalerConfig": {
            "behavior": { "scaleUp": at_once, "scaleDown": at_once },
        } },
        "triggers": cases.iter().map(|case| case.trigger(server)).collect::<Vec<_>>(),
    });
    if variant == Variant::Fallback {
        spec["fallback"] = json!({ "failureThreshold": 2, "replicas": 6 });
    }
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": { "name": name }, "spec": spec,
    })
}

impl Case<'_> {
    fn trigger(&self, server: &Server) -> Value {
        let url = self.row.url(server, self.number);
        let mut metadata = match self.row.kind {
            Kind::Prometheus => json!({
                "serverAddress": url, "query": "sum(queue{row=\"bait\"})", "threshold": "10",
            }),
            Kind::Page => json!({
                "serverAddress": "http://prometheus.monitoring.svc:9090",
                "query": format!("sum(queue{{row=\"r{}\"}})", self.number), "threshold": "10",
            }),
            Kind::Api => json!({ "url": url, "valueLocation": "n", "targetValue": "10" }),
        };
        match self.variant {
            Variant::Nulls => metadata["ignoreNullValues"] = json!("true"),
            Variant::Strict => metadata["ignoreNullValues"] = json!("false"),
            Variant::Plain | Variant::Zero | Variant::Fallback => {}
        }
        let kind = match self.row.kind {
            Kind::Api => "metrics-api",
            Kind::Prometheus | Kind::Page => "prometheus",
        };
        json!({ "type": kind, "metadata": metadata })
    }

    /// What its trigger asked for.
    fn proposal<'a>(&self, decision: &'a Value) -> &'a Value {
        &decision["proposals"][self.index]
    }

    /// Whether the last decision rests on the broken source, or the control has done what it is there for.
    fn is_as_expected(&self, decisions: &[Value]) -> bool {
        let desired = |decision: &Value| decision["desired"].as_u64().unwrap_or(0);
        match self.row.goes {
            Goes::In => decisions.iter().any(|decision| desired(decision) < REPLICAS),
            Goes::Out => decisions.iter().any(|decision| desired(decision) > REPLICAS),
            Goes::Holds => decisions.last().is_some_and(|last| {
                let proposal = self.proposal(last);
                let reason = reason(&proposal["reason"]);
                let fallback = reason == "FallbackExists" && proposal["replicas"] == 6;
                let is_unusable = UNUSABLE.contains(&reason.as_str());
                if self.variant == Variant::Fallback { fallback } else { is_unusable }
            }),
        }
    }

    /// The decision in which the target has too few replicas, or the trigger asks for too few.
    fn scales_in<'a>(&self, decisions: &'a [Value]) -> Option<&'a Value> {
        let too_few = |replicas: &Value| replicas.as_u64().is_some_and(|replicas| replicas < REPLICAS);
        let mut wrong = decisions.iter().filter(|decision| {
            too_few(&decision["desired"]) || too_few(&self.proposal(decision)["replicas"])
        });
        wrong.next().filter(|_| self.row.goes == Goes::Holds)
    }

    /// What is wrong with these decisions, if anything is.
    fn wrong(&self, decisions: &[Value]) -> Option<String> {
        let is_right = self.scales_in(decisions).is_none() && self.is_as_expected(decisions);
        (!is_right).then(|| self.told(self.scales_in(decisions).or(decisions.last())))
    }

    fn told(&self, decision: Option<&Value>) -> String {
        let Self { row, variant, object, index, .. } = self;
        let (proposal, desired) =
            decision.map_or((None, None), |found| (Some(self.proposal(found)), Some(&found["desired"])));
        format!("{} ({variant:?}, {object}[{index}]): desired {desired:?}, {proposal:?}", row.name)
    }
}

/// Why: the variant of the metric's reason; of what can't be used, the code.
fn reason(reason: &Value) -> String {
    let Value::Object(reason) = reason else { return String::new() };
    let Some((variant, inside)) = reason.iter().next() else { return String::new() };
    match inside["cause"].as_object().and_then(|cause| cause.keys().next()) {
        Some(cause) if ["Missing", "Stale", "Partial"].contains(&cause.as_str()) => format!("Metric{cause}"),
        _ => variant.clone(),
    }
}

/// The bait, and a page of each row that is one, scraped every second.
fn pages(server: &Server, rows: &[Row]) -> Vec<(&'static str, Value)> {
    let page = |name: &str, url: &str| {
        let (address, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
        json!({
            "apiVersion": "monitoring.coreos.com/v1alpha1", "kind": "ScrapeConfig", "metadata": { "name": name },
            "spec": {
                "scrapeInterval": "1s", "metricsPath": format!("/{path}"),
                "staticConfigs": [{ "targets": [address], "labels": { "row": name } }],
            },
        })
    };
    let path = "/apis/monitoring.coreos.com/v1alpha1/namespaces/default/scrapeconfigs";
    let bait = page("bait", &format!("http://127.0.0.1:{}/bait", server.port));
    let of_rows = rows.iter().enumerate().filter(|(_, row)| row.kind == Kind::Page);
    let of_rows = of_rows.map(|(number, row)| page(&format!("r{number}"), &row.url(server, number)));
    std::iter::once(bait).chain(of_rows).map(|page| (path, page)).collect()
}

/// A Service that leads to the server of this test, one that leads nowhere, and a headless one.
fn services(server: &Server) -> Vec<(&'static str, Value)> {
    let service = |name: &str, spec: Value| json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec });
    let port = json!([{ "port": 9090, "targetPort": server.port }]);
    let path = "/api/v1/namespaces/default/services";
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "deleted-1", "labels": { "kubernetes.io/service-name": "deleted" } },
        "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": true } }],
        "ports": [{ "port": server.port, "name": "", "protocol": "TCP" }],
    });
    let nobody = json!({ "app": "nobody" });
    vec![
        (path, service("deleted", json!({ "ports": port }))),
        ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice),
        (path, service("deserted", json!({ "ports": port, "selector": nobody }))),
        (path, service("headless", json!({ "ports": port, "selector": nobody, "clusterIP": "None" }))),
    ]
}

async fn client(world: &World) -> Client {
    let kubeconfig = Kubeconfig::read_from(world.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("it is complete")).expect("a client")
}

async fn create(client: &Client, path: &str, object: &Value) {
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes()).expect("a request");
    if let Err(error) = client.request::<Value>(request).await {
        panic!("{path}: {error}: {object}");
    }
}

/// The decisions of every target, oldest first.
async fn decisions(client: &Client) -> BTreeMap<String, Vec<Value>> {
    let request = http::Request::get("/apis/flyball.dev/v1alpha1/namespaces/default/decisions");
    let list: Value = client.request(request.body(Vec::new()).expect("a request")).await.expect("a list");
    let mut by_target: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in list["items"].as_array().into_iter().flatten() {
        let decision = record["decision"].clone();
        let name = decision["target"]["name"].as_str().unwrap_or_default().to_owned();
        by_target.entry(name).or_default().push(decision);
    }
    by_target
}

/// Waits until every case is as wanted; fails at once where one scaled in that must not.
async fn until(
    client: &Client,
    cases: &[Case<'_>],
    what: &str,
    wanted: impl Fn(&Case<'_>, &[Value]) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let decisions = decisions(client).await;
        let of = |case: &Case<'_>| decisions.get(&case.object).map_or(&[][..], Vec::as_slice);
        let scaled_in: Vec<String> =
            cases.iter().filter_map(|case| Some(case.told(Some(case.scales_in(of(case))?)))).collect();
        assert!(scaled_in.is_empty(), "scaled in for want of data:\n{}", scaled_in.join("\n"));
        let waiting = cases.iter().filter(|case| !wanted(case, of(case)));
        let waiting: Vec<String> = waiting.map(|case| case.told(of(case).last())).collect();
        if waiting.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "never: {what}:\n{}", waiting.join("\n"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// `flyball why` shows what came back, from where, since when.
fn why_says_what_came_back(world: &World, server: &Server, cases: &[Case<'_>]) {
    let from = format!("http://127.0.0.1:{}", server.port);
    for (name, words) in [
        ("an error with status 200", vec![from.as_str(), "too many samples", "since 20"]),
        ("an error with status 503", vec![&from, "503", "upstream connect error"]),
        ("a low number with a warning", vec![&from, "in part only since 20", "store 10.0.0.7 is away"]),
        ("a sample of ten minutes ago", vec![&from, "last read 1 at 20", "s old"]),
        ("an empty matrix", vec![&from, "of type matrix"]),
        (
            "a name that does not resolve",
            vec!["http://prometheus.invalid:9090", "cannot resolve prometheus.invalid"],
        ),
        (
            "a Service that is deleted",
            vec!["http://deleted:9090", "Service deleted in namespace default", "is gone"],
        ),
        ("page status 500", vec!["cannot be scraped: server returned HTTP status 500"]),
        ("a series that vanished", vec!["has had no data since", "s old"]),
    ] {
        let case = cases.iter().find(|case| case.row.name == name && case.variant == Variant::Plain);
        let target = format!("deploy/{}", case.expect("a row").object);
        let output = world.command(crate::world::FLYBALL, &["why", &target]).output().expect("it runs");
        let said = text(&output.stdout) + &text(&output.stderr);
        for word in words {
            assert!(said.contains(word), "{name}: {word:?} is not in {said}");
        }
    }
}
