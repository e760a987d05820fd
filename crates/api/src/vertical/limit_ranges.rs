//! The LimitRanges of a namespace, merged.

use std::collections::BTreeMap;

use flyball_engine::vertical::{LimitRange as Merged, LimitRanges};
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};

use super::resources;

/// What a namespace with these LimitRanges allows its containers and pods.
pub fn limit_ranges(ranges: &[LimitRange]) -> LimitRanges {
    LimitRanges { container: merged(ranges, "Container"), pod: merged(ranges, "Pod") }
}

fn merged(ranges: &[LimitRange], kind: &str) -> Option<Merged> {
    let items = ranges.iter().flat_map(|range| range.spec.iter().flat_map(|spec| &spec.limits));
    Merged::merge(items.filter(|item| item.type_ == kind).map(item))
}

fn item(item: &LimitRangeItem) -> Merged {
    let amounts = |list: &Option<BTreeMap<_, _>>| list.as_ref().map(resources).unwrap_or_default();
    Merged { min: amounts(&item.min), max: amounts(&item.max), default_limit: amounts(&item.default) }
}
