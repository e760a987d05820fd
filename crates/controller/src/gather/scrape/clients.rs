//! The HTTP client of each scrape target, with credentials and certificates from Secrets.
//!
//! What a monitor names is read from the API server when it is first needed and again every minute, so a new password is
//! taken up without a restart; and soon after a target has refused them, since then there most likely are new ones.
//! Values of Secrets are in no message and no log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use flyball_api::kinds::scrape_client::{ScrapeClient, SecretOrConfigMap, TlsConfig};
use http::HeaderValue;
use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapKeySelector, Secret, SecretKeySelector};
use kube::Api;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::time::Instant;

use crate::gather::tls::{self, HttpsClient, Identity, Names, Trust};

/// How old credentials may be.
const CREDENTIALS_AGE_MAX: Duration = Duration::from_secs(60);
/// How old they are at least when they are read again because a target refused them: one that always does must not
/// make the API server read Secrets at each scrape.
const REFUSED_AGE_MIN: Duration = Duration::from_secs(5);
/// Different ways to ask that are remembered; a machine has a few.
const PREPARED_MAX: usize = 200;

/// A client, and what it says of itself.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) client: HttpsClient,
    pub(super) authorization: Option<HeaderValue>,
}

/// The clients of all monitors.
#[derive(Clone)]
pub(super) struct Clients {
    kube: kube::Client,
    names: Names,
    system: ClientConfig,
    /// Clients without certificates of their own, by the namespace in which names are understood.
    plain: Arc<Mutex<HashMap<String, HttpsClient>>>,
    prepared: Arc<Mutex<HashMap<String, (Instant, Prepared)>>>,
}

impl Clients {
    pub(super) fn new(kube: kube::Client, names: Names) -> Clients {
        let system = tls::config(rustls::ALL_VERSIONS, Trust::Authorities(Trust::system()), None)
            .expect("ring's ciphers are for both versions");
        Clients { kube, names, system, plain: Arc::default(), prepared: Arc::default() }
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
            return Ok(Prepared { client: self.plain(namespace), authorization: None });
        }
        let key = key(namespace, wanted);
        if let Some((at, prepared)) = self.prepared.lock().get(&key)
            && at.elapsed() < CREDENTIALS_AGE_MAX
        {
            return Ok(prepared.clone());
        }
        let prepared = self.prepare(namespace, wanted).await?;
        let mut all = self.prepared.lock();
        if all.len() >= PREPARED_MAX {
            all.clear();
        }
        all.insert(key, (Instant::now(), prepared.clone()));
        Ok(prepared)
    }

    /// A target refused what it was asked with, or could not be trusted: the next scrape reads the Secrets again.
    pub(super) fn refused(&self, namespace: &str, wanted: &ScrapeClient) {
        let mut all = self.prepared.lock();
        let key = key(namespace, wanted);
        if all.get(&key).is_some_and(|(at, _)| at.elapsed() >= REFUSED_AGE_MIN) {
            all.remove(&key);
        }
    }

    async fn prepare(&self, namespace: &str, wanted: &ScrapeClient) -> Result<Prepared, String> {
        let reader = Reader { kube: &self.kube, namespace };
        let authorization = reader.authorization(wanted).await?;
        let client = match &wanted.tls_config {
            None => self.plain(namespace),
            Some(tls) => {
                let names = self.names.within(namespace);
                tls::client(reader.tls(tls).await?, names, tls.server_name.as_deref())
            }
        };
        Ok(Prepared { client, authorization })
    }

    fn plain(&self, namespace: &str) -> HttpsClient {
        let mut all = self.plain.lock();
        if let Some(client) = all.get(namespace) {
            return client.clone();
        }
        if all.len() >= PREPARED_MAX {
            all.clear();
        }
        let client = tls::client(self.system.clone(), self.names.within(namespace), None);
        all.insert(namespace.to_owned(), client.clone());
        client
    }
}

fn key(namespace: &str, wanted: &ScrapeClient) -> String {
    format!("{namespace}\n{}", serde_json::to_string(wanted).unwrap_or_default())
}

/// The versions of TLS that a monitor allows, of those that are safe.
fn versions(tls: &TlsConfig) -> Vec<&'static SupportedProtocolVersion> {
    let only_13 = tls.min_version.as_deref() == Some("TLS13");
    let only_12 = tls.max_version.as_deref().is_some_and(|version| version != "TLS13");
    match (only_13, only_12) {
        (true, _) => vec![&rustls::version::TLS13],
        (_, true) => vec![&rustls::version::TLS12],
        _ => rustls::ALL_VERSIONS.to_vec(),
    }
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
        let trust = match (&tls.insecure_skip_verify, &tls.ca) {
            (Some(true), _) => Trust::Everybody,
            (_, Some(ca)) => Trust::Authorities(self.authorities(ca).await?),
            (_, None) => Trust::Authorities(Trust::system()),
        };
        let identity = match (&tls.cert, &tls.key_secret) {
            (Some(cert), Some(key)) => Some(self.identity(cert, key).await?),
            _ => None,
        };
        tls::config(&versions(tls), trust, identity).map_err(|error| error.to_string())
    }

    async fn identity(&self, cert: &SecretOrConfigMap, key: &SecretKeySelector) -> Result<Identity, String> {
        let chain = certificates(&self.either(cert).await?)?;
        let no_key = || format!("key {:?} of secret {:?} is no private key in PEM", key.key, key.name);
        Ok((chain, tls::private_key(&self.secret(key).await?).ok_or_else(no_key)?))
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
    tls::certificates(pem).ok_or_else(|| "tlsConfig: no certificate in PEM".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::routing::get;
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn credentials_that_were_refused_are_read_again_but_not_at_each_scrape() {
        let reads = Arc::new(AtomicUsize::new(0));
        let secret = async move || {
            let token = format!("t{}", reads.fetch_add(1, Ordering::Relaxed) + 1);
            let data = json!({ "token": k8s_openapi::ByteString(token.into_bytes()) });
            axum::Json(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "namespace": "ml" }, "data": data,
            }))
        };
        let api = Router::new().route("/api/v1/namespaces/ml/secrets/s", get(secret));
        let clients = Clients::new(kube::Client::new(api, "ml"), Names::default());
        let wanted = json!({ "bearerTokenSecret": { "name": "s", "key": "token" } });
        let wanted: ScrapeClient = serde_json::from_value(wanted).unwrap();
        let token = async || clients.of("ml", &wanted).await.unwrap().authorization.unwrap();
        assert_eq!(token().await, "Bearer t1");
        clients.refused("ml", &wanted);
        assert_eq!(token().await, "Bearer t1", "they have just been read");
        tokio::time::advance(REFUSED_AGE_MIN).await;
        assert_eq!(token().await, "Bearer t1", "nobody refused them since");
        clients.refused("ml", &wanted);
        assert_eq!(token().await, "Bearer t2");
        tokio::time::advance(CREDENTIALS_AGE_MAX).await;
        assert_eq!(token().await, "Bearer t3");
    }
}
