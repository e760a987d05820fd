//! The prettifier behind `/api/v1/format_query`: long expressions on several lines, as Prometheus breaks them.
//!
//! What fits into [`LINE_BYTES_MAX`] stays as the printer writes it; what does not is opened up, one level of its tree at a time.

use super::ast::*;

/// Expressions longer than this are broken (Prometheus: `maxCharactersPerLine`).
const LINE_BYTES_MAX: usize = 100;
/// One level of the tree.
const INDENT: &str = "  ";

/// The expression on one line, or, where that would be long, on several.
///
/// ```
/// use flyball_metrics::promql;
///
/// let query = "sum by (namespace,pod) (rate(a_metric_with_a_very_long_name_total{namespace=\"default\",pod=~\"model-.+\"}[5m]))";
/// let pretty = "\
/// sum by (namespace, pod) (
///   rate(a_metric_with_a_very_long_name_total{namespace=\"default\",pod=~\"model-.+\"}[5m])
/// )";
/// assert_eq!(promql::prettify(&promql::parse(query)?), pretty);
/// # Ok::<(), promql::ParseError>(())
/// ```
pub fn prettify(expr: &Expr) -> String {
    pretty(expr, 0)
}

fn indent(level: usize) -> String {
    INDENT.repeat(level)
}

fn pretty(expr: &Expr, level: usize) -> String {
    let text = expr.to_string();
    let fits = text.len() <= LINE_BYTES_MAX;
    match expr {
        // As in Prometheus, a subquery that fits gets no indent of its own.
        Expr::Subquery(_) if fits => text,
        // A sign never stands on a line of its own.
        Expr::Unary(unary) => {
            let sign = &text[..1];
            format!("{}{sign}{}", indent(level), pretty(&unary.expr, level).trim())
        }
        _ if fits => indent(level) + &text,
        Expr::Aggregate(aggregate) => split_aggregate(aggregate, &text, level),
        Expr::Binary(binary) => split_binary(binary, &text, level),
        Expr::Call(call) => {
            let head = format!("{}{}(", indent(level), call.function.name);
            enclosed(&head, &call.args.iter().collect::<Vec<_>>(), level)
        }
        Expr::Paren(inner, _) => enclosed(&format!("{}(", indent(level)), &[inner], level),
        Expr::Subquery(subquery) => {
            let inner = subquery.expr.to_string();
            pretty(&subquery.expr, level) + text.strip_prefix(&inner).unwrap_or_default()
        }
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => indent(level) + &text,
    }
}

fn split_aggregate(aggregate: &AggregateExpr, text: &str, level: usize) -> String {
    let inside: Vec<&Expr> = aggregate.parameter.iter().chain([&aggregate.expr]).collect();
    let printed: Vec<String> = inside.iter().map(ToString::to_string).collect();
    let head = text.strip_suffix(&format!("({})", printed.join(", "))).unwrap_or(aggregate.op.name());
    enclosed(&format!("{}{head}(", indent(level)), &inside, level)
}

/// The operator, with what belongs to it, on a line between its operands.
fn split_binary(binary: &BinaryExpr, text: &str, level: usize) -> String {
    let (lhs, rhs) = (binary.lhs.to_string(), binary.rhs.to_string());
    let operator = text.strip_prefix(&lhs).and_then(|rest| rest.strip_suffix(&rhs)).unwrap_or(text).trim();
    let (lhs, rhs) = (pretty(&binary.lhs, level + 1), pretty(&binary.rhs, level + 1));
    format!("{lhs}\n{}{operator}\n{rhs}", indent(level))
}

/// `head`, each expression on lines of its own, and the closing parenthesis.
fn enclosed(head: &str, inside: &[&Expr], level: usize) -> String {
    let lines: Vec<String> = inside.iter().map(|expr| pretty(expr, level + 1)).collect();
    format!("{head}\n{}\n{})", lines.join(",\n"), indent(level))
}

#[cfg(test)]
mod tests {
    use super::prettify;
    use crate::promql::parse;

    #[test]
    fn long_expressions_are_broken_and_stay_what_they_are() {
        let long = "a_metric_with_a_long_name_total{namespace=\"default\"}";
        let rows = [
            ("up", "up".to_owned()),
            ("- up", "-up".to_owned()),
            (
                &format!("rate({long}[5m]) / on (pod) group_left (node) rate({long}[10m] offset 5m)"),
                format!("  rate({long}[5m])\n/ on (pod) group_left (node)\n  rate({long}[10m] offset 5m)"),
            ),
            (
                &format!("histogram_quantile(0.95, sum by (le) (rate({long}[5m])) + rate({long}[5m]))"),
                format!(
                    "histogram_quantile(\n  0.95,\n    sum by (le) (rate({long}[5m]))\n  +\n    rate({long}[5m])\n)"
                ),
            ),
            (
                &format!("topk without (pod) (3, -(rate({long}[5m]) > bool {long}))"),
                format!(
                    "topk without (pod) (\n  3,\n  -(\n      rate({long}[5m])\n    > bool\n      {long}\n  )\n)"
                ),
            ),
            (
                &format!("(max_over_time(rate({long}[5m])[1h:10s] @ start()) + avg_over_time({long}[5m]))"),
                format!(
                    "(\n    max_over_time(rate({long}[5m])[1h:10s] @ start())\n  +\n    avg_over_time({long}[5m])\n)"
                ),
            ),
        ];
        for (query, expected) in rows {
            let expr = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
            let pretty = prettify(&expr);
            assert_eq!(pretty, expected, "{query}");
            let again = parse(&pretty).unwrap_or_else(|error| panic!("{pretty}: {error}"));
            assert_eq!(again.to_string(), expr.to_string(), "{query}");
        }
    }
}
