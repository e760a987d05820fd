//! The readings of metrics-api triggers: one number somewhere in what an HTTP endpoint answers.
//!
//! The rules are KEDA's (`pkg/scalers/metrics_api_scaler.go`), for the formats json, yaml and prometheus. A path into
//! JSON is GJSON's, as far as it names fields and places: `a.b`, `list.0.x`, `list.#`, and `\.` for a dot in a name.
//!
//! Where KEDA leaves out endpoints of a Service that fail, what the others say is partial here: a pod that does not
//! answer is not a pod without load. An answer that may be cut off is none.

use std::net::IpAddr;

use flyball_api::quantity::Quantity;
use flyball_api::trigger::metrics_api::MetricsApi;
use flyball_metrics::exposition::{Entry, ExpositionError, Format, Parser};
use flyball_metrics::promql::parse_metric_selector;
use futures::{StreamExt, stream};
use http::Uri;
use serde_json::Value;

use crate::gather::url;

use super::answer::Answer;
use super::caller::{Call, Caller};

/// So many endpoints are asked at the same time.
const ASKED_AT_ONCE: usize = 5;

/// What the endpoint says now; or all `addresses` of its Service, put together.
pub(crate) async fn ask(caller: Caller, api: MetricsApi, addresses: Option<Vec<IpAddr>>) -> Answer {
    let failed = |error: String| Answer::Failed(format!("error requesting metrics endpoint: {error}"));
    let (Some(how), Some(addresses)) = (api.aggregation.clone(), addresses) else {
        return ask_one(&caller, &api, &api.url).await.map_or_else(failed, Answer::Number);
    };
    let urls: Vec<String> = addresses.iter().filter_map(|address| at_address(&api.url, address)).collect();
    let one = |url: String| {
        let (caller, api) = (caller.clone(), api.clone());
        async move { ask_one(&caller, &api, &url).await.map_err(|error| format!("{url}: {error}")) }
    };
    let asked = stream::iter(urls).map(one).buffer_unordered(ASKED_AT_ONCE);
    let answers: Vec<Result<f64, String>> = asked.collect().await;
    let numbers: Vec<f64> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
    let (all, answered) = (answers.len(), numbers.len());
    let mut errors: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
    errors.sort_unstable();
    let first_error = errors.into_iter().next();
    match (combine(&how, &numbers), first_error) {
        (Some(value), None) => Answer::Number(value),
        (Some(value), Some(error)) => {
            Answer::Partial { value, why: format!("{answered} of {all} endpoints answered; {error}") }
        }
        (None, error) => failed(error.unwrap_or_else(|| "the Service has no ready endpoint".to_owned())),
    }
}

/// The URL with an address instead of its host.
fn at_address(url: &str, address: &IpAddr) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    Some(format!("{}://{host}{port}{path}", uri.scheme_str()?))
}

fn combine(how: &str, numbers: &[f64]) -> Option<f64> {
    let sum: f64 = numbers.iter().sum();
    let count = u32::try_from(numbers.len()).ok().filter(|count| *count > 0)?;
    Some(match how {
        "sum" => sum,
        "max" => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "min" => numbers.iter().copied().fold(f64::INFINITY, f64::min),
        _ => sum / f64::from(count),
    })
}

async fn ask_one(caller: &Caller, api: &MetricsApi, url: &str) -> Result<f64, String> {
    let mut call = Call {
        url: url.to_owned(),
        timeout: api.timeout,
        unsafe_ssl: api.unsafe_ssl,
        authentication: api.authentication.clone(),
        headers: Default::default(),
    };
    match &api.api_key {
        Some(key) if key.in_query => {
            let pair = url::query(&[(key.name.as_str(), key.key.reveal())]);
            let separator = if url.contains('?') { '&' } else { '?' };
            call.url = format!("{url}{separator}{pair}");
        }
        Some(key) => drop(call.headers.insert(key.name.clone(), key.key.reveal().to_owned())),
        None => {}
    }
    let reply = caller.get(&call).await?;
    if reply.status != http::StatusCode::OK {
        let path = url.parse::<Uri>().map(|uri| uri.path().to_owned()).unwrap_or_default();
        return Err(format!("{path}: api returned {}", reply.status.as_u16()));
    }
    // JSON has an end of its own; lines do, if the last one is whole.
    let may_be_cut_off = matches!(api.format.as_str(), "prometheus" | "yaml") && !reply.has_length;
    if may_be_cut_off && reply.body.last() != Some(&b'\n') {
        return Err("the answer may be cut off: it has neither a length nor an end of its own".to_owned());
    }
    let value = value(&api.format, &api.value_location, &reply.body)?;
    match value.is_finite() {
        true => Ok(value),
        false => Err(format!("valueLocation {:?} points to {value}, which is no amount", api.value_location)),
    }
}

/// The number at a location of an answer.
fn value(format: &str, location: &str, body: &[u8]) -> Result<f64, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8 text".to_owned())?;
    match format {
        "prometheus" => in_page(location, text),
        "yaml" => {
            let document = serde_saphyr::from_str(text).map_err(|_| "the answer is not YAML".to_owned())?;
            in_document(location, &document)
        }
        "xml" => Err("the format xml is not read; use json, yaml or prometheus".to_owned()),
        _ => {
            let document =
                serde_json::from_str(text).map_err(|error| format!("the answer is not JSON: {error}"))?;
            in_document(location, &document)
        }
    }
}

fn in_document(location: &str, document: &Value) -> Result<f64, String> {
    let no_number = |got: &str| {
        Err(format!(
            "valueLocation {location:?} must point to a numeric value or a string parseable as a Quantity, got {got}"
        ))
    };
    match find(document, location) {
        Some(LocatedValue::Count(count)) => Ok(count),
        Some(LocatedValue::Value(Value::Number(number))) => {
            number.as_f64().map_or_else(|| no_number("Number"), Ok)
        }
        Some(LocatedValue::Value(Value::String(text))) => {
            Quantity::parse(text).map(Quantity::as_f64).map_err(|_| {
                format!("valueLocation {location:?} points to a string that is not parseable as a Quantity")
            })
        }
        Some(LocatedValue::Value(Value::Bool(value))) => no_number(if *value { "True" } else { "False" }),
        Some(LocatedValue::Value(Value::Null)) | None => no_number("Null"),
        Some(LocatedValue::Value(_)) => no_number("JSON"),
    }
}

enum LocatedValue<'a> {
    Value(&'a Value),
    /// The length of a list.
    Count(f64),
}

#[expect(clippy::cast_precision_loss, reason = "lists are far shorter than 2^52")]
fn find<'a>(document: &'a Value, path: &str) -> Option<LocatedValue<'a>> {
    let mut here = document;
    let parts = parts(path);
    for (index, part) in parts.iter().enumerate() {
        here = match here {
            Value::Object(fields) => fields.get(part)?,
            Value::Array(items) if part == "#" && index + 1 == parts.len() => {
                return Some(LocatedValue::Count(items.len() as f64));
            }
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(LocatedValue::Value(here))
}

/// The names of a path: separated by dots, and a backslash takes the next letter as it is.
fn parts(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '.' => parts.push(String::new()),
            '\\' => parts.last_mut().into_iter().for_each(|part| part.extend(letters.next())),
            letter => parts.last_mut().into_iter().for_each(|part| part.push(letter)),
        }
    }
    parts
}

/// The first sample that a selector matches.
fn in_page(selector: &str, page: &str) -> Result<f64, String> {
    let matchers =
        parse_metric_selector(selector).map_err(|error| format!("valueLocation {selector:?}: {error}"))?;
    let no_page = |error: ExpositionError| format!("the answer is no page of metrics: {error}");
    let mut parser = Parser::new(page.as_bytes(), Format::Text).map_err(no_page)?;
    let mut found = None;
    while let Some(entry) = parser.next() {
        let Entry::Series(line) = entry.map_err(no_page)? else { continue };
        let labels = parser.labels().map_err(no_page)?;
        if found.is_none() && matchers.iter().all(|matcher| matcher.matches_labels(&labels)) {
            found = Some(line.value);
        }
    }
    // Only a page that is read to its end is known to be one.
    found.ok_or_else(|| format!("valueLocation {selector:?} matches no sample of the answer"))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use proptest::prelude::*;

    use super::super::caller::tests::serve;
    use super::*;
    use flyball_api::kinds::scaled_object::ScaleTrigger;
    use flyball_api::trigger::{Resolved, Trigger, TriggerSource};

    fn api(metadata: &[(&str, &str)], authentication: &[(&str, &str)]) -> MetricsApi {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let (mut metadata, authentication): (
            std::collections::BTreeMap<_, _>,
            std::collections::BTreeMap<_, _>,
        ) = (owned(metadata), owned(authentication));
        metadata.entry("targetValue".to_owned()).or_insert("1".to_owned());
        let written = ScaleTrigger { kind: "metrics-api".to_owned(), metadata, ..ScaleTrigger::default() };
        let resolved = Resolved { environment: None, authentication: Some(&authentication) };
        let (read, problems) = Trigger::parse(0, &written, resolved);
        match read.map(|trigger| trigger.source) {
            Some(TriggerSource::MetricsApi(api)) => api,
            _ => panic!("{problems:?}"),
        }
    }

    #[test]
    fn numbers_are_found_where_keda_finds_them() {
        let json = r#"{"a": {"b": 3.5}, "list": [{"x": 1}, {"x": "2"}], "q": "512Mi", "a.b": 7, "t": true, "n": null, "s": "?"}"#;
        let yaml = "a: {b: 3.5}\nlist:\n- x: 1\n- x: '2'\nq: 512Mi\n";
        let page = "# TYPE x gauge\nx{l=\"a\"} 1\nx{l=\"b\"} 2\ny 3\n";
        let must = |location: &str, got: &str| {
            Err(format!(
                "valueLocation {location:?} must point to a numeric value or a string parseable as a Quantity, got {got}"
            ))
        };
        for (format, location, expected) in [
            ("json", "a.b", Ok(3.5)),
            ("json", "list.0.x", Ok(1.0)),
            ("json", "list.1.x", Ok(2.0)),
            ("json", "list.#", Ok(2.0)),
            ("json", "q", Ok(536_870_912.0)),
            ("json", r"a\.b", Ok(7.0)),
            ("json", "t", must("t", "True")),
            ("json", "n", must("n", "Null")),
            ("json", "none.x", must("none.x", "Null")),
            ("json", "a", must("a", "JSON")),
            (
                "json",
                "s",
                Err("valueLocation \"s\" points to a string that is not parseable as a Quantity".to_owned()),
            ),
            ("yaml", "list.1.x", Ok(2.0)),
            ("yaml", "q", Ok(536_870_912.0)),
            ("prometheus", "y", Ok(3.0)),
            ("prometheus", "x{l=\"b\"}", Ok(2.0)),
            ("prometheus", "x", Ok(1.0)),
            ("prometheus", "z", Err("valueLocation \"z\" matches no sample of the answer".to_owned())),
        ] {
            let body = match format {
                "json" => json,
                "yaml" => yaml,
                _ => page,
            };
            assert_eq!(value(format, location, body.as_bytes()), expected, "{format} {location}");
        }
        assert!(value("json", "a", b"<html>").is_err() && value("prometheus", "a", b"<html>").is_err());
    }

    #[tokio::test]
    async fn an_endpoint_is_asked_with_its_key() {
        use axum::extract::Query;
        use axum::http::HeaderMap;
        let keyed =
            async |headers: HeaderMap, Query(query): Query<std::collections::BTreeMap<String, String>>| {
                let by_header = headers.get("x-api-key").is_some_and(|key| key == "secret");
                if by_header || query.get("api_key").is_some_and(|key| key == "secret") {
                    (http::StatusCode::OK, r#"{"queue": 12}"#)
                } else {
                    (http::StatusCode::UNAUTHORIZED, "no")
                }
            };
        let url = format!("{}/stats", serve(Router::new().route("/stats", get(keyed))).await);
        let plain = [("url", url.as_str()), ("valueLocation", "queue")];
        let with = |more: &[(&'static str, &'static str)]| {
            let all: Vec<_> = plain.iter().copied().chain(more.iter().copied()).collect();
            api(&all, &[("apiKey", "secret")])
        };
        let said = async |api: MetricsApi| ask(Caller::default(), api, None).await;
        assert_eq!(said(with(&[("authMode", "apiKey")])).await, Answer::Number(12.0));
        assert_eq!(said(with(&[("authMode", "apiKey"), ("method", "query")])).await, Answer::Number(12.0));
        let refused = "error requesting metrics endpoint: /stats: api returned 401".to_owned();
        assert_eq!(said(with(&[])).await, Answer::Failed(refused));
    }

    #[tokio::test]
    async fn the_endpoints_of_a_service_are_put_together() {
        let url = serve(Router::new().route("/n", get(async || r#"{"n": 4}"#))).await;
        let port = url.rsplit(':').next().unwrap();
        let service = format!("http://model.default.svc:{port}/n");
        let asked = async |how: &str, addresses: &[&str]| {
            let pairs = [
                ("url", service.as_str()),
                ("valueLocation", "n"),
                ("aggregateFromKubeServiceEndpoints", "true"),
                ("aggregationType", how),
            ];
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            ask(Caller::default(), api(&pairs, &[]), Some(addresses)).await
        };
        let two = ["127.0.0.1", "127.0.0.1"];
        for (how, expected) in [("average", 4.0), ("sum", 8.0), ("max", 4.0), ("min", 4.0)] {
            assert_eq!(asked(how, &two).await, Answer::Number(expected), "{how}");
        }
        // The server listens on 127.0.0.1 only.
        let Answer::Partial { value, why } = asked("sum", &["127.0.0.1", "127.0.0.2"]).await else {
            panic!("an endpoint that fails is not one without load");
        };
        assert!(value == 4.0 && why.starts_with("1 of 2 endpoints answered; http://127.0.0.2:"), "{why}");
        let none = "error requesting metrics endpoint: the Service has no ready endpoint".to_owned();
        assert_eq!(asked("sum", &[]).await, Answer::Failed(none));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(format in 0usize..3, location in ".{0,20}", body in ".{0,80}") {
            let _ = value(["json", "yaml", "prometheus"][format], &location, body.as_bytes());
        }
    }
}
