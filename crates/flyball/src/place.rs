//! The files of a world, and how other commands find the running world.
//!
//! A world's folder holds everything it owns: the API server's store, the certificates, the kubeconfig and the logs. It is
//! hidden from pods ([`WorldFolder::private`]), except the log folder from the pod that shows the log. A running world also
//! writes the path of its kubeconfig to a note, so that `flyball why` and `flyball kubeconfig` need no flags. The note is a
//! hint, never a lock: the store has its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The subfolder of the log.
const OWN_LOG_FOLDER: &str = "log";

/// The folder of a world and the files in it.
#[derive(Debug, Clone)]
pub(crate) struct WorldFolder {
    folder: PathBuf,
    kubeconfig: PathBuf,
}

impl WorldFolder {
    /// Creates the folder of a world if necessary; `kubeconfig` defaults to a file in it.
    pub(crate) fn new(folder: PathBuf, kubeconfig: Option<PathBuf>) -> Result<WorldFolder> {
        create_private(&folder)?;
        let folder = folder.canonicalize().with_context(|| format!("cannot use `{}`", folder.display()))?;
        create_private(&folder.join(OWN_LOG_FOLDER))?;
        let kubeconfig = kubeconfig.unwrap_or_else(|| folder.join("kubeconfig"));
        Ok(WorldFolder { folder, kubeconfig })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the folder of the log. The pod that shows the log mounts the folder, so that it sees the file rotate.
    pub(crate) fn own_log_folder(&self) -> PathBuf {
        self.folder.join(OWN_LOG_FOLDER)
    }

    /// Returns the file of the log.
    pub(crate) fn own_log(&self) -> PathBuf {
        self.own_log_folder().join("flyball.log")
    }

    /// Returns the paths hidden from pods: the kubeconfig gives full access.
    pub(crate) fn private(&self) -> Result<Vec<PathBuf>> {
        let kubeconfig = std::path::absolute(&self.kubeconfig)?;
        let kubeconfig = kubeconfig.canonicalize().unwrap_or(kubeconfig);
        Ok(vec![self.folder.clone(), kubeconfig])
    }

    /// Writes the note of a running world; dropping the guard removes it.
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

/// The note of a running world; removed on drop, unless another world has overwritten it.
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

/// Finds the kubeconfig of a command: the given one, else the first existing file of `$KUBECONFIG`, else the running
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

/// Returns the kubeconfig of the running world, or else of the one in the default folder.
pub(crate) fn world_kubeconfig() -> Result<PathBuf> {
    if let Ok(noted) = std::fs::read_to_string(running_note()?) {
        let noted = PathBuf::from(noted);
        if noted.exists() {
            return Ok(noted);
        }
    }
    existing(default_folder()?.join("kubeconfig"))
}

/// Returns `kubeconfig` if the file exists.
pub(crate) fn existing(kubeconfig: PathBuf) -> Result<PathBuf> {
    if !kubeconfig.exists() {
        bail!("no kubeconfig at `{}`: start a world with `flyball up` first", kubeconfig.display());
    }
    Ok(kubeconfig)
}

/// Returns the default folder of a world: in the user's state folder, by the XDG rules.
pub(crate) fn default_folder() -> Result<PathBuf> {
    if let Some(state) = std::env::var_os("XDG_STATE_HOME").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(state).join("flyball"));
    }
    let home = std::env::home_dir()
        .context("the home folder is unknown: pass --state-dir DIR, or set XDG_STATE_HOME")?;
    Ok(home.join(".local/state/flyball"))
}

/// Returns the path of the note: one for each user, in the default folder, whatever folder the running world uses.
fn running_note() -> Result<PathBuf> {
    Ok(default_folder()?.join("running"))
}

/// Creates a folder that only its owner can enter, for kubeconfigs and keys.
fn create_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create `{}`", folder.display()))
}
