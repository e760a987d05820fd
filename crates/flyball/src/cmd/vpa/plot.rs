//! Plots values over time as text: a row for each level, a column for each span of time.

use flyball_engine::vertical::Resource;
use flyball_sim::{Moment, Report, TugReport};

/// Columns of a plot.
const WIDTH: usize = 96;
/// Rows of a plot.
const HEIGHT: usize = 12;

/// Plots CPU: the demand (`▒`, its mean in each column) and the request (`━`). Below: where the container was throttled
/// (`t`) and killed (`x`).
pub(super) fn replay(history: &str, recommender: &str, report: &Report) -> String {
    let columns = columns(&report.course);
    let request = |moment: &Moment| moment.requests.amount(Resource::Cpu) as f64;
    let wanted: Vec<f64> =
        columns.iter().map(|column| mean(column, |m| m.sample.cpu_cores * 1000.0)).collect();
    let requested: Vec<f64> = columns.iter().map(|column| mean(column, request)).collect();
    let marks = columns.iter().map(|column| {
        let killed = column.iter().any(|moment| moment.killed);
        let throttled = column.iter().any(|moment| moment.lost_cores > 0.0);
        if killed {
            'x'
        } else if throttled {
            't'
        } else {
            ' '
        }
    });
    let title =
        format!("{history}, recommender {recommender}: CPU demand ▒, request ━, t throttled, x killed");
    format!("\n{title}\n{}\n{:>8} │{}", draw(&wanted, &requested, "m"), "", marks.collect::<String>())
}

/// Plots replicas (`▒`) and the CPU request of each (`━`, from 0 to the largest).
pub(super) fn tug(report: &TugReport) -> String {
    let columns = columns(&report.course);
    let replicas: Vec<f64> =
        columns.iter().map(|column| mean(column, |tick| f64::from(tick.replicas))).collect();
    let sizes: Vec<f64> =
        columns.iter().map(|column| mean(column, |tick| tick.request_millis as f64)).collect();
    let largest = sizes.iter().copied().fold(1.0, f64::max);
    let most = replicas.iter().copied().fold(1.0, f64::max);
    let scaled: Vec<f64> = sizes.iter().map(|size| size / largest * most).collect();
    let title = format!("{:?}: replicas ▒, CPU request of each ━ (at most {largest:.0}m)", report.side);
    format!("\n{title}\n{}", draw(&replicas, &scaled, ""))
}

/// Splits a course into at most [`WIDTH`] columns, each with at least one entry.
fn columns<T>(course: &[T]) -> Vec<&[T]> {
    course.chunks(course.len().div_ceil(WIDTH).max(1)).collect()
}

fn mean<T>(column: &[T], value: impl Fn(&T) -> f64) -> f64 {
    column.iter().map(value).sum::<f64>() / column.len().max(1) as f64
}

fn draw(area: &[f64], line: &[f64], unit: &str) -> String {
    let most = area.iter().chain(line).copied().fold(f64::MIN_POSITIVE, f64::max);
    let level = |value: f64| (value / most * HEIGHT as f64).ceil() as usize;
    let rows = (1..=HEIGHT).rev().map(|row| {
        let cells: String = area
            .iter()
            .zip(line)
            .map(|(area, line)| match (level(*line) == row, level(*area) >= row) {
                (true, _) => '━',
                (false, true) => '▒',
                (false, false) => ' ',
            })
            .collect();
        let label = most * row as f64 / HEIGHT as f64;
        format!("{:>8} │{}", format!("{label:.1}{unit}"), cells.trim_end())
    });
    rows.collect::<Vec<_>>().join("\n")
}
