//! The rule about limits that follow requests: where a VerticalPodAutoscaler carries them over the most that it may
//! recommend.

use k8s_openapi::api::core::v1::Container;

use super::autoscalers::of_vpa;
use super::{Facts, Manifests, Origin, Place};
use crate::kinds::vertical_pod_autoscaler::{ContainerResourcePolicy, UpdateMode};
use crate::quantity::{Format, Quantity};

/// What is sized.
const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// A limit keeps its ratio to the request, and only the request is capped.
pub(super) fn above_max_allowed(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for vpa in &manifests.vpas {
        let mode = vpa.spec.update_policy.as_ref().and_then(|policy| policy.update_mode);
        let target = of_vpa(vpa);
        let Some(workload) = target.workload(manifests).filter(|_| mode != Some(UpdateMode::Off)) else {
            continue;
        };
        let Some(policies) =
            vpa.spec.resource_policy.as_ref().map(|policy| policy.container_policies.as_slice())
        else {
            continue;
        };
        for (_, container) in workload.containers() {
            let Some((index, policy)) = policy_of(policies, &container.name) else { continue };
            let found = RESOURCES
                .iter()
                .filter_map(|resource| carried(&vpa.origin, index, policy, container, resource));
            places.extend(found);
        }
    }
    places
}

/// The policy of a container: its own, or that of all others.
fn policy_of<'a>(
    policies: &'a [ContainerResourcePolicy],
    container: &str,
) -> Option<(usize, &'a ContainerResourcePolicy)> {
    let of = |name: &str| {
        policies.iter().enumerate().find(|(_, policy)| policy.container_name.as_deref() == Some(name))
    };
    of(container).or_else(|| of("*"))
}

fn carried(
    origin: &Origin,
    index: usize,
    policy: &ContainerResourcePolicy,
    container: &Container,
    resource: &str,
) -> Option<Place> {
    let controlled = policy.controlled_resources.as_ref();
    let is_sized = policy.mode.as_deref() != Some("Off")
        && policy.controlled_values.as_deref() != Some("RequestsOnly")
        && controlled.is_none_or(|all| all.iter().any(|one| one == resource));
    let resources = container.resources.as_ref().filter(|_| is_sized)?;
    let amount = |text: &str| Quantity::parse(text).ok().map(Quantity::as_f64);
    let request = amount(&resources.requests.as_ref()?.get(resource)?.0).filter(|amount| *amount > 0.0)?;
    let limit = amount(&resources.limits.as_ref()?.get(resource)?.0)?;
    let most = policy.max_allowed.get(resource)?;
    let ratio = limit / request;
    if ratio <= 1.0 {
        return None;
    }
    let carried = written(resource, amount(&most.0)? * ratio);
    let (most, name) = (&most.0, &container.name);
    let message = format!(
        "the {resource} limit of container {name} is {} times its request, so at {most} it becomes {carried}",
        super::live::number(ratio)
    );
    let help = format!(
        "write controlledValues: RequestsOnly to leave the limit alone, or lower maxAllowed so that {} times it is \
         still wanted",
        super::live::number(ratio)
    );
    let field = format!("spec.resourcePolicy.containerPolicies[{index}].maxAllowed.{resource}");
    Some(Place::new(origin, field, message, help))
}

/// An amount as manifests have it: thousandths of a core, or whole mebibytes.
#[expect(clippy::cast_possible_truncation, reason = "a float converts to the nearest amount there is")]
fn written(resource: &str, amount: f64) -> String {
    match resource {
        "cpu" => Quantity::from_milli((amount * 1000.0).round() as i64, Format::DecimalSi).to_string(),
        _ => {
            let mebibytes = (amount / 1_048_576.0).round().max(1.0) as i64;
            Quantity::from_units(mebibytes.saturating_mul(1 << 20), Format::BinarySi).to_string()
        }
    }
}
