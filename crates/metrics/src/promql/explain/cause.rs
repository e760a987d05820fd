//! Why a result is empty, as data and as a sentence.

use std::fmt;

use super::SelectorExplanation;
use crate::text::format_duration_ms;

/// Scrapes that a window should span: one that is lost or late must not empty it.
const SCRAPES_PER_WINDOW: i64 = 4;

/// Why a selector gives an expression nothing, or too little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No series has what this matcher asks for; near names, nearest first.
    NoSuchSeries {
        /// The matcher; `None` if it is the metric's name, or only all of them together exclude everything.
        matcher: Option<String>,
        /// What is near.
        nearest: Vec<String>,
    },
    /// Each matcher matches something; without this one they would together.
    Excluded {
        /// The matcher.
        matcher: String,
        /// What is near.
        nearest: Vec<String>,
    },
    /// The series have ended, or their samples are too old for the window.
    NoNewSamples {
        /// The age of the newest.
        age_ms: i64,
    },
    /// The time that is looked at is before the first sample that is kept.
    BeforeFirstSample {
        /// How long before.
        before_ms: i64,
    },
    /// A window has one sample, where a rate needs two.
    TooFewSamples {
        /// The window.
        range_ms: i64,
        /// How far apart samples are, where that is known.
        interval_ms: Option<i64>,
    },
}

impl Cause {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Cause::NoSuchSeries { .. } => "NoSuchSeries",
            Cause::Excluded { .. } => "ExcludedByMatcher",
            Cause::NoNewSamples { .. } => "NoNewSamples",
            Cause::BeforeFirstSample { .. } => "BeforeFirstSample",
            Cause::TooFewSamples { .. } => "TooFewSamples",
        }
    }
}

/// What comes after the selector in a sentence.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NoSuchSeries { matcher: None, nearest } => {
                write!(f, " matches no series{}", Near(nearest))
            }
            Cause::NoSuchSeries { matcher: Some(matcher), nearest } => {
                write!(f, ": no series has {matcher}{}", Near(nearest))
            }
            Cause::Excluded { matcher, nearest } => {
                write!(f, ": no series matches {matcher} together with the rest{}", Near(nearest))
            }
            Cause::NoNewSamples { age_ms } => write!(f, ": the newest sample is {} s old", age_ms / 1_000),
            Cause::BeforeFirstSample { before_ms } => {
                write!(f, ": the first sample is {} s after the time that is looked at", before_ms / 1_000)
            }
            Cause::TooFewSamples { range_ms, interval_ms: Some(interval_ms) }
                if interval_ms * 2 > *range_ms =>
            {
                let [range, interval, enough] =
                    [*range_ms, *interval_ms, interval_ms * SCRAPES_PER_WINDOW].map(format_duration_ms);
                write!(
                    f,
                    " holds fewer than two samples, which a rate needs: samples are {interval} apart, and the window is {range}; \
                     make it [{enough}] or longer"
                )
            }
            Cause::TooFewSamples { .. } => f.write_str(" has fewer than two samples yet"),
        }
    }
}

struct Near<'a>(&'a [String]);

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; near: {}", self.0.join(", ")) }
    }
}

impl SelectorExplanation {
    /// Why the selector gives nothing, or too little for a rate; `None` if it gives enough.
    pub fn cause(&self) -> Option<Cause> {
        if self.samples > 0 {
            let range_ms = self.range_ms.filter(|_| self.samples_min < 2)?;
            return Some(Cause::TooFewSamples { range_ms, interval_ms: self.interval_ms });
        }
        let nearest = self.nearest.clone();
        if let (None, Some(oldest_ms)) = (self.newest_ms, self.oldest_ms) {
            return Some(Cause::BeforeFirstSample { before_ms: oldest_ms.saturating_sub(self.end_ms) });
        }
        Some(match (self.newest_ms, &self.excluding_matcher) {
            (Some(newest_ms), _) => Cause::NoNewSamples { age_ms: self.end_ms.saturating_sub(newest_ms) },
            (None, Some(matcher)) => Cause::Excluded { matcher: matcher.clone(), nearest },
            (None, None) => {
                let of_label = |matcher: &&String| !matcher.starts_with("__name__");
                let named = self.matchers_without_series.iter().any(|matcher| !of_label(&matcher));
                let matcher = self.matchers_without_series.iter().find(of_label).filter(|_| !named);
                Cause::NoSuchSeries { matcher: matcher.cloned(), nearest }
            }
        })
    }
}

/// The cause of an empty result in one sentence: the first selector that found nothing, or else too little.
pub fn why_empty(selectors: &[SelectorExplanation]) -> String {
    let causes: Vec<(&SelectorExplanation, Cause)> =
        selectors.iter().filter_map(|selector| Some((selector, selector.cause()?))).collect();
    let too_few = |cause: &Cause| matches!(cause, Cause::TooFewSamples { .. });
    match causes.iter().find(|(_, cause)| !too_few(cause)).or(causes.first()) {
        Some((selector, cause)) => format!("{}{cause}", selector.selector),
        None => "every selector has samples, and the operators between them let nothing through".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::why_empty;
    use crate::labels::Labels;
    use crate::promql::{EngineOptions, explain, parse};
    use crate::sample::{STALE_NAN, Sample};
    use crate::store::Store;

    #[test]
    fn empty_results_have_a_cause() {
        let mut store = Store::default();
        for (pod, zone) in [("a", "x"), ("b", "y")] {
            let labels = Labels::new([("__name__", "requests_total"), ("pod", pod), ("zone", zone)]);
            for second in [0, 15, 30, 45, 60] {
                store.append_to(&labels, Sample::new(second * 1_000, 1.0)).expect("in order");
            }
        }
        let gone = Labels::new([("__name__", "gone"), ("pod", "a")]);
        for sample in [Sample::new(50_000, 1.0), Sample::new(55_000, STALE_NAN)] {
            store.append_to(&gone, sample).expect("in order");
        }
        let rows = [
            ("gone", 60, "gone: the newest sample is 10 s old"),
            ("sum(rate(request_total[1m]))", 60, "request_total[1m] matches no series; near: requests_total"),
            (
                "requests_total{pod=\"c\"}",
                60,
                "requests_total{pod=\"c\"}: no series has pod=\"c\"; near: a, b",
            ),
            (
                "requests_total{pod=\"a\",zone=\"y\"}",
                60,
                "requests_total{pod=\"a\",zone=\"y\"}: no series matches pod=\"a\" together with the rest; near: b",
            ),
            ("requests_total", 400, "requests_total: the newest sample is 340 s old"),
            (
                "requests_total",
                -40,
                "requests_total: the first sample is 40 s after the time that is looked at",
            ),
            (
                "rate(gone[1m] offset 15s)",
                60,
                "gone[1m] offset 15s: the first sample is 5 s after the time that is looked at",
            ),
            (
                "rate(requests_total[14s])",
                60,
                "requests_total[14s] holds fewer than two samples, which a rate needs: samples are 15s apart, and the window is 14s; \
                 make it [1m] or longer",
            ),
            (
                "requests_total > 5",
                60,
                "every selector has samples, and the operators between them let nothing through",
            ),
        ];
        for (query, seconds, expected) in rows {
            let expr = parse(query).expect(query);
            let found = explain(&store, &expr, seconds * 1_000, &EngineOptions::default());
            assert_eq!(why_empty(&found), expected, "{query}");
        }
    }
}
