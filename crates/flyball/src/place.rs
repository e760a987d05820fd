//! Where a world keeps its files, and how the other commands find the one that runs.
//!
//! A world's folder holds everything it owns: the API server's store, the certificates, the kubeconfig and the
//! logs. No pod sees it ([`Place::private`]), but for the pod that shows this program's own log. A running world also leaves a note of where its kubeconfig is, so that `flyball why` and
//! `flyball kubeconfig` need no flags. The note is a hint, never a lock: the store has its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where in it the autoscaler's own log is.
const OWN_LOG_FOLDER: &str = "log";

/// The folder of a world and the files in it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    folder: PathBuf,
    kubeconfig: PathBuf,
}

impl Place {
    /// A world in `folder`, its kubeconfig at `kubeconfig` or else in the folder.
    pub(crate) fn new(folder: PathBuf, kubeconfig: Option<PathBuf>) -> Result<Place> {
        create_private(&folder)?;
        let folder = folder.canonicalize().with_context(|| format!("cannot use `{}`", folder.display()))?;
        create_private(&folder.join(OWN_LOG_FOLDER))?;
        let kubeconfig = kubeconfig.unwrap_or_else(|| folder.join("kubeconfig"));
        Ok(Place { folder, kubeconfig })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The folder of the autoscaler's own log: a whole one, so that whoever reads it sees the file change.
    pub(crate) fn own_log_folder(&self) -> PathBuf {
        self.folder.join(OWN_LOG_FOLDER)
    }

    /// The autoscaler's own log.
    pub(crate) fn own_log(&self) -> PathBuf {
        self.own_log_folder().join("flyball.log")
    }

    /// What pods must not see: who has the kubeconfig may do everything.
    pub(crate) fn private(&self) -> Result<Vec<PathBuf>> {
        let kubeconfig = std::path::absolute(&self.kubeconfig)?;
        let kubeconfig = kubeconfig.canonicalize().unwrap_or(kubeconfig);
        Ok(vec![self.folder.clone(), kubeconfig])
    }

    /// Notes that the world in this place runs. The note goes when the guard is dropped.
    pub(crate) fn announce(&self) -> Result<Announced> {
        let note = running_note()?;
        if let Some(parent) = note.parent() {
            create_private(parent)?;
        }
        let kubeconfig = std::path::absolute(&self.kubeconfig)?;
        std::fs::write(&note, kubeconfig.as_os_str().as_encoded_bytes())
            .with_context(|| format!("cannot write `{}`", note.display()))?;
        Ok(Announced { note, kubeconfig })
    }
}

/// The note of a running world; removed on drop, unless another world has written its own since.
#[derive(Debug)]
pub(crate) struct Announced {
    note: PathBuf,
    kubeconfig: PathBuf,
}

impl Drop for Announced {
    fn drop(&mut self) {
        let ours = std::fs::read(&self.note)
            .is_ok_and(|found| found == self.kubeconfig.as_os_str().as_encoded_bytes());
        if ours {
            let _ = std::fs::remove_file(&self.note);
        }
    }
}

/// The kubeconfig that a command uses: the one it is given, else `$KUBECONFIG` as kubectl has it, else the running
/// world's.
pub(crate) fn find_kubeconfig(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(given) = given {
        return existing(given);
    }
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    if let Some(named) = std::env::split_paths(&named).find(|path| path.exists()) {
        return Ok(named);
    }
    world_kubeconfig()
}

/// The kubeconfig of the world that runs, or else of the one in the default folder.
pub(crate) fn world_kubeconfig() -> Result<PathBuf> {
    if let Ok(noted) = std::fs::read_to_string(running_note()?) {
        let noted = PathBuf::from(noted);
        if noted.exists() {
            return Ok(noted);
        }
    }
    existing(default_folder()?.join("kubeconfig"))
}

pub(crate) fn existing(kubeconfig: PathBuf) -> Result<PathBuf> {
    if !kubeconfig.exists() {
        bail!("no kubeconfig at `{}`: start a world with `flyball up` first", kubeconfig.display());
    }
    Ok(kubeconfig)
}

/// Where a world lives when nothing else is said: the user's state folder, by the XDG rules.
pub(crate) fn default_folder() -> Result<PathBuf> {
    if let Some(state) = std::env::var_os("XDG_STATE_HOME").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(state).join("flyball"));
    }
    let home = std::env::home_dir().context("no home folder is known: pass --state-dir DIR")?;
    Ok(home.join(".local/state/flyball"))
}

/// The note is per user, beside the default folder, whatever folder the running world uses.
fn running_note() -> Result<PathBuf> {
    Ok(default_folder()?.join("running"))
}

/// Creates a folder that only its owner can enter: kubeconfigs and keys live there.
fn create_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create `{}`", folder.display()))
}
