//! Requests and their answers, as tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use flyball_metrics::exposition::Format;
use flyball_metrics::relabel::{Rule, RuleText};
use flyball_metrics::target::{Target as Pages, TargetOptions};
use flyball_metrics::{Exemplar, Labels, Store};
use http_body_util::BodyExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Source, router};
use crate::gather::scrape::pools::Pools;
use crate::gather::scrape::status::{ScrapeStatus, TargetStatus};
use crate::gather::scrape::target::ScrapeTarget;

/// When the samples were scraped, one each second of the minute before.
const NOW_MS: i64 = 1_700_000_060_000;

fn target(up: bool) -> TargetStatus {
    let instance = if up { "127.1.0.1:9100" } else { "127.1.0.2:9100" };
    let labels = [("job", "model"), ("instance", instance)];
    let error = if up { "" } else { "connection refused" };
    TargetStatus {
        target: Arc::new(ScrapeTarget {
            pool: "serviceMonitor/default/model/0".to_owned(),
            url: format!("http://{instance}/metrics"),
            labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            ..ScrapeTarget::default()
        }),
        interval: Duration::from_secs(1),
        status: ScrapeStatus {
            up: Some(up),
            ever_up: up,
            last_error: error.to_owned(),
            last_scrape: Timestamp::from_millisecond(NOW_MS).ok(),
            last_duration: Duration::from_millis(12),
        },
    }
}

/// A target that counts five requests a second, with a queue.
fn api() -> Router {
    let mut store = Store::default();
    let labels = Labels::new([("job", "model"), ("instance", "127.1.0.1:9100")]);
    let mut pages = Pages::new(labels, TargetOptions::default());
    for second in 0..=60_i64 {
        let page = format!(
            "# HELP requests Requests.\n# TYPE requests counter\nrequests_total{{code=\"200\"}} {}\n\
             # TYPE queue gauge\nqueue 1500000\n",
            second * 5
        );
        let at_ms = NOW_MS - 60_000 + second * 1_000;
        pages.ingest(&mut store, page.as_bytes(), Format::Text, at_ms).expect("a page");
    }
    let exemplar =
        Exemplar { labels: Labels::new([("trace_id", "a")]), value: 0.25, timestamp_ms: NOW_MS - 59_500 };
    store.append_exemplar(&Labels::new([("__name__", "requests_total"), ("code", "200")]), exemplar);
    let targets = vec![target(true), target(false)];
    router(Source::new(Arc::new(Mutex::new(store)), Arc::new(Mutex::new(targets))))
}

/// Sends `GET path`, or `POST path` with a form, and returns status, headers and body.
async fn send(request: &str, form: Option<&str>) -> (StatusCode, header::HeaderMap, String) {
    let builder = Request::builder().uri(request);
    let request = match form {
        Some(form) => builder
            .method("POST")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned())),
        None => builder.body(Body::empty()),
    };
    let response = api().oneshot(request.expect("a request")).await.expect("never fails");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (head.status, head.headers, String::from_utf8_lossy(&body).into_owned())
}

async fn check(path: &str, form: Option<&str>, status: u16, expected: &str) {
    let (got, _, body) = send(path, form).await;
    assert_eq!((got.as_u16(), body.as_str()), (status, expected), "{path} {form:?}");
}

/// What a success holds, and what comes after it.
async fn check_data(path: &str, form: Option<&str>, data: &str) {
    check(path, form, 200, &format!("{{\"status\":\"success\",\"data\":{data}}}")).await;
}

async fn check_error(path: &str, status: u16, kind: &str, error: &str) {
    let error = Value::from(error);
    let body = format!("{{\"status\":\"error\",\"errorType\":\"{kind}\",\"error\":{error}}}");
    check(path, None, status, &body).await;
}

#[tokio::test]
async fn queries_are_answered() {
    let rate = r#"{"resultType":"vector","result":[{"metric":{"code":"200","instance":"127.1.0.1:9100","job":"model"},"value":[1700000060,"5"]}]}"#;
    let query = "/api/v1/query?query=rate(requests_total[30s])&time=1700000060";
    check_data(query, None, rate).await;
    check_data("/api/v1/query", Some("query=rate(requests_total%5B30s%5D)&time=2023-11-14T22:14:20Z"), rate)
        .await;
    // Grafana's health check, and promtool's way with times.
    let two = r#"{"resultType":"scalar","result":[4,"2"]}"#;
    check_data("/api/v1/query", Some("query=1%2B1&time=4"), two).await;
    check_data("/api/v1/query?time=99&query=no", Some("time=4&query=1%2B1"), two).await;
    let queue = r#""metric":{"__name__":"queue","instance":"127.1.0.1:9100","job":"model"}"#;
    let range = format!(
        r#"{{"resultType":"matrix","result":[{{{queue},"values":[[1700000050,"1500000"],[1700000050.500,"1500000"]]}}]}}"#
    );
    let form = "query=queue&start=1700000050&end=1700000050.9&step=500ms";
    check_data("/api/v1/query_range", Some(form), &range).await;
    let one_of_two = format!(
        r#"{{"resultType":"vector","result":[{{{queue},"value":[1700000060,"1500000"]}}]}},"warnings":["results truncated due to limit"]"#
    );
    let limited = "/api/v1/query?query=sort_desc(%7Bjob=%22model%22%7D)&time=1700000060&limit=1";
    check_data(limited, None, &one_of_two).await;
    let far = "/api/v1/query?query=queue&time=1700000100&lookback_delta=10s";
    check_data(far, None, r#"{"resultType":"vector","result":[]}"#).await;
    check_data("/api/v1/query_exemplars?query=queue", None, "[]").await;
    let exemplars = r#"[{"seriesLabels":{"__name__":"requests_total","code":"200"},"exemplars":[{"labels":{"trace_id":"a"},"value":"0.25","timestamp":1700000000.500}]}]"#;
    check_data("/api/v1/query_exemplars?query=rate(requests_total[1m])", None, exemplars).await;
    check_data("/api/v1/query_exemplars?query=requests_total&start=1700000001", None, "[]").await;
}

#[tokio::test]
async fn queries_tell_their_cost_on_demand() {
    let (_, _, body) = send("/api/v1/query?query=queue[10s]&time=1700000060&stats=all", None).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let stats = &body["data"]["stats"];
    assert_eq!(stats["samples"]["totalQueryableSamples"], 10, "{stats}");
    assert!(stats["timings"]["execTotalTime"].as_f64() > Some(0.0), "{stats}");
}

#[tokio::test]
async fn bad_requests_are_told_in_the_words_of_prometheus() {
    let bad = |path: &'static str, error: &'static str| check_error(path, 400, "bad_data", error);
    bad("/api/v1/query?query=sum(", "invalid parameter \"query\": 1:5: parse error: unexpected end of input")
        .await;
    bad(
        "/api/v1/query?query=1&time=x",
        "invalid parameter \"time\": cannot parse \"x\" to a valid timestamp",
    )
    .await;
    bad(
        "/api/v1/query?query=1&timeout=x",
        "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
    )
    .await;
    bad("/api/v1/query?query=1&limit=-1", "invalid parameter \"limit\": limit must be non-negative").await;
    bad(
        "/api/v1/query?query=1&lookback_delta=x",
        "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
    )
    .await;
    bad(
        "/api/v1/query_range?query=1&end=1&step=1",
        "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
    )
    .await;
    bad(
        "/api/v1/query_range?query=1&start=2&end=1&step=1",
        "invalid parameter \"end\": end timestamp must not be before start time",
    )
    .await;
    bad(
        "/api/v1/query_range?query=1&start=1&end=2&step=0",
        "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
    )
    .await;
    bad(
        "/api/v1/query_range?query=1&start=0&end=11001&step=1",
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
    )
    .await;
    bad("/api/v1/query_exemplars?query=up&start=2&end=1", "end timestamp must not be before start timestamp")
        .await;
    bad("/api/v1/series", "no match[] parameter provided").await;
    bad(
        "/api/v1/labels?match[]=%7B",
        "invalid parameter \"match[]\": 1:2: parse error: unexpected end of input inside braces",
    )
    .await;
    bad("/api/v1/metadata?limit=x", "limit must be a number").await;
    bad("/api/v1/status/tsdb?limit=0", "limit must be a positive number").await;
    check_error("/api/v1/targets/metadata?metric=none", 404, "not_found", "specified metadata not found")
        .await;
    check_error(
        "/api/v1/query?query=requests_total%20%2B%20on()%20%7Bjob=%22model%22%7D&time=1700000060",
        422,
        "execution",
        "found duplicate series for the match group {} on the right hand-side of the operation: [{__name__=\"queue\", instance=\"127.1.0.1:9100\", job=\"model\"}, {__name__=\"requests_total\", code=\"200\", instance=\"127.1.0.1:9100\", job=\"model\"}];many-to-many matching not allowed: matching labels must be unique on one side",
    )
    .await;
    let slow = "/api/v1/query?query=sum_over_time(queue[1m])&time=1700000060&timeout=0";
    let (status, _, body) = send(slow, None).await;
    assert!(status == 503 && body.contains("\"errorType\":\"timeout\""), "{body}");
    assert_eq!(send("/api/v1/nothing", None).await.0, 404);
}

#[tokio::test]
async fn series_and_labels_are_found() {
    let series = r#"[{"__name__":"queue","instance":"127.1.0.1:9100","job":"model"}]"#;
    check_data("/api/v1/series?match[]=queue&match[]=queue", None, series).await;
    check_data("/api/v1/series", Some("match%5B%5D=queue&start=1700000000&end=1700000001"), series).await;
    check_data("/api/v1/series?match[]=queue&end=1600000000", None, "[]").await;
    check_data("/api/v1/labels", None, r#"["__name__","code","instance","job"]"#).await;
    check_data("/api/v1/labels", Some("match[]=queue"), r#"["__name__","instance","job"]"#).await;
    let cut = r#"["__name__"],"warnings":["results truncated due to limit"]"#;
    check_data("/api/v1/labels?limit=1", None, cut).await;
    check_data("/api/v1/label/__name__/values", None, r#"["queue","requests_total"]"#).await;
    check_data("/api/v1/label/code/values?match[]=queue", None, "[]").await;
    check_data("/api/v1/label/U__job/values", None, r#"["model"]"#).await;
}

#[tokio::test]
async fn targets_and_metadata_are_told() {
    let metadata = r#"{"queue":[{"help":"","type":"gauge","unit":""}],"requests":[{"help":"Requests.","type":"counter","unit":""}]}"#;
    check_data("/api/v1/metadata", None, metadata).await;
    check_data("/api/v1/metadata?metric=none", None, "{}").await;
    check_data("/api/v1/metadata?limit=0", None, "{}").await;
    let own = r#""target":{"instance":"127.1.0.1:9100","job":"model"}"#;
    let of_target = format!(r#"[{{"help":"Requests.",{own},"type":"counter","unit":""}}]"#);
    let path = "/api/v1/targets/metadata?metric=requests&match_target=%7Bjob=%22model%22%7D";
    check_data(path, None, &of_target).await;
    check_data("/api/v1/scrape_pools", None, r#"{"scrapePools":["serviceMonitor/default/model/0"]}"#).await;
    let (_, _, body) = send("/api/v1/targets", None).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let active = body["data"]["activeTargets"].as_array().expect("a list");
    let told: Vec<_> = active.iter().map(|target| (&target["health"], &target["lastError"])).collect();
    assert_eq!(told, [(&json!("up"), &json!("")), (&json!("down"), &json!("connection refused"))]);
    assert_eq!((&active[0]["scrapeInterval"], &active[0]["scrapeTimeout"]), (&json!("1s"), &json!("10s")));
    let none = r#"{"activeTargets":[],"droppedTargetCounts":{},"droppedTargets":[]}"#;
    check_data("/api/v1/targets?state=dropped", None, none).await;
    check_data("/api/v1/targets?scrapePool=other", None, none).await;
}

#[tokio::test]
async fn the_steps_of_a_relabeling_are_told() {
    let rule = |text| Rule::new(text).expect("a good rule");
    let label = |name: &str| Some(name.to_owned());
    let rules = [
        rule(RuleText { target_label: label("a"), replacement: label("b"), ..RuleText::default() }),
        rule(RuleText {
            source_labels: vec!["a".to_owned(), "c".to_owned()],
            separator: label("-"),
            regex: label("b-.*"),
            action: label("Drop"),
            ..RuleText::default()
        }),
    ];
    let mut pools = Pools::default();
    pools.relabelings.insert("scrapeConfig/ml/web".to_owned(), Arc::from(rules));
    pools.dropped_counts.insert("scrapeConfig/ml/web".to_owned(), 3);
    let source = Source::new(Arc::default(), Arc::default());
    let api = router(source.with_pools(Arc::new(Mutex::new(Arc::new(pools)))));
    let ask = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("valid");
        let body = api.clone().oneshot(request).await.expect("never fails").into_body();
        let body = body.collect().await.expect("a body").to_bytes();
        serde_json::from_slice::<Value>(&body).expect("JSON")
    };
    let steps = "/api/v1/targets/relabel_steps";
    let found = ask(&format!("{steps}?scrapePool=scrapeConfig/ml/web&labels=%7B%22c%22:%22d%22%7D")).await;
    let written = |action: &str, more: Value| {
        let mut rule = json!({ "action": action, "replacement": "$1" });
        rule.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        rule
    };
    let first = json!({ "separator": ";", "regex": "(.*)", "targetLabel": "a", "replacement": "b" });
    let second = json!({ "sourceLabels": ["a", "c"], "separator": "-", "regex": "b-.*" });
    let expected = json!([
        { "rule": written("replace", first), "output": { "a": "b", "c": "d" }, "keep": true },
        { "rule": written("drop", second), "output": {}, "keep": false },
    ]);
    assert_eq!(found["data"]["steps"], expected);
    for (parameters, expected) in [
        ("", "no scrapePool parameter provided"),
        ("?scrapePool=x", "no labels parameter provided"),
        (
            "?scrapePool=x&labels=1",
            "error parsing labels: invalid type: integer `1`, expected a map at line 1 column 1",
        ),
        ("?scrapePool=x&labels=%7B%7D", "error retrieving scrape pool config: scrape pool \"x\" not found"),
    ] {
        let refused = ask(&format!("{steps}{parameters}")).await;
        assert_eq!((&refused["errorType"], &refused["error"]), (&json!("bad_data"), &json!(expected)));
    }
    assert_eq!(ask("/api/v1/scrape_pools").await["data"], json!({ "scrapePools": ["scrapeConfig/ml/web"] }));
    let counts = &ask("/api/v1/targets?state=dropped").await["data"]["droppedTargetCounts"];
    assert_eq!(counts, &json!({ "scrapeConfig/ml/web": 3 }));
}

#[tokio::test]
async fn what_there_is_none_of_is_answered() {
    let rows = BTreeMap::from([
        ("/api/v1/rules", json!({ "groups": [] })),
        ("/api/v1/alerts", json!({ "alerts": [] })),
        ("/api/v1/alertmanagers", json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] })),
    ]);
    for (path, data) in rows {
        check_data(path, None, &data.to_string()).await;
    }
    check("/-/healthy", None, 200, "Flyball is Healthy.\n").await;
    check("/-/ready", None, 200, "Flyball is Ready.\n").await;
}

#[tokio::test]
async fn the_status_is_told() {
    let (_, _, body) = send("/api/v1/status/tsdb?limit=1", None).await;
    let data: Value = serde_json::from_str(&body).expect("JSON");
    let head = json!({
        "numSeries": 2, "numLabelPairs": 5, "chunkCount": 0, "minTime": NOW_MS - 60_000, "maxTime": NOW_MS,
    });
    assert_eq!(data["data"]["headStats"], head);
    assert_eq!(data["data"]["chunkStats"], json!({ "samples": 0, "bytes": 0, "bytesPerSample": 0.0 }));
    assert_eq!(data["data"]["seriesCountByMetricName"], json!([{ "name": "queue", "value": 1 }]));
    assert_eq!(data["data"]["labelValueCountByLabelName"], json!([{ "name": "__name__", "value": 2 }]));
    let (_, _, body) = send("/api/v1/status/config", None).await;
    let data: Value = serde_json::from_str(&body).expect("JSON");
    let yaml = data["data"]["yaml"].as_str().expect("a text");
    let wanted = "- job_name: serviceMonitor/default/model/0\n  honor_labels: false\n  scrape_interval: 1s\n";
    assert!(yaml.contains(wanted) && yaml.contains("    - 127.1.0.2:9100\n"), "{yaml}");
    for (path, name, value) in [
        ("/api/v1/status/flags", "query.max-samples", "50000000"),
        ("/api/v1/status/runtimeinfo", "storageRetention", "1h"),
        ("/api/v1/status/buildinfo", "revision", ""),
    ] {
        let (_, _, body) = send(path, None).await;
        let data: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(data["data"][name], value, "{path}: {body}");
    }
}

#[tokio::test]
async fn queries_are_printed_and_drawn() {
    check_data("/api/v1/format_query?query=sum(up)by(job)", None, r#""sum by (job) (up)""#).await;
    let number = r#"{"type":"numberLiteral","val":"1"}"#;
    check_data("/api/v1/parse_query", Some("query=1"), number).await;
}

#[tokio::test]
async fn results_are_explained() {
    let explain = async |query: &str, seconds: i64| -> Value {
        let time = NOW_MS / 1_000 + seconds;
        let (status, _, body) = send("/api/v1/explain", Some(&format!("query={query}&time={time}"))).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).expect("JSON")["data"].clone()
    };
    let found = explain("sum(rate(requests_total%5B10s%5D))", 0).await;
    assert_eq!(found["why"], Value::Null);
    let selector = &found["selectors"][0];
    let numbers =
        ["seriesMatched", "seriesWithSamples", "samples", "newestAgeSeconds", "scrapeIntervalSeconds"];
    assert_eq!(
        numbers.map(|name| selector[name].as_f64()),
        [1.0, 1.0, 10.0, 0.0, 1.0].map(Some),
        "{selector}"
    );
    let steps = found["steps"].as_array().expect("a list");
    let told: Vec<_> =
        steps.iter().map(|step| (&step["expr"], &step["position"], &step["samples"])).collect();
    assert_eq!(
        told,
        [
            (&json!("sum(rate(requests_total[10s]))"), &json!("1:1"), &json!(1)),
            (&json!("rate(requests_total[10s])"), &json!("1:5"), &json!(1)),
            (&json!("requests_total[10s]"), &json!("1:10"), &json!(10)),
        ]
    );
    assert_eq!(steps[0]["examples"], json!([{ "metric": {}, "value": "5" }]));
    for (query, seconds, why) in [
        ("request_total", 0, "request_total matches no series; near: requests_total"),
        ("queue", 400, "queue: the newest sample is 400 s old"),
        (
            "queue%7Binstance=%22127.1.0.2:9100%22%7D",
            0,
            "queue{instance=\"127.1.0.2:9100\"} has no samples, and its target http://127.1.0.2:9100/metrics cannot be scraped: \
             connection refused",
        ),
        ("queue%3C0", 0, "every selector has samples, and the operators between them let nothing through"),
    ] {
        assert_eq!(explain(query, seconds).await["why"], why, "{query}");
    }
}

#[tokio::test]
async fn the_newest_samples_are_federated() {
    // Scraped long ago, so nothing is left of them by now.
    check("/federate?match[]=queue", None, 200, "").await;
    check("/federate", None, 200, "").await;
    assert_eq!(send("/federate?match[]=%7B", None).await.0, 400);
    let store = Mutex::new(Store::default());
    let now_ms = Timestamp::now().as_millisecond();
    for (labels, value) in [
        (Labels::new([("__name__", "queue"), ("instance", "a:1"), ("note", "a\"b\\c\nd")]), 1e6),
        (Labels::new([("__name__", "my.queue")]), 0.5),
    ] {
        let sample = flyball_metrics::Sample::new(now_ms, value);
        store.lock().append_to(&labels, sample).expect("stored");
    }
    let source = Source::new(Arc::new(store), Arc::default());
    let request = Request::builder().uri("/federate?match[]=%7B__name__!=%22%22%7D").body(Body::empty());
    let response = router(source).oneshot(request.expect("a request")).await.expect("never fails");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let expected = format!(
        "# TYPE \"my.queue\" untyped\n{{\"my.queue\",instance=\"\"}} 0.5 {now_ms}\n\
         # TYPE queue untyped\nqueue{{instance=\"a:1\",note=\"a\\\"b\\\\c\\nd\"}} 1e+06 {now_ms}\n"
    );
    assert_eq!(String::from_utf8_lossy(&body), expected);
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_take_it() {
    let path = "/api/v1/query_range?query=queue&start=1700000000&end=1700000060&step=1";
    for (accepted, compressed) in [("gzip, deflate", true), ("gzip;q=0", false), ("identity", false)] {
        let request =
            Request::builder().uri(path).header(header::ACCEPT_ENCODING, accepted).body(Body::empty());
        let response = api().oneshot(request.expect("a request")).await.expect("never fails");
        assert_eq!(response.headers().contains_key(header::CONTENT_ENCODING), compressed, "{accepted}");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let mut text = String::new();
        if compressed {
            let mut decoder = flate2::read::GzDecoder::new(&body[..]);
            std::io::Read::read_to_string(&mut decoder, &mut text).expect("gzip");
        } else {
            text = String::from_utf8_lossy(&body).into_owned();
        }
        assert!(text.starts_with("{\"status\":\"success\"") && text.len() > 1_400, "{accepted}: {text}");
    }
}
