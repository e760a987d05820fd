//! Series lines: labels and a short form of many values.

use super::case::parse_number;

/// One value of a series line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Item {
    Gap,
    Float(f64),
    /// A native histogram, which the engine does not know yet.
    Histogram,
}

/// The values of a series line: `1 2 _ 0+10x5 stale {{…}}x3`.
pub(crate) fn parse_items(text: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for word in words(text) {
        parse_item(&word, &mut items)?;
    }
    Ok(items)
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
        let after = word.rsplit("}}").next().unwrap_or("");
        let repeats = after.strip_prefix('x').map(count).transpose()?.unwrap_or(0);
        items.extend(std::iter::repeat_n(Item::Histogram, repeats + 1));
        return Ok(());
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
