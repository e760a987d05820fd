//! The server's certificate authority and serving certificate.
//!
//! The authority is created once and stored in the state directory (`ca.crt`, `ca.key`, 0600), so that a kubeconfig
//! stays valid across restarts. The serving certificate is issued anew at each start and lives only in memory.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::kubeconfig::write_private;
use crate::open_error::OpenError;

/// DNS names and addresses in the certificate: this machine, and the names by which pods call the API.
pub(super) const NAMES: [&str; 8] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "flyball",
];

fn tls(error: impl std::fmt::Display) -> OpenError {
    OpenError::Tls(error.to_string())
}

/// A CA certificate in PEM and the key that signs with it.
pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn create() -> Result<Self, OpenError> {
        let (pem, key) = new_authority()?;
        Self::load(pem, &key)
    }

    /// Loads the authority from a state directory, or creates it there.
    pub(super) fn load_or_create(directory: &Path) -> Result<Self, OpenError> {
        let (certificate, key) = (directory.join("ca.crt"), directory.join("ca.key"));
        if let (Ok(pem), Ok(key)) = (std::fs::read_to_string(&certificate), std::fs::read_to_string(&key)) {
            return Self::load(pem, &key);
        }
        let (pem, key_pem) = new_authority()?;
        for (path, text) in [(&key, &key_pem), (&certificate, &pem)] {
            write_private(path, text)
                .map_err(|error| OpenError::Unusable { path: path.clone(), reason: error.to_string() })?;
        }
        Self::load(pem, &key_pem)
    }

    fn load(pem: String, key: &str) -> Result<Self, OpenError> {
        let key = KeyPair::from_pem(key).map_err(tls)?;
        let issuer = Issuer::new(authority_parameters()?, key);
        Ok(Self { pem, issuer })
    }

    /// Issues a serving certificate.
    pub(super) fn issue(&self) -> Result<ServerCertificate, OpenError> {
        let mut parameters = CertificateParams::new(NAMES.map(str::to_owned).to_vec()).map_err(tls)?;
        parameters.distinguished_name.push(DnType::CommonName, "flyball-apiserver");
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(tls)?;
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(tls)?;
        Ok(ServerCertificate { certificate: certificate.der().clone(), key: key.serialize_der() })
    }
}

fn authority_parameters() -> Result<CertificateParams, OpenError> {
    let mut parameters = CertificateParams::new(Vec::new()).map_err(tls)?;
    parameters.distinguished_name.push(DnType::CommonName, "flyball-ca");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    Ok(parameters)
}

fn new_authority() -> Result<(String, String), OpenError> {
    let key = KeyPair::generate().map_err(tls)?;
    let certificate = authority_parameters()?.self_signed(&key).map_err(tls)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// A serving certificate and its key, both in DER.
pub(super) struct ServerCertificate {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl ServerCertificate {
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, OpenError> {
        let key = PrivateKeyDer::try_from(self.key.clone()).map_err(tls)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .map_err(tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
