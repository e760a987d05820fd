//! Decides what answers a trigger that names a server: the server, this program in its place, or nothing.
//!
//! That is configuration, never the outcome of a look-up: a server that fails is a failure, whatever the store holds.
//! A host that is named by [`Answers`] is answered for, and so is a Service of the cluster's domain that does not exist,
//! where [`Answers::absent_services`] says so. A Service that exists is asked. One that existed while a trigger used it
//! and is gone counts as failed for as long as there are such triggers: another number than the one that was asked
//! for is no answer. What is remembered of that outlives a restart, if there is a file for it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use flyball_api::trigger::{Trigger, TriggerSource};
use http::Uri;
use parking_lot::Mutex;

use crate::gather::cluster::Cluster;
use crate::gather::names::{self, Resolved, ServiceKey};

/// The servers that this program answers for; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// For every Service of the cluster's domain that does not exist: the manifests of a cluster, on a machine without
    /// its Prometheus.
    pub absent_services: bool,
    /// For these, whether they exist or not.
    pub hosts: Vec<AnsweredHost>,
}

/// A host, or one port of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredHost {
    host: String,
    port: Option<u16>,
}

impl std::str::FromStr for AnsweredHost {
    type Err = String;

    fn from_str(text: &str) -> Result<AnsweredHost, String> {
        if text.contains('/') || text.contains('@') {
            return Err(format!("`{text}` is no host: write HOST or HOST:PORT, without a scheme and a path"));
        }
        let authority: http::uri::Authority =
            text.parse().map_err(|_| format!("`{text}` is no host: write HOST or HOST:PORT"))?;
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        match (port, authority.port_u16()) {
            ("", _) => Ok(AnsweredHost { host: authority.host().to_owned(), port: None }),
            (_, Some(port)) => Ok(AnsweredHost { host: authority.host().to_owned(), port: Some(port) }),
            (port, None) => Err(format!("`{}` is no port", port.trim_start_matches(':'))),
        }
    }
}

impl AnsweredHost {
    fn is(&self, host: &str, port: u16, namespace: &str) -> bool {
        let same = |host: &str| names::canonical(host, namespace);
        self.port.is_none_or(|own| own == port) && same(&self.host) == same(host)
    }
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// This program, from its own store.
    Here,
    /// The server, over HTTP.
    There,
    /// Nothing answers, for this reason.
    Nobody(String),
}

/// Decides who answers.
#[derive(Clone)]
pub(crate) struct Servers {
    cluster: Cluster,
    answers: Arc<Answers>,
    asked: Arc<Mutex<AskedServices>>,
}

/// The Services that triggers ask, those that are gone included.
#[derive(Default)]
struct AskedServices {
    services: BTreeSet<ServiceKey>,
    file: Option<PathBuf>,
}

impl Servers {
    /// What was asked before a restart is read from `file`, if there is one.
    pub(crate) fn new(cluster: Cluster, answers: Answers, file: Option<PathBuf>) -> Servers {
        let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let services = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let asked = Arc::new(Mutex::new(AskedServices { services, file }));
        Servers { cluster, answers: Arc::new(answers), asked }
    }

    /// Whether this program answers for what does not exist.
    pub(crate) fn answers_absent(&self) -> bool {
        self.answers.absent_services
    }

    /// Who answers the triggers of a namespace that name this address, and remembers that they ask.
    pub(crate) fn of(&self, address: &str, namespace: &str) -> Server {
        let Some((host, port)) = host_and_port(address) else {
            return Server::Nobody(format!("`{address}` is no URL of a server"));
        };
        if self.answers.hosts.iter().any(|answered| answered.is(&host, port, namespace)) {
            return Server::Here;
        }
        match names::look_up(&self.cluster, &host, namespace) {
            Resolved::Outside => Server::There,
            Resolved::Nobody(why) => Server::Nobody(why),
            Resolved::Addresses(service, _) | Resolved::Alias(service, _) => {
                self.asked.lock().insert(service);
                Server::There
            }
            Resolved::Unreachable(service, why) => {
                self.asked.lock().insert(service);
                Server::Nobody(why)
            }
            Resolved::NoSuchService { service, only } => self.of_absent(service, only),
        }
    }

    fn of_absent(&self, service: ServiceKey, only: bool) -> Server {
        let was_asked = self.asked.lock().services.contains(&service);
        let (namespace, name) = service;
        if was_asked {
            return Server::Nobody(format!(
                "Service {name} in namespace {namespace}, which this trigger asked, is gone"
            ));
        }
        match (self.answers.absent_services, only) {
            (true, _) => Server::Here,
            (false, true) => Server::Nobody(format!("there is no Service {name} in namespace {namespace}")),
            (false, false) => Server::There,
        }
    }

    /// Forgets the Services that none of these triggers, each with its namespace, asks any more.
    pub(crate) fn keep_only<'a>(&self, triggers: impl Iterator<Item = (&'a str, &'a Trigger)>) {
        let mut asked = self.asked.lock();
        if asked.services.is_empty() {
            return;
        }
        let kept: BTreeSet<ServiceKey> = triggers
            .filter_map(|(namespace, trigger)| match &trigger.source {
                TriggerSource::Prometheus(prometheus) => {
                    let (host, _) = host_and_port(&prometheus.server_address)?;
                    names::service(&host, namespace)
                }
                _ => None,
            })
            .collect();
        if !asked.services.is_subset(&kept) {
            asked.services.retain(|service| kept.contains(service));
            asked.save();
        }
    }
}

impl AskedServices {
    fn insert(&mut self, service: ServiceKey) {
        if self.services.insert(service) {
            self.save();
        }
    }

    /// Written whole, and takes the place of the old file only when it is complete.
    fn save(&self) {
        let Some(file) = &self.file else { return };
        let next = file.with_extension("new");
        let text = serde_json::to_string(&self.services).unwrap_or_default();
        if let Err(error) = std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, file)) {
            tracing::warn!(file = %file.display(), %error, "cannot write which Services triggers ask");
        }
    }
}

/// The host and port of a URL; the port of its scheme if it names none.
fn host_and_port(address: &str) -> Option<(String, u16)> {
    let uri: Uri = address.parse().ok()?;
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Some((uri.host()?.to_owned(), uri.port_u16().unwrap_or(default)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_answered_for_however_it_is_written() {
        let is =
            |answered: &str, host: &str, port| answered.parse::<AnsweredHost>().unwrap().is(host, port, "ml");
        for (answered, host, port, expected) in [
            ("prometheus.example.com", "Prometheus.example.com", 9090, true),
            ("prometheus.example.com:9090", "prometheus.example.com", 9090, true),
            ("prometheus.example.com:9090", "prometheus.example.com", 9091, false),
            ("p.monitoring.svc", "p.monitoring", 80, true),
            ("p.monitoring", "p.monitoring.svc.cluster.local", 80, true),
            ("p", "p.ml.svc", 80, true),
            ("p", "p.monitoring", 80, false),
            ("127.0.0.1:9090", "127.0.0.1", 9090, true),
            ("[::1]:9090", "[::1]", 9090, true),
        ] {
            assert_eq!(is(answered, host, port), expected, "{answered} {host}:{port}");
        }
        for wrong in ["http://p:9090", "p/path", "", "p:port", "p:99999", "user@p"] {
            assert!(wrong.parse::<AnsweredHost>().is_err(), "{wrong}");
        }
    }
}
