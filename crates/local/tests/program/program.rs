//! What the tests run in containers: a small HTTP server, and a program that eats memory; and the containers' init.
#![allow(clippy::disallowed_methods, reason = "a test program")]

use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use tokio::signal::unix::{SignalKind, signal};

fn main() {
    let mut args = std::env::args().skip(1);
    let role = args.next().unwrap_or_default();
    match role.as_str() {
        "container-init" => {
            eprintln!("{}", flyball_local::container_init(args));
            std::process::exit(1);
        }
        "serve" => serve(args.next().and_then(|port| port.parse().ok()).unwrap_or(8000)),
        "eat-memory" => {
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![1; 1 << 20]);
            }
        }
        "hold-memory" => {
            let held = vec![1_u8; 64 << 20];
            loop {
                std::thread::park();
                std::hint::black_box(&held);
            }
        }
        role => {
            eprintln!("unknown role `{role}`");
            std::process::exit(2);
        }
    }
}

#[derive(serde::Deserialize)]
struct Wait {
    #[serde(default)]
    milliseconds: u64,
}

/// Answers with its host name, after so many milliseconds; SIGTERM lets requests finish.
#[tokio::main(flavor = "current_thread")]
async fn serve(port: u16) {
    let app = Router::new().route(
        "/",
        get(async |Query(wait): Query<Wait>| {
            tokio::time::sleep(Duration::from_millis(wait.milliseconds)).await;
            format!(
                "{} {}",
                std::env::var("HOSTNAME").unwrap_or_default(),
                std::env::var("GREETING").unwrap_or_default()
            )
        })
        .post(async |body: String| body),
    );
    let port = std::env::var("PORT").ok().and_then(|p| p.parse().ok()).unwrap_or(port);
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await.expect("the port is free");
    println!("listening on {port}");
    let mut term = signal(SignalKind::terminate()).expect("signals can be heard");
    let told = async move {
        term.recv().await;
    };
    axum::serve(listener, app).with_graceful_shutdown(told).await.expect("serving ends well");
    println!("drained");
}
