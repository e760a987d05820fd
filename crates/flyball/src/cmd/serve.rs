//! `flyball serve`: runs a built-in model server on its own. The built-in image runs the same command in a pod.

use std::time::Duration;

use anyhow::Result;
use flyball_model::server::{self, Options};

use crate::cli::{Model, Serve};

pub(crate) fn run(options: Serve) -> Result<()> {
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).try_init();
    match options.model {
        Model::HousePrice => server::run(&Options {
            host: options.host,
            port: options.port,
            metrics_port: options.metrics_port,
            worker_threads: options.worker_threads,
            work: Duration::from_millis(options.work_milliseconds),
            model: options.model_file,
            ..Options::default()
        })?,
    }
    Ok(())
}
