//! The rules for a VerticalPodAutoscaler (`pkg/admission-controller/resource/vpa/validation.go`).

use super::Admission;
use crate::kinds::vertical_pod_autoscaler::{
    ContainerResourcePolicy, PodUpdatePolicy, UpdateMode, VerticalPodAutoscaler,
};
use crate::problem::{Cause, Problem};
use crate::quantity::Quantity;

/// Checks a VerticalPodAutoscaler that is created or changed.
pub fn admit_vertical_pod_autoscaler(object: &VerticalPodAutoscaler) -> Admission {
    let mut admission = Admission::default();
    if let Some(policy) = &object.spec.update_policy {
        check_update_policy(policy, &mut admission);
    }
    let policies = object.spec.resource_policy.iter().flat_map(|policy| &policy.container_policies);
    for (index, policy) in policies.enumerate() {
        let path = format!("spec.resourcePolicy.containerPolicies[{index}]");
        admission.problems.extend(check_container_policy(&path, policy));
    }
    if object.spec.recommenders.len() > 1 {
        let names: Vec<&str> =
            object.spec.recommenders.iter().map(|recommender| recommender.name.as_str()).collect();
        let message = "the current version of VPA object shouldn't specify more than one recommenders";
        admission.problems.push(Problem::invalid("spec.recommenders", names, message));
    }
    admission
}

fn check_update_policy(policy: &PodUpdatePolicy, admission: &mut Admission) {
    match policy.update_mode {
        None => {
            let message = "updateMode is required if UpdatePolicy is used";
            let help = "write Off, Initial, Recreate or InPlaceOrRecreate";
            admission.problems.push(Problem::required("spec.updatePolicy.updateMode", message).help(help));
        }
        Some(UpdateMode::Auto) => admission.warnings.push(
            "UpdateMode \"Auto\" is deprecated and will be removed in a future API version. Use explicit update modes \
             like \"Recreate\", \"Initial\", or \"InPlaceOrRecreate\" instead. See \
             https://github.com/kubernetes/autoscaler/issues/8424 for more details."
                .to_owned(),
        ),
        Some(_) => {}
    }
    if let Some(min) = policy.min_replicas.filter(|min| *min <= 0) {
        let message = format!("minReplicas has to be positive, got {min}");
        admission.problems.push(Problem::invalid("spec.updatePolicy.minReplicas", min, message));
    }
}

fn check_container_policy(path: &str, policy: &ContainerResourcePolicy) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (bound, list) in [("minAllowed", &policy.min_allowed), ("maxAllowed", &policy.max_allowed)] {
        for (resource, amount) in list {
            problems.extend(check_amount(&format!("{path}.{bound}.{resource}"), resource, &amount.0));
        }
    }
    for (resource, min) in &policy.min_allowed {
        let max = policy.max_allowed.get(resource).and_then(|max| Quantity::try_from(max).ok());
        if let (Ok(amount), Some(max)) = (Quantity::try_from(min), max)
            && amount > max
        {
            let message = format!("max resource for {resource} is lower than min");
            problems.push(Problem::invalid(format!("{path}.minAllowed.{resource}"), min.0.as_str(), message));
        }
    }
    let controlled = policy.controlled_resources.iter().flatten().enumerate();
    for (index, resource) in
        controlled.filter(|(_, resource)| !["cpu", "memory"].contains(&resource.as_str()))
    {
        let message = "supported values: \"cpu\", \"memory\"";
        let field = format!("{path}.controlledResources[{index}]");
        problems.push(Problem::invalid(field, resource.as_str(), message).cause(Cause::NotSupported));
    }
    if policy.mode.as_deref() == Some("Off")
        && policy.controlled_values.as_deref() == Some("RequestsAndLimits")
    {
        let message = "controlledValues shouldn't be specified if container scaling mode is off.";
        problems.push(Problem::invalid(format!("{path}.controlledValues"), "RequestsAndLimits", message));
    }
    problems
}

/// CPU comes in whole thousandths, memory in whole bytes.
fn check_amount(field: &str, resource: &str, text: &str) -> Option<Problem> {
    let why = match (Quantity::parse(text), resource) {
        (Err(error), _) => error.to_string(),
        (Ok(amount), "cpu") if Quantity::from_milli(amount.milli_value(), amount.format()) != amount => {
            "must be a whole number of milli CPUs".to_owned()
        }
        (Ok(amount), "memory") if Quantity::from_units(amount.value(), amount.format()) != amount => {
            "must be a whole number of bytes".to_owned()
        }
        _ => return None,
    };
    Some(Problem::invalid(field, text, why))
}
