//! How somebody who has a clock ends a query that takes too long, or that nobody waits for any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::error::QueryError;

const RUNS: u8 = 0;
const TIMED_OUT: u8 = 1;
const CANCELED: u8 = 2;

/// A switch that a query looks at while it runs. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Its time is over.
    pub fn time_out(&self) {
        self.0.store(TIMED_OUT, Ordering::Relaxed);
    }

    /// Nobody waits for it.
    pub fn cancel(&self) {
        self.0.store(CANCELED, Ordering::Relaxed);
    }

    /// The error of a query that was stopped.
    ///
    /// # Errors
    /// It was.
    pub fn check(&self) -> Result<(), QueryError> {
        match self.0.load(Ordering::Relaxed) {
            RUNS => Ok(()),
            CANCELED => Err(QueryError::Canceled),
            _ => Err(QueryError::Timeout),
        }
    }
}
