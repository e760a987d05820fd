//! How many requests arrive when: a shape in words, or a recorded trace.
//!
//! A load is a list of rates, one for each stretch of time, or a list of times. Times keep their order; rates become
//! requests at random (Poisson), evenly, or in bursts.

use std::time::Duration;

use thiserror::Error;

use crate::random::Random;
use crate::text::{duration, rate};

/// A shape is drawn in steps of a second.
const STEP: f64 = 1.0;

/// A longer load is a mistake: a year.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// The requests of one stretch of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    kind: Kind,
    /// Seconds.
    length: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Requests a second, for each stretch of so many seconds.
    Rates { step: f64, rates: Vec<f64> },
    /// Seconds since the start, in order.
    Times(Vec<f64>),
}

/// How a rate becomes requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Arrivals {
    /// Independent of each other: the times between them are exponential.
    #[default]
    Poisson,
    /// All times between them are the same.
    Even,
    /// In bursts: times between them of this squared coefficient of variation (above 1).
    Bursty(f64),
}

/// Why a load can't be understood.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("load `{text}`: {why}; write {}", LoadError::EXAMPLES)]
pub struct LoadError {
    text: String,
    why: String,
}

impl LoadError {
    const EXAMPLES: &'static str = "constant:100/s, ramp:10/s..200/s, step:20/s,200/s@20m,20/s@40m, \
        diurnal:50/s..150/s, or burst:20/s..200/s:every=10m:for=30s";
}

impl Load {
    /// Requests a second for each stretch of `step`; negative and infinite rates count as none.
    pub fn of_rates(step: Duration, rates: Vec<f64>) -> Self {
        let step = step.as_secs_f64().max(0.001);
        let length = step * rates.len() as f64;
        let rates =
            rates.into_iter().map(|rate| if rate.is_finite() { rate.max(0.0) } else { 0.0 }).collect();
        Self { kind: Kind::Rates { step, rates }, length }
    }

    /// Requests at these seconds since the start, brought into order.
    pub fn of_times(mut times: Vec<f64>) -> Self {
        times.retain(|time| time.is_finite() && *time >= 0.0);
        times.sort_by(f64::total_cmp);
        let length = times.last().map_or(0.0, |last| last.floor() + 1.0);
        Self { kind: Kind::Times(times), length }
    }

    /// A shape in words, for so long: `constant:100/s`, `ramp:10/s..200/s`, `step:20/s,200/s@20m`,
    /// `diurnal:50/s..150/s[:24h]`, `burst:20/s..200/s:every=10m:for=30s`.
    ///
    /// # Errors
    ///
    /// An unknown shape, or a part of it that is no rate or duration; what was expected is said.
    pub fn parse(text: &str, length: Duration) -> Result<Self, LoadError> {
        let error = |why: String| LoadError { text: text.to_owned(), why };
        let (shape, rest) = text.split_once(':').ok_or_else(|| error("it has no `:`".to_owned()))?;
        let length = length.as_secs_f64();
        if length <= 0.0 || length > SECONDS_MAX {
            return Err(error("its duration must be above zero and at most 366 days".to_owned()));
        }
        let at = shape_of(shape, rest, length).map_err(error)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded above")]
        let steps = (length / STEP).ceil() as usize;
        let rates = (0..steps).map(|step| at((step as f64 + 0.5) * STEP)).collect();
        Ok(Self { kind: Kind::Rates { step: STEP, rates }, length })
    }

    /// How long it is.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.length)
    }

    /// How many requests there will be, about.
    pub fn requests(&self) -> f64 {
        match &self.kind {
            Kind::Rates { step, rates } => rates.iter().sum::<f64>() * step,
            Kind::Times(times) => times.len() as f64,
        }
    }

    /// The mean rate, in requests a second.
    pub fn mean_rate(&self) -> f64 {
        self.requests() / self.length.max(1e-9)
    }

    /// The same with so many times as many requests. Times become rates of a second for that.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        if (factor - 1.0).abs() < 1e-12 {
            return self.clone();
        }
        let (step, rates) = match &self.kind {
            Kind::Rates { step, rates } => (*step, rates.clone()),
            Kind::Times(_) => (1.0, self.per_second()),
        };
        let rates = rates.into_iter().map(|rate| rate * factor).collect();
        Self { kind: Kind::Rates { step, rates }, length: self.length }
    }

    /// The same as rates of longer stretches.
    #[must_use]
    pub fn binned(&self, step: Duration) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "seconds of a load")]
        let seconds = (step.as_secs() as usize).max(1);
        let rates = self.per_second();
        let rates =
            rates.chunks(seconds).map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64).collect();
        Self { length: self.length, ..Self::of_rates(Duration::from_secs(seconds as u64), rates) }
    }

    /// Only the part from one time to another.
    #[must_use]
    pub fn part(&self, from: Duration, length: Duration) -> Self {
        let (from, length) = (from.as_secs_f64(), length.as_secs_f64());
        let until = (from + length).min(self.length);
        let kind = match &self.kind {
            Kind::Rates { step, rates } => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
                let (first, last) =
                    ((from / step) as usize, ((until / step).ceil() as usize).min(rates.len()));
                Kind::Rates { step: *step, rates: rates.get(first..last).unwrap_or_default().to_vec() }
            }
            Kind::Times(times) => {
                let inside = times.iter().filter(|time| (from..until).contains(*time));
                Kind::Times(inside.map(|time| time - from).collect())
            }
        };
        Self { kind, length: (until - from).max(0.0) }
    }

    /// Requests in each second.
    pub fn per_second(&self) -> Vec<f64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let seconds = self.length.ceil() as usize;
        match &self.kind {
            Kind::Rates { .. } => (0..seconds).map(|second| self.rate_at(second as f64)).collect(),
            Kind::Times(times) => {
                let mut counts = vec![0.0; seconds];
                for time in times {
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
                    let second = *time as usize;
                    counts[second.min(seconds.saturating_sub(1))] += 1.0;
                }
                counts
            }
        }
    }

    fn rate_at(&self, seconds: f64) -> f64 {
        match &self.kind {
            Kind::Rates { step, rates } => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
                let index = ((seconds + 1e-9) / step) as usize;
                rates.get(index).copied().unwrap_or(0.0)
            }
            Kind::Times(_) => 0.0,
        }
    }

    /// The times themselves, one after the other.
    pub(crate) fn requests_from(&self, arrivals: Arrivals, seed: u64) -> Requests<'_> {
        Requests {
            load: self,
            arrivals,
            random: Random::new(seed ^ 0x6c6f_6164),
            time: 0.0,
            work: 0.0,
            index: 0,
        }
    }
}

/// The requests of a load in order.
pub(crate) struct Requests<'a> {
    load: &'a Load,
    arrivals: Arrivals,
    random: Random,
    time: f64,
    /// What is left of the present gap, in expected requests.
    work: f64,
    index: usize,
}

impl Requests<'_> {
    /// A gap between two requests at a rate of one.
    fn gap(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Poisson => self.random.exponential(),
            Arrivals::Even => 1.0,
            Arrivals::Bursty(variation) => {
                // Two exponentials of balanced means.
                let share = 0.5 * (1.0 + ((variation - 1.0) / (variation + 1.0)).max(0.0).sqrt());
                let often = self.random.unit() < share;
                self.random.exponential() / (2.0 * if often { share } else { 1.0 - share })
            }
        }
    }

    /// The time of the next request in seconds; none when there is no further one.
    pub(crate) fn next(&mut self) -> Option<f64> {
        match &self.load.kind {
            Kind::Times(times) => {
                let time = times.get(self.index).copied();
                self.index += 1;
                time
            }
            Kind::Rates { step, rates } => {
                self.work += self.gap();
                loop {
                    let rate = *rates.get(self.index)?;
                    let end = (self.index + 1) as f64 * step;
                    let left = (end - self.time) * rate;
                    if left > self.work {
                        self.time += self.work / rate;
                        self.work = 0.0;
                        return (self.time < self.load.length).then_some(self.time);
                    }
                    self.work -= left.max(0.0);
                    self.time = end;
                    self.index += 1;
                }
            }
        }
    }
}

type Shape = Box<dyn Fn(f64) -> f64>;

fn shape_of(shape: &str, rest: &str, length: f64) -> Result<Shape, String> {
    match shape {
        "constant" => {
            let rate = rate(rest)?;
            Ok(Box::new(move |_| rate))
        }
        "ramp" => {
            let (from, to) = range(rest)?;
            Ok(Box::new(move |at| from + (to - from) * at / length))
        }
        "step" => steps(rest),
        "diurnal" => {
            let (bounds, period) = rest.split_once(':').unwrap_or((rest, "24h"));
            let ((low, high), period) = (range(bounds)?, duration(period)?.as_secs_f64());
            let wave = move |at: f64| 0.5 - 0.5 * (std::f64::consts::TAU * at / period).cos();
            Ok(Box::new(move |at| low + (high - low) * wave(at)))
        }
        "burst" => burst(rest),
        other => Err(format!("`{other}` is no shape of a load (constant, ramp, step, diurnal, burst)")),
    }
}

fn range(text: &str) -> Result<(f64, f64), String> {
    let (low, high) =
        text.split_once("..").ok_or_else(|| format!("`{text}` is no range such as 10/s..200/s"))?;
    Ok((rate(low)?, rate(high)?))
}

fn steps(rest: &str) -> Result<Shape, String> {
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for part in rest.split(',') {
        let (rate_text, at) = part.split_once('@').unwrap_or((part, "0s"));
        let at = duration(at)?.as_secs_f64();
        if steps.last().is_some_and(|(last, _)| *last >= at) {
            return Err(format!(
                "the step `{part}` must begin later than the one before it, such as 200/s@20m"
            ));
        }
        steps.push((at, rate(rate_text)?));
    }
    Ok(Box::new(move |at| steps.iter().rev().find(|(from, _)| *from <= at).map_or(0.0, |(_, rate)| *rate)))
}

fn burst(rest: &str) -> Result<Shape, String> {
    let mut parts = rest.split(':');
    let (low, high) = range(parts.next().unwrap_or_default())?;
    let (mut every, mut lasts) = (600.0, 30.0);
    for part in parts {
        match part.split_once('=') {
            Some(("every", value)) => every = duration(value)?.as_secs_f64(),
            Some(("for", value)) => lasts = duration(value)?.as_secs_f64(),
            _ => return Err(format!("`{part}` is neither every=DURATION nor for=DURATION")),
        }
    }
    if lasts >= every || lasts <= 0.0 {
        return Err("`for` must be shorter than `every`, and above zero".to_owned());
    }
    // The first burst comes after a quiet time, or nothing could be learned before it.
    Ok(Box::new(move |at| if at % every >= every - lasts { high } else { low }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_what_their_words_say() {
        let hour = Duration::from_secs(3600);
        for (text, second, rate) in [
            ("constant:100/s", 17, 100.0),
            ("constant:6000/m", 17, 100.0),
            ("ramp:0/s..3600/s", 1800, 1800.5),
            ("step:20/s,200/s@20m", 1199, 20.0),
            ("step:20/s,200/s@20m", 1200, 200.0),
            ("step:20/s,200/s@20m,5/s@40m", 3000, 5.0),
            ("diurnal:50/s..150/s:1h", 1800, 150.0),
            ("burst:20/s..200/s:every=10m:for=30s", 100, 20.0),
            ("burst:20/s..200/s:every=10m:for=30s", 599, 200.0),
        ] {
            let load = Load::parse(text, hour).expect(text);
            assert!((load.per_second()[second] - rate).abs() < 0.01, "{text}: {}", load.per_second()[second]);
        }
    }

    #[test]
    fn what_is_no_load_is_refused_with_the_reason() {
        for (text, why) in [
            ("100/s", "it has no `:`"),
            ("sinus:1/s", "`sinus` is no shape of a load"),
            ("constant:many", "`many` is no rate"),
            ("constant:-1/s", "`-1/s` is no rate"),
            ("ramp:10/s", "`10/s` is no range"),
            ("step:10/s,20/s", "must begin later"),
            ("burst:1/s..2/s:every=1m:for=2m", "must be shorter"),
            ("burst:1/s..2/s:often", "neither every="),
        ] {
            let error = Load::parse(text, Duration::from_secs(60)).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn arrivals_have_the_rate_and_the_variation_asked_for() {
        let load = Load::parse("constant:100/s", Duration::from_secs(1000)).expect("a load");
        for (arrivals, variation) in
            [(Arrivals::Even, 0.0), (Arrivals::Poisson, 1.0), (Arrivals::Bursty(4.0), 4.0)]
        {
            let mut requests = load.requests_from(arrivals, 3);
            let (mut last, mut gaps) = (0.0, Vec::new());
            while let Some(time) = requests.next() {
                gaps.push(time - last);
                last = time;
            }
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let square = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!((gaps.len() as f64 - 1e5).abs() < 1500.0, "{arrivals:?}: {}", gaps.len());
            assert!((square / mean / mean - variation).abs() < 0.05 + 0.1 * variation, "{arrivals:?}");
        }
    }
}
