//! Plots results over time as text: one series as a curve, several as a row of bars each. Pure.

use anyhow::{Result, bail};

use crate::cmd::query::query_result::{QueryResult, Series, notation};
use crate::cmd::query::table::{self, time};
use crate::output::{Style, paint};

/// Eighths of a cell, lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Lines of the curve of one series.
const HEIGHT: usize = 12;
/// Columns of the bars of each of several series, at most.
const BARS_WIDTH: usize = 48;
/// Columns of a picture, at least, however narrow the terminal.
const WIDTH_MIN: usize = 20;
/// Columns that a number may take.
const NUMBER_WIDTH: usize = 10;

/// Plots a result for a terminal of `width` columns.
pub(super) fn render(result: &QueryResult, width: usize, colour: bool) -> Result<String> {
    let series = match result {
        QueryResult::Matrix(series) => series,
        _ => bail!("only values over time can be plotted: add --range DURATION, or choose another --output"),
    };
    Ok(match series.as_slice() {
        [] => String::new(),
        [one] => curve(one, width, colour),
        several => bars(several, colour),
    })
}

/// The ranges of time and of values that a plot spans.
struct Frame {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
}

impl Frame {
    fn around<'a>(points: impl Iterator<Item = &'a (f64, f64)> + Clone) -> Frame {
        let times = points.clone().map(|(at, _)| *at);
        let values = points.map(|(_, value)| *value).filter(|value| value.is_finite());
        let (low, high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (from, to) =
            times.fold((f64::INFINITY, f64::NEG_INFINITY), |(from, to), at| (from.min(at), to.max(at)));
        Frame { from, to, low, high }
    }

    /// Returns the mean of the values in each of `width` columns.
    fn columns(&self, points: &[(f64, f64)], width: usize) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0_u32); width];
        let span = (self.to - self.from).max(f64::MIN_POSITIVE);
        for (at, value) in points.iter().filter(|(_, value)| value.is_finite()) {
            let column = ((at - self.from) / span * (width - 1) as f64).round() as usize;
            let (sum, count) = &mut sums[column.min(width - 1)];
            (*sum, *count) = (*sum + value, *count + 1);
        }
        sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / f64::from(count))).collect()
    }

    /// Returns the height of a value between bottom (0) and top (1).
    fn height(&self, value: f64) -> f64 {
        let span = self.high - self.low;
        if span > 0.0 { (value - self.low) / span } else { 0.5 }
    }
}

/// Plots one series: its highest and lowest value at the left, its times below.
fn curve(series: &Series, width: usize, colour: bool) -> String {
    let points = series.numbers();
    let frame = Frame::around(points.iter());
    let room = width.saturating_sub(NUMBER_WIDTH + 2).max(WIDTH_MIN);
    let columns = frame.columns(&points, room.min(points.len().max(2)));
    let mut lines = vec![paint(Style::Bold, &notation(&series.metric), colour)];
    for line in (0..HEIGHT).rev() {
        let label = match line {
            _ if line == HEIGHT - 1 => number(frame.high),
            0 => number(frame.low),
            _ => String::new(),
        };
        let cells: String =
            columns.iter().map(|value| cell(value.map(|value| frame.height(value)), line)).collect();
        let cells = paint(Style::Cyan, cells.trim_end(), colour);
        lines.push(format!("{label:>NUMBER_WIDTH$} ┤{cells}"));
    }
    let (from, to) = (time(frame.from), time(frame.to));
    let gap = columns.len().saturating_sub(from.chars().count()).max(to.chars().count() + 1);
    lines.push(format!("{:NUMBER_WIDTH$}  {from}{to:>gap$}", ""));
    lines.join("\n")
}

/// Returns the cell of a bar with a height (0 to 1) in a line, counted from the bottom.
fn cell(height: Option<f64>, line: usize) -> char {
    let Some(height) = height else { return ' ' };
    // The lowest value still gets an eighth, to be visible.
    let eighths = (height * (HEIGHT * BARS.len()) as f64).round().max(1.0) as usize;
    match eighths.saturating_sub(line * BARS.len()) {
        0 => ' ',
        left => BARS[left.min(BARS.len()) - 1],
    }
}

/// Plots several series: each a row with its extremes, its last value and its bars, all on one scale.
fn bars(series: &[Series], colour: bool) -> String {
    let all: Vec<Vec<(f64, f64)>> = series.iter().map(Series::numbers).collect();
    let frame = Frame::around(all.iter().flatten());
    let longest = all.iter().map(Vec::len).max().unwrap_or(0);
    let width = BARS_WIDTH.min(longest.max(2));
    let span = format!("{} … {}", time(frame.from), time(frame.to));
    let row = |series: &Series| {
        let points = series.numbers();
        let own = Frame::around(points.iter());
        let last = points.last().map_or(f64::NAN, |(_, value)| *value);
        let bar = |value: &Option<f64>| match value {
            None => ' ',
            Some(value) => BARS[((frame.height(*value) * 8.0).ceil() as usize).clamp(1, BARS.len()) - 1],
        };
        let bars: String = frame.columns(&points, width).iter().map(bar).collect();
        vec![vec![number(own.low), number(own.high), number(last), paint(Style::Cyan, &bars, colour)]]
    };
    table::of_series(series, &["MIN", "MAX", "LAST", &span], row)
}

/// Formats a number in at most [`NUMBER_WIDTH`] columns.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        _ if !value.is_finite() => "-".to_owned(),
        0.0 => "0".to_owned(),
        _ if !(1e-4..1e7).contains(&magnitude) => format!("{value:.2e}"),
        _ => {
            // Four significant digits.
            let decimals = (3.0 - magnitude.log10().floor()).max(0.0) as usize;
            format!("{value:.decimals$}")
        }
    };
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn draw(result: serde_json::Value) -> Vec<String> {
        let result = QueryResult::of(&json!({ "resultType": "matrix", "result": result })).expect("a result");
        render(&result, 80, false).expect("a picture").lines().map(str::to_owned).collect()
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (12.0, "12"),
            (0.09312, "0.09312"),
            (1234.567, "1235"),
            (-0.5, "-0.5"),
            (1e-9, "1.00e-9"),
            (3.2e8, "3.20e8"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn one_series_is_a_curve() {
        let values: Vec<_> = (0..5).map(|i| json!([i, (i * 10).to_string()])).collect();
        let lines = draw(json!([{ "metric": { "__name__": "load" }, "values": values }]));
        assert_eq!(lines.len(), HEIGHT + 2);
        assert_eq!(lines[0], "load");
        assert_eq!(lines[1], "        40 ┤    █");
        assert_eq!(lines[HEIGHT], "         0 ┤▁████");
        assert!(
            lines[HEIGHT + 1].contains("1970-01-01T00:00:00Z 1970-01-01T00:00:04Z"),
            "{}",
            lines[HEIGHT + 1]
        );
    }

    #[test]
    fn several_series_are_bars_on_one_scale() {
        let series = |pod: &str, from: i32| {
            let values: Vec<_> = (0..3).map(|i| json!([i, (from + i).to_string()])).collect();
            json!({ "metric": { "pod": pod }, "values": values })
        };
        let lines = draw(json!([series("a", 0), series("b", 6)]));
        assert_eq!(lines[1], "a     0     2     2      ▁▁▂");
        assert_eq!(lines[2], "b     6     8     8      ▆▇█");
    }

    #[test]
    fn a_result_without_numbers_is_plotted_empty() {
        let lines = draw(json!([{ "metric": {}, "values": [[0, "NaN"], [1, "NaN"]] }]));
        assert_eq!(lines[1], "         - ┤");
        let result =
            QueryResult::of(&json!({ "resultType": "scalar", "result": [1, "1"] })).expect("a result");
        assert!(render(&result, 80, false).is_err());
    }
}
