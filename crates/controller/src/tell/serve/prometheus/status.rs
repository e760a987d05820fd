//! `/api/v1/status/…`: what answers here, how it is set up, and what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::promql::{self, EngineOptions};
use flyball_metrics::{METRIC_NAME, SeriesHandle, StoreSize, response};
use http::Uri;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::gather::scrape::status::TargetStatus;
use crate::tell::serve::prometheus::parameters::Parameters;
use crate::tell::serve::prometheus::run::{Query, ask};
use crate::tell::serve::prometheus::targets::duration;
use crate::tell::serve::prometheus::{Refused, Source, answer, respond};
use crate::tell::serve::questions::{QUESTION_TIMEOUT_MAX, QUESTIONS_AT_ONCE_MAX};

/// Entries of each statistic, where the request names no limit, and at most (Prometheus' numbers).
const STATISTICS_DEFAULT: usize = 10;
/// See [`STATISTICS_DEFAULT`].
const STATISTICS_MAX: usize = 10_000;

/// Clients look at the version to know what they may ask; this is the Prometheus whose rules are followed.
pub(super) async fn build_info() -> Response {
    let version = concat!("3.16.0+flyball-", env!("CARGO_PKG_VERSION"));
    let info = json!({
        "version": version, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
    });
    answer(response::data(&info))
}

pub(super) async fn runtime_info(State(source): State<Source>, parameters: Parameters) -> Response {
    let started = source.started;
    respond(ask(&source, parameters, move |query| runtime(query, started)).await)
}

fn runtime(query: &Query<'_>, started: Timestamp) -> Result<String, Refused> {
    let retention = query.lend(|store| store.options().retention).unwrap_or_default();
    let size = size(&promql::select(query.store(), &[Vec::new()], &query.stop())?);
    let folder = std::env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default();
    Ok(response::data(&json!({
        "startTime": started.to_string(),
        "serverTime": Timestamp::now().to_string(),
        "CWD": folder,
        "reloadConfigSuccess": true,
        "lastConfigTime": started.to_string(),
        "corruptionCount": 0,
        "storageRetention": duration(retention),
        "timeSeriesCount": size.series,
        "samplesCount": size.samples,
        "storeBytes": size.bytes,
    })))
}

pub(super) async fn flags(State(source): State<Source>) -> Response {
    let retention = source.store.lock().options().retention;
    let engine = EngineOptions::default();
    answer(response::data(&json!({
        "query.lookback-delta": duration(engine.lookback_delta),
        "query.max-concurrency": QUESTIONS_AT_ONCE_MAX.to_string(),
        "query.max-samples": engine.samples_max.to_string(),
        "query.timeout": duration(QUESTION_TIMEOUT_MAX),
        "storage.tsdb.retention.time": duration(retention),
    })))
}

/// What is scraped, in the form of a Prometheus configuration: one job for each pool of targets.
pub(super) async fn config(State(source): State<Source>) -> Response {
    answer(response::data(&json!({ "yaml": config_yaml(&source.targets.lock()) })))
}

fn config_yaml(targets: &[TargetStatus]) -> String {
    let mut jobs: BTreeMap<&str, Vec<&TargetStatus>> = BTreeMap::new();
    targets.iter().for_each(|shown| jobs.entry(&shown.target.pool).or_default().push(shown));
    let mut yaml = String::from("scrape_configs:");
    if jobs.is_empty() {
        yaml.push_str(" []");
    }
    for (pool, targets) in jobs {
        push_job(&mut yaml, pool, &targets);
    }
    yaml.push('\n');
    yaml
}

fn push_job(yaml: &mut String, pool: &str, targets: &[&TargetStatus]) {
    let Some(first) = targets.first() else { return };
    let (interval, timeout) = (duration(first.interval), duration(first.target.timeout));
    let uri = first.target.url.parse::<Uri>().unwrap_or_default();
    let (scheme, path) = (uri.scheme_str().unwrap_or("http"), uri.path());
    let honor = first.target.options.honor_labels;
    let _ = write!(
        yaml,
        "\n- job_name: {pool}\n  honor_labels: {honor}\n  scrape_interval: {interval}\n  scrape_timeout: {timeout}\
         \n  metrics_path: {path}\n  scheme: {scheme}\n  static_configs:"
    );
    for shown in targets {
        let uri = shown.target.url.parse::<Uri>().unwrap_or_default();
        let address = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let _ = write!(yaml, "\n  - targets:\n    - {address}\n    labels:");
        for (name, value) in &shown.target.labels {
            let _ = write!(yaml, "\n      {name}: {}", Value::from(value.as_str()));
        }
    }
}

pub(super) async fn tsdb(State(source): State<Source>, parameters: Parameters) -> Response {
    let question = |query: &Query<'_>| {
        let limit = statistics_limit(query.parameters)?;
        statistics(query, limit)
    };
    respond(ask(&source, parameters, question).await)
}

fn statistics_limit(parameters: &Parameters) -> Result<usize, Refused> {
    let Some(text) = parameters.get("limit").filter(|text| !text.is_empty()) else {
        return Ok(STATISTICS_DEFAULT);
    };
    match text.parse::<usize>() {
        Ok(limit @ 1..=STATISTICS_MAX) => Ok(limit),
        Ok(limit @ 1..) => {
            Err(Refused::bad_data(format!("limit must not exceed {STATISTICS_MAX}, got {limit}")))
        }
        _ => Err(Refused::bad_data("limit must be a positive number")),
    }
}

/// What series take together.
fn size(series: &[SeriesHandle]) -> StoreSize {
    let mut all = StoreSize::default();
    for size in series.iter().map(|series| series.read().size()) {
        all.series += size.series;
        all.samples += size.samples;
        all.bytes += size.bytes;
        all.chunks = [all.chunks, size.chunks].into_iter().sum();
    }
    all
}

fn statistics(query: &Query<'_>, limit: usize) -> Result<String, Refused> {
    let selected = promql::select(query.store(), &[Vec::new()], &query.stop())?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let [mut by_metric, mut by_pair, mut bytes]: [BTreeMap<String, usize>; 3] = Default::default();
    let (mut oldest, mut newest, mut series_count) = (i64::MAX, i64::MIN, 0_usize);
    for series in selected.iter().map(SeriesHandle::read) {
        series_count += 1;
        oldest = oldest.min(series.oldest_ms().unwrap_or(i64::MAX));
        newest = newest.max(series.newest().map_or(i64::MIN, |sample| sample.timestamp_ms));
        for (name, value) in series.labels().iter() {
            *by_pair.entry(format!("{name}={value}")).or_default() += 1;
            values.entry(name).or_default().insert(value);
            *bytes.entry(name.to_owned()).or_default() += value.len();
            if name == METRIC_NAME {
                *by_metric.entry(value.to_owned()).or_default() += 1;
            }
        }
    }
    query.go_on()?;
    let chunks = size(&selected).chunks;
    let values = values.into_iter().map(|(name, values)| (name.to_owned(), values.len())).collect();
    Ok(response::data(&json!({
        "headStats": {
            "numSeries": series_count,
            "numLabelPairs": by_pair.len(),
            "chunkCount": chunks.count,
            "minTime": oldest,
            "maxTime": newest,
        },
        // What Prometheus does not tell: how well samples are compressed.
        "chunkStats": {
            "samples": chunks.samples,
            "bytes": chunks.bytes,
            "bytesPerSample": chunks.bytes as f64 / chunks.samples.max(1) as f64,
        },
        "seriesCountByMetricName": largest(by_metric, limit),
        "labelValueCountByLabelName": largest(values, limit),
        "memoryInBytesByLabelName": largest(bytes, limit),
        "seriesCountByLabelValuePair": largest(by_pair, limit),
    })))
}

/// The entries with the largest numbers, the largest first.
fn largest(counts: BTreeMap<String, usize>, limit: usize) -> Vec<Value> {
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().take(limit).map(|(name, value)| json!({ "name": name, "value": value })).collect()
}
