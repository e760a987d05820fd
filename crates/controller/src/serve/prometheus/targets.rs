//! `/api/v1/targets`: what is scraped, and what came of it.

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::lock;
use crate::scrape::pool::Shown;
use crate::serve::prometheus::Source;

#[derive(Deserialize)]
pub(super) struct Wanted {
    state: Option<String>,
    #[serde(rename = "scrapePool")]
    scrape_pool: Option<String>,
}

pub(super) async fn list(State(source): State<Source>, Query(wanted): Query<Wanted>) -> Json<Value> {
    let wants_active = wanted.state.as_deref().is_none_or(|state| state != "dropped");
    let targets = lock(&source.targets);
    let active = targets.iter().filter(|shown| {
        wants_active && wanted.scrape_pool.as_ref().is_none_or(|pool| *pool == shown.target.pool)
    });
    let active: Vec<Value> = active.map(active_target).collect();
    Json(json!({
        "status": "success",
        "data": { "activeTargets": active, "droppedTargets": [], "droppedTargetCounts": {} },
    }))
}

fn active_target(shown: &Shown) -> Value {
    let (target, status) = (&shown.target, &shown.status);
    let health = match status.up {
        Some(true) => "up",
        Some(false) => "down",
        None => "unknown",
    };
    json!({
        "discoveredLabels": target.labels,
        "labels": target.labels,
        "scrapePool": target.pool,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": status.last_error,
        "lastScrape": status.last_scrape.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string()),
        "lastScrapeDuration": status.last_duration.as_secs_f64(),
        "health": health,
        "scrapeInterval": format!("{}s", shown.interval.as_secs_f64()),
        "scrapeTimeout": format!("{}s", target.timeout.as_secs_f64()),
    })
}
