//! The `cron` trigger: a number of replicas inside a window that opens and closes by schedule.
//!
//! Parameters and messages are those of KEDA (`scalers/cron_scaler.go`). The rule for the window is not: KEDA looks
//! forward, and calls it open unless it opens sooner than it closes, which is wrong where a clock skips one of the two,
//! and where one comes more often than the other. Here the window is open if it opened since it last closed. Time zones
//! come with the program, so that the same input gives the same answer on every machine.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::description::{Described, Description, TriggerMetric};
use super::parameters::{Parameter, Parameters};
use super::schedule::Schedule;
use super::target::TriggerTarget;

const TIMEZONE: Parameter = Parameter::required(
    &["timezone"],
    "The zone that both schedules are in, from the IANA database.",
    "write a zone, such as \"Europe/Berlin\"",
);
const START: Parameter = Parameter::required(
    &["start"],
    "When the window opens: minute, hour, day of month, month and day of week.",
    SCHEDULE_HELP,
);
const END: Parameter = Parameter::required(&["end"], "When the window closes, written alike.", SCHEDULE_HELP);
const DESIRED_REPLICAS: Parameter = Parameter::required(
    &["desiredReplicas"],
    "The number of replicas while the window is open.",
    "write the number of replicas in quotes, such as \"5\"",
);

pub(super) const DESCRIPTION: Description = Description {
    names: &["cron"],
    summary: "A number of replicas inside a window that opens and closes by schedule. The window is open if it opened \
              since it last closed.",
    example: "- type: cron\n  metadata:\n    timezone: Europe/Berlin\n    start: \"0 8 * * 1-5\"\n    end: \"0 18 * * \
              1-5\"\n    desiredReplicas: \"5\"\n",
    parameters: &[TIMEZONE, START, END, DESIRED_REPLICAS],
};

/// A number of replicas inside a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// The zone that both schedules are in.
    pub zone: TimeZone,
    /// When the window opens.
    pub start: Schedule,
    /// When the window closes.
    pub end: Schedule,
    /// The replicas inside the window.
    pub desired_replicas: u32,
    /// What KEDA calls the metric, without the trigger's number.
    metric_name: String,
}

impl Cron {
    pub(super) fn parse(parameters: &mut Parameters<'_>) -> Option<Self> {
        let zone_name = parameters.required(&TIMEZONE);
        let start_text = parameters.required(&START);
        let end_text = parameters.required(&END);
        let desired_replicas = desired_replicas(parameters);
        let zone = zone_name.as_deref().and_then(|name| zone(parameters, name));
        let start = start_text.as_deref().and_then(|text| schedule(parameters, &START, text));
        let end = end_text.as_deref().and_then(|text| schedule(parameters, &END, text));
        if start_text.is_some() && start_text == end_text {
            parameters.refuse(&END, "start and end can not have exactly same time input", "");
        }
        Some(Self {
            metric_name: metric_name(&zone_name?, &start_text?, &end_text?),
            zone: zone?,
            start: start?,
            end: end?,
            desired_replicas: desired_replicas?,
        })
    }

    /// Whether the window is open: it opened, and did not close since.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let Some(opened) = self.start.last(now, &self.zone) else { return false };
        self.end.last(now, &self.zone).is_none_or(|closed| opened >= closed)
    }

    /// The replicas asked for: those of the window, or none.
    pub fn value(&self, now: Timestamp) -> f64 {
        if self.is_open(now) { f64::from(self.desired_replicas) } else { 0.0 }
    }
}

impl Described for Cron {
    fn kind(&self) -> &str {
        "cron"
    }

    fn metric(&self, _namespace: &str) -> TriggerMetric {
        TriggerMetric::External(self.metric_name.clone())
    }

    fn activation(&self) -> Option<f64> {
        Some(0.0)
    }

    fn written_target(&self) -> Option<(&'static Parameter, f64)> {
        None
    }

    /// The value of a schedule is a number of replicas, so each of them is worth one.
    fn target(&self, average: bool) -> TriggerTarget {
        TriggerTarget::amount(1.0, average)
    }
}

const SCHEDULE_HELP: &str =
    "write minute, hour, day of month, month and day of week, such as \"0 8 * * 1-5\"";

fn schedule(parameters: &mut Parameters<'_>, parameter: &Parameter, text: &str) -> Option<Schedule> {
    match Schedule::parse(text) {
        Ok(schedule) => Some(schedule),
        Err(why) => {
            let message = format!("error parsing {} schedule: {why}", parameter.name());
            parameters.refuse(parameter, message, SCHEDULE_HELP);
            None
        }
    }
}

fn zone(parameters: &mut Parameters<'_>, name: &str) -> Option<TimeZone> {
    let zone = TimeZoneDatabase::bundled().get(name).ok();
    if zone.is_none() {
        let message = format!("unable to load timezone: unknown time zone {name}");
        parameters.refuse(&TIMEZONE, message, "write a zone of the IANA database, such as \"Europe/Berlin\"");
    }
    zone
}

fn desired_replicas(parameters: &mut Parameters<'_>) -> Option<u32> {
    let help = DESIRED_REPLICAS.help;
    let text = parameters.required(&DESIRED_REPLICAS)?;
    match text.parse::<u32>() {
        Ok(0) => parameters.refuse(&DESIRED_REPLICAS, "no desiredReplicas specified", help),
        Ok(replicas) => return Some(replicas),
        Err(_) => {
            let message =
                format!("unable to set param \"desiredReplicas\" value {text:?}: not a whole number");
            parameters.refuse(&DESIRED_REPLICAS, message, help);
        }
    }
    None
}

fn metric_name(zone: &str, start: &str, end: &str) -> String {
    let encode = |text: &str| {
        text.replace(' ', "").replace('*', "x").replace('/', "Sl").replace('?', "Qm").replace(',', "Cm")
    };
    format!("cron-{zone}-{}-{}", encode(start), encode(end))
}
