//! The newest decisions about how many replicas, as they are: a target that is gone takes its series with it.
//!
//! Names are KEDA's (`keda_…`) and kube-controller-manager's (`horizontal_pod_autoscaler_controller_…`); `flyball_…` is
//! what neither has: what was decided, and why. Failures are counted once in a polling interval, as they are for a
//! fallback, however often a trigger is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flyball_api::status::Outcome;
use flyball_engine::{Decision, Metric, Proposal, Reason, TargetId};
use kube::ResourceExt;

use super::text::Text;
use crate::decide::scalers::{Owner, Scaler};

/// The metrics of all targets; cheap to clone, so that reading them does not hold the lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Horizontal {
    targets: BTreeMap<TargetId, Arc<TargetMetrics>>,
    /// By `action` and `error`.
    reconciliations: BTreeMap<(&'static str, &'static str), u64>,
    rounds: u64,
    rounds_seconds: f64,
}

/// The newest decision about a target, and its counters.
#[derive(Clone, Debug)]
struct TargetMetrics {
    decision: Decision,
    /// The ScaledObject's name, if it is one's.
    scaled_object: Option<String>,
    autoscaler: String,
    /// `scaler`, `triggerIndex` and value of each metric that activates, by its name.
    triggers: BTreeMap<String, Trigger>,
    paused: bool,
    failures: u64,
    /// By the code of the deciding step.
    decisions: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug, Default)]
struct Trigger {
    name: String,
    index: usize,
    failures: u64,
    failing_now: u32,
}

impl Horizontal {
    /// Takes in a decision and what came of it.
    pub(crate) fn record(&mut self, scaler: &Scaler, decision: &Decision, outcome: &Outcome) {
        *self.reconciliations.entry((action(decision), error(decision, outcome))).or_default() += 1;
        let told = self.targets.entry(decision.target.clone());
        let told = Arc::make_mut(told.or_insert_with(|| Arc::new(TargetMetrics::new(decision.clone()))));
        told.scaled_object = match &scaler.owner {
            Owner::ScaledObject(object) => Some(object.name_any()),
            Owner::Autoscaler(_) => None,
        };
        told.autoscaler = scaler.autoscaler.name_any();
        told.paused = match &scaler.owner {
            Owner::ScaledObject(object) => {
                !matches!(object.paused(), Ok(None)) || object.paused_scale_in() || object.paused_scale_out()
            }
            Owner::Autoscaler(_) => false,
        };
        told.triggers = told.counted(scaler.plan.policy.metrics.list(), decision);
        if let Some(step) = decision.deciding_step() {
            *told.decisions.entry(step.reason.code()).or_default() += 1;
        }
        told.decision = decision.clone();
    }

    /// Takes in how long a round took.
    pub(crate) fn round(&mut self, took: Duration) {
        self.rounds += 1;
        self.rounds_seconds += took.as_secs_f64();
    }

    /// Forgets targets that are gone.
    pub(crate) fn keep_only(&mut self, is_known: impl Fn(&TargetId) -> bool) {
        self.targets.retain(|target, _| is_known(target));
    }

    /// The page, in Prometheus' text format.
    pub(crate) fn page(&self) -> String {
        let mut page = Text::default();
        self.write_keda(&mut page);
        self.write_hpa(&mut page);
        self.write_own(&mut page);
        page.0
    }

    fn write_keda(&self, page: &mut Text) {
        let version = flyball_api::keda_hpa::KEDA_VERSION;
        page.family("keda_build_info", "gauge", "The version of KEDA whose rules are followed.");
        page.sample("keda_build_info", &[("version", version)], 1.0);
        let of_keda =
            || self.targets.iter().filter_map(|(id, told)| Some((id, told, told.scaled_object.as_deref()?)));
        page.family("keda_scaler_metrics_value", "gauge", "The newest value of a trigger.");
        for (target, told, object) in of_keda() {
            for proposal in &told.decision.proposals {
                let value = value_of(proposal);
                told.trigger_sample(page, "keda_scaler_metrics_value", target, object, proposal, value);
            }
        }
        page.family("keda_scaler_active", "gauge", "Whether a trigger is above its activation threshold.");
        for (target, told, object) in of_keda() {
            for proposal in &told.decision.proposals {
                let active = proposal.active.map(|active| f64::from(u8::from(active)));
                told.trigger_sample(page, "keda_scaler_active", target, object, proposal, active);
            }
        }
        page.family(
            "keda_scaler_detail_errors_total",
            "counter",
            "Polling intervals in which a trigger failed.",
        );
        for (target, told, object) in of_keda() {
            for proposal in &told.decision.proposals {
                let failures = told.triggers.get(proposal.metric.as_str()).map(|own| own.failures as f64);
                told.trigger_sample(
                    page,
                    "keda_scaler_detail_errors_total",
                    target,
                    object,
                    proposal,
                    failures,
                );
            }
        }
        page.family("keda_scaled_object_paused", "gauge", "Whether a ScaledObject is paused.");
        for (target, told, object) in of_keda() {
            let labels = [("namespace", target.namespace.as_str()), ("scaledObject", object)];
            page.sample("keda_scaled_object_paused", &labels, f64::from(u8::from(told.paused)));
        }
        page.family("keda_scaled_object_errors_total", "counter", "Failures of a ScaledObject's triggers.");
        for (target, told, object) in of_keda() {
            let labels = [("namespace", target.namespace.as_str()), ("scaledObject", object)];
            page.sample("keda_scaled_object_errors_total", &labels, told.failures as f64);
        }
        page.family("keda_resource_registered_total", "gauge", "ScaledObjects that are followed.");
        let mut registered: BTreeMap<&str, u32> = BTreeMap::new();
        of_keda().for_each(|(target, ..)| *registered.entry(target.namespace.as_str()).or_default() += 1);
        for (namespace, count) in registered {
            let labels = [("namespace", namespace), ("type", "scaled_object")];
            page.sample("keda_resource_registered_total", &labels, f64::from(count));
        }
    }

    fn write_hpa(&self, page: &mut Text) {
        let prefix = "horizontal_pod_autoscaler_controller";
        let name = format!("{prefix}_num_horizontal_pod_autoscalers");
        page.family(&name, "gauge", "HorizontalPodAutoscalers that are followed.");
        page.sample(&name, &[], self.targets.len() as f64);
        let name = format!("{prefix}_desired_replicas");
        page.family(&name, "gauge", "What was decided last.");
        for (target, told) in &self.targets {
            let labels = [("namespace", target.namespace.as_str()), ("hpa_name", told.autoscaler.as_str())];
            page.sample(&name, &labels, f64::from(told.decision.desired));
        }
        let name = format!("{prefix}_reconciliations_total");
        page.family(&name, "counter", "Decisions, by what they did and what kept them from it.");
        for ((action, error), count) in &self.reconciliations {
            page.sample(&name, &[("action", action), ("error", error)], *count as f64);
        }
    }

    fn write_own(&self, page: &mut Text) {
        page.family(
            "flyball_decisions_total",
            "counter",
            "Decisions about a target, by the code of their reason.",
        );
        for (target, told) in &self.targets {
            for (code, count) in &told.decisions {
                page.sample(
                    "flyball_decisions_total",
                    &of_target(target, &[("reason", code)]),
                    *count as f64,
                );
            }
        }
        page.family(
            "flyball_proposed_replicas",
            "gauge",
            "The replicas that a metric asks for, whether it won or not.",
        );
        for (target, told) in &self.targets {
            for proposal in &told.decision.proposals {
                let Some(replicas) = proposal.replicas else { continue };
                let labels = of_target(target, &[("metric", proposal.metric.as_str())]);
                page.sample("flyball_proposed_replicas", &labels, f64::from(replicas));
            }
        }
        page.family("flyball_decided_replicas", "gauge", "What was decided last about a target.");
        for (target, told) in &self.targets {
            page.sample(
                "flyball_decided_replicas",
                &of_target(target, &[]),
                f64::from(told.decision.desired),
            );
        }
        page.family(
            "flyball_round_seconds",
            "summary",
            "How long a round took: gather, decide, act; without the wait for pages.",
        );
        page.sample("flyball_round_seconds_count", &[], self.rounds as f64);
        page.sample("flyball_round_seconds_sum", &[], self.rounds_seconds);
    }
}

impl TargetMetrics {
    fn new(decision: Decision) -> TargetMetrics {
        TargetMetrics {
            decision,
            scaled_object: None,
            autoscaler: String::new(),
            triggers: BTreeMap::new(),
            paused: false,
            failures: 0,
            decisions: BTreeMap::new(),
        }
    }

    /// The triggers, with the failures that are new since the last decision counted.
    fn counted(&mut self, metrics: &[Metric], decision: &Decision) -> BTreeMap<String, Trigger> {
        let mut triggers = BTreeMap::new();
        for (index, metric) in metrics.iter().enumerate().filter(|(_, metric)| metric.activates()) {
            let mut trigger = self.triggers.remove(metric.name().as_str()).unwrap_or_default();
            let named = metric.formula_name.as_ref().map(|name| name.as_str().to_owned());
            trigger.name = named.unwrap_or_else(|| format!("{}Scaler", metric.trigger_type));
            trigger.index = index;
            let own = decision.proposals.iter().find(|proposal| proposal.metric == *metric.name());
            let failures = own.map_or(0, |proposal| proposal.failures);
            let new = failures.saturating_sub(trigger.failing_now);
            trigger.failing_now = failures;
            trigger.failures += u64::from(new);
            self.failures += u64::from(new);
            triggers.insert(metric.name().to_string(), trigger);
        }
        triggers
    }

    /// A sample with KEDA's labels, if the proposal is a trigger's, or the composite metric's, and there is a value.
    fn trigger_sample(
        &self,
        page: &mut Text,
        name: &str,
        target: &TargetId,
        object: &str,
        proposal: &Proposal,
        value: Option<f64>,
    ) {
        let composite =
            Trigger { name: flyball_engine::COMPOSITE_METRIC_NAME.to_owned(), ..Trigger::default() };
        let trigger = match self.triggers.get(proposal.metric.as_str()) {
            Some(trigger) => trigger,
            None if proposal.metric == *flyball_engine::COMPOSITE_METRIC_NAME => &composite,
            None => return,
        };
        let (Some(value), index) = (value, trigger.index.to_string()) else { return };
        let labels = [
            ("namespace", target.namespace.as_str()),
            ("metric", proposal.metric.as_str()),
            ("scaledObject", object),
            ("scaler", trigger.name.as_str()),
            ("triggerIndex", index.as_str()),
            ("type", "scaledobject"),
        ];
        page.sample(name, &labels, value);
    }
}

fn of_target<'a>(target: &'a TargetId, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let own = [
        ("namespace", target.namespace.as_str()),
        ("kind", target.kind.as_str()),
        ("name", target.name.as_str()),
    ];
    own.into_iter().chain(more.iter().copied()).collect()
}

fn action(decision: &Decision) -> &'static str {
    match decision.desired.cmp(&decision.current) {
        std::cmp::Ordering::Greater => "scale_up",
        std::cmp::Ordering::Less => "scale_down",
        std::cmp::Ordering::Equal => "none",
    }
}

/// `spec` where the objects are to blame, `internal` where something failed.
fn error(decision: &Decision, outcome: &Outcome) -> &'static str {
    let reasons = decision.steps.iter().map(|step| &step.reason);
    let mut reasons = reasons.chain(decision.proposals.iter().map(|proposal| &proposal.reason));
    if matches!(outcome, Outcome::Failed { .. }) {
        return "internal";
    }
    reasons
        .find_map(|reason| match reason {
            Reason::SelectorRequired | Reason::InvalidSelector { .. } | Reason::AmbiguousSelector { .. } => {
                Some("spec")
            }
            Reason::FailedGetScale { .. } | Reason::MetricUnavailable(_) => Some("internal"),
            _ => None,
        })
        .unwrap_or("none")
}

/// The value that was measured, in the metric's unit.
fn value_of(proposal: &Proposal) -> Option<f64> {
    match &proposal.reason {
        Reason::AboveTarget(measured)
        | Reason::BelowTarget(measured)
        | Reason::NoLoad(measured)
        | Reason::NegativeValue { measured, .. }
        | Reason::UnmeasuredPodsDecide(measured)
        | Reason::WithinTolerance { measured, .. } => Some(measured.value.as_f64()),
        Reason::FormulaInput { value, .. } => Some(value.as_f64()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use flyball_api::kinds::scaled_object::ScaledObject;
    use flyball_api::trigger::{Resolved, Trigger};
    use serde_json::{from_value, json};

    use super::*;

    fn scaled_object() -> Scaler {
        let object = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": { "name": "model", "namespace": "shop" },
            "spec": {
                "scaleTargetRef": { "name": "model" },
                "triggers": [{
                    "type": "prometheus", "name": "rate",
                    "metadata": { "serverAddress": "http://p.svc:9090", "query": "up", "threshold": "20" },
                }],
            },
        });
        let owner = Owner::ScaledObject(Arc::new(from_value(object).unwrap()));
        let triggers =
            |object: &ScaledObject| Trigger::parse_all(&object.spec.triggers, |_| Resolved::default());
        crate::decide::scalers::scaler(&owner, &triggers).unwrap()
    }

    /// A decision as the API serves it, with one trigger that reads `value`, or fails in its `failures`th interval.
    fn decision(current: u32, desired: u32, value: f64, failures: u32) -> Decision {
        let measured = json!({
            "metric": "s0-prometheus", "value": value, "target": { "AverageValue": 20 },
            "over": { "Replicas": current }, "replicas": desired,
        });
        let unavailable = json!({
            "metric": "s0-prometheus", "source_type": "External", "since": "2026-01-01T00:00:00Z",
            "cause": { "Failed": "refused" },
        });
        let reason = match failures {
            0 => json!({ "AboveTarget": measured }),
            _ => json!({ "MetricUnavailable": unavailable }),
        };
        from_value(json!({
            "target": { "kind": "Deployment", "namespace": "shop", "name": "model" },
            "at": "2026-01-01T00:00:00Z", "current": current, "desired": desired,
            "steps": [{ "stage": "recommend", "from": current, "to": desired, "reason": reason }],
            "proposals": [{
                "metric": "s0-prometheus", "replicas": (failures == 0).then_some(desired), "reason": reason,
                "current": null, "active": (failures == 0).then_some(true), "failures": failures,
            }],
            "activity": null, "turning_points": [],
        }))
        .unwrap()
    }

    #[test]
    fn decisions_become_metrics_under_the_originals_names() {
        let (scaler, mut telemetry) = (scaled_object(), Horizontal::default());
        telemetry.record(&scaler, &decision(1, 4, 83.2, 0), &Outcome::Rescaled);
        let page = telemetry.page();
        let trigger = r#"{metric="s0-prometheus", namespace="shop", scaledObject="model", scaler="rate", triggerIndex="0", type="scaledobject"}"#;
        for line in [
            format!("keda_scaler_metrics_value{trigger} 83.2"),
            format!("keda_scaler_active{trigger} 1"),
            format!("keda_scaler_detail_errors_total{trigger} 0"),
            r#"keda_scaled_object_paused{namespace="shop", scaledObject="model"} 0"#.to_owned(),
            r#"keda_resource_registered_total{namespace="shop", type="scaled_object"} 1"#.to_owned(),
            r#"horizontal_pod_autoscaler_controller_desired_replicas{hpa_name="keda-hpa-model", namespace="shop"} 4"#.to_owned(),
            r#"horizontal_pod_autoscaler_controller_reconciliations_total{action="scale_up", error="none"} 1"#.to_owned(),
            r#"flyball_decisions_total{kind="Deployment", name="model", namespace="shop", reason="AboveTarget"} 1"#.to_owned(),
        ] {
            assert!(page.contains(&format!("{line}\n")), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn failures_are_counted_once_in_a_polling_interval() {
        let (scaler, mut telemetry) = (scaled_object(), Horizontal::default());
        for failures in [1, 1, 2, 0, 1, 1] {
            telemetry.record(&scaler, &decision(1, 1, 20.0, failures), &Outcome::Kept);
        }
        let page = telemetry.page();
        assert!(
            page.contains(r#"keda_scaled_object_errors_total{namespace="shop", scaledObject="model"} 3"#),
            "{page}"
        );
        telemetry.keep_only(|_| false);
        assert!(!telemetry.page().contains("scaledObject="), "what is gone takes its series along");
    }
}
