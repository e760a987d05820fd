//! The `external` and `external-push` triggers: a server of the user's own that answers over gRPC.
//!
//! Parameters are those of KEDA (`scalers/external_scaler.go`); all others are passed on to the server.

use std::collections::BTreeMap;

use super::parameters::{AUTH_OR_METADATA, METADATA, Parameters};
use super::prometheus::Secret;

/// A server of the user's own that answers over gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Host and port of the server.
    pub scaler_address: String,
    /// Whether the server says by itself when it becomes active.
    pub push: bool,
    /// Whether the connection is encrypted.
    pub enable_tls: bool,
    /// Whether the server's certificate is not checked.
    pub unsafe_ssl: bool,
    /// The authority that signed the server's certificate, in PEM.
    pub authority: Option<Secret>,
    /// The client's certificate and its key, in PEM.
    pub certificate: Option<(Secret, Secret)>,
    /// What is passed on to the server.
    pub metadata: BTreeMap<String, String>,
}

impl External {
    pub(super) fn parse(
        push: bool,
        metadata: &BTreeMap<String, String>,
        parameters: &mut Parameters<'_>,
    ) -> Option<Self> {
        let scaler_address = parameters.required(
            &["scalerAddress"],
            METADATA,
            "write host and port of the scaler, such as \"scaler.default.svc:9090\"",
        );
        let enable_tls = parameters.flag("enableTLS").unwrap_or(false);
        let unsafe_ssl = parameters.flag("unsafeSsl").unwrap_or(false);
        let authority = parameters.text(&["caCert"], AUTH_OR_METADATA).map(Secret::from);
        let certificate = parameters.text(&["tlsClientCert"], AUTH_OR_METADATA).map(Secret::from);
        let key = parameters.text(&["tlsClientKey"], AUTH_OR_METADATA).map(Secret::from);
        let metadata = forwarded(metadata, parameters);
        Some(Self {
            scaler_address: scaler_address?,
            push,
            enable_tls,
            unsafe_ssl,
            authority,
            certificate: certificate.zip(key),
            metadata,
        })
    }
}

/// Everything but how to connect, with variables looked up.
fn forwarded(
    metadata: &BTreeMap<String, String>,
    parameters: &mut Parameters<'_>,
) -> BTreeMap<String, String> {
    let own = ["scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey"];
    metadata
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .filter_map(|(name, value)| match name.strip_suffix("FromEnv") {
            None => Some((name.clone(), value.clone())),
            Some(bare) => Some((bare.to_owned(), parameters.text(&[bare], METADATA)?)),
        })
        .collect()
}
