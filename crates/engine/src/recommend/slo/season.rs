//! Jumps that come again: at the same time of the half hour, of the hour, or of the day.
//!
//! Schedules and clocks make jumps that no trend announces. What happened one period ago within the time that a replica
//! takes is expected again, in part, as long as such expectations have come true often enough. It may only raise a bound:
//! a jump that does not come costs a few replicas for one start-up time.

use serde::{Deserialize, Serialize};

use super::ring::Ring;

/// A smaller rise is noise, or is in the trend.
const RISE_MIN: f64 = 1.08;
/// This part of a rise is expected again.
const PART: f64 = 0.9;
/// Not more than so many times the rate now is expected.
const RISE_MAX: f64 = 4.0;
/// An expectation is believed from this share of fulfilled ones on.
const SKILL_MIN: f64 = 0.2;
/// Until there is experience: believed at first, and unlearned within some disappointments.
const SKILL_START: f64 = 0.5;
const SKILL_WEIGHT: f64 = 0.03;

/// Periods in bins of the forecast, and how many of these make one that is kept: seconds for hours, a minute for days.
const PERIODS: [(usize, usize); 3] = [(360, 2), (720, 2), (17_280, 12)];

/// What came again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seasons {
    list: Vec<Season>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Season {
    /// Bins of the forecast in one that is kept.
    each: usize,
    /// Of those, in a period.
    period: usize,
    rates: Ring,
    filling: (usize, f64),
    /// Expectations that are not due yet: bins left, the rate expected, and the rate then.
    open: Vec<(usize, f64, f64)>,
    /// The highest rate since the oldest of them.
    skill: f64,
}

impl Default for Seasons {
    fn default() -> Self {
        let season = |(bins, each): (usize, usize)| Season {
            each,
            period: bins / each,
            rates: Ring::new(bins / each + 24),
            filling: (0, 0.0),
            open: Vec::new(),
            skill: SKILL_START,
        };
        Self { list: PERIODS.map(season).into() }
    }
}

impl Seasons {
    /// Takes in the rate of a bin, and how much it usually rises at most; says up to what the rate may jump within so many bins, or zero.
    pub(crate) fn end_bin(&mut self, rate: f64, now: f64, ahead: usize, usual: f64) -> f64 {
        self.list.iter_mut().map(|season| season.end_bin(rate, now, ahead, usual)).fold(0.0, f64::max)
    }
}

impl Season {
    fn end_bin(&mut self, rate: f64, now: f64, ahead: usize, usual: f64) -> f64 {
        self.filling = (self.filling.0 + 1, self.filling.1 + rate);
        if self.filling.0 >= self.each {
            self.rates.push(self.filling.1 / self.filling.0 as f64);
            self.filling = (0, 0.0);
        }
        self.judge(now);
        let rise = self.rise(ahead).min(RISE_MAX);
        if rise < RISE_MIN.max(usual) || now <= 0.0 {
            return 0.0;
        }
        let expected = now * (1.0 + PART * (rise - 1.0));
        if self.open.len() < 256 {
            self.open.push((ahead + 2 * self.each, expected, now));
        }
        if self.skill >= SKILL_MIN { expected } else { 0.0 }
    }

    /// Expectations that came true, or did not in time.
    fn judge(&mut self, now: f64) {
        let skill = &mut self.skill;
        self.open.retain_mut(|(left, expected, then)| {
            *left -= 1;
            let came = now >= *then + 0.4 * (*expected - *then);
            if came || *left == 0 {
                let outcome = if came { 1.0 } else { 0.0 };
                *skill += (outcome - *skill) * SKILL_WEIGHT;
            }
            !came && *left > 0
        });
    }

    /// By how much the rate rose one period ago within the time ahead.
    fn rise(&self, ahead: usize) -> f64 {
        // One kept bin of slack on either side: clocks are not that exact.
        let (ago, ahead) = (self.period, ahead.div_ceil(self.each) + 1);
        let Some(before) = self.rates.around(ago, 1) else { return 0.0 };
        let highest =
            (1..=ahead.min(ago)).filter_map(|step| self.rates.around(ago - step, 0)).fold(0.0, f64::max);
        if before > 0.0 { highest / before } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_expected_an_hour_later_and_forgotten_if_it_never_comes() {
        let mut seasons = Seasons::default();
        let mut first = None;
        for bin in 0..720 * 6 {
            let rate = if (300..320).contains(&bin) { 200.0 } else { 100.0 };
            let expected = seasons.end_bin(rate, rate, 8, 1.0);
            if expected > 150.0 && bin > 400 {
                first = first.or(Some(bin));
            }
        }
        let first = first.expect("it is expected again");
        assert!((640..=1020).contains(&first), "{first}");
        assert_eq!(seasons.end_bin(100.0, 100.0, 8, 1.0), 0.0);
    }
}
