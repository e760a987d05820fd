//! What a line with a sample says, and what its family's type means for it.

use crate::labels::BUCKET_LABEL;

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

/// An exemplar's value and own time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// The value.
    pub value: f64,
    /// Its time, where it has one.
    pub timestamp_ms: Option<i64>,
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
