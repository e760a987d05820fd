//! Runs a query of this API: time-out, limit, and options of the query engine.

use std::time::{Duration, Instant};

use flyball_metrics::promql::EngineOptions;
use flyball_metrics::response::QueryStats;
use flyball_metrics::{parse_step_ms, promql, response};

use crate::features::Features;
use crate::tell::serve::prometheus::parameters::Parameters;
use crate::tell::serve::prometheus::{Refused, Source};
use crate::tell::serve::questions::{Asked, QUESTION_TIMEOUT_MAX, Unanswered};

/// What the parameters of a query say beside the query itself.
pub(super) struct Settings {
    limit: usize,
    stats: bool,
    options: EngineOptions,
}

impl Settings {
    fn of(features: Features, parameters: &Parameters) -> Result<Settings, Refused> {
        let limit = parameters.limit()?;
        timeout(parameters)?;
        let mut options = features.engine();
        options.use_start_timestamps =
            parameters.use_start_timestamps.unwrap_or(options.use_start_timestamps);
        if let Some(text) = parameters.get("lookback_delta").filter(|text| !text.is_empty()) {
            let lookback_ms = parse_step_ms(text).map_err(|error| {
                Refused::bad_data(format!("error parsing lookback delta duration: {error}"))
            })?;
            if let Ok(lookback_ms @ 1..) = u64::try_from(lookback_ms) {
                options.lookback_delta = Duration::from_millis(lookback_ms);
            }
        }
        Ok(Settings { limit, stats: parameters.get("stats").is_some_and(|stats| !stats.is_empty()), options })
    }
}

/// How long the client waits, as `timeout` says.
fn timeout(parameters: &Parameters) -> Result<Duration, Refused> {
    let timeout_ms = parameters.optional("timeout", parse_step_ms)?;
    let timeout = timeout_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    Ok(timeout.unwrap_or(QUESTION_TIMEOUT_MAX))
}

impl From<Unanswered> for Refused {
    fn from(unanswered: Unanswered) -> Refused {
        Refused { kind: unanswered.kind, message: unanswered.message }
    }
}

/// A question that is being answered.
pub(super) struct Query<'a> {
    asked: &'a Asked,
    features: Features,
    pub(super) parameters: &'a Parameters,
    begun: Instant,
    started: Instant,
}

/// Asks; reading the parameters, the query itself and writing the answer are parts of the question.
pub(super) async fn ask<T: Send + 'static>(
    source: &Source,
    parameters: Parameters,
    question: impl FnOnce(&Query<'_>) -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    // A time-out that is no duration is told in its turn, after what is told before it.
    let (begun, timeout) = (parameters.begun, timeout(&parameters).unwrap_or(QUESTION_TIMEOUT_MAX));
    let features = source.features;
    let question = move |asked: &Asked| {
        question(&Query { asked, features, parameters: &parameters, begun, started: Instant::now() })
    };
    source.questions.ask(begun, timeout, question).await?
}

impl Query<'_> {
    /// Where it reads.
    pub(super) fn store(&self) -> promql::Source<'_> {
        self.asked.store().into()
    }

    /// Lends the store itself.
    pub(super) fn lend<T: Send>(&self, read: impl FnOnce(&flyball_metrics::Store) -> T + Send) -> Option<T> {
        let (mut read, mut result) = (Some(read), None);
        self.asked.store().lend(&mut |store| result = read.take().map(|read| read(store)));
        result
    }

    /// What ends it early.
    pub(super) fn stop(&self) -> promql::Stop {
        self.asked.stop.clone()
    }

    /// Fails once the client has gone away or the time is over.
    pub(super) fn go_on(&self) -> Result<(), Refused> {
        Ok(self.asked.stop.check()?)
    }

    /// The query, as text and as tree.
    pub(super) fn parse(&self) -> Result<(&str, promql::Expr), Refused> {
        let query = self.parameters.get("query").unwrap_or_default();
        Ok((query, self.features.parse(query)?))
    }

    pub(super) fn settings(&self) -> Result<(Settings, EngineOptions), Refused> {
        let settings = Settings::of(self.features, self.parameters)?;
        let options = self.asked.options(settings.options.clone());
        Ok((settings, options))
    }

    /// The body of an answer.
    pub(super) fn answer(&self, settings: &Settings, mut result: promql::QueryResult) -> String {
        let stats = QueryStats {
            samples: result.samples,
            queue_seconds: (self.started - self.begun).as_secs_f64(),
            evaluation_seconds: self.started.elapsed().as_secs_f64(),
        };
        response::truncate(&mut result, settings.limit);
        response::query_with(&result, settings.stats.then_some(&stats))
    }
}
