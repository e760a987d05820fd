//! `flyball follow-log`: prints a file as it grows. It is what the pod `flyball` in `flyball-system` runs, so that
//! `kubectl logs -n flyball-system deploy/flyball` shows the autoscaler's own log, as it would on a cluster.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Prints until it is asked to stop. As the first process of its PID namespace it must ask for the signal itself: the
/// kernel gives such a process no signal that it does not handle.
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
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The file that has taken the place of this one, after a rotation.
fn successor(path: &Path, file: &File) -> std::io::Result<Option<File>> {
    match std::fs::metadata(path) {
        Ok(found) if found.ino() != file.metadata()?.ino() => File::open(path).map(Some),
        _ => Ok(None),
    }
}
