//! Reads a target and its load from manifests: a ScaledObject with a cpu trigger, a VerticalPodAutoscaler, a Deployment.

use std::path::Path;

use anyhow::{Context, Result, bail};
use flyball_api::quantity::Quantity;
use flyball_engine::vertical::{ContainerPolicy, ContainerResources, Resources, VerticalPolicy};
use flyball_engine::{Activation, Bounds, Metric, MetricSource, MetricTarget, Metrics, Policy};
use flyball_sim::{Phase, Tug};
use serde_json::Value;

use super::duration;
use crate::cli::VpaSimulate;
use crate::cmd::check::{documents, inputs};

/// The default of KEDA's `maxReplicaCount`.
const MAX_REPLICAS: u64 = 100;
/// The most replicas: each is simulated.
const PLAYED_REPLICAS_MAX: u32 = 10_000;
/// The longest simulation, all phases together: every 15 seconds are stored.
const SECONDS_MAX: u64 = 366 * 86_400;
/// The largest load, a million cores: more is a mistake in the unit.
const LOAD_MILLIS_MAX: i64 = 1_000_000_000;

pub(super) fn tug(options: &VpaSimulate) -> Result<Tug> {
    let mut objects = Vec::new();
    for file in &options.manifests {
        objects.extend(read(file)?);
    }
    let find = |kind: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind);
        found.with_context(|| format!("no {kind} among the manifests: add it with -f FILE"))
    };
    let resources = deployment(find("Deployment")?)?;
    let phases = options.loads.iter().map(|load| phase(load)).collect::<Result<Vec<_>>>()?;
    if phases.iter().map(|phase| phase.seconds).fold(0, u64::saturating_add) > SECONDS_MAX {
        bail!("--load: the loads together are longer than a year; shorten them");
    }
    Ok(Tug {
        horizontal: scaled_object(find("ScaledObject")?)?,
        vertical: vertical(find("VerticalPodAutoscaler")?)?,
        memory_bytes: resources.requests.memory_bytes.unwrap_or(0),
        resources,
        startup: duration("--startup", &options.startup)?,
        phases,
    })
}

fn read(file: &Path) -> Result<Vec<Value>> {
    let text = inputs::text(file)?;
    let (documents, malformed) = documents::read(&file.display().to_string(), &text);
    if let Some(first) = malformed.first() {
        bail!("{}:{}: {}; {}", file.display(), first.position.line, first.message, first.help);
    }
    Ok(documents.into_iter().map(|document| document.object).collect())
}

/// Parses a load such as `100m:72h`.
fn phase(text: &str) -> Result<Phase> {
    let (load, length) =
        text.split_once(':').with_context(|| format!("--load {text:?}: write it as 100m:72h"))?;
    let load_millis = Quantity::parse(load).with_context(|| format!("--load {text:?}"))?.milli_value();
    if !(0..=LOAD_MILLIS_MAX).contains(&load_millis) {
        bail!("--load {text:?}: a load is 0 to {} cores", LOAD_MILLIS_MAX / 1000);
    }
    Ok(Phase { load_millis, seconds: duration("--load", length)?.as_secs() })
}

fn scaled_object(object: &Value) -> Result<Policy> {
    let spec = &object["spec"];
    let triggers = spec["triggers"].as_array().map_or(&[][..], Vec::as_slice);
    let cpu = triggers
        .iter()
        .find(|trigger| trigger["type"] == "cpu")
        .context("spec.triggers: no trigger of type cpu; add one with metricType Utilization")?;
    if cpu["metricType"].as_str().is_some_and(|kind| kind != "Utilization") {
        bail!(
            "spec.triggers: the cpu trigger needs metricType Utilization; others do not depend on requests"
        );
    }
    let percent = cpu["metadata"]["value"].as_str().and_then(|value| value.parse().ok());
    let percent =
        percent.context("spec.triggers: the cpu trigger's metadata.value is not a whole percentage")?;
    let count = |field: &str, default: u64| {
        u32::try_from(spec[field].as_u64().unwrap_or(default)).unwrap_or(u32::MAX)
    };
    let (min, max) = (count("minReplicaCount", 0), count("maxReplicaCount", MAX_REPLICAS));
    if max > PLAYED_REPLICAS_MAX {
        bail!(
            "spec.maxReplicaCount: {max} replicas are too many to simulate; write at most {PLAYED_REPLICAS_MAX}"
        );
    }
    let bounds = Bounds::new(min, max, None)?;
    let source = MetricSource::Resource { resource: "cpu".into() };
    let metric = Metric::new("cpu", source, MetricTarget::Utilization(percent))?;
    let mut policy = Policy::new(bounds, Metrics::new(vec![metric], None)?);
    policy.activation = Some(Activation::default());
    Ok(policy)
}

/// Reads the policy for all containers, or else the first one.
fn vertical(object: &Value) -> Result<VerticalPolicy> {
    let policies = object["spec"]["resourcePolicy"]["containerPolicies"].as_array();
    let policies = policies.map_or(&[][..], Vec::as_slice);
    let own = policies.iter().find(|policy| policy["containerName"] == "*").or(policies.first());
    let own = own.unwrap_or(&Value::Null);
    let other_containers = ContainerPolicy {
        min_allowed: resources(&own["minAllowed"])?,
        max_allowed: resources(&own["maxAllowed"])?,
        ..ContainerPolicy::default()
    };
    Ok(VerticalPolicy { other_containers, ..VerticalPolicy::default() })
}

fn deployment(object: &Value) -> Result<ContainerResources> {
    let own = &object["spec"]["template"]["spec"]["containers"][0]["resources"];
    let resources =
        ContainerResources { requests: resources(&own["requests"])?, limits: resources(&own["limits"])? };
    if resources.requests.cpu_millis.is_none() {
        bail!(
            "the Deployment's first container has no cpu request, so no utilization; set resources.requests.cpu"
        );
    }
    Ok(resources)
}

fn resources(list: &Value) -> Result<Resources> {
    let amount = |name: &str| {
        let value = &list[name];
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let parse = || Quantity::parse(&text).with_context(|| format!("{name}: {text:?}"));
        (!value.is_null()).then(parse).transpose()
    };
    Ok(Resources::new(amount("cpu")?.map(Quantity::milli_value), amount("memory")?.map(Quantity::value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_load_has_a_length() {
        assert_eq!(phase("100m:72h").expect("a load"), Phase { load_millis: 100, seconds: 72 * 3600 });
        assert_eq!(phase("1.5:90s").expect("a load"), Phase { load_millis: 1500, seconds: 90 });
        for (text, message) in [
            ("100m", "--load \"100m\": write it as 100m:72h"),
            ("x:1h", "--load \"x:1h\""),
            ("1e9:1h", "--load \"1e9:1h\": a load is 0 to 1000000 cores"),
            ("-1:1h", "--load \"-1:1h\": a load is 0 to 1000000 cores"),
            ("1:soon", "--load \"soon\": write a duration such as 90s, 72h or 3d"),
        ] {
            assert_eq!(phase(text).expect_err(text).to_string(), message);
        }
    }

    #[test]
    fn manifests_without_what_is_needed_are_refused() {
        let no_cpu = json!({ "spec": { "triggers": [{ "type": "prometheus" }] } });
        assert_eq!(
            scaled_object(&no_cpu).expect_err("no cpu").to_string(),
            "spec.triggers: no trigger of type cpu; add one with metricType Utilization"
        );
        let many = json!({ "spec": { "maxReplicaCount": 2_000_000_000, "triggers": [{ "type": "cpu", "metadata": { "value": "50" } }] } });
        assert_eq!(
            scaled_object(&many).expect_err("many").to_string(),
            "spec.maxReplicaCount: 2000000000 replicas are too many to simulate; write at most 10000"
        );
        let no_request =
            json!({ "spec": { "template": { "spec": { "containers": [{ "name": "model" }] } } } });
        let error = deployment(&no_request).expect_err("no request").to_string();
        assert_eq!(
            error,
            "the Deployment's first container has no cpu request, so no utilization; set resources.requests.cpu"
        );
        let bounds = json!({ "spec": { "resourcePolicy": { "containerPolicies": [
            { "containerName": "*", "minAllowed": { "cpu": "50m", "memory": "64Mi" }, "maxAllowed": { "cpu": 1 } },
        ] } } });
        let policy = vertical(&bounds).expect("good bounds").other_containers;
        assert_eq!(policy.min_allowed, Resources::new(Some(50), Some(64 << 20)));
        assert_eq!(policy.max_allowed, Resources::new(Some(1000), None));
    }
}
