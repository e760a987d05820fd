//! The error of a failed start.

use std::path::{Path, PathBuf};

use crate::store::disk::DiskError;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the state directory open.
    #[error("the state directory `{0}` is in use by another process; stop it or use another directory")]
    InUse(PathBuf),
    /// The data file is damaged; [`crate::ApiServer::repair`] saves what is readable.
    #[error("the data file `{path}` is damaged: {reason}; nothing was changed")]
    Damaged {
        /// Path of the data file.
        path: PathBuf,
        /// What is damaged in it.
        reason: String,
    },
    /// The directory or a file in it cannot be read or written.
    #[error("cannot use the state directory `{path}`: {reason}")]
    Unusable {
        /// The unusable file or directory.
        path: PathBuf,
        /// The error of the system or the database.
        reason: String,
    },
    /// Certificates cannot be created or loaded.
    #[error("cannot prepare TLS: {0}")]
    Tls(String),
}

impl OpenError {
    /// Describes a file or directory that cannot be used.
    pub(crate) fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> Self {
        Self::Unusable { path: path.to_owned(), reason: reason.to_string() }
    }

    /// Describes a data file that cannot be opened.
    pub(crate) fn disk(directory: &Path, file: &Path, error: DiskError) -> Self {
        match error {
            DiskError::InUse => Self::InUse(directory.to_owned()),
            DiskError::Damaged(reason) => Self::Damaged { path: file.to_owned(), reason },
            other => Self::unusable(file, &other),
        }
    }
}
