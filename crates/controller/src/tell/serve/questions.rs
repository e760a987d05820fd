//! Questions of users: queries and everything else that may take long and decides nothing.
//!
//! The loop, the scrapes and the Services' proxies go on as if nobody asked. So a question runs on a thread of its own, which
//! the kernel runs only where no other thread wants to (`SCHED_IDLE`: one that wakes up takes its place at once); few run at a time ([`QUESTIONS_AT_ONCE_MAX`]), some wait in front of them ([`QUESTIONS_WAITING_MAX`]), and the
//! rest is refused. A question ends when its time is over, which counts from when its request began to arrive, or when its
//! client goes away.
//!
//! A thread of low priority must not keep a lock that others need: while it has the store it has the usual priority. Where the
//! kernel lets no thread raise its own (without `CAP_SYS_NICE`), it is lowered by less.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use flyball_metrics::promql::{EngineOptions, QueryError, Stop};
use flyball_metrics::response::ErrorKind;
use flyball_metrics::{Lend, Store};
use parking_lot::Mutex;
use rustix::process::{getpriority_process, setpriority_process};
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::{Semaphore, oneshot};

/// Questions that run at the same time (Prometheus: `--query.max-concurrency`). Two, so that a short one does not wait for a
/// long one; more would only share the same processors and take more memory.
pub(crate) const QUESTIONS_AT_ONCE_MAX: usize = 2;
/// Questions that wait for others at most: what some Grafana dashboards ask at once.
const QUESTIONS_WAITING_MAX: usize = 200;
/// The longest that a question may take, its arrival and waiting included (Prometheus: `--query.timeout`).
pub(crate) const QUESTION_TIMEOUT_MAX: Duration = Duration::from_secs(120);
/// How much nicer a question's thread is where it cannot be raised while it has the store: others may wait for it.
const NICE_FOR_GOOD: i32 = 5;
/// The nicest that a thread can be.
const NICE_MAX: i32 = 19;

/// Where questions are asked. Clones are the same place.
#[derive(Clone)]
pub(crate) struct Questions {
    store: Arc<Mutex<Store>>,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

/// What a question reads, and when it ends.
pub(crate) struct Asked {
    store: LentStore,
    /// Ends it early.
    pub(crate) stop: Stop,
}

impl Asked {
    /// The store, for short turns.
    pub(crate) fn store(&self) -> &dyn Lend {
        &self.store
    }

    /// Options of the query engine that end a query with the question.
    pub(crate) fn options(&self, options: EngineOptions) -> EngineOptions {
        EngineOptions { stop: self.stop.clone(), ..options }
    }
}

/// Stops a query whose client has gone away.
struct Abandoned(Stop);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Questions {
    pub(crate) fn new(store: Arc<Mutex<Store>>) -> Questions {
        Questions {
            store,
            running: Arc::new(Semaphore::new(QUESTIONS_AT_ONCE_MAX)),
            waiting: Arc::new(Semaphore::new(QUESTIONS_AT_ONCE_MAX + QUESTIONS_WAITING_MAX)),
        }
    }

    /// Asks a question that began to arrive at `begun`, and must be answered within `timeout` of that.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        begun: Instant,
        timeout: Duration,
        question: impl FnOnce(&Asked) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let end = tokio::time::Instant::from_std(begun) + timeout.min(QUESTION_TIMEOUT_MAX);
        let place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| too_many())?;
        let queued = || timed_out("query timed out in query queue");
        let turn = tokio::time::timeout_at(end, Arc::clone(&self.running).acquire_owned());
        let turn = turn.await.map_err(|_| queued())?.map_err(|_| too_many())?;
        if tokio::time::Instant::now() >= end {
            return Err(queued());
        }
        let stop = Stop::default();
        let _abandoned = Abandoned(stop.clone());
        let asked = Asked { store: LentStore(Arc::clone(&self.store)), stop: stop.clone() };
        let (send, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("question".to_owned()).spawn(move || {
            let _held = (place, turn);
            lower_priority();
            // Nobody listens: the client went away.
            let _ = send.send(question(&asked));
        });
        thread.map_err(|error| failed(&error.to_string()))?;
        let Ok(answer) = tokio::time::timeout_at(end, answer).await else {
            stop.time_out();
            return Err(timed_out(&QueryError::Timeout.to_string()));
        };
        answer.map_err(|_| failed("it panicked; the log says where"))
    }
}

/// Does what takes long and is no question on a thread of the lowest priority; few such threads run at a time.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    static RUNNING: Semaphore = Semaphore::const_new(QUESTIONS_AT_ONCE_MAX);
    let turn = RUNNING.acquire().await.ok()?;
    let (send, done) = oneshot::channel();
    let thread = std::thread::Builder::new().name("answer".to_owned()).spawn(move || {
        let _turn = turn;
        lower_priority();
        let _ = send.send(work());
    });
    thread.ok()?;
    done.await.ok()
}

fn too_many() -> Unanswered {
    let message = format!(
        "too many queries: {QUESTIONS_AT_ONCE_MAX} are running and {QUESTIONS_WAITING_MAX} are waiting; ask again later"
    );
    Unanswered { kind: ErrorKind::Timeout, message }
}

fn timed_out(message: &str) -> Unanswered {
    Unanswered { kind: ErrorKind::Timeout, message: message.to_owned() }
}

fn failed(why: &str) -> Unanswered {
    Unanswered { kind: ErrorKind::Internal, message: format!("the query failed: {why}") }
}

/// The store, lent to a thread of low priority.
struct LentStore(Arc<Mutex<Store>>);

impl Lend for LentStore {
    fn lend(&self, read: &mut (dyn FnMut(&Store) + Send)) {
        let _raised = Raised::new();
        read(&self.0.lock());
    }
}

/// The usual priority, for as long as it lives.
struct Raised(());

impl Raised {
    fn new() -> Raised {
        let Priorities { usual, can_raise } = priorities();
        if can_raise {
            let _ = raise_priority(usual);
        }
        Raised(())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        lower_priority();
    }
}

/// Lets others go first. On Linux this is a matter of the calling thread alone.
fn lower_priority() {
    let Priorities { usual, can_raise } = priorities();
    let _ = if can_raise {
        schedule(NormalThreadSchedulePolicy::Idle)
    } else {
        setpriority_process(None, (usual + NICE_FOR_GOOD).min(NICE_MAX)).is_ok()
    };
}

/// Schedules the calling thread as most threads are, with its usual niceness.
fn raise_priority(usual: i32) -> bool {
    schedule(NormalThreadSchedulePolicy::Other) && setpriority_process(None, usual).is_ok()
}

fn schedule(policy: NormalThreadSchedulePolicy) -> bool {
    let policy = ThreadSchedulePolicy::Normal(policy);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy).is_ok()
}

/// How threads of this process are scheduled.
#[derive(Clone, Copy)]
struct Priorities {
    /// The niceness that they start with.
    usual: i32,
    /// Whether a thread that was lowered can be raised again.
    can_raise: bool,
}

/// Looked up once, and tried on a thread that ends.
fn priorities() -> Priorities {
    static PRIORITIES: OnceLock<Priorities> = OnceLock::new();
    *PRIORITIES.get_or_init(|| {
        let usual = getpriority_process(None).unwrap_or(0);
        let lower_and_raise = move || schedule(NormalThreadSchedulePolicy::Idle) && raise_priority(usual);
        let can_raise = std::thread::spawn(lower_and_raise).join().unwrap_or(false);
        Priorities { usual, can_raise }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use thread_priority::unix::thread_schedule_policy;

    use super::*;

    fn questions() -> Questions {
        Questions::new(Arc::new(Mutex::new(Store::default())))
    }

    /// Runs until it is stopped.
    fn endless(asked: &Asked) -> bool {
        while asked.stop.check().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    #[tokio::test]
    async fn a_question_ends_with_its_time() {
        let (questions, begun) = (questions(), Instant::now());
        assert_eq!(questions.ask(begun, QUESTION_TIMEOUT_MAX, |_| 7).await, Ok(7));
        let ended = questions.ask(begun, Duration::from_millis(20), endless).await;
        assert_eq!(ended, Err(timed_out("query timed out in expression evaluation")));
        let before = Instant::now() - Duration::from_secs(2);
        let late = questions.ask(before, Duration::from_secs(1), |_| ()).await;
        assert_eq!(late, Err(timed_out("query timed out in query queue")), "time counts from its first byte");
        let ended = questions.ask(begun, QUESTION_TIMEOUT_MAX, |_| -> u8 { panic!("on purpose") }).await;
        assert_eq!(ended.map_err(|unanswered| unanswered.kind), Err(ErrorKind::Internal));
    }

    #[tokio::test]
    async fn questions_are_bounded_and_end_with_their_clients() {
        let questions = questions();
        let ended = Arc::new(AtomicBool::new(false));
        let mut asked = Vec::new();
        for _ in 0..QUESTIONS_AT_ONCE_MAX + QUESTIONS_WAITING_MAX {
            let (questions, ended) = (questions.clone(), Arc::clone(&ended));
            let question = move |asked: &Asked| ended.store(endless(asked), Ordering::Relaxed);
            asked.push(tokio::spawn(async move {
                questions.ask(Instant::now(), QUESTION_TIMEOUT_MAX, question).await
            }));
        }
        while questions.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused =
            questions.ask(Instant::now(), QUESTION_TIMEOUT_MAX, |_| ()).await.expect_err("too many");
        assert_eq!(refused.kind.http_status(), 503);
        assert!(refused.message.starts_with("too many queries: 2 are running"), "{}", refused.message);
        asked.iter().for_each(|task| task.abort());
        for task in asked {
            assert!(task.await.is_err(), "aborted");
        }
        // Those that ran are stopped, and there is room again.
        assert_eq!(questions.ask(Instant::now(), QUESTION_TIMEOUT_MAX, |_| 7).await, Ok(7));
        assert!(ended.load(Ordering::Relaxed));
    }

    #[test]
    fn a_thread_that_has_the_store_has_the_usual_priority() {
        let now =
            || (thread_schedule_policy().expect("a policy"), getpriority_process(None).expect("a niceness"));
        let (before, store) = (now(), LentStore(Arc::new(Mutex::new(Store::default()))));
        let thread = std::thread::spawn(move || {
            lower_priority();
            let (lowered, mut lent) = (now(), None);
            store.lend(&mut |_| lent = Some(now()));
            (lowered, lent, now())
        });
        let (lowered, lent, after) = thread.join().expect("no panic");
        assert!(lowered != before && after == lowered, "{before:?} {lowered:?} {after:?}");
        assert_eq!(lent, Some(if priorities().can_raise { before } else { lowered }));
        assert_eq!(now(), before, "other threads keep theirs");
    }
}
