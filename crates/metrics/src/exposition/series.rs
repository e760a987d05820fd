//! A sample line, and how its series text becomes labels.

use std::borrow::Cow;

use super::{LABELS_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::labels::{Labels, METRIC_NAME};
use crate::text::{format_open_metrics, is_legacy_label_name, is_legacy_metric_name, parse_value, quote};

/// A sample as it stands on a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesLine<'a> {
    /// Name and labels as written; the key of a target's cache.
    pub text: &'a str,
    /// The value.
    pub value: f64,
    /// The sample's own time, where the target gives one.
    pub timestamp_ms: Option<i64>,
    /// The exemplar as written: `{trace_id="…"} 0.5 1.0` (OpenMetrics).
    pub exemplar: Option<&'a str>,
}

/// A label's name and value; borrowed from the page unless there are escapes in it.
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A mistake in a series text: how many bytes into it, and what.
pub(super) type Mistake = (usize, String);

impl SeriesLine<'_> {
    /// The labels. `kind` is the family's type: buckets of a histogram and quantiles of a summary get one spelling
    /// (`le="1"` becomes `le="1.0"`), as in Prometheus 3.
    ///
    /// The error names the byte of [`SeriesLine::text`] where it went wrong.
    pub fn labels(&self, kind: &str) -> Result<Labels, (usize, String)> {
        let pairs = parse_series(self.text)?;
        let normalized = match kind {
            "histogram" => "le",
            "summary" => "quantile",
            _ => return Ok(Labels::new(pairs.iter().map(|(name, value)| (&**name, &**value)))),
        };
        let number =
            pairs.iter().find(|(name, _)| name == normalized).and_then(|(_, value)| parse_value(value));
        let number = number.map(format_open_metrics);
        let replacement = number.as_deref().map(|value| (normalized, value));
        Ok(Labels::new(pairs.iter().map(|(name, value)| (&**name, &**value)).chain(replacement)))
    }
}

/// Name and labels of a series text: `name{a="b"}`, `name`, `{"quoted.name", a="b"}`.
pub(super) fn parse_series(text: &str) -> Result<Vec<Pair<'_>>, Mistake> {
    let brace = text.find('{').unwrap_or(text.len());
    let name = text[..brace].trim_ascii_end();
    let mut pairs = Vec::with_capacity(8);
    if !name.is_empty() {
        if !is_legacy_metric_name(name) {
            return Err((0, format!("expected a valid metric name, got {}", quote(name.as_bytes()))));
        }
        check_length(0, name, NAME_BYTES_MAX, "metric name")?;
        pairs.push((METRIC_NAME.into(), name.into()));
    }
    if brace < text.len() {
        Pairs { text, at: brace + 1 }.parse(&mut pairs)?;
    }
    if pairs.iter().any(|(name, _)| name == METRIC_NAME) {
        Ok(pairs)
    } else {
        Err((0, "metric name not set while parsing".into()))
    }
}

fn check_length(at: usize, text: &str, bytes_max: usize, what: &str) -> Result<(), Mistake> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    Err((at, format!("{what} has {} bytes, more than {bytes_max}", text.len())))
}

/// The inside of the braces.
struct Pairs<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Pairs<'a> {
    fn parse(mut self, pairs: &mut Vec<Pair<'a>>) -> Result<(), Mistake> {
        loop {
            self.skip_blanks();
            if self.eat('}') {
                return self.expect_end();
            }
            let start = self.at;
            let quoted = self.rest().starts_with('"');
            let name = if quoted { self.string()? } else { self.bare_name()? };
            check_length(start, &name, NAME_BYTES_MAX, "label name")?;
            self.skip_blanks();
            if self.eat('=') {
                self.skip_blanks();
                let value_at = self.at;
                let value = self.string()?;
                check_length(value_at, &value, VALUE_BYTES_MAX, "label value")?;
                self.push(start, name, value, pairs)?;
            } else if quoted {
                self.push(start, METRIC_NAME.into(), name, pairs)?;
            } else {
                return Err(self.unexpected("expected equal"));
            }
            self.skip_blanks();
            if !self.eat(',') && !self.rest().starts_with('}') {
                return Err(self.unexpected("expected comma or brace close"));
            }
        }
    }

    fn push(
        &self,
        at: usize,
        name: Cow<'a, str>,
        value: Cow<'a, str>,
        pairs: &mut Vec<Pair<'a>>,
    ) -> Result<(), Mistake> {
        if pairs.iter().any(|(other, _)| *other == name) {
            return Err((at, format!("label name {} is not unique", quote(name.as_bytes()))));
        }
        // The metric name stands first and is no label of the sample.
        if pairs.len() > LABELS_MAX {
            return Err((at, format!("more than {LABELS_MAX} labels")));
        }
        pairs.push((name, value));
        Ok(())
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().bytes().take_while(|b| matches!(b, b' ' | b'\t')).count();
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        self.at += usize::from(found);
        found
    }

    fn bare_name(&mut self) -> Result<Cow<'a, str>, Mistake> {
        let rest = self.rest();
        let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        if !is_legacy_label_name(&rest[..length]) {
            return Err(self.unexpected("expected label name or right brace"));
        }
        self.at += length;
        Ok(rest[..length].into())
    }

    /// A string in double quotes with the escapes `\\`, `\"` and `\n`; any other backslash stands for itself.
    fn string(&mut self) -> Result<Cow<'a, str>, Mistake> {
        if !self.eat('"') {
            return Err(self.unexpected("expected label value"));
        }
        let start = self.at;
        let mut unescaped: Option<String> = None;
        let mut chars = self.rest().char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + offset + 1;
                    let plain = &self.text[start..start + offset];
                    return Ok(unescaped.map_or(plain.into(), Cow::Owned));
                }
                '\\' => {
                    let text = unescaped.get_or_insert_with(|| self.text[start..start + offset].to_owned());
                    match chars.next().map(|(_, escaped)| escaped) {
                        Some('n') => text.push('\n'),
                        Some(escaped @ ('"' | '\\')) => text.push(escaped),
                        Some(other) => text.extend(['\\', other]),
                        None => break,
                    }
                }
                c => {
                    if let Some(text) = &mut unescaped {
                        text.push(c);
                    }
                }
            }
        }
        Err((start, "unterminated label value".into()))
    }

    fn expect_end(&self) -> Result<(), Mistake> {
        if self.rest().is_empty() { Ok(()) } else { Err(self.unexpected("expected end of series")) }
    }

    fn unexpected(&self, expected: &str) -> Mistake {
        let got: String = self.rest().chars().take(10).collect();
        (self.at, format!("{expected}, got {}", quote(got.as_bytes())))
    }
}
