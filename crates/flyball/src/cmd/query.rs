//! `flyball query`: queries the metrics of a world, or of any Prometheus, and explains the result.

mod explanation;
mod plot;
mod query_result;
mod server;
mod table;

use anyhow::{Result, bail};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cli::{Query, QueryOutput};
use crate::cmd::query::explanation::Explanation;
use crate::cmd::query::query_result::QueryResult;
use crate::cmd::query::server::{Reply, Server};
use crate::output::{self, Style, paint};

/// Evaluations of a range without `--step`: about as many as a terminal has columns.
const STEPS_DEFAULT: i64 = 120;
/// The shortest default step, in milliseconds.
const STEP_MS_MIN: i64 = 1_000;

pub(crate) async fn run(options: Query) -> Result<()> {
    let when = When::of(&options)?;
    let server = Server::find(options.server.as_deref(), options.kubeconfig.clone()).await?;
    let reply = match &when {
        When::At(at) => server.post("query", &[("query", &options.query), ("time", at)]).await,
        When::Over { start, end, step } => {
            let form = [("query", options.query.as_str()), ("start", start), ("end", end), ("step", step)];
            server.post("query_range", &form).await
        }
    };
    let reply = reply.map_err(|error| server::point_at(&options.query, error))?;
    let explanation = explain(&server, &options, &when, &reply).await?;
    print(&options, &reply, explanation.as_ref())?;
    print_notes(&reply, explanation.as_ref().filter(|_| !options.explain));
    Ok(())
}

/// The evaluation time, as parameters of the API.
enum When {
    At(String),
    Over { start: String, end: String, step: String },
}

impl When {
    fn of(options: &Query) -> Result<When> {
        let end_ms = match &options.time {
            Some(text) => flyball_metrics::parse_time_ms(text).map_err(|_| {
                anyhow::anyhow!(
                    "--time {text}: write RFC 3339, such as 2026-01-02T03:04:05Z, or Unix seconds"
                )
            })?,
            None => Timestamp::now().as_millisecond(),
        };
        let seconds = |ms: i64| (ms as f64 / 1000.0).to_string();
        let Some(range) = &options.range else { return Ok(When::At(seconds(end_ms))) };
        let range_ms = duration_ms("--range", range)?;
        let step_ms = match &options.step {
            Some(step) => duration_ms("--step", step)?,
            None => (range_ms / STEPS_DEFAULT).max(STEP_MS_MIN),
        };
        let (start, end) = (seconds(end_ms - range_ms), seconds(end_ms));
        Ok(When::Over { start, end, step: seconds(step_ms) })
    }
}

/// Parses a duration in Prometheus' form (`1h30m`) or the friendly one (`1h 30m`, `1.5h`).
fn duration_ms(flag: &str, text: &str) -> Result<i64> {
    let read = flyball_metrics::parse_duration_ms(text).ok();
    let read = read.or_else(|| i64::try_from(text.parse::<SignedDuration>().ok()?.as_millis()).ok());
    match read {
        Some(ms) if ms > 0 => Ok(ms),
        _ => bail!("{flag} {text}: write a duration such as 90s or 10m"),
    }
}

/// Fetches the explanation, if requested, or if the result is empty and the server can explain.
async fn explain(
    server: &Server,
    options: &Query,
    when: &When,
    reply: &Reply,
) -> Result<Option<Explanation>> {
    let When::At(at) = when else { return Ok(None) };
    let is_empty = QueryResult::of(&reply.data)?.is_empty();
    if !options.explain && !is_empty {
        return Ok(None);
    }
    let explained = server.post("explain", &[("query", &options.query), ("time", at)]).await;
    match explained {
        Ok(explained) => Ok(Some(Explanation::of(explained.data)?)),
        Err(_) if !options.explain => Ok(None),
        Err(error) => {
            Err(error
                .context("only Flyball's own Prometheus API can explain: omit --explain for other servers"))
        }
    }
}

fn print(options: &Query, reply: &Reply, explanation: Option<&Explanation>) -> Result<()> {
    let explanation = explanation.filter(|_| options.explain);
    let structured = || match explanation {
        Some(explanation) => json!({ "result": reply.data, "explanation": explanation.json }),
        None => reply.data.clone(),
    };
    let default = if options.range.is_some() { QueryOutput::Plot } else { QueryOutput::Table };
    match options.output.unwrap_or(default) {
        QueryOutput::Json => output::line(&serde_json::to_string_pretty(&structured())?),
        QueryOutput::Yaml => output::line(serde_saphyr::to_string(&structured())?.trim_end()),
        QueryOutput::Table => print_text(&table::render(&QueryResult::of(&reply.data)?), explanation),
        QueryOutput::Plot => {
            let colour = output::colour_on(&std::io::stdout());
            let picture = plot::render(&QueryResult::of(&reply.data)?, output::width(), colour)?;
            print_text(&picture, explanation);
        }
    }
    Ok(())
}

fn print_text(text: &str, explanation: Option<&Explanation>) {
    if !text.is_empty() {
        output::line(text);
    }
    if let Some(explanation) = explanation {
        let colour = output::colour_on(&std::io::stdout());
        output::line(&explanation.render(colour));
    }
}

/// Prints the server's annotations, and why the result is empty.
fn print_notes(reply: &Reply, explanation: Option<&Explanation>) {
    reply.annotations.iter().for_each(|text| output::note(text));
    let is_empty = QueryResult::of(&reply.data).is_ok_and(|answer| answer.is_empty());
    if !is_empty {
        return;
    }
    match explanation.and_then(|explanation| explanation.why()) {
        Some(why) => output::note(&format!("the result is empty: {why}")),
        None => output::note("the result is empty"),
    }
}

/// Formats a heading.
fn heading(text: &str, colour: bool) -> String {
    paint(Style::Bold, text, colour)
}

/// Returns a string field of a JSON object; empty if absent.
fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::duration_ms;

    #[test]
    fn durations_are_read_in_both_ways() {
        for (text, expected) in [
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("0s", None),
            ("x", None),
        ] {
            assert_eq!(duration_ms("--range", text).ok(), expected, "{text}");
        }
    }
}
