//! What no query can do: take the parser's or the evaluator's stack, more samples than it may hold, or more time than it may
//! take. Whatever is asked, the answer is a result within the limits or an error.

use super::*;

const SAMPLES_MAX: usize = 20_000;
const VISITS_MAX: u64 = 100_000;

fn limited() -> EngineOptions {
    EngineOptions { samples_max: SAMPLES_MAX, visits_max: VISITS_MAX, ..EngineOptions::default() }
}

fn parse_all(query: &str) -> Result<Expr, ParseError> {
    parse_with(query, ParseOptions::all())
}

/// Points of a result.
fn size(value: &Value) -> usize {
    match value {
        Value::Matrix(series) => {
            series.iter().map(|series| series.samples.len() + series.histograms.len()).sum()
        }
        Value::Vector(samples) => samples.len(),
        _ => 1,
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = |before: &str, after: &str| format!("{}x{}", before.repeat(5_000), after.repeat(5_000));
    let rows = [
        deep("(", ")"),
        deep("", " + x"),
        deep("x ^ ", ""),
        deep("-", ""),
        deep("abs(", ")"),
        deep("sum(", ")"),
        deep("", "[5m:]"),
        deep("", " offset 1m"),
        deep("", " @ 1"),
        deep("max_over_time(", "[5m:])"),
        deep("info(", ")"),
        format!("x[{}1{}]", "(".repeat(5_000), ")".repeat(5_000)),
        format!("x[1{}]", " + 1".repeat(5_000)),
        format!("x[1{}]", " ^ 1".repeat(5_000)),
        format!("x offset (1{})", " * 1".repeat(5_000)),
        format!("x[{}1{}]", "min_of(1,".repeat(5_000), ")".repeat(5_000)),
        format!("x[{}1]", "-".repeat(5_000)),
        "x".repeat(QUERY_BYTES_MAX + 1),
    ];
    for query in rows {
        assert!(parse_all(&query).is_err(), "{}", &query[..40]);
    }
}

#[test]
fn the_deepest_query_is_evaluated() {
    let calls = QUERY_DEPTH_MAX - 10;
    let deep = format!("{}queue_size{}", "abs(".repeat(calls), ")".repeat(calls));
    let long = format!("queue_size{}", " + queue_size".repeat(calls));
    let signs = format!("{}queue_size", "-".repeat(calls));
    let subqueries = calls / 3;
    let subqueries =
        format!("{}queue_size{}", "last_over_time((".repeat(subqueries), ")[1m:30s])".repeat(subqueries));
    for query in [deep, long, signs, subqueries] {
        let expr = parse(&query).expect("within the limits");
        eval_instant(&store(), &query, &expr, 60_000, &EngineOptions::default()).expect("a result");
    }
}

#[test]
fn patterns_take_little_memory() {
    let huge = "\\\\pL{50}";
    let rows = [
        (format!("x{{a=~\"({huge}){{900}}\"}}"), "expression nests or repeats too much"),
        (
            format!("x{{{}}}", format!("a=~\"{huge}\",").repeat(30)),
            "more than 20 large patterns in one query",
        ),
        (
            vec![format!("x{{{}}}", "a=~\"b.\",".repeat(10)); 101].join(" + "),
            "more than 1000 patterns in one query",
        ),
        (format!("x{{{}}}", "a=\"b\",".repeat(201)), "selector has more than 200 label matchers"),
        (format!("sum by ({}) (x)", "a,".repeat(201)), "name more than 200 labels"),
        (format!("x{{a=~\"{}\"}}", "b.|".repeat(20_000)), "expression too large"),
        (vec![format!("x{{a=~\"{}.\"}}", "b".repeat(15_000)); 3].join(" + "), "expression too large"),
        (format!("x{{a=~\"{}\"}}", "(".repeat(10_000)), "error parsing regexp"),
    ];
    for (query, message) in rows {
        let error = parse(&query).expect_err("too much").to_string();
        assert!(error.contains(message), "{}", &error[..error.len().min(200)]);
    }
    parse(&format!("x{{a=~\"{}\"}}", "model-[0-9a-f]{8}|".repeat(500))).expect("a long alternation is fine");
}

/// Queries that ask for more than there may be, each in a way of its own.
#[test]
fn what_is_too_much_is_refused() {
    let doubling = (0..60).fold("queue_size".to_owned(), |inner, _| {
        format!("label_replace({inner}, \"pod\", \"$1$1\", \"pod\", \"(.*)\")")
    });
    let joining = (0..60).fold("queue_size".to_owned(), |inner, _| {
        format!("label_join({inner}, \"pod\", \"\", \"pod\", \"pod\")")
    });
    let expanding =
        format!("label_replace(queue_size, \"x\", \"{}\", \"pod\", \"(.*)\")", "$1".repeat(100_000));
    let repeated = format!(
        "label_replace(label_replace(queue_size, \"pod\", \"{}\", \"\", \"\"), \"pod\", \"{}\", \"pod\", \"(.*)\")",
        "x".repeat(9_000),
        "$1".repeat(9_000)
    );
    let scalars = (0..60).fold("time()".to_owned(), |inner, _| format!("time() + ({inner})"));
    let rows: [(&str, &str); 9] = [
        ("sum_over_time(queue_size[100y:1s])", "too many samples"),
        ("sum_over_time(vector(1)[1h:1ms])", "too many samples"),
        ("sum_over_time((sum_over_time((sum_over_time(queue_size[1h:1s]))[1h:1s]))[1h:1s])", ""),
        (&format!("sum_over_time(vector({scalars})[10m:1s])"), "too many samples"),
        ("max_over_time(rate(http_requests_total[2m])[100s:100ms])", "would look at more than"),
        (&doubling, "too many samples"),
        (&joining, "too many samples"),
        (&repeated, "a label's new value may take"),
        ("quantile_over_time(0.5, vector(1)[280y:1ms] offset -280y)", "too many samples"),
    ];
    let store = store();
    for (query, message) in rows {
        let expr = parse(query).expect("valid");
        let error =
            eval_instant(&store, query, &expr, 100_000, &limited()).expect_err(&query[..query.len().min(80)]);
        assert!(error.to_string().contains(message), "{error}: {}", &query[..query.len().min(80)]);
    }
    for query in [&doubling, &joining] {
        let expr = parse(query).expect("valid");
        let error =
            eval_instant(&store, query, &expr, 100_000, &EngineOptions::default()).expect_err("too long");
        assert!(error.to_string().contains("a label's new value may take"), "{error}");
    }
    let expr = parse(&expanding).expect("valid");
    eval_instant(&store, &expanding, &expr, 100_000, &EngineOptions::default())
        .expect("a label of a hundred thousand");
}

/// Any number that a duration can be written with, from the smallest to the largest, and sums of them.
fn duration() -> impl Strategy<Value = String> {
    let unit = prop::sample::select(vec!["ms", "s", "m", "h", "d", "w", "y"]);
    let simple =
        (prop_oneof![1_u64..100, 1_u64..10_000_000], unit).prop_map(|(n, unit)| format!("{n}{unit}"));
    let calls =
        prop::sample::select(vec!["step()", "range()", "max_of(step(), 1m)", "9e9", "1e-3", "0.4ms", "280y"]);
    let leaf = prop_oneof![4 => simple, 1 => calls.prop_map(str::to_owned)];
    leaf.prop_recursive(2, 4, 2, |inner| {
        let op = prop::sample::select(vec!["+", "-", "*", "/", "%", "^"]);
        (inner.clone(), op, inner).prop_map(|(a, op, b)| format!("({a} {op} {b})"))
    })
}

/// Queries whose windows, steps and nesting go to any length.
fn excess() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "queue_size",
        "http_requests_total",
        "vector(time())",
        "{__name__=~\".+\"}",
        "-time()",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(6, 40, 2, |inner| {
        let function = prop::sample::select(vec![
            "rate",
            "sum_over_time",
            "quantile_over_time(0.5,",
            "absent_over_time",
            "stddev_over_time",
            "last_over_time",
        ]);
        let close = |function: &str| if function.contains('(') { String::new() } else { "(".to_owned() };
        prop_oneof![
            (function.clone(), inner.clone(), duration(), duration(), duration()).prop_map(
                move |(f, a, range, step, offset)| format!(
                    "{f}{}(({a})[{range}:{step}] offset {offset}))",
                    close(f)
                )
            ),
            (function.clone(), duration(), duration()).prop_map(move |(f, range, offset)| format!(
                "{f}{}queue_size[{range}] @ 100 offset -{offset})",
                close(f)
            )),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) * on () group_left () ({b})")),
            inner.clone().prop_map(|a| format!("info({a})")),
            inner.clone().prop_map(|a| format!("count_values(\"v\", {a})")),
            inner
                .clone()
                .prop_map(|a| format!("label_replace({a}, \"pod\", \"$1$1$1$1\", \"pod\", \"(.*)\")")),
            duration().prop_map(|range| format!("increase(http_requests_total[{range}] smoothed)")),
            inner.prop_map(|a| format!("sort(topk(2, scalar({a}) + ({a})))")),
        ]
    })
}

proptest! {
    #[test]
    fn no_query_goes_over_its_limits(text in excess(), start_ms in prop_oneof![Just(100_000_i64), any::<i64>()], steps in 0_i64..20, step_ms in prop_oneof![1_i64..100_000, 1_i64..i64::MAX / 32]) {
        let Ok(expr) = parse_all(&text) else { return Ok(()) };
        let store = store();
        let end_ms = start_ms.saturating_add(steps.saturating_mul(step_ms));
        let results = [
            eval_instant(&store, &text, &expr, start_ms, &limited()),
            eval_range(&store, &text, &expr, (start_ms, end_ms, step_ms), &limited()),
        ];
        for result in results.into_iter().flatten() {
            prop_assert!(result.samples <= SAMPLES_MAX);
            prop_assert!(size(&result.value) <= SAMPLES_MAX);
        }
    }

    #[test]
    fn any_pattern_is_taken_or_refused(pattern in "[a-c0-9(){}\\[\\]|*+?.^$\\\\,:&QEdwbp-]{0,24}") {
        if let Ok(matcher) = crate::Matcher::new("a", crate::MatchOp::RegexMatch, &pattern) {
            matcher.matches("abc-0");
        }
    }
}
