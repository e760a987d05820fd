//! Trains the house-price model, or serves it: `cargo run --release -p flyball-model --example house-price -- --help`.

#![allow(clippy::disallowed_methods, reason = "a command writes files")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use flyball_model::server::{self, Options};
use flyball_model::train;

#[derive(Parser)]
#[command(about = "The house-price model: train it or serve it")]
enum Command {
    Train(Train),
    Serve(Serve),
}

/// Train on sales and write the model file
#[derive(clap::Args)]
struct Train {
    /// CSV of sales, plain or gzipped
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/king_county_houses.csv.gz"))]
    data: PathBuf,
    /// The model file to write
    #[arg(long)]
    out: PathBuf,
}

/// Serve predictions until SIGTERM
#[derive(clap::Args)]
struct Serve {
    /// Address of both ports
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port of the model (0: any free one)
    #[arg(long, env = "PORT", default_value_t = 8000)]
    port: u16,
    /// Port of the metrics (0: any free one)
    #[arg(long, env = "METRICS_PORT", default_value_t = 9100)]
    metrics_port: u16,
    /// Predictions that run at the same time
    #[arg(long, default_value_t = 1)]
    worker_threads: usize,
    /// Extra CPU time to spend on each prediction, to simulate a slower model
    #[arg(long, default_value_t = 0)]
    work_milliseconds: u64,
    /// A model file written by train, instead of the embedded model
    #[arg(long)]
    model: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Command::parse() {
        Command::Train(Train { data, out }) => {
            let model = train::train_file(&data, train::Settings::default())?;
            std::fs::write(&out, model.encode())
                .with_context(|| format!("cannot write {}", out.display()))?;
            println!("{}", serde_json::to_string_pretty(model.report())?);
        }
        Command::Serve(serve) => server::run(&Options {
            host: serve.host,
            port: serve.port,
            metrics_port: serve.metrics_port,
            worker_threads: serve.worker_threads,
            work: Duration::from_millis(serve.work_milliseconds),
            model: serve.model,
            ..Options::default()
        })?,
    }
    Ok(())
}
