//! Reads one page of metrics over HTTP, within limits.
//!
//! A target is not trusted: it may hang, answer without end, or answer something else than metrics. So a page
//! has a deadline and a size, and every failure is a sentence that `targets` can show.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// The largest page that is read. A page of 10 MiB holds about 100,000 series: far more than one model server
/// has, and little enough that every target can send one at the same time.
pub(crate) const PAGE_BYTES_MAX: usize = 10 << 20;

/// Asked for in this order; Prometheus 3 sends the same list.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
    application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// Connections to a target are kept between scrapes, but not for ever: pods come and go.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A page as it came.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

/// Why a page could not be had, in Prometheus' words where it has some.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("context deadline exceeded after {0:?}")]
    Timeout(Duration),
    #[error("server returned HTTP status {0}")]
    Status(StatusCode),
    #[error("body size limit exceeded ({PAGE_BYTES_MAX} bytes)")]
    TooLarge,
    #[error("{0}")]
    Connect(String),
    #[error("{0}")]
    Address(#[from] http::Error),
}

/// The HTTP client of all scrapes and remote queries.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Fetcher {
    pub(crate) fn new() -> Fetcher {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Fetcher { client }
    }

    /// Gets `uri` within `timeout`, the whole body included.
    ///
    /// # Errors
    /// The target cannot be reached, answers anything but 200, too much, or too late.
    pub(crate) async fn get(&self, uri: &Uri, timeout: Duration) -> Result<Page, FetchError> {
        tokio::time::timeout(timeout, self.exchange(uri, timeout))
            .await
            .map_err(|_| FetchError::Timeout(timeout))?
    }

    async fn exchange(&self, uri: &Uri, timeout: Duration) -> Result<Page, FetchError> {
        let request = Request::get(uri)
            .header(header::ACCEPT, ACCEPT)
            .header(header::USER_AGENT, concat!("Flyball/", env!("CARGO_PKG_VERSION")))
            .header("X-Prometheus-Scrape-Timeout-Seconds", timeout.as_secs_f64().to_string())
            .body(Empty::new())?;
        let response =
            self.client.request(request).await.map_err(|error| FetchError::Connect(chain(&error)))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let body = Limited::new(response.into_body(), PAGE_BYTES_MAX)
            .collect()
            .await
            .map_err(body_error)?
            .to_bytes();
        Ok(Page { content_type, body })
    }
}

fn body_error(error: Box<dyn std::error::Error + Send + Sync>) -> FetchError {
    if error.is::<LengthLimitError>() { FetchError::TooLarge } else { FetchError::Connect(chain(&*error)) }
}

/// An error and what caused it, in one line: hyper's own text alone says only "client error (Connect)".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
