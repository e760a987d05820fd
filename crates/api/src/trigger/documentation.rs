//! The page `docs/triggers.md`, made from what each type of trigger says of its parameters.

use std::fmt::Write as _;

use super::description::Description;
use super::parameters::Parameter;

const HEAD: &str = "\
# Triggers

A trigger says where a metric comes from and what is wanted of it. It stands in the list `spec.triggers` of a
ScaledObject or a ScaledJob, as with KEDA, whose parameters, defaults and messages are followed. The other types of KEDA
cannot be read here: an object that has one is stored with a warning, and is not scaled.

Every parameter is a string, so numbers and flags are quoted. A parameter `x` of the metadata may also be taken from the
environment of the scaled container: `xFromEnv: VARIABLE`. Parameters marked with * may come from the TriggerAuthentication
or ClusterTriggerAuthentication that `authenticationRef` names; secrets must.

Beside `metadata`, a trigger has these fields:

| field | default | meaning |
|---|---|---|
| `type` | required | one of the types below |
| `metricType` | `AverageValue` | `AverageValue`: the target holds for each replica. `Value`: it holds for the metric as it is. `Utilization`: percent of what the pods request, for `cpu` and `memory` only |
| `name` | | the name that formulas use (`advanced.scalingModifiers.formula`) |
| `useCachedMetrics` | `false` | whether an answer holds for a `pollingInterval`; not for `cpu`, `memory` and `cron` |
| `authenticationRef` | | the TriggerAuthentication (`name`, `kind`) with the credentials |
";

/// Writes the page.
pub(super) fn page<'a>(descriptions: impl Iterator<Item = &'a Description>) -> String {
    let mut page = HEAD.to_owned();
    for description in descriptions {
        section(&mut page, description).expect("a text can always be written to");
    }
    page
}

fn section(page: &mut String, description: &Description) -> std::fmt::Result {
    let names: Vec<String> = description.names.iter().map(|name| format!("`{name}`")).collect();
    writeln!(page, "\n## {}\n\n{}\n", names.join(" and "), description.summary)?;
    writeln!(page, "```yaml\ntriggers:\n{}```\n", description.example)?;
    writeln!(page, "| parameter | default | meaning |\n|---|---|---|")?;
    description.parameters.iter().try_for_each(|parameter| row(page, parameter))
}

fn row(page: &mut String, parameter: &Parameter) -> std::fmt::Result {
    let mark = if parameter.is_in_authentication() { "\\*" } else { "" };
    let default = match (parameter.default, parameter.required) {
        (Some(default), _) => format!("`{default}`"),
        // Credentials are required by their mode alone.
        (None, true) if parameter.is_in_metadata() => "required".to_owned(),
        (None, _) => String::new(),
    };
    writeln!(page, "| `{}`{mark} | {default} | {} |", parameter.name(), parameter.about)
}
