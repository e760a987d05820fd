//! Sends a plan: workers for a closed load, a clock for an open one, and an end that no server can put off.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    Load, MAX_IN_FLIGHT, Phase, Plan, PlanError, Report, Stats, Until,
    client::{Client, Shared},
    connect::tls,
    record::Recorder,
    request::Outgoing,
};

/// A running load seen from outside: look at it, or stop it. Clones are the same run.
#[derive(Clone)]
pub struct Handle {
    recorder: Arc<Mutex<Recorder>>,
    stop: watch::Sender<bool>,
}

impl Handle {
    /// A handle for one run of `plan`.
    pub fn new(plan: &Plan) -> Self {
        Handle {
            recorder: Arc::new(Mutex::new(Recorder::new(Instant::now(), plan.keep_samples))),
            stop: watch::Sender::new(false),
        }
    }

    /// Totals, and the last whole second.
    pub fn stats(&self) -> Stats {
        self.lock().stats(Instant::now())
    }

    /// Ends the run now; requests in flight are given up, and the report says how many.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the tasks of one run share.
struct Run {
    client: Arc<Shared>,
    handle: Handle,
    /// Clients whose connection is free: an open rate takes the last one back, or makes a new one.
    idle: Mutex<Vec<Client>>,
    /// Requests begun and not ended.
    in_flight: AtomicU64,
}

/// Sends the plan's phases one after the other and reports.
///
/// # Errors
/// When TLS can't be set up. Requests that fail are counted in the report instead.
pub async fn run(plan: Plan, handle: &Handle) -> Result<Report, PlanError> {
    let tls = tls(&plan.target).map_err(|problem| PlanError(vec![problem]))?;
    let epoch = Instant::now();
    let run = Arc::new(Run {
        client: Arc::new(Shared { first: Outgoing::first(&plan.target), target: plan.target, tls, epoch }),
        handle: handle.clone(),
        idle: Mutex::default(),
        in_flight: AtomicU64::new(0),
    });
    for phase in plan.phases {
        if play(phase, &run).await {
            break;
        }
    }
    Ok(Report::new(&mut handle.lock(), epoch.elapsed()))
}

/// Plays one phase to its end; true when the run was stopped instead.
async fn play(phase: Phase, run: &Arc<Run>) -> bool {
    let deadline = match phase.until {
        Until::Elapsed(length) => Some(tokio::time::Instant::now() + length),
        Until::Requests(_) => None,
    };
    let mut stop = run.handle.stop.subscribe();
    let mut tasks = JoinSet::new();
    let work = async {
        match phase.load {
            Load::Closed { workers, rate } => start_workers(&mut tasks, phase.limit(), workers, rate, run),
            Load::Open { rate } => send_at_rate(&mut tasks, phase.limit(), rate, run).await,
        }
        while tasks.join_next().await.is_some() {}
        if let Some(deadline) = deadline {
            sleep_until(deadline).await;
        }
    };
    let over = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let stopped = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => true,
        () = over => false,
        () = work => false,
    };
    tasks.shutdown().await;
    run.handle.lock().unfinished += run.in_flight.swap(0, Ordering::Relaxed);
    stopped
}

/// Starts workers that take requests from one shared count: all `limit` are sent, however they divide.
fn start_workers(tasks: &mut JoinSet<()>, limit: u64, workers: usize, rate: Option<f64>, run: &Arc<Run>) {
    let left = Arc::new(AtomicU64::new(limit));
    for _ in 0..limit.min(workers as u64) {
        tasks.spawn(work(left.clone(), rate, run.clone()));
    }
}

async fn work(left: Arc<AtomicU64>, rate: Option<f64>, run: Arc<Run>) {
    let mut client = Client::new(run.client.clone());
    let mut ticks = rate.map(|rate| {
        let period = Duration::from_secs_f64(1.0 / rate).max(Duration::from_nanos(1));
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks
    });
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        run.send(&mut client, None).await;
    }
}

/// Starts each request when it is due, and catches up at once with those that are late.
///
/// At [`MAX_IN_FLIGHT`] the next one waits; its latency counts from when it was due, so nothing is hidden.
async fn send_at_rate(tasks: &mut JoinSet<()>, limit: u64, rate: f64, run: &Arc<Run>) {
    let start = Instant::now();
    let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    for index in 0..limit {
        let due = start + Phase::due(index, rate);
        if due > Instant::now() {
            sleep_until(due.into()).await;
        }
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let run = run.clone();
        tasks.spawn(async move {
            let mut client = run.idle().pop().unwrap_or_else(|| Client::new(run.client.clone()));
            run.send(&mut client, Some(due)).await;
            run.idle().push(client);
            drop(permit);
        });
        while tasks.try_join_next().is_some() {}
    }
}

impl Run {
    async fn send(&self, client: &mut Client, planned: Option<Instant>) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let result = client.send(planned).await;
        self.handle.lock().record(Instant::now(), result);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
