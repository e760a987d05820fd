//! Who answers: the endpoints of one Service port, and the choice among them.
//!
//! The choice is the endpoint with the fewest requests in flight; among equals, the next one in turn. An endpoint that just
//! refused a connection is left out for a moment, and nothing fails for it as long as another accepts. A pod that leaves is out as soon as the node says so, before any object
//! changes. Without an endpoint a request waits, up to [`WAIT_MAX`], at most [`WAITING_MAX`] of them for each Service port.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::http::Pool;
use super::metrics::{Counters, Gauge};
use crate::node::network::{InFlight, Network, PodNetwork};

/// As long as a request waits for a pod: long enough to start a model server that loads its model.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);
/// Requests that may wait at once; each holds one connection and its buffers, so this bounds memory at some 20 MB.
pub(super) const WAITING_MAX: usize = 1024;
/// An endpoint that refused a connection is asked again after this.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
/// How long endpoints that all refuse are tried again when none of them has just been started.
const REFUSED_MAX: Duration = Duration::from_secs(1);

/// One endpoint of one port.
#[derive(Debug)]
pub(super) struct Backend {
    ip: Ipv4Addr,
    port: u16,
    /// `None`: an endpoint outside of this node.
    pod: Option<Arc<PodNetwork>>,
    in_flight: AtomicUsize,
    refused_at: Mutex<Option<Instant>>,
    /// Whether a connection was ever opened.
    has_accepted: AtomicBool,
    pub(super) pool: Pool,
}

/// The endpoints of one Service port.
#[derive(Debug)]
pub(super) struct Backends {
    list: RwLock<Vec<Arc<Backend>>>,
    changed: Notify,
    next: AtomicUsize,
    waiting: AtomicUsize,
    pub(super) counters: Arc<Counters>,
    network: Network,
}

/// Why nobody answers.
#[derive(Debug, PartialEq)]
pub(super) enum Unavailable {
    TooManyWaiting,
    NoneReady,
    Refused(String),
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooManyWaiting => {
                write!(f, "no endpoint is ready and {WAITING_MAX} requests wait for one already")
            }
            Self::NoneReady => write!(f, "no endpoint became ready within {} s", WAIT_MAX.as_secs()),
            Self::Refused(why) => write!(f, "every ready endpoint refused the connection: {why}"),
        }
    }
}

/// A backend that was chosen; counts as in flight until dropped.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) backend: Arc<Backend>,
    _pod: Option<InFlight>,
}

impl Drop for Chosen {
    fn drop(&mut self) {
        self.backend.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Backends {
    pub(super) fn new(counters: Arc<Counters>, network: Network) -> Self {
        Backends {
            list: RwLock::default(),
            changed: Notify::new(),
            next: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            counters,
            network,
        }
    }

    /// Takes over a new set of ready endpoints; those that stay keep their connections.
    pub(super) fn set(&self, ready: &BTreeMap<(Ipv4Addr, u16), ()>) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let known: BTreeMap<_, _> = list.drain(..).map(|b| ((b.ip, b.port), b)).collect();
        *list = ready
            .keys()
            .map(|(ip, port)| {
                let pod = self.network.get(*ip);
                let same = |b: &&Arc<Backend>| match (&b.pod, &pod) {
                    (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                    (None, None) => true,
                    _ => false,
                };
                known
                    .get(&(*ip, *port))
                    .filter(same)
                    .cloned()
                    .unwrap_or_else(|| Backend::new(*ip, *port, pod))
            })
            .collect();
        drop(list);
        self.changed.notify_waiters();
    }

    /// Chooses an endpoint that has not just refused; `None` if there is none.
    fn choose(&self) -> Option<Chosen> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<usize> = (0..list.len()).map(|at| (at + turn) % list.len()).collect();
        order.sort_by_key(|at| list[*at].in_flight.load(Ordering::Relaxed));
        order.into_iter().find_map(|at| list[at].enter())
    }

    /// Waits for an endpoint.
    pub(super) async fn choose_or_wait(&self) -> Result<Chosen, Unavailable> {
        if let Some(chosen) = self.choose() {
            return Ok(chosen);
        }
        let _place = Place::take(&self.waiting).ok_or(Unavailable::TooManyWaiting)?;
        let _gauge = Gauge::new(&self.counters, |c| &c.waiting);
        let until = Instant::now() + WAIT_MAX;
        loop {
            let changed = self.changed.notified();
            if let Some(chosen) = self.choose() {
                return Ok(chosen);
            }
            let pause = self
                .list
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .filter_map(|b| b.pause())
                .min();
            tokio::select! {
                () = changed => {}
                // an endpoint that refused is asked again after its pause
                () = tokio::time::sleep(pause.unwrap_or(WAIT_MAX)) => {}
                () = tokio::time::sleep_until(until) => return Err(Unavailable::NoneReady),
            }
        }
    }

    /// Chooses an endpoint and connects to it. One that refuses is passed over for the next; when all do, they are tried
    /// again for a while.
    pub(super) async fn connect(&self) -> Result<(Chosen, TcpStream), Unavailable> {
        let began = Instant::now();
        loop {
            let chosen = self.choose_or_wait().await?;
            match chosen.backend.connect().await {
                Ok(stream) => return Ok((chosen, stream)),
                Err(e) => {
                    if began.elapsed() > self.patience() && self.all_refuse() {
                        let Backend { ip, port, .. } = *chosen.backend;
                        return Err(Unavailable::Refused(format!("{ip}:{port}: {e}")));
                    }
                }
            }
        }
    }

    /// How long endpoints that all refuse are tried again: longer if one of them may still be starting.
    fn patience(&self) -> Duration {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        if list.iter().any(|backend| backend.is_starting()) { WAIT_MAX } else { REFUSED_MAX }
    }

    fn all_refuse(&self) -> bool {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        list.iter().all(|backend| backend.pause().is_some())
    }
}

impl Backend {
    fn new(ip: Ipv4Addr, port: u16, pod: Option<Arc<PodNetwork>>) -> Arc<Self> {
        Arc::new(Backend {
            ip,
            port,
            pod,
            in_flight: AtomicUsize::new(0),
            refused_at: Mutex::default(),
            has_accepted: AtomicBool::new(false),
            pool: Pool::default(),
        })
    }

    fn enter(self: &Arc<Self>) -> Option<Chosen> {
        if self.pause().is_some() {
            return None;
        }
        let pod = match &self.pod {
            Some(pod) => Some(pod.enter()?),
            None => None,
        };
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Chosen { backend: Arc::clone(self), _pod: pod })
    }

    /// Connects, and remembers a refusal for a moment.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        let connected = match &self.pod {
            Some(pod) => pod.connect(self.port).await,
            None => TcpStream::connect((self.ip, self.port)).await,
        };
        match connected {
            Ok(stream) => {
                self.has_accepted.store(true, Ordering::Relaxed);
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Err(e) => {
                self.pass_over();
                Err(e)
            }
        }
    }

    /// Leaves the endpoint out for a moment: it refuses, or closes connections as soon as they are open.
    pub(super) fn pass_over(&self) {
        *self.refused_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// What is left of the pause after a refusal.
    fn pause(&self) -> Option<Duration> {
        let refused_at = *self.refused_at.lock().unwrap_or_else(PoisonError::into_inner);
        REFUSED_PAUSE.checked_sub(refused_at?.elapsed()).filter(|left| !left.is_zero())
    }

    /// Whether a refusal may only mean that the program is not up yet: without a readiness probe a pod is an endpoint
    /// from its start.
    fn is_starting(&self) -> bool {
        !self.has_accepted.load(Ordering::Relaxed) && self.pod.as_ref().is_some_and(|pod| pod.is_young())
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.is_leaving())
    }
}

/// A place among those who wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Place(waiting);
        // counted first: a place that is one too many is given back by its drop
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(ports: &[u16]) -> Backends {
        let backends = Backends::new(Arc::default(), Network::default());
        backends.set(&ports.iter().map(|port| ((Ipv4Addr::LOCALHOST, *port), ())).collect());
        backends
    }

    #[test]
    fn the_least_busy_is_chosen_and_equals_in_turn() {
        let backends = backends(&[1, 2, 3]);
        let mut held: Vec<Chosen> = (0..3).map(|_| backends.choose().unwrap()).collect();
        let mut ports: Vec<u16> = held.iter().map(|c| c.backend.port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [1, 2, 3], "equals in turn");
        let free = held.remove(1).backend.port;
        assert_eq!(backends.choose().unwrap().backend.port, free, "the least busy");
    }

    #[test]
    fn one_that_refused_is_passed_over() {
        let backends = backends(&[1, 2]);
        let first = backends.choose().unwrap();
        *first.backend.refused_at.lock().unwrap() = Some(Instant::now());
        let refused = first.backend.port;
        drop(first);
        for _ in 0..4 {
            assert_ne!(backends.choose().unwrap().backend.port, refused);
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_refuses_costs_no_request_while_another_accepts() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let accepting = server.local_addr().unwrap().port();
        let refusing = {
            let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            gone.local_addr().unwrap().port()
        };
        let backends = Arc::new(backends(&[accepting, refusing]));
        // by far longer than refusals are borne with, were there no other
        let until = Instant::now() + REFUSED_MAX * 3 / 2;
        let accept = tokio::spawn(async move { while server.accept().await.is_ok() {} });
        while Instant::now() < until {
            // the other has less to do and is chosen first, whenever its pause is over
            let (chosen, _) = backends.connect().await.unwrap();
            assert_eq!(chosen.backend.port, accepting);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        accept.abort();
        let only_refusing = super::tests::backends(&[refusing]);
        let refused = only_refusing.connect().await.unwrap_err();
        assert!(matches!(&refused, Unavailable::Refused(why) if why.contains("refused")), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_first_endpoint_that_comes() {
        let backends = Arc::new(backends(&[]));
        let waiter = tokio::spawn({
            let backends = Arc::clone(&backends);
            async move { backends.choose_or_wait().await.map(|c| c.backend.port) }
        });
        tokio::task::yield_now().await;
        assert_eq!(backends.counters.waiting.load(Ordering::Relaxed), 1);
        backends.set(&BTreeMap::from([((Ipv4Addr::LOCALHOST, 7), ())]));
        assert_eq!(waiter.await.unwrap(), Ok(7));
        assert_eq!(backends.counters.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_bounded_in_time_and_number() {
        let backends = Arc::new(backends(&[]));
        let waiters: Vec<_> = (0..=WAITING_MAX)
            .map(|_| {
                let backends = Arc::clone(&backends);
                tokio::spawn(async move { backends.choose_or_wait().await.map(drop) })
            })
            .collect();
        let mut ends = Vec::new();
        for waiter in waiters {
            ends.push(waiter.await.unwrap().unwrap_err());
        }
        assert_eq!(ends.iter().filter(|e| **e == Unavailable::TooManyWaiting).count(), 1);
        assert_eq!(ends.iter().filter(|e| **e == Unavailable::NoneReady).count(), WAITING_MAX);
    }
}
