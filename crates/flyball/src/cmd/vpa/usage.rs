//! Reads a file of usage: CSV, or Prometheus' response to a range query, plain or gzipped.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use flyball_api::quantity::Quantity;
use flyball_sim::{MemoryModel, UsageHistory};

use crate::cli::VpaSimulate;
use crate::output;

/// The largest file, decompressed: more than four years of minutes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The most cores of a container.
const MEAN_CORES_MAX: f64 = 1024.0;
/// The most memory of a machine: 64 TiB.
const BYTES_MAX: f64 = 70_368_744_177_664.0;

/// Reads the history of a file, and fills in CPU and memory as the options say.
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
            bail!("--memory requires Prometheus' response for CPU; in a CSV file, use a column `memory`")
        }
    };
    let mut history = history.with_context(|| format!("{}", file.display()))?;
    if let Some(unit) = history.time_unit() {
        output::note(&format!("{}: reading times as Unix {unit}, judging by their size", file.display()));
    }
    if history.is_load() {
        output::note(&format!(
            "{}: no column `cpu`, so the numbers are read as a load and scaled to a mean CPU of {}",
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
        return Err(anyhow!("the file is larger than {limit} MiB; use a coarser step")).with_context(shown);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        anyhow!("line {line} is not text: expected CSV, JSON, or one of them gzipped (FILE.gz)")
    });
    text.with_context(shown)
}
