//! The lifecycle of the server, from listening to a graceful shutdown.
//!
//! # Drain
//!
//! Requests still arrive after SIGTERM, because load balancers learn of the shutdown later than the server. So on SIGTERM
//! `/ready` turns 503 at once, while requests are still accepted and answered, each with `Connection: close` so that
//! clients move on. Once nothing is in progress and no request but probes has arrived for [`Options::drain_quiet`], the
//! server stops accepting, finishes open requests, and exits with success. Idle connections do not delay it.
//!
//! SIGINT, or a second signal, skips the quiet time but still finishes requests in progress; one more ends at once.
//! [`DRAIN_TIME_LIMIT`] bounds the drain, [`CLOSE_TIME_LIMIT`] the rest.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep, timeout};

use super::arrival::stamp_arrivals;
use super::connections::{Connections, accept};
use super::options::{CLOSE_TIME_LIMIT, CONNECTIONS_MAX, DRAIN_TIME_LIMIT, METRICS_CONNECTIONS_MAX, Options};
use super::routes;
use super::state::State;
use crate::model::{MODEL_BYTES_MAX, Model, ModelError};

/// The phases of the server, in order; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    Draining,
    Closing,
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Wait until no more requests arrive, then end: SIGTERM.
    Drain,
    /// Finish the requests in progress and end: SIGINT.
    Now,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port is taken, or may not be used.
    #[error("cannot listen on {address} for {purpose}{hint}")]
    Listen {
        /// Address and port of the options.
        address: SocketAddr,
        /// What the port is for: `requests` or `metrics`.
        purpose: &'static str,
        /// What the system said.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// The model file could not be read.
    #[error("cannot read the model {path}")]
    ReadModel {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a usable model.
    #[error("cannot use the model {path}")]
    Model {
        /// The file, or `embedded`.
        path: String,
        /// The reason.
        source: ModelError,
    },
    /// The runtime or a signal handler could not be set up.
    #[error("cannot start")]
    Start(#[from] io::Error),
}

/// A server that listens on both ports with its model loaded. [`Server::run`] answers requests.
pub struct Server {
    requests: TcpListener,
    metrics: TcpListener,
    state: Arc<State>,
    drain_quiet: Duration,
}

/// Serves on a new runtime until a signal ends it: on this thread, or on [`Options::worker_threads`] threads.
///
/// # Errors
/// The ports or the model could not be had.
pub fn run(options: &Options) -> Result<(), ServeError> {
    let mut builder = match options.worker_threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if options.worker_threads > 1 {
        builder.worker_threads(options.worker_threads);
    }
    builder.enable_all().build()?.block_on(serve(options))
}

/// Serves on the current runtime until SIGTERM or SIGINT.
///
/// # Errors
/// The ports or the model could not be had.
pub async fn serve(options: &Options) -> Result<(), ServeError> {
    // Before anything slow: a signal during the start must not kill the process.
    let stops = stops_of_signals()?;
    raise_open_files();
    let server = Server::bind(options).await?;
    tracing::info!(
        requests = %server.address()?, metrics = %server.metrics_address()?, trees = server.state.model.tree_count(),
        "the house-price model is ready"
    );
    server.run(stops).await;
    Ok(())
}

/// Raises the soft limit of open files: shells often set 1024 where the system allows far more, and each connection is one.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Plus the listeners, the runtime and a scrape of /proc.
    let wanted = (CONNECTIONS_MAX + METRICS_CONNECTIONS_MAX) as u64 + 64;
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if limit.current.is_some_and(|now| now < current)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit })
    {
        tracing::warn!(%error, "cannot raise the limit of open files: fewer connections are accepted at once");
    }
}

/// Turns each SIGTERM and SIGINT into a [`Stop`].
fn stops_of_signals() -> io::Result<mpsc::Receiver<Stop>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let stop = tokio::select! {
                _ = terminate.recv() => Stop::Drain,
                _ = interrupt.recv() => Stop::Now,
            };
            if sender.send(stop).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

impl Server {
    /// Loads the model and listens on both ports.
    ///
    /// # Errors
    /// The ports or the model could not be had.
    pub async fn bind(options: &Options) -> Result<Self, ServeError> {
        let model = load(options.model.as_deref())?;
        let requests = SocketAddr::new(options.host, options.port);
        let metrics = SocketAddr::new(options.host, options.metrics_port);
        Ok(Self {
            requests: listen(requests, "requests", "; choose another with --port or PORT").await?,
            metrics: listen(
                metrics,
                "metrics",
                "; 9100 is also node_exporter's: choose another with --metrics-port (0: any free one)",
            )
            .await?,
            state: Arc::new(State::new(model, options)),
            drain_quiet: options.drain_quiet,
        })
    }

    /// Returns the address that answers requests.
    ///
    /// # Errors
    /// The system cannot name the socket's address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.requests.local_addr()
    }

    /// Returns the address that answers scrapes.
    ///
    /// # Errors
    /// The system cannot name the socket's address.
    pub fn metrics_address(&self) -> io::Result<SocketAddr> {
        self.metrics.local_addr()
    }

    /// Answers until a [`Stop`] arrives or all senders are dropped, then shuts down as the module describes.
    pub async fn run(self, mut stops: mpsc::Receiver<Stop>) {
        let Self { requests, metrics, state, drain_quiet } = self;
        let connections = Connections::new(CONNECTIONS_MAX);
        let accepting =
            tokio::spawn(accept(requests, Arc::clone(&state), connections.clone(), routes::answer));
        tokio::spawn(accept(
            metrics,
            Arc::clone(&state),
            Connections::new(METRICS_CONNECTIONS_MAX),
            |state, request, _| routes::answer_scrape(state, request),
        ));

        if stops.recv().await == Some(Stop::Drain) {
            state.phase.send_replace(Phase::Draining);
            tracing::info!("draining: no longer ready, still answering");
            tokio::select! {
                () = quiet(&state, drain_quiet) => {}
                () = sleep(DRAIN_TIME_LIMIT) => tracing::warn!("requests still arrive; closing anyway"),
                _ = stops.recv() => {}
            }
        }
        state.phase.send_replace(Phase::Closing);
        let finished = async {
            // An accept loop ends when the phase changes; if it panicked, nothing more is accepted either.
            let _ = accepting.await;
            connections.closed().await;
        };
        tokio::select! {
            closed = timeout(CLOSE_TIME_LIMIT, finished) => if closed.is_err() {
                tracing::warn!(in_progress = state.metrics.in_progress(), "requests were cut off");
            },
            Some(_) = stops.recv() => {}
        }
    }
}

/// Resolves after `quiet` without a new request and with none in progress.
async fn quiet(state: &State, quiet: Duration) {
    let mut seen = state.metrics.begun();
    loop {
        sleep(quiet).await;
        let begun = state.metrics.begun();
        if begun == seen && state.metrics.in_progress() == 0 {
            return;
        }
        seen = begun;
    }
}

async fn listen(
    address: SocketAddr,
    purpose: &'static str,
    hint: &'static str,
) -> Result<TcpListener, ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| {
        let hint = if source.kind() == io::ErrorKind::AddrInUse { hint } else { "" };
        ServeError::Listen { address, purpose, source, hint }
    })?;
    if let Err(error) = stamp_arrivals(&listener) {
        tracing::warn!(%error, "the kernel does not stamp arrivals: durations will not include waiting in the socket");
    }
    Ok(listener)
}

fn load(path: Option<&Path>) -> Result<Model, ServeError> {
    let Some(path) = path else {
        return Model::embedded().map_err(|source| ServeError::Model { path: "embedded".into(), source });
    };
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    // One byte more than the limit, so that a larger file is noticed without reading all of it.
    fs::File::open(path)
        .and_then(|file| file.take(MODEL_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| ServeError::ReadModel { path: name.clone(), source })?;
    Model::decode(&bytes).map_err(|source| ServeError::Model { path: name, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::routes::Route;

    #[tokio::test(start_paused = true)]
    async fn quiet_is_a_whole_period_without_requests() {
        let model = Model::embedded().expect("the embedded model is sound");
        let state = State::new(model, &Options::default());
        let period = Duration::from_secs(1);
        let begin = || state.metrics.begin(Route::Predict, &hyper::Method::POST);
        let traffic = async |route| loop {
            sleep(period / 2).await;
            let request = state.metrics.begin(route, &hyper::Method::GET);
            request.finish(hyper::StatusCode::OK, Duration::ZERO, 0, 0);
        };

        let in_progress = begin();
        assert!(timeout(10 * period, quiet(&state, period)).await.is_err(), "a request is in progress");
        in_progress.finish(hyper::StatusCode::OK, Duration::ZERO, 0, 0);
        assert!(timeout(2 * period, quiet(&state, period)).await.is_ok(), "nothing came");

        tokio::select! {
            () = quiet(&state, period) => panic!("requests still came"),
            () = traffic(Route::Predict) => {}
            () = sleep(20 * period) => {}
        }
        tokio::select! {
            () = quiet(&state, period) => {}
            () = traffic(Route::Ready) => {}
            () = sleep(20 * period) => panic!("probes do not count as requests"),
        }
    }
}
