//! What nodes say of themselves: CPU and memory of their containers, and requests that wait at their Services.
//!
//! Both pages are read through the API server (`nodes/{name}/proxy`), as metrics-server could, and go into the store
//! under `job="kubelet"`, so that queries may use them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_metrics::exposition::Format;
use flyball_metrics::target::{Target as Pages, TargetOptions};
use flyball_metrics::{Labels, METRIC_NAME, Matcher, Sample, Store};
use kube::Client;

use crate::lock;
use crate::usage::{Point, UsageLog};

/// A node that does not answer within this is read again in the next round.
const TIMEOUT: Duration = Duration::from_secs(5);
/// CPU and memory, as the kubelet names the page.
const RESOURCE_PAGE: &str = "/metrics/resource";
/// Everything else.
const SERVICE_PAGE: &str = "/metrics";

/// Reads nodes.
pub(crate) struct NodeReader {
    client: Client,
    store: Arc<Mutex<Store>>,
    usage: Arc<Mutex<UsageLog>>,
    pages: BTreeMap<(String, &'static str), Pages>,
}

impl NodeReader {
    pub(crate) fn new(client: Client, store: Arc<Mutex<Store>>, usage: Arc<Mutex<UsageLog>>) -> NodeReader {
        NodeReader { client, store, usage, pages: BTreeMap::new() }
    }

    /// Reads both pages of each node, and takes down the use of its containers.
    pub(crate) async fn read(&mut self, nodes: &[String], now_ms: i64) {
        for node in nodes {
            self.read_page(node, RESOURCE_PAGE, now_ms).await;
            self.read_page(node, SERVICE_PAGE, now_ms).await;
            record_usage(node, &lock(&self.store), &mut lock(&self.usage));
        }
        self.pages.retain(|(node, _), _| nodes.contains(node));
        lock(&self.usage).forget_old(now_ms);
    }

    /// Reads only what waits at Services.
    pub(crate) async fn read_waiting(&mut self, nodes: &[String], now_ms: i64) {
        for node in nodes {
            self.read_page(node, SERVICE_PAGE, now_ms).await;
        }
    }

    async fn read_page(&mut self, node: &str, page: &'static str, now_ms: i64) {
        let path = format!("/api/v1/nodes/{node}/proxy{page}");
        let Ok(request) = http::Request::get(path).body(Vec::new()) else { return };
        let answer = tokio::time::timeout(TIMEOUT, self.client.request_text(request)).await;
        let text = match answer {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return tracing::debug!(node, page, %error, "cannot read a node"),
            Err(_) => return tracing::debug!(node, page, "a node does not answer"),
        };
        let pages = self.pages.entry((node.to_owned(), page)).or_insert_with(|| {
            let labels = [("job", "kubelet"), ("instance", node), ("metrics_path", page)];
            let options = TargetOptions {
                honor_labels: true,
                track_timestamps_staleness: true,
                ..TargetOptions::default()
            };
            Pages::new(Labels::new(labels), options)
        });
        if let Err(error) = pages.ingest(&mut lock(&self.store), text.as_bytes(), Format::Text, now_ms) {
            tracing::warn!(node, page, %error, "cannot read what a node says");
        }
    }
}

/// Requests that wait for a first pod, by namespace and Service.
pub(crate) fn waiting(store: &Store) -> BTreeMap<(String, String), u32> {
    let mut waiting = BTreeMap::new();
    for (labels, sample) in newest(store, "flyball_service_requests_waiting") {
        let service = (labels.get("namespace").to_owned(), labels.get("service").to_owned());
        *waiting.entry(service).or_insert(0) += sample.value as u32;
    }
    waiting
}

fn record_usage(node: &str, store: &Store, usage: &mut UsageLog) {
    let key = |labels: &Labels| ["namespace", "pod", "container"].map(|name| labels.get(name).to_owned());
    let by_container = |metric: &str| -> BTreeMap<[String; 3], Sample> {
        newest(store, metric).map(|(labels, sample)| (key(labels), sample)).collect()
    };
    let memory = by_container("container_memory_working_set_bytes");
    let start = by_container("container_start_time_seconds");
    for (key, cpu) in by_container("container_cpu_usage_seconds_total") {
        let (Some(memory), Some(start)) = (memory.get(&key), start.get(&key)) else { continue };
        let start_ms = (start.value * 1000.0) as i64;
        let point =
            Point { at_ms: cpu.timestamp_ms, start_ms, cpu_seconds: cpu.value, memory_bytes: memory.value };
        let [namespace, pod, container] = key;
        usage.record_container((namespace, pod), &container, point);
    }
    let cpu =
        newest(store, "node_cpu_usage_seconds_total").find(|(labels, _)| labels.get("instance") == node);
    let memory =
        newest(store, "node_memory_working_set_bytes").find(|(labels, _)| labels.get("instance") == node);
    if let (Some((_, cpu)), Some((_, memory))) = (cpu, memory) {
        let (at_ms, cpu_seconds, memory_bytes) = (cpu.timestamp_ms, cpu.value, memory.value);
        usage.record_node(node, Point { at_ms, start_ms: 0, cpu_seconds, memory_bytes });
    }
}

/// The living series of a metric that nodes report, with their newest samples.
fn newest<'a>(store: &'a Store, metric: &str) -> impl Iterator<Item = (&'a Labels, Sample)> {
    let matchers = [Matcher::equal(METRIC_NAME, metric), Matcher::equal("job", "kubelet")];
    let living = |series: flyball_metrics::SeriesRef<'a>| {
        let sample = series.newest().filter(|sample| !sample.is_stale_marker())?;
        Some((series, sample))
    };
    store.select(&matchers).into_iter().filter_map(living).map(|(series, sample)| (series.labels(), sample))
}
