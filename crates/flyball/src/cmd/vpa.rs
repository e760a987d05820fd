//! `flyball vpa simulate`: what a recommender would have reserved, throttled and killed on recorded usage, or how both
//! axes of a target would have followed a load.

mod manifests;
mod plot;
mod usage;

use anyhow::{Context, Result, bail};
use flyball_engine::vertical::RecommenderSettings;
use flyball_sim::{Replay, Report, Side, TugReport, replay};
use serde::Serialize;

use crate::cli::{VpaOutput, VpaRecommender, VpaSimulate};
use crate::output;

/// One usage history under one recommender.
#[derive(Serialize)]
struct Row {
    history: String,
    recommender: &'static str,
    #[serde(flatten)]
    report: Report,
}

pub(crate) fn run(options: VpaSimulate) -> Result<()> {
    if options.loads.is_empty() {
        return histories(&options);
    }
    let tug = manifests::tug(&options)?;
    let reports = [Side::Upstream, Side::Flyball].map(|side| tug.play(side));
    print(&options, &reports, || {
        output::line(&tug_table(&reports));
        if options.plot {
            reports.iter().for_each(|report| output::line(&plot::tug(report)));
        }
    })
}

fn histories(options: &VpaSimulate) -> Result<()> {
    if options.files.is_empty() {
        bail!(
            "nothing to simulate: pass a file of usage, or manifests with -f and a load with --load 100m:72h"
        );
    }
    let mut rows = Vec::new();
    for file in &options.files {
        let history = usage::read(file, options)?;
        let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        for (recommender, settings) in recommenders(options.recommender) {
            let mut own = Replay::new(settings);
            own.limit_ratio = options.limit_ratio;
            own.warm_up = duration("--warm-up", &options.warm_up)?;
            let report = replay(&history, &own);
            if report.samples == 0 {
                bail!(
                    "{}: no samples after the first {}; pass a shorter --warm-up",
                    file.display(),
                    options.warm_up
                );
            }
            rows.push(Row { history: name.clone(), recommender, report });
        }
    }
    print(options, &rows, || {
        output::line(&table(&rows));
        if options.plot {
            rows.iter()
                .for_each(|row| output::line(&plot::replay(&row.history, row.recommender, &row.report)));
        }
    })
}

fn recommenders(wanted: VpaRecommender) -> Vec<(&'static str, RecommenderSettings)> {
    let both = [("default", RecommenderSettings::default()), ("flyball", RecommenderSettings::flyball())];
    let is_wanted = |name: &str| match wanted {
        VpaRecommender::Both => true,
        VpaRecommender::Default => name == "default",
        VpaRecommender::Flyball => name == "flyball",
    };
    both.into_iter().filter(|(name, _)| is_wanted(name)).collect()
}

fn print(options: &VpaSimulate, data: &impl Serialize, table: impl FnOnce()) -> Result<()> {
    match options.output {
        VpaOutput::Json => output::line(&serde_json::to_string_pretty(data)?),
        VpaOutput::Yaml => output::line(serde_saphyr::to_string(data)?.trim_end()),
        VpaOutput::Table => table(),
    }
    Ok(())
}

/// Parses the duration of an option, such as `72h`.
fn duration(option: &str, text: &str) -> Result<std::time::Duration> {
    flyball_api::duration::parse(text)
        .with_context(|| format!("{option} {text:?}: write a duration such as 90s, 72h or 3d"))
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Aligns cells as kubectl does: each column as wide as its widest cell, three spaces between.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn table(rows: &[Row]) -> String {
    let names = [
        "HISTORY",
        "RECOMMENDER",
        "CPU REQUEST",
        "CPU SLACK",
        "THROTTLED",
        "TIME THROTTLED",
        "MEMORY SLACK",
        "OOMS",
        "CHANGES",
    ];
    let mut cells = vec![header(&names)];
    for Row { history, recommender, report } in rows {
        let optional = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        cells.push(vec![
            history.clone(),
            (*recommender).to_owned(),
            format!("{:.0}m", report.cpu_request_cores * 1000.0),
            percent(report.cpu_slack),
            percent(report.cpu_throttled),
            percent(report.cpu_throttled_time),
            optional(report.memory_slack.map(percent)),
            optional(report.ooms.map(|ooms| ooms.to_string())),
            report.changes.to_string(),
        ]);
    }
    align(&cells)
}

fn tug_table(reports: &[TugReport]) -> String {
    let names = [
        "RULES",
        "LOAD",
        "FOR",
        "REPLICAS",
        "REQUEST",
        "REPLICA TURNS",
        "SIZE TURNS",
        "EVICTIONS",
        "THROTTLED",
    ];
    let mut cells = vec![header(&names)];
    for report in reports {
        let rules = match report.side {
            Side::Upstream => "upstream",
            Side::Flyball => "flyball",
        };
        for own in &report.phases {
            cells.push(vec![
                rules.to_owned(),
                format!("{}m", own.phase.load_millis),
                format!("{}h", own.phase.seconds as f64 / 3600.0),
                own.replicas.to_string(),
                format!("{}m", own.request_millis),
                own.replica_turns.to_string(),
                own.size_turns.to_string(),
                own.evictions.to_string(),
                percent(own.throttled),
            ]);
        }
    }
    align(&cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [header(&["A", "LONG"]), header(&["wide", "x"])];
        assert_eq!(align(&rows), "A      LONG\nwide   x");
    }
}
