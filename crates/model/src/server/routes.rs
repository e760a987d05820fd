//! The routes of both ports. Every request passes [`answer`], so each is counted once, in one place.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::sync::SemaphorePermit;

use super::arrival::Moment;
use super::exposition::Format;
use super::lifecycle::Phase;
use super::options::{BODY_BYTES_MAX, REQUEST_TIME_LIMIT, SMALL_BODY_BYTES_MAX};
use super::process::Process;
use super::queue::Refusal;
use super::responses::{self, HttpResponse};
use super::state::State;
use crate::input::{self, Rejection};

static OPENAPI: &str = include_str!("openapi.json");

/// The routes of the model's port, in the order of [`Route::ALL`], by which metrics find their row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Predict,
    BatchPredict,
    Health,
    Ready,
    OpenApi,
    Root,
    /// Any other path.
    None,
}

impl Route {
    pub(super) const ALL: [Self; 7] =
        [Self::Predict, Self::BatchPredict, Self::Health, Self::Ready, Self::OpenApi, Self::Root, Self::None];

    fn of(path: &str) -> Self {
        Self::ALL.into_iter().find(|route| route.path() == path).unwrap_or(Self::None)
    }

    /// Returns the path, which is also the `handler` in metrics; `none` cannot be a path, since paths start with a slash.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Predict => "/predict",
            Self::BatchPredict => "/batch-predict",
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::OpenApi => "/openapi.json",
            Self::Root => "/",
            Self::None => "none",
        }
    }

    /// Returns whether probes and dashboards call this route rather than clients.
    pub(super) fn is_probe(self) -> bool {
        matches!(self, Self::Health | Self::Ready)
    }

    /// Returns the method of the route; `None` for unknown paths.
    pub(super) fn method(self) -> Option<Method> {
        match self {
            Self::Predict | Self::BatchPredict => Some(Method::POST),
            Self::Health | Self::Ready | Self::OpenApi | Self::Root => Some(Method::GET),
            Self::None => None,
        }
    }
}

/// Answers a request on the model's port.
pub(super) async fn answer(state: Arc<State>, request: Request<Incoming>, arrived: Moment) -> HttpResponse {
    let route = Route::of(request.uri().path());
    let in_progress = state.metrics.begin(route, request.method());
    let request_bytes = request.body().size_hint().exact().unwrap_or(0);
    let mut answer = match route.method() {
        None => responses::not_found(),
        Some(method) if method != request.method() => {
            responses::method_not_allowed(if method == Method::GET { "GET" } else { "POST" })
        }
        Some(_) => dispatch(&state, route, request, arrived).await,
    };
    if state.phase() != Phase::Serving {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let response_bytes = answer.body().size_hint().exact().unwrap_or(0);
    in_progress.finish(answer.status(), arrived.until(Moment::now()), request_bytes, response_bytes);
    answer
}

async fn dispatch(
    state: &Arc<State>,
    route: Route,
    request: Request<Incoming>,
    arrived: Moment,
) -> HttpResponse {
    match route {
        Route::Predict | Route::BatchPredict => {
            predict(state, route, request, arrived).await.unwrap_or_else(|refused| refused)
        }
        Route::Health => responses::json_bytes(state.health.clone()),
        Route::Ready if state.phase() == Phase::Serving => responses::json_bytes(r#"{"status":"ready"}"#),
        Route::Ready => responses::detail(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Route::OpenApi => responses::json_bytes(OPENAPI),
        Route::Root => responses::json_bytes(root()),
        Route::None => responses::not_found(),
    }
}

fn root() -> String {
    let endpoints: Vec<&str> =
        Route::ALL.map(Route::path).into_iter().filter(|path| path.starts_with('/')).collect();
    json!({ "name": "house-price", "version": env!("CARGO_PKG_VERSION"), "endpoints": endpoints }).to_string()
}

/// Answers `/predict` and `/batch-predict`; the error is a response too.
async fn predict(
    state: &Arc<State>,
    route: Route,
    request: Request<Incoming>,
    arrived: Moment,
) -> Result<HttpResponse, HttpResponse> {
    let (head, body) = request.into_parts();
    let is_json =
        head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(input::is_json);
    let explain = input::query_flag(head.uri.query(), "explain");
    let (body, _room) = read(state, body).await?;
    if route == Route::BatchPredict {
        let houses = input::houses(&body, is_json, &state.model).map_err(responses::rejection)?;
        let count = houses.len();
        return in_a_slot(state, arrived, count, move |state| {
            let predictions: Vec<_> = houses.iter().map(|house| state.model.predict(house)).collect();
            responses::prices(&predictions)
        })
        .await;
    }
    let (house, explain) =
        both(input::house(&body, is_json, &state.model), explain).map_err(responses::rejection)?;
    in_a_slot(state, arrived, 1, move |state| {
        let contributions = explain.then(|| state.model.contributions(&house));
        responses::prediction(state.model.predict(&house), contributions, Timestamp::now())
    })
    .await
}

/// Joins the problems of the query and of the body, the query's first, as FastAPI does.
fn both<A>(body: Result<A, Rejection>, query: Result<bool, Rejection>) -> Result<(A, bool), Rejection> {
    match (body, query) {
        (Ok(body), Ok(query)) => Ok((body, query)),
        (Err(Rejection::Problems(of_body)), Err(Rejection::Problems(of_query))) => {
            Err(Rejection::Problems(of_query.into_iter().chain(of_body).collect()))
        }
        (Err(rejection), _) | (_, Err(rejection)) => Err(rejection),
    }
}

/// Waits until there is memory for a large body; the permit holds it.
async fn room<'a>(state: &'a State, body: &Incoming) -> Result<Option<SemaphorePermit<'a>>, HttpResponse> {
    if body.size_hint().upper().is_some_and(|bytes| bytes <= SMALL_BODY_BYTES_MAX) {
        return Ok(None);
    }
    match tokio::time::timeout(REQUEST_TIME_LIMIT, state.large_bodies.acquire()).await {
        Ok(room) => Ok(Some(room.expect("the semaphore is never closed"))),
        Err(_) => Err(refuse(state, Refusal::TimeLimit)),
    }
}

fn refuse(state: &State, refusal: Refusal) -> HttpResponse {
    state.metrics.refused(refusal);
    responses::refusal(refusal)
}

/// Reads the whole body within its limits of size and time; returns it with its memory permit.
async fn read(state: &State, body: Incoming) -> Result<(Bytes, Option<SemaphorePermit<'_>>), HttpResponse> {
    let too_large = || responses::detail(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
    // Content-Length is too large: refuse without reading the body.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let room = room(state, &body).await?;
    match tokio::time::timeout(REQUEST_TIME_LIMIT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(collected)) => Ok((collected.to_bytes(), room)),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(responses::detail(StatusCode::BAD_REQUEST, "There was an error parsing the body")),
        Err(_) => Err(responses::detail(StatusCode::REQUEST_TIMEOUT, "Request Timeout")),
    }
}

/// Waits for a slot, then predicts: inline when it takes microseconds, on a blocking thread when work is simulated, so
/// that probes are still answered.
async fn in_a_slot(
    state: &Arc<State>,
    arrived: Moment,
    houses: usize,
    predict: impl FnOnce(&State) -> HttpResponse + Send + 'static,
) -> Result<HttpResponse, HttpResponse> {
    let slot = state.queue.enter(arrived).await.map_err(|refusal| refuse(state, refusal))?;
    let waited = arrived.until(Moment::now());
    let timed = move |state: &State| {
        let _slot = slot;
        let start = std::time::Instant::now();
        burn(state.work);
        let answer = predict(state);
        state.metrics.predicted(houses, waited, start.elapsed());
        answer
    };
    if state.work.is_zero() {
        return Ok(timed(state));
    }
    let state = Arc::clone(state);
    tokio::task::spawn_blocking(move || timed(&state))
        .await
        .map_err(|_| responses::detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"))
}

/// Spends CPU time of this thread, not wall time: under a CPU limit it takes longer, as real work does.
fn burn(work: Duration) {
    if work.is_zero() {
        return;
    }
    let spent = || {
        let spent = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
    };
    let end = spent() + work;
    while spent() < end {
        std::hint::spin_loop();
    }
}

/// Answers a request on the metrics port; scrapes do not count as requests.
pub(super) async fn answer_scrape(state: Arc<State>, request: Request<Incoming>) -> HttpResponse {
    if !matches!(request.uri().path(), "/metrics" | "/") {
        return responses::not_found();
    }
    if request.method() != Method::GET {
        return responses::method_not_allowed("GET");
    }
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    responses::text(format.content_type(), state.metrics.page(format, &state.queue, &Process::read()))
}
