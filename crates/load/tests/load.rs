//! The generator against a real server on a port of its own: every request is counted on both sides.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a test's result")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use flyball_load::{Handle, Load, Phase, Plan, Report, Target, Until, normalize_args, run};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

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

/// Counts connections and requests; answers each with `answer`, or never when that is empty.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

async fn serve(answer: &'static str) -> (String, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(Seen::default());
    let counts = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counts.connections.fetch_add(1, Ordering::SeqCst);
            let counts = counts.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while let Ok(byte) = socket.read_u8().await {
                    request.push(byte);
                    if request.ends_with(b"\r\n\r\n") {
                        counts.requests.fetch_add(1, Ordering::SeqCst);
                        request.clear();
                        socket.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    (url, seen)
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
    assert!(report.errors.keys().next().unwrap().contains("no answer within 50ms"));
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
fn all_problems_at_once() {
    let problems = plan(&["-c", "0", "-H", "nocolon", "-a", "nobody", "-m", "A B", "here"]).unwrap_err();
    for part in ["-c: must be", "-H number 1", "-a: no colon", "-m: ", "URL \"here\""] {
        assert!(problems.contains(part), "{part} in {problems}");
    }
}
