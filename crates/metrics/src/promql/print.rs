//! The printer: a syntax tree as Prometheus writes it, so that `parse(e.to_string())` is `e` again.

use std::fmt;

use super::ast::*;
use crate::text::{format_duration_ms, format_general, format_plain, is_legacy_label_name, quote};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Number(number) => number.fmt(f),
            Expr::String(string) => f.write_str(&quote(&string.value)),
            Expr::Paren(inner, _) => write!(f, "({inner})"),
            Expr::Unary(unary) => write!(f, "{}{}", if unary.negative { "-" } else { "+" }, unary.expr),
            Expr::Binary(binary) => binary.fmt(f),
            Expr::Aggregate(aggregate) => aggregate.fmt(f),
            Expr::Call(call) => write!(f, "{}({})", call.function.name, join(&call.args)),
            Expr::Vector(selector) => {
                let TimeShift { at, offset } = &selector.shift;
                let extension = ExtensionText(selector.extension);
                write!(f, "{}{}{extension}{}", SelectorText(selector), AtText(*at), OffsetText(offset))
            }
            Expr::Matrix(matrix) => {
                let MatrixSelector { vector, range, .. } = &**matrix;
                let (text, extension) = (SelectorText(vector), ExtensionText(vector.extension));
                write!(f, "{text}[{}]{extension}{}", Bare(range), vector.shift)
            }
            Expr::Subquery(subquery) => {
                write!(f, "{}[{}:", subquery.expr, Bare(&subquery.range))?;
                if let Some(step) = &subquery.step {
                    write!(f, "{}", Bare(step))?;
                }
                write!(f, "]{}", subquery.shift)
            }
        }
    }
}

impl fmt::Display for NumberLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_duration {
            f.write_str(&format_duration_ms((self.value * 1_000.0).round() as i64))
        } else {
            f.write_str(&format_plain(self.value))
        }
    }
}

impl fmt::Display for BinaryExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bool_text = if self.return_bool { " bool" } else { "" };
        write!(f, "{} {}{bool_text}{} {}", self.lhs, self.op.symbol(), self.matching, self.rhs)
    }
}

impl fmt::Display for VectorMatching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.on || !self.labels.is_empty() {
            let keyword = if self.on { "on" } else { "ignoring" };
            write!(f, " {keyword} ({})", label_list(&self.labels))?;
        }
        match self.cardinality {
            Cardinality::OneToOne => {}
            Cardinality::ManyToOne => write!(f, " group_left ({})", label_list(&self.include))?,
            Cardinality::OneToMany => write!(f, " group_right ({})", label_list(&self.include))?,
        }
        self.fill.fmt(f)
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.left, self.right) {
            (Some(left), Some(right)) if left == right => write!(f, " fill ({})", format_general(left)),
            (left, right) => {
                left.map_or(Ok(()), |left| write!(f, " fill_left ({})", format_general(left)))?;
                right.map_or(Ok(()), |right| write!(f, " fill_right ({})", format_general(right)))
            }
        }
    }
}

impl fmt::Display for AggregateExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.name())?;
        if self.without {
            write!(f, " without ({}) ", label_list(&self.grouping))?;
        } else if !self.grouping.is_empty() {
            write!(f, " by ({}) ", label_list(&self.grouping))?;
        }
        match &self.parameter {
            Some(parameter) => write!(f, "({parameter}, {})", self.expr),
            None => write!(f, "({})", self.expr),
        }
    }
}

impl fmt::Display for TimeShift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", AtText(self.at), OffsetText(&self.offset))
    }
}

struct AtText(Option<At>);

impl fmt::Display for AtText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(At::Time(ms)) => {
                let sign = if ms < 0 { "-" } else { "" };
                let ms = ms.unsigned_abs();
                write!(f, " @ {sign}{}.{:03}", ms / 1_000, ms % 1_000)
            }
            Some(At::Start) => f.write_str(" @ start()"),
            Some(At::End) => f.write_str(" @ end()"),
            None => Ok(()),
        }
    }
}

struct OffsetText<'a>(&'a Option<DurationExpr>);

impl fmt::Display for OffsetText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(DurationExpr::Number(number)) if number.value == 0.0 => Ok(()),
            Some(offset) => write!(f, " offset {}", Bare(offset)),
            None => Ok(()),
        }
    }
}

struct ExtensionText(Option<Extension>);

impl fmt::Display for ExtensionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |extension| write!(f, " {}", extension.keyword()))
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurationExpr::Number(number) => number.fmt(f),
            DurationExpr::Step(_) => f.write_str("step()"),
            DurationExpr::Range(_) => f.write_str("range()"),
            DurationExpr::Unary(negative, inner, _) => {
                write!(f, "{}{inner}", if *negative { "-" } else { "" })
            }
            DurationExpr::Binary(op, lhs, rhs) => write!(f, "{lhs} {} {rhs}", op.symbol()),
            DurationExpr::Extreme(max, lhs, rhs, _) => {
                write!(f, "{}({lhs}, {rhs})", if *max { "max_of" } else { "min_of" })
            }
            DurationExpr::Paren(inner, _) => write!(f, "({inner})"),
        }
    }
}

/// A duration that stands alone: a plain number is written as a duration (`[300]` is `[5m]`).
struct Bare<'a>(&'a DurationExpr);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DurationExpr::Number(number) => {
                f.write_str(&format_duration_ms((number.value * 1_000.0).round() as i64))
            }
            other => other.fmt(f),
        }
    }
}

/// A selector without `@` and `offset`.
struct SelectorText<'a>(&'a VectorSelector);

impl fmt::Display for SelectorText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.name.as_deref().unwrap_or_default();
        f.write_str(name)?;
        let implied = |matcher: &&crate::Matcher| matcher.is_metric_name() && matcher.value() == name;
        let others = self.0.matchers.iter().filter(|matcher| !implied(matcher));
        let mut others: Vec<String> = others.map(ToString::to_string).collect();
        others.sort_unstable();
        if others.is_empty() { Ok(()) } else { write!(f, "{{{}}}", others.join(",")) }
    }
}

fn join(parts: &[impl ToString]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn label_list(labels: &[String]) -> String {
    let text =
        |label: &String| if is_legacy_label_name(label) { label.clone() } else { quote(label.as_bytes()) };
    labels.iter().map(text).collect::<Vec<_>>().join(", ")
}
