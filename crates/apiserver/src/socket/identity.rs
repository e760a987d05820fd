//! The server's identity: certificates and bearer token.

use std::path::Path;

use tokio_rustls::TlsAcceptor;

use super::{certificates, kubeconfig};
use crate::open_error::OpenError;
use crate::uid;

/// The CA and certificate that identify the server, and the token that identifies its owner.
pub(crate) struct Identity {
    pub(crate) ca_pem: String,
    pub(crate) token: String,
    certificates: certificates::ServerCertificate,
}

impl Identity {
    /// Creates an identity that is never written to disk.
    pub(crate) fn ephemeral() -> Result<Self, OpenError> {
        let authority = certificates::Authority::create()?;
        Ok(Self { ca_pem: authority.pem.clone(), token: uid::token(), certificates: authority.issue()? })
    }

    /// Loads the identity from the state directory, or creates it with files that only the owner can read.
    pub(crate) fn load_or_create(directory: &Path) -> Result<Self, OpenError> {
        let authority = certificates::Authority::load_or_create(directory)?;
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
