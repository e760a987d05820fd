//! `label_replace` and `label_join`: new labels from old ones.

use regex::Regex;

use crate::labels::{Labels, METRIC_NAME};
use crate::matcher::anchored_regex;
use crate::promql::ast::Expr;
use crate::promql::error::QueryError;
use crate::promql::eval::Evaluator;
use crate::promql::grid::{Grid, Name, Row};

/// A string argument; text that is not UTF-8 keeps its bytes as replacement characters and is no valid label name.
pub(in crate::promql) fn string_argument(expr: &Expr) -> (String, bool) {
    match expr.unwrap_parens() {
        Expr::String(literal) => (
            String::from_utf8_lossy(&literal.value).into_owned(),
            std::str::from_utf8(&literal.value).is_ok(),
        ),
        _ => (String::new(), false),
    }
}

fn label_name(expr: &Expr, role: &str, function: &str) -> Result<String, QueryError> {
    match string_argument(expr) {
        (name, true) if !name.is_empty() => Ok(name),
        (name, _) => Err(QueryError::Execution(format!("invalid {role} label name in {function}(): {name}"))),
    }
}

fn set(evaluator: &Evaluator<'_>, row: &Row, destination: &str, value: &str) -> Result<Row, QueryError> {
    let name = if destination == METRIC_NAME { Name::Kept } else { row.name };
    let labels = if destination == METRIC_NAME { row.visible() } else { row.labels.clone() };
    let labels = labels.with(destination, value);
    evaluator.charge_labels(&labels)?;
    Ok(Row { labels, name })
}

/// Bytes of a label's new value. Calls in each other could double it each time.
const LABEL_BYTES_MAX: usize = 1 << 20;

/// Refuses a label's new value that would be too large before it is made, and takes its bytes from the query's budget.
fn charge(evaluator: &Evaluator<'_>, bytes: usize) -> Result<(), QueryError> {
    if bytes > LABEL_BYTES_MAX {
        let message = format!("a label's new value may take {bytes} bytes, more than {LABEL_BYTES_MAX}");
        return Err(QueryError::Execution(message));
    }
    evaluator.charge(bytes / size_of::<f64>())
}

/// `label_replace(v, dst, replacement, src, regex)`: where `regex` matches all of `src`, sets `dst`.
pub(in crate::promql) fn label_replace(
    evaluator: &Evaluator<'_>,
    args: &[Expr],
    mut grid: Grid,
) -> Result<Grid, QueryError> {
    let (pattern, _) = string_argument(&args[4]);
    let regex: Regex = anchored_regex(&pattern).map_err(|_| {
        QueryError::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
    })?;
    let destination = label_name(&args[1], "destination", "label_replace")?;
    let (replacement, _) = string_argument(&args[2]);
    let (source, _) = string_argument(&args[3]);
    let references = replacement.bytes().filter(|byte| *byte == b'$').count();
    grid.one_metric = false;
    for row in &mut grid.rows {
        let source = row.get(&source);
        let Some(captures) = regex.captures(source) else { continue };
        charge(evaluator, replacement.len().saturating_add(references.saturating_mul(source.len())))?;
        let mut value = String::new();
        captures.expand(&replacement, &mut value);
        *row = set(evaluator, row, &destination, &value)?;
    }
    grid.join_equal()
}

/// `label_join(v, dst, separator, src…)`: sets `dst` to the values of `src`, joined.
pub(in crate::promql) fn label_join(
    evaluator: &Evaluator<'_>,
    args: &[Expr],
    mut grid: Grid,
) -> Result<Grid, QueryError> {
    let destination = label_name(&args[1], "destination", "label_join")?;
    let (separator, _) = string_argument(&args[2]);
    let sources = args[3..].iter().map(|arg| label_name(arg, "source", "label_join"));
    let sources: Vec<String> = sources.collect::<Result<_, _>>()?;
    grid.one_metric = false;
    for row in &mut grid.rows {
        charge(evaluator, sources.iter().map(|source| row.get(source).len() + separator.len()).sum())?;
        let value = sources.iter().map(|source| row.get(source)).collect::<Vec<_>>().join(&separator);
        *row = set(evaluator, row, &destination, &value)?;
    }
    grid.join_equal()
}

/// The labels of `absent(selector)`: those that `=` conditions name, each named once.
pub(in crate::promql) fn labels_of_absent(expr: &Expr) -> Labels {
    let matchers = match expr.unwrap_parens() {
        Expr::Vector(selector) => &selector.matchers,
        Expr::Matrix(matrix) => &matrix.vector.matchers,
        _ => return Labels::empty(),
    };
    let named = matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME);
    // Selectors have few matchers.
    let once = |name: &str| matchers.iter().filter(|matcher| matcher.name() == name).count() == 1;
    Labels::new(named.filter(|m| once(m.name())).filter_map(|m| Some((m.name(), m.equal_value()?))))
}
