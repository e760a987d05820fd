//! A request as sent: built once for a run, and once more for each redirect.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header, uri::PathAndQuery};

use crate::{
    connect::Origin,
    plan::{Target, parse_url},
};

/// Largest body that is copied behind the head, so that one call writes both.
const JOINED_BODY_BYTES: usize = 64 << 10;

/// A request and its bytes on an HTTP/1.1 connection.
pub(crate) struct Outgoing {
    pub(crate) uri: Uri,
    pub(crate) origin: Origin,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    wire: [Bytes; 2],
}

impl Outgoing {
    /// Builds the first request to `target`.
    pub(crate) fn first(target: &Target) -> Outgoing {
        let mut headers = target.headers.clone();
        // These frame the request, so we set them.
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        Outgoing::new(target, target.uri.clone(), target.method.clone(), headers, target.body.clone())
    }

    /// Builds the request that follows a redirect with `status`.
    pub(crate) fn follow(
        &self,
        target: &Target,
        status: StatusCode,
        location: &[u8],
    ) -> Result<Outgoing, String> {
        let uri = resolve(&self.uri, location)?;
        let same = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        let (method, body) = match self.method {
            _ if same => (self.method.clone(), self.body.clone()),
            Method::HEAD => (Method::HEAD, Bytes::new()),
            _ => (Method::GET, Bytes::new()),
        };
        let mut headers = self.headers.clone();
        if Origin::of(&uri) != self.origin {
            // Credentials for one server are not sent to another.
            for name in [header::AUTHORIZATION, header::COOKIE, header::HOST] {
                headers.remove(name);
            }
        }
        Ok(Outgoing::new(target, uri, method, headers, body))
    }

    fn new(target: &Target, uri: Uri, method: Method, headers: HeaderMap, body: Bytes) -> Outgoing {
        let origin = Origin::of(&uri);
        let mut outgoing = Outgoing { uri, origin, method, headers, body, wire: Default::default() };
        let mut head = outgoing.head(target);
        outgoing.wire = if outgoing.body.len() <= JOINED_BODY_BYTES {
            head.extend_from_slice(&outgoing.body);
            [head.freeze(), Bytes::new()]
        } else {
            [head.freeze(), outgoing.body.clone()]
        };
        outgoing
    }

    fn head(&self, target: &Target) -> BytesMut {
        let mut head = BytesMut::with_capacity(512);
        let path = match self.uri.path_and_query().map_or("/", PathAndQuery::as_str) {
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        let through_proxy = target.proxy.is_some() && !self.origin.https;
        let scheme = if through_proxy { format!("http://{}", self.host()) } else { String::new() };
        head.extend_from_slice(format!("{} {scheme}{path} HTTP/1.1\r\n", self.method).as_bytes());
        if !self.headers.contains_key(header::HOST) {
            line(&mut head, &header::HOST, self.host().as_bytes());
        }
        for (name, value) in &self.headers {
            line(&mut head, name, value.as_bytes());
        }
        let expects_body = matches!(self.method, Method::POST | Method::PUT | Method::PATCH);
        if expects_body || !self.body.is_empty() {
            line(&mut head, &header::CONTENT_LENGTH, self.body.len().to_string().as_bytes());
        }
        if !target.keep_alive {
            line(&mut head, &header::CONNECTION, b"close");
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Returns host and port as written in the URL.
    fn host(&self) -> &str {
        self.uri.authority().map_or("", |a| a.as_str())
    }

    /// Returns the request's bytes, in the parts to write.
    pub(crate) fn wire(&self) -> &[Bytes; 2] {
        &self.wire
    }

    /// Returns the same request for HTTP/2.
    pub(crate) fn http2(&self) -> http::Request<http_body_util::Full<Bytes>> {
        let mut request = http::Request::new(http_body_util::Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Returns whether the response has no body, whatever its head says.
    pub(crate) fn bodiless(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Returns whether the request may be repeated when an idle connection turns out to be closed, as Go's client does.
    pub(crate) fn repeatable(&self) -> bool {
        self.method.is_safe()
    }

    /// Formats an error as Go's client does: `Get "http://host/": why`.
    pub(crate) fn failed(&self, why: &str) -> String {
        let (first, rest) = self.method.as_str().split_at(1);
        format!("{first}{} \"{}\": {why}", rest.to_lowercase(), self.uri)
    }
}

fn line(head: &mut BytesMut, name: &HeaderName, value: &[u8]) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// Resolves a Location, which may be relative, against `base`.
fn resolve(base: &Uri, location: &[u8]) -> Result<Uri, String> {
    let to = std::str::from_utf8(location).map_err(|_| "Location is not text")?.trim();
    let to = to.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str().unwrap_or("http");
    let origin = format!("{scheme}://{}", base.authority().map_or("", |a| a.as_str()));
    let directory = &base.path()[..=base.path().rfind('/').unwrap_or(0)];
    let absolute = match to {
        "" => return Ok(base.clone()),
        _ if to.starts_with("//") => format!("{scheme}:{to}"),
        _ if to.starts_with('/') => format!("{origin}{to}"),
        _ if to.starts_with('?') => format!("{origin}{}{to}", base.path()),
        _ if to.split(['/', '?']).next().is_some_and(|first| first.contains(':')) => to.to_owned(),
        _ => format!("{origin}{directory}{to}"),
    };
    parse_url(&absolute).map(|(uri, _)| uri).map_err(|e| format!("Location: {e}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn outgoing(target: &Target) -> String {
        let parts = Outgoing::first(target).wire().concat();
        String::from_utf8(parts).unwrap()
    }

    #[test]
    fn bytes_of_a_request() {
        let mut target = Target::get("http://me:secret@a.b:81?x=1").unwrap();
        assert_eq!(outgoing(&target), "GET /?x=1 HTTP/1.1\r\nhost: a.b:81\r\n\r\n");

        target.proxy = Some("proxy:3128".into());
        target.method = Method::POST;
        assert_eq!(
            outgoing(&target),
            "POST http://a.b:81/?x=1 HTTP/1.1\r\nhost: a.b:81\r\ncontent-length: 0\r\n\r\n"
        );

        target.proxy = None;
        target.keep_alive = false;
        target.body = "hi".into();
        target.headers.insert(header::HOST, HeaderValue::from_static("other"));
        target.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        assert_eq!(
            outgoing(&target),
            "POST /?x=1 HTTP/1.1\r\nhost: other\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"
        );
    }

    #[test]
    fn locations_resolve_against_the_url() {
        for (location, wanted) in [
            ("/x", Some("http://a:1/x")),
            ("x?y#z", Some("http://a:1/p/x?y")),
            ("?y=/:", Some("http://a:1/p/q?y=/:")),
            ("//b/x", Some("http://b/x")),
            ("https://b/", Some("https://b/")),
            ("", Some("http://a:1/p/q?r")),
            ("ftp://b/", None),
            ("http://", None),
        ] {
            let got = resolve(&Uri::from_static("http://a:1/p/q?r"), location.as_bytes());
            assert_eq!(got.ok().map(|uri| uri.to_string()).as_deref(), wanted, "{location:?}");
        }
    }

    #[test]
    fn a_redirect_keeps_method_and_secrets_only_where_it_may() {
        let mut target = Target::get("http://a/").unwrap();
        target.method = Method::POST;
        target.body = "hi".into();
        target.headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic x"));
        for (status, location, method, body, secret) in [
            (302, "/x", "GET", "", true),
            (307, "/x", "POST", "hi", true),
            (308, "http://b/", "POST", "hi", false),
            (303, "http://a:81/", "GET", "", false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let next = Outgoing::first(&target).follow(&target, status, location.as_bytes()).unwrap();
            let got =
                (next.method.as_str(), &next.body[..], next.headers.contains_key(header::AUTHORIZATION));
            assert_eq!(got, (method, body.as_bytes(), secret), "{status} {location}");
        }
    }

    proptest::proptest! {
        #[test]
        fn locations_never_panic(location in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            let _ = resolve(&Uri::from_static("http://a:1/p/q?r"), &location);
        }
    }
}
