//! LimitRanges: what a namespace allows a container, and a pod's containers together
//! (`pkg/utils/limitrange`, `pkg/utils/vpa/capping.go`).

use serde::{Deserialize, Serialize};

use super::limits::{boundary_request, proportional_limit};
use super::reason::VerticalReason;
use super::resources::{ContainerResources, Resource, Resources, proportion, proportion_up};

/// On which side something is bounded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    Min,
    Max,
}

impl Bound {
    /// The amount within the bound, and whether that changed it.
    pub(crate) fn apply(self, amount: i64, bound: Option<i64>) -> (i64, bool) {
        let capped = match (self, bound) {
            (Self::Min, Some(bound)) => amount.max(bound),
            (Self::Max, Some(bound)) => amount.min(bound),
            (_, None) => amount,
        };
        (capped, capped != amount)
    }
}

/// The items of one type (`Container` or `Pod`) of all LimitRanges of a namespace, merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitRange {
    /// The least: of requests and of limits.
    pub min: Resources,
    /// The most a limit may be.
    pub max: Resources,
    /// The limit of a container that has none.
    pub default_limit: Resources,
}

/// What a namespace allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitRanges {
    /// Each container.
    pub container: Option<LimitRange>,
    /// The containers of a pod together.
    pub pod: Option<LimitRange>,
}

impl LimitRange {
    /// The strictest of all: the highest minimum, the lowest maximum; and the last default. None of none.
    pub fn merge(items: impl IntoIterator<Item = Self>) -> Option<Self> {
        items.into_iter().reduce(|merged, item| Self {
            min: join(merged.min, item.min, i64::max),
            max: join(merged.max, item.max, i64::min),
            default_limit: item.default_limit.or(merged.default_limit),
        })
    }

    /// Caps an amount of one container; says why if it did. The maximum wins.
    pub(crate) fn cap(
        &self,
        resource: Resource,
        amount: i64,
        own: &ContainerResources,
    ) -> (i64, Option<VerticalReason>) {
        let request_at = |bound: Option<i64>| {
            boundary_request(resource, own, bound?, &self.default_limit).filter(|request| *request != 0)
        };
        let min = self.min.bound(resource).max(request_at(self.min.bound(resource)));
        let max = request_at(self.max.bound(resource));
        let (amount, low) = Bound::Min.apply(amount, min);
        let (amount, high) = Bound::Max.apply(amount, max);
        let reason = if high {
            Some(VerticalReason::LimitRangeMax)
        } else {
            low.then_some(VerticalReason::LimitRangeMin)
        };
        (amount, reason)
    }
}

fn join(a: Resources, b: Resources, choose: impl Fn(i64, i64) -> i64) -> Resources {
    let mut joined = a.or(b);
    for (resource, amount) in b.iter() {
        joined.set(resource, a.get(resource).map_or(Some(amount), |own| Some(choose(own, amount))));
    }
    joined
}

/// One container's share of a pod: what it has, and the amount that is wanted for it.
#[derive(Clone, Copy, Debug)]
pub struct PodShare {
    /// Its requests and limits.
    pub own: ContainerResources,
    /// Of the resource in question; changed by [`fit_pod`].
    pub amount: i64,
}

/// Brings the amounts of a pod's containers, and the limits that go with them, between the pod's minimum and maximum,
/// each by the same factor. Where containers have no limits, nothing can be done and nothing is.
pub fn fit_pod(resource: Resource, range: &LimitRange, shares: &mut [PodShare]) -> Option<VerticalReason> {
    let (min, max) = (range.min.amount(resource), range.max.bound(resource));
    let (mut wanted, mut limits) = (0_i64, 0_i64);
    for share in &*shares {
        let limit = proportional_limit(resource, &share.own, share.amount, &range.default_limit).0;
        wanted = wanted.saturating_add(share.amount);
        limits = limits.saturating_add(limit.unwrap_or(0));
    }
    let over = max.filter(|max| *max < limits);
    let fits = min <= limits && min <= wanted && over.is_none();
    if limits == 0 || fits {
        return None;
    }
    if min > wanted {
        for share in shares {
            share.amount = match resource {
                Resource::Cpu => proportion_up(share.amount, wanted, min),
                Resource::Memory => proportion(share.amount, wanted, min).0,
            };
        }
        return Some(VerticalReason::PodLimitRangeMin);
    }
    for share in shares {
        share.amount = proportion(share.amount, limits, over.unwrap_or(min)).0;
    }
    Some(over.map_or(VerticalReason::PodLimitRangeMin, |_| VerticalReason::PodLimitRangeMax))
}
