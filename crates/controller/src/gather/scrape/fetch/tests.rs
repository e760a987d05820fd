//! Pages from servers that want to know who asks, compress, send elsewhere, or never end.

use std::io::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const PAGE: &str = "a 1\n";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("in memory");
    encoder.finish().expect("in memory")
}

fn pages() -> Router {
    let who = async |headers: HeaderMap| {
        let who = headers.get("authorization").and_then(|who| who.to_str().ok()).unwrap_or("nobody");
        format!("# {who}\n")
    };
    let compressed = async || ([("content-encoding", "gzip")], gzip(PAGE.as_bytes())).into_response();
    let bomb = async || ([("content-encoding", "gzip")], gzip(&[b'#'; 1 << 20])).into_response();
    Router::new()
        .route("/who", get(who))
        .route("/gzip", get(compressed))
        .route("/bomb", get(bomb))
        .route("/elsewhere", get(async || Redirect::temporary("/who")))
        .route("/round", get(async || Redirect::temporary("/round")))
}

/// Serves pages; returns the address.
async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move { axum::serve(listener, pages()).await });
    address
}

/// Serves pages over TLS with a certificate of its own; returns the address and the certificate.
async fn serve_tls() -> (String, String) {
    let issued = rcgen::generate_simple_self_signed(vec!["model.test".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .expect("a certificate with its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(pages());
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    (address, issued.cert.pem())
}

/// An API server with one Secret.
fn fetcher(data: Value) -> Fetcher {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "scrape", "namespace": "default" },
        "stringData": data.clone(),
        "data": data.as_object().expect("a map").iter().map(|(key, value)| {
            (key.clone(), json!(k8s_openapi::ByteString(value.as_str().expect("text").into())))
        }).collect::<serde_json::Map<_, _>>(),
    });
    let api = Router::new()
        .route("/api/v1/namespaces/default/secrets/scrape", get(async move || axum::Json(secret.clone())));
    let names =
        Names::local(|host, namespace| matches!((host, namespace), ("model" | "model.test", "default")));
    Fetcher::new(kube::Client::new(api, "default"), names)
}

fn target(url: String, client: Value) -> ScrapeTarget {
    ScrapeTarget {
        url,
        namespace: "default".into(),
        timeout: Duration::from_secs(20),
        page_bytes_max: 100_000,
        client: serde_json::from_value(client).expect("a client"),
        ..ScrapeTarget::default()
    }
}

async fn scraped(fetcher: &Fetcher, url: String, client: Value) -> String {
    match fetcher.scrape(&target(url, client)).await {
        Ok(page) => String::from_utf8_lossy(&page.body).into_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn credentials_come_from_secrets() {
    let address = serve().await;
    let fetcher = fetcher(json!({ "user": "ann", "password": "p:w", "token": "t0\n" }));
    let key = |key: &str| json!({ "name": "scrape", "key": key });
    let table = [
        (json!({}), "# nobody\n"),
        (
            json!({ "basicAuth": { "username": key("user"), "password": key("password") } }),
            "# Basic YW5uOnA6dw==\n",
        ),
        (json!({ "authorization": { "credentials": key("token") } }), "# Bearer t0\n"),
        (json!({ "authorization": { "type": "Token", "credentials": key("token") } }), "# Token t0\n"),
        (json!({ "bearerTokenSecret": key("token") }), "# Bearer t0\n"),
        (json!({ "bearerTokenSecret": key("none") }), "key \"none\" in secret \"scrape\" not found"),
    ];
    for (client, expected) in table {
        assert_eq!(
            scraped(&fetcher, format!("http://{address}/who"), client.clone()).await,
            expected,
            "{client}"
        );
    }
    let other = json!({ "bearerTokenSecret": { "name": "other", "key": "token" } });
    let answer = scraped(&fetcher, format!("http://{address}/who"), other).await;
    assert!(answer.starts_with("unable to get secret \"other\""), "{answer}");
}

#[tokio::test]
async fn pages_are_decompressed_and_redirects_followed_within_limits() {
    let address = serve().await;
    let fetcher = fetcher(json!({}));
    let page = |path: &str, client: Value| scraped(&fetcher, format!("http://{address}/{path}"), client);
    assert_eq!(page("gzip", json!({})).await, PAGE);
    assert_eq!(page("bomb", json!({})).await, "body size limit exceeded (100000 bytes)");
    assert_eq!(page("elsewhere", json!({})).await, "# nobody\n");
    let refused = "server returned HTTP status 307 Temporary Redirect";
    assert_eq!(page("elsewhere", json!({ "followRedirects": false })).await, refused);
    assert_eq!(page("round", json!({})).await, "stopped after 10 redirects");
    assert_eq!(page("none", json!({})).await, "server returned HTTP status 404 Not Found");
}

#[tokio::test]
async fn certificates_are_checked_as_the_monitor_says() {
    let (address, certificate) = serve_tls().await;
    let fetcher = fetcher(json!({ "ca": certificate, "none": "no certificate" }));
    let page = |tls: Value| scraped(&fetcher, format!("https://{address}/who"), json!({ "tlsConfig": tls }));
    let ca = |key: &str| json!({ "secret": { "name": "scrape", "key": key } });
    assert_eq!(page(json!({ "ca": ca("ca"), "serverName": "model.test" })).await, "# nobody\n");
    let port = address.rsplit(':').next().expect("a port");
    let by_name = format!("https://model.test:{port}/who");
    let tls = json!({ "tlsConfig": { "ca": ca("ca") } });
    assert_eq!(scraped(&fetcher, by_name, tls).await, "# nobody\n", "the name is the Service's");
    assert_eq!(page(json!({ "insecureSkipVerify": true, "minVersion": "TLS13" })).await, "# nobody\n");
    assert_eq!(page(json!({ "ca": ca("none") })).await, "tlsConfig: no certificate in PEM");
    for tls in [json!({ "ca": ca("ca") }), json!({ "serverName": "model.test" })] {
        let answer = page(tls.clone()).await;
        assert!(answer.contains("certificate"), "{tls}: {answer}");
    }
}

#[test]
fn redirects_are_resolved() {
    let from: Uri = "http://127.0.0.1:81/a/metrics".parse().expect("a URL");
    let check = |status: u16, location: &str, expected: Option<&str>| {
        let response =
            Response::builder().status(status).header("Location", location).body(()).expect("valid");
        let found = redirect(&from, &response).map(|uri| uri.to_string());
        assert_eq!(found.as_deref(), expected, "{status} {location}");
    };
    check(302, "/m", Some("http://127.0.0.1:81/m"));
    check(308, "m?x=1", Some("http://127.0.0.1:81/a/m?x=1"));
    check(301, "https://localhost/m", Some("https://localhost/m"));
    check(200, "/m", None);
}
