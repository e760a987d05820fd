//! The certificates and the token of a server.

use std::path::Path;

use tokio_rustls::TlsAcceptor;

use super::{certificates, kubeconfig};
use crate::open_error::OpenError;
use crate::uid;

/// What proves to clients who the server is, and to the server who its owner is.
pub(crate) struct Identity {
    pub(crate) ca_pem: String,
    pub(crate) token: String,
    certificates: certificates::Server,
}

impl Identity {
    /// A new one, kept nowhere.
    pub(crate) fn ephemeral() -> Result<Self, OpenError> {
        let authority = certificates::Authority::create()?;
        Ok(Self { ca_pem: authority.pem.clone(), token: uid::token(), certificates: authority.issue()? })
    }

    /// The one in the state directory, made on first use; its files are only the owner's.
    pub(crate) fn kept(directory: &Path) -> Result<Self, OpenError> {
        let authority = certificates::Authority::kept(directory)?;
        let file = directory.join("token");
        let token = match std::fs::read_to_string(&file) {
            Ok(token) if !token.trim().is_empty() => token.trim().to_owned(),
            _ => {
                let token = uid::token();
                kubeconfig::write_private(&file, &token)
                    .map_err(|error| OpenError::unusable(&file, &error))?;
                token
            }
        };
        Ok(Self { ca_pem: authority.pem.clone(), token, certificates: authority.issue()? })
    }

    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, OpenError> {
        self.certificates.acceptor()
    }
}
