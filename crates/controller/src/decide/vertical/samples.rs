//! What containers use, from `metrics.k8s.io`, whoever serves it.

use std::collections::BTreeMap;

use flyball_api::quantity::Quantity;
use flyball_engine::Time;
use flyball_engine::vertical::{AMOUNT_MAX, Resource, Resources};
use jiff::Timestamp;
use kube::Client;
use serde::Deserialize;

use crate::gather::facts;

const PATH: &str = "/apis/metrics.k8s.io/v1beta1/pods";
const NANOS_PER_MILLI: i128 = 1_000_000;

/// What the containers of one pod used.
#[derive(Debug)]
pub(super) struct PodSample {
    pub(super) at: Time,
    pub(super) containers: Vec<(String, Resources)>,
}

/// The newest samples, by namespace and pod.
pub(super) type Samples = BTreeMap<(String, String), PodSample>;

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    timestamp: Timestamp,
    containers: Vec<ContainerItem>,
}

#[derive(Deserialize)]
struct Metadata {
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct ContainerItem {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

/// Reads the use of all pods.
pub(super) async fn read(client: &Client) -> kube::Result<Samples> {
    let request = http::Request::get(PATH).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let list: List = client.request(request).await?;
    Ok(list.items.into_iter().map(sample).collect())
}

fn sample(item: Item) -> ((String, String), PodSample) {
    let containers = item.containers.into_iter().map(|one| (one.name, amounts(&one.usage)));
    let sample = PodSample { at: facts::engine_time(item.timestamp), containers: containers.collect() };
    ((item.metadata.namespace, item.metadata.name), sample)
}

/// Millicores are cut off, as VPA does; what is no amount, or no sensible one, is left out.
fn amounts(usage: &BTreeMap<String, String>) -> Resources {
    let amount =
        |resource: Resource| usage.get(resource.as_str()).and_then(|text| Quantity::parse(text).ok());
    let sensible = |amount: &i64| (0..=AMOUNT_MAX).contains(amount);
    let millis = |cpu: Quantity| i64::try_from((cpu.as_f64() * 1e9).round() as i128 / NANOS_PER_MILLI).ok();
    let cpu = amount(Resource::Cpu).and_then(millis);
    let memory = amount(Resource::Memory).map(Quantity::value);
    Resources::new(cpu.filter(sensible), memory.filter(sensible))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_cut_off_to_millicores_and_nonsense_is_left_out() {
        let check = |cpu: &str, memory: &str, expected: Resources| {
            let usage = [("cpu", cpu), ("memory", memory)];
            let usage = usage.map(|(name, text)| (name.to_owned(), text.to_owned())).into_iter().collect();
            assert_eq!(amounts(&usage), expected, "{cpu} {memory}");
        };
        check("1999999n", "2Ki", Resources::new(Some(1), Some(2048)));
        check("2", "1e3", Resources::new(Some(2000), Some(1000)));
        check("-1", "x", Resources::default());
        check("9E", "9E", Resources::default());
    }
}
