//! What is kept of a metric's readings, and whether it can be used.
//!
//! Failures are counted in time, once in each polling interval, however often the metric is read: with KEDA's numbers
//! a `failureThreshold` of 3 is three intervals, not three seconds. (KEDA counts each request of the
//! HorizontalPodAutoscaler too, which its documentation does not say; ours is what it says.)

use crate::metric::Metric;
use crate::milli::Milli;
use crate::observation::Reading;
use crate::pod::Pod;
use crate::policy::Policy;
use crate::reason::Cause;
use crate::recommend::per_pod::PodTable;
use crate::time::Time;

/// The latest reading of a metric.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    reading: Option<Reading>,
    table: PodTable,
    /// The time of the newest pod's value.
    newest: Option<Time>,
    /// Since when there has been no value.
    unavailable_since: Option<Time>,
}

/// What can be computed with.
pub(crate) enum Usable<'a> {
    Total(f64),
    /// As much as this, and maybe more; and the source's words.
    Partial(f64, &'a str),
    /// Zero, because the source says that nothing happened.
    Idle,
    PerPod(&'a PodTable),
}

impl Kept {
    /// Nothing has been read at `now`.
    pub(crate) fn nothing(now: Time) -> Self {
        Self { unavailable_since: Some(now), ..Self::default() }
    }

    /// Takes in a reading made at `now`.
    pub(crate) fn take(&mut self, now: Time, reading: Reading, metric: &Metric, pods: &[Pod]) {
        let available =
            matches!(reading, Reading::Value { .. } | Reading::PerPod { .. } | Reading::Idle { .. });
        self.unavailable_since = if available { None } else { self.unavailable_since.or(Some(now)) };
        self.newest = match &reading {
            Reading::PerPod { values, .. } => values.iter().map(|own| own.at).max(),
            _ => None,
        };
        self.reading = Some(reading);
        self.join(metric, pods);
    }

    /// Brings the pods' values into the order of `pods`, after either changed.
    pub(crate) fn join(&mut self, metric: &Metric, pods: &[Pod]) {
        if let Some(Reading::PerPod { values, .. }) = &self.reading {
            self.table = PodTable::new(metric.source(), metric.target(), pods, values);
        }
    }

    /// The value, or why there is none at `now`.
    pub(crate) fn usable(&self, now: Time, metric: &Metric) -> Result<Usable<'_>, Cause> {
        let per_pod = metric.source().is_per_pod();
        let reading = self.reading.as_ref().ok_or(Cause::NotRead)?;
        if self.expired(now, metric).is_some() {
            let last = reading.total().unwrap_or_default();
            return Err(stale(last, self.sampled_at().unwrap_or_default(), ""));
        }
        match reading {
            Reading::Missing { why } => Err(Cause::Missing(why.clone())),
            Reading::Stale { last, at, why } => Err(stale(*last, *at, why)),
            Reading::Failed { error } => Err(Cause::Failed(error.clone())),
            Reading::Value { value, .. } | Reading::Partial { value, .. } if !value.is_finite() => {
                Err(Cause::Failed(format!("it reads {value}, which is no amount")))
            }
            Reading::PerPod { .. } if per_pod => Ok(Usable::PerPod(&self.table)),
            Reading::Value { .. } | Reading::Partial { .. } | Reading::Idle { .. } if per_pod => {
                Err(Cause::Failed("one value was read where each pod has its own".to_owned()))
            }
            Reading::Idle { .. } => Ok(Usable::Idle),
            Reading::Partial { value, why, .. } => Ok(Usable::Partial(*value, why)),
            Reading::Value { .. } | Reading::PerPod { .. } => {
                Ok(Usable::Total(reading.total().unwrap_or_default()))
            }
        }
    }

    /// Since when it could not be used; none if it can be.
    pub(crate) fn unavailable_since(&self, now: Time, metric: &Metric) -> Option<Time> {
        self.unavailable_since.or_else(|| self.expired(now, metric))
    }

    /// Consecutive failures up to `now`.
    pub(crate) fn failures(&self, now: Time, metric: &Metric, policy: &Policy) -> u32 {
        let Some(since) = self.unavailable_since(now, metric) else { return 0 };
        let interval = policy.activation.as_ref().map_or(policy.evaluate_every, |own| own.polling_interval);
        let passed = now.since(since).as_millis() / interval.as_millis().max(1);
        u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// When the value grew too old, if it has.
    fn expired(&self, now: Time, metric: &Metric) -> Option<Time> {
        let expires = self.sampled_at()? + metric.age_max?;
        (expires < now).then_some(expires)
    }

    /// The time of the value, if there is one.
    fn sampled_at(&self) -> Option<Time> {
        match self.reading.as_ref()? {
            Reading::Value { at, .. } | Reading::Partial { at, .. } | Reading::Idle { at } => Some(*at),
            Reading::PerPod { at, .. } => Some(self.newest.unwrap_or(*at)),
            Reading::Missing { .. } | Reading::Stale { .. } | Reading::Failed { .. } => None,
        }
    }
}

fn stale(last: f64, at: Time, why: &str) -> Cause {
    Cause::Stale { last: Milli::from_reading(last), at, why: why.to_owned() }
}

impl Reading {
    /// What it says of the whole target, if it says anything.
    pub fn total(&self) -> Option<f64> {
        match self {
            Self::Value { value, .. } | Self::Partial { value, .. } => Some(*value),
            Self::Idle { .. } => Some(0.0),
            Self::PerPod { values, .. } => Some(values.iter().map(|own| own.value).sum::<Milli>().as_f64()),
            Self::Missing { .. } | Self::Stale { .. } | Self::Failed { .. } => None,
        }
    }
}
