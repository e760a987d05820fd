//! What each step of an expression resulted in: the expression itself, and everything in it, evaluated alone.

use crate::labels::Labels;
use crate::promql::EngineOptions;
use crate::promql::ast::Expr;
use crate::promql::error::position;
use crate::promql::eval::{Evaluator, Times};
use crate::promql::source::{Reader, Source};
use crate::promql::value::{SampleValue, Value};

/// Steps that are told at most; each is a query of its own.
pub const STEPS_MAX: usize = 50;
/// Samples of each step that are told.
const EXAMPLES_MAX: usize = 3;

/// A part of an expression and its result at the time.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// How deep in the expression it stands; 0 is the whole.
    pub depth: usize,
    /// The part, as Prometheus writes it.
    pub text: String,
    /// Where it stands, from 1.
    pub line: usize,
    /// See `line`.
    pub column: usize,
    /// The type of the result: `scalar`, `vector`, `matrix`, `string`.
    pub kind: &'static str,
    /// Series in the result.
    pub series: usize,
    /// Samples in the result.
    pub samples: usize,
    /// Some of the samples, for a scalar or a vector.
    pub examples: Vec<(Labels, SampleValue)>,
    /// Why there is no result.
    pub error: Option<String>,
}

/// The steps of an expression, each before what it is made of. What stands inside a subquery is evaluated at the
/// query's time too, which is one of the times at which the subquery evaluates it.
pub fn steps<'a>(
    source: impl Into<Source<'a>>,
    query: &str,
    expr: &Expr,
    time_ms: i64,
    options: &EngineOptions,
) -> Vec<Step> {
    let mut found = Vec::new();
    match Reader::of(source.into(), expr, &options.stop) {
        Ok(reader) => push_steps(&Asked { reader: &reader, query, time_ms, options }, expr, 0, &mut found),
        Err(error) => found.push(Step { error: Some(error.to_string()), ..Step::of(query, expr, 0) }),
    }
    found
}

struct Asked<'a> {
    reader: &'a Reader<'a>,
    query: &'a str,
    time_ms: i64,
    options: &'a EngineOptions,
}

fn push_steps(asked: &Asked<'_>, expr: &Expr, depth: usize, found: &mut Vec<Step>) {
    // Literals say themselves what they are.
    if found.len() >= STEPS_MAX || matches!(expr, Expr::Number(_) | Expr::String(_)) {
        return;
    }
    if let Expr::Paren(inner, _) = expr {
        return push_steps(asked, inner, depth, found);
    }
    found.push(step(asked, expr, depth));
    for child in expr.children() {
        push_steps(asked, child, depth + 1, found);
    }
}

impl Step {
    /// A step without a result.
    fn of(query: &str, expr: &Expr, depth: usize) -> Step {
        let (line, column) = position(query, expr.span().start);
        Step {
            depth,
            text: expr.to_string(),
            line,
            column,
            kind: expr.value_type().api_name(),
            series: 0,
            samples: 0,
            examples: Vec::new(),
            error: None,
        }
    }
}

fn step(asked: &Asked<'_>, expr: &Expr, depth: usize) -> Step {
    let mut step = Step::of(asked.query, expr, depth);
    let times = Times::once(asked.time_ms);
    match Evaluator::new(asked.reader, asked.query, asked.options, times, 0).run(expr) {
        Ok(result) => fill(&mut step, result.value),
        Err(error) => step.error = Some(error.to_string()),
    }
    step
}

fn fill(step: &mut Step, value: Value) {
    match value {
        Value::Scalar(sample) => {
            step.samples = 1;
            step.examples = vec![(Labels::empty(), SampleValue::Float(sample.value))];
        }
        Value::String { .. } => step.samples = 1,
        Value::Vector(samples) => {
            (step.series, step.samples) = (samples.len(), samples.len());
            let examples = samples.into_iter().take(EXAMPLES_MAX);
            step.examples = examples.map(|sample| (sample.labels, sample.value)).collect();
        }
        Value::Matrix(series) => {
            step.series = series.len();
            step.samples = series.iter().map(|series| series.samples.len() + series.histograms.len()).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::steps;
    use crate::labels::Labels;
    use crate::promql::{EngineOptions, parse};
    use crate::sample::Sample;
    use crate::store::Store;

    #[test]
    fn each_step_is_told_before_what_it_is_made_of() {
        let mut store = Store::default();
        for pod in ["a", "b"] {
            let labels = Labels::new([("__name__", "requests_total"), ("pod", pod)]);
            for second in 0..=10 {
                store.append_to(&labels, Sample::new(second * 1_000, second as f64)).expect("in order");
            }
        }
        let query = "(sum(rate(requests_total[5s]))) > 1 + 1";
        let expr = parse(query).expect("valid");
        let found = steps(&store, query, &expr, 10_000, &EngineOptions::default());
        let told: Vec<_> = found
            .iter()
            .map(|step| (step.depth, step.column, step.kind, step.series, step.samples))
            .collect();
        assert_eq!(
            told,
            [
                (0, 1, "vector", 0, 0),
                (1, 2, "vector", 1, 1),
                (2, 6, "vector", 2, 2),
                (3, 11, "matrix", 2, 10),
                (1, 35, "scalar", 0, 1),
            ]
        );
        assert_eq!(found[3].text, "requests_total[5s]");
        assert_eq!(found[1].examples[0].1.to_string(), "2");
    }
}
