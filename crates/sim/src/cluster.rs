//! The virtual cluster: replicas, their queues, and what of them can be measured, second by second.
//!
//! Requests are followed one by one, as far as there are not too many of them ([`REQUESTS_MAX`]): a request costs some
//! tens of nanoseconds. Beyond that they flow: a backlog that fills and drains, and around it the stationary waiting times
//! of `flyball_engine::queueing` ([`Fluid`]). Both give the same measurements.
//!
//! A replica is paid for from its creation and serves after its start-up. The youngest go first, starting ones before
//! those that serve; what they have begun they finish.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use flyball_engine::queueing::Queue;

use crate::latency::Latencies;
use crate::load::{Arrivals, Load, Requests};
use crate::profile::{Profile, Router, Sampler};
use crate::random::Random;

/// More requests than this flow, rather than being followed one by one: a minute's work.
pub const REQUESTS_MAX: f64 = 5e8;

/// Completions are noted up to this many seconds ahead; no service takes longer.
const AHEAD: usize = 4096;

/// Parts of a second in which a flow is computed.
const PARTS: u32 = 2;

/// What was measured in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Second {
    /// Requests that arrived.
    pub(crate) arrived: f64,
    /// Requests that were answered.
    pub(crate) completed: f64,
    /// Of these, those that took longer than the objective.
    pub(crate) over: f64,
    /// Requests that were refused, because too many waited.
    pub(crate) refused: f64,
    /// The sum of the latencies of those answered, in seconds.
    pub(crate) latency_sum: f64,
    /// Time that replicas worked, in seconds of one request at a time.
    pub(crate) busy: f64,
    /// Requests in the system at its end.
    pub(crate) in_flight: f64,
    /// Replicas that serve at its end.
    pub(crate) ready: u32,
    /// Replicas that start at its end.
    pub(crate) starting: u32,
}

/// One replica.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) id: u32,
    /// Microseconds.
    pub(crate) created: u64,
    pub(crate) ready: u64,
}

/// A cluster of one target.
pub(crate) struct Cluster<'a> {
    profile: &'a Profile,
    pub(crate) replicas: Vec<Replica>,
    next_id: u32,
    now: u64,
    /// Microseconds.
    objective: u64,
    router: Routing,
    arrivals: Source<'a>,
    sampler: Sampler,
    random: Random,
    log: Log,
    in_flight: f64,
}

/// The arrivals of a load, one ahead.
struct Source<'a> {
    load: &'a Load,
    requests: Requests<'a>,
    next: Option<u64>,
    per_second: Vec<f64>,
}

enum Routing {
    Central(Central),
    Local(Local),
    Fluid(Fluid),
}

/// What happened, by second; the ring reaches ahead to where completions are already known.
struct Log {
    ring: Vec<Second>,
    latencies: Latencies,
    objective: u64,
    over: f64,
}

fn micros(seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let micros = (seconds * 1e6) as u64;
    micros
}

fn slot(micros: u64) -> usize {
    (micros / 1_000_000 % AHEAD as u64) as usize
}

impl Log {
    /// A request that arrived, began and ended at these times.
    fn served(&mut self, arrived: u64, began: u64, ended: u64) {
        let latency = ended - arrived;
        let over = if latency > self.objective { 1.0 } else { 0.0 };
        self.latencies.add(latency, 1.0);
        self.over += over;
        let second = &mut self.ring[slot(ended)];
        second.completed += 1.0;
        second.over += over;
        second.latency_sum += latency as f64 * 1e-6;
        let mut from = began;
        while from < ended {
            let to = ended.min((from / 1_000_000 + 1) * 1_000_000);
            self.ring[slot(from)].busy += (to - from) as f64 * 1e-6;
            from = to;
        }
    }

    fn refused(&mut self, arrived: u64) {
        self.ring[slot(arrived)].refused += 1.0;
        self.over += 1.0;
        self.latencies.add_lost(1.0);
    }
}

impl<'a> Cluster<'a> {
    /// With so many replicas that serve already.
    pub(crate) fn new(
        load: &'a Load,
        arrivals: Arrivals,
        profile: &'a Profile,
        objective: f64,
        replicas: u32,
        seed: u64,
    ) -> Self {
        let router = match profile.router {
            _ if load.requests() > REQUESTS_MAX => Routing::Fluid(Fluid::default()),
            Router::Central => Routing::Central(Central::default()),
            router => Routing::Local(Local { round_robin: router == Router::RoundRobin, ..Local::default() }),
        };
        let (objective, mut requests) = (micros(objective), load.requests_from(arrivals, seed));
        let is_fluid = matches!(router, Routing::Fluid(_));
        let next = if is_fluid { None } else { requests.next().map(micros) };
        let per_second = if is_fluid { load.per_second() } else { Vec::new() };
        let log = Log {
            ring: vec![Second::default(); AHEAD],
            latencies: Latencies::default(),
            objective,
            over: 0.0,
        };
        let mut cluster = Self {
            profile,
            replicas: Vec::new(),
            next_id: 0,
            now: 0,
            objective,
            router,
            arrivals: Source { load, requests, next, per_second },
            sampler: profile.service.sampler(),
            random: Random::new(seed),
            log,
            in_flight: 0.0,
        };
        for _ in 0..replicas {
            cluster.add(0);
        }
        cluster
    }

    /// Replicas, starting ones included.
    pub(crate) fn size(&self) -> u32 {
        u32::try_from(self.replicas.len()).unwrap_or(u32::MAX)
    }

    fn add(&mut self, ready: u64) {
        let id = self.next_id;
        self.next_id += 1;
        self.replicas.push(Replica { id, created: self.now, ready });
        match &mut self.router {
            Routing::Central(central) => {
                central.free.extend((0..self.profile.concurrency).map(|_| Reverse((ready, id))));
            }
            Routing::Local(local) => local.add(id, ready, self.profile.concurrency),
            Routing::Fluid(_) => {}
        }
    }

    /// Brings the replicas to so many.
    pub(crate) fn scale(&mut self, to: u32) {
        let startup = micros(self.profile.startup.as_secs_f64());
        while self.size() < to {
            self.add(self.now + startup);
        }
        if self.size() > to {
            // Replicas stand in the order of their creation, so the youngest are the last.
            let gone: Vec<u32> = self.replicas.drain(to as usize..).map(|replica| replica.id).collect();
            let first_gone = gone.first().copied().unwrap_or(u32::MAX);
            match &mut self.router {
                Routing::Central(central) => central.free.retain(|Reverse((_, id))| *id < first_gone),
                Routing::Local(local) => local.replicas.retain(|replica| replica.id < first_gone),
                Routing::Fluid(_) => {}
            }
        }
    }

    /// Lives a second, and says what was measured in it.
    pub(crate) fn tick(&mut self) -> Second {
        let until = self.now + 1_000_000;
        let limit = self.profile.queue_limit.map(|each| each as usize * self.replicas.len().max(1));
        let (log, random, arrivals) = (&mut self.log, &mut self.random, &mut self.arrivals);
        match &mut self.router {
            Routing::Central(central) => central.live(until, limit, arrivals, log, &self.sampler, random),
            Routing::Local(local) => {
                local.live(until, self.profile.queue_limit, arrivals, log, &self.sampler, random);
            }
            Routing::Fluid(fluid) => {
                fluid.live(self.now, &self.replicas, self.profile, arrivals, log, self.objective, limit);
            }
        }
        let mut second = std::mem::take(&mut self.log.ring[slot(self.now)]);
        self.now = until;
        self.in_flight = (self.in_flight + second.arrived - second.completed - second.refused).max(0.0);
        second.in_flight = self.in_flight;
        second.ready =
            u32::try_from(self.replicas.iter().filter(|r| r.ready <= until).count()).unwrap_or(u32::MAX);
        second.starting = self.size() - second.ready;
        second
    }

    /// All latencies, the share over the objective among them; those still waiting count with what they have waited.
    pub(crate) fn finish(mut self) -> (Latencies, f64) {
        let waiting: Vec<u64> = match &self.router {
            Routing::Central(central) => central.queue.iter().copied().collect(),
            Routing::Local(local) => local.orphans.iter().copied().collect(),
            Routing::Fluid(_) => Vec::new(),
        };
        for arrived in waiting {
            let latency = self.now.saturating_sub(arrived);
            self.log.latencies.add(latency, 1.0);
            self.log.over += if latency > self.objective { 1.0 } else { 0.0 };
        }
        (self.log.latencies, self.log.over)
    }
}

impl Source<'_> {
    /// The next arrival before `until`, taken out and counted.
    fn take(&mut self, until: u64, log: &mut Log) -> Option<u64> {
        let arrived = self.next.filter(|next| *next < until)?;
        self.next = self.requests.next().map(micros);
        log.ring[slot(arrived)].arrived += 1.0;
        Some(arrived)
    }
}

/// One queue before all replicas: whoever is free first takes the first.
#[derive(Default)]
struct Central {
    /// When each place is free again, and of which replica it is.
    free: BinaryHeap<Reverse<(u64, u32)>>,
    queue: VecDeque<u64>,
    /// When those that have been given a place begin, as far as that may lie ahead; kept only where the queue is bounded.
    begins: VecDeque<u64>,
}

impl Central {
    fn live(
        &mut self,
        until: u64,
        limit: Option<usize>,
        arrivals: &mut Source<'_>,
        log: &mut Log,
        sampler: &Sampler,
        random: &mut Random,
    ) {
        loop {
            let arrived = match self.queue.front() {
                Some(arrived) => *arrived,
                None => match arrivals.take(until, log) {
                    Some(arrived) if self.is_full(arrived, limit) => {
                        log.refused(arrived);
                        continue;
                    }
                    Some(arrived) => {
                        self.queue.push_back(arrived);
                        arrived
                    }
                    None => return,
                },
            };
            let Some(mut place) = self.free.peek_mut() else { break };
            let begins = arrived.max(place.0.0);
            if begins >= until {
                break;
            }
            self.queue.pop_front();
            let ends = begins + micros(sampler.draw(random)).max(1);
            place.0.0 = ends;
            drop(place);
            if limit.is_some() {
                self.begins.push_back(begins);
            }
            log.served(arrived, begins, ends);
        }
        while let Some(arrived) = arrivals.take(until, log) {
            match self.is_full(arrived, limit) {
                true => log.refused(arrived),
                false => self.queue.push_back(arrived),
            }
        }
    }

    fn is_full(&mut self, arrived: u64, limit: Option<usize>) -> bool {
        let Some(limit) = limit else { return false };
        while self.begins.front().is_some_and(|begins| *begins <= arrived) {
            self.begins.pop_front();
        }
        self.begins.len() + self.queue.len() > limit
    }
}

/// A queue at each replica.
#[derive(Default)]
struct Local {
    round_robin: bool,
    replicas: Vec<LocalReplica>,
    next: usize,
    /// Requests that found no replica at all.
    orphans: VecDeque<u64>,
}

struct LocalReplica {
    id: u32,
    ready: u64,
    places: BinaryHeap<Reverse<u64>>,
    /// When its requests end, those that wait included.
    ends: BinaryHeap<Reverse<u64>>,
}

impl Local {
    fn add(&mut self, id: u32, ready: u64, concurrency: u32) {
        let places = (0..concurrency).map(|_| Reverse(ready)).collect();
        self.replicas.push(LocalReplica { id, ready, places, ends: BinaryHeap::new() });
    }

    fn live(
        &mut self,
        until: u64,
        limit: Option<u32>,
        arrivals: &mut Source<'_>,
        log: &mut Log,
        sampler: &Sampler,
        random: &mut Random,
    ) {
        loop {
            let waited = if self.replicas.is_empty() { None } else { self.orphans.pop_front() };
            let Some(arrived) = waited.or_else(|| arrivals.take(until, log)) else { return };
            let Some(index) = self.choose(arrived) else {
                self.orphans.push_back(arrived);
                continue;
            };
            let replica = &mut self.replicas[index];
            let most = limit.map(|limit| limit as usize + replica.places.len());
            if most.is_some_and(|most| replica.ends.len() >= most) {
                log.refused(arrived);
                continue;
            }
            let Some(mut place) = replica.places.peek_mut() else { continue };
            let begins = arrived.max(place.0);
            let ends = begins + micros(sampler.draw(random)).max(1);
            *place = Reverse(ends);
            drop(place);
            replica.ends.push(Reverse(ends));
            // The ring reaches so far ahead; a queue that is longer ends there.
            let ends = ends.min(until + (AHEAD as u64 - 2) * 1_000_000);
            log.served(arrived, begins.min(ends), ends);
        }
    }

    /// Of those that serve; where none does yet, the one that will first.
    fn choose(&mut self, arrived: u64) -> Option<usize> {
        let count = self.replicas.len();
        for replica in &mut self.replicas {
            while replica.ends.peek().is_some_and(|end| end.0 <= arrived) {
                replica.ends.pop();
            }
        }
        if self.round_robin {
            for offset in 0..count {
                let index = (self.next + offset) % count;
                if self.replicas[index].ready <= arrived {
                    self.next = index + 1;
                    return Some(index);
                }
            }
        }
        let serves = |replica: &LocalReplica| replica.ready <= arrived;
        let few = (0..count).filter(|index| serves(&self.replicas[*index]));
        few.min_by_key(|index| self.replicas[*index].ends.len())
            .or_else(|| (0..count).min_by_key(|index| self.replicas[*index].ready))
    }
}

/// Requests as a flow, for rates at which single ones are too many.
#[derive(Default)]
struct Fluid {
    /// Requests that wait beyond what is usual at such a load.
    backlog: f64,
}

impl Fluid {
    #[expect(clippy::too_many_arguments, reason = "parts of one cluster, borrowed one by one")]
    fn live(
        &mut self,
        now: u64,
        replicas: &[Replica],
        profile: &Profile,
        arrivals: &Source<'_>,
        log: &mut Log,
        objective: u64,
        limit: Option<usize>,
    ) {
        let _ = arrivals.load;
        let rate = arrivals.per_second.get((now / 1_000_000) as usize).copied().unwrap_or(0.0);
        let service = profile.service.mean().as_secs_f64();
        let part = 1.0 / f64::from(PARTS);
        for index in 0..PARTS {
            let at = now + u64::from(index) * 1_000_000 / u64::from(PARTS);
            let places = replicas.iter().filter(|replica| replica.ready <= at).count() as f64
                * f64::from(profile.concurrency);
            let (arrived, capacity) = (rate * part, places / service * part);
            let served = (self.backlog + arrived).min(capacity);
            let wait = if capacity > 0.0 { self.backlog / capacity * part } else { 3600.0 };
            let second = &mut log.ring[slot(now)];
            second.arrived += arrived;
            second.completed += served;
            second.busy += served * service;
            self.backlog = self.backlog + arrived - served;
            if let Some(limit) = limit.map(|limit| limit as f64).filter(|limit| self.backlog > *limit) {
                second.refused += self.backlog - limit;
                log.over += self.backlog - limit;
                log.latencies.add_lost(self.backlog - limit);
                self.backlog = limit;
            }
            let variation = 0.5 * (1.0 + profile.service.variation());
            record(log, slot(now), arrived, wait, service, variation, rate * service, places, objective);
        }
    }
}

/// The latencies of a flow: the wait in the backlog, the stationary wait in four quantiles, and the service.
#[expect(clippy::too_many_arguments, reason = "numbers of one formula")]
fn record(
    log: &mut Log,
    slot: usize,
    arrived: f64,
    backlog: f64,
    service: f64,
    variation: f64,
    offered: f64,
    places: f64,
    objective: u64,
) {
    let queue = |wait_max: f64| Queue { offered, wait_max, risk: 0.0, variation };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "places of replicas")]
    let count = places as u32;
    // With a backlog, all wait for it and no more.
    let waits = if backlog > 0.0 || places <= offered { 0.0 } else { queue(0.0).share_late(count) };
    let mean = service * variation / (places - offered).max(1e-9);
    let mut add = |wait: f64, share: f64| {
        let (latency, weight) = (micros(backlog + wait + service), arrived * share);
        let over = if latency > objective { weight } else { 0.0 };
        log.latencies.add(latency, weight);
        log.over += over;
        log.ring[slot].over += over;
        log.ring[slot].latency_sum += latency as f64 * 1e-6 * weight;
    };
    add(0.0, 1.0 - waits);
    for (quantile, share) in [(0.25, 0.5), (0.7, 0.4), (0.95, 0.09), (0.995, 0.01)] {
        add(-mean * (1.0_f64 - quantile).ln(), waits * share);
    }
}
