//! TLS for clients: trusted authorities, client certificates, and the HTTP client over them. Scrapes and triggers share it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http_body_util::Empty;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use tokio::sync::Semaphore;

use crate::gather::cluster::Cluster;
use crate::gather::names::{self, Resolved};

/// How long a name is waited for: shorter than KEDA's time-out of a request, so that the failure has its own reason.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// The most names that are resolved at once, each on its own thread.
const LOOKUPS_MAX: usize = 16;

/// How long an unused connection is kept: over some scrapes or polls, but not for ever, since pods come and go.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A client for requests without a body.
pub(crate) type HttpsClient = Client<HttpsConnector<HttpConnector<Names>>, Empty<Bytes>>;

/// Whose certificates will do.
pub(crate) enum Trust {
    /// Those that one of these authorities signed.
    Authorities(RootCertStore),
    /// Everybody's. The connection is still encrypted, to whoever has the certificate's key.
    Everybody,
}

impl Trust {
    /// The authorities of this machine. Without any, no server is trusted.
    pub(crate) fn system() -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    }
}

/// A certificate with those that vouch for it, and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The configuration that these make.
///
/// # Errors
/// Certificate and key don't belong together.
pub(crate) fn config(
    versions: &[&'static SupportedProtocolVersion],
    trust: Trust,
    identity: Option<Identity>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
    let builder = match trust {
        Trust::Authorities(roots) => builder.with_root_certificates(roots),
        Trust::Everybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        }
    };
    match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// The certificates in a PEM text; `None` if there are none.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
    (!found.is_empty()).then_some(found)
}

/// The private key in a PEM text; `None` if there is none.
pub(crate) fn private_key(pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).ok()
}

/// A client that finds hosts by `names`, and asks for the certificate of `server_name` rather than the host's, if given.
pub(crate) fn client(config: ClientConfig, names: Names, server_name: Option<&str>) -> HttpsClient {
    let mut http = HttpConnector::new_with_resolver(names);
    http.set_nodelay(true);
    http.enforce_http(false);
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    let builder = match server_name.and_then(|name| ServerName::try_from(name.to_owned()).ok()) {
        Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name)),
        None => builder,
    };
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .build(builder.enable_http1().wrap_connector(http))
}

/// Finds the addresses of hosts: those of Services first, since one machine has no DNS for them, then the system's.
///
/// Only the address changes: the name in the URL stays the one in the Host header and in the certificate.
#[derive(Clone, Default)]
pub(crate) struct Names {
    services: Option<Arc<Services>>,
    namespace: String,
    lookups: Arc<Lookups>,
}

/// Resolves host names as seen from a namespace.
pub(crate) type Services = dyn Fn(&str, &str) -> Resolution + Send + Sync;

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// At these addresses.
    At(Vec<IpAddr>),
    /// Where this other name is, which the system finds.
    As(String),
    /// Nowhere, and why.
    Nowhere(String),
    /// Outside: the system finds it.
    Outside,
}

impl Names {
    fn new(services: Arc<Services>) -> Names {
        Names { services: Some(services), ..Names::default() }
    }

    /// Those names that `is_local` knows mean this machine; every other one is the system's to find.
    #[cfg(test)]
    pub(crate) fn local(is_local: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Names {
        Names::new(Arc::new(move |host, namespace| match is_local(host, namespace) {
            true => Resolution::At(vec![[127, 0, 0, 1].into()]),
            false => Resolution::Outside,
        }))
    }

    /// The names of a cluster's Services.
    pub(crate) fn of(cluster: &Cluster) -> Names {
        let cluster = cluster.clone();
        Names::new(Arc::new(move |host, namespace| match names::look_up(&cluster, host, namespace) {
            Resolved::Addresses(_, addresses) => Resolution::At(addresses),
            Resolved::Alias(_, name) => Resolution::As(name),
            Resolved::Unreachable(_, why) | Resolved::Nobody(why) => Resolution::Nowhere(why),
            Resolved::NoSuchService { service: (namespace, name), only: true } => {
                Resolution::Nowhere(format!("there is no Service {name} in namespace {namespace}"))
            }
            Resolved::NoSuchService { only: false, .. } | Resolved::Outside => Resolution::Outside,
        }))
    }

    /// The names as they are understood in a namespace, where a short one means a Service of the same.
    pub(crate) fn within(&self, namespace: &str) -> Names {
        Names { namespace: namespace.to_owned(), ..self.clone() }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl tower::Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let services = self.services.as_ref();
        let found = services.map_or(Resolution::Outside, |known| known(name.as_str(), &self.namespace));
        let lookups = Arc::clone(&self.lookups);
        Box::pin(async move {
            let addresses = match found {
                Resolution::At(addresses) => addresses,
                Resolution::As(other) => lookups.find(&other).await?,
                Resolution::Nowhere(why) => return Err(std::io::Error::new(ErrorKind::NotFound, why)),
                Resolution::Outside => lookups.find(name.as_str()).await?,
            };
            // The connector puts the URL's port in the place of this one.
            let found: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(found.into_iter())
        })
    }
}

/// Look-ups by the system's resolver. It blocks a thread for as long as a name server is silent, which may be half a
/// minute, whether somebody still waits or not: so one name is looked up once at a time, and few at the same time.
struct Lookups {
    running: Mutex<BTreeMap<String, Lookup>>,
    permits: Semaphore,
}

type Lookup = Shared<BoxFuture<'static, Result<Vec<IpAddr>, Arc<std::io::Error>>>>;

impl Default for Lookups {
    fn default() -> Lookups {
        Lookups { running: Mutex::default(), permits: Semaphore::new(LOOKUPS_MAX) }
    }
}

impl Lookups {
    /// The addresses of a host.
    async fn find(self: &Arc<Lookups>, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let lookup = self.running.lock().entry(host.to_owned()).or_insert_with(|| self.start(host)).clone();
        match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => {
                Err(std::io::Error::new(error.kind(), format!("cannot resolve {host}: {error}")))
            }
            Err(_) => {
                let seconds = LOOKUP_TIMEOUT.as_secs();
                let why = format!("cannot resolve {host}: no name server has answered within {seconds} s");
                Err(std::io::Error::new(ErrorKind::TimedOut, why))
            }
        }
    }

    /// Continues after the caller has given up.
    fn start(self: &Arc<Lookups>, host: &str) -> Lookup {
        let (lookups, host) = (Arc::clone(self), host.to_owned());
        let task = tokio::spawn(async move {
            let _permit = lookups.permits.acquire().await;
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            lookups.running.lock().remove(&host);
            found.map(|found| found.map(|address| address.ip()).collect()).map_err(Arc::new)
        });
        let ended = |error: tokio::task::JoinError| Err(Arc::new(std::io::Error::other(error)));
        task.map(move |found| found.unwrap_or_else(ended)).boxed().shared()
    }
}

/// Takes any certificate, if only its owner has its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
