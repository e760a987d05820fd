//! Runs a query beside the other work of the program, ends it when its time is over or when nobody waits for it any more.
//!
//! A query holds the store while it runs, and the loop that scales needs the store too. So one query runs at a time,
//! the others wait in front of it and not in front of the loop; and every query has a time-out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flyball_metrics::Store;
use flyball_metrics::promql::{EngineOptions, QueryError, QueryResult, Stop};
use flyball_metrics::response::{ErrorKind, QueryStats};
use flyball_metrics::{parse_step_ms, response};

use crate::lock;
use crate::serve::prometheus::parameters::Parameters;
use crate::serve::prometheus::{Refused, Source};

/// Queries that run at the same time. They would only wait for each other.
pub(super) const QUERIES_AT_ONCE_MAX: usize = 1;
/// The longest that a query may take, waiting included (Prometheus: `--query.timeout`).
pub(super) const QUERY_TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// What the parameters of a query say beside the query itself.
pub(super) struct Settings {
    timeout: Duration,
    limit: usize,
    stats: bool,
    options: EngineOptions,
}

impl Settings {
    pub(super) fn of(source: &Source, parameters: &Parameters) -> Result<Settings, Refused> {
        let limit = parameters.limit()?;
        let timeout_ms = parameters.optional("timeout", parse_step_ms)?;
        let timeout = timeout_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        let mut options = source.features.engine();
        if let Some(text) = parameters.get("lookback_delta").filter(|text| !text.is_empty()) {
            let lookback_ms = parse_step_ms(text).map_err(|error| {
                Refused::bad_data(format!("error parsing lookback delta duration: {error}"))
            })?;
            if let Ok(lookback_ms @ 1..) = u64::try_from(lookback_ms) {
                options.lookback_delta = Duration::from_millis(lookback_ms);
            }
        }
        Ok(Settings {
            timeout: timeout.unwrap_or(QUERY_TIMEOUT_MAX).min(QUERY_TIMEOUT_MAX),
            limit,
            stats: parameters.get("stats").is_some_and(|stats| !stats.is_empty()),
            options,
        })
    }
}

/// Cancels a query whose request was dropped.
struct Abandoned(Stop);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The body of a query's answer.
pub(super) async fn run(
    source: &Source,
    settings: Settings,
    evaluate: impl FnOnce(&Store, &EngineOptions) -> Result<QueryResult, QueryError> + Send + 'static,
) -> Result<String, Refused> {
    let (limit, wants_stats) = (settings.limit, settings.stats);
    let (result, times) = over_store(source, settings, evaluate).await?;
    let mut result = result?;
    let stats = QueryStats { samples: result.samples, ..times };
    response::truncate(&mut result, limit);
    Ok(response::query_with(&result, wants_stats.then_some(&stats)))
}

/// Does something with the store when it is its turn; also tells how long that took.
pub(super) async fn over_store<T: Send + 'static>(
    source: &Source,
    settings: Settings,
    work: impl FnOnce(&Store, &EngineOptions) -> T + Send + 'static,
) -> Result<(T, QueryStats), Refused> {
    if settings.timeout.is_zero() {
        return Err(timed_out("query timed out in query queue"));
    }
    let stop = settings.options.stop.clone();
    let _abandoned = Abandoned(stop.clone());
    let begun = Instant::now();
    let mut deadline = std::pin::pin!(tokio::time::sleep(settings.timeout));
    let turn = tokio::select! {
        turn = Arc::clone(&source.running).acquire_owned() => turn,
        () = &mut deadline => return Err(timed_out("query timed out in query queue")),
    };
    let queued = begun.elapsed();
    let store = Arc::clone(&source.store);
    let mut task = std::pin::pin!(tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work(&lock(&store), &settings.options)
    }));
    let result = tokio::select! {
        biased;
        () = &mut deadline => {
            stop.time_out();
            task.await
        }
        result = &mut task => result,
    };
    let result = result.map_err(|error| Refused {
        kind: ErrorKind::Internal,
        message: format!("the query failed: {error}"),
    })?;
    let queue_seconds = queued.as_secs_f64();
    let evaluation_seconds = (begun.elapsed() - queued).as_secs_f64();
    Ok((result, QueryStats { queue_seconds, evaluation_seconds, samples: 0 }))
}

fn timed_out(message: &str) -> Refused {
    Refused { kind: ErrorKind::Timeout, message: message.to_owned() }
}
