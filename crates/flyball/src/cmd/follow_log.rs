//! `flyball follow-log`: prints a file as it grows. The pod `flyball` in `flyball-system` runs it, so that
//! `kubectl logs -n flyball-system deploy/flyball` shows the autoscaler's log, as on a cluster.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// How often the file is read.
const INTERVAL: Duration = Duration::from_millis(500);

/// Prints until SIGTERM, which must be handled: the kernel drops unhandled signals to the first process of a PID
/// namespace.
pub(crate) async fn run(path: &Path) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut text = Vec::new();
    loop {
        text.clear();
        file.read_to_end(&mut text)?;
        std::io::stdout().write_all(&text)?;
        if let Some(next) = successor(path, &file)? {
            file = next;
            continue;
        }
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Opens the file that has replaced this one after a rotation.
fn successor(path: &Path, file: &File) -> std::io::Result<Option<File>> {
    match std::fs::metadata(path) {
        Ok(found) if found.ino() != file.metadata()?.ino() => File::open(path).map(Some),
        _ => Ok(None),
    }
}
