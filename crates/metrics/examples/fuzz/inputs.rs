//! What is sent where: realistic inputs of each target, and what reads them.

use flyball_metrics::exposition::Format;
use flyball_metrics::promql::{self, EngineOptions, ParseOptions};
use flyball_metrics::push::{otlp, remote_write};
use flyball_metrics::relabel::{self, Rule, RuleText};
use flyball_metrics::target::{Target as ScrapeTarget, TargetOptions};
use flyball_metrics::{
    Labels, MatchOp, Matcher, Sample, Store, StoreOptions, parse_duration_ms, parse_step_ms, parse_time_ms,
    parse_value, response,
};

use crate::mutate::changed;
use crate::queries;
use crate::random::Random;

/// Something that reads what strangers send.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// A valid input.
    make: fn(&mut Random) -> Vec<u8>,
    pub(crate) run: fn(&mut World, &[u8]),
}

pub(crate) const TARGETS: [Target; 12] = [
    Target { name: "query", make: query, run: run_query },
    Target { name: "selector", make: selector, run: run_selector },
    Target { name: "pattern", make: pattern, run: run_pattern },
    Target { name: "parameter", make: parameter, run: run_parameter },
    Target { name: "relabeling", make: relabeling, run: run_relabeling },
    Target { name: "text", make: text_page, run: |world, input| run_page(world, input, Format::Text) },
    Target {
        name: "openmetrics",
        make: openmetrics_page,
        run: |world, input| run_page(world, input, Format::OpenMetrics),
    },
    Target {
        name: "protobuf",
        make: protobuf_page,
        run: |world, input| run_page(world, input, Format::Protobuf),
    },
    Target {
        name: "remote-write-1",
        make: write_v1,
        run: |world, input| run_write(world, input, remote_write::Version::V1),
    },
    Target {
        name: "remote-write-2",
        make: write_v2,
        run: |world, input| run_write(world, input, remote_write::Version::V2),
    },
    Target { name: "otlp", make: otlp_request, run: run_otlp },
    Target { name: "otlp-json", make: otlp_json, run: run_otlp_json },
];

/// The time of everything that is sent.
const NOW_MS: i64 = 700_000;

/// What inputs are read into, and asked about.
pub(crate) struct World {
    /// What queries are about; it does not change.
    asked: Store,
    written: Store,
    target: ScrapeTarget,
    at_ms: i64,
    inputs: u64,
}

impl World {
    pub(crate) fn new() -> World {
        let options = StoreOptions {
            series_max: 5_000,
            samples_max: 500_000,
            bytes_max: 20 << 20,
            ..StoreOptions::default()
        };
        let target = ScrapeTarget::new(
            Labels::new([("job", "model"), ("instance", "127.1.0.1:9100")]),
            TargetOptions { native_histograms: true, ..TargetOptions::default() },
        );
        World { asked: asked(), written: Store::new(options), target, at_ms: NOW_MS, inputs: 0 }
    }

    /// An input for a target: a valid one that was changed, mostly.
    pub(crate) fn input(&mut self, target: &Target, random: &mut Random) -> Vec<u8> {
        let input = (target.make)(random);
        if random.chance(0.05) {
            return input;
        }
        let other = (target.make)(random);
        changed(random, &input, &other)
    }

    /// Begins anew now and then, so that what one input leaves does not stay for ever.
    pub(crate) fn renew(&mut self) {
        self.inputs += 1;
        self.at_ms += 1_000;
        if self.inputs.is_multiple_of(60) {
            self.written.evict(self.at_ms);
        }
        if self.inputs.is_multiple_of(500) {
            *self = World::new();
        }
    }
}

/// Some hundred series of floats, and of histograms, in the names of the random queries.
fn asked() -> Store {
    let mut store = Store::new(StoreOptions::default());
    let names = ["requests_total", "load", "queue", "duration_seconds_bucket", "up", "target_info"];
    for (number, name) in names.iter().enumerate() {
        for pod in 0..12 {
            let (pod_name, le) = (format!("p{pod}"), ["0.1", "0.5", "1", "+Inf"][pod % 4]);
            let labels = Labels::new([
                ("__name__", *name),
                ("pod", &pod_name),
                ("job", "model"),
                ("instance", &pod_name),
                ("le", if number == 3 { le } else { "" }),
                ("code", if number == 0 { "200" } else { "" }),
            ]);
            for step in 0..40 {
                let value = (step * (pod as i64 + 1)) as f64 * if number == 1 { 0.37 } else { 1.0 };
                let _ = store.append_to(&labels, Sample::new(step * 15_000, value));
            }
        }
    }
    let mut target = ScrapeTarget::new(
        Labels::new([("job", "h")]),
        TargetOptions { native_histograms: true, ..TargetOptions::default() },
    );
    let mut random = Random::new(7);
    for step in 0..40 {
        let page = histogram_page(&mut random, step);
        let _ = target.ingest(&mut store, &page, Format::Protobuf, step as i64 * 15_000);
    }
    store
}

fn options() -> EngineOptions {
    EngineOptions { samples_max: 1_000_000, visits_max: 100_000_000, ..EngineOptions::default() }
}

// Queries.

fn query(random: &mut Random) -> Vec<u8> {
    queries::random(random).text.into_bytes()
}

fn run_query(world: &mut World, input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(expr) = promql::parse_with(&text, ParseOptions::all()) else { return };
    let printed = expr.to_string();
    match promql::parse_with(&printed, ParseOptions::all()) {
        Ok(again) => assert!(again.to_string() == printed, "what is printed is another query"),
        // A window of less than half a millisecond is printed as none, here and in Prometheus.
        Err(error) if error.message.contains("duration must be greater than 0") => {}
        Err(_) => assert!(printed.len() > promql::QUERY_BYTES_MAX, "what is printed is no query any more"),
    }
    let _ = (promql::prettify(&expr), promql::tree(&expr).to_string());
    let options = options();
    let results = [
        promql::eval_instant(&world.asked, &text, &expr, 590_000, &options),
        promql::eval_range(&world.asked, &text, &expr, (300_000, 590_000, 29_000), &options),
    ];
    for mut result in results.into_iter().flatten() {
        response::truncate(&mut result, 1_000);
        let _ = response::query(&result);
    }
    let _ = promql::explain(&world.asked, &expr, 590_000, &options);
}

fn selector(random: &mut Random) -> Vec<u8> {
    let all = [
        "up{job=\"model\",pod=~\"p[0-9]+\",le!=\"\"}",
        "{__name__=~\"req.*|load\",code!~\"5..\"}",
        "load",
        "{\"my.metric\",\"a.b\"=\"c\"}",
        "queue{pod=~`p1|p2|p3`}",
    ];
    random.pick(&all).as_bytes().to_vec()
}

fn run_selector(world: &mut World, input: &[u8]) {
    if let Ok(matchers) = promql::parse_metric_selector(&String::from_utf8_lossy(input)) {
        let _ = world.asked.select(&matchers).len();
    }
}

fn pattern(random: &mut Random) -> Vec<u8> {
    let all = [
        "model-[0-9a-f]{8}-.*|other",
        "(?i)a+b*?c{2,5}",
        "[[:alpha:]]\\d\\w\\s\\b",
        "\\Qa.b\\E|\\p{Greek}\\x{1F600}",
        "a|b|c|",
        "(a(b(c)?)+)*",
        "[^\\W\\d]+(?:x|y)$",
        "{[{[[:x",
        "^$",
    ];
    random.pick(&all).as_bytes().to_vec()
}

fn run_pattern(_: &mut World, input: &[u8]) {
    if let Ok(matcher) = Matcher::new("pod", MatchOp::RegexMatch, &String::from_utf8_lossy(input)) {
        for value in ["", "model-0a1b2c3d-x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "é{1F600}"] {
            let _ = matcher.matches(value);
        }
    }
}

fn parameter(random: &mut Random) -> Vec<u8> {
    let all = [
        "1700000000.123",
        "2026-01-01T00:00:00.5+02:00",
        "1h30m",
        "15",
        "1e3",
        "+Inf",
        "0x1f",
        "5m30s200ms",
        "-1w",
        "9999999999999999",
    ];
    random.pick(&all).as_bytes().to_vec()
}

fn run_parameter(_: &mut World, input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = (parse_time_ms(&text).is_ok(), parse_step_ms(&text).is_ok());
    let _ = (parse_duration_ms(&text).is_ok(), parse_value(&text).is_some());
}

/// Lines: separator, target, regex, replacement, action; each line a rule.
fn relabeling(random: &mut Random) -> Vec<u8> {
    let rules = [
        ";\tpod\t(.*)\t$1$1\treplace",
        ";\tx\tp(.)\t${1}-$1\treplace",
        "-\th\t.*\t$1\thashmod",
        ";\t\t(.+)\tcopy_$1\tlabelmap",
        ";\t\tle|code\t$1\tlabeldrop",
        ";\tjob\tmodel\t$0\tkeep",
        ";\tu\t(.*)\t$1\tuppercase",
    ];
    let count = 1 + random.below(20);
    (0..count).map(|_| random.pick(&rules)).collect::<Vec<_>>().join("\n").into_bytes()
}

fn run_relabeling(_: &mut World, input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let rule = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        let written = RuleText {
            source_labels: vec!["pod".into(), "job".into(), "pod".into()],
            separator: fields.next(),
            target_label: fields.next(),
            regex: fields.next(),
            replacement: fields.next(),
            action: fields.next(),
            modulus: Some(7),
        };
        Rule::new(written).ok()
    };
    // A pool has some dozen rules.
    let rules: Vec<Rule> = text.lines().take(100).filter_map(rule).collect();
    let labels = Labels::new([("__name__", "x"), ("pod", "model-1"), ("job", "model"), ("le", "0.5")]);
    let _ = relabel::apply(&rules, &labels);
}

// Pages.

fn text_page(random: &mut Random) -> Vec<u8> {
    let value = random.below(1_000);
    let page = format!(
        "# HELP http_requests_total Requests \\\\ \\n.\n# TYPE http_requests_total counter\n\
         http_requests_total{{code=\"200\",path=\"/a\\\"b\"}} {value} 700000\nhttp_requests_total{{code=\"500\"}} 3\n\
         # TYPE d histogram\nd_bucket{{le=\"0.1\"}} {value}\nd_bucket{{le=\"+Inf\"}} {value}\nd_sum 1.5e-3\nd_count {value}\n\
         {{\"my.metric\",\"a.b\"=\"c\"}} NaN\nup 1\n# a comment\nqueue{{}} -Inf\n"
    );
    page.into_bytes()
}

fn openmetrics_page(random: &mut Random) -> Vec<u8> {
    let value = random.below(1_000);
    let page = format!(
        "# TYPE requests counter\n# UNIT requests seconds\n# HELP requests Re\\nquests.\n\
         requests_total{{code=\"200\"}} {value} 700.5 # {{trace_id=\"abc\"}} 0.5 700.1\nrequests_created{{code=\"200\"}} 690.1\n\
         # TYPE s stateset\ns{{s=\"a\"}} 1\n# TYPE i info\ni_info{{version=\"1\"}} 1\n\
         # TYPE g gaugehistogram\ng_bucket{{le=\"1.0\"}} 2\ng_bucket{{le=\"+Inf\"}} 3\ng_gcount 3\ng_gsum 2.5\n# EOF\n"
    );
    page.into_bytes()
}

fn run_page(world: &mut World, input: &[u8], format: Format) {
    let at_ms = world.at_ms;
    let _ = world.target.ingest(&mut world.written, input, format, at_ms);
}

/// A field of protocol buffers with a length.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = varint(u64::from(number << 3 | 2));
    field.extend(varint(bytes.len() as u64));
    field.extend(bytes);
    field
}

/// A field that is a number.
fn number(number: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(number << 3)), varint(value)].concat()
}

fn double(number: u32, value: f64) -> Vec<u8> {
    [varint(u64::from(number << 3 | 1)), value.to_le_bytes().to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn pair(name: &str, value: &str) -> Vec<u8> {
    [field(1, name.as_bytes()), field(2, value.as_bytes())].concat()
}

/// The body of a family with its length before it.
fn family(name: &str, kind: u64, metric: &[u8]) -> Vec<u8> {
    let message = [field(1, name.as_bytes()), field(2, b"help"), number(3, kind), field(4, metric)].concat();
    [varint(message.len() as u64), message].concat()
}

/// A native histogram with a classic one in it, as client libraries write it.
fn histogram(random: &mut Random, step: u64) -> Vec<u8> {
    let count = 3 * (step + 1) + random.below(3);
    let bucket = [number(1, count / 2), double(2, 0.5)].concat();
    let span = [number(1, 0), number(2, 2)].concat();
    [
        number(1, count),
        double(2, count as f64 * 0.3),
        field(3, &bucket),
        number(5, 6),
        double(6, 0.001),
        number(7, 1),
        field(12, &span),
        number(13, 2 * count),
        number(13, 2),
    ]
    .concat()
}

fn histogram_page(random: &mut Random, step: u64) -> Vec<u8> {
    ["native", "mixed"].iter().flat_map(|name| family(name, 4, &field(7, &histogram(random, step)))).collect()
}

fn protobuf_page(random: &mut Random) -> Vec<u8> {
    let counter = [field(1, &pair("code", "200")), field(3, &double(1, random.below(100) as f64))].concat();
    let step = random.below(50);
    [family("requests_total", 0, &counter), histogram_page(random, step)].concat()
}

// What is pushed.

fn sample_message(value: f64) -> Vec<u8> {
    [double(1, value), number(2, NOW_MS as u64)].concat()
}

fn write_v1(random: &mut Random) -> Vec<u8> {
    let series = |name: &str| {
        let labels = [field(1, &pair("__name__", name)), field(1, &pair("pod", "a"))].concat();
        field(1, &[labels, field(2, &sample_message(random.below(9) as f64))].concat())
    };
    let mut body: Vec<u8> = ["a_total", "b", "c_bucket"].into_iter().flat_map(series).collect();
    body.extend(field(3, &[number(1, 1), field(2, b"a_total"), field(4, b"help")].concat()));
    maybe_compressed(random, body)
}

fn write_v2(random: &mut Random) -> Vec<u8> {
    let symbols = ["", "__name__", "a_total", "pod", "x", "help"];
    let mut body: Vec<u8> = symbols.iter().flat_map(|symbol| field(4, symbol.as_bytes())).collect();
    let metadata = [number(1, 1), number(3, 5)].concat();
    let series =
        [field(1, &[1, 2, 3, 4]), field(2, &sample_message(random.below(9) as f64)), field(5, &metadata)];
    body.extend(field(5, &series.concat()));
    maybe_compressed(random, body)
}

/// The first byte tells whether the rest is compressed.
fn maybe_compressed(random: &mut Random, body: Vec<u8>) -> Vec<u8> {
    match random.chance(0.3) {
        true => [vec![1], snap::raw::Encoder::new().compress_vec(&body).unwrap_or_default()].concat(),
        false => [vec![0], body].concat(),
    }
}

fn run_write(world: &mut World, input: &[u8], version: remote_write::Version) {
    let Some((compressed, body)) = input.split_first() else { return };
    let body = if *compressed == 1 { remote_write::decompress(body) } else { Ok(body.to_vec()) };
    if let Ok(body) = body {
        let _ = remote_write::write(&mut world.written, version, &body, world.at_ms);
    }
}

fn otlp_request(random: &mut Random) -> Vec<u8> {
    let text = |key: &str, value: &str| {
        field(1, &[field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat())
    };
    let resource = [text("service.name", "model"), text("service.instance.id", "m-1")].concat();
    let time =
        |number: u32, ns: u64| [varint(u64::from(number << 3 | 1)), ns.to_le_bytes().to_vec()].concat();
    let point = [time(3, NOW_MS as u64 * 1_000_000), double(4, random.below(9) as f64)].concat();
    let sum = [field(1, &point), number(2, 2), number(3, 1)].concat();
    let metric = [field(1, b"http.requests"), field(3, b"1"), field(7, &sum)].concat();
    field(1, &[field(1, &resource), field(2, &field(2, &metric))].concat())
}

fn run_otlp(world: &mut World, input: &[u8]) {
    let _ = otlp::write(&mut world.written, input, world.at_ms);
}

fn otlp_json(random: &mut Random) -> Vec<u8> {
    let value = random.below(100);
    let body = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"model"}}}},
        {{"key":"list","value":{{"arrayValue":{{"values":[{{"intValue":"3"}},{{"boolValue":true}}]}}}}}}]}},
        "scopeMetrics":[{{"metrics":[{{"name":"http.requests","unit":"1","sum":{{"aggregationTemporality":2,"isMonotonic":true,
        "dataPoints":[{{"timeUnixNano":"700000000000","asInt":"{value}"}}]}}}},{{"name":"d","histogram":{{
        "aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[{{"timeUnixNano":"700000000000","count":"3",
        "sum":1.5,"bucketCounts":["1","2"],"explicitBounds":[0.5]}}]}}}}]}}]}}]}}"#
    );
    body.into_bytes()
}

fn run_otlp_json(world: &mut World, input: &[u8]) {
    if let Ok(body) = otlp::to_protobuf(input) {
        let _ = otlp::write(&mut world.written, &body, world.at_ms);
    }
}
