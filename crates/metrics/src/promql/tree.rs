//! The syntax tree as JSON, in the shape of Prometheus' `/api/v1/parse_query`, from which its page draws a tree.

use serde_json::{Value, json};

use super::ast::*;
use crate::matcher::Matcher;
use crate::text::format_plain;

/// The tree of an expression.
///
/// ```
/// use flyball_metrics::promql;
///
/// let tree = promql::tree(&promql::parse("-up")?);
/// assert_eq!((&tree["type"], &tree["expr"]["name"]), (&"unaryExpr".into(), &"up".into()));
/// # Ok::<(), promql::ParseError>(())
/// ```
pub fn tree(expr: &Expr) -> Value {
    match expr {
        Expr::Number(number) => json!({ "type": "numberLiteral", "val": format_plain(number.value) }),
        Expr::String(string) => {
            json!({ "type": "stringLiteral", "val": String::from_utf8_lossy(&string.value) })
        }
        Expr::Paren(inner, _) => json!({ "type": "parenExpr", "expr": tree(inner) }),
        Expr::Unary(unary) => {
            let op = if unary.negative { "-" } else { "+" };
            json!({ "type": "unaryExpr", "op": op, "expr": tree(&unary.expr) })
        }
        Expr::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.symbol(),
            "lhs": tree(&binary.lhs),
            "rhs": tree(&binary.rhs),
            "matching": matching(binary),
            "bool": binary.return_bool,
        }),
        Expr::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.name(),
            "expr": tree(&aggregate.expr),
            "param": aggregate.parameter.as_ref().map(tree),
            "grouping": aggregate.grouping,
            "without": aggregate.without,
        }),
        Expr::Call(call) => {
            let args: Vec<Value> = call.args.iter().map(tree).collect();
            json!({ "type": "call", "func": function(call), "args": args })
        }
        Expr::Vector(vector) => selector("vectorSelector", vector),
        Expr::Matrix(matrix) => {
            let mut node = selector("matrixSelector", &matrix.vector);
            node["range"] = written_ms(Some(&matrix.range)).into();
            node
        }
        Expr::Subquery(subquery) => json!({
            "type": "subquery",
            "expr": tree(&subquery.expr),
            "range": written_ms(Some(&subquery.range)),
            "step": written_ms(subquery.step.as_ref()),
            "offset": written_ms(subquery.shift.offset.as_ref()),
            "timestamp": timestamp(&subquery.shift),
            "startOrEnd": start_or_end(&subquery.shift),
        }),
    }
}

/// How the series of both sides find each other; nothing where a side is a scalar.
fn matching(binary: &BinaryExpr) -> Value {
    if [&binary.lhs, &binary.rhs].iter().any(|side| side.value_type() != ValueType::Vector) {
        return Value::Null;
    }
    let matching = &binary.matching;
    let card = match matching.cardinality {
        _ if binary.op.is_set_operator() => "many-to-many",
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
    };
    json!({ "card": card, "labels": matching.labels, "on": matching.on, "include": matching.include })
}

fn function(call: &Call) -> Value {
    let function = call.function;
    let argument_types: Vec<&str> = function.arguments.iter().map(|argument| argument.api_name()).collect();
    // -1 stands for any number of further arguments.
    let variadic = if function.variadic { -1 } else { i64::try_from(function.optional).unwrap_or(0) };
    json!({
        "name": function.name,
        "argTypes": argument_types,
        "variadic": variadic,
        "returnType": function.returns.api_name(),
    })
}

fn selector(kind: &str, selector: &VectorSelector) -> Value {
    let matcher = |matcher: &Matcher| json!({ "name": matcher.name(), "value": matcher.value(), "type": matcher.op().to_string() });
    json!({
        "type": kind,
        "name": selector.name.as_deref().unwrap_or_default(),
        "offset": written_ms(selector.shift.offset.as_ref()),
        "matchers": selector.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "timestamp": timestamp(&selector.shift),
        "startOrEnd": start_or_end(&selector.shift),
        "anchored": selector.extension == Some(Extension::Anchored),
        "smoothed": selector.extension == Some(Extension::Smoothed),
    })
}

/// Milliseconds of a duration that is a number; arithmetic over durations counts as none, as in Prometheus.
fn written_ms(duration: Option<&DurationExpr>) -> i64 {
    match duration {
        Some(DurationExpr::Number(number)) => (number.value * 1_000.0).round() as i64,
        Some(DurationExpr::Unary(negative, inner, _)) => {
            let ms = written_ms(Some(inner));
            if *negative { -ms } else { ms }
        }
        _ => 0,
    }
}

fn timestamp(shift: &TimeShift) -> Option<i64> {
    match shift.at {
        Some(At::Time(ms)) => Some(ms),
        _ => None,
    }
}

fn start_or_end(shift: &TimeShift) -> Option<&'static str> {
    match shift.at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parse;

    #[test]
    fn trees_have_the_shape_of_prometheus() {
        let up = || {
            json!({
                "type": "vectorSelector", "name": "up", "offset": 0, "timestamp": null, "startOrEnd": null,
                "anchored": false, "smoothed": false,
                "matchers": [{ "name": "__name__", "value": "up", "type": "=" }],
            })
        };
        let rows = [
            ("1.50", json!({ "type": "numberLiteral", "val": "1.5" })),
            ("\"a\"", json!({ "type": "stringLiteral", "val": "a" })),
            ("(up)", json!({ "type": "parenExpr", "expr": up() })),
            (
                "sum without (pod) (up)",
                json!({ "type": "aggregation", "op": "sum", "expr": up(), "param": null, "grouping": ["pod"], "without": true }),
            ),
            (
                "up == bool 1",
                json!({
                    "type": "binaryExpr", "op": "==", "lhs": up(), "bool": true, "matching": null,
                    "rhs": { "type": "numberLiteral", "val": "1" },
                }),
            ),
            (
                "up and on (pod) up",
                json!({
                    "type": "binaryExpr", "op": "and", "lhs": up(), "rhs": up(), "bool": false,
                    "matching": { "card": "many-to-many", "labels": ["pod"], "on": true, "include": [] },
                }),
            ),
            (
                "rate(up[5m] offset -1m @ end())",
                json!({
                    "type": "call",
                    "func": { "name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector" },
                    "args": [{
                        "type": "matrixSelector", "name": "up", "range": 300_000, "offset": -60_000,
                        "timestamp": null, "startOrEnd": "end", "anchored": false, "smoothed": false,
                        "matchers": [{ "name": "__name__", "value": "up", "type": "=" }],
                    }],
                }),
            ),
            (
                "up[5m:10s] @ 3",
                json!({
                    "type": "subquery", "expr": up(), "range": 300_000, "step": 10_000, "offset": 0,
                    "timestamp": 3_000, "startOrEnd": null,
                }),
            ),
        ];
        for (query, expected) in rows {
            assert_eq!(tree(&parse(query).expect(query)), expected, "{query}");
        }
    }
}
