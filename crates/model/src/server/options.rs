//! The server's options, and its fixed limits.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// The largest body that is read, in bytes: about 10,000 houses, a tenth of a second of work.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
/// A body up to this size, in bytes, is read at once; a house takes a hundred.
pub(super) const SMALL_BODY_BYTES_MAX: u64 = 8 << 10;
/// How many larger bodies are in memory at once; more wait. Bounds the memory that all clients together can take.
pub(super) const LARGE_BODIES_MAX: usize = 16;
/// The largest head of a request, in bytes; a common limit of HTTP servers.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most connections open at once; more wait in the kernel's accept queue. Each takes about 20 kB here, up to 40 kB
/// with a head in transit: all of them fit in the usual limit of 128 MiB.
pub(super) const CONNECTIONS_MAX: usize = 2048;
/// The same for the metrics port, which has few clients.
pub(super) const METRICS_CONNECTIONS_MAX: usize = 32;
/// The most requests that wait for a free worker. Beyond that the response is `503` at once: another replica is likely
/// to be faster.
pub(super) const QUEUE_MAX: usize = 512;
/// How long a request may wait, from its arrival to the start of its prediction, before it is refused: longer than the
/// 20 s after which `hey` and many proxies give up, so nothing is computed for a client that has left.
pub(super) const REQUEST_TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long a drain may take. With [`CLOSE_TIME_LIMIT`] it stays within Kubernetes' grace period of 30 s.
pub(super) const DRAIN_TIME_LIMIT: Duration = Duration::from_secs(20);
/// How long the last responses may take once nothing new is accepted.
pub(super) const CLOSE_TIME_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may take to send a request's head, idle time between requests included; nginx's default.
pub(super) const HEAD_TIME_LIMIT: Duration = Duration::from_secs(75);

/// The options of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address of both ports. Default: 127.0.0.1; in a container, 0.0.0.0.
    pub host: IpAddr,
    /// The port of the model. Default: 8000; 0 takes any free one.
    pub port: u16,
    /// The port of the metrics. Default: 9100; 0 takes any free one.
    pub metrics_port: u16,
    /// The number of concurrent predictions, at least 1. Default: 1, because replicas are what scales here.
    pub worker_threads: usize,
    /// Extra CPU time to spend on each prediction, to simulate a slower model. Default: none.
    pub work: Duration,
    /// A model file written by training. Default: the embedded model.
    pub model: Option<PathBuf>,
    /// How long no request may arrive, after SIGTERM, before the server assumes that no load balancer has it any more.
    /// Default: 1 s.
    pub drain_quiet: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 8000,
            metrics_port: 9100,
            worker_threads: 1,
            work: Duration::ZERO,
            model: None,
            drain_quiet: Duration::from_secs(1),
        }
    }
}
