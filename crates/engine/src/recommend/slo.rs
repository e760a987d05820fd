//! What the objective asks for: demand by the time a new replica serves, over what one replica carries within the
//! objective.
//!
//! 1. The *rate now*, from as few seconds as it takes to be sure (`forecast`).
//! 2. What a replica *carries*: service time and places, learned (`capacity`); as many replicas as keep the share of
//!    requests over the bound below what is allowed, by the queue's own mathematics ([`Queue`]).
//! 3. The *bound* of the rate within the start-up time, calibrated on its own past errors.
//! 4. *Waiting work*: what will wait when a replica ordered now serves is to be gone soon after. The extra replicas cost
//!    their start-up, so they are bounded by what [`DRAIN_BUDGET`] seconds of the needed ones cost.
//! 5. *Hold*: replicas go only when they were not needed for as long as it takes to get one back. That is the best any
//!    rule can promise that does not know the future (2-competitive ski rental).
//!
//! Replicas that start count as supply, always, so one need is ordered once. Without a measurement nothing goes. A reading
//! that is no amount is none. At one evaluation replicas grow at most [`GROWTH_MAX`]-fold, so one wrong step is bounded.

pub(crate) mod capacity;
pub(crate) mod forecast;
mod ring;
mod season;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use capacity::{Capacity, Carries, Stretch};
use forecast::{Expected, Forecast, Horizon};
use ring::Ring;

use crate::decision::{CurrentMetric, Proposal};
use crate::demand::Demand;
use crate::memory::{Recommendation, Recommendations};
use crate::milli::Milli;
use crate::name::Name;
use crate::pod::Pod;
use crate::policy::{SLO_METRIC_NAME, Slo};
use crate::queueing::Queue;
use crate::reason::{Cause, ObjectiveReason, Reason, Unavailable};
use crate::recommend::{View, ceil};
use crate::time::Time;

/// A measurement older than this is none.
const AGE_MAX: Duration = Duration::from_secs(15);
/// After a gap this long the level is learned anew.
const GAP_MAX: Duration = Duration::from_secs(120);
/// Before a start-up was seen.
const STARTUP_DEFAULT: f64 = 60.0;
/// Shorter start-ups are no shorter for deciding: a scrape, a round, an endpoint's way.
const STARTUP_MIN: f64 = 5.0;
const STARTUP_MAX: f64 = 1200.0;
/// Start-ups that are remembered.
const STARTUPS: usize = 32;
/// Seconds of a stretch of measurement.
const STRETCH: f64 = 10.0;
/// Extra replicas for waiting work may cost what the needed ones cost in so many seconds.
const DRAIN_BUDGET: f64 = 100.0;
/// Waiting work is to be gone within so many seconds of when the replicas for it serve.
const DRAIN: f64 = 10.0;
/// Replicas at one evaluation grow at most by this factor, or by [`GROWTH_FREE`].
const GROWTH_MAX: u32 = 10;
const GROWTH_FREE: u32 = 10;
/// The bound may be exceeded so often at first; each stretch without a miss of the objective allows a little more, and each
/// with one much less, between the policy's risk and the most.
const RISK_START: f64 = 0.05;
const RISK_UP: f64 = 1.003;
const RISK_DOWN: f64 = 0.7;
const RISK_MAX: f64 = 0.12;
/// Replicas are held for up to so many start-up times: each miss of the objective makes it longer, and time shorter.
const PATIENCE_MAX: f64 = 2.0;
const PATIENCE_UP: f64 = 1.5;
const PATIENCE_DOWN: f64 = 0.995;
/// Peaks shorter than this are the queue's affair, in seconds.
const SMOOTHING_MIN: f64 = 15.0;
const SMOOTHING_MAX: f64 = 60.0;

/// What is remembered for an objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SloMemory {
    pub(crate) forecast: Forecast,
    pub(crate) capacity: Capacity,
    /// Seconds from order to service.
    startups: Ring,
    /// Orders that do not serve yet: when, and the replicas in all that should serve then.
    orders: Vec<(Time, u32)>,
    /// Replicas asked for and serving as last seen.
    seen: Option<(u32, u32)>,
    /// The end of the last measurement.
    measured: Option<Time>,
    stretch: Stretch,
    /// Of the stretch: requests waited at its beginning, or more came than was thought possible.
    explained: bool,
    /// What was needed, for the hold.
    needed: Recommendations,
    /// Extra replicas for waiting work, until it is gone.
    extra: u32,
    /// What was missed in the last whole stretch.
    missed: Option<f64>,
    /// How often the bound may be exceeded now: more as long as that misses nothing.
    risk: f64,
    /// How many start-up times replicas are held: longer where misses show that they are needed again.
    patience: f64,
}

impl Default for SloMemory {
    fn default() -> Self {
        Self {
            forecast: Forecast::default(),
            capacity: Capacity::default(),
            startups: Ring::new(STARTUPS),
            orders: Vec::new(),
            seen: None,
            measured: None,
            stretch: Stretch::default(),
            explained: false,
            needed: Recommendations::default(),
            extra: 0,
            missed: None,
            risk: RISK_START,
            patience: 1.0,
        }
    }
}

/// What the objective asks for, step by step.
pub(crate) struct Asked {
    pub(crate) proposal: Proposal,
    /// Steps before the last one.
    pub(crate) before: Vec<(u32, Reason)>,
}

/// What holds at one evaluation.
struct Moment<'a> {
    slo: &'a Slo,
    now: Time,
    /// Replicas asked for, and those that serve.
    spec: u32,
    ready: u32,
    /// Seconds from order to service.
    startup: f64,
}

/// Learns from the measurement, and asks.
pub(crate) fn step(
    view: &View<'_>,
    slo: &Slo,
    demand: Option<&Result<Box<Demand>, String>>,
    memory: &mut SloMemory,
) -> Asked {
    let now = view.now;
    let (spec, ready) = (view.counts.spec, view.counts.ready.min(view.counts.spec));
    memory.see_pods(view.pods);
    memory.see_replicas(now, spec, ready);
    let startup = memory.startup(slo);
    let moment = Moment { slo, now, spec, ready, startup };
    let demand = match usable(now, demand) {
        Ok(demand) => demand,
        Err(cause) => return unavailable(now, cause),
    };
    memory.measure(&moment, demand);
    let Some(expected) = memory.forecast.expected() else { return unavailable(now, Cause::NotRead) };
    memory.ask(&moment, demand, &expected)
}

/// The measurement, or why there is none.
fn usable(now: Time, demand: Option<&Result<Box<Demand>, String>>) -> Result<&Demand, Cause> {
    match demand {
        None => Err(Cause::NotRead),
        Some(Err(error)) => Err(Cause::Failed(error.clone())),
        Some(Ok(demand)) if now.since(demand.at) > AGE_MAX.max(demand.window * 2) => {
            Err(Cause::Stale { last: Milli::from_reading(demand.rate), at: demand.at, why: String::new() })
        }
        Some(Ok(demand)) => demand.fault().map_or(Ok(demand), |fault| Err(Cause::Failed(fault))),
    }
}

fn unavailable(now: Time, cause: Cause) -> Asked {
    let metric = Name::from(SLO_METRIC_NAME);
    let unavailable =
        Unavailable { metric: metric.clone(), source_type: "External".into(), since: now, cause };
    let reason = Reason::MetricUnavailable(unavailable);
    let proposal = Proposal { metric, replicas: None, reason, current: None, active: None, failures: 1 };
    Asked { proposal, before: Vec::new() }
}

fn rounded(value: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = value.round() as u32;
    whole
}

impl SloMemory {
    /// How long pods took that are ready already, before any was ordered: from their node's acceptance.
    fn see_pods(&mut self, pods: &[Pod]) {
        if self.startups.len() > 0 {
            return;
        }
        for pod in pods.iter().filter(|pod| pod.is_ready()) {
            let (Some(started), Some(ready)) = (pod.started, pod.ready) else { continue };
            let took = ready.since.since(started).as_secs_f64();
            // A pod that was unready for a while says nothing of its start.
            if took > 0.0 && took <= STARTUP_MAX {
                self.startups.push(took);
            }
        }
    }

    /// Notes orders, and how long they took.
    fn see_replicas(&mut self, now: Time, spec: u32, ready: u32) {
        let (before, served) = self.seen.unwrap_or((spec, ready));
        self.seen = Some((spec, ready));
        if spec > before {
            self.orders.push((now, spec));
        }
        // What was cancelled will never serve.
        self.orders.iter_mut().for_each(|order| order.1 = order.1.min(spec));
        if self.orders.len() > 256 {
            self.orders.remove(0);
        }
        if ready > served {
            for (ordered, total) in &self.orders {
                if *total <= ready && *total > served {
                    self.startups.push(now.since(*ordered).as_secs_f64());
                }
            }
        }
        self.orders.retain(|(_, total)| *total > ready);
    }

    /// Seconds from order to service, of which nine of ten are shorter.
    fn startup(&self, slo: &Slo) -> f64 {
        let known = slo.startup.map(|startup| startup.as_secs_f64());
        let learned = known.or_else(|| self.startups.quantile(0.9));
        learned.unwrap_or(STARTUP_DEFAULT).clamp(STARTUP_MIN, STARTUP_MAX)
    }

    /// Takes in a measurement, once.
    fn measure(&mut self, moment: &Moment<'_>, demand: &Demand) {
        // A clock that jumped back says nothing new until it has caught up.
        if self.measured.is_some_and(|last| demand.at <= last) {
            return;
        }
        let gap = self.measured.map_or(Duration::ZERO, |last| demand.at.since(last));
        if gap > GAP_MAX.max(demand.window * 4) {
            self.forecast.forget_level();
            self.stretch = Stretch::default();
        }
        self.measured = Some(demand.at);
        let fresh = if gap.is_zero() { demand.window } else { gap.min(demand.window) };
        let seconds = rounded(fresh.as_secs_f64()).max(1) as usize;
        let was_surprised = self.forecast.expected().is_some_and(|expected| expected.surprise);
        let risk = self.risk.max(moment.slo.risk);
        self.forecast.observe(demand.rate, seconds, &moment.horizon(risk));
        self.explained |= was_surprised;
        self.add_to_stretch(moment, demand, seconds as f64);
    }

    fn add_to_stretch(&mut self, moment: &Moment<'_>, demand: &Demand, seconds: f64) {
        let in_flight = demand.in_flight.unwrap_or(0.0);
        let waits = self
            .capacity
            .carries()
            .is_some_and(|carries| in_flight > f64::from(moment.ready) * carries.places * 1.5);
        if self.stretch.seconds == 0.0 {
            self.explained |= waits;
        }
        let (bound, allowed) = moment.slo.bound();
        let own = &mut self.stretch;
        own.seconds += seconds;
        own.in_flight += in_flight * seconds;
        own.ready += f64::from(moment.ready) * seconds;
        let judged = demand.latency.as_ref().and_then(|latency| latency.judge(bound, allowed));
        let answered =
            judged.and_then(|judged| judged.count).unwrap_or(demand.rate * demand.window.as_secs_f64());
        // A window that overlaps the last one counts for what is new in it.
        let share = (seconds / demand.window.as_secs_f64().max(0.001)).min(1.0);
        let answered = answered * share;
        own.completed += answered;
        if let Some(judged) = judged {
            own.over += judged.over * answered;
            if let Some(mean) = judged.mean {
                own.latency = (own.latency.0 + mean * answered, own.latency.1 + answered);
            }
        }
        if let (Some(errors), Some(most)) = (demand.errors, moment.slo.errors()) {
            // Errors beyond the promise count like late requests, in proportion.
            own.over += if errors > most { answered * allowed * errors / most } else { 0.0 };
        }
        if let Some(cpu) = demand.cpu {
            own.cpu = Some(own.cpu.unwrap_or(0.0) + cpu.used * seconds);
            own.limit = Some(cpu.per_replica);
        }
        let enough = own.seconds >= STRETCH || self.capacity.carries().is_none() && own.completed >= 50.0;
        if enough {
            self.end_stretch(moment, allowed);
        }
    }

    fn end_stretch(&mut self, moment: &Moment<'_>, allowed: f64) {
        let mut own = std::mem::take(&mut self.stretch);
        own.in_flight /= own.seconds;
        own.ready /= own.seconds;
        let rate = own.completed / own.seconds;
        let full = self
            .capacity
            .carries()
            .is_some_and(|carries| rate * carries.service > 0.93 * own.ready * carries.places);
        let starts = own.ready < f64::from(moment.spec) * 0.99;
        let explained = std::mem::take(&mut self.explained) || full || starts;
        self.capacity.learn(&own, allowed, explained);
        let misses = own.misses(allowed);
        if misses {
            self.patience = (self.patience * PATIENCE_UP).min(PATIENCE_MAX);
            self.risk = (self.risk * RISK_DOWN).max(moment.slo.risk);
        } else {
            self.patience = (self.patience * PATIENCE_DOWN).max(1.0);
            self.risk = (self.risk * RISK_UP).min(RISK_MAX);
        }
        self.missed = (misses && !explained).then(|| own.over / own.completed);
    }

    /// The chain of what is asked for.
    fn ask(&mut self, moment: &Moment<'_>, demand: &Demand, expected: &Expected) -> Asked {
        let active = Some(expected.now > 1e-9 || demand.in_flight.is_some_and(|requests| requests > 0.0));
        let Some(carries) = self.capacity.carries() else {
            return self.unknown(moment, demand, active);
        };
        let mut steps = Vec::with_capacity(5);
        let (bound, _) = moment.slo.bound();
        if carries.service * self.capacity.trim() > bound {
            let reason = ObjectiveReason::Unmeetable {
                objective: moment.slo.objectives.to_string(),
                service: Milli::from_f64(carries.service * self.capacity.trim()),
            };
            steps.push((moment.spec, Reason::Objective(reason)));
        }
        let now = moment.replicas(expected.now, &carries, expected.dispersion);
        let each = if now > 0 { expected.now / f64::from(now) } else { 1.0 / carries.service };
        let reason = ObjectiveReason::Demand {
            objective: moment.slo.objectives.to_string(),
            rate: Milli::from_f64(expected.now),
            each: Milli::from_f64(each),
            trim: self
                .missed
                .map(|share| (Milli::from_f64(share * 100.0), Milli::from_f64(self.capacity.trim() * 100.0))),
        };
        steps.push((now, Reason::Objective(reason)));
        let needed = moment.replicas(expected.bound, &carries, expected.dispersion).max(now);
        if needed > now {
            let reason = ObjectiveReason::Forecast {
                bound: Milli::from_f64(expected.bound),
                startup: Duration::from_secs_f64(moment.startup.round()),
                past: Duration::from_secs(expected.past.into()),
                trend: expected.trend,
            };
            steps.push((needed, Reason::Objective(reason)));
        }
        let held = self.hold(moment, needed);
        let with_extra = now.saturating_add(self.drain(moment, demand, expected, &carries, now));
        let held = held.filter(|held| held.replicas > needed && held.replicas >= with_extra);
        if let Some(held) = held {
            let startup = Duration::from_secs_f64(moment.startup.round());
            steps.push((
                held.replicas,
                Reason::Objective(ObjectiveReason::Held { needed_at: held.at, startup }),
            ));
        } else if with_extra > needed {
            let waiting = Milli::from_f64(moment.waiting(demand, &carries));
            let reason = ObjectiveReason::Waiting { waiting, extra: with_extra - needed };
            steps.push((with_extra, Reason::Objective(reason)));
        }
        let most = moment.spec.saturating_mul(GROWTH_MAX).max(moment.spec.saturating_add(GROWTH_FREE));
        if steps.last().is_some_and(|(to, _)| *to > most) {
            steps.push((most, Reason::Objective(ObjectiveReason::Growth { factor: GROWTH_MAX })));
        }
        asked(steps, expected.now, active)
    }

    /// As long as nothing is known of a replica, they stay, and grow by half where requests pile up.
    fn unknown(&self, moment: &Moment<'_>, demand: &Demand, active: Option<bool>) -> Asked {
        let piled = demand.in_flight.is_some_and(|requests| requests > 4.0 * f64::from(moment.ready.max(1)));
        let starting = moment.ready < moment.spec;
        let to = match piled && !starting {
            true => moment.spec + moment.spec.div_ceil(2),
            false if moment.spec == 0 && active == Some(true) => 1,
            false => moment.spec,
        };
        asked(vec![(to, Reason::Objective(ObjectiveReason::Learning))], demand.rate, active)
    }

    /// What was needed within the time to get it back.
    fn hold(&mut self, moment: &Moment<'_>, needed: u32) -> Option<Recommendation> {
        let now = moment.now;
        let since = moment.now - Duration::from_secs_f64(moment.startup * self.patience);
        self.needed.store_extremes(Recommendation { replicas: needed, at: now }, |at| at < since, false);
        self.needed.highest(|at| at >= since)
    }

    /// Extra replicas so that what will wait when they serve is soon gone; kept until little waits.
    fn drain(
        &mut self,
        moment: &Moment<'_>,
        demand: &Demand,
        expected: &Expected,
        carries: &Carries,
        needed: u32,
    ) -> u32 {
        let each = carries.places / carries.service;
        let drain = DRAIN.max(2.0 * moment.slo.bound().0);
        let waiting = moment.waiting(demand, carries);
        if waiting < expected.now * 0.5 + f64::from(moment.ready) * carries.places * 0.2 {
            self.extra = 0;
            return 0;
        }
        let peak = self.peak(moment, waiting, expected.now, each);
        let spare = f64::from(needed) * each - expected.now;
        let extra = ceil((peak / drain - spare) / each);
        let most = ceil((f64::from(needed) * DRAIN_BUDGET / moment.startup).floor());
        self.extra = self.extra.max(extra.min(most));
        self.extra
    }

    /// The most that will wait until a replica ordered now serves, with those that start serving on their way.
    fn peak(&self, moment: &Moment<'_>, waiting: f64, rate: f64, each: f64) -> f64 {
        let mut changes: Vec<(f64, u32)> = self
            .orders
            .iter()
            .map(|(ordered, total)| {
                ((moment.startup - moment.now.since(*ordered).as_secs_f64()).max(0.0), *total)
            })
            .collect();
        changes.sort_by(|a, b| a.0.total_cmp(&b.0));
        changes.push((moment.startup, u32::MAX));
        let (mut at, mut serving, mut waits, mut peak) = (0.0, moment.ready, waiting, waiting);
        for (until, total) in changes {
            let until = until.min(moment.startup);
            waits = f64::max(waits + (rate - f64::from(serving) * each) * (until - at), 0.0);
            peak = f64::max(peak, waits);
            at = until;
            serving = serving.max(if total == u32::MAX { serving } else { total });
        }
        // What will be gone by then needs nobody who comes then.
        if waits <= 0.0 { 0.0 } else { peak }
    }
}

fn asked(mut steps: Vec<(u32, Reason)>, rate: f64, active: Option<bool>) -> Asked {
    let learning = || (0, Reason::Objective(ObjectiveReason::Learning));
    let (replicas, reason) = steps.pop().unwrap_or_else(learning);
    let proposal = Proposal {
        metric: Name::from(SLO_METRIC_NAME),
        replicas: Some(replicas),
        reason,
        current: Some(CurrentMetric::Value(Milli::from_reading(rate))),
        active,
        failures: 0,
    };
    Asked { proposal, before: steps }
}

impl Moment<'_> {
    fn horizon(&self, risk: f64) -> Horizon {
        let smoothing = (2.0 * self.slo.bound().0).clamp(SMOOTHING_MIN, SMOOTHING_MAX);
        Horizon { lead: self.startup + 2.0, smoothing, risk }
    }

    /// The fewest replicas that keep the objective at a rate.
    fn replicas(&self, rate: f64, carries: &Carries, dispersion: f64) -> u32 {
        if rate <= 0.0 {
            return 0;
        }
        let (bound, allowed) = self.slo.bound();
        let queue = Queue {
            offered: rate * carries.service,
            wait_max: (bound / carries.service - 1.5).max(0.1),
            risk: allowed,
            variation: 0.5 * (dispersion + 0.3),
        };
        ceil(f64::from(queue.servers()) / carries.places)
    }

    /// Requests that wait, as far as can be seen.
    fn waiting(&self, demand: &Demand, carries: &Carries) -> f64 {
        (demand.in_flight.unwrap_or(0.0) - f64::from(self.ready) * carries.places).max(0.0)
    }
}
