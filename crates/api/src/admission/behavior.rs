//! The rules for `behavior`, which a ScaledObject passes on to the HorizontalPodAutoscaler.
//!
//! KEDA does not look at it, and Kubernetes refuses the HorizontalPodAutoscaler afterwards, out of the user's
//! sight. The rules are Kubernetes' own (`pkg/apis/autoscaling/validation/validation.go`).

use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

use crate::problem::{Cause, Problem};
use crate::quantity::Quantity;

const STABILIZATION_WINDOW_SECONDS_MAX: i32 = 3600;
const PERIOD_SECONDS_MAX: i32 = 1800;

/// What is wrong with a behavior that is found at a path.
pub fn check(path: &str, behavior: &HorizontalPodAutoscalerBehavior) -> Vec<Problem> {
    let directions = [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)];
    directions
        .into_iter()
        .filter_map(|(name, rules)| Some((name, rules.as_ref()?)))
        .flat_map(|(name, rules)| check_rules(&format!("{path}.{name}"), rules))
        .collect()
}

fn check_rules(path: &str, rules: &HPAScalingRules) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(window) = rules.stabilization_window_seconds {
        let field = format!("{path}.stabilizationWindowSeconds");
        if window < 0 {
            problems.push(Problem::invalid(field, window, "must be greater than or equal to zero"));
        } else if window > STABILIZATION_WINDOW_SECONDS_MAX {
            let message = format!("must be less than or equal to {STABILIZATION_WINDOW_SECONDS_MAX}");
            problems.push(Problem::invalid(field, window, message));
        }
    }
    if let Some(policy) =
        rules.select_policy.as_deref().filter(|policy| !["Max", "Min", "Disabled"].contains(policy))
    {
        let message = "supported values: \"Disabled\", \"Max\", \"Min\"";
        problems.push(
            Problem::invalid(format!("{path}.selectPolicy"), policy, message).cause(Cause::NotSupported),
        );
    }
    if rules.policies.as_ref().is_some_and(Vec::is_empty) {
        problems.push(Problem::required(format!("{path}.policies"), "must specify at least one Policy"));
    }
    for (index, policy) in rules.policies.iter().flatten().enumerate() {
        problems.extend(check_policy(&format!("{path}.policies[{index}]"), policy));
    }
    if let Some(tolerance) = &rules.tolerance {
        let why = match Quantity::try_from(tolerance) {
            Ok(amount) if amount.milli_value() < 0 => {
                Some("must be greater than or equal to zero".to_owned())
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        problems
            .extend(why.map(|why| Problem::invalid(format!("{path}.tolerance"), tolerance.0.as_str(), why)));
    }
    problems
}

fn check_policy(path: &str, policy: &HPAScalingPolicy) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !["Pods", "Percent"].contains(&policy.type_.as_str()) {
        let message = "supported values: \"Percent\", \"Pods\"";
        let field = format!("{path}.type");
        problems.push(Problem::invalid(field, policy.type_.as_str(), message).cause(Cause::NotSupported));
    }
    if policy.value <= 0 {
        problems.push(Problem::invalid(format!("{path}.value"), policy.value, "must be greater than zero"));
    }
    let (field, period) = (format!("{path}.periodSeconds"), policy.period_seconds);
    if period <= 0 {
        problems.push(Problem::invalid(field, period, "must be greater than zero"));
    } else if period > PERIOD_SECONDS_MAX {
        let message = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
        problems.push(Problem::invalid(field, period, message));
    }
    problems
}
