//! `flyball why`: prints the last decisions of a target, each with its chain of reasons.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use flyball_api::kinds::scaled_object::ScaledObject;
use flyball_engine::{Decision, Time};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::{Deserialize, Serialize};

use crate::cli::{Why, WhyOutput};
use crate::output::{self, Style, paint};
use crate::place;

/// A record as the API serves it: one decision, or several equal ones in a row.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    since: Time,
    times: u64,
    decision: Decision,
}

#[derive(Deserialize)]
struct RecordList {
    items: Vec<Record>,
}

pub(crate) async fn run(options: Why) -> Result<()> {
    let selection = Selection::of(&options)?;
    let client = client(&options).await?;
    let namespace = options.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let (kind, name) = resolve(&client, &namespace, &options.target).await.map_err(without_status)?;
    let all = fetch(&client, &namespace, &kind, &name).await?;
    if all.is_empty() {
        bail!(
            "no decision about {kind}/{name} in namespace {namespace}: does a ScaledObject or HorizontalPodAutoscaler \
             target it? See `kubectl get scaledobject,hpa -A`"
        );
    }
    let known_since = all[0].since;
    let records = selection.apply(all);
    match options.output {
        WhyOutput::Json => output::line(&serde_json::to_string_pretty(&records)?),
        WhyOutput::Yaml => output::line(serde_saphyr::to_string(&records)?.trim_end()),
        WhyOutput::Text if records.is_empty() => {
            output::note(&format!("no decision in that time; the oldest recorded one is from {known_since}"));
        }
        WhyOutput::Text => {
            let colour = output::colour_on(&std::io::stdout());
            records.iter().for_each(|record| output::line(&render(record, colour)));
        }
    }
    Ok(())
}

/// The decisions to show.
enum Selection {
    /// The newest `last`, of those made after `since`.
    Newest { last: usize, since: Option<Time> },
    /// The decision in force at a time.
    At(Time),
}

impl Selection {
    fn of(options: &Why) -> Result<Selection> {
        if let Some(at) = &options.at {
            let at = at.parse().map_err(|error| anyhow::anyhow!("--at: {error}"))?;
            return Ok(Selection::At(at));
        }
        let since = options.since.as_deref().map(since_time).transpose()?;
        Ok(Selection::Newest { last: options.last, since })
    }

    /// Selects from all records, which are sorted oldest first.
    fn apply(&self, mut all: Vec<Record>) -> Vec<Record> {
        match *self {
            Selection::At(at) => all.into_iter().rfind(|record| record.since <= at).into_iter().collect(),
            Selection::Newest { last, since } => {
                all.retain(|record| since.is_none_or(|since| record.decision.at >= since));
                all.split_off(all.len().saturating_sub(last))
            }
        }
    }
}

/// Reduces an error of the API server to its message.
fn without_status(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<kube::Error>() {
        Ok(kube::Error::Api(status)) => anyhow::anyhow!(status.message.clone()),
        Ok(error) => error.into(),
        Err(error) => error,
    }
}

async fn client(options: &Why) -> Result<Client> {
    let path = place::find_kubeconfig(options.kubeconfig.clone())?;
    let kubeconfig =
        Kubeconfig::read_from(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn fetch(client: &Client, namespace: &str, kind: &str, name: &str) -> Result<Vec<Record>> {
    let path = format!("/apis/flyball.dev/v1alpha1/namespaces/{namespace}/decisions?kind={kind}&name={name}");
    let request =
        http::Request::get(path).body(Vec::new()).context("a name contains a space or control character")?;
    let list: Result<RecordList, kube::Error> = client.request(request).await;
    Ok(list.map_err(|error| without_status(error.into())).context("cannot read the decisions")?.items)
}

fn since_time(text: &str) -> Result<Time> {
    let span: jiff::SignedDuration =
        text.parse().with_context(|| format!("--since {text}: write a duration such as 90s or 10m"))?;
    let since = jiff::Timestamp::now().saturating_sub(span)?;
    Ok(Time::from_millis(u64::try_from(since.as_millisecond()).unwrap_or(0)))
}

/// Returns the workload's kind and name; an autoscaler resolves to its target.
async fn resolve(client: &Client, namespace: &str, target: &str) -> Result<(String, String)> {
    let Some((kind, name)) = target.split_once('/').filter(|(_, name)| !name.is_empty()) else {
        bail!("`{target}` is not a target: write KIND/NAME, such as deploy/model");
    };
    let lower = kind.to_ascii_lowercase();
    let kind = match lower.trim_end_matches(".apps") {
        "deploy" | "deployment" | "deployments" => "Deployment",
        "sts" | "statefulset" | "statefulsets" => "StatefulSet",
        "rs" | "replicaset" | "replicasets" => "ReplicaSet",
        "so" | "scaledobject" | "scaledobjects" => {
            let object = Api::<ScaledObject>::namespaced(client.clone(), namespace).get(name).await?;
            let reference = object.spec.scale_target_ref;
            return Ok((reference.kind_or_default().to_owned(), reference.name));
        }
        "hpa" | "horizontalpodautoscaler" | "horizontalpodautoscalers" => {
            let object =
                Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), namespace).get(name).await?;
            return Ok((object.spec.scale_target_ref.kind, object.spec.scale_target_ref.name));
        }
        _ => kind,
    };
    Ok((kind.to_owned(), name.to_owned()))
}

/// Renders a decision: its steps with their reasons, the proposals of other metrics, and what would change it.
fn render(record: &Record, colour: bool) -> String {
    let decision = &record.decision;
    let outcome = if decision.rescales() {
        format!("{} → {} replicas", decision.current, decision.desired)
    } else {
        format!("stays at {} replicas", decision.current)
    };
    let often = if record.times > 1 {
        format!(" (repeated {} times since {})", record.times, record.since)
    } else {
        String::new()
    };
    let head = format!("{}  {}  {outcome}", decision.at, decision.target);
    let mut lines =
        vec![format!("{}{}", paint(Style::Bold, &head, colour), paint(Style::Dim, &often, colour))];
    let step_reasons: Vec<String> = decision.steps.iter().map(|step| step.reason.to_string()).collect();
    for step in &decision.steps {
        let moved = format!("{} → {}", step.from, step.to);
        let code = paint(Style::Cyan, step.reason.code(), colour);
        lines.push(format!("  {:<9} {moved:>8}  {code}: {}", step.stage.to_string(), step.reason));
    }
    for size in &decision.sizes {
        let label = &size.desired.container;
        for step in &size.desired.steps {
            let [from, to] = [step.from, step.to].map(|amount| step.resource.readable(amount));
            let code = paint(Style::Cyan, step.reason.code(), colour);
            lines.push(format!(
                "  {:<9} {label} {} {from} → {to}  {code}: {}",
                "size", step.resource, step.reason
            ));
        }
    }
    let others: BTreeMap<&str, String> = decision
        .proposals
        .iter()
        .filter(|proposal| !step_reasons.contains(&proposal.reason.to_string()))
        .map(|proposal| {
            (proposal.metric.as_str(), format!("{}: {}", proposal.reason.code(), proposal.reason))
        })
        .collect();
    for (index, reason) in others.values().enumerate() {
        let label = if index == 0 { "also read" } else { "" };
        lines.push(format!("  {label:<9} {:>8}  {reason}", ""));
    }
    for (index, turn) in decision.turning_points.iter().enumerate() {
        let label = if index == 0 { "otherwise" } else { "" };
        lines.push(format!("  {label:<9} {:>8}  {turn}", ""));
    }
    lines.push(String::new());
    lines.join("\n")
}
