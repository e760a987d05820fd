//! Where a query reads: a store that is its own, or one that others write while it runs.
//!
//! In the second case everything that its selectors find is taken before it begins ([`Snapshot`]), so the query sees one state
//! of the store and nobody waits for it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::ast::Expr;
use super::error::QueryError;
use super::info;
use super::stop::Stop;
use crate::matcher::Matcher;
use crate::store::{self, Lend, SeriesHandle, Store, TooManySeries};

/// Series that a query may select, over all its selectors that differ: ten times what a store holds by default, 60 MB.
pub const SELECTED_SERIES_MAX: usize = 2_500_000;

/// Where a query reads.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A store that does not change while the query runs.
    Store(&'a Store),
    /// A store that is lent for short times.
    Lent(&'a dyn Lend),
}

impl<'a> From<&'a Store> for Source<'a> {
    fn from(store: &'a Store) -> Source<'a> {
        Source::Store(store)
    }
}

impl<'a> From<&'a Mutex<Store>> for Source<'a> {
    fn from(store: &'a Mutex<Store>) -> Source<'a> {
        Source::Lent(store)
    }
}

impl<'a> From<&'a dyn Lend> for Source<'a> {
    fn from(store: &'a dyn Lend) -> Source<'a> {
        Source::Lent(store)
    }
}

/// What an evaluator reads.
pub(super) enum Reader<'a> {
    Store(&'a Store),
    Snapshot(Snapshot<'a>),
}

/// What the selectors of a query have found, all at one moment.
pub(super) struct Snapshot<'a> {
    lend: &'a dyn Lend,
    stop: Stop,
    selected: HashMap<Vec<Matcher>, Vec<SeriesHandle>>,
    has_metadata_labels: bool,
}

impl From<TooManySeries> for QueryError {
    fn from(_: TooManySeries) -> QueryError {
        QueryError::Execution(format!(
            "query selects more than {SELECTED_SERIES_MAX} series over all its selectors; make them select fewer"
        ))
    }
}

impl<'a> Reader<'a> {
    /// What a query finds.
    pub(super) fn of(source: Source<'a>, expr: &Expr, stop: &Stop) -> Result<Reader<'a>, QueryError> {
        let lend = match source {
            Source::Store(store) => return Ok(Reader::Store(store)),
            Source::Lent(lend) => lend,
        };
        #[allow(
            clippy::mutable_key_type,
            reason = "a matcher is compared by its text; what a pattern compiles to is not part of the key"
        )]
        let mut wanted: HashSet<Vec<Matcher>> = HashSet::new();
        for (selector, _) in expr.selectors() {
            wanted.insert(selector.matchers.clone());
        }
        wanted.extend(info::selections(expr));
        let wanted: Vec<Vec<Matcher>> = wanted.into_iter().collect();
        let mut snapshot =
            Snapshot { lend, stop: stop.clone(), selected: HashMap::new(), has_metadata_labels: false };
        let selections: Vec<&[Matcher]> = wanted.iter().map(Vec::as_slice).collect();
        let found = snapshot.take(&selections)?;
        snapshot.selected = wanted.into_iter().zip(found).collect();
        Ok(Reader::Snapshot(snapshot))
    }

    /// The series that satisfy all matchers, in the order in which they came into the store.
    pub(super) fn select(&self, matchers: &[Matcher]) -> Result<Cow<'_, [SeriesHandle]>, QueryError> {
        Ok(match self {
            Reader::Store(store) => Cow::Owned(store.select_handles(matchers)),
            Reader::Snapshot(snapshot) => match snapshot.selected.get(matchers) {
                Some(found) => Cow::Borrowed(found),
                None => {
                    let still_wanted = || snapshot.stop.check();
                    let found =
                        store::select(snapshot.lend, &[matchers], SELECTED_SERIES_MAX, &still_wanted)?;
                    Cow::Owned(found.into_iter().next().unwrap_or_default())
                }
            },
        })
    }

    /// Whether series may differ in what goes with the metric's name, other than the name.
    pub(super) fn has_metadata_labels(&self) -> bool {
        match self {
            Reader::Store(store) => has_metadata_labels(store),
            Reader::Snapshot(snapshot) => snapshot.has_metadata_labels,
        }
    }

    /// The values of a label, sorted.
    pub(super) fn label_values(&self, name: &str) -> Vec<Arc<str>> {
        match self {
            Reader::Store(store) => store::label_values(*store, name),
            Reader::Snapshot(snapshot) => store::label_values(snapshot.lend, name),
        }
    }
}

/// The series that each of the selections matches, one selection after the other; some may be there twice.
///
/// # Errors
/// They are too many, or the question was stopped.
pub fn select<'a>(
    source: impl Into<Source<'a>>,
    selections: &[Vec<Matcher>],
    stop: &Stop,
) -> Result<Vec<SeriesHandle>, QueryError> {
    let selections: Vec<&[Matcher]> = selections.iter().map(Vec::as_slice).collect();
    let found = match source.into() {
        Source::Store(store) => store::select(store, &selections, SELECTED_SERIES_MAX, &|| stop.check()),
        Source::Lent(lend) => store::select(lend, &selections, SELECTED_SERIES_MAX, &|| stop.check()),
    };
    Ok(found?.into_iter().flatten().collect())
}

impl Snapshot<'_> {
    fn take(&mut self, selections: &[&[Matcher]]) -> Result<Vec<Vec<SeriesHandle>>, QueryError> {
        let found = store::select(self.lend, selections, SELECTED_SERIES_MAX, &|| self.stop.check())?;
        let mut has_metadata_labels = false;
        self.lend.lend(&mut |store| has_metadata_labels = self::has_metadata_labels(store));
        self.has_metadata_labels = has_metadata_labels;
        Ok(found)
    }
}

fn has_metadata_labels(store: &Store) -> bool {
    store.has_label("__type__") || store.has_label("__unit__")
}
