//! Series lines: a short form of many values.

use std::sync::Arc;

use flyball_metrics::histogram::{Buckets, NativeHistogram, ResetHint, Schema, Span};
use flyball_metrics::parse_duration_ms;

use super::case::parse_number;

/// One value of a series line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Gap,
    Float(f64),
    /// A native histogram, and whether its hint is written out.
    Histogram(Arc<NativeHistogram>, bool),
}

/// The values of a series line: `1 2 _ 0+10x5 stale {{…}}x3`.
pub(crate) fn parse_items(text: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for word in words(text) {
        parse_item(&word, &mut items)?;
    }
    Ok(items)
}

/// Start timestamps, as milliseconds after the samples that have them: `_ -30s-1mx2 0x3`.
pub(crate) fn parse_offsets(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut offsets = Vec::new();
    for word in text.split_whitespace() {
        let (value, repeats) = word.split_once('x').unwrap_or((word, "0"));
        let repeats: usize = repeats.parse().map_err(|_| format!("bad count in {word}"))?;
        if value == "_" {
            offsets.extend(std::iter::repeat_n(None, repeats.max(1)));
            continue;
        }
        let step_at = value.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-'));
        let (first, step) = value.split_at(step_at.map_or(value.len(), |(at, _)| at));
        let first_ms = parse_signed_ms(first)?;
        let step_ms = if step.is_empty() { 0 } else { parse_signed_ms(step)? };
        offsets.extend((0..=repeats as i64).map(|i| Some(first_ms + i * step_ms)));
    }
    Ok(offsets)
}

fn parse_signed_ms(text: &str) -> Result<i64, String> {
    let (sign, duration) = match text.strip_prefix('-') {
        Some(duration) => (-1, duration),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let ms = parse_duration_ms(duration).map_err(|error| format!("{error}: {text}"))?;
    Ok(sign * ms)
}

/// Splits at blanks that are not inside `{{…}}`.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match words.last_mut() {
            Some(_) if c.is_whitespace() && depth == 0 => words.push(String::new()),
            Some(word) => word.push(c),
            None => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn parse_item(word: &str, items: &mut Vec<Item>) -> Result<(), String> {
    let count = |text: &str| text.parse::<usize>().map_err(|_| format!("bad count in {word}"));
    if word.starts_with('{') {
        return parse_histograms(word, items);
    }
    if let Some(rest) = word.strip_prefix('_') {
        let gaps = rest.strip_prefix('x').map(count).transpose()?.unwrap_or(1);
        items.extend(std::iter::repeat_n(Item::Gap, gaps));
        return Ok(());
    }
    if let Some(rest) = word.strip_prefix("stale") {
        let repeats = rest.strip_prefix('x').map(count).transpose()?.unwrap_or(0);
        items.extend(std::iter::repeat_n(Item::Float(flyball_metrics::STALE_NAN), repeats + 1));
        return Ok(());
    }
    let (numbers, repeats) = match word.rsplit_once('x') {
        Some((numbers, repeats))
            if numbers != "0" && !numbers.is_empty() || repeats.parse::<usize>().is_ok() =>
        {
            (numbers, count(repeats)?)
        }
        _ => (word, 0),
    };
    let (start, step) = split_step(numbers).ok_or_else(|| format!("bad value {word}"))?;
    let mut value = start;
    for i in 0..=repeats {
        if i > 0 {
            value += step;
        }
        items.push(Item::Float(value));
    }
    Ok(())
}

/// `a`, `a+b` or `a-b`; an exponent has a sign too.
fn split_step(text: &str) -> Option<(f64, f64)> {
    if let Some(value) = parse_number(text) {
        return Some((value, 0.0));
    }
    let signs = text.char_indices().skip(1).filter(|(_, c)| matches!(c, '+' | '-'));
    signs.into_iter().find_map(|(i, _)| Some((parse_number(&text[..i])?, parse_number(&text[i..])?)))
}

/// `{{…}}`, `{{…}}x3`, `{{…}}+{{…}}x3` or `{{…}}-{{…}}x3`.
fn parse_histograms(word: &str, items: &mut Vec<Item>) -> Result<(), String> {
    let (first, rest) = word[2..].split_once("}}").ok_or_else(|| format!("bad histogram {word}"))?;
    let (first, hint_is_set) = parse_histogram(first)?;
    let (step, rest) = match rest.strip_prefix("+{{").or(rest.strip_prefix("-{{")) {
        Some(step) => {
            let (step, after) = step.split_once("}}").ok_or_else(|| format!("bad histogram {word}"))?;
            (Some((rest.starts_with('-'), parse_histogram(step)?.0)), after)
        }
        None => (None, rest),
    };
    let repeats = match rest.strip_prefix('x') {
        Some(count) => count.parse::<usize>().map_err(|_| format!("bad count in {word}"))?,
        None if rest.is_empty() => 0,
        None => return Err(format!("bad histogram {word}")),
    };
    let mut current = first;
    for i in 0..=repeats {
        if let Some((subtract, step)) = step.as_ref().filter(|_| i > 0) {
            let added = if *subtract { current.sub(step) } else { current.add(step) };
            added.map_err(|error| error.to_string())?;
        }
        items.push(Item::Histogram(Arc::new(current.clone()), hint_is_set));
    }
    Ok(())
}

/// The inside of the braces: `schema:0 sum:5 count:4 buckets:[1 2 1]`.
fn parse_histogram(text: &str) -> Result<(NativeHistogram, bool), String> {
    let number = |text: &str| parse_number(text).ok_or_else(|| format!("bad number {text}"));
    let mut schema = 0;
    let mut bounds = Vec::new();
    let mut hint_is_set = false;
    let (mut positive, mut negative) = ((0, Vec::new()), (0, Vec::new()));
    let mut histogram = NativeHistogram::empty(Schema::Exponential(0));
    for (key, value) in pairs(text)? {
        let list = || value.split_whitespace().map(number).collect::<Result<Vec<f64>, _>>();
        let whole = || value.parse::<i32>().map_err(|_| format!("bad number {value}"));
        match key {
            "schema" => schema = whole()?,
            "sum" => histogram.sum = number(value)?,
            "count" => histogram.count = number(value)?,
            "z_bucket" => histogram.zero_count = number(value)?,
            "z_bucket_w" => histogram.zero_threshold = number(value)?,
            "custom_values" => bounds = list()?,
            "buckets" => positive.1 = list()?,
            "offset" => positive.0 = whole()?,
            "n_buckets" => negative.1 = list()?,
            "n_offset" => negative.0 = whole()?,
            "counter_reset_hint" => {
                hint_is_set = true;
                histogram.reset_hint = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    "gauge" => ResetHint::Gauge,
                    other => return Err(format!("unknown hint {other}")),
                };
            }
            other => return Err(format!("unknown key {other}")),
        }
    }
    let buckets = |(offset, counts): (i32, Vec<f64>)| {
        let span = Span { offset, length: counts.len() as u32 };
        Buckets::from_spans(&[span], &counts).map_err(|error| error.to_string())
    };
    histogram.schema = Schema::new(schema, &bounds).map_err(|error| error.to_string())?;
    (histogram.positive, histogram.negative) = (buckets(positive)?, buckets(negative)?);
    Ok((histogram, hint_is_set))
}

/// Splits `key:value key:[list]`.
fn pairs(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(|| format!("bad histogram {text}"))?;
        let after = after.trim_start();
        let (value, tail) = match after.strip_prefix('[') {
            Some(list) => list.split_once(']').ok_or_else(|| format!("bad list in {text}"))?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        pairs.push((key.trim(), value));
        rest = tail.trim_start();
    }
    Ok(pairs)
}
