//! `/api/v1/targets`, `/api/v1/targets/relabel_steps` and `/api/v1/scrape_pools`: what is scraped, how its labels came to be, and
//! what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::relabel::{self, Rule, RuleText};
use flyball_metrics::{Labels, response};
use serde_json::{Value, json};

use crate::gather::scrape::status::TargetStatus;
use crate::tell::serve::prometheus::parameters::Parameters;
use crate::tell::serve::prometheus::{Refused, Source, answer, respond};

pub(super) async fn list(State(source): State<Source>, parameters: Parameters) -> Response {
    let state = parameters.get("state").unwrap_or_default().to_ascii_lowercase();
    let wants_active = matches!(state.as_str(), "" | "any" | "active");
    let pool = parameters.get("scrapePool").filter(|pool| !pool.is_empty());
    let wants_dropped = matches!(state.as_str(), "" | "any" | "dropped");
    let (targets, pools) = (source.targets.lock(), Arc::clone(&source.pools.lock()));
    let of_pool = |name: &str| pool.is_none_or(|pool| pool == name);
    let active =
        targets.iter().filter(|shown| wants_active && of_pool(&shown.target.pool)).map(active_target);
    let dropped = pools.dropped.iter().filter(|(pool, _)| wants_dropped && of_pool(pool));
    let dropped = dropped.map(|(pool, labels)| json!({ "discoveredLabels": labels, "scrapePool": pool }));
    let counts = pools.dropped_counts.iter().filter(|(pool, _)| wants_dropped && of_pool(pool));
    answer(response::data(&json!({
        "activeTargets": active.collect::<Vec<_>>(),
        "droppedTargets": dropped.collect::<Vec<_>>(),
        "droppedTargetCounts": counts.collect::<BTreeMap<_, _>>(),
    })))
}

pub(super) async fn pools(State(source): State<Source>) -> Response {
    let (targets, known) = (source.targets.lock(), Arc::clone(&source.pools.lock()));
    let of_targets = targets.iter().map(|shown| shown.target.pool.as_str());
    let pools: BTreeSet<&str> = of_targets.chain(known.relabelings.keys().map(String::as_str)).collect();
    answer(response::data(&json!({ "scrapePools": pools })))
}

/// What each rule of a pool makes of given labels.
pub(super) async fn relabel_steps(State(source): State<Source>, parameters: Parameters) -> Response {
    respond(steps(&source, &parameters))
}

fn steps(source: &Source, parameters: &Parameters) -> Result<String, Refused> {
    let given = |name: &str| {
        let text = parameters.get(name).filter(|text| !text.is_empty());
        text.ok_or_else(|| Refused::bad_data(format!("no {name} parameter provided")))
    };
    let (pool, labels) = (given("scrapePool")?, given("labels")?);
    let labels: BTreeMap<String, String> = serde_json::from_str(labels)
        .map_err(|error| Refused::bad_data(format!("error parsing labels: {error}")))?;
    let labels = Labels::new(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let rules = source.pools.lock().relabelings.get(pool).cloned();
    let rules = rules.ok_or_else(|| {
        Refused::bad_data(format!("error retrieving scrape pool config: scrape pool {pool:?} not found"))
    })?;
    let step = |last: usize| {
        let output = relabel::apply(&rules[..=last], &labels);
        let shown: BTreeMap<&str, &str> = output.iter().flat_map(Labels::iter).collect();
        json!({ "rule": shown_rule(&rules[last]), "output": shown, "keep": output.is_some() })
    };
    let steps: Vec<Value> = (0..rules.len()).map(step).collect();
    Ok(response::data(&json!({ "steps": steps })))
}

/// A rule as Prometheus shows it, its defaults written out.
fn shown_rule(rule: &Rule) -> Value {
    let RuleText { source_labels, separator, target_label, regex, modulus, replacement, action } =
        rule.written_out();
    let fields = [
        ("separator", separator),
        ("regex", regex),
        ("targetLabel", target_label),
        ("replacement", replacement),
        ("action", action),
    ];
    let mut shown: serde_json::Map<String, Value> = fields
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text.filter(|text| !text.is_empty())?.into())))
        .collect();
    if !source_labels.is_empty() {
        shown.insert("sourceLabels".to_owned(), source_labels.into());
    }
    if let Some(modulus) = modulus.filter(|modulus| *modulus > 0) {
        shown.insert("modulus".to_owned(), modulus.into());
    }
    shown.into()
}

fn active_target(shown: &TargetStatus) -> Value {
    let (target, status) = (&shown.target, &shown.status);
    let health = match status.up {
        Some(true) => "up",
        Some(false) => "down",
        None => "unknown",
    };
    json!({
        "discoveredLabels": target.discovered,
        "labels": target.labels,
        "scrapePool": target.pool,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": status.last_error,
        "lastScrape": status.last_scrape.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string()),
        "lastScrapeDuration": status.last_duration.as_secs_f64(),
        "health": health,
        "scrapeInterval": duration(shown.interval),
        "scrapeTimeout": duration(target.timeout),
    })
}

/// A duration as Prometheus writes it.
pub(super) fn duration(duration: std::time::Duration) -> String {
    flyball_metrics::format_duration_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}
