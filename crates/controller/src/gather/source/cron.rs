//! The reading of a cron trigger: the replicas of its window, by the clock.

use flyball_api::trigger::cron::Cron;
use flyball_engine::{Reading, Time};
use jiff::Timestamp;

/// Returns the replicas that the schedule asks for now.
pub(super) fn read(cron: &Cron, now: Time) -> Reading {
    match Timestamp::from_millisecond(now.as_millis() as i64) {
        Ok(at) => Reading::Value { value: cron.value(at), at: now },
        Err(error) => Reading::Failed { error: error.to_string() },
    }
}
