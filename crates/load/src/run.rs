//! Runs a plan: workers for a closed load, a clock for an open one, and an end that no server can delay.
//!
//! At the end of a phase no more requests start. Those in flight are awaited as hey does, but only briefly; requests still
//! unanswered then are reported separately, since they neither succeeded nor failed.

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
    time::{Instant as Tick, sleep_until, timeout},
};

use crate::{
    Load, MAX_IN_FLIGHT, Phase, Plan, PlanError, Report, Stats, Until,
    client::{Client, Shared},
    connect::tls,
    pace::{self, Pace},
    record::Recorder,
    request::Outgoing,
};

/// Longest wait for requests in flight when a phase ends or is stopped: a healthy server responds within it, and a hung
/// one costs no more.
pub const DRAIN_MAX: Duration = Duration::from_secs(1);

/// A handle to a running load, to read its statistics or stop it. Clones refer to the same run.
#[derive(Clone)]
pub struct Handle {
    recorder: Arc<Mutex<Recorder>>,
    stop: watch::Sender<bool>,
}

impl Handle {
    /// Creates a handle for one run of `plan`.
    pub fn new(plan: &Plan) -> Self {
        Handle {
            recorder: Arc::new(Mutex::new(Recorder::new(Instant::now(), plan.keep_samples))),
            stop: watch::Sender::new(false),
        }
    }

    /// Returns the totals, and the figures of the last full second.
    pub fn stats(&self) -> Stats {
        self.lock().stats(Instant::now())
    }

    /// Ends the run: no more requests start, those in flight get up to [`DRAIN_MAX`], and the report counts those still
    /// unanswered.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state that the tasks of one run share.
struct Run {
    client: Arc<Shared>,
    handle: Handle,
    /// Clients with a free connection: an open rate reuses the last one, or creates one.
    idle: Mutex<Vec<Client>>,
    /// Requests started and not finished.
    in_flight: AtomicU64,
}

/// Runs the plan's phases one after the other and returns the report.
///
/// # Errors
/// Fails if TLS cannot be set up. Failed requests are counted in the report instead.
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
        if run_phase(phase, &run).await {
            break;
        }
    }
    Ok(Report::new(&mut handle.lock(), epoch.elapsed()))
}

/// A running phase.
struct RunningPhase {
    phase: Phase,
    start: Tick,
    /// Requests that may still start; 0 once the phase is over.
    left: AtomicU64,
    run: Arc<Run>,
}

/// Runs one phase to its end; true if the run was stopped instead.
async fn run_phase(phase: Phase, run: &Arc<Run>) -> bool {
    let left = AtomicU64::new(phase.limit());
    let running = Arc::new(RunningPhase { phase, start: Tick::now(), left, run: run.clone() });
    let mut stop = run.handle.stop.subscribe();
    let mut tasks = JoinSet::new();
    let stopped = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => true,
        // Polled before the deadline: requests due by then start even if this task runs late.
        () = running.send_all(&mut tasks) => false,
        () = running.deadline() => false,
    };
    running.left.store(0, Ordering::Relaxed);
    let drain = run.client.target.timeout.map_or(DRAIN_MAX, |limit| limit.min(DRAIN_MAX));
    let ended = timeout(drain, async { while tasks.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tasks.shutdown().await;
    }
    run.handle.lock().unfinished += run.in_flight.swap(0, Ordering::Relaxed);
    stopped
}

impl RunningPhase {
    async fn deadline(&self) {
        match self.phase.until {
            Until::Elapsed(length) => sleep_until(self.start + length).await,
            Until::Requests(_) => std::future::pending().await,
        }
    }

    /// Sends all requests of the phase, and waits for the rest of its time.
    async fn send_all(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        match self.phase.load {
            Load::Closed { workers, rate } => {
                for _ in 0..self.phase.limit().min(workers as u64) {
                    tasks.spawn(self.clone().work(rate));
                }
            }
            Load::Open { rate } => self.send_at_rate(tasks, rate).await,
        }
        while tasks.join_next().await.is_some() {}
        if let Until::Elapsed(_) = self.phase.until {
            self.deadline().await;
        }
    }

    /// Runs one worker. All workers take from one count, so every request is sent however they divide.
    async fn work(self: Arc<Self>, rate: Option<f64>) {
        let mut client = Client::new(self.run.client.clone());
        let mut pace = rate.map(Pace::new);
        while self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        {
            if let Some(pace) = &mut pace
                && !self.wait_for_turn(pace).await
            {
                return;
            }
            self.run.send(&mut client, None).await;
        }
    }

    /// Waits for a worker's next tick; false if the phase ends first.
    async fn wait_for_turn(&self, pace: &mut Pace) -> bool {
        let due = pace.next(self.start.elapsed());
        if matches!(self.phase.until, Until::Elapsed(length) if due > length) {
            return false;
        }
        let mut stop = self.run.handle.stop.subscribe();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => false,
            () = sleep_until(self.start + due) => true,
        }
    }

    /// Starts each request when it is due, and late ones immediately.
    ///
    /// At [`MAX_IN_FLIGHT`] the next one waits; its latency counts from when it was due, so the report includes the wait.
    async fn send_at_rate(&self, tasks: &mut JoinSet<()>, rate: f64) {
        let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        for index in 0..self.phase.limit() {
            let due = self.start + pace::due(index, rate);
            if due > Tick::now() {
                sleep_until(due).await;
            }
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let run = self.run.clone();
            tasks.spawn(async move {
                let mut client = run.idle().pop().unwrap_or_else(|| Client::new(run.client.clone()));
                run.send(&mut client, Some(due.into())).await;
                run.idle().push(client);
                drop(permit);
            });
            while tasks.try_join_next().is_some() {}
        }
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
