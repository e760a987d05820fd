//! How the scraped targets stand: which answer, which don't, and why. Scrapes write it, readings look at it.
//!
//! A reading is worth as much as the targets behind it are known at the same moment: a failed scrape ends its series, and
//! who sees the series gone must see the failure too. So a scrape writes its outcome here while it holds the store, and a
//! reading looks while it holds the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use parking_lot::Mutex;

use crate::gather::scrape::target::ScrapeTarget;

/// The job and instance of a scrape target, which identify its series.
pub(crate) type Identity = (String, String);

/// A target, from its discovery until it is gone. One that comes back gets another number.
pub(crate) type TargetNumber = u64;

/// Namespace and name of a pod.
type PodKey = (String, String);

/// The targets. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct ScrapeHealth(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    targets: BTreeMap<TargetNumber, Entry>,
    /// Those that are not known to answer.
    down: BTreeMap<Identity, BTreeSet<TargetNumber>>,
    by_pod: BTreeMap<PodKey, BTreeSet<TargetNumber>>,
}

struct Entry {
    identity: Identity,
    pod: Option<PodKey>,
    url: String,
    health: Health,
}

#[derive(Clone, PartialEq)]
enum Health {
    /// Not scraped yet.
    Unknown,
    Up,
    Down {
        error: String,
        ever_up: bool,
    },
}

/// A target that cannot be scraped, and why; without an error it has not been scraped yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Down {
    pub(crate) url: String,
    pub(crate) error: Option<String>,
}

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{} cannot be scraped: {error}", self.url),
            None => write!(f, "{} has not been scraped yet", self.url),
        }
    }
}

/// How the pods of one workload stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scraped {
    /// There are no pods.
    NoPods,
    /// No pod is a target: nothing asks for it to be scraped, or none runs yet.
    NoTargets,
    /// They are targets, and none has ever answered; the failure of one of them.
    NeverYet(Down),
    /// They are scraped; one that is not, if there is one.
    Well(Option<Down>),
}

impl ScrapeHealth {
    pub(crate) fn add(&self, number: TargetNumber, target: &ScrapeTarget) {
        let label = |name: &str| target.labels.get(name).cloned();
        let identity = (label("job").unwrap_or_default(), label("instance").unwrap_or_default());
        let pod = label("namespace").zip(label("pod"));
        let mut table = self.0.lock();
        table.down.entry(identity.clone()).or_default().insert(number);
        if let Some(pod) = &pod {
            table.by_pod.entry(pod.clone()).or_default().insert(number);
        }
        let entry = Entry { identity, pod, url: target.url.clone(), health: Health::Unknown };
        table.targets.insert(number, entry);
    }

    pub(super) fn remove(&self, number: TargetNumber) {
        let mut table = self.0.lock();
        let Some(entry) = table.targets.remove(&number) else { return };
        take(&mut table.down, &entry.identity, number);
        if let Some(pod) = &entry.pod {
            take(&mut table.by_pod, pod, number);
        }
    }

    /// Whether it is still a target.
    pub(super) fn has(&self, number: TargetNumber) -> bool {
        self.0.lock().targets.contains_key(&number)
    }

    /// Takes down what came of a scrape: an error, or an empty text.
    pub(crate) fn scraped(&self, number: TargetNumber, error: &str) {
        let mut table = self.0.lock();
        let Table { targets, down, .. } = &mut *table;
        let Some(entry) = targets.get_mut(&number) else { return };
        let ever_up = matches!(entry.health, Health::Up | Health::Down { ever_up: true, .. });
        if error.is_empty() {
            entry.health = Health::Up;
            take(down, &entry.identity, number);
        } else {
            entry.health = Health::Down { error: error.to_owned(), ever_up };
            down.entry(entry.identity.clone()).or_default().insert(number);
        }
    }

    /// Whether one of this identity is not known to answer.
    pub(crate) fn is_down(&self, identity: &Identity) -> bool {
        self.0.lock().down.contains_key(identity)
    }

    /// The first of these that is not known to answer.
    pub(crate) fn first_down(&self, identities: &BTreeSet<Identity>) -> Option<Down> {
        let table = self.0.lock();
        if table.down.is_empty() {
            return None;
        }
        let down = identities.iter().find_map(|identity| table.down.get(identity)?.first());
        down.and_then(|number| table.targets.get(number)?.down())
    }

    /// How the pods of a workload are scraped.
    pub(crate) fn of_pods(&self, pods: &[Arc<Pod>]) -> Scraped {
        if pods.is_empty() {
            return Scraped::NoPods;
        }
        let table = self.0.lock();
        let key = |pod: &Arc<Pod>| (pod.namespace().unwrap_or_default(), pod.name_any());
        let numbers = pods.iter().filter_map(|pod| table.by_pod.get(&key(pod))).flatten();
        let entries: Vec<&Entry> = numbers.filter_map(|number| table.targets.get(number)).collect();
        let down = entries.iter().find_map(|entry| entry.down());
        let answered =
            |entry: &&Entry| matches!(entry.health, Health::Up | Health::Down { ever_up: true, .. });
        match down {
            _ if entries.is_empty() => Scraped::NoTargets,
            Some(down) if !entries.iter().any(answered) => Scraped::NeverYet(down),
            down => Scraped::Well(down),
        }
    }
}

impl Entry {
    fn down(&self) -> Option<Down> {
        match &self.health {
            Health::Up => None,
            Health::Unknown => Some(Down { url: self.url.clone(), error: None }),
            Health::Down { error, .. } => Some(Down { url: self.url.clone(), error: Some(error.clone()) }),
        }
    }
}

impl Scraped {
    /// A sentence for who misses series of these pods; none where there are no pods.
    pub(crate) fn sentence(&self) -> Option<String> {
        Some(match self {
            Scraped::NoPods => return None,
            Scraped::NoTargets => {
                "no pod of the target is scraped (no monitor selects them, and they have no prometheus.io/scrape annotation)"
                    .to_owned()
            }
            Scraped::NeverYet(down) => format!("no pod of the target has answered a scrape yet: {down}"),
            Scraped::Well(None) => "the target's pods are scraped".to_owned(),
            Scraped::Well(Some(down)) => format!("not all pods of the target are scraped: {down}"),
        })
    }
}

fn take<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<TargetNumber>>, key: &K, number: TargetNumber) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(&number);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(pod: &str) -> ScrapeTarget {
        let labels = [("job", "model"), ("instance", pod), ("namespace", "ml"), ("pod", pod)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        ScrapeTarget { url: format!("http://{pod}/metrics"), labels, ..ScrapeTarget::default() }
    }

    fn pod(name: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        (pod.metadata.namespace, pod.metadata.name) = (Some("ml".to_owned()), Some(name.to_owned()));
        Arc::new(pod)
    }

    #[test]
    fn the_outcome_of_each_scrape_is_seen() {
        let standing = ScrapeHealth::default();
        let (pods, identity) = ([pod("a"), pod("b")], ("model".to_owned(), "a".to_owned()));
        assert_eq!(standing.of_pods(&[]), Scraped::NoPods);
        assert_eq!(standing.of_pods(&pods), Scraped::NoTargets);
        standing.add(1, &target("a"));
        standing.add(2, &target("b"));
        let down = |error: Option<&str>| Down {
            url: "http://a/metrics".to_owned(),
            error: error.map(str::to_owned),
        };
        assert_eq!(standing.of_pods(&pods), Scraped::NeverYet(down(None)));
        standing.scraped(1, "refused");
        let down = down(Some("refused"));
        assert_eq!(standing.of_pods(&pods), Scraped::NeverYet(down.clone()));
        assert_eq!(standing.first_down(&[identity.clone()].into()), Some(down.clone()));
        standing.scraped(2, "");
        assert_eq!(standing.of_pods(&pods), Scraped::Well(Some(down)));
        standing.scraped(1, "");
        assert_eq!((standing.of_pods(&pods), standing.is_down(&identity)), (Scraped::Well(None), false));
        standing.scraped(1, "refused");
        standing.remove(1);
        assert!(!standing.is_down(&identity) && !standing.has(1));
        standing.scraped(1, "a scrape that ends after its target");
        assert!(!standing.is_down(&identity));
    }
}
