//! One query over our own store: parsed once, evaluated every second, and watched for targets that fail.

use std::collections::{BTreeMap, BTreeSet};

use flyball_engine::{Reading, Time};
use flyball_metrics::Store;
use flyball_metrics::promql::{self, EngineOptions, Expr, SampleValue, SelectorExplanation, Value};

use crate::source::promql::{Answer, Down, Identity};

/// Series whose newest sample is older than this do not count as fresh: NaN over them says nothing.
const FRESH_MS: i64 = 60_000;

/// A parsed query, the targets that feed it, and its last number.
pub(crate) struct LocalQuery {
    text: String,
    expr: Result<Expr, String>,
    fed_by: BTreeSet<Identity>,
    last: Option<(f64, Time)>,
}

impl LocalQuery {
    pub(crate) fn new(text: &str) -> LocalQuery {
        let expr = promql::parse(text).map_err(|error| error.to_string());
        LocalQuery { text: text.to_owned(), expr, fed_by: BTreeSet::new(), last: None }
    }

    /// The targets whose series the query selected, since they were last scraped well.
    pub(crate) fn fed_by(&self) -> &BTreeSet<Identity> {
        &self.fed_by
    }

    /// The query's answer now; or that it is stale, because a target that fed it cannot be scraped, so that the answer
    /// would lack its part. Targets that have left are not among those, and their absence is no failure.
    ///
    /// # Errors
    /// The reading to take instead of an answer.
    pub(crate) fn read(&mut self, store: &Store, down: &[Down], now: Time) -> Result<Answer, Reading> {
        let expr = match &self.expr {
            Ok(expr) => expr,
            Err(error) => return Ok(Answer::Failed(error.clone())),
        };
        let now_ms = now.as_millis() as i64;
        let newest = newest_of_feeding(expr, store);
        let is_fresh = newest.values().any(|newest_ms| now_ms - newest_ms <= FRESH_MS);
        let failing = down.iter().find(|down| self.fed_by.contains(&down.identity));
        if let Some(failing) = failing {
            let kept = |identity: &Identity| {
                newest.contains_key(identity) || down.iter().any(|d| d.identity == *identity)
            };
            self.fed_by.retain(kept);
            return Err(match self.last {
                Some((last, at)) => Reading::Stale { last, at },
                None => {
                    Reading::Missing { why: format!("{} cannot be scraped: {}", failing.url, failing.error) }
                }
            });
        }
        self.fed_by = newest.into_keys().collect();
        let answer = evaluate(&self.text, expr, store, now_ms, is_fresh);
        if let Answer::Number(value) = answer {
            self.last = Some((value, now));
        }
        Ok(answer)
    }
}

/// The targets that the query's selectors match, with the time of their newest sample. Ended series do not count.
fn newest_of_feeding(expr: &Expr, store: &Store) -> BTreeMap<Identity, i64> {
    let mut newest = BTreeMap::new();
    for (selector, _) in expr.selectors() {
        for series in store.select(&selector.matchers) {
            let Some(newest_ms) = series.alive_ms() else { continue };
            let labels = series.labels();
            let identity = (labels.get("job").to_owned(), labels.get("instance").to_owned());
            let known = newest.entry(identity).or_insert(i64::MIN);
            *known = newest_ms.max(*known);
        }
    }
    newest
}

fn evaluate(text: &str, expr: &Expr, store: &Store, now_ms: i64, is_fresh: bool) -> Answer {
    let options = EngineOptions::default();
    let result = match promql::eval_instant(store, text, expr, now_ms, &options) {
        Ok(result) => result,
        Err(error) => return Answer::Failed(error.to_string()),
    };
    let value = match result.value {
        Value::Scalar(sample) => sample.value,
        Value::Vector(samples) => match samples.as_slice() {
            [] => return Answer::Empty(why_empty(&promql::explain(store, expr, now_ms, &options), now_ms)),
            [one] => match one.value {
                SampleValue::Float(value) => value,
                SampleValue::Histogram(_) => {
                    return Answer::Failed(format!(
                        "prometheus query {text} returns a native histogram: take a number from it, as with histogram_quantile(0.95, …)"
                    ));
                }
            },
            several => {
                return Answer::Failed(format!(
                    "prometheus query {text} returned multiple elements ({}): aggregate them, as in sum(…)",
                    several.len()
                ));
            }
        },
        Value::String { .. } | Value::Matrix(_) => {
            return Answer::Failed(format!("prometheus query {text} is no instant vector or scalar"));
        }
    };
    match value.is_nan() && is_fresh {
        true => Answer::Nothing,
        false if value.is_nan() => {
            Answer::Empty("the query returns NaN, and its series have no new samples".to_owned())
        }
        false => Answer::Number(value),
    }
}

/// The cause of an empty result in one sentence: the first selector that found nothing, or too little.
fn why_empty(explanations: &[SelectorExplanation], now_ms: i64) -> String {
    let found_nothing = explanations.iter().find(|found| found.samples == 0);
    let Some(found) = found_nothing else {
        return match explanations.iter().find(|found| found.samples_min < 2) {
            Some(found) => format!("{} has fewer than two samples yet", found.selector),
            None => {
                "every selector has samples, and the operators between them let nothing through".to_owned()
            }
        };
    };
    let near = if found.nearest.is_empty() {
        String::new()
    } else {
        format!("; near: {}", found.nearest.join(", "))
    };
    match (found.newest_ms, &found.excluding_matcher) {
        (Some(newest_ms), _) => {
            format!("{}: the newest sample is {} s old", found.selector, (now_ms - newest_ms) / 1000)
        }
        (None, Some(matcher)) => format!("{}: no series matches {matcher}{near}", found.selector),
        (None, None) => format!("{} matches no series{near}", found.selector),
    }
}

#[cfg(test)]
mod tests {
    use flyball_metrics::{Labels, Sample, StoreOptions};

    use super::*;

    const P95: &str = "histogram_quantile(0.95, sum by (le) (rate(seconds_bucket[10s])))";

    /// A store in which one target counted requests for a minute, `per_second` of them.
    fn store(per_second: f64) -> Store {
        let mut store = Store::new(StoreOptions::default());
        for second in 0..=60 {
            for le in ["0.1", "+Inf"] {
                let pairs =
                    [("__name__", "seconds_bucket"), ("job", "model"), ("instance", "a:1"), ("le", le)];
                let sample = Sample::new(second * 1000, second as f64 * per_second);
                store.append_to(&Labels::new(pairs), sample).unwrap();
            }
        }
        store
    }

    fn check(query: &str, per_second: f64, at_seconds: u64, expected: &Answer) {
        let read = LocalQuery::new(query).read(&store(per_second), &[], Time::from_seconds(at_seconds));
        assert_eq!(read.as_ref(), Ok(expected), "{query} at {at_seconds}");
    }

    #[test]
    fn answers_tell_idle_from_missing() {
        check("sum(rate(seconds_bucket{le=\"+Inf\"}[10s]))", 2.0, 60, &Answer::Number(2.0));
        check("1 + 1", 2.0, 60, &Answer::Number(2.0));
        check(P95, 0.0, 60, &Answer::Nothing);
        let empty = |why: &str| Answer::Empty(why.to_owned());
        check(
            "sum(rate(second_bucket[10s]))",
            2.0,
            60,
            &empty("second_bucket[10s] matches no series; near: seconds_bucket"),
        );
        check(
            "rate(seconds_bucket{le=\"+Inf\",job=\"modle\"}[10s])",
            2.0,
            60,
            &empty("seconds_bucket{le=\"+Inf\",job=\"modle\"}[10s] matches no series; near: model"),
        );
        check(
            "sum(rate(seconds_bucket[10s]))",
            2.0,
            100,
            &empty("seconds_bucket[10s]: the newest sample is 40 s old"),
        );
        let several = LocalQuery::new("seconds_bucket").read(&store(1.0), &[], Time::from_seconds(60));
        assert!(matches!(several, Ok(Answer::Failed(error)) if error.contains("multiple elements (2)")));
    }

    #[test]
    fn a_target_that_cannot_be_scraped_makes_the_answer_stale() {
        let store = store(2.0);
        let mut query = LocalQuery::new("sum(rate(seconds_bucket{le=\"+Inf\"}[10s]))");
        let down = |job: &str| Down {
            identity: (job.to_owned(), "a:1".to_owned()),
            url: "http://a:1/".to_owned(),
            error: "refused".to_owned(),
        };
        let at = Time::from_seconds(60);
        assert_eq!(query.read(&store, &[], at), Ok(Answer::Number(2.0)));
        assert_eq!(query.read(&store, &[down("other")], at), Ok(Answer::Number(2.0)));
        let later = Time::from_seconds(62);
        assert_eq!(query.read(&store, &[down("model")], later), Err(Reading::Stale { last: 2.0, at }));
        assert!(matches!(query.read(&store, &[], later), Ok(Answer::Number(_))));
    }
}
