//! Accepts connections and serves each until it ends or the server closes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::arrival::{ArrivalStream, Moment};
use super::lifecycle::Phase;
use super::options::{HEAD_BYTES_MAX, HEAD_TIME_LIMIT};
use super::responses::HttpResponse;
use super::state::State;

/// How long accepting pauses when the process is out of file descriptors, until connections close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The open connections of one port.
#[derive(Clone)]
pub(super) struct Connections {
    permits: Arc<Semaphore>,
    max: u32,
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(max)), max: max as u32 }
    }

    /// Resolves once no connection is open; [`accept`] must have ended.
    pub(super) async fn closed(&self) {
        let _all = self.permits.acquire_many(self.max).await.expect("the semaphore is never closed");
    }
}

/// Accepts on `listener` until the server closes, and answers every request with `answer`.
pub(super) async fn accept<A, F>(
    listener: TcpListener,
    state: Arc<State>,
    connections: Connections,
    answer: A,
) where
    A: Fn(Arc<State>, Request<Incoming>, Moment) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = HttpResponse> + Send,
{
    let mut phase = state.phase.subscribe();
    let mut closing = pin!(phase.wait_for(|phase| *phase == Phase::Closing));
    loop {
        let next = async {
            let permit = Arc::clone(&connections.permits)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            biased;
            _ = &mut closing => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    serve(stream, state, answer).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<A, F>(stream: TcpStream, state: Arc<State>, answer: A)
where
    A: Fn(Arc<State>, Request<Incoming>, Moment) -> F + Copy,
    F: Future<Output = HttpResponse>,
{
    // Without TCP_NODELAY only latency is worse.
    let _ = stream.set_nodelay(true);
    let stream = ArrivalStream::new(stream);
    let arrival = stream.arrival();
    let service = service_fn(|request| {
        let answer = answer(Arc::clone(&state), request, arrival.moment());
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_LIMIT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(stream, service)
    );
    let mut phase = state.phase.subscribe();
    // Errors come from clients that hang up or do not speak HTTP; there is nothing to do here.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = phase.wait_for(|phase| *phase == Phase::Closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
