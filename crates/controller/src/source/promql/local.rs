//! One query over our own store: parsed once, evaluated every second, and watched for targets that fail.

use std::collections::{BTreeMap, BTreeSet};

use flyball_engine::{Reading, Time};
use flyball_metrics::Store;
use flyball_metrics::promql::{self, Expr};

use crate::source::promql::{Answer, Down, Identity};

/// Series whose newest sample is older than this do not count as fresh: NaN over them says nothing.
const FRESH_MS: i64 = 60_000;

/// A parsed query, the targets that feed it, and its last number.
pub(super) struct LocalQuery {
    expr: Result<Expr, String>,
    fed_by: BTreeSet<Identity>,
    last: Option<(f64, Time)>,
}

impl LocalQuery {
    pub(super) fn new(text: &str) -> LocalQuery {
        let expr = promql::parse(text).map_err(|error| error.to_string());
        LocalQuery { expr, fed_by: BTreeSet::new(), last: None }
    }

    /// The targets whose series the query selected, since they were last scraped well.
    pub(super) fn fed_by(&self) -> &BTreeSet<Identity> {
        &self.fed_by
    }

    /// The query's answer now; or that it is stale, because a target that fed it cannot be scraped, so that the answer
    /// would lack its part. Targets that have left are not among those, and their absence is no failure.
    ///
    /// # Errors
    /// The reading to take instead of an answer.
    pub(super) fn read(&mut self, store: &Store, down: &[Down], now: Time) -> Result<Answer, Reading> {
        let expr = match &self.expr {
            Ok(expr) => expr,
            Err(error) => return Ok(Answer::Failed(error.clone())),
        };
        let now_ms = now.as_millis() as i64;
        let newest = newest_of_feeding(expr, store);
        let is_fresh = newest.values().any(|newest_ms| now_ms - newest_ms <= FRESH_MS);
        let failing = down.iter().find(|down| self.fed_by.contains(&down.identity));
        if let Some(failing) = failing {
            let kept = |identity: &Identity| newest.contains_key(identity) || down.iter().any(|d| d.identity == *identity);
            self.fed_by.retain(kept);
            return Err(match self.last {
                Some((last, at)) => Reading::Stale { last, at },
                None => Reading::Missing { why: format!("{} cannot be scraped: {}", failing.url, failing.error) },
            });
        }
        self.fed_by = newest.into_keys().collect();
        let answer = evaluate(expr, store, now_ms, is_fresh);
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
            let Some(sample) = series.newest().filter(|sample| !sample.is_stale_marker()) else { continue };
            let labels = series.labels();
            let identity = (labels.get("job").to_owned(), labels.get("instance").to_owned());
            let known = newest.entry(identity).or_insert(i64::MIN);
            *known = sample.timestamp_ms.max(*known);
        }
    }
    newest
}
