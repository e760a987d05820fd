//! The rules for a list of triggers: KEDA's, and that each of them can be read.

use super::CheckQuery;
use crate::kinds::scaled_object::ScaleTrigger;
use crate::problem::{Cause, Problem};
use crate::trigger::{Resolved, Trigger, is_known, too_many};

/// What is wrong with the triggers, and what the user should know.
pub(super) fn check(triggers: &[ScaleTrigger], check_query: CheckQuery<'_>) -> (Vec<Problem>, Vec<String>) {
    if let Some(problem) = too_many(triggers) {
        return (vec![problem], Vec::new());
    }
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    if triggers.is_empty() {
        let message = "no triggers defined in the ScaledObject/ScaledJob";
        problems.push(Problem::required("spec.triggers", message));
    }
    problems.extend(cached(triggers));
    problems.extend(names(triggers));
    for (index, trigger) in triggers.iter().enumerate() {
        let (parsed, found) = Trigger::parse(index, trigger, Resolved::default());
        match found.as_slice() {
            // The same manifest may be meant for KEDA as well.
            [only]
                if parsed.is_none()
                    && only.cause == Cause::NotSupported
                    && unsupported_type(only, trigger) =>
            {
                warnings.push(only.to_string());
            }
            _ => problems.extend(found),
        }
        problems.extend(query(index, trigger, check_query));
    }
    (problems, warnings)
}

fn unsupported_type(problem: &Problem, trigger: &ScaleTrigger) -> bool {
    problem.field.ends_with("].type") && is_known(&trigger.kind)
}

fn cached(triggers: &[ScaleTrigger]) -> impl Iterator<Item = Problem> {
    let cached = triggers.iter().enumerate().filter(|(_, trigger)| trigger.use_cached_metrics == Some(true));
    cached.filter(|(_, trigger)| matches!(trigger.kind.as_str(), "cpu" | "memory" | "cron")).map(
        |(index, trigger)| {
            let message =
                format!("property \"useCachedMetrics\" is not supported for {:?} scaler", trigger.kind);
            Problem::invalid(format!("spec.triggers[{index}].useCachedMetrics"), true, message)
                .cause(Cause::Forbidden)
                .help("leave it out")
        },
    )
}

fn names(triggers: &[ScaleTrigger]) -> impl Iterator<Item = Problem> {
    let name = |trigger: &ScaleTrigger| trigger.name.clone().filter(|name| !name.is_empty());
    triggers.iter().enumerate().filter_map(move |(index, trigger)| {
        let name = name(trigger)?;
        let again = triggers[..index].iter().any(|earlier| earlier.name.as_ref() == Some(&name));
        again.then(|| {
            let message = format!(
                "triggerName {name:?} is defined multiple times in the ScaledObject/ScaledJob, but it must \
                be unique"
            );
            Problem::invalid(format!("spec.triggers[{index}].name"), name, message).cause(Cause::Duplicate)
        })
    })
}

fn query(index: usize, trigger: &ScaleTrigger, check_query: CheckQuery<'_>) -> Option<Problem> {
    let query = trigger.metadata.get("query").map(|text| text.trim()).filter(|text| !text.is_empty())?;
    let why = (trigger.kind == "prometheus").then(|| check_query(query).err())??;
    let field = format!("spec.triggers[{index}].metadata.query");
    Some(Problem::invalid(field, query, format!("invalid PromQL query: {why}")))
}
