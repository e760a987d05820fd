//! The generator against a real server: every request is counted on both sides.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a test's result")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use flyball_load::{Handle, Load, Phase, Plan, Report, Target, Until, normalize_args, run};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::rustls::{self, ServerConfig, pki_types::PrivateKeyDer};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: flyball_load::Args,
}

fn plan(line: &[&str]) -> Result<Plan, String> {
    let words = normalize_args(line.iter().map(ToString::to_string));
    let cli =
        Cli::try_parse_from(std::iter::once("load".to_owned()).chain(words)).map_err(|e| e.to_string())?;
    let body = cli.args.body.clone().unwrap_or_default();
    Plan::from_args(&cli.args, body.into()).map_err(|e| e.to_string())
}

/// The calls that a server received.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// The last request's head.
    last: Mutex<Option<String>>,
}

/// Answers each request with `answer`, or never if it is empty; closes after a response that says so.
async fn serve(answer: &'static str) -> (String, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(Seen::default());
    let counts = seen.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counts.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(talk(socket, answer, counts.clone()));
        }
    });
    (url, seen)
}

async fn talk(mut socket: impl AsyncRead + AsyncWrite + Unpin, answer: &'static str, seen: Arc<Seen>) {
    let mut request = Vec::new();
    while let Ok(byte) = socket.read_u8().await {
        request.push(byte);
        if request.ends_with(b"\r\n\r\n") {
            seen.requests.fetch_add(1, Ordering::SeqCst);
            let _ = socket.write_all(answer.as_bytes()).await;
            let closes = answer.contains("connection: close");
            seen.last.lock().unwrap().replace(String::from_utf8(std::mem::take(&mut request)).unwrap());
            if closes {
                break;
            }
        }
    }
    let _ = socket.shutdown().await;
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

async fn send(line: &[&str], url: &str) -> Report {
    let plan = plan(&[line, &[url]].concat()).unwrap();
    let handle = Handle::new(&plan);
    run(plan, &handle).await.unwrap()
}

#[tokio::test]
async fn sends_exactly_what_was_asked() {
    for (line, connections) in [
        (&["-n", "10", "-c", "3"][..], 3),
        (&["-n", "10", "-c", "50"], 10),
        (&["-n", "10", "-c", "3", "-disable-keepalive"], 10),
    ] {
        let (url, seen) = serve(OK).await;
        let report = send(line, &url).await;
        assert_eq!((report.answered, report.bytes, report.statuses[&200]), (10, 20, 10), "{line:?}");
        assert_eq!(seen.requests.load(Ordering::SeqCst), 10, "{line:?}");
        assert_eq!(seen.connections.load(Ordering::SeqCst), connections, "{line:?}");
    }
}

#[tokio::test]
async fn phases_add_up() {
    let (url, seen) = serve(OK).await;
    let phase = |load, until| Phase { load, until };
    let open = Phase { load: Load::Open { rate: 100.0 }, until: Until::Requests(20) };
    let closed = phase(Load::Closed { workers: 4, rate: None }, Until::Requests(30));
    let plan = Plan { target: Target::get(&url).unwrap(), phases: vec![open, closed], keep_samples: true };
    let handle = Handle::new(&plan);
    let report = run(plan, &handle).await.unwrap();
    assert_eq!((report.answered, handle.stats().answered, report.csv().lines().count()), (50, 50, 51));
    assert_eq!(seen.requests.load(Ordering::SeqCst), 50);
}

#[tokio::test]
async fn failures_are_counted_and_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let report = send(&["-n", "3", "-c", "2"], &format!("http://{closed}/")).await;
    assert!(!report.succeeded());
    let (message, count) = report.errors.iter().next().unwrap();
    assert!(message.contains("connection refused; is the server running?"), "{message}");
    assert_eq!(*count, 3);

    let (url, _) = serve("").await;
    let report = send(&["-n", "2", "-c", "2", "-t", "50ms"], &url).await;
    assert!(report.errors.keys().next().unwrap().contains("no response within 50ms"));
}

#[tokio::test]
async fn a_hung_server_holds_up_neither_deadline_nor_stop() {
    let (url, _) = serve("").await;
    let report = send(&["-z", "100ms", "-c", "7", "-t", "0"], &url).await;
    assert_eq!((report.answered, report.unfinished), (0, 7));

    let (url, seen) = serve("").await;
    let plan = plan(&["-n", "5", "-c", "5", "-t", "0", &url]).unwrap();
    let handle = Handle::new(&plan);
    let stop = async {
        while seen.requests.load(Ordering::SeqCst) < 5 {
            tokio::task::yield_now().await;
        }
        handle.stop();
    };
    let (report, ()) = tokio::join!(run(plan, &handle), stop);
    assert_eq!(report.unwrap().unfinished, 5);
}

/// The result of one request: status and size, or a part of the error; and how many connections two requests take.
#[tokio::test]
async fn answers_of_all_kinds() {
    for (answer, wanted, connections) in [
        (OK, Ok((200, 2)), 1),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", Ok((200, 2)), 1),
        ("HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Ok((500, 3)), 1),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi", Ok((200, 2)), 2),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end", Ok((200, 10)), 2),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi, and more", Ok((200, 2)), 2),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nhi",
            Err("closed the connection after 2 bytes of the body"),
            2,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\na",
            Err("closed the connection after 1 bytes of the body"),
            2,
        ),
        (
            "HTTP/1.1 200 OK\r\nconnection: close",
            Err("closed the connection within the head of the response"),
            2,
        ),
        ("SSH-2.0 connection: close\r\n\r\n", Err("not an HTTP/1.1 response"), 2),
    ] {
        let (url, seen) = serve(answer).await;
        let report = send(&["-n", "2", "-c", "1"], &url).await;
        match wanted {
            Ok((status, bytes)) => {
                assert_eq!((report.statuses.get(&status), report.bytes), (Some(&2), 2 * bytes), "{answer:?}");
            }
            Err(part) => {
                let error = report.errors.keys().next().unwrap();
                assert!(error.starts_with("Get \"http://") && error.contains(part), "{error} for {answer:?}");
            }
        }
        assert_eq!(seen.connections.load(Ordering::SeqCst), connections, "{answer:?}");
    }
}

/// A server may close an idle connection at any time. If that is seen before the next request, a new connection is opened.
/// If not, a GET is repeated and a POST fails, since the server may have acted on it.
#[tokio::test]
async fn connections_closed_while_idle() {
    for (requests_read, method, pace, answered) in
        [(1, "GET", "100", 4), (1, "POST", "100", 4), (2, "GET", "0", 4), (2, "POST", "0", 2)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 4096];
                assert!(socket.read(&mut request).await.unwrap() > 0);
                socket.write_all(OK.as_bytes()).await.unwrap();
                if requests_read == 2 {
                    let _ = socket.read(&mut request).await;
                }
            }
        });
        let report = send(&["-n", "4", "-c", "1", "-q", pace, "-m", method], &url).await;
        assert_eq!(report.answered, answered, "{method} {requests_read} {:?}", report.errors);
        let named = |error: &String| error.contains("closed the connection without a response");
        assert!(report.errors.keys().all(named), "{:?}", report.errors);
    }
}

#[tokio::test]
async fn a_large_body_and_an_early_answer() {
    let (url, seen) = serve("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await;
    let mut target = Target::get(&url).unwrap();
    target.method = http::Method::POST;
    target.body = vec![b'x'; 16 << 20].into();
    let phase = Phase { load: Load::Closed { workers: 1, rate: None }, until: Until::Requests(2) };
    let plan = Plan { target, phases: vec![phase], keep_samples: false };
    let handle = Handle::new(&plan);
    let report = run(plan, &handle).await.unwrap();
    assert_eq!((report.statuses.get(&413), report.errors.len()), (Some(&2), 0), "{:?}", report.errors);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_healthy_server_loses_no_request_at_the_end() {
    let (url, seen) = serve(OK).await;
    let report = send(&["-z", "200ms", "-c", "20"], &url).await;
    assert_eq!((report.unfinished, report.errors.len()), (0, 0));
    assert_eq!(report.answered as usize, seen.requests.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_rate_sends_what_is_due_and_no_more() {
    // A worker drops all missed ticks but the last; an open rate catches up with all.
    for (line, wanted) in [
        (&["-z", "200ms", "-q", "20", "-c", "3"][..], 3..=12),
        (&["-z", "100ms", "-q", "5", "-c", "3"], 0..=0),
        (&["-z", "200ms", "--rate", "100"], 20..=20),
    ] {
        let (url, _) = serve(OK).await;
        let report = send(line, &url).await;
        assert!(wanted.contains(&report.answered), "{line:?}: {} answered", report.answered);
        assert_eq!(report.unfinished, 0, "{line:?}");
    }
}

#[tokio::test]
async fn proxies_get_the_whole_url() {
    let (url, seen) = serve(OK).await;
    let proxy = url.trim_start_matches("http://").trim_end_matches('/');
    let report = send(&["-n", "1", "-c", "1", "-x", proxy], "http://far.example:81/x?y").await;
    assert_eq!(report.answered, 1, "{:?}", report.errors);
    let request = seen.last.lock().unwrap().clone().unwrap();
    assert!(
        request.starts_with("GET http://far.example:81/x?y HTTP/1.1\r\nhost: far.example:81\r\n"),
        "{request}"
    );
}

/// Starts a server with a self-signed certificate.
async fn serve_tls() -> (String, Arc<Seen>) {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Seen::default());
    let counts = seen.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counts.connections.fetch_add(1, Ordering::SeqCst);
            if let Ok(stream) = acceptor.accept(socket).await {
                tokio::spawn(talk(stream, OK, counts.clone()));
            }
        }
    });
    (format!("https://localhost:{port}/"), seen)
}

#[tokio::test]
async fn tls_certificates_are_verified_unless_told_otherwise() {
    let (url, seen) = serve_tls().await;
    let report = send(&["-n", "1", "-c", "1"], &url).await;
    let error = report.errors.keys().next().unwrap();
    assert!(error.contains("tls localhost:") && error.contains("-k accepts any certificate"), "{error}");
    assert_eq!(seen.requests.load(Ordering::SeqCst), 0);

    let report = send(&["-n", "4", "-c", "1", "-k"], &url).await;
    assert_eq!((report.answered, report.bytes), (4, 8), "{:?}", report.errors);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 2);
}

/// A proxy that opens tunnels carries TLS; one that refuses says why.
#[tokio::test]
async fn tls_through_a_proxy() {
    let (url, _) = serve_tls().await;
    let to = url.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(near.read_u8().await.unwrap());
        }
        assert!(request.starts_with(format!("CONNECT {to} HTTP/1.1\r\n").as_bytes()));
        let mut far = tokio::net::TcpStream::connect(&to).await.unwrap();
        near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let report = send(&["-n", "2", "-c", "1", "-k", "-x", &proxy], &url).await;
    assert_eq!(report.answered, 2, "{:?}", report.errors);

    let (refusing, _) = serve("HTTP/1.1 403 Forbidden\r\n\r\n").await;
    let report = send(&["-n", "1", "-c", "1", "-k", "-x", &refusing], &url).await;
    assert!(report.errors.keys().next().unwrap().contains("HTTP/1.1 403 Forbidden"), "{:?}", report.errors);
}

#[tokio::test]
async fn http2_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = hyper::service::service_fn(async |request: http::Request<hyper::body::Incoming>| {
                let body = http_body_util::Full::new(bytes::Bytes::from(request.uri().path().to_owned()));
                Ok::<_, std::convert::Infallible>(http::Response::new(body))
            });
            let connection = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            tokio::spawn(connection.serve_connection(hyper_util::rt::TokioIo::new(socket), answer));
        }
    });
    let report = send(&["-n", "6", "-c", "2", "--h2c"], &url).await;
    assert_eq!((report.statuses.get(&200), report.bytes), (Some(&6), 12), "{:?}", report.errors);
}

/// As with hey, HTTP/1.1 is used in the clear and with servers that know nothing else.
#[tokio::test]
async fn http2_falls_back() {
    let (clear, _) = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let (tls, _) = serve_tls().await;
    for (url, flags) in [(&clear, &["-h2"][..]), (&clear, &["-h2=false"]), (&tls, &["-h2", "-k"])] {
        let report = send(&[&["-n", "2", "-c", "1"], flags].concat(), url).await;
        assert_eq!(report.statuses.get(&200), Some(&2), "{url} {flags:?}: {:?}", report.errors);
    }
}

#[tokio::test]
async fn redirects_are_followed_unless_told_otherwise() {
    const AWAY: &str = "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n";
    let (url, seen) = serve(AWAY).await;
    assert_eq!(send(&["-n", "1", "-disable-redirects"], &url).await.statuses[&302], 1);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
    let report = send(&["-n", "1"], &url).await;
    assert!(report.errors.keys().next().unwrap().contains("stopped after 10 redirects"));
}

#[test]
fn the_pages_lines() {
    const HOUSE: &str =
        r#"{"sqft":4500,"bedrooms":4,"bathrooms":2,"year_built":2014,"condition":"Good","location":"Urban"}"#;
    let rest = [
        "-c",
        "200",
        "-m",
        "POST",
        "-H",
        "Content-Type: application/json",
        "-d",
        HOUSE,
        "http://localhost:30100/predict",
    ];
    for (first, until) in
        [(["-n", "5000"], Until::Requests(5000)), (["-z", "3m"], Until::Elapsed(Duration::from_secs(180)))]
    {
        let plan = plan(&[&first[..], &rest[..]].concat()).unwrap();
        assert_eq!(plan.phases, [Phase { load: Load::Closed { workers: 200, rate: None }, until }]);
        assert_eq!((plan.target.method.as_str(), &plan.target.body[..]), ("POST", HOUSE.as_bytes()));
        assert_eq!(plan.target.headers["content-type"], "application/json");
    }
}

#[test]
fn credentials_come_from_the_flag_or_the_url() {
    for (line, wanted) in [
        (&["-a", "me:secret", "http://a/"][..], "Basic bWU6c2VjcmV0"),
        (&["http://me:secret@a/"], "Basic bWU6c2VjcmV0"),
        (&["-a", "me:secret", "http://you:other@a/"], "Basic bWU6c2VjcmV0"),
        (&["http://me@a/"], "Basic bWU6"),
    ] {
        let plan = plan(line).unwrap();
        assert_eq!(plan.target.headers["authorization"], wanted, "{line:?}");
        assert!(!format!("{plan:?}").contains("bWU6") && plan.target.uri == "http://a/", "{line:?}");
    }
}

#[test]
fn all_problems_at_once() {
    let problems =
        plan(&["-c", "0", "-H", "nocolon", "-a", "nobody", "-m", "A B", "-x", "proxy", "here"]).unwrap_err();
    for part in ["-c: must be", "-H number 1", "-a: no colon", "-m: ", "-x \"proxy\"", "URL \"here\""] {
        assert!(problems.contains(part), "{part} in {problems}");
    }
}
