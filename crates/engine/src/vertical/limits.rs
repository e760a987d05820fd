//! The limit that goes with a new request: in the old proportion (`pkg/utils/vpa/limit_and_request_scaling.go`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::resources::{ContainerResources, Resource, Resources, proportion};

/// Why a limit is not what the proportion would give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitNote {
    /// There was none.
    NoOriginalLimit,
    /// There is no recommendation.
    NoRecommendation,
    /// It would not fit into 64 bits.
    Capped,
}

impl fmt::Display for LimitNote {
    /// VPA's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoOriginalLimit => "limit NOT set since originalLimit is nil or 0",
            Self::NoRecommendation => "limit NOT set since recommendedRequest is nil or 0",
            Self::Capped => "failed to keep limit to request ratio; capping limit to int64",
        })
    }
}

/// The limit of one resource for a recommended request; none to leave it as it is.
pub fn proportional_limit(
    resource: Resource,
    original: &ContainerResources,
    recommended: i64,
    default_limit: &Resources,
) -> (Option<i64>, Option<LimitNote>) {
    let Some(limit) = original.limits.bound(resource).or(default_limit.bound(resource)) else {
        return (None, Some(LimitNote::NoOriginalLimit));
    };
    if recommended == 0 {
        return (None, Some(LimitNote::NoRecommendation));
    }
    match original.requests.bound(resource) {
        Some(request) if request != limit => {
            let (scaled, capped) = proportion(limit, request, recommended);
            (Some(scaled), capped.then_some(LimitNote::Capped))
        }
        _ => (Some(recommended), None),
    }
}

/// The limits for recommended requests, and the notes on them. Notes are only made where a limit is set.
pub fn proportional_limits(
    original: &ContainerResources,
    recommended: &Resources,
    default_limit: &Resources,
) -> (Resources, Vec<(Resource, LimitNote)>) {
    let (mut limits, mut notes) = (Resources::default(), Vec::new());
    for resource in Resource::ALL {
        let (limit, note) =
            proportional_limit(resource, original, recommended.amount(resource), default_limit);
        limits.set(resource, limit);
        notes.extend(note.map(|note| (resource, note)));
    }
    if limits.is_empty() {
        notes.clear();
    }
    (limits, notes)
}

/// The request at which the proportional limit meets `bound`; none if the container has no limit.
pub(crate) fn boundary_request(
    resource: Resource,
    original: &ContainerResources,
    bound: i64,
    default_limit: &Resources,
) -> Option<i64> {
    let limit = original.limits.bound(resource).or(default_limit.bound(resource))?;
    Some(match original.requests.bound(resource) {
        Some(request) => proportion(request, limit, bound).0,
        None => bound,
    })
}
