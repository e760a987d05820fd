//! What Prometheus has behind feature flags: off by default, and the errors and texts of it. Values are judged by
//! Prometheus' own suite.

use super::*;

fn parse_all(query: &str) -> Result<Expr, ParseError> {
    parse_with(query, ParseOptions::all())
}

#[test]
fn features_behind_flags_are_off() {
    let rows = [
        (
            "info(x)",
            "1:1: parse error: function \"info\" is not enabled; Prometheus has it behind --enable-feature=promql-experimental-functions",
        ),
        ("x + fill(0) y", "1:5: parse error: binop fill modifiers are experimental and not enabled"),
        (
            "limitk(1, x)",
            "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
    ];
    for (query, message) in rows {
        assert_eq!(parse(query).expect_err(query).to_string(), message, "{query}");
        parse_all(query).expect(query);
    }
    // Their words are metrics elsewhere.
    for query in ["anchored", "smoothed + info", "fill"] {
        assert_eq!(parse(query).expect(query).to_string(), query);
    }
}

#[test]
fn extended_selectors_are_printed_as_prometheus_prints_them() {
    let rows = [
        ("x smoothed @ 5 offset 1m", "x @ 5.000 smoothed offset 1m"),
        ("rate(x[5m]offset 1m@start()anchored)", "rate(x[5m] anchored @ start() offset 1m)"),
        ("x anchored[5m]", "x[5m] anchored"),
        ("x[5m] ANCHORED anchored", "x[5m] anchored"),
        ("info(x,{a=~'.*'}@1)", "info(x, {a=~\".*\"} @ 1.000)"),
    ];
    for (query, printed) in rows {
        assert_eq!(parse_all(query).expect(query).to_string(), printed, "{query}");
        assert_eq!(parse_all(printed).expect(printed).to_string(), printed, "printed again");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let rows = [
        (
            "x[5m] anchored smoothed",
            "1:1: parse error: anchored and smoothed modifiers cannot be used together",
        ),
        ("x[5m:1m] smoothed", "1:1: parse error: smoothed modifier is not supported for subqueries"),
        ("1 anchored", "1:1: parse error: anchored modifier not implemented"),
        ("info(x, y)", "1:9: parse error: expected label selectors only, got vector selector instead"),
        ("info(x, ({a='b'}))", "1:9: parse error: expected label selectors only"),
        (
            "1 + info(x, 2)",
            "1:5: parse error: expected type instant vector in call to function \"info\", got scalar",
        ),
        (
            "info({a=''}, {b=''})",
            "1:6: parse error: vector selector must contain at least one non-empty matcher",
        ),
    ];
    for (query, message) in rows {
        assert_eq!(parse_all(query).expect_err(query).to_string(), message, "{query}");
    }
}

/// What the parameter of an aggregation is, and where info series are looked for, when selectors are pinned.
#[test]
fn what_is_pinned_is_evaluated_once() {
    let mut store = Store::default();
    let info = |version: &str| Labels::new([("__name__", "target_info"), ("job", "a"), ("version", version)]);
    for minute in 0..6 {
        let metric = Labels::new([("__name__", "x"), ("job", "a")]);
        let version = info(if minute < 3 { "old" } else { "new" });
        for (labels, value) in [(metric, minute as f64), (version, 1.0)] {
            store.append_to(&labels, Sample::new(minute * 60_000, value)).expect("in order");
        }
    }
    store.append_to(&info("old"), Sample::new(180_000, crate::sample::STALE_NAN)).expect("in order");
    let at_each_minute = |query: &str| {
        let expr = parse_all(query).expect(query);
        let options = EngineOptions::default();
        let result = eval_range(&store, query, &expr, (60_000, 240_000, 180_000), &options).expect(query);
        let Value::Matrix(series) = result.value else { return String::new() };
        let text = |series: &Series| {
            let values: Vec<String> =
                series.samples.iter().map(|sample| format_value(sample.value)).collect();
            format!("{} {}", series.labels.get("version"), values.join(" "))
        };
        let texts: Vec<String> = series.iter().map(text).collect();
        format!("{} {:?}", texts.join(", "), result.annotations.warnings.len())
    };
    let rows = [
        // The parameter at the first step, 0.6, holds for all; 2.4 would be infinity, and a warning.
        ("quantile(time() / 100, x @ 60)", " 1 1 0"),
        ("quantile(time() / 100, x)", " 1 +Inf 1"),
        // One sort of what is pinned has an effect at each step.
        ("sort(x @ 60)", " 1 1 0"),
        ("sort(x)", " 1 4 1"),
        ("info(x)", "new 4, old 1 0"),
        ("info(x @ 60)", "old 1 1 0"),
        ("info(x offset 2m)", "old 2 0"),
        ("info(x @ 60 + on (job) x @ 240)", "new 5, old 5 0"),
    ];
    for (query, expected) in rows {
        assert_eq!(at_each_minute(query), expected, "{query}");
    }
}
