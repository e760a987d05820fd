//! The script language of the suite: blocks of `clear`, `load` and `eval`.

use flyball_metrics::promql::parse_metric_selector;
use flyball_metrics::{Labels, parse_duration_ms};

/// What a case needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// PromQL with default flags over float samples.
    T1,
    /// Native histograms.
    T2,
    /// Features behind flags.
    T3,
    /// Both.
    T4,
}

/// A block of the script.
pub(crate) enum Command {
    Clear,
    Load { step_ms: i64, nhcb: bool, lines: Vec<String> },
    Eval(Eval),
}

/// An `eval` block.
pub(crate) struct Eval {
    /// The line of the script.
    pub(crate) line: usize,
    pub(crate) query: String,
    pub(crate) times: EvalTimes,
    pub(crate) expectations: Vec<Expectation>,
    pub(crate) results: Vec<String>,
}

#[derive(Clone, Copy)]
pub(crate) enum EvalTimes {
    Instant(i64),
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

/// An `expect` line.
pub(crate) enum Expectation {
    Ordered,
    /// Kind (`fail`, `warn`, `no_warn`, `info`, `no_info`) and what its text must be.
    Message(&'static str, Text),
    RangeVector {
        start_ms: i64,
        step_ms: i64,
    },
    String(String),
}

pub(crate) enum Text {
    Any,
    Exactly(String),
    Regex(regex::Regex),
}

impl Text {
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Exactly(wanted) => wanted == text,
            Text::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Splits a script into its blocks.
pub(crate) fn parse_script(text: &str) -> Result<Vec<Command>, String> {
    let lines: Vec<&str> =
        text.lines().map(|l| l.trim()).map(|l| if l.starts_with('#') { "" } else { l }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let word = line.split_whitespace().next().unwrap_or("").to_lowercase();
        at += 1;
        if word.is_empty() {
            continue;
        }
        if word == "clear" {
            commands.push(Command::Clear);
            continue;
        }
        let first = at;
        let end = lines[at..].iter().position(|l| l.is_empty()).map_or(lines.len(), |n| at + n);
        at = end;
        let block = &lines[first..end];
        if word.starts_with("load") {
            let step = line.split_whitespace().nth(1).unwrap_or("");
            let step_ms = parse_duration_ms(step).map_err(|error| format!("line {first}: {error}"))?;
            let lines = block.iter().map(|l| (*l).to_owned()).collect();
            commands.push(Command::Load { step_ms, nhcb: word == "load_with_nhcb", lines });
        } else if word.starts_with("eval") {
            let (eval, used) =
                parse_eval(line, first, block).map_err(|error| format!("line {first}: {error}"))?;
            commands.push(Command::Eval(eval));
            at = first + used;
        } else {
            return Err(format!("line {first}: unknown command {word}"));
        }
    }
    Ok(commands)
}

fn parse_eval(line: &str, number: usize, block: &[&str]) -> Result<(Eval, usize), String> {
    let duration = |text: &str| parse_duration_ms(text).map_err(|error| format!("{error}: {text}"));
    let (command, rest) = line.split_once(' ').ok_or("eval without arguments")?;
    let mut words = rest.split_whitespace();
    let mut next = || words.next().ok_or("eval is cut off");
    let (times, skip) = match next()? {
        "instant" => {
            next()?;
            (EvalTimes::Instant(duration(next()?)?), 3)
        }
        "range" => {
            next()?;
            let start_ms = duration(next()?)?;
            next()?;
            let end_ms = duration(next()?)?;
            next()?;
            (EvalTimes::Range { start_ms, end_ms, step_ms: duration(next()?)? }, 7)
        }
        other => return Err(format!("unknown kind of eval: {other}")),
    };
    let mut query = rest;
    for _ in 0..skip {
        query = query.split_once(char::is_whitespace).ok_or("eval without query")?.1.trim_start();
    }
    let mut expectations = Vec::new();
    for (suffix, kind) in [("_fail", "fail"), ("_warn", "warn"), ("_info", "info")] {
        if command.ends_with(suffix) {
            expectations.push(Expectation::Message(kind, Text::Any));
        }
    }
    if command.ends_with("_ordered") {
        expectations.push(Expectation::Ordered);
    }
    let mut results = Vec::new();
    for (i, line) in block.iter().enumerate() {
        match line.strip_prefix("expect ") {
            Some(expectation) => expectations.push(parse_expectation(expectation.trim())?),
            None => {
                results.push((*line).to_owned());
                // A bare number is the result of a scalar and ends the block.
                if parse_number(line).is_some() {
                    return Ok((
                        Eval { line: number, query: query.into(), times, expectations, results },
                        i + 1,
                    ));
                }
            }
        }
    }
    Ok((Eval { line: number, query: query.into(), times, expectations, results }, block.len()))
}

fn parse_expectation(text: &str) -> Result<Expectation, String> {
    if text == "ordered" {
        return Ok(Expectation::Ordered);
    }
    if let Some(quoted) = text.strip_prefix("string ") {
        let inner = quoted.trim();
        return Ok(Expectation::String(inner[1..inner.len() - 1].to_owned()));
    }
    if let Some(range) = text.strip_prefix("range vector from ") {
        let words: Vec<&str> = range.split_whitespace().collect();
        let duration =
            |at: usize| parse_duration_ms(words.get(at).copied().unwrap_or("")).map_err(|e| e.to_string());
        return Ok(Expectation::RangeVector { start_ms: duration(0)?, step_ms: duration(4)? });
    }
    for kind in ["fail", "no_warn", "warn", "no_info", "info"] {
        let Some(rest) = text.strip_prefix(kind) else { continue };
        let rest = rest.trim();
        let wanted = if let Some(message) = rest.strip_prefix("msg:") {
            Text::Exactly(message.trim().to_owned())
        } else if let Some(pattern) = rest.strip_prefix("regex:") {
            Text::Regex(regex::Regex::new(pattern.trim()).map_err(|error| error.to_string())?)
        } else {
            Text::Any
        };
        return Ok(Expectation::Message(kind, wanted));
    }
    Err(format!("unknown expectation: {text}"))
}

/// A number as Go reads it.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok().map(|v| v as f64),
        None => flyball_metrics::parse_value(text),
    }
}

/// Splits `metric{l="v"} rest` into labels and rest.
pub(crate) fn parse_series(line: &str) -> Result<(Labels, &str), String> {
    let end = series_end(line);
    let (text, rest) = line.split_at(end);
    let text = text.trim();
    if text == "{}" {
        return Ok((Labels::empty(), rest));
    }
    let matchers = parse_metric_selector(text).map_err(|error| format!("{error} in {text}"))?;
    Ok((Labels::new(matchers.iter().map(|m| (m.name(), m.value()))), rest))
}

fn series_end(line: &str) -> usize {
    let mut quoted = false;
    let mut braces = false;
    let mut escaped = false;
    for (i, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' if !quoted => braces = true,
            '}' if !quoted => return i + 1,
            '@' if !quoted && !braces => return i,
            c if c.is_whitespace() && !braces => {
                // A brace may follow the name after blanks.
                let rest = line[i..].trim_start();
                if !rest.starts_with('{') || rest.starts_with("{{") {
                    return i;
                }
            }
            _ => {}
        }
    }
    line.len()
}
