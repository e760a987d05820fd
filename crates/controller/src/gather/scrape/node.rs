//! What nodes say of themselves: CPU and memory of their containers, and requests that wait at their Services.
//!
//! Both pages are read through the API server (`nodes/{name}/proxy`), as metrics-server could, and go into the store
//! under `job="kubelet"`, so that queries may use them.
//!
//! Every page is read by a task of its own, some at once; a node that does not answer delays no other, and is not asked
//! again before its time-out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flyball_metrics::exposition::Format;
use flyball_metrics::target::{Target as Pages, TargetOptions};
use flyball_metrics::{Labels, METRIC_NAME, Matcher, Sample, Store};
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::api_error;
use crate::gather::usage::{Point, UsageLog};

/// A node that does not answer within this is read again in the next round.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pages that are read at once: those of some dozens of nodes within a second, and of a few that hang.
const AT_ONCE: usize = 64;
/// CPU and memory, as the kubelet names the page.
const RESOURCE_PAGE: &str = "/metrics/resource";
/// Everything else.
const SERVICE_PAGE: &str = "/metrics";

/// Reads nodes.
pub(crate) struct NodeReader {
    client: Client,
    store: Arc<Mutex<Store>>,
    usage: Arc<Mutex<UsageLog>>,
    /// Woken when requests wait at a Service.
    waiting: Arc<Notify>,
    pages: BTreeMap<(String, &'static str), Arc<Page>>,
    permits: Arc<Semaphore>,
}

/// One page of one node.
struct Page {
    node: String,
    path: &'static str,
    pages: Mutex<Pages>,
    is_read: AtomicBool,
}

impl NodeReader {
    pub(crate) fn new(
        client: Client,
        store: Arc<Mutex<Store>>,
        usage: Arc<Mutex<UsageLog>>,
        waiting: Arc<Notify>,
    ) -> NodeReader {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        NodeReader { client, store, usage, waiting, pages: BTreeMap::new(), permits }
    }

    /// Starts to read both pages of each node, on `reads`.
    pub(crate) fn start(&mut self, nodes: &BTreeSet<String>, now_ms: i64, reads: &mut JoinSet<()>) {
        self.pages.retain(|(node, _), _| nodes.contains(node));
        self.usage.lock().forget_old(now_ms);
        for node in nodes {
            for path in [RESOURCE_PAGE, SERVICE_PAGE] {
                self.start_page(node, path, now_ms, reads);
            }
        }
    }

    /// Starts to look for what waits at Services.
    pub(crate) fn look_for_waiting(
        &mut self,
        nodes: &BTreeSet<String>,
        now_ms: i64,
        reads: &mut JoinSet<()>,
    ) {
        nodes.iter().for_each(|node| self.start_page(node, SERVICE_PAGE, now_ms, reads));
    }

    fn start_page(&mut self, node: &str, path: &'static str, now_ms: i64, reads: &mut JoinSet<()>) {
        let page = self.pages.entry((node.to_owned(), path)).or_insert_with(|| Page::new(node, path));
        if page.is_read.swap(true, Ordering::AcqRel) {
            return;
        }
        let reading = Reading {
            client: self.client.clone(),
            store: Arc::clone(&self.store),
            usage: Arc::clone(&self.usage),
            waiting: Arc::clone(&self.waiting),
            permits: Arc::clone(&self.permits),
            page: Arc::clone(page),
        };
        reads.spawn(reading.run(now_ms));
    }
}

impl Page {
    fn new(node: &str, path: &'static str) -> Arc<Page> {
        let labels = [("job", "kubelet"), ("instance", node), ("metrics_path", path)];
        let options = TargetOptions {
            honor_labels: true,
            track_timestamps_staleness: true,
            ..TargetOptions::default()
        };
        let pages = Mutex::new(Pages::new(Labels::new(labels), options));
        Arc::new(Page { node: node.to_owned(), path, pages, is_read: AtomicBool::new(false) })
    }
}

/// One reading of one page, from the request to what is known of use.
struct Reading {
    client: Client,
    store: Arc<Mutex<Store>>,
    usage: Arc<Mutex<UsageLog>>,
    waiting: Arc<Notify>,
    permits: Arc<Semaphore>,
    page: Arc<Page>,
}

impl Reading {
    async fn run(self, now_ms: i64) {
        let permit = self.permits.acquire().await;
        if let Some(text) = self.fetch().await {
            self.take_in(&text, now_ms);
        }
        drop(permit);
        self.page.is_read.store(false, Ordering::Release);
    }

    async fn fetch(&self) -> Option<String> {
        let Page { node, path, .. } = &*self.page;
        let request =
            http::Request::get(format!("/api/v1/nodes/{node}/proxy{path}")).body(Vec::new()).ok()?;
        match tokio::time::timeout(TIMEOUT, self.client.request_text(request)).await {
            Ok(Ok(text)) => return Some(text),
            Ok(Err(error)) => {
                tracing::debug!(node, path, error = api_error::message(&error), "cannot read a node")
            }
            Err(_) => tracing::debug!(node, path, "a node does not answer"),
        }
        None
    }

    fn take_in(&self, text: &str, now_ms: i64) {
        let Page { node, path, pages, .. } = &*self.page;
        let mut store = self.store.lock();
        let taken = pages.lock().ingest(&mut store, text.as_bytes(), Format::Text, now_ms);
        if let Err(error) = taken {
            return tracing::warn!(node, path, %error, "cannot read what a node says");
        }
        match *path {
            RESOURCE_PAGE => record_usage(node, &store, &mut self.usage.lock()),
            _ if waiting(&store).is_empty() => {}
            _ => self.waiting.notify_one(),
        }
    }
}

/// Requests that wait for a first pod, by namespace and Service. Services where none waits are left out.
pub(crate) fn waiting(store: &Store) -> BTreeMap<(String, String), u32> {
    let mut waiting = BTreeMap::new();
    let at_services = newest(store, "flyball_service_requests_waiting", None);
    for (labels, sample) in at_services.filter(|(_, sample)| sample.value >= 1.0) {
        let service = (labels.get("namespace").to_owned(), labels.get("service").to_owned());
        *waiting.entry(service).or_insert(0) += sample.value as u32;
    }
    waiting
}

fn record_usage(node: &str, store: &Store, usage: &mut UsageLog) {
    let key = |labels: &Labels| ["namespace", "pod", "container"].map(|name| labels.get(name).to_owned());
    let by_container = |metric: &str| -> BTreeMap<[String; 3], Sample> {
        newest(store, metric, Some(node)).map(|(labels, sample)| (key(labels), sample)).collect()
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
    let cpu = newest(store, "node_cpu_usage_seconds_total", Some(node)).next();
    let memory = newest(store, "node_memory_working_set_bytes", Some(node)).next();
    if let (Some((_, cpu)), Some((_, memory))) = (cpu, memory) {
        let (at_ms, cpu_seconds, memory_bytes) = (cpu.timestamp_ms, cpu.value, memory.value);
        usage.record_node(node, Point { at_ms, start_ms: 0, cpu_seconds, memory_bytes });
    }
}

/// The living series of a metric that nodes report, or one of them does, with their newest samples.
pub(crate) fn newest<'a>(
    store: &'a Store,
    metric: &str,
    node: Option<&str>,
) -> impl Iterator<Item = (&'a Labels, Sample)> {
    let mut matchers = vec![Matcher::equal(METRIC_NAME, metric), Matcher::equal("job", "kubelet")];
    matchers.extend(node.map(|node| Matcher::equal("instance", node)));
    let living = |series: flyball_metrics::SeriesRef<'a>| {
        let sample = series.newest().filter(|sample| !sample.is_stale_marker())?;
        Some((series, sample))
    };
    store.select(&matchers).into_iter().filter_map(living).map(|(series, sample)| (series.labels(), sample))
}
