//! What is sent, and what is answered.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Version};
use flyball_metrics::{Matcher, Store};
use http_body_util::BodyExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::grpc::EXPORT;
use crate::tell::serve::prometheus::{Source, router};

/// Sends a body with headers to an API over this store; returns status, headers and text.
async fn push(
    store: &Arc<Mutex<Store>>,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (u16, HeaderMap, String) {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let api = router(Source::new(Arc::clone(store), Arc::default()));
    let response = api.oneshot(request.body(Body::from(body)).expect("valid")).await.expect("never fails");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8_lossy(&body).into_owned())
}

/// `up{} 1` at the given second, as a remote write request of version 1.0, compressed.
fn write_request(second: u8) -> Vec<u8> {
    // TimeSeries{labels[__name__="up"], samples[{value 1, timestamp}]}, field by field.
    let label = [&[0x0a, 8][..], b"__name__", &[0x12, 2], b"up"].concat();
    let sample = [&[0x09][..], &1f64.to_le_bytes(), &[0x10, second]].concat();
    let series = [&[0x0a, label.len() as u8][..], &label, &[0x12, sample.len() as u8], &sample].concat();
    let body = [&[0x0a, series.len() as u8][..], &series].concat();
    snap::raw::Encoder::new().compress_vec(&body).expect("small")
}

#[tokio::test]
async fn remote_write_answers_as_prometheus_does() {
    let store = Arc::new(Mutex::new(Store::default()));
    let v1 = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
    let (status, _, body) = push(&store, "/api/v1/write", &v1, write_request(9)).await;
    assert_eq!((status, body.as_str()), (204, ""));
    assert_eq!(store.lock().metric_names(), ["up"]);
    let (status, _, body) = push(&store, "/api/v1/write", &v1, write_request(8)).await;
    assert_eq!((status, body.as_str()), (400, "out of order sample for series {__name__=\"up\"}\n"));
    let (status, ..) = push(&store, "/api/v1/write", &v1, b"no snappy".to_vec()).await;
    assert_eq!(status, 400);
    let json = [("content-type", "application/json")];
    let (status, ..) = push(&store, "/api/v1/write", &json, Vec::new()).await;
    assert_eq!(status, 415);
    let v2 = [("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")];
    let empty = snap::raw::Encoder::new().compress_vec(&[]).expect("small");
    let (status, headers, _) = push(&store, "/api/v1/write", &v2, empty).await;
    let written = headers.get("x-prometheus-remote-write-samples-written").map(|value| value.as_bytes());
    assert_eq!((status, written), (204, Some(&b"0"[..])));
}

#[tokio::test]
async fn otlp_answers_as_prometheus_does() {
    let store = Arc::new(Mutex::new(Store::default()));
    let path = "/api/v1/otlp/v1/metrics";
    let protobuf = ("content-type", "application/x-protobuf");
    let (status, ..) = push(&store, path, &[protobuf], Vec::new()).await;
    assert_eq!(status, 200);
    let (status, _, body) = push(&store, path, &[protobuf, ("content-encoding", "br")], Vec::new()).await;
    assert_eq!(
        (status, body.as_str()),
        (400, "unsupported compression: br. Only \"gzip\" or no compression supported\n")
    );
    let (status, ..) =
        push(&store, path, &[protobuf, ("content-encoding", "gzip")], b"no gzip".to_vec()).await;
    assert_eq!(status, 400);
    let (status, _, body) = push(&store, path, &[("content-type", "text/plain")], Vec::new()).await;
    assert_eq!(
        (status, body.as_str()),
        (400, "unsupported content type: text/plain, supported: [application/json application/x-protobuf]\n")
    );
}

const OTLP: &str = "/api/v1/otlp/v1/metrics";

/// A request with a metric for each name, at a time in milliseconds, as JSON.
fn gauges(names: &[(&str, i64)]) -> Value {
    let metric = |(name, time_ms): &(&str, i64)| {
        let time = format!("{time_ms}000000");
        json!({ "name": name, "gauge": { "dataPoints": [{ "asDouble": 2.5, "timeUnixNano": time }] } })
    };
    let metrics: Vec<Value> = names.iter().map(metric).collect();
    json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": metrics }] }] })
}

#[tokio::test]
async fn otlp_as_json_is_answered_as_json() {
    let store = Arc::new(Mutex::new(Store::default()));
    let headers = [("content-type", "application/json; charset=utf-8")];
    let now_ms = Timestamp::now().as_millisecond();
    let sent = async |body: String| push(&store, OTLP, &headers, body.into_bytes()).await;
    let (status, answered, body) = sent(gauges(&[("queue", now_ms)]).to_string()).await;
    assert_eq!(
        (status, body.as_str(), &answered["content-type"]),
        (200, "{}", &"application/json".parse().unwrap())
    );
    let (status, _, body) = sent(gauges(&[("queue", now_ms - 5), ("depth", now_ms)]).to_string()).await;
    let partial = json!({ "partialSuccess": {
        "rejectedDataPoints": "1", "errorMessage": "out of order sample for series {__name__=\"queue\"}",
    } });
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, partial));
    assert_eq!(store.lock().metric_names(), ["depth", "queue"]);
    let (status, _, body) = sent(gauges(&[("queue", now_ms - 5)]).to_string()).await;
    assert_eq!((status, body.as_str()), (400, "out of order sample for series {__name__=\"queue\"}\n"));
    let (status, _, body) = sent("{\"resourceMetrics\": 1}".to_owned()).await;
    let expected = "invalid type: number, expected an object for resourceMetrics at line 1 column 21\n";
    assert_eq!((status, body.as_str()), (400, expected));
}

/// A call, as status, status of gRPC, its message, and the answer with its prefix.
async fn call(
    api: &Router,
    content_type: &str,
    encoding: &str,
    body: Vec<u8>,
) -> (u16, String, String, Vec<u8>) {
    let version = if content_type.is_empty() { Version::HTTP_11 } else { Version::HTTP_2 };
    let request = Request::post(EXPORT).version(version).header("content-type", content_type);
    let request = request.header("grpc-encoding", encoding).header("accept-encoding", "gzip");
    let response = api.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let text =
        |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let trailer = body.trailers().and_then(|trailers| text(trailers, "grpc-status"));
    let status = trailer.or(text(&head.headers, "grpc-status")).unwrap_or_default();
    let message = text(&head.headers, "grpc-message").unwrap_or_default();
    (head.status.as_u16(), status, message, body.to_bytes().to_vec())
}

#[tokio::test]
async fn otlp_over_grpc_is_one_call() {
    let store = Arc::new(Mutex::new(Store::default()));
    let api = router(Source::new(Arc::clone(&store), Arc::default()));
    let now_ms = Timestamp::now().as_millisecond();
    let framed =
        |flag: u8, message: &[u8]| [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat();
    let message = |names: &[(&str, i64)]| {
        flyball_metrics::push::otlp::to_protobuf(gauges(names).to_string().as_bytes()).unwrap()
    };
    let grpc = "application/grpc";
    let empty = vec![0, 0, 0, 0, 0];
    let ok = |body: Vec<u8>| (200, "0".to_owned(), String::new(), body);
    let queue = message(&[("queue", now_ms)]);
    assert_eq!(call(&api, grpc, "identity", framed(0, &queue)).await, ok(empty.clone()));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &message(&[("depth", now_ms)])).unwrap();
    let compressed = framed(1, &gzip.finish().unwrap());
    assert_eq!(call(&api, "application/grpc+proto", "gzip", compressed).await, ok(empty));
    let selected = |name: &str| store.lock().select(&[Matcher::equal("__name__", name)]).len();
    assert_eq!((selected("queue"), selected("depth")), (1, 1));

    let (_, status, _, body) =
        call(&api, grpc, "", framed(0, &message(&[("queue", 5), ("late", now_ms)]))).await;
    assert_eq!(
        (status.as_str(), &body[5..9]),
        ("0", &[0x0a, body.len() as u8 - 7, 8, 1][..]),
        "a partial success"
    );
    for (content_type, encoding, body, expected) in [
        (
            grpc,
            "",
            framed(0, &message(&[("queue", 5)])),
            (200, "3", "out of order sample for series {__name__=\"queue\"}"),
        ),
        (grpc, "", vec![0, 0], (200, "3", "a message is missing")),
        (grpc, "", framed(0, &[0xff]), (200, "3", "failed to decode Protobuf message: invalid varint")),
        (grpc, "br", framed(1, &[]), (200, "12", "compression \"br\" is not supported")),
        ("application/json", "", Vec::new(), (415, "", "")),
        ("", "", Vec::new(), (415, "", "")),
    ] {
        let (status, code, message, _) = call(&api, content_type, encoding, body).await;
        assert_eq!((status, code.as_str(), message.as_str()), expected);
    }
}
