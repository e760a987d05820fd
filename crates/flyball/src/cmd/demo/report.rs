//! The report of the demo, as text or JSON.

use anyhow::Result;
use flyball_load::Stats;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::DemoOutput;
use crate::cmd::demo::observe::{self, Observer};
use crate::cmd::demo::picture::{Moment, milliseconds};
use crate::output::{self, Style, paint};

/// One observation of the load, four a second.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Observation {
    pub(super) at_seconds: f64,
    pub(super) requests_per_second: f64,
    pub(super) p95_seconds: Option<f64>,
    pub(super) replicas_ready: i32,
    pub(super) replicas_desired: i32,
}

impl Observation {
    pub(super) fn new(moment: &Moment, stats: &Stats) -> Observation {
        Observation {
            at_seconds: moment.seconds_since_start,
            requests_per_second: stats.rate,
            p95_seconds: moment.p95_seconds,
            replicas_ready: moment.replicas_ready,
            replicas_desired: moment.replicas_desired,
        }
    }
}

/// A phase of load and the observations made during it.
pub(super) struct PhaseResult {
    pub(super) begun: Timestamp,
    pub(super) seconds: Vec<Observation>,
    pub(super) report: flyball_load::Report,
}

/// A decision that changed the replicas.
#[derive(Debug, Serialize)]
struct Change {
    at: flyball_engine::Time,
    from: u32,
    to: u32,
    reasons: Vec<String>,
}

/// The report. Times are in seconds, memory in bytes.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) api_ready_after_seconds: f64,
    pub(super) pod_ready_after_seconds: f64,
    step_to_decision_seconds: Option<f64>,
    step_to_ready_seconds: Option<f64>,
    p95_gentle_seconds: Option<f64>,
    p95_one_replica_seconds: Option<f64>,
    p95_scaled_seconds: Option<f64>,
    requests_per_second_one_replica: f64,
    requests_per_second_scaled: f64,
    requests_answered: u64,
    requests_failed: u64,
    pub(super) memory_idle_bytes: u64,
    pub(super) memory_under_load_bytes: u64,
    pub(super) scaled_in_after_seconds: Option<f64>,
    decisions: Vec<Change>,
    timeline: Vec<Observation>,
}

impl Report {
    pub(super) async fn new(observer: &Observer, gentle: PhaseResult, step: PhaseResult) -> Result<Report> {
        let rescales = observer.rescales().await?;
        let begun_ms = step.begun.as_millisecond();
        let since_step = |at_ms: i64| (at_ms - begun_ms) as f64 / 1000.0;
        let first = rescales.iter().find(|decision| decision.at.as_millis() as i64 >= begun_ms);
        let ready = observer.ready_since.iter().find(|(replicas, at)| *replicas > 1 && *at >= step.begun);
        let alone: Vec<Observation> =
            step.seconds.iter().filter(|second| second.replicas_ready <= 1).cloned().collect();
        let last = step.seconds.split_at(step.seconds.len() / 2).1;
        let failed = |report: &flyball_load::Report| {
            let refused: u64 =
                report.statuses.iter().filter(|(status, _)| **status >= 400).map(|(_, n)| n).sum();
            refused + report.errors.values().sum::<u64>()
        };
        Ok(Report {
            api_ready_after_seconds: 0.0,
            pod_ready_after_seconds: 0.0,
            step_to_decision_seconds: first.map(|decision| since_step(decision.at.as_millis() as i64)),
            step_to_ready_seconds: ready.map(|(_, at)| since_step(at.as_millisecond())),
            p95_gentle_seconds: median(gentle.seconds.iter().filter_map(|second| second.p95_seconds)),
            p95_one_replica_seconds: alone.iter().filter_map(|second| second.p95_seconds).reduce(f64::max),
            p95_scaled_seconds: median(last.iter().filter_map(|second| second.p95_seconds)),
            requests_per_second_one_replica: alone.iter().map(|s| s.requests_per_second).fold(0.0, f64::max),
            requests_per_second_scaled: median(last.iter().map(|s| s.requests_per_second)).unwrap_or(0.0),
            requests_answered: gentle.report.answered + step.report.answered,
            requests_failed: failed(&gentle.report) + failed(&step.report),
            memory_idle_bytes: 0,
            memory_under_load_bytes: 0,
            scaled_in_after_seconds: None,
            decisions: rescales.iter().map(change).collect(),
            timeline: gentle.seconds.into_iter().chain(step.seconds).collect(),
        })
    }

    /// Returns whether the model scaled out and every request was answered.
    pub(super) fn succeeded(&self) -> bool {
        self.step_to_ready_seconds.is_some() && self.requests_failed == 0 && self.requests_answered > 0
    }

    pub(super) fn print(&self, output: DemoOutput) {
        match output {
            DemoOutput::Json => output::line(&serde_json::to_string_pretty(self).unwrap_or_default()),
            DemoOutput::Text => self.lines().iter().for_each(|line| output::line(line)),
        }
    }

    fn lines(&self) -> Vec<String> {
        let colour = output::colour_on(&std::io::stdout());
        let row = |name: &str, value: String| format!("  {name:<44} {}", paint(Style::Bold, &value, colour));
        let mut lines = vec![
            String::new(),
            paint(Style::Green, "Results", colour),
            row("API ready after", milliseconds(Some(self.api_ready_after_seconds))),
            row(
                "first pod ready after applying the manifests",
                milliseconds(Some(self.pod_ready_after_seconds)),
            ),
            row("decision to scale out after the load step", seconds(self.step_to_decision_seconds)),
            row("first new pod ready after the load step", seconds(self.step_to_ready_seconds)),
            row("p95 at 10 requests/s", milliseconds(self.p95_gentle_seconds)),
            row("p95 at 200 clients, worst with one replica", milliseconds(self.p95_one_replica_seconds)),
            row("p95 at 200 clients, scaled out", milliseconds(self.p95_scaled_seconds)),
            row("requests/s, one replica", format!("{:.0}", self.requests_per_second_one_replica)),
            row("requests/s, scaled out", format!("{:.0}", self.requests_per_second_scaled)),
            row("requests answered", self.requests_answered.to_string()),
            row("requests failed", self.requests_failed.to_string()),
            row("memory of API, node and autoscaler, idle", mebibytes(self.memory_idle_bytes)),
            row("memory with the load generator, under load", mebibytes(self.memory_under_load_bytes)),
        ];
        if let Some(after) = self.scaled_in_after_seconds {
            lines.push(row("back at one replica after the end of the load", seconds(Some(after))));
        }
        lines.push(String::new());
        lines.push(paint(Style::Green, "Decisions", colour));
        for change in &self.decisions {
            lines.push(format!("  {}  {} → {}", change.at, change.from, change.to));
            lines.extend(change.reasons.iter().map(|reason| format!("    {reason}")));
        }
        lines
    }
}

fn change(decision: &flyball_engine::Decision) -> Change {
    let steps = decision.steps.iter().map(|step| format!("{}: {}", step.reason.code(), step.reason));
    Change { at: decision.at, from: decision.current, to: decision.desired, reasons: steps.collect() }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "never".to_owned(), |value| format!("{value:.2} s"))
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", observe::mebibytes(bytes))
}
