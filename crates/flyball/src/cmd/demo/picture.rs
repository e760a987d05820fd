//! The live picture of the model and its autoscaler, redrawn a few times a second. Pure.

use crate::output::{Style, paint};

/// Columns of a sparkline; with four samples a second it spans the last 15 seconds.
pub(crate) const SPARK_WIDTH: usize = 60;
/// Eighths of a cell, lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The values shown at one moment. Missing values are shown as `-`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moment {
    /// The phase of the demo, in a few words.
    pub(crate) phase: String,
    pub(crate) seconds_since_start: f64,
    pub(crate) replicas_desired: i32,
    pub(crate) replicas_ready: i32,
    pub(crate) replicas_max: i32,
    pub(crate) requests_per_second: f64,
    pub(crate) p95_seconds: Option<f64>,
    pub(crate) cpu_cores: Option<f64>,
    pub(crate) failed: u64,
    /// The newest decision that changed the replicas, as one sentence.
    pub(crate) decision: Option<String>,
}

/// The moments so far, the last [`SPARK_WIDTH`] of them drawn.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    moments: Vec<Moment>,
}

impl Picture {
    pub(crate) fn push(&mut self, moment: Moment) {
        if self.moments.len() == SPARK_WIDTH {
            self.moments.remove(0);
        }
        self.moments.push(moment);
    }

    /// Returns the lines of the picture, none longer than `width` columns.
    pub(crate) fn lines(&self, width: usize, colour: bool) -> Vec<String> {
        let Some(now) = self.moments.last() else { return Vec::new() };
        let series = |value: fn(&Moment) -> Option<f64>| self.moments.iter().map(value).collect::<Vec<_>>();
        let replicas = format!("{} ready, {} desired", now.replicas_ready, now.replicas_desired);
        let rows = [
            (
                "replicas",
                replicas,
                series(|m| Some(f64::from(m.replicas_ready))),
                Some(f64::from(now.replicas_max)),
            ),
            (
                "requests",
                format!("{:.0}/s", now.requests_per_second),
                series(|m| Some(m.requests_per_second)),
                None,
            ),
            ("p95", milliseconds(now.p95_seconds), series(|m| m.p95_seconds), None),
            ("CPU", millicores(now.cpu_cores), series(|m| m.cpu_cores), None),
        ];
        let head = format!("{:>4.0} s  {}", now.seconds_since_start, now.phase);
        let mut lines = vec![paint(Style::Bold, &cut(&head, width), colour)];
        for (name, value, values, top) in rows {
            let label = format!("  {name:<9}{value:<18} ");
            let room = width.saturating_sub(label.chars().count());
            lines.push(label + &paint(Style::Cyan, &sparkline(&values, top, room.min(SPARK_WIDTH)), colour));
        }
        if now.failed > 0 {
            let failed = format!("  failed   {} requests", now.failed);
            lines.push(paint(Style::Red, &cut(&failed, width), colour));
        }
        let decision = now.decision.as_deref().unwrap_or("no change yet");
        lines.push(cut(&format!("  decision {decision}"), width));
        lines
    }
}

/// Draws one bar for each value, the newest at the right; `top` is the full height, by default the largest value.
fn sparkline(values: &[Option<f64>], top: Option<f64>, width: usize) -> String {
    let shown = &values[values.len().saturating_sub(width)..];
    let largest = shown.iter().flatten().copied().fold(0.0, f64::max);
    let top = top.unwrap_or(largest).max(f64::MIN_POSITIVE);
    let bar = |value: &Option<f64>| match value {
        None => ' ',
        Some(value) => BARS[((value / top * 8.0).ceil() as usize).clamp(1, BARS.len()) - 1],
    };
    shown.iter().map(bar).collect()
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

pub(crate) fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1} ms", seconds * 1000.0))
}

fn millicores(cores: Option<f64>) -> String {
    cores.map_or_else(|| "-".to_owned(), |cores| format!("{:.0} m", cores * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparklines_reach_from_the_lowest_to_the_highest_bar() {
        let check = |values: &[Option<f64>], top, width, expected: &str| {
            assert_eq!(sparkline(values, top, width), expected, "{values:?}");
        };
        check(&[], None, 8, "");
        check(&[Some(0.0), Some(4.0), Some(8.0)], None, 8, "▁▄█");
        check(&[Some(1.0), None, Some(5.0)], Some(5.0), 8, "▂ █");
        check(&[Some(9.0), Some(1.0), Some(2.0)], None, 2, "▄█");
        check(&[Some(0.0)], None, 8, "▁");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut picture = Picture::default();
        for i in 0..100 {
            let decision = Some("a long sentence ".repeat(20));
            picture.push(Moment { phase: "phase ".repeat(30), decision, failed: i, ..Moment::default() });
        }
        for width in [20, 40, 80] {
            for line in picture.lines(width, false) {
                assert!(line.chars().count() <= width.max(30), "{line}");
            }
        }
    }
}
