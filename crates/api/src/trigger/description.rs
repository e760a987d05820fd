//! What every type of trigger says of itself: once for all of its triggers, and for one of them.

use super::parameters::Parameter;
use super::target::TriggerTarget;

/// A type of trigger, for its parser and its documentation.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The types of manifests that are read alike, such as `cpu` and `memory`.
    pub names: &'static [&'static str],
    /// What it measures, in a few sentences.
    pub summary: &'static str,
    /// A trigger in YAML, as it stands in the list `triggers`.
    pub example: &'static str,
    /// Every parameter that is read, in the order of the documentation.
    pub parameters: &'static [Parameter],
}

/// The metric that a trigger gives the HorizontalPodAutoscaler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerMetric {
    /// An external metric, under its name without the trigger's number.
    External(String),
    /// A resource of the pods, or of one container of each.
    Resource {
        /// `cpu` or `memory`.
        resource: String,
        /// The one container that counts.
        container: Option<String>,
    },
}

/// What one trigger says of itself.
pub(super) trait Described {
    /// The type, as manifests have it.
    fn kind(&self) -> &str;

    /// The metric that it gives the HorizontalPodAutoscaler of an object in `namespace`.
    fn metric(&self, namespace: &str) -> TriggerMetric;

    /// The value above which the trigger is active; `None` for one that never is.
    fn activation(&self) -> Option<f64>;

    /// The target that stands in the manifest, and its parameter; `None` where it is fixed or has rules of its own.
    fn written_target(&self) -> Option<(&'static Parameter, f64)>;

    /// The target of the metric; `average` says whether it holds for each replica.
    fn target(&self, average: bool) -> TriggerTarget;
}
