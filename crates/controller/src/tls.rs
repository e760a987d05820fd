//! TLS as a client: whom to trust, how to be known, and the HTTP client that follows from it. Scrapes and triggers share it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::Empty;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};

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
    /// The authorities of this machine. One without any trusts nobody.
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
}

/// The address of the Service that a host's name means to who is in a namespace, if it means one.
pub(crate) type Services = dyn Fn(&str, &str) -> Option<IpAddr> + Send + Sync;

impl Names {
    pub(crate) fn new(services: Arc<Services>) -> Names {
        Names { services: Some(services), namespace: String::new() }
    }

    /// The names as they are understood in a namespace, where a short one means a Service of the same.
    pub(crate) fn within(&self, namespace: &str) -> Names {
        Names { services: self.services.clone(), namespace: namespace.to_owned() }
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
        let of_service = self.services.as_ref().and_then(|services| services(name.as_str(), &self.namespace));
        Box::pin(async move {
            // The connector puts the URL's port in the place of this one.
            let found: Vec<SocketAddr> = match of_service {
                Some(address) => vec![SocketAddr::new(address, 0)],
                None => tokio::net::lookup_host((name.as_str(), 0)).await?.collect(),
            };
            Ok(found.into_iter())
        })
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
