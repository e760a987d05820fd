//! Parsing, printing, limits and explanations. Values are judged by Prometheus' own suite (`tests/promqltest.rs`).

mod experimental;
mod limits;

use proptest::prelude::*;

use super::*;
use crate::labels::Labels;
use crate::sample::Sample;
use crate::store::Store;
use crate::text::format_value;

#[test]
fn queries_are_printed_as_prometheus_prints_them() {
    let rows = [
        ("sum(rate(x[5m]))by(le,job)", "sum by (le, job) (rate(x[5m]))"),
        ("sum without(a)(x)", "sum without (a) (x)"),
        ("topk(3,x{a=\"b\",c!~'d'})", "topk(3, x{a=\"b\",c!~\"d\"})"),
        ("a+on(x,y)group_left(z)b", "a + on (x, y) group_left (z) b"),
        ("a>bool ignoring(x)b", "a > bool ignoring (x) b"),
        ("-x^2", "-x ^ 2"),
        ("x[300] offset -5m", "x[5m] offset -5m"),
        ("x offset 5m + 1", "x offset 5m + 1"),
        ("x offset (5m) + 1", "x offset (5m) + 1"),
        ("x offset --5m", "x offset 5m"),
        ("sum by (a:b) (x)", "sum by (\"a:b\") (x)"),
        ("x{b='1',a='2'}", "x{a=\"2\",b=\"1\"}"),
        ("{'x','y'}", "{__name__=\"x\",__name__=\"y\"}"),
        ("x @ 1.5 offset 1m", "x @ 1.500 offset 1m"),
        ("x offset 1m @ start()", "x @ start() offset 1m"),
        ("x[1h:]", "x[1h:]"),
        ("x[2m*(10+5):step()]", "x[2m * (10 + 5):step()]"),
        ("{\"a.b\",\"c.d\"=\"e\"}", "{\"c.d\"=\"e\",__name__=\"a.b\"}"),
        ("{__name__=~\"a|b\"}", "{__name__=~\"a|b\"}"),
        ("1e3 + 0x10 + Inf", "1000 + 16 + +Inf"),
        ("sum", "sum"),
        ("x > 1h30m", "x > 1h30m"),
        ("count_values('v', x)", "count_values(\"v\", x)"),
    ];
    for (query, printed) in rows {
        let expr = parse(query).expect(query);
        assert_eq!(expr.to_string(), printed, "{query}");
        assert_eq!(parse(printed).expect(printed).to_string(), printed, "printed again");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let rows = [
        ("", "1:1: parse error: no expression found in input"),
        ("1+", "1:3: parse error: unexpected end of input"),
        ("(x", "1:1: parse error: unclosed left parenthesis"),
        (
            "x{a",
            "1:4: parse error: unexpected end of input in label matching, expected label matching operator",
        ),
        ("x{a=b}", "1:5: parse error: unexpected identifier \"b\" in label matching, expected string"),
        ("x{", "1:3: parse error: unexpected end of input inside braces"),
        ("x{a=~\"(\"}", "1:3: parse error: error parsing regexp: unclosed group: `(`"),
        ("{a=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("x y", "1:3: parse error: unexpected identifier \"y\""),
        ("foo(x)", "1:1: parse error: unknown function with name \"foo\""),
        (
            "rate(x)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        ("rate(x[5m], 1)", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 2"),
        ("round()", "1:1: parse error: expected at least 1 argument(s) in call to \"round\", got 0"),
        ("sum()", "1:1: parse error: no arguments for aggregate expression provided"),
        (
            "topk(x)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
        ),
        ("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar"),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("x + bool y", "1:3: parse error: bool modifier can only be used on comparison operators"),
        ("x and 1", "1:3: parse error: set operator \"and\" not allowed in binary scalar expression"),
        ("x and on() group_left() y", "1:3: parse error: no grouping allowed for \"and\" operation"),
        ("x + group_left(z) y", "1:5: parse error: unexpected <group_left>"),
        ("x and\ngroup_right y", "2:1: parse error: unexpected <group_right>"),
        ("x > bool group_left y", "1:10: parse error: unexpected <group_left>"),
        (
            "\"a\" + 1",
            "1:1: parse error: binary expression must contain only scalar and instant vector types",
        ),
        ("x[0]", "1:3: parse error: duration must be greater than 0"),
        ("sum(x)[5m]", "1:1: parse error: ranges only allowed for vector selectors"),
        (
            "1 offset 5m",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("x offset 1m offset 2m", "1:1: parse error: offset may not be set multiple times"),
        ("x\n  + 5x", "2:5: parse error: bad number or duration syntax: \"5x\""),
        ("'a", "1:1: parse error: unterminated quoted string"),
        ("x & y", "1:3: parse error: unexpected character: '&'"),
        ("x sum", "1:3: parse error: unexpected <aggr:sum>"),
        ("x 'a longer text'", "1:3: parse error: unexpected string \"'a longer \"..."),
        (
            "x offset y",
            "1:10: parse error: unexpected identifier \"y\" in offset, expected number, duration, step(), or range()",
        ),
        (
            "x offset (1m) * on(a) y",
            "1:17: parse error: unexpected <on> in offset, expected number, duration, step(), or range()",
        ),
        ("x[5m,", "1:5: parse error: unexpected \",\" in subquery or range, expected \":\" or \"]\""),
        ("- atan2 -x", "1:3: parse error: unexpected <op:atan2>"),
        ("x{__name__=~\"y\"}", "1:1: parse error: metric name must not be set twice: \"x\" or \"y\""),
        ("{a=~\"\"}[5m]", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("1__0", "1:1: parse error: bad number or duration syntax: \"1__0\""),
        ("1_0.5", "1:1: parse error: bad number or duration syntax: \"1_0.5\""),
    ];
    for (query, message) in rows {
        assert_eq!(parse(query).expect_err(query).to_string(), message, "{query}");
    }
}

fn store() -> Store {
    let mut store = Store::default();
    for second in 0..=120 {
        for (name, pod) in [("http_requests_total", "a"), ("http_requests_total", "b"), ("queue_size", "a")] {
            let labels = Labels::new([("__name__", name), ("pod", pod), ("job", "model")]);
            store.append_to(&labels, Sample::new(second * 1_000, second as f64)).expect("in order");
        }
    }
    store
}

#[test]
fn a_query_stays_in_its_budget() {
    let store = store();
    let run = |options: EngineOptions| {
        let query = "sum_over_time(http_requests_total[2m])";
        eval_range(&store, query, &parse(query).expect("valid"), (0, 120_000, 1_000), &options).map(drop)
    };
    assert_eq!(run(EngineOptions::default()), Ok(()));
    let samples =
        run(EngineOptions { samples_max: 300, ..EngineOptions::default() }).expect_err("too many samples");
    assert!(samples.to_string().contains("too many samples into memory"), "{samples}");
    let visits =
        run(EngineOptions { visits_max: 1_000, ..EngineOptions::default() }).expect_err("too many visits");
    assert!(visits.to_string().contains("more than 1000 samples"), "{visits}");
}

#[test]
fn range_parameters_are_checked() {
    let expr = parse("x[5m]").expect("valid");
    let run = |expr: &Expr, times| {
        eval_range(&Store::default(), "", expr, times, &EngineOptions::default())
            .expect_err("bad")
            .to_string()
    };
    assert!(run(&expr, (0, 1, 1)).contains("invalid expression type \"range vector\" for range query"));
    let expr = parse("x").expect("valid");
    assert!(run(&expr, (0, 1, 0)).contains("zero or negative query resolution step"));
    assert!(run(&expr, (2, 1, 1)).contains("end timestamp must not be before start time"));
    assert!(run(&expr, (0, 20_000, 1)).contains("11,000 points"));
}

#[test]
fn empty_results_are_explained() {
    let store = store();
    let explain_one = |query: &str| {
        explain(&store, &parse(query).expect(query), 120_000, &EngineOptions::default()).remove(0)
    };
    let fine = explain_one("sum(rate(http_requests_total[1m]))");
    assert_eq!(fine.selector, "http_requests_total[1m]");
    assert_eq!(
        (fine.series_matched, fine.series_with_samples, fine.samples, fine.samples_min),
        (2, 2, 120, 60)
    );
    assert_eq!(fine.newest_ms, Some(120_000));
    let short = explain_one("rate(http_requests_total[1m] offset -1m59s)");
    assert_eq!((short.series_with_samples, short.samples_min, short.newest_ms), (0, 0, Some(120_000)));
    let typo = explain_one("http_request_total");
    assert_eq!(typo.matchers_without_series, ["__name__=\"http_request_total\""]);
    assert_eq!(typo.nearest, ["http_requests_total"]);
    assert_eq!(explain_one("http_requests").nearest, ["http_requests_total"]);
    let value = explain_one("queue_size{pod=\"b\",job=\"model\"}");
    assert_eq!(value.excluding_matcher.as_deref(), Some("pod=\"b\""));
    assert_eq!(value.nearest, ["a"]);
    assert_eq!(explain_one("queue_size{node=\"x\"}").matchers_without_series, ["node=\"x\""]);
}

#[test]
fn default_options_drop_names_at_once() {
    let store = store();
    let query = "sum by (__name__, pod) (rate(http_requests_total{pod=\"a\"}[1m]))";
    let labels = |delayed_name_removal| {
        let options = EngineOptions { delayed_name_removal, ..EngineOptions::default() };
        let result =
            eval_instant(&store, query, &parse(query).expect("valid"), 120_000, &options).expect("a result");
        let Value::Vector(samples) = result.value else { panic!("a vector") };
        samples[0].labels.to_string()
    };
    assert_eq!((labels(false), labels(true)), ("{pod=\"a\"}".into(), "{pod=\"a\"}".into()));
    let query =
        "label_replace(rate(http_requests_total{pod=\"a\"}[1m]), \"was\", \"$1\", \"__name__\", \"(.+)\")";
    let was = |delayed_name_removal| {
        let options = EngineOptions { delayed_name_removal, ..EngineOptions::default() };
        let result =
            eval_instant(&store, query, &parse(query).expect("valid"), 120_000, &options).expect("a result");
        let Value::Vector(samples) = result.value else { panic!("a vector") };
        samples[0].labels.get("was").to_owned()
    };
    assert_eq!((was(false), was(true)), (String::new(), "http_requests_total".into()));
}

/// Pieces from which near-queries are made.
const PIECES: [&str; 40] = [
    "x",
    "queue_size",
    "http_requests_total",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "1m",
    "5",
    "0.5",
    ":",
    ",",
    "\"a\"",
    "=",
    "=~",
    "!=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    ">",
    "bool ",
    " and ",
    " or ",
    " unless ",
    " on ",
    " by ",
    " offset ",
    " @ ",
    "sum",
    "rate",
    "histogram_quantile",
    "topk",
    "label_replace",
    "pod",
    "step()",
];

fn query() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "queue_size",
        "http_requests_total{pod=~\"a|b\"}",
        "rate(http_requests_total[1m])",
        "1.5",
        "time()",
        "vector(2)",
        "sum_over_time(queue_size[1m:10s] @ 60)",
        "queue_size offset 10s",
        "absent(none)",
        "1m",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 2, |inner| {
        let op = prop::sample::select(vec!["+", "-", "/", "^", "> bool", "== bool on (pod)", "atan2"]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.clone().prop_map(|a| format!("sum by (pod) ({a})")),
            inner.clone().prop_map(|a| format!("topk(1, {a})")),
            inner.clone().prop_map(|a| format!("avg_over_time(({a})[1m:20s])")),
            inner.prop_map(|a| format!("clamp_max(abs({a}), 7)")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn near_queries_are_parsed_printed_and_evaluated(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..14)) {
        let text = pieces.concat();
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            prop_assert_eq!(parse(&printed).expect("printed").to_string(), printed);
            let _ = eval_instant(&store(), &text, &expr, 100_000, &EngineOptions::default());
        }
    }

    /// An instant query is one column of a range query.
    #[test]
    fn instant_and_range_agree(text in query()) {
        let Ok(expr) = parse(&text) else { return Ok(()) };
        let (store, options) = (store(), EngineOptions::default());
        let range = eval_range(&store, &text, &expr, (30_000, 120_000, 30_000), &options);
        for time_ms in [30_000, 60_000, 90_000, 120_000] {
            let Ok(instant) = eval_instant(&store, &text, &expr, time_ms, &options) else { continue };
            let Ok(QueryResult { value: Value::Matrix(series), .. }) = &range else { continue };
            let mut column: Vec<(String, String)> = series.iter().filter_map(|series| {
                let sample = series.samples.iter().find(|sample| sample.timestamp_ms == time_ms)?;
                Some((series.labels.to_string(), format_value(sample.value)))
            }).collect();
            let mut at_time: Vec<(String, String)> = match instant.value {
                Value::Vector(samples) => samples.iter().map(|s| (s.labels.to_string(), s.value.to_string())).collect(),
                Value::Scalar(sample) => vec![("{}".into(), format_value(sample.value))],
                _ => continue,
            };
            column.sort();
            at_time.sort();
            prop_assert_eq!(column, at_time, "{} at {}", text, time_ms);
        }
    }
}

#[test]
fn start_timestamps_count_where_they_are_used() {
    let mut store = Store::default();
    let id = store.series_id(&Labels::new([("__name__", "deltas_total")])).expect("few");
    for second in 1..=10 {
        let sample = Sample::new(second * 10_000, 5.0);
        store.append_started(id, sample, second * 10_000 - 8_000).expect("in order");
    }
    for (query, unused, used) in [
        ("increase(deltas_total[1m])", "{} => 0", "{} => 30"),
        ("irate(deltas_total[1m])", "{} => 0", "{} => 0.5"),
        ("resets(deltas_total[1m])", "{} => 0", "{} => 5"),
        ("changes(deltas_total[1m])", "{} => 0", "{} => 0"),
        ("increase(deltas_total[15s])", "{} => 0", "{} => 7.5"),
        ("increase(deltas_total[9s])", "", "{} => 5"),
        ("increase(deltas_total[8s])", "", ""),
        ("start_timestamp(deltas_total)", "", "{} => 92"),
        ("start_timestamp(deltas_total * 1)", "", ""),
    ] {
        let parsing = ParseOptions { experimental_functions: true, ..ParseOptions::default() };
        let expr = parse_with(query, parsing).expect("valid");
        for (use_start_timestamps, wanted) in [(false, unused), (true, used)] {
            let options = EngineOptions { use_start_timestamps, ..EngineOptions::default() };
            let batch = eval_instant(&store, query, &expr, 100_000, &options).expect("a result").value;
            assert_eq!(shown(&batch), wanted, "{query}");
            if let Ok(mut live) = LiveQuery::new(query, options) {
                let value = live.evaluate(&mut store, 100_000).expect("a result").value;
                assert_eq!(shown(&value), wanted, "live {query}");
                live.close(&mut store);
            }
        }
    }
}

fn shown(value: &Value) -> String {
    let Value::Vector(samples) = value else { panic!("a vector") };
    samples.iter().map(|sample| format!("{} => {}", sample.labels, sample.value)).collect()
}

#[test]
fn durations_are_checked_when_step_and_range_are_known() {
    let rows = [
        ("queue_size[step()]", "11:17: duration must be greater than 0"),
        ("sum_over_time(queue_size[1m / step()])", "25:36: division by zero"),
        ("queue_size offset (1m / NaN)", "19:27: duration is NaN or infinite"),
        ("queue_size offset NaN", "18:21: duration is NaN or infinite"),
        ("queue_size offset (1y * 1000)", "19:28: duration is out of range"),
    ];
    for (query, message) in rows {
        let expr = parse(query).expect(query);
        let error = eval_instant(&store(), query, &expr, 60_000, &EngineOptions::default()).expect_err(query);
        assert_eq!(error.to_string(), message, "{query}");
    }
}
