//! The addresses of pods, and the way to their ports.
//!
//! A pod's IP is an address of its own in 127.64.0.0/12, below the API server's ClusterIPs. The node listens there on the ports that
//! the pod declares or a Service targets, and passes connections on into the pod's network; the node's own Services and
//! probes skip that hop and [`PodNetwork::connect`] straight into it.
//!
//! Where network namespaces are refused, the pod shares the machine's network: each declared port is given a free one
//! in its place, which the program learns from `$PORT` (the first) and `$PORT_<declared>`.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::container::sandbox::Sandbox;

/// First address for pods; ClusterIPs begin at 127.96.0.0.
const FIRST: u32 = u32::from_be_bytes([127, 64, 0, 0]);
const LAST: u32 = u32::from_be_bytes([127, 79, 255, 254]);
/// A datagram socket at this port holds an address against every other world on the machine.
const RESERVATION_PORT: u16 = 65_535;
/// How long a pod may take to accept its first connection before a client hears of it: Python servers that load a model
/// under a CPU limit need most of that.
const YOUNG: Duration = Duration::from_secs(60);

/// A connection takes two files, one to the client and one into the pod. Together they may have half of what this process
/// may open: the rest is for control groups, logs, the store, and listeners.
const FILES_PER_CONNECTION: u64 = 4;

/// All pods of this node by address; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    pods: Arc<RwLock<BTreeMap<Ipv4Addr, Arc<PodNetwork>>>>,
    pub(crate) places: Places,
}

/// The connections that may be carried at once. Those beyond wait in the kernel's backlog until others end.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = usize::try_from(files / FILES_PER_CONNECTION).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS))))
    }
}

impl Places {
    /// Waits for a place; it is free again when dropped.
    pub(crate) async fn take(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.0).acquire_owned().await.expect("it is never closed")
    }
}

/// One pod's way in.
#[derive(Debug)]
pub(crate) struct PodNetwork {
    ip: Ipv4Addr,
    way: Way,
    since: Instant,
    /// Set once the pod is told to go: no Service sends it anything new.
    leaving: AtomicBool,
    in_flight: AtomicUsize,
    idle: Notify,
    places: Places,
    listeners: Mutex<(BTreeMap<u16, ()>, JoinSet<()>)>,
    _reservation: UdpSocket,
}

#[derive(Debug)]
pub(crate) enum Way {
    /// Into a namespace of its own.
    Sandbox(Sandbox),
    /// On the machine's network: where each declared port really is.
    Host(BTreeMap<u16, u16>),
}

impl Network {
    /// Takes a free address for a pod.
    ///
    /// # Errors
    /// When every address tried is taken by something else on this machine.
    pub(crate) fn join(&self, seed: &str, way: Way) -> io::Result<Arc<PodNetwork>> {
        const TRIES: u32 = 1000; // far more than a node's 110 pods
        // worlds beside this one rarely start at the same place
        let start = crate::hash::fnv1a(format!("{}{seed}", std::process::id()).as_bytes());
        for step in 0..TRIES {
            let ip = Ipv4Addr::from(FIRST + 1 + start.wrapping_add(step) % (LAST - FIRST));
            if let Ok(reservation) = UdpSocket::bind((ip, RESERVATION_PORT)) {
                let pod = Arc::new(PodNetwork {
                    ip,
                    way,
                    since: Instant::now(),
                    leaving: AtomicBool::new(false),
                    in_flight: AtomicUsize::new(0),
                    idle: Notify::new(),
                    places: self.places.clone(),
                    listeners: Mutex::default(),
                    _reservation: reservation,
                });
                self.pods.write().unwrap_or_else(PoisonError::into_inner).insert(ip, Arc::clone(&pod));
                return Ok(pod);
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no free pod address in 127.64.0.0/12"))
    }

    /// Forgets a pod, closes its listeners and takes its network down.
    pub(crate) fn leave(&self, pod: &PodNetwork) {
        self.pods.write().unwrap_or_else(PoisonError::into_inner).remove(&pod.ip);
        pod.listeners.lock().unwrap_or_else(PoisonError::into_inner).1.abort_all();
        if let Way::Sandbox(sandbox) = &pod.way {
            sandbox.close();
        }
    }

    pub(crate) fn get(&self, ip: Ipv4Addr) -> Option<Arc<PodNetwork>> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner).get(&ip).cloned()
    }
}

impl PodNetwork {
    pub(crate) fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    pub(crate) fn way(&self) -> &Way {
        &self.way
    }

    /// Connects to a port of the pod.
    pub(crate) async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        match &self.way {
            Way::Sandbox(sandbox) => sandbox.connect(SocketAddrV4::new(self.ip, port)).await,
            Way::Host(ports) => {
                TcpStream::connect((Ipv4Addr::LOCALHOST, ports.get(&port).copied().unwrap_or(port))).await
            }
        }
    }

    /// Whether a refused connection may only mean that the program is not up yet.
    pub(crate) fn is_young(&self) -> bool {
        self.since.elapsed() < YOUNG
    }

    /// Listens at the pod's IP on a port, once; says what went wrong if it can't.
    pub(crate) fn listen(self: &Arc<Self>, port: u16) -> io::Result<()> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if listeners.0.contains_key(&port) {
            return Ok(());
        }
        let listener = std::net::TcpListener::bind((self.ip, port))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        listeners.0.insert(port, ());
        listeners.1.spawn(forward(listener, Arc::downgrade(self), port));
        Ok(())
    }

    /// Takes the pod out of every Service at once.
    pub(crate) fn start_leaving(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// Counts a request until the answer is dropped. `None`: the pod is leaving, ask another.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<InFlight> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let guard = InFlight(Arc::clone(self));
        // counted first, looked second: whoever waits for zero after `start_leaving` misses nobody
        (!self.is_leaving()).then_some(guard)
    }

    /// Waits until no request is in flight.
    pub(crate) async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.in_flight.load(Ordering::SeqCst) == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// A request on its way through a pod.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<PodNetwork>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

async fn forward(listener: TcpListener, pod: std::sync::Weak<PodNetwork>, port: u16) {
    while let Some((mut client, pod)) = accept(&listener).await.and_then(|c| Some((c, pod.upgrade()?))) {
        let place = pod.places.take().await;
        tokio::spawn(async move {
            let _place = place;
            let Ok(mut server) = pod.connect(port).await else { return };
            drop(pod);
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// Accepts a connection; out of file descriptors, it waits for better times.
pub(crate) async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some(stream),
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                tracing::warn!("accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
