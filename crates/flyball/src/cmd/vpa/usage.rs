//! Reading a file of usage: CSV or Prometheus' answer to a range query, plain or gzipped.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use flyball_api::quantity::Quantity;
use flyball_sim::{MemoryModel, UsageHistory};

use crate::cli::VpaSimulate;
use crate::output;

/// More than four years of minutes, unpacked.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The history of a file, with CPU and memory filled in as the options say.
pub(super) fn read(file: &Path, options: &VpaSimulate) -> Result<UsageHistory> {
    let content = text(file)?;
    let is_json = content.trim_start().starts_with('{');
    let history = match (is_json, &options.memory) {
        (true, memory) => {
            let memory = memory.as_deref().map(text).transpose()?;
            UsageHistory::from_prometheus(&content, memory.as_deref())
        }
        (false, None) => UsageHistory::from_csv(&content),
        (false, Some(_)) => {
            bail!("--memory goes with Prometheus' answer for CPU; a CSV file has a column `memory`")
        }
    };
    let mut history = history.with_context(|| format!("{}", file.display()))?;
    if history.is_load() {
        output::note(&format!(
            "{}: no column `cpu`, so its numbers are a load, scaled to a mean of {} of CPU",
            file.display(),
            options.mean_cpu
        ));
        history = history.with_mean_cpu(quantity("--mean-cpu", &options.mean_cpu)?);
    }
    if let Some(idle) = &options.memory_idle {
        let bytes_per_core = quantity("--memory-per-core", &options.memory_per_core)?;
        history =
            history.with_memory(MemoryModel { idle_bytes: quantity("--memory-idle", idle)?, bytes_per_core });
    }
    Ok(history)
}

fn quantity(option: &str, text: &str) -> Result<f64> {
    let amount = Quantity::parse(text).with_context(|| format!("{option} {text:?}"))?;
    Ok(amount.as_f64())
}

fn text(file: &Path) -> Result<String> {
    let open = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut content = String::new();
    let read = match file.extension().is_some_and(|extension| extension == "gz") {
        true => flate2::read::GzDecoder::new(open).take(FILE_BYTES_MAX).read_to_string(&mut content),
        false => open.take(FILE_BYTES_MAX).read_to_string(&mut content),
    };
    read.with_context(|| {
        format!("cannot read {}: CSV, JSON, or one of them gzipped is expected", file.display())
    })?;
    Ok(content)
}
