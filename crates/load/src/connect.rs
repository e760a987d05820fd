//! Opens a connection: name, TCP, proxy, TLS.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use http::Uri;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, pki_types::ServerName},
};
use tokio_util::either::Either;

use crate::plan::{Http2, Target};

/// Largest response of a proxy to CONNECT; a larger one is not from a proxy.
const MAX_CONNECT_BYTES: usize = 16 << 10;

/// A connection in the clear, or over TLS.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The server of a connection: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Returns the server of a URI; the port defaults to that of the scheme.
    pub(crate) fn of(uri: &Uri) -> Origin {
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        Origin { https, host: uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(), port }
    }

    fn address(&self) -> String {
        let Origin { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// Connects to `origin`. Returns the stream and how long the name look-up took.
pub(crate) async fn connect(
    target: &Target,
    origin: &Origin,
    tls: &TlsConnector,
) -> Result<(Stream, Duration), String> {
    let started = Instant::now();
    let wanted = target.proxy.clone().unwrap_or_else(|| origin.address());
    let addresses: Vec<_> =
        tokio::net::lookup_host(&wanted).await.map_err(|e| format!("lookup {wanted}: {e}"))?.collect();
    let lookup = started.elapsed();
    let mut tcp = TcpStream::connect(&addresses[..]).await.map_err(|e| dial_error(&wanted, &e))?;
    tcp.set_nodelay(true).map_err(|e| dial_error(&wanted, &e))?;
    if !origin.https {
        return Ok((Either::Left(tcp), lookup));
    }
    if target.proxy.is_some() {
        tunnel(&mut tcp, &origin.address()).await?;
    }
    let failed = |why: String| format!("tls {}: {why}", origin.address());
    let name = ServerName::try_from(origin.host.clone()).map_err(|e| failed(e.to_string()))?;
    let stream = tls.connect(name, tcp).await.map_err(|e| failed(certificate_hint(&e)))?;
    Ok((Either::Right(Box::new(stream)), lookup))
}

/// Returns whether this connection uses HTTP/2.
pub(crate) fn speaks_http2(target: &Target, stream: &Stream) -> bool {
    match stream {
        Either::Left(_) => target.http2 == Http2::Always,
        Either::Right(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
    }
}

/// Formats a TLS error, with a hint if the certificate is the cause.
fn certificate_hint(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => format!("{error}; -k accepts any certificate"),
        _ => error.to_string(),
    }
}

fn dial_error(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("dial tcp {address}: connect: connection refused; is the server running?")
        }
        _ => format!("dial tcp {address}: {error}"),
    }
}

/// Opens a tunnel through an HTTP proxy.
async fn tunnel(tcp: &mut TcpStream, to: &str) -> Result<(), String> {
    let failed = |why: String| format!("proxy CONNECT {to}: {why}");
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.map_err(|e| failed(e.to_string()))?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == MAX_CONNECT_BYTES {
            return Err(failed("the response is too long".into()));
        }
        answer.push(tcp.read_u8().await.map_err(|e| failed(e.to_string()))?);
    }
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    if line.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(failed(line)) }
}

/// Returns the TLS client of a target: it trusts the system's certificate authorities, or anything with `insecure`.
pub(crate) fn tls(target: &Target) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?;
    let mut config = if target.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
            .with_no_client_auth()
    } else {
        let mut roots = rustls::RootCertStore::empty();
        if Origin::of(&target.uri).https || target.redirects {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    let offered: &[&[u8]] = if target.http2 == Http2::Never { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
    config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Verifies only that the peer holds the key of its certificate: `--insecure`.
#[derive(Debug)]
struct AcceptAny(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
