//! Reading a file of usage: CSV or Prometheus' answer to a range query, plain or gzipped.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use flyball_api::quantity::Quantity;
use flyball_sim::{MemoryModel, UsageHistory};

use crate::cli::VpaSimulate;
use crate::output;

/// More than four years of minutes, unpacked.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// More cores than a container has.
const MEAN_CORES_MAX: f64 = 1024.0;
/// More memory than a machine has: a tebibyte, 64 times.
const BYTES_MAX: f64 = 70_368_744_177_664.0;

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
    if let Some(unit) = history.time_unit() {
        output::note(&format!("{}: its times are Unix {unit}, by their size", file.display()));
    }
    if history.is_load() {
        output::note(&format!(
            "{}: no column `cpu`, so its numbers are a load, scaled to a mean of {} of CPU",
            file.display(),
            options.mean_cpu
        ));
        history = history.with_mean_cpu(quantity("--mean-cpu", &options.mean_cpu, MEAN_CORES_MAX)?);
    }
    if let Some(idle) = &options.memory_idle {
        let bytes_per_core = quantity("--memory-per-core", &options.memory_per_core, BYTES_MAX)?;
        history = history.with_memory(MemoryModel {
            idle_bytes: quantity("--memory-idle", idle, BYTES_MAX)?,
            bytes_per_core,
        });
    }
    Ok(history)
}

fn quantity(option: &str, text: &str, max: f64) -> Result<f64> {
    let amount = Quantity::parse(text).with_context(|| format!("{option} {text:?}"))?.as_f64();
    if !(0.0..=max).contains(&amount) {
        bail!("{option} {text:?}: write an amount from 0 to {max}");
    }
    Ok(amount)
}

fn text(file: &Path) -> Result<String> {
    let shown = || format!("cannot read {}", file.display());
    let open = std::fs::File::open(file).with_context(shown)?;
    let mut bytes = Vec::new();
    let read = match file.extension().is_some_and(|extension| extension == "gz") {
        true => flate2::read::GzDecoder::new(open).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes),
        false => open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes),
    };
    if read.with_context(shown)? as u64 > FILE_BYTES_MAX {
        let limit = FILE_BYTES_MAX >> 20;
        return Err(anyhow!("it is larger than {limit} MiB; take a coarser step")).with_context(shown);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        anyhow!("line {line} is no text: CSV, JSON, or one of them gzipped (FILE.gz) is expected")
    });
    text.with_context(shown)
}
