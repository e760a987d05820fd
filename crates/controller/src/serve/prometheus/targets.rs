//! `/api/v1/targets` and `/api/v1/scrape_pools`: what is scraped, and what came of it.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::Response;
use flyball_metrics::response;
use serde_json::{Value, json};

use crate::lock;
use crate::scrape::pool::Shown;
use crate::serve::prometheus::parameters::Parameters;
use crate::serve::prometheus::{Source, answer};

pub(super) async fn list(State(source): State<Source>, parameters: Parameters) -> Response {
    let state = parameters.get("state").unwrap_or_default().to_ascii_lowercase();
    let wants_active = matches!(state.as_str(), "" | "any" | "active");
    let pool = parameters.get("scrapePool").filter(|pool| !pool.is_empty());
    let wants_dropped = matches!(state.as_str(), "" | "any" | "dropped");
    let (targets, dropped) = (lock(&source.targets), lock(&source.dropped));
    let of_pool = |name: &str| pool.is_none_or(|pool| pool == name);
    let active =
        targets.iter().filter(|shown| wants_active && of_pool(&shown.target.pool)).map(active_target);
    let mut counts = BTreeMap::<&str, usize>::new();
    for (pool, _) in dropped.iter() {
        *counts.entry(pool).or_default() += 1;
    }
    let dropped = dropped.iter().filter(|(pool, _)| wants_dropped && of_pool(pool));
    let dropped = dropped.map(|(pool, labels)| json!({ "discoveredLabels": labels, "scrapePool": pool }));
    answer(response::data(&json!({
        "activeTargets": active.collect::<Vec<_>>(),
        "droppedTargets": dropped.collect::<Vec<_>>(),
        "droppedTargetCounts": counts,
    })))
}

pub(super) async fn pools(State(source): State<Source>) -> Response {
    let targets = lock(&source.targets);
    let pools: BTreeSet<&str> = targets.iter().map(|shown| shown.target.pool.as_str()).collect();
    answer(response::data(&json!({ "scrapePools": pools })))
}

fn active_target(shown: &Shown) -> Value {
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
