//! Which names the port that asks for no password answers to.
//!
//! A web page elsewhere may give its own name the address 127.0.0.1 (DNS rebinding) and would then read and write here with
//! the visitor's browser. A browser tells the page's name as `Host`, and where the page came from as `Origin`; both must be
//! names of this machine or of the cluster's domain, which nobody can own on the Internet.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

/// The names that are answered to.
#[derive(Clone, Debug)]
pub struct AllowedHosts {
    address: IpAddr,
    names: Arc<[String]>,
}

impl AllowedHosts {
    /// `localhost`, all addresses of the loopback, `address` where the port listens, and these names; one that begins with
    /// `*.` stands for all names that end so.
    pub fn new<'a>(address: IpAddr, names: impl IntoIterator<Item = &'a str>) -> AllowedHosts {
        AllowedHosts { address, names: names.into_iter().map(str::to_ascii_lowercase).collect() }
    }

    /// The same routes, for these names only.
    pub fn guard(self, router: Router) -> Router {
        router.layer(from_fn_with_state(self, answer))
    }

    /// Whether an authority such as `localhost:9090` or `[::1]` is one of ours.
    fn allows(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        if let Ok(address) = host.parse::<IpAddr>() {
            return address.to_canonical().is_loopback() || address == self.address;
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let named = |name: &String| match name.strip_prefix('*') {
            Some(end) => host.ends_with(end) && host.len() > end.len(),
            None => host == *name,
        };
        host == "localhost" || host.ends_with(".localhost") || self.names.iter().any(named)
    }

    /// The header that names a foreign host, and what it says.
    fn foreign(&self, request: &Request) -> Option<(&'static str, String)> {
        let headers = request.headers();
        // HTTP/2 tells the host as a part of the address.
        let host = text(headers, header::HOST).or_else(|| request.uri().authority().map(ToString::to_string));
        // Who is no browser may say nothing.
        if let Some(host) = host.filter(|host| !self.allows(host)) {
            return Some(("Host", host));
        }
        let origin = text(headers, header::ORIGIN)?;
        let ours = origin.split_once("://").is_some_and(|(_, authority)| self.allows(authority));
        (!ours).then_some(("Origin", origin))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The host of an authority, without port and brackets.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon)),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(host)
}

async fn answer(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    match hosts.foreign(&request) {
        None => next.run(request).await,
        Some((header, value)) => {
            let shown: String = value.chars().take(100).collect();
            let names = hosts.names.join(", ");
            let message = format!(
                "{header} {shown:?} is not a name of this server, so a web page of another site may have sent this; \
                 ask by localhost, by a loopback address, by {}, or by one of: {names}\n",
                hosts.address
            );
            (StatusCode::FORBIDDEN, message).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn foreign_names_are_refused() {
        let address = "192.0.2.7".parse().expect("an address");
        let hosts = AllowedHosts::new(address, ["*.svc", "*.svc.cluster.local", "Metrics"]);
        let router = hosts.guard(Router::new().route("/", get(async || "here")));
        let rows = [
            (None, None, 200),
            (Some("localhost:30300"), None, 200),
            (Some("LOCALHOST"), Some("http://localhost:3000"), 200),
            (Some("127.0.0.1:30300"), None, 200),
            (Some("127.9.8.7"), Some("https://127.0.0.1"), 200),
            (Some("[::1]:30300"), None, 200),
            (Some("[::ffff:127.0.0.1]"), None, 200),
            (Some("192.0.2.7:1"), None, 200),
            (Some("prometheus.monitoring.svc:9090"), None, 200),
            (Some("prometheus.monitoring.svc.cluster.local."), None, 200),
            (Some("metrics"), None, 200),
            (Some("192.0.2.8"), None, 403),
            (Some(".svc"), None, 403),
            (Some("example.com"), None, 403),
            (Some("localhost.example.com"), None, 403),
            (Some("127.0.0.1.example.com"), None, 403),
            (Some("localhost:80@example.com"), None, 403),
            (Some("[::1"), None, 403),
            (Some(""), None, 403),
            (Some("localhost"), Some("http://example.com"), 403),
            (Some("localhost"), Some("null"), 403),
            (None, Some("http://example.com"), 403),
        ];
        for (host, origin, status) in rows {
            let mut request = Request::builder().uri("/");
            for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let request = request.body(Body::empty()).expect("a request");
            let response = router.clone().oneshot(request).await.expect("never fails");
            assert_eq!(response.status(), status, "{host:?} {origin:?}");
        }
        let request = Request::builder().uri("http://example.com/").body(Body::empty()).expect("a request");
        assert_eq!(router.oneshot(request).await.expect("never fails").status(), 403);
    }
}
