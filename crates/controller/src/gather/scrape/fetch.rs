//! Reads one page of metrics over HTTP, within limits.
//!
//! A target is not trusted: it may hang, answer without end, or answer something else than metrics. So a page
//! has a deadline and a size, and every failure is a sentence that `targets` can show.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::clients::{Clients, Prepared};
use super::target::ScrapeTarget;
use crate::gather::tls::Names;

/// Redirects that are followed (Go's `http.Client`).
const REDIRECTS_MAX: usize = 10;

/// A page as it came.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
    /// Whether the server said how long the page is, as a number or in chunks, or compressed it: one that is cut off
    /// does not get here. Otherwise the page ends where the connection does.
    pub(crate) has_length: bool,
}

/// Why a page could not be had, in Prometheus' words where it has some.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("context deadline exceeded after {0:?}")]
    Timeout(Duration),
    #[error("server returned HTTP status {0}")]
    Status(StatusCode),
    #[error("body size limit exceeded ({0} bytes)")]
    TooLarge(usize),
    #[error("stopped after {REDIRECTS_MAX} redirects")]
    Redirects,
    #[error("`{0}` is not a URL: {1}")]
    Url(String, String),
    #[error("{0}")]
    Other(String),
    #[error("{0}")]
    Address(#[from] http::Error),
}

/// The HTTP client of all scrapes.
#[derive(Clone)]
pub(crate) struct Fetcher {
    clients: Clients,
}

/// Fetches pages.
struct Ask<'a> {
    prepared: &'a Prepared,
    accept: &'a str,
    bytes_max: usize,
    timeout: Duration,
    redirects_max: usize,
    compressed: bool,
}

impl Fetcher {
    pub(crate) fn new(kube: kube::Client, names: Names) -> Fetcher {
        Fetcher { clients: Clients::new(kube, names) }
    }

    /// Scrapes a target within its time-out, the whole body included.
    ///
    /// # Errors
    /// The target cannot be reached, answers anything but 200, too much, or too late; its credentials can't be had, or it is
    /// refused altogether.
    pub(crate) async fn scrape(&self, target: &ScrapeTarget) -> Result<Page, FetchError> {
        if let Some(why) = &target.refused {
            return Err(FetchError::Other(why.clone()));
        }
        let uri = target.url.parse::<Uri>();
        let uri = uri.map_err(|error| FetchError::Url(target.url.clone(), error.to_string()))?;
        let exchange = async {
            let prepared =
                self.clients.of(&target.namespace, &target.client).await.map_err(FetchError::Other)?;
            let redirects_max = if target.client.follow_redirects == Some(false) { 0 } else { REDIRECTS_MAX };
            let (accept, bytes_max, timeout) =
                (target.accept.as_str(), target.page_bytes_max, target.timeout);
            let compressed = target.compressed;
            Ask { prepared: &prepared, accept, bytes_max, timeout, redirects_max, compressed }.page(uri).await
        };
        let timeout = target.timeout;
        let page = tokio::time::timeout(timeout, exchange).await;
        let page = page.map_err(|_| FetchError::Timeout(timeout))?;
        if page.as_ref().is_err_and(|error| error.may_be_of_credentials(target)) {
            self.clients.refused(&target.namespace, &target.client);
        }
        page
    }
}

impl FetchError {
    /// Whether other credentials or certificates might have helped.
    fn may_be_of_credentials(&self, target: &ScrapeTarget) -> bool {
        match self {
            FetchError::Status(status) => {
                matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            }
            FetchError::Other(_) => target.client.tls_config.is_some(),
            _ => false,
        }
    }
}

impl Ask<'_> {
    async fn page(&self, mut uri: Uri) -> Result<Page, FetchError> {
        let host = uri.authority().cloned();
        let mut left = self.redirects_max;
        loop {
            let same_host = uri.authority() == host.as_ref();
            let response = self.exchange(&uri, same_host).await?;
            match redirect(&uri, &response) {
                Some(_) if self.redirects_max > 0 && left == 0 => return Err(FetchError::Redirects),
                Some(next) if left > 0 => (uri, left) = (next, left - 1),
                _ if response.status() != StatusCode::OK => {
                    return Err(FetchError::Status(response.status()));
                }
                _ => return self.body(response).await,
            }
        }
    }

    /// Credentials are for the target, and not for where it sends us.
    async fn exchange(&self, uri: &Uri, same_host: bool) -> Result<Response<Incoming>, FetchError> {
        // Nothing is gained by compressing what never leaves the machine.
        let local = uri.host().and_then(|host| host.parse::<std::net::IpAddr>().ok());
        let plain = !self.compressed || local.is_some_and(|ip| ip.is_loopback());
        let encoding = if plain { "identity" } else { "gzip" };
        let mut request = Request::get(uri)
            .header(header::ACCEPT, self.accept)
            .header(header::ACCEPT_ENCODING, encoding)
            .header(header::USER_AGENT, concat!("Flyball/", env!("CARGO_PKG_VERSION")))
            .header("X-Prometheus-Scrape-Timeout-Seconds", self.timeout.as_secs_f64().to_string());
        if let Some(authorization) = self.prepared.authorization.as_ref().filter(|_| same_host) {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let response = self.prepared.client.request(request.body(Empty::new())?).await;
        response.map_err(|error| FetchError::Other(chain(&error)))
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Page, FetchError> {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let content_type = text(header::CONTENT_TYPE).unwrap_or_default().to_owned();
        let gzipped =
            text(header::CONTENT_ENCODING).is_some_and(|encoding| encoding.eq_ignore_ascii_case("gzip"));
        let has_length = gzipped || has_length(&response);
        let body = Limited::new(response.into_body(), self.bytes_max).collect().await;
        let body = body.map_err(|error| self.body_error(error))?.to_bytes();
        let body = if gzipped { self.decompress(&body)? } else { body };
        Ok(Page { content_type, body, has_length })
    }

    /// The limit is one of the decompressed page.
    fn decompress(&self, body: &[u8]) -> Result<Bytes, FetchError> {
        let mut page = Vec::new();
        let mut decoder = MultiGzDecoder::new(body).take(self.bytes_max as u64 + 1);
        decoder.read_to_end(&mut page).map_err(|error| FetchError::Other(format!("gzip: {error}")))?;
        if page.len() > self.bytes_max {
            return Err(FetchError::TooLarge(self.bytes_max));
        }
        Ok(page.into())
    }

    fn body_error(&self, error: Box<dyn std::error::Error + Send + Sync>) -> FetchError {
        if error.is::<LengthLimitError>() {
            FetchError::TooLarge(self.bytes_max)
        } else {
            FetchError::Other(chain(&*error))
        }
    }
}

/// Whether a body that is cut off would be noticed as it arrives.
pub(crate) fn has_length<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    let is_chunked = headers.get(header::TRANSFER_ENCODING).is_some_and(|encoding| {
        encoding.to_str().is_ok_and(|encoding| encoding.to_ascii_lowercase().trim_end().ends_with("chunked"))
    });
    headers.contains_key(header::CONTENT_LENGTH) || is_chunked || response.version() >= Version::HTTP_2
}

/// Where a response sends the client, if it does.
fn redirect<B>(from: &Uri, response: &Response<B>) -> Option<Uri> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    if location.contains("://") {
        return location.parse().ok();
    }
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if location.starts_with('/') { location.to_owned() } else { format!("{folder}/{location}") };
    format!("{scheme}://{authority}{path}").parse().ok()
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

#[cfg(test)]
mod tests;
