//! A progress line on the terminal while a run goes on; nothing elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{Handle, Plan, Until};

/// How often the line is drawn: often enough to look alive, seldom enough to cost nothing.
const EVERY: Duration = Duration::from_millis(200);

/// Draws until it is dropped.
pub(crate) async fn show(plan: &Plan, handle: &Handle) {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let (length, timed) = plan.phases.first().map_or((0, false), |phase| match phase.until {
        Until::Requests(count) => (count, false),
        Until::Elapsed(length) => (length.as_millis() as u64, true),
    });
    let bar = Cleared(ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr()));
    if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {msg}") {
        bar.0.set_style(style.progress_chars("=> "));
    }
    loop {
        tokio::time::sleep(EVERY).await;
        let stats = handle.stats();
        let done = stats.answered + stats.errors;
        bar.0.set_position(if timed { bar.0.elapsed().as_millis() as u64 } else { done });
        bar.0.set_message(format!(
            "{done} requests, {:.0}/s, p95 {:.1} ms, {} errors",
            stats.rate,
            stats.p95 * 1e3,
            stats.errors + stats.failed_statuses,
        ));
    }
}

/// Leaves no half-drawn line behind, however the run ends.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
