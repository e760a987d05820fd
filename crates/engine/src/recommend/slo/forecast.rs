//! How much may arrive by the time that a replica ordered now would serve.
//!
//! Several simple forecasts are made every five seconds: what arrived in the last half minute, two, five and fifteen
//! minutes, and the lines through the last two and ten. Each is judged by the highest rate that then came within the
//! start-up time; the quantile of its own past errors makes it a bound. The one whose bounds have cost least lately
//! (pinball loss: too high costs a little, too low costs much) is believed. Noise, trends and recurring bursts so each
//! find their own forecast, and a smooth load gets a narrow bound without any threshold. What jumps by the clock is in
//! `season`.
//!
//! A rate that leaves the bound by more than chance is believed at once, from as few seconds as it takes to be sure: the
//! higher the rate, the sooner. A single measurement of more than [`JUMP_MAX`] times the highest of the last minute waits
//! for a second one.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::ring::Ring;
use super::season::Seasons;

/// Length of a bin, in seconds.
pub(crate) const BIN: usize = 5;
/// Errors that are remembered, one for each start-up time: an hour or more.
const ERRORS: usize = 120;
/// Quantiles are computed anew after so many bins.
const SORT_EVERY: u32 = 6;
/// As long as there are fewer errors than this, the bound is wider.
const ERRORS_FEW: usize = 10;
/// Seconds that are kept one by one.
const SECONDS: usize = 120;
/// Bins that are kept: the longest of the forecasts.
const BINS: usize = 180;
/// A forecast's losses of the last ten minutes or so count.
const LOSS_WEIGHT: f64 = 1.0 / 120.0;
/// So many deviations are no chance.
const DEVIATIONS: f64 = 2.0;
/// More than this times the highest rate of the last minute is believed at the second time.
const JUMP_MAX: f64 = 4.0;
/// Nothing is expected beyond this times the highest rate of the errors' time, or [`RISE_MAX`] times the rate now.
const SEEN_MAX: f64 = 1.05;
const RISE_MAX: f64 = 1.25;
/// A bound without any experience is so much wider (a logarithm).
const CAUTION: f64 = 0.3;
/// A rise beyond so many margins of the forecast is unusual enough to be expected again.
const USUAL: f64 = 1.6;
/// Bins of which the highest is remembered: an hour.
const HIGHEST: usize = 720;
/// Longer than this nobody looks ahead: ten minutes.
const HORIZON_MAX: usize = 120;

/// What a forecast is made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Basis {
    /// The mean of the last so many bins.
    Mean(usize),
    /// The line through the last so many bins.
    Line(usize),
}

/// In the order of preference.
const BASES: [Basis; 6] =
    [Basis::Mean(6), Basis::Line(24), Basis::Mean(24), Basis::Mean(60), Basis::Line(120), Basis::Mean(180)];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Forecaster {
    basis: Basis,
    /// Forecasts and bounds of the last bins, whose outcome is not known yet.
    issued: VecDeque<(f64, f64)>,
    /// Logarithms of outcome over forecast.
    errors: Ring,
    /// The quantile of the errors.
    margin: f64,
    loss: f64,
}

/// What is known of the arrivals of a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Forecast {
    seconds: Ring,
    bins: Ring,
    /// Means over the smoothing time, one for each bin.
    smooth: Ring,
    /// Maxima of the smoothed rates of a minute each, for an hour.
    highest: Ring,
    /// Of the bin that is being filled: seconds and sum.
    filling: (usize, f64),
    bins_seen: u32,
    forecasters: Vec<Forecaster>,
    seasons: Seasons,
    /// A rate that waits for a second one like it.
    doubted: Option<f64>,
    /// The bound of the last whole bin.
    bound: f64,
    best: usize,
}

/// What is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Expected {
    /// The rate now, a second.
    pub(crate) now: f64,
    /// The highest rate within the start-up time that is not too unlikely.
    pub(crate) bound: f64,
    /// The rate is above what was thought possible.
    pub(crate) surprise: bool,
    /// Variance over mean of the requests of a second.
    pub(crate) dispersion: f64,
    /// Seconds of the past that the forecast is made of.
    pub(crate) past: u32,
    /// It follows a trend.
    pub(crate) trend: bool,
}

impl Default for Forecast {
    fn default() -> Self {
        let forecaster = |basis| Forecaster {
            basis,
            issued: VecDeque::new(),
            errors: Ring::new(ERRORS),
            margin: 0.0,
            loss: 0.0,
        };
        Self {
            seconds: Ring::new(SECONDS),
            bins: Ring::new(BINS),
            smooth: Ring::new(HORIZON_MAX),
            highest: Ring::new(HIGHEST / 12),
            filling: (0, 0.0),
            bins_seen: 0,
            forecasters: BASES.map(forecaster).into(),
            seasons: Seasons::default(),
            doubted: None,
            bound: 0.0,
            best: 0,
        }
    }
}

/// How a forecast is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Horizon {
    /// Seconds until a replica ordered now serves.
    pub(crate) lead: f64,
    /// Seconds over which requests may be spread out without missing the objective.
    pub(crate) smoothing: f64,
    /// How often the bound may be exceeded (0–1).
    pub(crate) risk: f64,
}

impl Horizon {
    fn bins(&self) -> usize {
        bins_of(self.lead).clamp(1, HORIZON_MAX)
    }
}

fn bins_of(seconds: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let bins = (seconds / BIN as f64).ceil() as usize;
    bins
}

impl Forecast {
    /// Takes in the rate of a stretch of so many seconds.
    pub(crate) fn observe(&mut self, rate: f64, seconds: usize, horizon: &Horizon) {
        let rate = self.plausible(rate);
        // A stretch longer than what is kept one by one says no more than that much of it.
        for _ in 0..seconds.clamp(1, SECONDS) {
            self.seconds.push(rate);
            self.filling = (self.filling.0 + 1, self.filling.1 + rate);
            if self.filling.0 >= BIN {
                self.bins.push(self.filling.1 / self.filling.0 as f64);
                self.filling = (0, 0.0);
                self.end_bin(horizon);
            }
        }
    }

    /// What was measured is no longer near to what is measured next: levels start anew, learned errors stay.
    pub(crate) fn forget_level(&mut self) {
        self.seconds.clear();
        self.bins.clear();
        self.smooth.clear();
        self.filling = (0, 0.0);
        self.forecasters.iter_mut().for_each(|own| own.issued.clear());
        self.bound = 0.0;
    }

    /// A rate far above all that was seen in the last minute counts from the second time on.
    fn plausible(&mut self, rate: f64) -> f64 {
        let highest = self.seconds.newest().take(60).fold(0.0, f64::max);
        let most = highest * JUMP_MAX + 10.0;
        if self.seconds.len() == 0 || rate <= most {
            self.doubted = None;
            return rate;
        }
        match self.doubted.replace(rate) {
            // The lower of the two: what both say.
            Some(before) => rate.min(before).max(most),
            None => most.min(highest.max(1.0)),
        }
    }

    fn end_bin(&mut self, horizon: &Horizon) {
        let ahead = horizon.bins();
        let smoothing = bins_of(horizon.smoothing).clamp(1, 24);
        let floor = 0.5 / horizon.lead.max(1.0);
        if let Some(mean) = self.bins.mean(smoothing) {
            self.smooth.push(mean);
        }
        if self.bins_seen.is_multiple_of(12) {
            self.highest.push(self.smooth.newest().take(12).fold(0.0, f64::max));
        }
        let outcome = self.smooth.newest().take(ahead).fold(floor, f64::max);
        self.bins_seen = self.bins_seen.wrapping_add(1);
        let sorts = self.bins_seen.is_multiple_of(SORT_EVERY) || self.bins_seen < 60;
        for index in 0..self.forecasters.len() {
            let forecast = forecast(self.forecasters[index].basis, &self.bins, horizon.lead).max(floor);
            let own = &mut self.forecasters[index];
            while own.issued.len() >= ahead {
                let Some((then, bound)) = own.issued.pop_front() else { break };
                // One for each start-up time: a single event is a single error.
                if (self.bins_seen as usize).is_multiple_of(ahead) {
                    own.errors.push((outcome / then).ln());
                }
                own.lose((outcome / bound).ln(), horizon.risk);
            }
            if sorts {
                own.margin = own.errors.all_but_one(1.0 - horizon.risk).unwrap_or(0.0);
            }
            let few = ERRORS_FEW.saturating_sub(own.errors.len()) as f64 / ERRORS_FEW as f64;
            let bound = forecast * (own.margin.clamp(-1.0, 2.0) + CAUTION * few).exp();
            own.issued.push_back((forecast, bound));
        }
        let by_loss = |a: &usize, b: &usize| self.forecasters[*a].loss.total_cmp(&self.forecasters[*b].loss);
        self.best = (0..self.forecasters.len()).min_by(by_loss).unwrap_or(0);
        let bound = self.forecasters[self.best].issued.back().map_or(0.0, |(_, bound)| *bound);
        let usual = (USUAL * self.forecasters[self.best].margin).exp();
        let recent_mean = self.bins.mean(smoothing.max(3)).unwrap_or(0.0);
        let recent = self.smooth.newest().take(12).fold(0.0, f64::max);
        let seen = self.highest.newest().fold(recent, f64::max);
        let recurs = self.seasons.end_bin(self.bins.mean(1).unwrap_or(0.0), recent_mean, ahead, usual);
        self.bound = bound.min(f64::max(seen * SEEN_MAX, recent * RISE_MAX)).max(recurs.min(seen * SEEN_MAX));
    }

    /// What is expected now; none before anything was measured.
    pub(crate) fn expected(&self) -> Option<Expected> {
        let half_minute = self.seconds.mean(30)?;
        let dispersion = self.dispersion();
        let mut now = half_minute;
        for window in [1, 2, 3, 5, 8, 12, 20] {
            let Some(mean) = self.seconds.mean(window) else { continue };
            if self.seconds.len() >= window {
                now = now.max(mean - DEVIATIONS * (mean * dispersion / window as f64).sqrt());
            }
        }
        let basis = BASES[self.best];
        let (bins, trend) = match basis {
            Basis::Mean(bins) => (bins, false),
            Basis::Line(bins) => (bins, true),
        };
        let surprise = now > self.bound;
        let past = u32::try_from(bins.min(self.bins.len()) * BIN).unwrap_or(u32::MAX);
        Some(Expected { now, bound: now.max(self.bound), surprise, dispersion, past, trend })
    }

    /// Variance over mean of the requests of a second, without what changes slowly.
    fn dispersion(&self) -> f64 {
        let (mut squares, mut sum, mut count) = (0.0, 0.0, 0.0);
        let mut last = None;
        for rate in self.seconds.newest() {
            if let Some(last) = last {
                let difference: f64 = rate - last;
                squares += difference * difference / 2.0;
                sum += rate;
                count += 1.0;
            }
            last = Some(rate);
        }
        // Poisson, until there is enough to know better.
        let own = if sum > 0.0 { squares / sum } else { 1.0 };
        let weight: f64 = (count / 60.0_f64).min(1.0);
        (own * weight + 1.0 - weight).clamp(0.5, 20.0)
    }
}

impl Forecaster {
    fn lose(&mut self, error: f64, risk: f64) {
        let loss = if error > 0.0 { error * (1.0 - risk) } else { -error * risk };
        self.loss += (loss - self.loss) * LOSS_WEIGHT;
    }
}

fn forecast(basis: Basis, bins: &Ring, lead: f64) -> f64 {
    match basis {
        Basis::Mean(count) => bins.mean(count).unwrap_or(0.0),
        Basis::Line(count) => line(bins, count, lead),
    }
}

/// The line through the last bins, as far ahead as the lead; never below half or above three times their mean.
fn line(bins: &Ring, count: usize, lead: f64) -> f64 {
    let count = count.min(bins.len());
    let (mut sum, mut moment) = (0.0, 0.0);
    for (age, rate) in bins.newest().take(count).enumerate() {
        sum += rate;
        moment += rate * ((count - 1) as f64 / 2.0 - age as f64);
    }
    if count < 4 {
        return if count == 0 { 0.0 } else { sum / count as f64 };
    }
    let number = count as f64;
    let (mean, slope) = (sum / number, 12.0 * moment / (number * (number * number - 1.0)));
    let end = (number - 1.0) / 2.0 + lead / BIN as f64;
    (mean + slope * end).clamp(0.5 * mean, 3.0 * mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HORIZON: Horizon = Horizon { lead: 35.0, smoothing: 10.0, risk: 0.02 };

    fn after(rates: impl IntoIterator<Item = f64>) -> Forecast {
        let mut forecast = Forecast::default();
        rates.into_iter().for_each(|rate| forecast.observe(rate, 1, &HORIZON));
        forecast
    }

    #[test]
    fn bounds_follow_the_load() {
        for (name, rates, low, high) in [
            ("constant", vec![100.0; 3600], 100.0, 101.0),
            ("ramp", (0..3600).map(|s| 100.0 + f64::from(s) / 10.0).collect(), 459.0, 470.0),
            (
                "bursts every five minutes",
                (0..7200).map(|s| if s % 300 < 20 { 200.0 } else { 100.0 }).collect(),
                190.0,
                215.0,
            ),
            ("nothing", vec![0.0; 600], 0.0, 0.1),
        ] {
            let expected = after(rates).expected().expect("it has seen something");
            assert!((low..=high).contains(&expected.bound), "{name}: {expected:?}");
        }
    }

    #[test]
    fn a_step_is_believed_the_sooner_the_higher_the_rate() {
        // Rates before and after, and within how many seconds nine tenths of the new one are believed.
        for (before, after_it, seconds) in
            [(100.0, 200.0, 3), (1000.0, 1300.0, 2), (20.0, 200.0, 4), (10.0, 20.0, 30)]
        {
            let mut forecast = after(vec![before; 600]);
            let mut needed = 0;
            while forecast.expected().is_none_or(|expected| expected.bound < 0.8 * after_it) {
                forecast.observe(after_it, 1, &HORIZON);
                needed += 1;
                assert!(needed <= seconds, "{before} to {after_it}: {:?}", forecast.expected());
            }
        }
    }

    #[test]
    fn one_wild_measurement_is_not_believed() {
        for wild in [1e6, 1e300] {
            let mut forecast = after(vec![100.0; 600]);
            forecast.observe(wild, 1, &HORIZON);
            let bound = forecast.expected().expect("it has seen something").bound;
            assert!(bound < 120.0, "{wild}: {bound}");
            forecast.observe(100.0, 1, &HORIZON);
            assert!(forecast.expected().expect("it has seen something").bound < 120.0);
        }
    }
}
