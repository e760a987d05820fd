//! What a round begins with: the scrapes that are due, and the nodes' pages. Each is a task beside the loop.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Rounds;

/// How long a round waits for the scrapes and pages that it started. A slower one counts in the next round.
const PAGES_WAIT: Duration = Duration::from_millis(300);

impl Rounds {
    /// Scrapes what is due, and reads the nodes; waits a moment for that, and says how long.
    pub(super) async fn gather(&mut self) -> Duration {
        self.mark_feeding();
        let mut pages = JoinSet::new();
        self.start_scrapes(&mut pages);
        self.nodes.start(&self.node_names(), Timestamp::now().as_millisecond(), &mut pages);
        let started = Instant::now();
        let all_read = async { while pages.join_next().await.is_some() {} };
        // A page that takes longer goes on, and is read from the store when it has come.
        let _ = tokio::time::timeout(PAGES_WAIT, all_read).await;
        pages.detach_all();
        let waited = started.elapsed();
        *self.shared.targets.lock() = self.scraper.shown();
        *self.shared.pools.lock() = self.scraper.pools();
        waited
    }

    /// Starts the scrapes that are due; they go on by themselves.
    pub(super) fn start_scrapes(&mut self, scrapes: &mut JoinSet<()>) {
        let now_ms = Timestamp::now().as_millisecond();
        let revision = self.cluster.revisions.pages.now();
        let changed = self.pages_revision.replace(revision) != Some(revision);
        if let Some(found) = changed.then(|| self.discovery.discover(&self.cluster)).flatten() {
            self.scraper.sync(found, now_ms);
        }
        self.scraper.start_due(now_ms, scrapes);
    }

    /// A target feeds a trigger if a query selects its series, or if it is a pod that an autoscaler is about: its
    /// series may be born with the first request.
    fn mark_feeding(&mut self) {
        let mut fed = self.sources.promql.feeding();
        fed.extend(self.sources.custom.feeding().cloned());
        let pods = self.standing.pods();
        let scaled: HashSet<(String, String)> =
            pods.map(|pod| (pod.namespace().unwrap_or_default(), pod.name_any())).collect();
        self.scraper.mark_feeding(|target| {
            let label = |name: &str| target.labels.get(name).cloned().unwrap_or_default();
            fed.contains(&(label("job"), label("instance")))
                || scaled.contains(&(label("namespace"), label("pod")))
        });
    }

    /// Looks for requests that wait at a Service, beside the loop.
    pub(super) fn look_for_waiting(&mut self) {
        let (nodes, now_ms) = (self.node_names(), Timestamp::now().as_millisecond());
        let mut reads = JoinSet::new();
        self.nodes.look_for_waiting(&nodes, now_ms, &mut reads);
        reads.detach_all();
    }

    fn node_names(&self) -> BTreeSet<String> {
        self.cluster.nodes.state().iter().map(|node| node.name_any()).collect()
    }
}
