//! `/federate`: the newest samples of the selected series, as a page that another Prometheus scrapes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use flyball_metrics::promql::EngineOptions;
use flyball_metrics::{Labels, METRIC_NAME, Matcher, Sample, SeriesHandle, format_exposition};
use jiff::Timestamp;

use crate::tell::serve::prometheus::parameters::Parameters;
use crate::tell::serve::prometheus::run::{Query, ask};
use crate::tell::serve::prometheus::{Refused, Source};

pub(super) async fn page(State(source): State<Source>, parameters: Parameters) -> Response {
    let page = ask(&source, parameters, |query| {
        let selectors = query.parameters.selectors()?;
        exposition(query, &selectors, Timestamp::now().as_millisecond())
    });
    match page.await {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(refused) => (refused.status(), refused.message).into_response(),
    }
}

/// Without a selector the page is empty, as in Prometheus.
fn exposition(query: &Query<'_>, selectors: &[Vec<Matcher>], now_ms: i64) -> Result<String, Refused> {
    let lookback_ms = i64::try_from(EngineOptions::default().lookback_delta.as_millis()).unwrap_or(i64::MAX);
    let from_ms = now_ms - lookback_ms;
    let mut found: BTreeMap<(&str, &Labels), Sample> = BTreeMap::new();
    let mut scratch = Vec::new();
    let selected = query.select(selectors, from_ms, now_ms)?;
    for series in selected.iter().map(SeriesHandle::read) {
        let newest = series.samples(from_ms, now_ms, &mut scratch).last().copied();
        let name = series.labels().get(METRIC_NAME);
        if let Some(sample) = newest.filter(|sample| !sample.is_stale_marker() && !name.is_empty()) {
            found.insert((name, series.labels()), sample);
        }
    }
    let mut text = String::new();
    let mut family = "";
    for ((name, labels), sample) in found {
        if name != family {
            family = name;
            let _ = writeln!(text, "# TYPE {} untyped", written_name(name));
        }
        push_line(&mut text, name, labels, sample);
    }
    Ok(text)
}

fn push_line(text: &mut String, name: &str, labels: &Labels, sample: Sample) {
    let quoted = |part: &str| {
        let escaped = part.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
        format!("\"{escaped}\"")
    };
    let bare = is_bare(name, true);
    let mut parts: Vec<String> = (!bare).then(|| quoted(name)).into_iter().collect();
    for (label, value) in labels.iter().filter(|(label, _)| *label != METRIC_NAME) {
        let label = if is_bare(label, false) { label.to_owned() } else { quoted(label) };
        parts.push(format!("{label}={}", quoted(value)));
    }
    // Whoever scrapes this must not take it for series of our own address.
    if labels.get("instance").is_empty() {
        parts.push("instance=\"\"".to_owned());
    }
    let name = if bare { name } else { "" };
    let (parts, value) = (parts.join(","), format_exposition(sample.value));
    let _ = writeln!(text, "{name}{{{parts}}} {value} {}", sample.timestamp_ms);
}

fn written_name(name: &str) -> String {
    if is_bare(name, true) { name.to_owned() } else { format!("\"{name}\"") }
}

/// Whether a name needs no quotes.
fn is_bare(name: &str, colon: bool) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colon && byte == b':');
    name.bytes().all(plain) && !name.as_bytes().first().is_some_and(u8::is_ascii_digit)
}
