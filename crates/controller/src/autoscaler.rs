//! The running autoscaler as others see it: what it is started with, what it shares with the APIs that it offers, how it ends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use flyball_metrics::{Store, StoreOptions};
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Changed, Cluster};
use crate::features::Features;
use crate::files::Files;
use crate::history::History;
use crate::run::Rounds;
use crate::scrape::pool::{SharedPools, Shown};
use crate::serve::external_metrics::Values;
use crate::serve::questions::Questions;
use crate::serve::{decisions, external_metrics, live_facts, prometheus, resource_metrics};
use crate::source::servers::{Answers, Servers};
use crate::telemetry::{self, Telemetry, VpaMetrics};
use crate::usage::UsageLog;
use crate::vertical::Vertical;
use crate::vertical::joint::Joint;
use crate::workload::Workloads;

/// Bytes of memory for what was scraped. A day of a small service takes a quarter of it at most; nine minutes
/// of a thousand pods with two hundred series each, all of it.
const STORE_BYTES_MAX: usize = 250_000_000;
/// How long samples are kept, if there is room for them.
const RETENTION: Duration = Duration::from_secs(24 * 3_600);
/// Series that are kept: what a thousand pods with two hundred series each have, with room for a rolling update.
const SERIES_MAX: usize = 250_000;

/// How the autoscaler runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Scrape targets that feed a trigger at their monitor's interval, not every second.
    pub keep_scrape_intervals: bool,
    /// The file in which decisions are kept over restarts; in memory only if there is none.
    pub history: Option<PathBuf>,
    /// The file in which the engine's memory of each target is kept over restarts: what was recommended and changed
    /// lately. It is forgotten at a restart if there is none.
    pub memories: Option<PathBuf>,
    /// How often VerticalPodAutoscalers are looked at; every minute, as VPA does, if unset.
    pub vertical_interval: Option<Duration>,
    /// The file in which samples are kept over restarts; in memory only if there is none.
    pub samples: Option<PathBuf>,
    /// What Prometheus has behind `--enable-feature`.
    pub features: Features,
    /// For which servers that triggers name this program answers itself; for none, if unset.
    pub answers: Answers,
    /// The file in which it is kept over restarts which Services triggers ask; in memory only if there is none.
    pub asked_services: Option<PathBuf>,
    /// Where VPA's metrics are counted: shared with who admits pods, since that is done elsewhere.
    pub vpa_metrics: VpaMetrics,
}

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

/// What the loop writes and the APIs read.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) features: Features,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) questions: Questions,
    pub(crate) usage: Arc<Mutex<UsageLog>>,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) values: Values,
    pub(crate) targets: Arc<Mutex<Vec<Shown>>>,
    pub(crate) telemetry: Telemetry,
    pub(crate) joint: Joint,
    pub(crate) pools: SharedPools,
    pub(crate) servers: Servers,
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
