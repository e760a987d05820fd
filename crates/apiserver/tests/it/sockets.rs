//! The server on its socket: too many clients, silent and slow ones, large bodies, foreign hosts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use flyball_apiserver::ApiServer;
use futures::stream::{self, StreamExt};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server on its own socket, and what a client needs to reach it.
struct Served {
    server: ApiServer,
    address: SocketAddr,
    token: String,
    authority: Vec<u8>,
}

async fn served() -> Served {
    let server = server().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    let running = server.clone();
    tokio::spawn(async move { running.serve(listener, std::future::pending()).await });
    let config = server.kubeconfig(address);
    let field = |name: &str| {
        let line =
            config.lines().find_map(|line| line.trim().strip_prefix(name)).expect("it is in the kubeconfig");
        line.trim().trim_matches('"').to_owned()
    };
    let authority = base64::engine::general_purpose::STANDARD
        .decode(field("certificate-authority-data:"))
        .expect("it is base64");
    Served { server, address, token: field("token:"), authority }
}

impl Served {
    async fn tls(&self, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.authority).expect("it is PEM")).expect("it is a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("they are supported")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let name = ServerName::try_from("localhost").expect("it is a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("the handshake works")
    }

    async fn http2(&self) -> http2::SendRequest<Body> {
        let io = TokioIo::new(self.tls("h2").await);
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), io).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        sender
    }

    fn request(&self, method: &str, path: &str, body: Body) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(body)
            .expect("the request is well formed")
    }

    /// Sends a request on a new connection, with additional `headers`.
    async fn once(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let io = TokioIo::new(self.tls("http/1.1").await);
        let (mut sender, connection) = http1::handshake(io).await.expect("it speaks HTTP/1.1");
        tokio::spawn(connection);
        let mut request =
            Request::builder().uri(path).header("authorization", format!("Bearer {}", self.token));
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("the request is well formed");
        read(sender.send_request(request).await.expect("it answers")).await
    }
}

async fn read(response: Response<Incoming>) -> (u16, Value) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("the body is whole").to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn foreign_hosts_and_pages_are_refused() {
    let served = served().await;
    let port = served.address.port();
    for (headers, code) in [
        (vec![("host", format!("127.0.0.1:{port}"))], 200),
        (vec![("host", format!("localhost:{port}"))], 200),
        (vec![("host", "kubernetes.default.svc".into())], 200),
        (vec![("host", format!("evil.example:{port}"))], 403),
        (vec![("origin", format!("https://localhost:{port}"))], 200),
        (vec![("origin", "https://evil.example".into())], 403),
    ] {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (got, status) = served.once("/api/v1/namespaces/default", &headers).await;
        assert_eq!(got, code, "{headers:?}: {status}");
        if code == 403 {
            let message = status["message"].as_str().unwrap_or_default();
            assert!(message.contains("use the address in the kubeconfig"), "{message}");
        }
    }
    let (code, _) = get(&served.server, "/api/v1/namespaces/default").await;
    assert_eq!(code, 200, "who is in the process needs no host");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_and_not_cut_off() {
    let served = served().await;
    let mut stream = served.tls("http/1.1").await;
    let length = 8 << 20;
    let head = format!(
        "POST {MAPS} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n",
        served.token
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    // Send everything before reading anything, as simple clients do.
    stream.write_all(&vec![b' '; length]).await.expect("it reads to the end");
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).await.expect("it answers");
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("limit is 3145728"), "{answer}");
}

#[tokio::test]
async fn silent_clients_lock_nobody_out() {
    let served = served().await;
    let mut silent = Vec::new();
    for _ in 0..700 {
        silent.push(TcpStream::connect(served.address).await.expect("it listens"));
    }
    for _ in 0..5 {
        let asked =
            tokio::time::timeout(Duration::from_secs(20), served.once("/api/v1/namespaces/default", &[]));
        assert_eq!(asked.await.expect("it answers in time").0, 200);
    }
    // The first ones were evicted to admit the last.
    let mut byte = [0];
    let first = tokio::time::timeout(Duration::from_secs(20), silent[0].read(&mut byte)).await;
    assert!(matches!(first, Ok(Ok(0) | Err(_))), "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_thousand_watches_live_and_see_every_change() {
    const CONNECTIONS: usize = 800;
    const WATCHES: usize = 5;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("it may be raised");
    let served = served().await;
    let (_, list) = get(&served.server, MAPS).await;
    let path = format!(
        "{MAPS}?watch=true&resourceVersion={}",
        list["metadata"]["resourceVersion"].as_str().expect("it has a version")
    );
    let served = &served;
    let watches: Vec<Vec<Incoming>> = stream::iter(0..CONNECTIONS)
        .map(|_| async {
            let mut sender = served.http2().await;
            let mut bodies = Vec::new();
            for _ in 0..WATCHES {
                sender.ready().await.expect("it goes on");
                let response = sender.send_request(served.request("GET", &path, Body::empty())).await;
                let response = response.expect("it answers");
                assert_eq!(response.status(), 200);
                bodies.push(response.into_body());
            }
            bodies
        })
        .buffer_unordered(16)
        .collect()
        .await;
    assert_eq!(post(&served.server, MAPS, &json!({"metadata": {"name": "seen"}})).await.0, 201);
    let mut seen = 0;
    for mut body in watches.into_iter().flatten() {
        let frame =
            tokio::time::timeout(Duration::from_secs(60), body.frame()).await.expect("it comes in time");
        let data = frame.expect("it goes on").expect("it is whole").into_data().expect("it is data");
        seen += usize::from(data.starts_with(br#"{"type":"ADDED""#));
    }
    assert_eq!(seen, CONNECTIONS * WATCHES);
}
