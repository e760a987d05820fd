//! One page to scrape: what the settings and relabelings of a monitor make of a discovered place. Pure.
//!
//! The steps are Prometheus' (`scrape/target.go`): defaults are added to the discovered labels, the relabelings run, and then address, scheme,
//! path, parameters, interval and time-out are read back from the labels, because a relabeling may have changed them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flyball_api::kinds::monitor::{EndpointSettings, RelabelConfig, ScrapeProtocol, ScrapeSettings};
use flyball_api::kinds::scrape_client::ScrapeClient;
use flyball_metrics::Labels;
use flyball_metrics::exposition::Format;
use flyball_metrics::relabel::{self, Rule, RuleError, RuleField, RuleText};
use flyball_metrics::target::{Limits, TargetOptions};

use crate::gather::url;

/// The largest page that is read. A page of 10 MiB holds about 100,000 series: far more than one model server
/// has, and little enough that every target can send one at the same time.
pub(crate) const PAGE_BYTES_MAX: usize = 10 << 20;
/// prometheus-operator's default; Prometheus itself has one minute.
const INTERVAL_DEFAULT: &str = "30s";
/// Prometheus' `scrape_timeout`.
const TIMEOUT_DEFAULT: &str = "10s";
/// The most samples on a page whose monitor sets no `sampleLimit`: ten times what a talkative model server has, and
/// little enough that one target cannot fill the store.
const SAMPLES_PER_PAGE_MAX: usize = 10_000;

/// Every label of a target, those for relabelings included.
pub(crate) type LabelMap = BTreeMap<String, String>;

/// One page to scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ScrapeTarget {
    /// What wants it, as Prometheus names its jobs: `serviceMonitor/default/model/0`.
    pub(crate) pool: String,
    /// Where the monitor is, and with it the Secrets that it names.
    pub(crate) namespace: String,
    pub(crate) url: String,
    /// The labels that every series of the page gets.
    pub(crate) labels: LabelMap,
    /// The labels before relabeling.
    pub(crate) discovered: LabelMap,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) options: TargetOptions,
    /// The `Accept` header.
    pub(crate) accept: String,
    pub(crate) fallback: Option<Format>,
    pub(crate) page_bytes_max: usize,
    /// Whether the request accepts compressed pages.
    pub(crate) compressed: bool,
    pub(crate) client: ScrapeClient,
    /// Why it is not scraped at all.
    pub(crate) refused: Option<String>,
}

impl ScrapeTarget {
    /// What makes a target the same one from one discovery to the next.
    pub(crate) fn key(&self) -> (String, String) {
        (self.pool.clone(), self.url.clone())
    }

    /// Whether the pages of the other are stored as those of this one: then the scrapes go on.
    pub(crate) fn scraped_like(&self, other: &ScrapeTarget) -> bool {
        self.labels == other.labels && self.options == other.options
    }
}

/// One endpoint of a monitor, with its rules compiled.
pub(crate) struct Job<'a> {
    pool: String,
    namespace: String,
    settings: &'a EndpointSettings,
    scrape: &'a ScrapeSettings,
    relabelings: Arc<[Rule]>,
    options: TargetOptions,
    compressed: bool,
}

impl<'a> Job<'a> {
    /// Compiles the rules.
    ///
    /// # Errors
    /// A rule is wrong; then prometheus-operator leaves out the whole monitor.
    pub(crate) fn new(
        pool: String,
        namespace: String,
        settings: &'a EndpointSettings,
        scrape: &'a ScrapeSettings,
    ) -> Result<Job<'a>, String> {
        let relabelings = rules("relabelings", &settings.page.relabelings)?.into();
        let metric_relabelings = rules("metricRelabelings", &settings.page.metric_relabelings)?;
        let options = TargetOptions {
            honor_labels: settings.page.honor_labels.unwrap_or(false),
            honor_timestamps: settings.page.honor_timestamps.unwrap_or(true),
            track_timestamps_staleness: settings.page.track_timestamps_staleness.unwrap_or(false),
            metric_relabelings: metric_relabelings.into(),
            native_histograms: scrape.scrape_native_histograms.unwrap_or(false),
            classic_histograms_too: scrape.scrape_classic_histograms.unwrap_or(false),
            native_histogram_min_bucket_factor: min_bucket_factor(scrape),
            limits: limits(scrape),
            ..TargetOptions::default()
        };
        Ok(Job { pool, namespace, settings, scrape, relabelings, options, compressed: true })
    }

    /// The same job, asking for compressed pages or not.
    pub(crate) fn compressed(self, compressed: bool) -> Job<'a> {
        Job { compressed, ..self }
    }

    /// The rules that make targets of discovered labels.
    pub(crate) fn relabelings(&self) -> Arc<[Rule]> {
        Arc::clone(&self.relabelings)
    }

    /// How many targets there may be, if there is a limit.
    pub(crate) fn targets_max(&self) -> Option<usize> {
        positive(self.scrape.target_limit)
    }

    /// How many dropped targets are remembered, if there is a limit.
    pub(crate) fn keep_dropped_max(&self) -> Option<usize> {
        positive(self.scrape.keep_dropped_targets)
    }

    /// The target at a discovered place; `None`: the relabelings drop it.
    pub(crate) fn target(&self, mut discovered: LabelMap) -> Result<Option<ScrapeTarget>, String> {
        self.add_defaults(&mut discovered);
        let pairs = discovered.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let Some(labels) = relabel::apply(&self.relabelings, &Labels::new(pairs)) else { return Ok(None) };
        let address = labels.get("__address__").to_owned();
        if address.is_empty() {
            return Err("no address".into());
        }
        let interval = duration("scrape interval", labels.get("__scrape_interval__"))?;
        let timeout = duration("scrape timeout", labels.get("__scrape_timeout__"))?;
        let shown = labels.iter().filter(|(name, _)| !name.starts_with("__"));
        let mut shown: LabelMap = shown.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        shown.entry("instance".into()).or_insert_with(|| address.clone());
        Ok(Some(ScrapeTarget {
            pool: self.pool.clone(),
            namespace: self.namespace.clone(),
            url: self.url(&labels, &address),
            labels: shown,
            discovered,
            interval,
            timeout: timeout.min(interval),
            options: self.options.clone(),
            accept: accept(&self.scrape.scrape_protocols, self.options.native_histograms),
            fallback: self.scrape.fallback_scrape_protocol.map(format),
            page_bytes_max: page_bytes_max(self.scrape.body_size_limit.as_deref()),
            client: self.settings.client.clone(),
            refused: self.settings.client.unsupported().map(|(field, why)| format!("{field}: {why}")),
            compressed: self.compressed,
        }))
    }

    fn add_defaults(&self, labels: &mut LabelMap) {
        let settings = self.settings;
        let path = settings.path.as_deref().unwrap_or("/metrics");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let defaults = [
            ("job", self.pool.clone()),
            ("__tmp_prometheus_job_name", self.pool.clone()),
            ("__scrape_interval__", settings.interval.clone().unwrap_or_else(|| INTERVAL_DEFAULT.into())),
            (
                "__scrape_timeout__",
                settings.page.scrape_timeout.clone().unwrap_or_else(|| TIMEOUT_DEFAULT.into()),
            ),
            ("__metrics_path__", format!("{slash}{path}")),
            ("__scheme__", settings.page.scheme.as_deref().unwrap_or("http").to_ascii_lowercase()),
        ];
        for (name, value) in defaults {
            labels.entry(name.to_owned()).or_insert(value);
        }
        for (name, values) in &settings.page.params {
            if let Some(value) = values.first() {
                labels.entry(format!("__param_{name}")).or_insert_with(|| value.clone());
            }
        }
    }

    fn url(&self, labels: &Labels, address: &str) -> String {
        let mut params = self.settings.page.params.clone();
        for (name, value) in labels.iter() {
            if let Some(name) = name.strip_prefix("__param_") {
                let values = params.entry(name.to_owned()).or_default();
                match values.first_mut() {
                    Some(first) => *first = value.to_owned(),
                    None => values.push(value.to_owned()),
                }
            }
        }
        let pairs: Vec<(&str, &str)> = params
            .iter()
            .flat_map(|(name, values)| values.iter().map(|value| (name.as_str(), value.as_str())))
            .collect();
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", url::query(&pairs)) };
        let (scheme, path) = (labels.get("__scheme__"), labels.get("__metrics_path__"));
        format!("{scheme}://{address}{path}{query}")
    }
}

fn rules(field: &str, written: &[RelabelConfig]) -> Result<Vec<Rule>, String> {
    let rule = |(at, config): (usize, &RelabelConfig)| {
        Rule::new(rule_text(config)).map_err(|error| format!("{field}[{at}]: {error}"))
    };
    written.iter().enumerate().map(rule).collect()
}

/// What is wrong with a rule: each field, and why.
pub fn check_relabeling(config: &RelabelConfig) -> Vec<(&'static str, String)> {
    let RuleError(problems) = match Rule::new(rule_text(config)) {
        Ok(_) => return Vec::new(),
        Err(error) => error,
    };
    let field = |field| match field {
        RuleField::SourceLabels => "sourceLabels",
        RuleField::Separator => "separator",
        RuleField::TargetLabel => "targetLabel",
        RuleField::Regex => "regex",
        RuleField::Modulus => "modulus",
        RuleField::Replacement => "replacement",
        RuleField::Action => "action",
    };
    problems.into_iter().map(|problem| (field(problem.field), problem.message)).collect()
}

fn rule_text(config: &RelabelConfig) -> RuleText {
    RuleText {
        source_labels: config.source_labels.clone(),
        separator: config.separator.clone(),
        target_label: config.target_label.clone(),
        regex: config.regex.clone(),
        modulus: config.modulus.and_then(|modulus| u64::try_from(modulus).ok()),
        replacement: config.replacement.clone(),
        action: config.action.clone(),
    }
}

/// A limit, where 0 means none.
fn positive(limit: Option<i64>) -> Option<usize> {
    limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0)
}

fn limits(scrape: &ScrapeSettings) -> Limits {
    let limit = |limit: Option<i64>| positive(limit).unwrap_or(0);
    Limits {
        sample_limit: positive(scrape.sample_limit).unwrap_or(SAMPLES_PER_PAGE_MAX),
        label_limit: limit(scrape.label_limit),
        label_name_length_limit: limit(scrape.label_name_length_limit),
        label_value_length_limit: limit(scrape.label_value_length_limit),
        native_histogram_bucket_limit: limit(scrape.native_histogram_bucket_limit),
    }
}

fn min_bucket_factor(scrape: &ScrapeSettings) -> f64 {
    let factor = scrape.native_histogram_min_bucket_factor.as_ref();
    factor.and_then(|factor| factor.0.parse().ok()).unwrap_or(0.0)
}

fn duration(what: &str, text: &str) -> Result<Duration, String> {
    let millis =
        flyball_metrics::parse_duration_ms(text).map_err(|e| format!("error parsing {what}: {e}"))?;
    match u64::try_from(millis) {
        Ok(0) | Err(_) => Err(format!("{what} cannot be 0")),
        Ok(millis) => Ok(Duration::from_millis(millis)),
    }
}

/// Bytes of a size such as `10MB`; units are powers of 1024, as in Prometheus.
fn page_bytes_max(limit: Option<&str>) -> usize {
    let Some(limit) = limit else { return PAGE_BYTES_MAX };
    let unit_at = limit.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(limit.len());
    let (number, unit) = limit.split_at(unit_at);
    let power = "BKMGTPE".find(unit.chars().next().unwrap_or('B')).unwrap_or(0);
    let bytes = number.parse::<f64>().unwrap_or(0.0) * 1024f64.powi(power as i32);
    if bytes > 0.0 { (bytes as usize).min(PAGE_BYTES_MAX) } else { PAGE_BYTES_MAX }
}

/// Prometheus' names of formats, with what it allows them to contain.
const PROTOCOLS: [(ScrapeProtocol, &str); 5] = [
    (
        ScrapeProtocol::PrometheusProto,
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;escaping=allow-utf-8",
    ),
    (ScrapeProtocol::OpenMetricsText1_0_0, "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"),
    (ScrapeProtocol::OpenMetricsText0_0_1, "application/openmetrics-text;version=0.0.1"),
    (ScrapeProtocol::PrometheusText1_0_0, "text/plain;version=1.0.0;escaping=allow-utf-8"),
    (ScrapeProtocol::PrometheusText0_0_4, "text/plain;version=0.0.4"),
];

/// The `Accept` header: the wanted formats, best first, each a tenth less wanted than the one before.
fn accept(wanted: &[ScrapeProtocol], native_histograms: bool) -> String {
    let all = PROTOCOLS.iter().map(|(protocol, _)| *protocol);
    let defaults: Vec<ScrapeProtocol> =
        all.filter(|protocol| native_histograms || *protocol != ScrapeProtocol::PrometheusProto).collect();
    let wanted = if wanted.is_empty() { &defaults } else { wanted };
    let mut weight = PROTOCOLS.len() + 1;
    let mut header = String::new();
    for protocol in wanted.iter().take(PROTOCOLS.len()) {
        let name = PROTOCOLS.iter().find(|(known, _)| known == protocol).map_or("", |(_, name)| name);
        header.push_str(&format!("{name};q=0.{weight},"));
        weight -= 1;
    }
    header + &format!("*/*;q=0.{weight}")
}

fn format(protocol: ScrapeProtocol) -> Format {
    match protocol {
        ScrapeProtocol::PrometheusProto => Format::Protobuf,
        ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0 => Format::OpenMetrics,
        ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0 => Format::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_asked_for_as_prometheus_asks() {
        let text = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                    application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(accept(&[], false), text);
        assert!(accept(&[], true).starts_with("application/vnd.google.protobuf;"));
        assert_eq!(
            accept(&[ScrapeProtocol::PrometheusText0_0_4], true),
            "text/plain;version=0.0.4;q=0.6,*/*;q=0.5"
        );
    }

    #[test]
    fn sizes_are_read() {
        let table =
            [(None, PAGE_BYTES_MAX), (Some("1KB"), 1024), (Some("1.5KiB"), 1536), (Some("2MB"), 2 << 20)];
        for (text, bytes) in
            table.into_iter().chain([(Some("0"), PAGE_BYTES_MAX), (Some("9EB"), PAGE_BYTES_MAX)])
        {
            assert_eq!(page_bytes_max(text), bytes, "{text:?}");
        }
    }
}
