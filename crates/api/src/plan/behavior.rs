//! `behavior` of `autoscaling/v2` as the engine's rules, with Kubernetes' defaults for what is left out.
//!
//! A field that is given replaces the default one; `policies` are replaced as a whole
//! (`pkg/apis/autoscaling/v2/defaults.go`).

use std::time::Duration;

use flyball_engine::{Behavior, PolicyKind, ScalingPolicy, ScalingRules, SelectPolicy};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

use crate::admission::check_behavior;
use crate::problem::{Checked, Problem};
use crate::quantity::Quantity;

/// The rules of a behavior that is found at a path.
pub(super) fn convert(path: &str, behavior: &HorizontalPodAutoscalerBehavior) -> Checked<Behavior> {
    let problems = check_behavior(path, behavior);
    if !problems.is_empty() {
        return Err(problems);
    }
    let refused = |error: flyball_engine::PolicyError| {
        vec![Problem::invalid(path, serde_json::json!(behavior), error.to_string())]
    };
    Ok(Behavior {
        scale_up: rules(behavior.scale_up.as_ref(), ScalingRules::default_up()).map_err(refused)?,
        scale_down: rules(behavior.scale_down.as_ref(), ScalingRules::default_down()).map_err(refused)?,
    })
}

fn rules(
    written: Option<&HPAScalingRules>,
    default: ScalingRules,
) -> Result<ScalingRules, flyball_engine::PolicyError> {
    let Some(written) = written else { return Ok(default) };
    let window = written.stabilization_window_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let select = match written.select_policy.as_deref() {
        Some("Min") => SelectPolicy::Min,
        Some("Disabled") => SelectPolicy::Disabled,
        _ => SelectPolicy::Max,
    };
    let policies = match &written.policies {
        Some(policies) => policies.iter().map(policy).collect(),
        None => default.policies().to_vec(),
    };
    let tolerance =
        written.tolerance.as_ref().and_then(|text| Quantity::try_from(text).ok()).map(Quantity::as_f64);
    ScalingRules::new(
        window.map(Duration::from_secs).or(default.stabilization_window()),
        select,
        policies,
        tolerance.or(default.tolerance()),
    )
}

fn policy(written: &HPAScalingPolicy) -> ScalingPolicy {
    ScalingPolicy {
        kind: if written.type_ == "Pods" { PolicyKind::Pods } else { PolicyKind::Percent },
        value: written.value.unsigned_abs(),
        period: Duration::from_secs(u64::from(written.period_seconds.unsigned_abs())),
    }
}
