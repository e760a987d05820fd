//! VerticalPodAutoscalers and pods as the engine's vertical rules want them, and what the rules say as statuses and
//! patches.
//!
//! Everything here is a pure function between Kubernetes objects and [`flyball_engine::vertical`]: what a
//! VerticalPodAutoscaler asks for ([`policy`]), what is known of a pod ([`pod`]), what a namespace allows
//! ([`limit_ranges`]), what a status shows and what it recommends ([`status`]), and what a new pod gets
//! ([`admission`]).

pub mod admission;
pub mod limit_ranges;
pub mod pod;
pub mod policy;
pub mod status;

use std::collections::BTreeMap;

use flyball_engine::vertical::{Resource, Resources};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::quantity::{Format, Quantity};

/// CPU and memory of a list of amounts; what does not parse is as if it were not there.
pub fn resources(list: &BTreeMap<String, Text>) -> Resources {
    let amount = |name: &str| list.get(name).and_then(|text| Quantity::try_from(text).ok());
    Resources::new(amount("cpu").map(Quantity::milli_value), amount("memory").map(Quantity::value))
}

/// The same in Kubernetes' canonical form: `262144k`.
pub fn resource_list(resources: &Resources) -> BTreeMap<String, Text> {
    let text = |(resource, amount): (Resource, i64)| {
        let quantity = match resource {
            Resource::Cpu => Quantity::from_milli(amount, Format::DecimalSi),
            Resource::Memory => Quantity::from_units(amount, Format::DecimalSi),
        };
        (resource.to_string(), Text(quantity.to_string()))
    };
    resources.iter().map(text).collect()
}
