//! What the autoscaler says of itself, as Prometheus metrics: at `/metrics` beside the Prometheus API, and in its own
//! store, so that a query and a dashboard find them.
//!
//! Names are those of KEDA, kube-controller-manager and VPA where they mean the same, so that dashboards and alerts keep
//! working; `flyball_…` is what none of them has. `horizontal` tells of the newest decisions, as they are; `vertical`
//! counts what VPA's three components do.

mod horizontal;
mod text;
mod vertical;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use flyball_metrics::exposition::Format;
use flyball_metrics::target::{Target as Page, TargetOptions};
use flyball_metrics::{Labels, Store};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

pub(crate) use horizontal::Horizontal;
pub use vertical::{Admitted, VpaMetrics};
pub(crate) use vertical::{Evictions, InPlaceUpdates, ObjectKind, Sample, Timer, UpdaterRound, VpaSize};

/// The autoscaler's own metrics, shared by the loops and the endpoint.
#[derive(Clone, Default)]
pub(crate) struct Telemetry {
    pub(crate) horizontal: Arc<Mutex<Horizontal>>,
    pub(crate) vertical: VpaMetrics,
}

impl Telemetry {
    /// The page, in Prometheus' text format.
    pub(crate) fn page(&self) -> String {
        // A page of ten thousand targets takes a while; the loop must not wait for it.
        let horizontal = self.horizontal.lock().clone();
        let mut page = horizontal.page();
        page.push_str(&self.vertical.page());
        page
    }
}

/// `/metrics`, beside the Prometheus API.
pub(crate) fn router(telemetry: Telemetry) -> Router {
    let page = async |State(telemetry): State<Telemetry>| {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry.page())
    };
    Router::new().route("/metrics", get(page)).with_state(telemetry)
}

/// Stores the own metrics as a scrape of the endpoint would.
pub(crate) struct OwnSeries {
    page: Arc<Mutex<Page>>,
    storing: Option<JoinHandle<()>>,
}

impl OwnSeries {
    pub(crate) fn new() -> OwnSeries {
        let labels = Labels::new([("job", "flyball"), ("instance", "flyball")]);
        let page = Page::new(labels, TargetOptions { honor_labels: true, ..TargetOptions::default() });
        OwnSeries { page: Arc::new(Mutex::new(page)), storing: None }
    }

    /// Takes a sample of everything, unless the last one is still being taken.
    pub(crate) fn store(&mut self, store: &Arc<Mutex<Store>>, telemetry: &Telemetry, at_ms: i64) {
        if self.storing.as_ref().is_some_and(|storing| !storing.is_finished()) {
            return;
        }
        let (page, store, telemetry) = (Arc::clone(&self.page), Arc::clone(store), telemetry.clone());
        self.storing = Some(tokio::task::spawn_blocking(move || {
            let text = telemetry.page();
            let stored = page.lock().ingest(&mut store.lock(), text.as_bytes(), Format::Text, at_ms);
            if let Err(error) = stored {
                tracing::warn!(%error, "cannot keep the autoscaler's own metrics");
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_page_can_be_scraped() {
        let telemetry = Telemetry::default();
        telemetry.horizontal.lock().round(std::time::Duration::from_millis(20));
        telemetry.vertical.admitted(Admitted::Pod, true, std::time::Duration::from_millis(2));
        let store = Arc::new(Mutex::new(Store::new(flyball_metrics::StoreOptions::default())));
        let mut own = OwnSeries::new();
        own.store(&store, &telemetry, 1000);
        own.storing.unwrap().await.unwrap();
        let store = store.lock();
        let named = |name| store.select(&[flyball_metrics::Matcher::equal("__name__", name)]).len();
        let applied = named("vpa_admission_controller_admission_pods_total");
        assert_eq!((named("flyball_round_seconds_count"), applied), (1, 1));
    }
}
