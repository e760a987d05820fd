//! A sample line, and how the places of its labels on the page become labels.

use std::borrow::Cow;

use super::number::is_canonical;
use super::parser::{Exemplar, Mistake};
use super::{LABELS_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::labels::{BUCKET_LABEL, Labels, METRIC_NAME};
use crate::text::{format_open_metrics, parse_value, quote};

/// A sample as it stands on a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesLine<'a> {
    /// Name and labels as written; what a target remembers a series by.
    pub text: &'a str,
    /// The value.
    pub value: f64,
    /// The sample's own time, where the target gives one.
    pub timestamp_ms: Option<i64>,
    /// The exemplar (OpenMetrics).
    pub exemplar: Option<Exemplar>,
}

/// What a family's type means for its labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FamilyKind {
    Histogram,
    Summary,
    #[default]
    Other,
}

impl FamilyKind {
    pub(crate) fn of(kind: &str) -> FamilyKind {
        match kind {
            "histogram" => FamilyKind::Histogram,
            "summary" => FamilyKind::Summary,
            _ => FamilyKind::Other,
        }
    }

    /// The label whose values are numbers and get one spelling.
    pub(crate) fn number_label(self) -> Option<&'static str> {
        match self {
            FamilyKind::Histogram => Some(BUCKET_LABEL),
            FamilyKind::Summary => Some("quantile"),
            FamilyKind::Other => None,
        }
    }
}

/// Start and end of a part of the page.
type Span = (usize, usize);

/// Where a sample's name and labels stand.
#[derive(Default)]
pub(super) struct Pairs {
    name: Option<Span>,
    labels: Vec<(Span, Span)>,
}

impl Pairs {
    pub(super) fn clear(&mut self) {
        self.name = None;
        self.labels.clear();
    }

    pub(super) fn set_name(&mut self, start: usize, end: usize) {
        self.name = Some((start, end));
    }

    pub(super) fn has_name(&self) -> bool {
        self.name.is_some()
    }

    pub(super) fn push(&mut self, name: Span, value: Span) {
        self.labels.push((name, value));
    }

    /// The labels; mistakes are places on the page.
    pub(super) fn labels(&self, page: &str, kind: FamilyKind) -> Result<Labels, Mistake> {
        let start = self.name.or(self.labels.first().map(|label| label.0)).map_or(0, |span| span.0);
        if self.labels.len() > LABELS_MAX {
            return Err((start, format!("more than {LABELS_MAX} labels")));
        }
        let number_label = kind.number_label();
        let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(self.labels.len() + 1);
        if let Some(name) = self.name {
            let name = part(page, name, NAME_BYTES_MAX, "metric name")?;
            if name.is_empty() {
                return Err((start, "metric name is empty".into()));
            }
            pairs.push((METRIC_NAME.into(), name));
        }
        for (name_span, value_span) in &self.labels {
            let name = part(page, *name_span, NAME_BYTES_MAX, "label name")?;
            if name.is_empty() {
                return Err((name_span.0, "label name is empty".into()));
            }
            let mut value = part(page, *value_span, VALUE_BYTES_MAX, "label value")?;
            if number_label == Some(&*name)
                && !is_canonical(&value)
                && let Some(number) = parse_value(&value)
            {
                value = format_open_metrics(number).into();
            }
            pairs.push((name, value));
        }
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(twice) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err((start, format!("label name {} is not unique", quote(twice[0].0.as_bytes()))));
        }
        Ok(Labels::from_sorted(pairs.iter().map(|(name, value)| (&**name, &**value))))
    }
}

/// A part of the page without its escapes.
fn part<'a>(page: &'a str, span: Span, bytes_max: usize, what: &str) -> Result<Cow<'a, str>, Mistake> {
    let text = &page[span.0..span.1];
    if text.len() > bytes_max {
        return Err((span.0, format!("{what} has {} bytes, more than {bytes_max}", text.len())));
    }
    Ok(if text.contains('\\') { unescape(text).into() } else { text.into() })
}

/// The escapes `\\`, `\"` and `\n`; any other backslash stands for itself.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some(escaped @ ('"' | '\\')) => plain.push(escaped),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}
