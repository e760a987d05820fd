//! Calls the servers that triggers name: over TLS or not, with their credentials, within a size and a time.
//!
//! A client is kept for each way to trust and to be known, so that connections are used again. Errors name the server
//! as the trigger does: keys and passwords are in headers and in parameters of the URL, which no error shows.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use flyball_api::trigger::prometheus::{AuthHeader, Authentication};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use crate::gather::scrape::fetch::{chain, has_length};
use crate::gather::tls::{self, HttpsClient, Identity, Names, Trust};

/// KEDA's `KEDA_HTTP_DEFAULT_TIMEOUT`.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);
/// The largest answer that is read: a number, with what is around it.
const ANSWER_BYTES_MAX: usize = 10 << 20;
/// More ways to trust and be known than triggers have; old ones are forgotten beyond it.
const CLIENTS_MAX: usize = 64;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) url: String,
    pub(crate) timeout: Option<Duration>,
    pub(crate) unsafe_ssl: bool,
    pub(crate) authentication: Authentication,
    pub(crate) headers: BTreeMap<String, String>,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// Whether the server said how long the body is; one without a length ends where the connection does.
    pub(crate) has_length: bool,
}

/// The clients.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    names: Names,
    clients: Arc<Mutex<BTreeMap<u64, HttpsClient>>>,
}

impl Caller {
    pub(crate) fn new(names: Names) -> Caller {
        Caller { names, clients: Arc::default() }
    }

    /// The same caller in a namespace.
    pub(crate) fn within(&self, namespace: &str) -> Caller {
        Caller { names: self.names.within(namespace), clients: Arc::clone(&self.clients) }
    }

    /// Requests the URL with the authentication headers.
    ///
    /// # Errors
    /// The server cannot be reached or trusted, answers too much or too late: a sentence. What it answers with
    /// another status than 2xx is for the caller to word.
    pub(crate) async fn get(&self, call: &Call) -> Result<Reply, String> {
        let timeout = call.timeout.unwrap_or(TIMEOUT_DEFAULT);
        let client = self.client(call)?;
        let request = request(call)?;
        let exchange = async {
            let response = client.request(request).await.map_err(|error| chain(&error))?;
            let (status, has_length) = (response.status(), has_length(&response));
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| chain(&*error))?.to_bytes();
            Ok(Reply { status, body, has_length })
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
    }

    fn client(&self, call: &Call) -> Result<HttpsClient, String> {
        let key = self.key(call);
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let client = tls::client(tls_config(call)?, self.names.clone(), None);
        let mut clients = self.clients.lock();
        if clients.len() >= CLIENTS_MAX {
            clients.pop_first();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// The key of a client: how it resolves names, which authorities it trusts, and its certificate.
    fn key(&self, call: &Call) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.names.namespace().hash(&mut hasher);
        call.unsafe_ssl.hash(&mut hasher);
        hash_certificates(&call.authentication, &mut hasher);
        hasher.finish()
    }
}

fn hash_certificates(authentication: &Authentication, hasher: &mut DefaultHasher) {
    let Authentication { certificate, authority, .. } = authentication;
    authority.as_ref().map(|secret| secret.reveal()).hash(hasher);
    certificate.as_ref().map(|(certificate, key)| (certificate.reveal(), key.reveal())).hash(hasher);
}

/// Returns the address without user and password, to be shown.
pub(crate) fn without_credentials(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let start = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[start..])
}

/// A number for credentials, another one for others: answers to one user are not shown to another.
pub(crate) fn fingerprint(authentication: &Authentication, api_key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash_certificates(authentication, &mut hasher);
    api_key.hash(&mut hasher);
    match &authentication.header {
        None => {}
        Some(AuthHeader::Bearer(token)) => token.reveal().hash(&mut hasher),
        Some(AuthHeader::Basic { username, password }) => (username, password.reveal()).hash(&mut hasher),
        Some(AuthHeader::Custom { name, value }) => (name, value.reveal()).hash(&mut hasher),
    }
    hasher.finish()
}

fn request(call: &Call) -> Result<Request<Empty<Bytes>>, String> {
    let uri: Uri = call.url.parse().map_err(|error| format!("not a URL: {error}"))?;
    let mut request = Request::get(uri).body(Empty::new()).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Flyball/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in &call.headers {
        insert(headers, name, value)?;
    }
    match &call.authentication.header {
        None => {}
        Some(AuthHeader::Bearer(token)) => {
            insert(headers, AUTHORIZATION.as_str(), &format!("Bearer {}", token.reveal()))?
        }
        Some(AuthHeader::Basic { username, password }) => {
            let both = format!("{username}:{}", password.reveal());
            let encoded = base64::engine::general_purpose::STANDARD.encode(both);
            insert(headers, AUTHORIZATION.as_str(), &format!("Basic {encoded}"))?;
        }
        Some(AuthHeader::Custom { name, value }) => insert(headers, name, value.reveal())?,
    }
    Ok(request)
}

/// Adds a header that is never logged.
fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let header: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
    let mut value: HeaderValue =
        value.parse().map_err(|_| format!("the value of header {name:?} has control characters"))?;
    value.set_sensitive(true);
    headers.insert(header, value);
    Ok(())
}

/// `unsafeSsl` counts only where no authority and no certificate are given, as with KEDA.
fn tls_config(call: &Call) -> Result<ClientConfig, String> {
    let Authentication { certificate, authority, .. } = &call.authentication;
    let trust = if call.unsafe_ssl && certificate.is_none() && authority.is_none() {
        Trust::Everybody
    } else {
        let mut roots = Trust::system();
        if let Some(authority) = authority {
            roots.add_parsable_certificates(certificates(authority.reveal(), "ca")?);
        }
        Trust::Authorities(roots)
    };
    let identity =
        certificate.as_ref().map(|(chain, key)| identity(chain.reveal(), key.reveal())).transpose()?;
    tls::config(rustls::ALL_VERSIONS, trust, identity)
        .map_err(|error| format!("cert and key cannot be used: {error}"))
}

fn identity(chain: &str, key: &str) -> Result<Identity, String> {
    let no_key = || "the parameter key is no private key in PEM".to_owned();
    let key = tls::private_key(key.as_bytes()).ok_or_else(no_key)?;
    Ok((certificates(chain, "cert")?, key))
}

fn certificates(pem: &str, parameter: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let none = || format!("the parameter {parameter} has no certificate in PEM");
    tls::certificates(pem.as_bytes()).ok_or_else(none)
}

#[cfg(test)]
pub(crate) mod tests {
    use axum::Router;
    use axum::http::Request as Asked;
    use axum::routing::get;
    use rcgen::{CertificateParams, Issuer, KeyPair};
    use rustls::RootCertStore;
    use rustls::crypto::ring;
    use tokio::net::TcpListener;

    use super::*;

    /// A call without credentials.
    pub(crate) fn call(url: &str) -> Call {
        Call {
            url: url.to_owned(),
            timeout: Some(Duration::from_secs(5)),
            unsafe_ssl: false,
            authentication: Authentication::default(),
            headers: BTreeMap::new(),
        }
    }

    /// Serves a router on a free port of this machine; the URL.
    pub(crate) async fn serve(router: Router) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[test]
    fn an_address_is_shown_without_a_password() {
        for (address, expected) in [
            ("http://p:9090", "http://p:9090"),
            ("http://ann:pw@p:9090/a@b", "http://p:9090/a@b"),
            ("p", "p"),
        ] {
            assert_eq!(without_credentials(address), expected);
        }
    }

    #[tokio::test]
    async fn the_headers_say_who_asks() {
        let shown = async |request: Asked<axum::body::Body>| {
            let header = |name: &str| {
                let value = request.headers().get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or("-").to_owned()
            };
            format!("{} {} {}", header("authorization"), header("x-scope-orgid"), header("x-key"))
        };
        let url = serve(Router::new().route("/", get(shown))).await;
        let custom = AuthHeader::Custom { name: "X-Key".to_owned(), value: "k".to_owned().into() };
        let basic = AuthHeader::Basic { username: "ann".to_owned(), password: "pw".to_owned().into() };
        for (header, expected) in [
            (None, "- t1 -"),
            (Some(AuthHeader::Bearer("t".to_owned().into())), "Bearer t t1 -"),
            (Some(basic), "Basic YW5uOnB3 t1 -"),
            (Some(custom), "- t1 k"),
        ] {
            let mut call = call(&format!("{url}/"));
            call.headers.insert("X-Scope-OrgID".to_owned(), "t1".to_owned());
            call.authentication.header = header;
            let reply = Caller::default().get(&call).await.unwrap();
            assert_eq!((reply.status, &reply.body[..]), (StatusCode::OK, expected.as_bytes()));
        }
        let wrong = Call { headers: [("no name".to_owned(), "x".to_owned())].into(), ..call(&url) };
        assert_eq!(Caller::default().get(&wrong).await, Err("\"no name\" is no name of a header".to_owned()));
    }

    /// An authority, a server certificate for localhost and a client certificate, with their keys, in PEM.
    struct Signed {
        authority: String,
        server: (String, String),
        client: (String, String),
    }

    fn signed() -> Signed {
        let authority_key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(parameters, authority_key);
        let sign = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (parameters.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        Signed { authority: authority.pem(), server: sign("localhost"), client: sign("client") }
    }

    /// A server that answers one request a connection, and asks for a client's certificate.
    async fn serve_tls(signed: &Signed) -> String {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&signed.authority, "ca").unwrap());
        let provider = Arc::new(ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        )
        .allow_unauthenticated()
        .build()
        .unwrap();
        let key = tls::private_key(signed.server.1.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&signed.server.0, "cert").unwrap(), key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let known = stream.get_ref().1.peer_certificates().is_some();
                let service = hyper::service::service_fn(move |_| async move {
                    let text = if known { "known" } else { "unknown" };
                    Ok::<_, std::convert::Infallible>(http::Response::new(text.to_owned()))
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        url
    }

    #[tokio::test]
    async fn a_server_is_trusted_as_the_trigger_says() {
        let signed = signed();
        let url = serve_tls(&signed).await;
        let said = async |call: Call| {
            let answer = Caller::default().get(&call).await;
            answer.map(|reply| String::from_utf8_lossy(&reply.body).into_owned())
        };
        assert!(said(call(&url)).await.is_err(), "nobody vouches for it");
        assert_eq!(said(Call { unsafe_ssl: true, ..call(&url) }).await.as_deref(), Ok("unknown"));
        let mut trusting = call(&url);
        trusting.authentication.authority = Some(signed.authority.clone().into());
        assert_eq!(said(trusting.clone()).await.as_deref(), Ok("unknown"));
        let (certificate, key) = signed.client.clone();
        trusting.authentication.certificate = Some((certificate.into(), key.into()));
        assert_eq!(said(trusting.clone()).await.as_deref(), Ok("known"));
        trusting.authentication.authority = Some("nonsense".to_owned().into());
        assert_eq!(said(trusting).await, Err("the parameter ca has no certificate in PEM".to_owned()));
    }

    #[tokio::test]
    async fn a_service_is_reached_at_its_address_under_its_name() {
        let signed = signed();
        let port = serve_tls(&signed).await.rsplit(':').next().unwrap().to_owned();
        let caller = Caller::new(Names::local(|host, namespace| {
            matches!((host, namespace), ("localhost" | "other.test", "ml"))
        }));
        let said = async |namespace: &str, host: &str| {
            let mut call = call(&format!("https://{host}:{port}"));
            call.authentication.authority = Some(signed.authority.clone().into());
            let answer = caller.within(namespace).get(&call).await;
            answer.map(|reply| String::from_utf8_lossy(&reply.body).into_owned())
        };
        assert_eq!(said("ml", "localhost").await.as_deref(), Ok("unknown"));
        let other = said("ml", "other.test").await;
        assert!(other.as_ref().is_err_and(|why| why.contains("certificate not valid for name")), "{other:?}");
        assert!(said("default", "other.test").await.is_err_and(|why| !why.contains("certificate")));
    }

    #[tokio::test]
    async fn a_server_that_hangs_is_not_waited_for() {
        let hang = async || std::future::pending::<()>().await;
        let url = serve(Router::new().route("/", get(hang))).await;
        let call = Call { timeout: Some(Duration::from_millis(50)), ..call(&url) };
        assert_eq!(Caller::default().get(&call).await, Err("no answer within 50ms".to_owned()));
    }
}
