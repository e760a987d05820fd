//! Opens a connection: name, TCP, proxy, TLS; and notes on it when the last byte of a request was written.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::Uri;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls};

use crate::plan::Target;

/// Longest answer of a proxy to CONNECT: more is not a proxy.
const MAX_CONNECT_BYTES: usize = 16 << 10;

/// Either kind of stream, as one type.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream that notes the time of its last write, in nanoseconds after `epoch`.
pub(crate) struct Timed {
    inner: Box<dyn Stream>,
    epoch: Instant,
    last_write: Arc<AtomicU64>,
}

impl Timed {
    pub(crate) fn new(inner: Box<dyn Stream>, epoch: Instant, last_write: Arc<AtomicU64>) -> Self {
        Timed { inner, epoch, last_write }
    }

    fn note(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(_))) {
            self.last_write.store(self.epoch.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Host and port of a URI; the port by its scheme if it names none.
pub(crate) fn authority(uri: &Uri) -> (String, u16) {
    let port = uri.port_u16().unwrap_or(if is_https(uri) { 443 } else { 80 });
    (uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(), port)
}

pub(crate) fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

/// Connects to the server of `uri`. Returns the stream and how long the name look-up took.
pub(crate) async fn connect(
    target: &Target,
    uri: &Uri,
    tls: &TlsConnector,
) -> Result<(Box<dyn Stream>, Duration), String> {
    let (host, port) = authority(uri);
    let started = Instant::now();
    let wanted = target.proxy.clone().unwrap_or_else(|| join(&host, port));
    let addresses: Vec<_> =
        tokio::net::lookup_host(&wanted).await.map_err(|e| format!("look up {wanted}: {e}"))?.collect();
    let lookup = started.elapsed();
    let mut tcp = TcpStream::connect(&addresses[..]).await.map_err(|e| dial_error(&wanted, &e))?;
    tcp.set_nodelay(true).map_err(|e| dial_error(&wanted, &e))?;
    if !is_https(uri) {
        return Ok((Box::new(tcp), lookup));
    }
    if target.proxy.is_some() {
        tunnel(&mut tcp, &join(&host, port)).await?;
    }
    let name =
        rustls::pki_types::ServerName::try_from(host.clone()).map_err(|e| format!("TLS to {host}: {e}"))?;
    let stream = tls.connect(name, tcp).await.map_err(|e| format!("TLS to {host}:{port}: {e}"))?;
    Ok((Box::new(stream), lookup))
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn dial_error(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("dial tcp {address}: connection refused; is the server running?")
        }
        _ => format!("dial tcp {address}: {error}"),
    }
}

/// Asks an HTTP proxy for a tunnel.
async fn tunnel(tcp: &mut TcpStream, to: &str) -> Result<(), String> {
    let failed = |why: String| format!("proxy CONNECT {to}: {why}");
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.map_err(|e| failed(e.to_string()))?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == MAX_CONNECT_BYTES {
            return Err(failed("answer is too long".into()));
        }
        answer.push(tcp.read_u8().await.map_err(|e| failed(e.to_string()))?);
    }
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    if line.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(failed(line)) }
}

/// The TLS client of a target: the system's certificate authorities, or none asked with `insecure`.
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
        if target.uri.scheme_str() == Some("https") || target.redirects {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    config.alpn_protocols = vec![if target.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Verifies that the peer holds its key, and nothing about who it is: `--insecure`.
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
