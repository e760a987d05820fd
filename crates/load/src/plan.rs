//! Decides from the arguments alone what is sent and when: no clock, no socket.
//!
//! A plan is one target and a list of phases. All problems of the arguments are reported, not only the first.

use std::{str::FromStr, time::Duration};

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use percent_encoding::percent_decode_str;

use crate::{Args, pace::count_before};

/// Largest request body, held in memory once for all requests.
pub const MAX_BODY_BYTES: u64 = 64 << 20;
/// Most `-H` headers; a common limit of HTTP servers.
pub const MAX_HEADERS: usize = 100;
/// Most workers, and most requests in flight at an open rate: each may hold a socket and some 20 kB.
pub const MAX_IN_FLIGHT: usize = 10_000;
/// Highest rate per second, far above what one machine can send.
const MAX_RATE: f64 = 1e6;

/// All problems of the arguments, a line for each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct PlanError(pub Vec<String>);

/// When to use HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2 {
    /// Never: HTTP/1.1 only.
    Never,
    /// Over TLS if the server agrees, as Go's client does; HTTP/1.1 otherwise.
    OverTls,
    /// Over TLS likewise, and in the clear by prior knowledge.
    Always,
}

/// The request, and how it is sent.
#[derive(Clone, Debug)]
pub struct Target {
    /// Absolute http or https URI.
    pub uri: Uri,
    /// Method, upper-case.
    pub method: Method,
    /// Headers of each request.
    pub headers: HeaderMap,
    /// Body of each request.
    pub body: Bytes,
    /// Time limit of each request, including connecting; `None` for no limit.
    pub timeout: Option<Duration>,
    /// Proxy as host:port.
    pub proxy: Option<String>,
    /// Whether to speak HTTP/2.
    pub http2: Http2,
    /// Whether a connection serves more than one request.
    pub keep_alive: bool,
    /// Whether redirects are followed, at most ten.
    pub redirects: bool,
    /// Whether any TLS certificate is accepted.
    pub insecure: bool,
}

impl Target {
    /// Creates a GET of `url` with hey's defaults, dropping credentials in the URL.
    ///
    /// # Errors
    /// Fails unless the URL is absolute, with scheme http or https.
    pub fn get(url: &str) -> Result<Self, PlanError> {
        let (uri, _) = parse_url(url).map_err(|problem| PlanError(vec![problem]))?;
        Ok(Target {
            uri,
            method: Method::GET,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Some(Duration::from_secs(20)),
            proxy: None,
            http2: Http2::Never,
            keep_alive: true,
            redirects: true,
            insecure: false,
        })
    }
}

/// How requests are paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Closed loop: each worker sends its next request once the last is answered, at most `rate` per second.
    Closed {
        /// Requests in flight.
        workers: usize,
        /// Requests per second of each worker.
        rate: Option<f64>,
    },
    /// Open loop: `rate` requests per second in total, answered or not; latency counts from the planned start.
    Open {
        /// Requests per second.
        rate: f64,
    },
}

/// When a phase ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    /// Once this many requests were answered or failed.
    Requests(u64),
    /// After this time. Requests then in flight get up to [`DRAIN_MAX`](crate::DRAIN_MAX) to finish.
    Elapsed(Duration),
}

/// One load and its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// How requests are paced.
    pub load: Load,
    /// When the phase ends.
    pub until: Until,
}

impl Phase {
    /// Returns the most requests that the phase sends.
    pub(crate) fn limit(&self) -> u64 {
        match (self.until, self.load) {
            (Until::Requests(count), _) => count,
            (Until::Elapsed(length), Load::Open { rate }) => count_before(length, rate),
            (Until::Elapsed(_), Load::Closed { .. }) => u64::MAX,
        }
    }
}

/// What to send and when.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The request, and how it is sent.
    pub target: Target,
    /// The loads, one after the other.
    pub phases: Vec<Phase>,
    /// Whether each request is kept for the report (bounded; for CSV).
    pub keep_samples: bool,
}

impl Plan {
    /// Creates the plan of a command line; `body` is the content of `-d`, or of the file of `-D`.
    ///
    /// # Errors
    /// Returns all problems at once.
    pub fn from_args(args: &Args, body: Bytes) -> Result<Plan, PlanError> {
        let mut problems = Vec::new();
        check_numbers(args, body.len() as u64, &mut problems);
        let uri = parse_url(&args.url).map_err(|p| problems.push(p));
        let method = Method::from_str(&args.method.to_uppercase())
            .map_err(|_| problems.push(format!("-m: {:?} is not an HTTP method", args.method)));
        let (uri, userinfo) = uri.map_or_else(|()| (Err(()), None), |(uri, userinfo)| (Ok(uri), userinfo));
        let headers = headers(args, userinfo, &mut problems);
        let proxy =
            args.proxy.as_deref().and_then(|text| parse_proxy(text).map_err(|p| problems.push(p)).ok());
        let (Ok(uri), Ok(method), true) = (uri, method, problems.is_empty()) else {
            return Err(PlanError(problems));
        };
        let target = Target {
            uri,
            method,
            headers,
            body,
            timeout: (!args.timeout.is_zero()).then_some(args.timeout),
            proxy,
            http2: match (args.h2c, args.h2) {
                (true, _) => Http2::Always,
                (false, true) => Http2::OverTls,
                (false, false) => Http2::Never,
            },
            keep_alive: !args.disable_keepalive,
            redirects: !args.disable_redirects,
            insecure: args.insecure,
        };
        Ok(Plan { target, phases: vec![phase(args)], keep_samples: args.output == crate::Output::Csv })
    }
}

fn phase(args: &Args) -> Phase {
    let until = args.duration.map_or(Until::Requests(args.requests), Until::Elapsed);
    let load = match args.rate {
        Some(rate) => Load::Open { rate },
        None => Load::Closed { workers: args.workers, rate: args.worker_rate.filter(|q| *q > 0.0) },
    };
    Phase { load, until }
}

fn check_numbers(args: &Args, body_bytes: u64, problems: &mut Vec<String>) {
    let mut require = |ok: bool, problem: String| {
        if !ok {
            problems.push(problem);
        }
    };
    require(args.requests > 0, "-n: must be at least 1".into());
    require(
        (1..=MAX_IN_FLIGHT).contains(&args.workers),
        format!("-c: must be 1 to {MAX_IN_FLIGHT}, not {}", args.workers),
    );
    require((1..=1024).contains(&args.cpus), format!("-cpus: must be 1 to 1024, not {}", args.cpus));
    require(args.duration != Some(Duration::ZERO), "-z: must be more than 0".into());
    require(
        args.worker_rate.is_none_or(|q| (0.0..=MAX_RATE).contains(&q)),
        format!("-q: must be 0 (no limit) to {MAX_RATE} per second"),
    );
    require(
        args.rate.is_none_or(|r| (1e-3..=MAX_RATE).contains(&r)),
        format!("--rate: must be 0.001 to {MAX_RATE} per second"),
    );
    require(body_bytes <= MAX_BODY_BYTES, format!("-d, -D: body is larger than {MAX_BODY_BYTES} bytes"));
    require(args.headers.len() <= MAX_HEADERS, format!("-H: more than {MAX_HEADERS} headers"));
}

/// Splits a URL into the URI and its `user:password`, which no message may repeat.
pub(crate) fn parse_url(url: &str) -> Result<(Uri, Option<String>), String> {
    let wrong = |why: &str| format!("URL {url:?}: {why}; write it as http://host:port/path");
    let uri: Uri = url.parse().map_err(|e: http::uri::InvalidUri| wrong(&e.to_string()))?;
    let authority = match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if !authority.host().is_empty() => authority,
        _ => return Err(wrong("it must begin with http:// or https:// and name a host")),
    };
    let (userinfo, server) = match authority.as_str().rsplit_once('@') {
        Some((userinfo, server)) => (Some(userinfo), server),
        None => (None, authority.as_str()),
    };
    // An invalid port would read as none, and mean the scheme's default.
    if authority.port().is_none() && server.len() > authority.host().len() + 1 {
        return Err(wrong("the port is not a number up to 65535"));
    }
    let Some(userinfo) = userinfo else { return Ok((uri, None)) };
    let credentials =
        percent_decode_str(userinfo).decode_utf8().map_err(|e| wrong(&e.to_string()))?.into_owned();
    let server = server.parse().map_err(|e: http::uri::InvalidUri| wrong(&e.to_string()))?;
    let mut parts = uri.into_parts();
    parts.authority = Some(server);
    Ok((Uri::from_parts(parts).map_err(|e| wrong(&e.to_string()))?, Some(credentials)))
}

/// Parses a proxy as host:port; also as a URL, which hey requires although its help says host:port.
fn parse_proxy(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let wrong = || format!("-x {text:?}: write it as host:port of an HTTP proxy");
    let authority: http::uri::Authority = address.parse().map_err(|_| wrong())?;
    match (authority.host(), authority.port_u16(), address.contains('@')) {
        ("", ..) | (_, None, _) | (.., true) => Err(wrong()),
        _ => Ok(address.to_owned()),
    }
}

fn headers(args: &Args, userinfo: Option<String>, problems: &mut Vec<String>) -> HeaderMap {
    let mut map = HeaderMap::new();
    let agent = match &args.user_agent {
        Some(agent) => format!("{agent} flyball/{}", env!("CARGO_PKG_VERSION")),
        None => format!("flyball/{}", env!("CARGO_PKG_VERSION")),
    };
    let auth = args.auth.clone().or_else(|| userinfo.map(|u| if u.contains(':') { u } else { u + ":" }));
    let auth = auth.map(|a| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(a)));
    if args.auth.as_ref().is_some_and(|a| !a.contains(':')) {
        problems.push("-a: no colon; write it as user:password".into());
    }
    let encoding = (!args.disable_compression).then_some("gzip");
    for (flag, name, value) in [
        ("-T", header::CONTENT_TYPE, Some(args.content_type.as_str())),
        ("-A", header::ACCEPT, args.accept.as_deref()),
        ("-U", header::USER_AGENT, Some(agent.as_str())),
        ("-a", header::AUTHORIZATION, auth.as_deref()),
        ("-host", header::HOST, args.host.as_deref()),
        ("", header::ACCEPT_ENCODING, encoding),
    ] {
        let Some(value) = value else { continue };
        match HeaderValue::from_str(value) {
            Ok(value) => drop(map.insert(name, value)),
            Err(_) => problems.push(format!("{flag}: contains a character that is not allowed in a header")),
        }
    }
    for (index, text) in args.headers.iter().enumerate() {
        match header_line(text) {
            Some((name, value)) => drop(map.insert(name, value)),
            None => problems.push(format!("-H number {}: write it as \"Name: value\"", index + 1)),
        }
    }
    if let Some(secret) = map.get_mut(header::AUTHORIZATION) {
        secret.set_sensitive(true);
    }
    map
}

fn header_line(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.parse().ok()?, value.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls() {
        for (url, taken) in [
            ("http://a", true),
            ("https://a.b:1/x?y=%20#z", true),
            ("http://[::1]:80/", true),
            ("http://me:secret@a/", true),
            ("HTTP://a", true),
            ("a:80", false),
            ("/x", false),
            ("", false),
            ("http://", false),
            ("ftp://a", false),
            ("http://a b", false),
            ("http://a:99999", false),
        ] {
            assert_eq!(parse_url(url).is_ok(), taken, "{url:?}");
        }
    }

    #[test]
    fn credentials_leave_the_url() {
        for (url, server, credentials) in [
            ("http://me:p%40ss@a:1/x?y@z", "http://a:1/x?y@z", Some("me:p@ss")),
            ("https://me@a", "https://a/", Some("me")),
            ("http://a/@", "http://a/@", None),
        ] {
            let (uri, got) = parse_url(url).unwrap();
            assert_eq!((uri.to_string().as_str(), got.as_deref()), (server, credentials), "{url}");
        }
    }

    #[test]
    fn proxies() {
        for (text, wanted) in [
            ("a:3128", Some("a:3128")),
            ("http://a:3128/", Some("a:3128")),
            ("[::1]:8", Some("[::1]:8")),
            ("a", None),
            (":80", None),
            ("me@a:80", None),
            ("https://a:1", None),
            ("a:x", None),
        ] {
            assert_eq!(parse_proxy(text).ok().as_deref(), wanted, "{text:?}");
        }
    }

    #[test]
    fn header_lines() {
        for (text, wanted) in [
            ("A: b", Some(("a", "b"))),
            ("A:b:c ", Some(("a", "b:c"))),
            ("A:", Some(("a", ""))),
            ("nocolon", None),
            (": b", None),
            ("A B: c", None),
            ("A: b\r\nC: d", None),
        ] {
            let got = header_line(text);
            let got = got.as_ref().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            assert_eq!(got, wanted, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = (parse_url(&text), parse_proxy(&text), header_line(&text));
        }

        #[test]
        fn accepted_values_hold_no_line_break(url in "https?://[a-z]{1,3}[/?#:@ \\r\\n%a-z0-9]{0,20}", header in "[A-Za-z]{1,3}:[ \\r\\n\\ta-z]{0,9}") {
            if let Ok((uri, _)) = parse_url(&url) {
                prop_assert!(!uri.to_string().contains(['\r', '\n', ' ']));
            }
            if let Some((_, value)) = header_line(&header) {
                prop_assert!(!value.as_bytes().contains(&b'\n') && !value.as_bytes().contains(&b'\r'));
            }
        }
    }
}
