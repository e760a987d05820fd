//! Host and origin checks: only requests addressed to this server are answered.
//!
//! A foreign web page can resolve its own host name to 127.0.0.1 (DNS rebinding), and the browser then sends
//! requests here on its behalf. Such a request carries the page's host in `Host` and `Origin`.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Uri};

use super::certificates;
use crate::path::shortened;
use crate::status::{Failure, Result};

/// Refuses a request for a foreign host or from a foreign page. A request without either header does not come from
/// a browser and passes.
pub(super) fn check(uri: &Uri, headers: &HeaderMap, own: IpAddr) -> Result<()> {
    let text = |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or("?"));
    let hosts = uri.authority().map(http::uri::Authority::as_str).into_iter().chain(text(HOST));
    for host in hosts {
        if !is_own(host, own) {
            return Err(refusal("host", host));
        }
    }
    match text(ORIGIN) {
        Some(origin) if !origin.split_once("://").is_some_and(|(_, host)| is_own(host, own)) => {
            Err(refusal("origin", origin))
        }
        _ => Ok(()),
    }
}

fn refusal(what: &str, name: &str) -> Failure {
    let message = format!(
        "the {what} \"{}\" is not this server's: use the address in the kubeconfig, or one of {}",
        shortened(name),
        certificates::NAMES.join(", ")
    );
    Failure::new(403, "Forbidden", message)
}

/// Returns whether `host` is a name or address of this server, with any port.
fn is_own(host: &str, own: IpAddr) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback() || address.to_canonical() == own.to_canonical(),
        Err(_) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            certificates::NAMES.contains(&name.as_str()) || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_and_addresses_are_taken_with_any_port() {
        let own = IpAddr::from([192, 0, 2, 1]);
        for host in [
            "localhost",
            "localhost:6443",
            "LOCALHOST.",
            "a.localhost:1",
            "127.0.0.1:6443",
            "127.9.8.7",
            "[::1]:6443",
            "[::1]",
            "[::ffff:127.0.0.1]:1",
            "192.0.2.1:6443",
            "kubernetes",
            "kubernetes.default:443",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local:443",
            "flyball",
        ] {
            assert!(is_own(host, own), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:6443",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.2",
            "[2001:db8::1]:6443",
            "kubernetes.default.svc.evil",
            "127.0.0.1@evil.example",
            ":6443",
            "0.0.0.0",
        ] {
            assert!(!is_own(host, own), "{host}");
        }
    }

    #[test]
    fn origin_and_host_are_both_looked_at() {
        let request = |host: &str, origin: Option<&str>| {
            let mut builder = http::Request::builder().uri("/api").header(HOST, host);
            if let Some(origin) = origin {
                builder = builder.header(ORIGIN, origin);
            }
            let (parts, ()) = builder.body(()).expect("the request is well formed").into_parts();
            check(&parts.uri, &parts.headers, IpAddr::from([127, 0, 0, 1])).map_err(|failure| failure.code)
        };
        assert_eq!(request("localhost:6443", None), Ok(()));
        assert_eq!(request("localhost:6443", Some("http://localhost:3000")), Ok(()));
        assert_eq!(request("localhost:6443", Some("https://evil.example")), Err(403));
        assert_eq!(request("localhost:6443", Some("null")), Err(403));
        assert_eq!(request("evil.example:6443", None), Err(403));
        let uri: Uri = "https://evil.example/api".parse().expect("it is a URI");
        assert!(check(&uri, &HeaderMap::new(), IpAddr::from([127, 0, 0, 1])).is_err());
        assert!(
            check(&"/api".parse().expect("it is a URI"), &HeaderMap::new(), IpAddr::from([127, 0, 0, 1]))
                .is_ok()
        );
    }
}
