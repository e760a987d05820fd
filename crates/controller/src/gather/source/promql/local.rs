//! One query over our own store: kept up to date from second to second, and watched for targets that fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flyball_engine::Time;
use flyball_metrics::promql::{self, EngineOptions, LiveQuery, SampleValue, Value};
use flyball_metrics::{Labels, Store};
use k8s_openapi::api::core::v1::Pod;

use crate::features::Features;
use crate::gather::scrape::health::{Identity, ScrapeHealth, Scraped};
use crate::gather::source::answer::Answer;

/// Series whose newest sample is older than this do not count as fresh: NaN over them says nothing.
const FRESH_MS: i64 = 60_000;

/// What an answer from our own store is judged by: the health of the scrape targets, and the pods that the trigger scales.
#[derive(Clone, Copy)]
pub(crate) struct SeriesOrigin<'a> {
    pub(crate) standing: &'a ScrapeHealth,
    pub(crate) pods: &'a [Arc<Pod>],
}

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
    pub(crate) fn read(&mut self, store: &mut Store, origin: SeriesOrigin<'_>, now: Time) -> Answer {
        let query = match &mut self.query {
            Ok(query) => query,
            Err(error) => return Answer::Failed(error.clone()),
        };
        let now_ms = now.as_millis() as i64;
        let result = query.evaluate(store, now_ms);
        let newest = newest_of_feeding(query);
        if let Some(down) = origin.standing.first_down(&self.fed_by) {
            let kept =
                |identity: &Identity| newest.contains_key(identity) || origin.standing.is_down(identity);
            self.fed_by.retain(kept);
            return match self.last {
                Some((value, at)) => Answer::Stale { value, at, why: down.to_string() },
                None => Answer::Unknown(down.to_string()),
            };
        }
        let is_fresh = newest.values().any(|newest_ms| now_ms - newest_ms <= FRESH_MS);
        self.fed_by = newest.into_keys().collect();
        let (value, warning) = match result {
            Ok(result) => (number(&self.text, result.value), result.annotations.warnings.into_iter().next()),
            Err(error) => return Answer::Failed(error.to_string()),
        };
        let answer = match value {
            Err(error) => Answer::Failed(error),
            Ok(None) => why_empty(query, store, origin, now_ms),
            Ok(Some(value)) if value.is_nan() && is_fresh => why_nan(query, store, now_ms),
            Ok(Some(value)) if value.is_nan() => {
                Answer::NotANumber("the query returns NaN, and its series have no new samples".to_owned())
            }
            Ok(Some(value)) => match warning.filter(|_| value.is_finite()) {
                Some(why) => Answer::Partial { value, why },
                None => Answer::Number(value),
            },
        };
        if let Answer::Number(value) = answer {
            self.last = Some((value, now));
        }
        answer
    }
}

/// The targets that the query's selectors match, with the time of their newest sample. Ended series do not count.
fn newest_of_feeding(query: &LiveQuery) -> BTreeMap<Identity, i64> {
    let mut newest = BTreeMap::new();
    for (labels, newest_ms) in query.sources() {
        let known = newest.entry(identity(labels)).or_insert(i64::MIN);
        *known = newest_ms.max(*known);
    }
    newest
}

fn identity(labels: &Labels) -> Identity {
    (labels.get("job").to_owned(), labels.get("instance").to_owned())
}

/// The number that a result is, if it is one; none if it has no series.
fn number(text: &str, result: Value) -> Result<Option<f64>, String> {
    let samples = match result {
        Value::Scalar(sample) => return Ok(Some(sample.value)),
        Value::Vector(samples) => samples,
        Value::String { .. } | Value::Matrix(_) => {
            return Err(format!("prometheus query {text} is no instant vector or scalar"));
        }
    };
    match samples.as_slice() {
        [] => Ok(None),
        [one] => match one.value {
            SampleValue::Float(value) => Ok(Some(value)),
            SampleValue::Histogram(_) => Err(format!(
                "prometheus query {text} returns a native histogram: take a number from it, as with histogram_quantile(0.95, …)"
            )),
        },
        several => Err(format!(
            "prometheus query {text} returned multiple elements ({}): aggregate them, as in sum(…)",
            several.len()
        )),
    }
}

/// What NaN over fresh series says: nothing happened, as in the quantile of no requests; unless a series is itself NaN, which
/// says nothing. Quantiles of a summary are NaN while nothing happens.
fn why_nan(query: &LiveQuery, store: &Store, now_ms: i64) -> Answer {
    for (selector, _) in query.expr().selectors() {
        for series in store.select(&selector.matchers) {
            let Some(newest) = series.newest().filter(|sample| !sample.is_stale_marker()) else { continue };
            let is_fresh = now_ms - newest.timestamp_ms <= FRESH_MS;
            let is_quantile = !series.labels().get("quantile").is_empty();
            if newest.value.is_nan() && is_fresh && !is_quantile {
                return Answer::NotANumber(format!("{} itself is NaN", series.labels()));
            }
        }
    }
    Answer::Nothing
}

/// What no series says. Whether the target's own pods are scraped comes first: most often the series are theirs. As long as
/// none of them has answered, or a target is silent that had such series, before a restart for one, nothing is known.
fn why_empty(query: &LiveQuery, store: &Store, origin: SeriesOrigin<'_>, now_ms: i64) -> Answer {
    let why = promql::why_empty(&promql::explain(store, query.expr(), now_ms, &EngineOptions::default()));
    let selected =
        query.expr().selectors().into_iter().flat_map(|(selector, _)| store.select(&selector.matchers));
    let once: BTreeSet<Identity> = selected.map(|series| identity(series.labels())).collect();
    if let Some(down) = origin.standing.first_down(&once) {
        return Answer::Unknown(format!("{down}; {why}"));
    }
    let scraped = origin.standing.of_pods(origin.pods);
    let why = match scraped.sentence() {
        Some(sentence) => format!("{sentence}; {why}"),
        None => why,
    };
    match scraped {
        Scraped::NeverYet(_) => Answer::Unknown(why),
        Scraped::NoPods | Scraped::NoTargets | Scraped::Well(_) => Answer::Empty(why),
    }
}

#[cfg(test)]
mod tests {
    use flyball_metrics::{Sample, StoreOptions};

    use super::*;
    use crate::gather::scrape::target::ScrapeTarget;

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

    /// The answer of a query while these targets, by their jobs, cannot be scraped.
    fn read(query: &mut LocalQuery, store: &mut Store, down: &[&str], at: Time) -> Answer {
        let standing = ScrapeHealth::default();
        for (number, job) in (0..).zip(down) {
            let labels = [("job", *job), ("instance", "a:1")];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            standing.add(
                number,
                &ScrapeTarget { url: "http://a:1/".to_owned(), labels, ..ScrapeTarget::default() },
            );
            standing.scraped(number, "refused");
        }
        query.read(store, SeriesOrigin { standing: &standing, pods: &[] }, at)
    }

    fn check(query: &str, per_second: f64, at_seconds: u64, expected: &Answer) {
        let mut asked = LocalQuery::new(query, &Features::default());
        let answer = read(&mut asked, &mut store(per_second), &[], Time::from_seconds(at_seconds));
        assert_eq!(answer, *expected, "{query} at {at_seconds}");
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
        let mut several = LocalQuery::new("seconds_bucket", &Features::default());
        let several = read(&mut several, &mut store(1.0), &[], Time::from_seconds(60));
        assert!(matches!(several, Answer::Failed(error) if error.contains("multiple elements (2)")));
    }

    #[test]
    fn an_empty_result_says_nothing_while_a_target_that_had_such_series_is_silent() {
        let mut store = store(2.0);
        let query = || LocalQuery::new("sum(rate(seconds_bucket[10s]))", &Features::default());
        let later = Time::from_seconds(600);
        assert!(matches!(read(&mut query(), &mut store, &["other"], later), Answer::Empty(_)));
        let answer = read(&mut query(), &mut store, &["model"], later);
        assert!(
            matches!(&answer, Answer::Unknown(why) if why.starts_with("http://a:1/ cannot be scraped: refused; ")),
            "{answer:?}"
        );
    }

    #[test]
    fn a_series_that_is_nan_itself_is_not_idle() {
        let check = |name: &str, label: (&str, &str), is_idle: bool| {
            let mut store = Store::new(StoreOptions::default());
            let labels = Labels::new([("__name__", name), ("job", "model"), ("instance", "a:1"), label]);
            store.append_to(&labels, Sample::new(60_000, f64::NAN)).unwrap();
            let mut query = LocalQuery::new(&format!("max({name})"), &Features::default());
            let answer = read(&mut query, &mut store, &[], Time::from_seconds(60));
            assert_eq!(answer == Answer::Nothing, is_idle, "{name}: {answer:?}");
        };
        check("queue_length", ("queue", "a"), false);
        check("request_seconds", ("quantile", "0.95"), true);
    }

    #[test]
    fn a_target_that_cannot_be_scraped_makes_the_answer_stale() {
        let mut store = store(2.0);
        let mut query = LocalQuery::new("sum(rate(seconds_bucket{le=\"+Inf\"}[10s]))", &Features::default());
        let at = Time::from_seconds(60);
        assert_eq!(read(&mut query, &mut store, &[], at), Answer::Number(2.0));
        assert_eq!(read(&mut query, &mut store, &["other"], at), Answer::Number(2.0));
        let later = Time::from_seconds(62);
        let why = "http://a:1/ cannot be scraped: refused".to_owned();
        assert_eq!(read(&mut query, &mut store, &["model"], later), Answer::Stale { value: 2.0, at, why });
        assert!(matches!(read(&mut query, &mut store, &[], later), Answer::Number(_)));
    }
}
