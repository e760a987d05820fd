//! The running autoscaler as others see it: what it is started with, what it shares with the APIs that it offers, how it ends.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use flyball_metrics::{Store, StoreOptions};
use kube::Client;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::decide::vertical::Vertical;
use crate::decide::vertical::joint::Joint;
use crate::gather::cluster::{Changed, Cluster};
use crate::gather::scrape::pools::SharedPools;
use crate::gather::source::servers::Servers;
use crate::gather::workload::Workloads;
use crate::keep::files::Files;
use crate::options::Options;
use crate::run::Rounds;
use crate::shared::Shared;
use crate::tell::serve::external_metrics::Values;
use crate::tell::serve::questions::Questions;
use crate::tell::serve::{decisions, external_metrics, live_facts, prometheus, resource_metrics};
use crate::tell::telemetry::{self, Telemetry};

/// Bytes of memory for what was scraped. A day of a small service takes a quarter of it at most; nine minutes
/// of a thousand pods with two hundred series each, all of it.
const STORE_BYTES_MAX: usize = 250_000_000;
/// How long samples are kept, if there is room for them.
const RETENTION: Duration = Duration::from_secs(24 * 3_600);
/// Series that are kept: what a thousand pods with two hundred series each have, with room for a rolling update.
const SERIES_MAX: usize = 250_000;

/// An API for the API server to aggregate.
pub struct AggregatedApi {
    /// Its group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its resources: plural, kind, whether they are namespaced, and verbs.
    pub resources: Vec<(&'static str, &'static str, bool, &'static [&'static str])>,
    /// What answers requests to it, by their full paths.
    pub router: Router,
}

/// The running autoscaler.
pub struct Autoscaler {
    shared: Shared,
    cluster: Cluster,
    workloads: Workloads,
    stop: CancellationToken,
    watches: JoinSet<()>,
    loops: JoinSet<()>,
}

impl Autoscaler {
    /// Watches, and starts to decide.
    ///
    /// # Errors
    /// The file of decisions cannot be read or written.
    pub async fn start(client: Client, options: Options) -> std::io::Result<Autoscaler> {
        let store = Arc::new(Mutex::new(Store::new(StoreOptions {
            series_max: SERIES_MAX,
            bytes_max: STORE_BYTES_MAX,
            retention: RETENTION,
            ..StoreOptions::default()
        })));
        let history = Arc::default();
        let files = Files::open(&options, &history, &store)?;
        let (mut watches, mut loops) = (JoinSet::new(), JoinSet::new());
        let changed = Changed::default();
        let cluster = Cluster::watch(&client, &changed, &mut watches).await;
        let shared = Shared {
            features: options.features,
            questions: Questions::new(Arc::clone(&store)),
            store,
            usage: Arc::default(),
            history,
            values: Values::default(),
            targets: Arc::default(),
            telemetry: Telemetry { vertical: options.vpa_metrics.clone(), ..Telemetry::default() },
            joint: Joint::default(),
            pools: SharedPools::default(),
            servers: Servers::new(cluster.clone(), options.answers.clone(), options.asked_services.clone()),
        };
        let stop = CancellationToken::new();
        let woken = Arc::clone(&changed.horizontal);
        let workloads = Workloads::new(client.clone(), cluster.clone(), woken);
        let told = (shared.joint.clone(), shared.telemetry.vertical.clone());
        let interval = options.vertical_interval;
        let vertical = Vertical::new(client.clone(), cluster.clone(), workloads.clone(), told, interval);
        loops.spawn(vertical.run(changed.vertical, stop.clone()));
        let world = (cluster.clone(), workloads.clone());
        let rounds = Rounds::new(client, world, shared.clone(), files, &options);
        loops.spawn(rounds.run(changed.horizontal, stop.clone()));
        Ok(Autoscaler { shared, cluster, workloads, stop, watches, loops })
    }

    /// The Prometheus HTTP API over everything that was scraped.
    pub fn prometheus(&self) -> Router {
        let (store, targets) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.targets));
        let pools = Arc::clone(&self.shared.pools);
        let own = telemetry::router(self.shared.telemetry.clone());
        let source =
            prometheus::Source::new(store, targets).with_pools(pools).with_features(self.shared.features);
        let source = source.with_questions(self.shared.questions.clone());
        prometheus::router(source).merge(own)
    }

    /// The APIs to aggregate: resource metrics, external metrics, decisions and live facts.
    pub fn apis(&self) -> Vec<AggregatedApi> {
        let usage = resource_metrics::Source {
            usage: Arc::clone(&self.shared.usage),
            pods: self.cluster.pods.clone(),
            nodes: self.cluster.nodes.clone(),
        };
        let live = live_facts::Source {
            servers: self.shared.servers.clone(),
            features: self.shared.features,
            questions: self.shared.questions.clone(),
            targets: Arc::clone(&self.shared.targets),
            history: Arc::clone(&self.shared.history),
            cluster: self.cluster.clone(),
            workloads: self.workloads.clone(),
        };
        vec![
            AggregatedApi {
                group: "metrics.k8s.io",
                version: "v1beta1",
                resources: vec![
                    ("nodes", "NodeMetrics", false, &["get", "list"]),
                    ("pods", "PodMetrics", true, &["get", "list"]),
                ],
                router: resource_metrics::router(usage),
            },
            AggregatedApi {
                group: "external.metrics.k8s.io",
                version: "v1beta1",
                resources: vec![("externalmetrics", "ExternalMetricValueList", true, &["get"])],
                router: external_metrics::router(Arc::clone(&self.shared.values)),
            },
            AggregatedApi {
                group: decisions::GROUP,
                version: decisions::VERSION,
                resources: vec![
                    ("decisions", "Decision", true, &["list"]),
                    ("livefacts", "LiveFacts", true, &["get"]),
                ],
                // The Prometheus API is there as well, for clients that know the kubeconfig and nothing else.
                router: decisions::router(Arc::clone(&self.shared.history))
                    .merge(live_facts::router(live))
                    .nest(
                        &format!("/apis/{}/{}/prometheus", decisions::GROUP, decisions::VERSION),
                        self.prometheus(),
                    ),
            },
        ]
    }

    /// Ends the loops and the watches. The replicas stay as they are, and what was learned is written down.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.loops.join_next().await.is_some() {}
        self.watches.shutdown().await;
    }
}
