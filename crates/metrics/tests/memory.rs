//! What multiplies its input ends with an error or a small result before it takes memory: queries by the budget of samples,
//! relabelings by the length of a value. A counting allocator watches.

use flyball_metrics::promql::{EngineOptions, eval_range, parse_with};
use flyball_metrics::promql::{ParseOptions, QUERY_BYTES_MAX};
use flyball_metrics::relabel::{self, Rule, RuleText};
use flyball_metrics::{Labels, Sample, Store, StoreOptions};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Samples that a query may hold here: 8 MB of numbers.
const SAMPLES_MAX: usize = 1_000_000;
/// What anything here may take at its peak: the budget, and copies of it on the way.
const BYTES_MAX: usize = 64 << 20;

/// The memory that something takes at its peak, beside what was there.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    (result, MEMORY.peak_usage().saturating_sub(before))
}

/// Two thousand series of one metric, and one of another that has eight large labels.
fn store() -> Store {
    let mut store = Store::new(StoreOptions::default());
    for pod in 0..2_000 {
        let pod_name = format!("p{pod}");
        let labels = Labels::new([("__name__", "many"), ("pod", &pod_name), ("job", "j"), ("instance", "i")]);
        for second in 0..30 {
            store.append_to(&labels, Sample::new(second * 1_000, (pod * second) as f64)).expect("stored");
        }
    }
    let large = "x".repeat(16_000);
    let names: Vec<String> = (0..8).map(|number| format!("large_{number}")).collect();
    let own = [("__name__", "target_info"), ("job", "j"), ("instance", "i")];
    let pairs = own.into_iter().chain(names.iter().map(|name| (name.as_str(), large.as_str())));
    store.append_to(&Labels::new(pairs), Sample::new(29_000, 1.0)).expect("stored");
    store
}

fn check_queries() {
    let store = store();
    let long = "y".repeat(QUERY_BYTES_MAX - 1_000);
    let doubled = (0..60).fold("many".to_owned(), |inner, _| {
        format!("label_replace({inner}, \"pod\", \"$1$1\", \"pod\", \"(.*)\")")
    });
    let joined = (0..60)
        .fold("many".to_owned(), |inner, _| format!("label_join({inner}, \"pod\", \"\", \"pod\", \"pod\")"));
    let includes = (0..8).map(|number| format!("large_{number}")).collect::<Vec<_>>().join(", ");
    let queries = [
        doubled,
        joined,
        format!("label_replace(many, \"a\", \"{long}\", \"\", \"\")"),
        format!("label_replace(many, \"{long}\", \"a\", \"\", \"\")"),
        format!("label_join(many, \"a\", \"{long}\", \"pod\", \"job\", \"pod\")"),
        format!("label_join(many, \"{long}\", \"\", \"pod\")"),
        format!("count_values(\"{long}\", many)"),
        format!("many * on (job) group_left ({includes}) target_info"),
        "info(many)".to_owned(),
        "many @ 20".to_owned(),
        "vector(1) + many @ 20".to_owned(),
        "sum_over_time(many[30s:1ms])".to_owned(),
        "count_values(\"v\", rate(many[10s:1ms]))".to_owned(),
        "many or (many + 1) or (many + 2)".to_owned(),
        format!("\"{long}\""),
    ];
    let options = EngineOptions { samples_max: SAMPLES_MAX, ..EngineOptions::default() };
    for query in queries {
        let expr = parse_with(&query, ParseOptions::all()).expect("valid");
        let (result, bytes) = peak(|| eval_range(&store, &query, &expr, (0, 29_000, 3), &options).map(drop));
        let shown = &query[..query.len().min(80)];
        assert!(bytes < BYTES_MAX, "{shown}: {} MiB, {result:?}", bytes >> 20);
    }
}

fn check_relabelings() {
    let replace = |separator: &str, replacement: &str, target: &str, sources: usize| RuleText {
        source_labels: vec!["pod".into(); sources],
        separator: Some(separator.into()),
        target_label: Some(target.into()),
        replacement: Some(replacement.into()),
        regex: Some("(.*)".into()),
        ..RuleText::default()
    };
    let map = RuleText {
        regex: Some("(.*)".into()),
        replacement: Some("${1}x".into()),
        action: Some("labelmap".into()),
        ..RuleText::default()
    };
    let rules = [
        vec![replace(";", "$1$1", "pod", 1); 60],
        vec![replace(";", "$1", "pod", 2); 60],
        vec![replace(";", "$1$1", "pod", 1), replace(";", &"$1".repeat(1_000_000), "pod", 1)],
        vec![replace(";", "$1", &"$1".repeat(1_000_000), 1)],
        vec![replace(&"z".repeat(100_000), "$1", "pod", 2_000)],
        vec![map; 60],
    ];
    let large = "x".repeat(16_000);
    for pod in ["p1", &large] {
        let labels = Labels::new([("__name__", "x"), ("pod", pod), ("a", "1"), ("b", "2"), ("c", "3")]);
        for (number, written) in rules.iter().enumerate() {
            let rules: Vec<Rule> =
                written.iter().map(|rule| Rule::new(rule.clone()).expect("valid")).collect();
            let (_, bytes) = peak(|| relabel::apply(&rules, &labels));
            assert!(bytes < BYTES_MAX, "rules {number} of {} bytes: {} MiB", pod.len(), bytes >> 20);
        }
    }
}

/// One test: others would be measured with it.
#[test]
fn nothing_multiplies_without_bound() {
    check_queries();
    check_relabelings();
}
