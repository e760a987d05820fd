//! A progress line on the terminal while a run goes on; nothing elsewhere. It has no colours, so `NO_COLOR` changes nothing.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{Handle, Phase, Plan, Until};

/// How often the line is drawn: often enough to look alive, seldom enough to cost nothing.
const EVERY: Duration = Duration::from_millis(200);

/// Draws until it is dropped.
pub(crate) async fn show(plan: &Plan, handle: &Handle) {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let (began, whole) = (Instant::now(), Whole::of(&plan.phases));
    let bar = Cleared(ProgressBar::with_draw_target(whole.length(), ProgressDrawTarget::stderr()));
    if let Ok(style) = ProgressStyle::with_template(whole.template()) {
        bar.0.set_style(style.progress_chars("=> "));
    }
    loop {
        tokio::time::sleep(EVERY).await;
        let stats = handle.stats();
        let done = stats.answered + stats.errors;
        bar.0.set_position(whole.position(began.elapsed(), done));
        bar.0.set_message(format!(
            "{done} requests, {:.0}/s, p95 {:.1} ms, {} errors",
            stats.rate,
            stats.p95 * 1e3,
            stats.errors + stats.failed_statuses,
        ));
    }
}

/// What all phases together amount to.
#[derive(Debug, PartialEq)]
enum Whole {
    Time(Duration),
    Requests(u64),
    /// Some phases end by time and some by count, so the end is not known.
    Unknown,
}

impl Whole {
    fn of(phases: &[Phase]) -> Whole {
        let both = |sum: Option<Whole>, phase: &Phase| {
            Some(match (sum, phase.until) {
                (None, Until::Elapsed(length)) => Whole::Time(length),
                (None, Until::Requests(count)) => Whole::Requests(count),
                (Some(Whole::Time(sum)), Until::Elapsed(length)) => Whole::Time(sum.saturating_add(length)),
                (Some(Whole::Requests(sum)), Until::Requests(count)) => {
                    Whole::Requests(sum.saturating_add(count))
                }
                _ => Whole::Unknown,
            })
        };
        phases.iter().fold(None, both).unwrap_or(Whole::Unknown)
    }

    fn length(&self) -> Option<u64> {
        match self {
            Whole::Time(length) => Some(length.as_millis() as u64),
            Whole::Requests(count) => Some(*count),
            Whole::Unknown => None,
        }
    }

    fn position(&self, elapsed: Duration, done: u64) -> u64 {
        match self {
            Whole::Time(length) => elapsed.min(*length).as_millis() as u64,
            Whole::Requests(_) | Whole::Unknown => done,
        }
    }

    fn template(&self) -> &'static str {
        match self {
            Whole::Unknown => "{elapsed:>4} {msg}",
            _ => "{elapsed:>4} [{bar:30}] {msg}",
        }
    }
}

/// Leaves no half-drawn line behind, however the run ends.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Load;

    #[test]
    fn phases_add_up_if_they_can() {
        let (time, count) = (Until::Elapsed(Duration::from_secs(2)), Until::Requests(5));
        for (untils, wanted) in [
            (&[time, time][..], Whole::Time(Duration::from_secs(4))),
            (&[count, count, count], Whole::Requests(15)),
            (&[count, time, count], Whole::Unknown),
            (&[], Whole::Unknown),
        ] {
            let load = Load::Open { rate: 1.0 };
            let phases: Vec<_> = untils.iter().map(|until| Phase { load, until: *until }).collect();
            assert_eq!(Whole::of(&phases), wanted, "{untils:?}");
        }
    }
}
