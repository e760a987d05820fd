//! Measures the server on this machine, in process: `cargo run --release -p flyball-apiserver --example measure`.
//!
//! Prints the time to open an empty store, resident memory, creates, gets and lists per second, and durable writes
//! per second from one client and from thirty-two concurrent ones.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::{Duration, Instant};

use flyball_apiserver::{ApiServer, Options};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

type Anything = Box<dyn std::error::Error + Send + Sync>;

fn deployment(name: String) -> Result<Deployment, serde_json::Error> {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "model"}},
        "spec": {
            "selector": {"matchLabels": {"app": "model"}},
            "template": {
                "metadata": {"labels": {"app": "model"}},
                "spec": {"containers": [{"name": "c", "image": "model:v1", "ports": [{"containerPort": 8000}]}]},
            },
        },
    }))
}

/// Returns resident memory in MiB, as reported by the kernel.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn report(what: &str, count: u32, took: Duration) {
    println!("{what}: {:.0}/s", f64::from(count) / took.as_secs_f64());
}

async fn creates(api: &Api<Deployment>, prefix: &str, count: u32) -> Result<Duration, Anything> {
    let started = Instant::now();
    for index in 0..count {
        api.create(&PostParams::default(), &deployment(format!("{prefix}{index}"))?).await?;
    }
    Ok(started.elapsed())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Anything> {
    let directory = tempfile::tempdir()?;
    let started = Instant::now();
    let server = ApiServer::open(Options { state_dir: Some(directory.path().into()) }).await?;
    println!("open an empty store: {:?}; resident {:.1} MiB", started.elapsed(), resident());
    let api: Api<Deployment> = Api::default_namespaced(kube::Client::new(server.router(), "default"));

    report("durable creates, one client", 300, creates(&api, "one-", 300).await?);
    let started = Instant::now();
    let clients = (0..32).map(|client| {
        let api = api.clone();
        tokio::spawn(async move { creates(&api, &format!("many-{client}-"), 50).await })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    report("durable creates, 32 clients", 32 * 50, started.elapsed());
    let started = Instant::now();
    for index in 0..300 {
        let status = Patch::Merge(json!({"status": {"replicas": index}}));
        api.patch_status("one-0", &PatchParams::default(), &status).await?;
    }
    report("durable status patches, one client", 300, started.elapsed());

    let memory = ApiServer::open(Options::default()).await?;
    let api: Api<Deployment> = Api::default_namespaced(kube::Client::new(memory.router(), "default"));
    report("creates in memory", 1000, creates(&api, "m-", 1000).await?);
    let started = Instant::now();
    for index in 0..1000 {
        api.get(&format!("m-{index}")).await?;
    }
    report("gets", 1000, started.elapsed());
    let started = Instant::now();
    for _ in 0..20 {
        api.list(&ListParams::default().labels("app=model")).await?;
    }
    report("lists of 1000 by label, objects", 20_000, started.elapsed());
    println!("resident with 3900 Deployments in two stores: {:.1} MiB", resident());
    server.close();
    Ok(())
}
