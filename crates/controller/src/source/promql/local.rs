//! One query over our own store: kept up to date from second to second, and watched for targets that fail.

use std::collections::{BTreeMap, BTreeSet};

use flyball_engine::{Reading, Time};
use flyball_metrics::Store;
use flyball_metrics::promql::{self, EngineOptions, LiveQuery, QueryResult, SampleValue, Value};

use crate::features::Features;
use crate::source::promql::{Answer, Down, Identity};

/// Series whose newest sample is older than this do not count as fresh: NaN over them says nothing.
const FRESH_MS: i64 = 60_000;

/// A query, the targets that feed it, and its last number.
pub(crate) struct LocalQuery {
    text: String,
    query: Result<LiveQuery, String>,
    fed_by: BTreeSet<Identity>,
    last: Option<(f64, Time)>,
}

impl LocalQuery {
    pub(crate) fn new(text: &str, features: &Features) -> LocalQuery {
        let parsed = features.parse(text).map_err(|error| error.to_string());
        let query = parsed.map(|expr| LiveQuery::of_parsed(text, expr, features.engine()));
        LocalQuery { text: text.to_owned(), query, fed_by: BTreeSet::new(), last: None }
    }

    /// Ends it: the store keeps nothing for it any more.
    pub(crate) fn close(self, store: &mut Store) {
        if let Ok(query) = self.query {
            query.close(store);
        }
    }

    /// Bytes that it holds to be evaluated quickly.
    pub(crate) fn bytes(&self) -> usize {
        self.query.as_ref().map_or(0, LiveQuery::bytes)
    }

    /// Gives them back, and is evaluated slowly from now on.
    pub(crate) fn shed(&mut self) {
        if let Ok(query) = &mut self.query {
            query.shed();
        }
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
    pub(crate) fn read(&mut self, store: &mut Store, down: &[Down], now: Time) -> Result<Answer, Reading> {
        let query = match &mut self.query {
            Ok(query) => query,
            Err(error) => return Ok(Answer::Failed(error.clone())),
        };
        let now_ms = now.as_millis() as i64;
        let result = query.evaluate(store, now_ms);
        let newest = newest_of_feeding(query);
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
        let answer = match result {
            Ok(result) => answer(&self.text, result, is_fresh)
                .unwrap_or_else(|| Answer::Empty(why_empty(query, store, now_ms))),
            Err(error) => Answer::Failed(error.to_string()),
        };
        if let Answer::Number(value) = answer {
            self.last = Some((value, now));
        }
        Ok(answer)
    }
}

/// The targets that the query's selectors match, with the time of their newest sample. Ended series do not count.
fn newest_of_feeding(query: &LiveQuery) -> BTreeMap<Identity, i64> {
    let mut newest = BTreeMap::new();
    for (labels, newest_ms) in query.sources() {
        let identity = (labels.get("job").to_owned(), labels.get("instance").to_owned());
        let known = newest.entry(identity).or_insert(i64::MIN);
        *known = newest_ms.max(*known);
    }
    newest
}

/// The number that a result is, if it is one; `None` if it has no series.
fn answer(text: &str, result: QueryResult, is_fresh: bool) -> Option<Answer> {
    let value = match result.value {
        Value::Scalar(sample) => sample.value,
        Value::Vector(samples) => match samples.as_slice() {
            [] => return None,
            [one] => match one.value {
                SampleValue::Float(value) => value,
                SampleValue::Histogram(_) => {
                    return Some(Answer::Failed(format!(
                        "prometheus query {text} returns a native histogram: take a number from it, as with histogram_quantile(0.95, …)"
                    )));
                }
            },
            several => {
                return Some(Answer::Failed(format!(
                    "prometheus query {text} returned multiple elements ({}): aggregate them, as in sum(…)",
                    several.len()
                )));
            }
        },
        Value::String { .. } | Value::Matrix(_) => {
            return Some(Answer::Failed(format!("prometheus query {text} is no instant vector or scalar")));
        }
    };
    Some(match value.is_nan() && is_fresh {
        true => Answer::Nothing,
        false if value.is_nan() => {
            Answer::Empty("the query returns NaN, and its series have no new samples".to_owned())
        }
        false => Answer::Number(value),
    })
}

fn why_empty(query: &LiveQuery, store: &Store, now_ms: i64) -> String {
    promql::why_empty(&promql::explain(store, query.expr(), now_ms, &EngineOptions::default()))
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
        let read = LocalQuery::new(query, &Features::default()).read(
            &mut store(per_second),
            &[],
            Time::from_seconds(at_seconds),
        );
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
            &empty(
                "seconds_bucket{job=\"modle\",le=\"+Inf\"}[10s]: no series has job=\"modle\"; near: model",
            ),
        );
        check(
            "sum(rate(seconds_bucket[10s]))",
            2.0,
            100,
            &empty("seconds_bucket[10s]: the newest sample is 40 s old"),
        );
        let several = LocalQuery::new("seconds_bucket", &Features::default()).read(
            &mut store(1.0),
            &[],
            Time::from_seconds(60),
        );
        assert!(matches!(several, Ok(Answer::Failed(error)) if error.contains("multiple elements (2)")));
    }

    #[test]
    fn a_target_that_cannot_be_scraped_makes_the_answer_stale() {
        let mut store = store(2.0);
        let mut query = LocalQuery::new("sum(rate(seconds_bucket{le=\"+Inf\"}[10s]))", &Features::default());
        let down = |job: &str| Down {
            identity: (job.to_owned(), "a:1".to_owned()),
            url: "http://a:1/".to_owned(),
            error: "refused".to_owned(),
        };
        let at = Time::from_seconds(60);
        assert_eq!(query.read(&mut store, &[], at), Ok(Answer::Number(2.0)));
        assert_eq!(query.read(&mut store, &[down("other")], at), Ok(Answer::Number(2.0)));
        let later = Time::from_seconds(62);
        assert_eq!(query.read(&mut store, &[down("model")], later), Err(Reading::Stale { last: 2.0, at }));
        assert!(matches!(query.read(&mut store, &[], later), Ok(Answer::Number(_))));
    }
}
