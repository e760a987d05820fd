//! The server over real sockets, on ports the system picks.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::options::BODY_BYTES_MAX;
use super::*;

const HOUSE: &str =
    r#"{"sqft":4500,"bedrooms":4,"bathrooms":2,"year_built":2014,"condition":"Good","location":"Urban"}"#;

struct Running {
    requests: SocketAddr,
    metrics: SocketAddr,
    stops: mpsc::Sender<Stop>,
    ended: JoinHandle<()>,
}

async fn start(options: Options) -> Running {
    let server = Server::bind(&Options { port: 0, metrics_port: 0, ..options }).await.expect("free ports");
    let (stops, receiver) = mpsc::channel(2);
    let (requests, metrics) = (server.address().expect("bound"), server.metrics_address().expect("bound"));
    Running { requests, metrics, stops, ended: tokio::spawn(server.run(receiver)) }
}

fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\nhost: test\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

fn post(target: &str, body: &str) -> String {
    request("POST", target, "content-type: application/json\r\n", body)
}

fn get(target: &str) -> String {
    request("GET", target, "", "")
}

/// Reads one response from an open connection: status, head in lower case, body.
async fn read_answer(stream: &mut TcpStream, has_body: bool) -> (u16, String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    let status = head[9..12].parse().expect("a status");
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length = length.map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; if has_body { length } else { 0 }];
    stream.read_exact(&mut body).await.expect("the whole body");
    (status, head, String::from_utf8(body).expect("text"))
}

async fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.expect("listening");
    stream.write_all(request.as_bytes()).await.expect("open");
    read_answer(&mut stream, !request.starts_with("HEAD")).await
}

#[tokio::test]
async fn every_route_answers_as_fastapi_does() {
    let server = start(Options::default()).await;
    let too_long = "x".repeat(BODY_BYTES_MAX + 1);
    let chunk = "x".repeat(BODY_BYTES_MAX / 2 + 1);
    let size = chunk.len();
    let chunked = format!(
        "POST /predict HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n{chunk}\r\n{size:x}\r\n{chunk}\r\n0\r\n\r\n"
    );
    for (request, status, in_head, in_body) in [
        (get("/health"), 200, "application/json", r#""model_loaded":true"#),
        (get("/ready"), 200, "application/json", r#"{"status":"ready"}"#),
        (get("/openapi.json"), 200, "application/json", r#""openapi": "3.1.0""#),
        (get("/"), 200, "application/json", r#""/batch-predict""#),
        (get("/nope"), 404, "application/json", r#"{"detail":"Not Found"}"#),
        (get("/predict"), 405, "allow: post\r\n", r#"{"detail":"Method Not Allowed"}"#),
        (post("/health", ""), 405, "allow: get\r\n", r#"{"detail":"Method Not Allowed"}"#),
        (request("HEAD", "/ready", "", ""), 405, "allow: get\r\n", ""),
        (post("/predict", HOUSE), 200, "application/json", r#""features_importance":{}"#),
        (post("/predict?explain=1", HOUSE), 200, "", r#""features_importance":{"sqft":"#),
        (post("/predict?explain=x", "{"), 422, "", r#"["query","explain"]"#),
        (post("/predict?explain=x", "{"), 422, "", r#""json_invalid""#),
        (request("POST", "/predict", "", HOUSE), 422, "", r#""model_attributes_type""#),
        (post("/predict", &HOUSE.replace("4500", "-1")), 422, "application/json", r#""greater_than""#),
        (post("/batch-predict", "[]"), 200, "", "[]"),
        (post("/batch-predict", HOUSE), 422, "", r#""list_type""#),
        (post("/predict", &too_long), 413, "", r#"{"detail":"Request Entity Too Large"}"#),
        (chunked, 413, "", r#"{"detail":"Request Entity Too Large"}"#),
    ] {
        let line = request.lines().next().unwrap_or_default();
        let (actual, head, body) = ask(server.requests, &request).await;
        assert_eq!(actual, status, "{line}: {body}");
        assert!(head.contains(in_head), "{line}: {head}");
        assert!(body.contains(in_body), "{line}: {body}");
    }
    for (target, status) in [("/metrics", 200), ("/", 200), ("/predict", 404)] {
        assert_eq!(ask(server.metrics, &get(target)).await.0, status, "{target}");
    }
}

/// A changed model changes these numbers; the failure shows by how much.
#[tokio::test]
async fn predictions_stay_as_they_are() {
    let server = start(Options::default()).await;
    let houses = [
        (HOUSE.to_owned(), 1_136_430.62, [649_058.02, 1_989_767.49]),
        (HOUSE.replace("Urban", "98103"), 1_228_183.74, [871_694.9, 1_730_462.47]),
        (HOUSE.replace("Urban", "rural").replace("4500", "900"), 410_605.47, [234_512.14, 718_925.91]),
        (HOUSE.replace("Good", "poor").replace("2014", "1905"), 676_915.12, [386_611.54, 1_185_205.39]),
    ];
    for (house, price, interval) in &houses {
        let (_, _, body) = ask(server.requests, &post("/predict", house)).await;
        let said: Value = serde_json::from_str(&body).expect("JSON");
        let close = |said: &Value, expected: f64| (said.as_f64().expect("a number") - expected).abs() < 0.011;
        assert!(close(&said["predicted_price"], *price), "{house}: {said}");
        assert!(close(&said["confidence_interval"][0], interval[0]), "{house}: {said}");
        assert!(close(&said["confidence_interval"][1], interval[1]), "{house}: {said}");
    }
    let batch = format!("[{}]", houses.each_ref().map(|(house, ..)| house.clone()).join(","));
    let (_, _, body) = ask(server.requests, &post("/batch-predict", &batch)).await;
    let prices: Vec<f64> = serde_json::from_str(&body).expect("a list of prices");
    assert_eq!(prices, houses.map(|(_, price, _)| price), "the batch says what single requests say");
}

/// Returns samples by name and labels, after checking that each belongs to a declared family and each histogram adds up.
fn samples(page: &str) -> std::collections::BTreeMap<String, f64> {
    let families: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut samples = std::collections::BTreeMap::new();
    let mut below = 0.0;
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().expect("a number");
        let name = series.split('{').next().unwrap_or_default();
        let declared = |suffix| name.strip_suffix(suffix).is_some_and(|family| families.contains(&family));
        assert!(["", "_total", "_bucket", "_sum", "_count"].into_iter().any(declared), "undeclared: {line}");
        if name.ends_with("_bucket") {
            assert!(value >= below, "not cumulative: {line}");
            below = if series.contains("+Inf") { 0.0 } else { value };
        }
        assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }
    for (series, count) in samples.iter().filter(|(series, _)| series.contains("le=\"+Inf\"")) {
        let total = series
            .replace("_bucket", "_count")
            .replace("le=\"+Inf\"", "")
            .replace(",}", "}")
            .replace("{}", "");
        assert_eq!(samples.get(&total), Some(count), "{series} and {total}");
    }
    samples
}

#[tokio::test]
async fn series_start_at_zero_and_count_what_happened() {
    let server = start(Options::default()).await;
    let scrape = || async { samples(&ask(server.metrics, &get("/metrics")).await.2) };
    let predict = r#"{handler="/predict",method="POST""#;
    let before = scrape().await;
    for series in [
        format!("http_requests_total{predict},status=\"2xx\"}}"),
        format!("http_requests_total{predict},status=\"5xx\"}}"),
        format!("http_request_duration_seconds_bucket{predict},le=\"0.08\"}}"),
        format!("http_requests_inprogress{predict}}}"),
        "model_requests_rejected_total{reason=\"queue_full\"}".into(),
        "model_queue_depth".into(),
    ] {
        assert_eq!(before.get(&series), Some(&0.0), "{series}");
    }
    assert_eq!(before["model_concurrency_limit"], 1.0);
    assert!(before["process_resident_memory_bytes"] > 1e6);

    for _ in 0..3 {
        ask(server.requests, &post("/predict", HOUSE)).await;
    }
    ask(server.requests, &post("/predict", "{}")).await;
    ask(server.requests, &post("/batch-predict", &format!("[{HOUSE},{HOUSE}]"))).await;
    ask(server.requests, &get("/nowhere")).await;
    ask(server.requests, &get("/elsewhere")).await;
    ask(server.requests, &request("BREW", "/predict", "", "")).await;
    let after = scrape().await;
    for (series, expected) in [
        (format!("http_requests_total{predict},status=\"2xx\"}}"), 3.0),
        (format!("http_requests_total{predict},status=\"4xx\"}}"), 1.0),
        (format!("http_request_duration_seconds_count{predict}}}"), 4.0),
        (format!("http_request_size_bytes_sum{predict}}}"), 3.0 * HOUSE.len() as f64 + 2.0),
        ("http_requests_total{handler=\"none\",method=\"GET\",status=\"4xx\"}".into(), 2.0),
        ("http_requests_total{handler=\"/predict\",method=\"OTHER\",status=\"4xx\"}".into(), 1.0),
        ("http_request_duration_highr_seconds_count".into(), 8.0),
        ("model_predictions_total".into(), 5.0),
        ("model_batch_size_sum".into(), 5.0),
        ("model_queue_seconds_count".into(), 4.0),
        (format!("http_requests_inprogress{predict}}}"), 0.0),
    ] {
        assert_eq!(after.get(&series), Some(&expected), "{series}");
    }

    let accept = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let (_, head, page) = ask(server.metrics, &request("GET", "/", accept, "")).await;
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(page.ends_with("# EOF\n") && page.contains("# TYPE http_requests counter\n"));
    assert_eq!(
        after.len(),
        samples(page.trim_end_matches("# EOF\n")).len(),
        "the same series in both formats"
    );
}

#[tokio::test]
async fn a_drain_answers_every_request_before_it_ends() {
    let server = start(Options { drain_quiet: Duration::from_secs(3600), ..Options::default() }).await;
    let mut idle = TcpStream::connect(server.requests).await.expect("listening");
    let mut busy = TcpStream::connect(server.requests).await.expect("listening");
    busy.write_all(post("/predict", HOUSE).as_bytes()).await.expect("open");
    let (status, head, _) = read_answer(&mut busy, true).await;
    assert_eq!((status, head.contains("connection: close")), (200, false));

    server.stops.send(Stop::Drain).await.expect("running");
    // The phase changes when the server receives the message; from then on /ready answers 503.
    let (status, head, body) = loop {
        let answer = ask(server.requests, &get("/ready")).await;
        if answer.0 != 200 {
            break answer;
        }
    };
    assert_eq!((status, body.as_str()), (503, r#"{"detail":"draining"}"#));
    assert!(head.contains("connection: close"), "{head}");
    // Both the kept-alive connection and a new one are still answered, with `Connection: close`.
    for request in [get("/health"), post("/predict", HOUSE)] {
        assert_eq!(ask(server.requests, &request).await.0, 200);
    }
    busy.write_all(post("/predict", HOUSE).as_bytes()).await.expect("still open");
    let (status, head, _) = read_answer(&mut busy, true).await;
    assert_eq!((status, head.contains("connection: close")), (200, true));
    assert_eq!(busy.read(&mut [0]).await.expect("closed cleanly"), 0);

    server.stops.send(Stop::Drain).await.expect("still draining");
    server.ended.await.expect("a clean end");
    assert_eq!(
        idle.read(&mut [0]).await.expect("closed cleanly"),
        0,
        "an idle connection does not hold it up"
    );
    assert!(TcpStream::connect(server.requests).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn a_quick_stop_still_finishes_requests_in_progress() {
    let server = start(Options { work: Duration::from_millis(30), ..Options::default() }).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.requests).await.expect("listening");
        stream.write_all(post("/predict", HOUSE).as_bytes()).await.expect("open");
        streams.push(stream);
    }
    // All three requests are in the server, one predicting and two waiting, before it is told to stop.
    let queued = || async {
        let samples = samples(&ask(server.metrics, &get("/")).await.2);
        samples["model_queue_depth"] + samples["model_inflight"] + samples["model_predictions_total"]
    };
    while queued().await < 3.0 {}
    server.stops.send(Stop::Now).await.expect("running");
    for stream in &mut streams {
        assert_eq!(read_answer(stream, true).await.0, 200);
    }
    server.ended.await.expect("a clean end");
}

#[tokio::test]
async fn a_port_in_use_is_explained() {
    let first =
        Server::bind(&Options { port: 0, metrics_port: 0, ..Options::default() }).await.expect("free ports");
    let taken = first.metrics_address().expect("bound");
    let options = Options { port: 0, metrics_port: taken.port(), ..Options::default() };
    let error = Server::bind(&options).await.err().expect("taken");
    let cause = std::error::Error::source(&error).expect("the system says why").to_string();
    let error = error.to_string();
    let expected = format!("cannot listen on {taken} for metrics;");
    assert!(error.starts_with(&expected) && error.contains("node_exporter"), "{error}");
    assert!(cause.starts_with("Address already in use"), "{cause}");
}

#[test]
fn the_published_schema_has_the_limits_that_are_checked() {
    let document: Value = serde_json::from_str(include_str!("openapi.json")).expect("JSON");
    let house = &document["components"]["schemas"]["House"];
    let model = crate::Model::embedded().expect("sound");
    let good = house["examples"][0].clone();
    let is_good = |house: &Value| crate::input::house(house.to_string().as_bytes(), true, &model).is_ok();
    assert!(is_good(&good), "the example is accepted");
    let with = |field: &str, value: Value| {
        let mut house = good.clone();
        house[field] = value;
        house
    };
    let mut bounds = 0;
    for (field, rules) in house["properties"].as_object().expect("fields") {
        let rules = if field == "condition" { &rules["anyOf"][1] } else { rules };
        for (rule, inside, outside) in
            [("minimum", 0.0, -1.0), ("maximum", 0.0, 1.0), ("exclusiveMinimum", 0.25, 0.0)]
        {
            let Some(bound) = rules[rule].as_f64() else { continue };
            assert!(is_good(&with(field, (bound + inside).into())), "{field} at its {rule}");
            assert!(!is_good(&with(field, (bound + outside).into())), "{field} beyond its {rule}");
            bounds += 1;
        }
    }
    assert_eq!(bounds, 7);
    for field in house["required"].as_array().expect("a list") {
        let mut house = good.clone();
        house.as_object_mut().expect("an object").remove(field.as_str().expect("a name"));
        assert!(!is_good(&house), "{field} is required");
    }
}
