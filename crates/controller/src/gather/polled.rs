//! Triggers with `useCachedMetrics` are read once in a polling interval and keep their reading until the next, as KEDA
//! answers the HorizontalPodAutoscaler from its last poll. All others are read in every round. Pure.

use std::collections::BTreeMap;

use flyball_api::plan::Query;
use flyball_engine::{MetricName, TargetId, Time};

/// When each cached trigger was last read.
#[derive(Debug, Default)]
pub(crate) struct PolledReadings(BTreeMap<(TargetId, MetricName), Time>);

impl PolledReadings {
    /// Whether the last reading still holds; else this one is taken down as made now.
    pub(crate) fn is_recent(&mut self, target: &TargetId, query: &Query, now: Time) -> bool {
        let Some(interval) = query.keep_for else { return false };
        let read_at = self.0.entry((target.clone(), query.metric.clone())).or_default();
        if *read_at != Time::default() && now.since(*read_at) < interval {
            return true;
        }
        *read_at = now;
        false
    }

    /// Forgets the triggers of targets that are gone, so that they are read at once when they come back.
    pub(crate) fn keep_only(&mut self, is_known: impl Fn(&TargetId) -> bool) {
        self.0.retain(|(target, _), _| is_known(target));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flyball_api::plan::Ask;

    use super::*;

    #[test]
    fn a_cached_trigger_is_read_once_in_a_polling_interval() {
        let target = TargetId::new("Deployment", "default", "model");
        let query = |keep_for| Query {
            metric: "s0-prometheus".into(),
            ask: Ask::Resource { resource: "cpu".to_owned(), container: None },
            keep_for,
        };
        let cached = query(Some(Duration::from_secs(30)));
        let mut polled = PolledReadings::default();
        let mut read_at = |query: &Query, seconds: &[u64]| -> Vec<u64> {
            let is_read = |second: &&u64| !polled.is_recent(&target, query, Time::from_seconds(**second));
            seconds.iter().filter(is_read).copied().collect()
        };
        assert_eq!(read_at(&cached, &[100, 101, 129, 130, 131, 160]), [100, 130, 160]);
        assert_eq!(read_at(&query(None), &[100, 101]), [100, 101]);
        polled.keep_only(|_| false);
        assert!(!polled.is_recent(&target, &cached, Time::from_seconds(161)), "a new target is read at once");
    }
}
