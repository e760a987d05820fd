//! How a target is asked: credentials and certificates from Secrets, and the client that uses them.
//!
//! What a monitor names is read from the API server when it is first needed and again every minute, so a new password is
//! taken up without a restart. Values of Secrets are in no message and no log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use flyball_api::kinds::scrape_client::{ScrapeClient, SecretOrConfigMap, TlsConfig};
use http::HeaderValue;
use http_body_util::Empty;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapKeySelector, Secret, SecretKeySelector};
use kube::Api;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::lock;

/// How old credentials may be.
const CREDENTIALS_AGE_MAX: Duration = Duration::from_secs(60);
/// Connections to a target are kept between scrapes, but not for ever: pods come and go.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Different ways to ask that are remembered; a machine has a few.
const PREPARED_MAX: usize = 200;

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// A client, and what it says of itself.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) client: HttpClient,
    pub(super) authorization: Option<HeaderValue>,
}

/// The clients of all monitors.
#[derive(Clone)]
pub(super) struct Clients {
    kube: kube::Client,
    plain: Prepared,
    prepared: Arc<Mutex<HashMap<String, (Instant, Prepared)>>>,
}

impl Clients {
    pub(super) fn new(kube: kube::Client) -> Clients {
        let trusted = RootCertStore { roots: webpki_roots_of_system() };
        let config = config_builder(None).with_root_certificates(trusted).with_no_client_auth();
        let plain = Prepared { client: http_client(config, None), authorization: None };
        Clients { kube, plain, prepared: Arc::default() }
    }

    /// The client that a monitor in a namespace asks for.
    ///
    /// # Errors
    /// A Secret or a key in it is missing, or a certificate can't be read.
    pub(super) async fn of(&self, namespace: &str, wanted: &ScrapeClient) -> Result<Prepared, String> {
        let asks = wanted.authorization.is_some()
            || wanted.basic_auth.is_some()
            || wanted.bearer_token_secret.is_some()
            || wanted.tls_config.is_some();
        if !asks {
            return Ok(self.plain.clone());
        }
        let key = format!("{namespace}\n{}", serde_json::to_string(wanted).unwrap_or_default());
        if let Some((at, prepared)) = lock(&self.prepared).get(&key)
            && at.elapsed() < CREDENTIALS_AGE_MAX
        {
            return Ok(prepared.clone());
        }
        let prepared = self.prepare(namespace, wanted).await?;
        let mut all = lock(&self.prepared);
        if all.len() >= PREPARED_MAX {
            all.clear();
        }
        all.insert(key, (Instant::now(), prepared.clone()));
        Ok(prepared)
    }

    async fn prepare(&self, namespace: &str, wanted: &ScrapeClient) -> Result<Prepared, String> {
        let reader = Reader { kube: &self.kube, namespace };
        let authorization = reader.authorization(wanted).await?;
        let client = match &wanted.tls_config {
            None => self.plain.client.clone(),
            Some(tls) => http_client(reader.tls(tls).await?, tls.server_name.as_deref()),
        };
        Ok(Prepared { client, authorization })
    }
}

fn http_client(config: ClientConfig, server_name: Option<&str>) -> HttpClient {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    let builder = match server_name.and_then(|name| ServerName::try_from(name.to_owned()).ok()) {
        Some(name) => builder.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name)),
        None => builder,
    };
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(1)
        .pool_timer(TokioTimer::new())
        .build(builder.enable_http1().wrap_connector(http))
}

fn webpki_roots_of_system() -> Vec<rustls::pki_types::TrustAnchor<'static>> {
    let mut store = RootCertStore::empty();
    // A machine without certificates of its own trusts nobody, and a monitor can name an authority.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store.roots
}

fn config_builder(tls: Option<&TlsConfig>) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let only_13 = tls.is_some_and(|tls| tls.min_version.as_deref() == Some("TLS13"));
    let only_12 = tls.is_some_and(|tls| tls.max_version.as_deref().is_some_and(|version| version != "TLS13"));
    let versions: &[&rustls::SupportedProtocolVersion] = match (only_13, only_12) {
        (true, _) => &[&rustls::version::TLS13],
        (_, true) => &[&rustls::version::TLS12],
        _ => rustls::ALL_VERSIONS,
    };
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring's ciphers are for both versions")
}

/// Reads what a monitor names.
struct Reader<'a> {
    kube: &'a kube::Client,
    namespace: &'a str,
}

impl Reader<'_> {
    async fn authorization(&self, wanted: &ScrapeClient) -> Result<Option<HeaderValue>, String> {
        let text = if let Some(basic) = &wanted.basic_auth {
            let name = self.optional_secret(basic.username.as_ref()).await?;
            let password = self.optional_secret(basic.password.as_ref()).await?;
            format!("Basic {}", BASE64.encode([name, b":".to_vec(), password].concat()))
        } else if let Some(authorization) = &wanted.authorization {
            let kind = authorization.kind.as_deref().map_or("Bearer", str::trim);
            let credentials = self.optional_secret(authorization.credentials.as_ref()).await?;
            format!("{kind} {}", String::from_utf8_lossy(&credentials).trim())
        } else if let Some(selector) = wanted.bearer_token_secret.as_ref().filter(|s| !s.name.is_empty()) {
            format!("Bearer {}", String::from_utf8_lossy(&self.secret(selector).await?).trim())
        } else {
            return Ok(None);
        };
        let mut value =
            HeaderValue::try_from(text).map_err(|_| "credentials have characters that no header may have")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    async fn tls(&self, tls: &TlsConfig) -> Result<ClientConfig, String> {
        let builder = config_builder(Some(tls));
        let builder = if tls.insecure_skip_verify == Some(true) {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified::new()))
        } else {
            let trusted = match &tls.ca {
                Some(ca) => self.authorities(ca).await?,
                None => RootCertStore { roots: webpki_roots_of_system() },
            };
            builder.with_root_certificates(trusted)
        };
        match (&tls.cert, &tls.key_secret) {
            (Some(cert), Some(key)) => {
                let chain = certificates(&self.either(cert).await?)?;
                let key = PrivateKeyDer::from_pem_slice(&self.secret(key).await?).map_err(|_| {
                    format!("key {:?} of secret {:?} is no private key in PEM", key.key, key.name)
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    async fn authorities(&self, ca: &SecretOrConfigMap) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        for certificate in certificates(&self.either(ca).await?)? {
            store.add(certificate).map_err(|error| format!("tlsConfig.ca: {error}"))?;
        }
        Ok(store)
    }

    async fn either(&self, place: &SecretOrConfigMap) -> Result<Vec<u8>, String> {
        match (&place.secret, &place.config_map) {
            (Some(secret), _) => self.secret(secret).await,
            (None, Some(config_map)) => self.config_map(config_map).await,
            (None, None) => Err("tlsConfig names neither a secret nor a configMap".into()),
        }
    }

    async fn optional_secret(&self, selector: Option<&SecretKeySelector>) -> Result<Vec<u8>, String> {
        match selector {
            Some(selector) => self.secret(selector).await,
            None => Ok(Vec::new()),
        }
    }

    async fn secret(&self, selector: &SecretKeySelector) -> Result<Vec<u8>, String> {
        let (name, key) = (&selector.name, &selector.key);
        let api: Api<Secret> = Api::namespaced(self.kube.clone(), self.namespace);
        let secret =
            api.get(name).await.map_err(|error| format!("unable to get secret {name:?}: {error}"))?;
        let value = secret.data.and_then(|mut data| data.remove(key));
        value.map(|value| value.0).ok_or_else(|| format!("key {key:?} in secret {name:?} not found"))
    }

    async fn config_map(&self, selector: &ConfigMapKeySelector) -> Result<Vec<u8>, String> {
        let (name, key) = (&selector.name, &selector.key);
        let api: Api<ConfigMap> = Api::namespaced(self.kube.clone(), self.namespace);
        let map =
            api.get(name).await.map_err(|error| format!("unable to get configmap {name:?}: {error}"))?;
        let value = map.data.and_then(|mut data| data.remove(key));
        value.map(String::into_bytes).ok_or_else(|| format!("key {key:?} in configmap {name:?} not found"))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err("tlsConfig: no certificate in PEM".into()),
    }
}

/// `insecureSkipVerify`: any certificate will do, but the connection is still encrypted to whoever has its key.
#[derive(Debug)]
struct Unverified(CryptoProvider);

impl Unverified {
    fn new() -> Unverified {
        Unverified(ring::default_provider())
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
