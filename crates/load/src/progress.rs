//! A progress line during a run, on terminals only. It has no colours, so `NO_COLOR` changes nothing.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{Handle, Phase, Plan, Until};

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(200);

/// Draws until it is dropped.
pub(crate) async fn show(plan: &Plan, handle: &Handle) {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let (began, whole) = (Instant::now(), TotalLength::of(&plan.phases));
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

/// The length of all phases together.
#[derive(Debug, PartialEq)]
enum TotalLength {
    Time(Duration),
    Requests(u64),
    /// Some phases end by time and some by count, so the end is not known.
    Unknown,
}

impl TotalLength {
    fn of(phases: &[Phase]) -> TotalLength {
        let both = |sum: Option<TotalLength>, phase: &Phase| {
            Some(match (sum, phase.until) {
                (None, Until::Elapsed(length)) => TotalLength::Time(length),
                (None, Until::Requests(count)) => TotalLength::Requests(count),
                (Some(TotalLength::Time(sum)), Until::Elapsed(length)) => {
                    TotalLength::Time(sum.saturating_add(length))
                }
                (Some(TotalLength::Requests(sum)), Until::Requests(count)) => {
                    TotalLength::Requests(sum.saturating_add(count))
                }
                _ => TotalLength::Unknown,
            })
        };
        phases.iter().fold(None, both).unwrap_or(TotalLength::Unknown)
    }

    fn length(&self) -> Option<u64> {
        match self {
            TotalLength::Time(length) => Some(length.as_millis() as u64),
            TotalLength::Requests(count) => Some(*count),
            TotalLength::Unknown => None,
        }
    }

    fn position(&self, elapsed: Duration, done: u64) -> u64 {
        match self {
            TotalLength::Time(length) => elapsed.min(*length).as_millis() as u64,
            TotalLength::Requests(_) | TotalLength::Unknown => done,
        }
    }

    fn template(&self) -> &'static str {
        match self {
            TotalLength::Unknown => "{elapsed:>4} {msg}",
            _ => "{elapsed:>4} [{bar:30}] {msg}",
        }
    }
}

/// Clears the progress line when dropped.
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
            (&[time, time][..], TotalLength::Time(Duration::from_secs(4))),
            (&[count, count, count], TotalLength::Requests(15)),
            (&[count, time, count], TotalLength::Unknown),
            (&[], TotalLength::Unknown),
        ] {
            let load = Load::Open { rate: 1.0 };
            let phases: Vec<_> = untils.iter().map(|until| Phase { load, until: *until }).collect();
            assert_eq!(TotalLength::of(&phases), wanted, "{untils:?}");
        }
    }
}
