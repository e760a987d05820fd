//! Triggers: what a ScaledObject's `triggers` say, read and checked.
//!
//! A trigger says where a metric comes from and what is wanted of it. Reading one reports everything that is
//! wrong with it, and gives a [`Trigger`] only if nothing is. The metric's name and target are those that
//! KEDA gives the HorizontalPodAutoscaler, since users know them from `kubectl get hpa`.
//!
//! Each type of trigger is a file: its parameters, its parser, its documentation (`docs/triggers.md` is made from it), and
//! what it says of its metric. The list at the end of `sources!` below is the only place that names them all.

pub mod cron;
mod description;
mod documentation;
mod known;
pub mod kubernetes_workload;
pub mod metrics_api;
mod parameters;
pub mod prometheus;
pub mod resource;
pub mod schedule;
pub mod slo;
mod target;

pub use description::{Description, TriggerMetric};
pub(crate) use known::edits;
pub use parameters::{Parameter, Resolved};
pub use target::{TriggerTarget, quantity};

use crate::kinds::scaled_object::ScaleTrigger;
use crate::problem::{Cause, Checked, Problem};
use description::Described;
use parameters::Parameters;

/// More triggers than any object has; each costs a query and a comparison with every other.
pub const TRIGGERS_MAX: usize = flyball_engine::METRICS_MAX;

/// Where a metric comes from, and what is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// The trigger's place in the list, from 0.
    pub index: usize,
    /// The name that formulas use.
    pub name: Option<String>,
    /// Whether the HorizontalPodAutoscaler is answered from the last poll.
    pub use_cached_metrics: bool,
    /// Where the metric comes from.
    pub source: TriggerSource,
    /// What is wanted of the metric.
    pub target: TriggerTarget,
}

/// Makes the enum of sources, and what must be said once for each of its variants, of one list.
macro_rules! sources {
    ($($(#[$doc:meta])* $module:ident::$source:ident,)*) => {
        /// Where a metric comes from.
        #[derive(Clone, Debug, PartialEq)]
        pub enum TriggerSource {
            $($(#[$doc])* $source($module::$source),)*
        }

        impl TriggerSource {
            fn described(&self) -> &dyn Described {
                match self {
                    $(TriggerSource::$source(source) => source,)*
                }
            }
        }

        /// Every type of trigger that can be read, in the order of the documentation.
        static TYPES: &[TriggerType] = &[
            $(TriggerType {
                description: &$module::DESCRIPTION,
                parse: |parameters| $module::$source::parse(parameters).map(TriggerSource::$source),
            },)*
        ];
    };
}

sources! {
    /// A PromQL query.
    prometheus::Prometheus,
    /// The pods' use of CPU or memory.
    resource::Resource,
    /// The time of day.
    cron::Cron,
    /// The number of other pods.
    kubernetes_workload::KubernetesWorkload,
    /// An HTTP endpoint.
    metrics_api::MetricsApi,
    /// A promise to the target's users.
    slo::ServiceObjective,
}

/// A type of trigger: what is said of it, and how it is read.
struct TriggerType {
    description: &'static Description,
    /// Nothing where a parameter is wrong, or may still come.
    parse: fn(&mut Parameters<'_>) -> Option<TriggerSource>,
}

/// What the documentation says of each type of trigger that can be read.
pub fn descriptions() -> impl Iterator<Item = &'static Description> {
    TYPES.iter().map(|known| known.description)
}

/// The page that documents them all, in Markdown.
pub fn documentation() -> String {
    documentation::page(descriptions())
}

impl Trigger {
    /// Reads all triggers of an object, with what was looked up for each.
    ///
    /// # Errors
    /// Everything that is wrong with any of them. A trigger that misses what was not looked up is left out.
    pub fn parse_all<'a>(
        triggers: &'a [ScaleTrigger],
        resolved: impl Fn(&'a ScaleTrigger) -> Resolved<'a>,
    ) -> Checked<Vec<Self>> {
        let mut parsed = Vec::new();
        let mut problems: Vec<Problem> = too_many(triggers).into_iter().collect();
        for (index, trigger) in triggers.iter().enumerate().take(TRIGGERS_MAX) {
            let (one, found) = Self::parse(index, trigger, resolved(trigger));
            parsed.extend(one);
            problems.extend(found);
        }
        if problems.is_empty() { Ok(parsed) } else { Err(problems) }
    }

    /// Reads a trigger. There is one only if nothing is wrong, and nothing is missing that may still be
    /// looked up.
    pub fn parse(
        index: usize,
        trigger: &ScaleTrigger,
        resolved: Resolved<'_>,
    ) -> (Option<Self>, Vec<Problem>) {
        let path = format!("spec.triggers[{index}]");
        let kind = trigger.kind.as_str();
        let Some(known) = TYPES.iter().find(|known| known.description.names.contains(&kind)) else {
            return (None, vec![unsupported(&path, kind)]);
        };
        let mut parameters = Parameters::new(path.clone(), known.description.parameters, trigger, resolved);
        let metric_type = parameters.metric_type();
        let source = (known.parse)(&mut parameters);
        if let Some(source) = &source {
            check_target(source, &mut parameters);
        }
        let complete = !parameters.incomplete();
        let mut problems = parameters.into_problems();
        problems.extend(check_metric_type(&path, metric_type, is_resource(kind)));
        let parsed = source.filter(|_| complete && problems.is_empty()).map(|source| Self {
            index,
            name: trigger.name.clone().filter(|name| !name.is_empty()),
            use_cached_metrics: trigger.use_cached_metrics.unwrap_or(false),
            target: source.described().target(metric_type != Some("Value")),
            source,
        });
        (parsed, problems)
    }

    /// The metric that the trigger gives the HorizontalPodAutoscaler of an object in `namespace`. An external one has
    /// the trigger's number in its name, as in `s0-prometheus`.
    pub fn metric(&self, namespace: &str) -> TriggerMetric {
        match self.source.described().metric(namespace) {
            TriggerMetric::External(name) => TriggerMetric::External(self.qualify(&name)),
            resource @ TriggerMetric::Resource { .. } => resource,
        }
    }

    /// The type of the trigger, as manifests have it.
    pub fn kind(&self) -> &str {
        self.source.described().kind()
    }

    /// The value above which the trigger is active; `None` for cpu and memory, which never are.
    pub fn activation(&self) -> Option<f64> {
        self.source.described().activation()
    }

    /// A metric's name, made unique by the trigger's number and fit for a path of the metrics API.
    fn qualify(&self, name: &str) -> String {
        format!("s{}-{}", self.index, name.replace(['/', '.', ':', '%', '(', ')'], "-"))
    }
}

/// A list of triggers that is too long to be meant.
pub(crate) fn too_many(triggers: &[ScaleTrigger]) -> Option<Problem> {
    (triggers.len() > TRIGGERS_MAX).then(|| {
        let message = format!("must have at most {TRIGGERS_MAX} items");
        Problem::invalid("spec.triggers", triggers.len(), message).cause(Cause::TooLong)
    })
}

/// Whether KEDA leaves the trigger to the HorizontalPodAutoscaler.
pub fn is_resource(kind: &str) -> bool {
    kind == "cpu" || kind == "memory"
}

/// Whether there are triggers and KEDA leaves all of them to the HorizontalPodAutoscaler.
pub fn are_resources(triggers: &[ScaleTrigger]) -> bool {
    !triggers.is_empty() && triggers.iter().all(|trigger| is_resource(&trigger.kind))
}

/// Whether KEDA knows the type of trigger.
pub fn is_known(kind: &str) -> bool {
    known::is_known(kind)
}

/// The types that can be read, as a list in a sentence.
fn readable() -> String {
    let names: Vec<&str> = descriptions().flat_map(|known| known.names.iter().copied()).collect();
    let (last, others) = names.split_last().expect("some type can be read");
    format!("{} and {last}", others.join(", "))
}

fn unsupported(path: &str, kind: &str) -> Problem {
    let field = format!("{path}.type");
    if known::is_known(kind) {
        let message = format!("trigger type {kind:?} is one of KEDA's, but cannot be read here");
        return Problem::invalid(field, kind, message)
            .cause(Cause::NotSupported)
            .help(format!("use one of {}", readable()));
    }
    let help = match known::nearest(kind) {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("use one of {}", readable()),
    };
    let message = format!("no scaler found for type: {kind}");
    Problem::invalid(field, kind, message).cause(Cause::NotSupported).help(help)
}

fn check_metric_type(path: &str, metric_type: Option<&str>, is_resource: bool) -> Option<Problem> {
    let message = match (is_resource, metric_type) {
        (true, Some("Utilization" | "AverageValue")) | (false, None | Some("AverageValue" | "Value")) => {
            return None;
        }
        (true, _) => format!(
            "unknown metric type: {}, allowed values are 'Utilization' or 'AverageValue'",
            metric_type.unwrap_or_default()
        ),
        (false, Some("Utilization")) => {
            "'Utilization' metric type is unsupported for external metrics, allowed \
             values are 'Value' or 'AverageValue'"
                .to_owned()
        }
        (false, Some(other)) => {
            format!("unknown metric type: {other}, allowed values are 'Value' or 'AverageValue'")
        }
    };
    let help = if is_resource { "write Utilization or AverageValue" } else { "write AverageValue or Value" };
    Some(
        match metric_type {
            Some(text) => {
                Problem::invalid(format!("{path}.metricType"), text, message).cause(Cause::NotSupported)
            }
            None => Problem::required(format!("{path}.metricType"), message),
        }
        .help(help),
    )
}

/// A target of zero, once rounded to thousandths, is one that the HorizontalPodAutoscaler refuses.
fn check_target(source: &TriggerSource, parameters: &mut Parameters<'_>) {
    if let Some((parameter, value)) = source.described().written_target()
        && quantity(value).milli_value() == 0
        && parameters.has_no_problems()
    {
        let message =
            format!("target {value} is {} to three decimals, and must be positive", quantity(value));
        let help = "write a number of at least 0.001, in a smaller unit if need be";
        parameters.refuse(parameter, message, help);
    }
}
