//! The log of `flyball up`: one line for each event, in the world's folder.
//!
//! `kubectl logs -n flyball-system deploy/flyball` reads the same file. `FLYBALL_LOG` filters it, in the syntax of
//! `RUST_LOG`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

/// At this size the file is renamed to `….1` and a new one begins, so the log takes at most twice as much.
const LOG_BYTES_MAX: u64 = 10 << 20;
const FILTER_DEFAULT: &str = "info,kube=warn,hyper=warn,tower=warn";

/// Writes all log lines of this process to `path`.
pub(crate) fn to_file(path: &Path) -> Result<()> {
    let file = Rotating::open(path).with_context(|| format!("cannot write the log `{}`", path.display()))?;
    let filter = EnvFilter::try_from_env("FLYBALL_LOG").unwrap_or_else(|_| EnvFilter::new(FILTER_DEFAULT));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Mutex::new(file))
        .finish();
    tracing::subscriber::set_global_default(subscriber).context("the log is already set up")
}

struct Rotating {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Rotating {
    fn open(path: &Path) -> std::io::Result<Rotating> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Rotating { path: path.to_owned(), file, bytes })
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        *self = Rotating::open(&self.path)?;
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if self.bytes > LOG_BYTES_MAX {
            self.rotate()?;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
