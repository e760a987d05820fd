//! Extracts facts about a PromQL query, for rules without a PromQL parser.
//!
//! For each part of a query the labels are tracked that may distinguish its series: an aggregation leaves those it groups
//! by, a selector leaves all. A query whose labels are all removed, or pinned to one value, returns one series.

use std::collections::BTreeSet;
use std::time::Duration;

use flyball_api::lint::{NotAdditive, QueryFacts};
use flyball_metrics::MatchOp;
use flyball_metrics::promql::{
    self, AggregateExpr, AggregateOp, BinaryExpr, BinaryOp, Call, Cardinality, DurationExpr, Expr, ValueType,
    VectorSelector,
};

/// Suffixes of the names of counters.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];

/// Returns the facts of a query; `None` if it does not parse.
pub(crate) fn facts(query: &str) -> Option<QueryFacts> {
    let expr = promql::parse(query).ok()?;
    let mut facts = QueryFacts {
        may_return_many_series: !Labels::of(&expr).tell_nothing_apart(),
        not_additive: not_additive(&expr),
        is_share: is_share(&expr),
        is_scaled: is_scaled(&expr),
        may_vanish: may_vanish(&expr),
        ..QueryFacts::default()
    };
    for (selector, range) in expr.selectors() {
        facts.metrics.extend(name(selector));
        facts.range_windows.extend(range.and_then(window));
    }
    inspect_parts(&expr, &mut facts);
    Some(facts)
}

/// The labels that may distinguish the series of a result.
enum Labels {
    /// No other labels than these.
    Only(BTreeSet<String>),
    /// Any labels except these, which a selector pins to one value or an aggregation removes.
    AllBut(BTreeSet<String>),
}

impl Labels {
    fn none() -> Labels {
        Labels::Only(BTreeSet::new())
    }

    fn tell_nothing_apart(&self) -> bool {
        matches!(self, Labels::Only(labels) if labels.is_empty())
    }

    fn has(&self, label: &str) -> bool {
        match self {
            Labels::Only(labels) => labels.contains(label),
            Labels::AllBut(labels) => !labels.contains(label),
        }
    }

    fn without(mut self, gone: &str) -> Labels {
        match &mut self {
            Labels::Only(labels) => drop(labels.remove(gone)),
            Labels::AllBut(labels) => drop(labels.insert(gone.to_owned())),
        }
        self
    }

    fn of(expr: &Expr) -> Labels {
        match expr {
            Expr::Number(_) | Expr::String(_) => Labels::none(),
            Expr::Paren(inner, _) => Labels::of(inner),
            Expr::Unary(unary) => Labels::of(&unary.expr),
            Expr::Vector(selector) => of_selector(selector),
            Expr::Matrix(selector) => of_selector(&selector.vector),
            Expr::Subquery(subquery) => Labels::of(&subquery.expr),
            Expr::Aggregate(aggregate) => of_aggregate(aggregate),
            Expr::Call(call) => of_call(call),
            Expr::Binary(binary) => of_binary(binary),
        }
    }
}

/// Returns the labels of a selector: all but those with one value, such as `job="model"`.
fn of_selector(selector: &VectorSelector) -> Labels {
    let pinned = selector.matchers.iter().filter(|matcher| matcher.op() == MatchOp::Equal);
    Labels::AllBut(pinned.map(|matcher| matcher.name().to_owned()).collect())
}

fn of_aggregate(aggregate: &AggregateExpr) -> Labels {
    let inner = Labels::of(&aggregate.expr);
    let one = matches!(
        aggregate.parameter.as_ref().map(Expr::unwrap_parens),
        Some(Expr::Number(number)) if number.value == 1.0
    );
    let keeps_series = matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk) && !one;
    let adds_label = aggregate.op == AggregateOp::CountValues;
    if keeps_series || adds_label {
        return Labels::AllBut(BTreeSet::new());
    }
    if aggregate.without {
        return aggregate.grouping.iter().fold(inner, |labels, gone| labels.without(gone));
    }
    Labels::Only(aggregate.grouping.iter().filter(|label| inner.has(label)).cloned().collect())
}

fn of_call(call: &Call) -> Labels {
    match call.function.name {
        "absent" | "absent_over_time" | "vector" | "scalar" | "time" | "pi" => Labels::none(),
        "histogram_quantile" | "histogram_fraction" => {
            let buckets = call.args.iter().find(|arg| arg.value_type() == ValueType::Vector);
            buckets.map_or(Labels::none(), Labels::of).without("le")
        }
        _ => {
            let series = |arg: &&Expr| matches!(arg.value_type(), ValueType::Vector | ValueType::Matrix);
            call.args.iter().find(series).map_or(Labels::none(), Labels::of)
        }
    }
}

fn of_binary(binary: &BinaryExpr) -> Labels {
    let (left, right) = (Labels::of(&binary.lhs), Labels::of(&binary.rhs));
    let is_vector = |expr: &Expr| expr.value_type() == ValueType::Vector;
    match binary.op {
        _ if !is_vector(&binary.lhs) => return right,
        _ if !is_vector(&binary.rhs) => return left,
        BinaryOp::And | BinaryOp::Unless => return left,
        BinaryOp::Or => {
            let both_one = left.tell_nothing_apart() && right.tell_nothing_apart();
            return if both_one { left } else { Labels::AllBut(BTreeSet::new()) };
        }
        _ => {}
    }
    match (binary.matching.cardinality, binary.matching.on) {
        (Cardinality::ManyToOne, _) => left,
        (Cardinality::OneToMany, _) => right,
        (Cardinality::OneToOne, true) => Labels::Only(binary.matching.labels.iter().cloned().collect()),
        (Cardinality::OneToOne, false) if right.tell_nothing_apart() => right,
        (Cardinality::OneToOne, false) => left,
    }
}

fn name(selector: &VectorSelector) -> Option<String> {
    let named = selector.matchers.iter().find(|matcher| matcher.name() == "__name__");
    selector.name.clone().or(named.map(|matcher| matcher.value().to_owned()))
}

/// Returns a window written as a plain duration; `None` for an expression.
fn window(range: &DurationExpr) -> Option<Duration> {
    match range {
        DurationExpr::Number(number) => Duration::try_from_secs_f64(number.value).ok(),
        DurationExpr::Paren(inner, _) => window(inner),
        _ => None,
    }
}

/// Returns why the result is not the sum over replicas; ignores functions that only scale, round or select.
fn not_additive(expr: &Expr) -> Option<NotAdditive> {
    match expr {
        Expr::Paren(inner, _) => not_additive(inner),
        Expr::Unary(unary) => not_additive(&unary.expr),
        Expr::Subquery(subquery) => not_additive(&subquery.expr),
        Expr::Aggregate(aggregate) => match aggregate.op {
            AggregateOp::Quantile => Some(NotAdditive::Quantile),
            AggregateOp::Avg => Some(NotAdditive::Average),
            AggregateOp::Count | AggregateOp::Group | AggregateOp::CountValues => None,
            _ => not_additive(&aggregate.expr),
        },
        Expr::Call(call) => match call.function.name {
            "histogram_quantile" | "quantile_over_time" => Some(NotAdditive::Quantile),
            "histogram_avg" => Some(NotAdditive::Average),
            "histogram_fraction" => Some(NotAdditive::Ratio),
            _ => call.args.iter().find_map(not_additive),
        },
        Expr::Binary(binary) => of_operands(binary),
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => None,
    }
}

fn of_operands(binary: &BinaryExpr) -> Option<NotAdditive> {
    let is_vector = |expr: &Expr| expr.value_type() == ValueType::Vector;
    let inside = not_additive(&binary.lhs).or(not_additive(&binary.rhs));
    if binary.op == BinaryOp::Div && is_vector(&binary.lhs) && is_vector(&binary.rhs) {
        let of_a_sum = metric_names(&binary.lhs).iter().any(|name| name.ends_with("_sum"));
        return inside.or(Some(if of_a_sum { NotAdditive::Average } else { NotAdditive::Ratio }));
    }
    inside
}

fn metric_names(expr: &Expr) -> BTreeSet<String> {
    expr.selectors().into_iter().filter_map(|(selector, _)| name(selector)).collect()
}

/// Returns whether the expression divides a part of a metric by all of the same metric.
fn is_share(expr: &Expr) -> bool {
    match expr.unwrap_parens() {
        Expr::Binary(binary) if binary.op == BinaryOp::Div => {
            let (part, all) = (metric_names(&binary.lhs), metric_names(&binary.rhs));
            !part.is_empty() && part == all
        }
        Expr::Binary(binary) if binary.op == BinaryOp::Or => is_share(&binary.lhs),
        Expr::Call(call) => call.function.name == "histogram_fraction",
        _ => false,
    }
}

fn is_scaled(expr: &Expr) -> bool {
    let own = matches!(expr, Expr::Binary(binary) if matches!(binary.op, BinaryOp::Mul | BinaryOp::Div)
        && [&binary.lhs, &binary.rhs].iter().any(|side| side.value_type() == ValueType::Scalar));
    own || expr.children().into_iter().any(is_scaled)
}

/// Returns whether a comparison may filter everything out, without an `or` that fills the gap.
fn may_vanish(expr: &Expr) -> bool {
    match expr {
        Expr::Binary(binary) if binary.op == BinaryOp::Or => may_vanish(&binary.rhs),
        Expr::Binary(binary) if binary.op.is_comparison() && !binary.return_bool => {
            expr.value_type() == ValueType::Vector
        }
        _ => expr.children().into_iter().any(may_vanish),
    }
}

/// Finds histogram quantiles whose buckets have lost `le`, and counters without a rate.
fn inspect_parts(expr: &Expr, facts: &mut QueryFacts) {
    match expr {
        Expr::Call(call) if call.function.name == "histogram_quantile" => {
            let buckets = |arg: &&Expr| metric_names(arg).iter().any(|name| name.ends_with("_bucket"));
            let lost = call.args.iter().find(buckets).is_some_and(|arg| !Labels::of(arg).has("le"));
            facts.loses_le |= lost;
        }
        Expr::Vector(selector) => {
            let counter =
                name(selector).filter(|name| COUNTER_SUFFIXES.iter().any(|end| name.ends_with(end)));
            facts.raw_counters.extend(counter);
        }
        // A subquery feeds a function of counters, and counting series reads no value.
        Expr::Subquery(_) => return,
        Expr::Aggregate(aggregate) if matches!(aggregate.op, AggregateOp::Count | AggregateOp::Group) => {
            return;
        }
        Expr::Call(call) if call.function.name.starts_with("absent") => return,
        _ => {}
    }
    expr.children().into_iter().for_each(|child| inspect_parts(child, facts));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the facts of a query as words.
    fn said(query: &str) -> String {
        let facts = facts(query).unwrap();
        let mut words: Vec<String> = Vec::new();
        words.extend(facts.not_additive.map(|what| what.to_string()));
        let flags = [
            (facts.may_return_many_series, "many"),
            (facts.is_share, "share"),
            (facts.is_scaled, "scaled"),
            (facts.loses_le, "no le"),
            (facts.may_vanish, "vanishes"),
        ];
        words.extend(flags.iter().filter(|(on, _)| *on).map(|(_, word)| (*word).to_owned()));
        words.extend(facts.raw_counters.iter().map(|counter| format!("raw {counter}")));
        words.join(", ")
    }

    #[test]
    fn facts_of_queries() {
        let quantile = "histogram_quantile(0.95, sum(rate(d_seconds_bucket[1m])) by (le))";
        for (query, expected) in [
            ("sum(rate(http_requests_total[1m]))", ""),
            (quantile, "a quantile"),
            (&format!("1000 * {quantile}"), "a quantile, scaled"),
            (&format!("max({quantile} or vector(0))"), "a quantile"),
            ("histogram_quantile(0.95, sum(rate(d_bucket[1m])))", "a quantile, no le"),
            ("histogram_quantile(0.95, sum(rate(native[1m])))", "a quantile"),
            ("histogram_quantile(0.95, sum by (le, job) (rate(d_bucket[1m])))", "a quantile, many"),
            ("histogram_quantile(0.95, sum by (le, job) (rate(d_bucket{job=\"m\"}[1m])))", "a quantile"),
            ("histogram_quantile(0.95, rate(d_bucket[1m]))", "a quantile, many"),
            ("rate(x_total[1m])", "many"),
            ("sum by (pod) (x)", "many"),
            ("sum without (pod) (x)", "many"),
            ("sum by (job) (x{job=\"a\"})", ""),
            ("sum by (job) (x{job=~\"a|b\"})", "many"),
            ("topk(1, x)", ""),
            ("topk(2, x)", "many"),
            ("avg(x)", "an average"),
            ("sum(rate(d_sum[1m])) / sum(rate(d_count[1m]))", "an average"),
            ("sum(rate(e_total{c=\"5\"}[1m])) / sum(rate(e_total[1m]))", "a ratio, share"),
            ("sum(a) / count(up)", "a ratio"),
            ("sum(x) > 5", "vanishes"),
            ("sum(x) > bool 5", ""),
            ("(sum(x) > 5) or vector(0)", ""),
            ("sum(x_total)", "raw x_total"),
            ("count(x_total)", ""),
            ("sum(max_over_time(rate(x_total[1m])[5m:10s]))", ""),
            ("vector(1)", ""),
            ("scalar(sum(x)) + 1", ""),
            ("sum(x) or vector(0)", ""),
            ("sum(a) * on() group_left sum(b)", ""),
        ] {
            assert_eq!(said(query), expected, "{query}");
        }
        assert_eq!(facts("sum("), None);
        assert_eq!(facts("rate(x[90s])").unwrap().range_windows, [Duration::from_secs(90)]);
        assert_eq!(facts("sum({__name__=\"x\"})").unwrap().metrics, ["x"]);
    }
}
