//! The series of one selector, in the order in which the store selects them, kept up to date by what the store tells.

use std::collections::BTreeMap;

use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::sample::Sample;
use crate::store::{Changes, FollowerId, SeriesId, Store};

/// The labels by which a scraped target is known.
const SOURCE_LABELS: [&str; 2] = ["job", "instance"];
/// No row belongs to a series.
const NO_ROW: u32 = u32::MAX;

/// The series of a selector. Each has a row, which stays its own while it lives; `order` lists the rows as the store
/// selects their series.
#[derive(Debug)]
pub(super) struct Members {
    matchers: Vec<Matcher>,
    follower: Option<FollowerId>,
    changes: Changes,
    rows: Vec<Member>,
    /// How far each series has come, by its row: what every sample needs, and nothing else.
    heads: Vec<Head>,
    free: Vec<u32>,
    order: Vec<u32>,
    rows_by_place: Rows,
    sources: Vec<Labels>,
}

/// The row of each series, by its place in the store, from the first one's place to the last one's: a query of one series
/// holds one row, wherever in a large store that is.
#[derive(Debug, Default)]
struct Rows {
    first: usize,
    rows: Vec<u32>,
}

impl Rows {
    /// Room for the rows of series at these places.
    fn between(places: impl Iterator<Item = usize> + Clone) -> Rows {
        let first = places.clone().min().unwrap_or(0);
        let count = places.max().map_or(0, |last| last + 1 - first);
        Rows { first, rows: vec![NO_ROW; count] }
    }

    fn get(&self, place: usize) -> Option<u32> {
        let row = *self.rows.get(place.checked_sub(self.first)?)?;
        (row != NO_ROW).then_some(row)
    }

    /// The place is one of those that there is room for.
    fn set(&mut self, place: usize, row: u32) {
        self.rows[place - self.first] = row;
    }
}

#[derive(Clone, Debug)]
struct Member {
    id: SeriesId,
    labels: Labels,
    source: u32,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    newest_ms: i64,
    ended: bool,
}

/// What is new about the members; the rows that are told are to be read from the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// The order has changed.
    pub(super) reordered: bool,
    /// Rows of series that were not there before.
    pub(super) born: Vec<u32>,
    /// All rows are to be read again.
    pub(super) reread: bool,
    /// Samples before this may be gone.
    pub(super) kept_from_ms: Option<i64>,
}

impl Members {
    pub(super) fn of(matchers: &[Matcher]) -> Members {
        Members {
            matchers: matchers.to_vec(),
            follower: None,
            changes: Changes::default(),
            rows: Vec::new(),
            heads: Vec::new(),
            free: Vec::new(),
            order: Vec::new(),
            rows_by_place: Rows::default(),
            sources: Vec::new(),
        }
    }

    /// Takes in what happened; `appended` gets each new sample of a row that is not to be read again.
    pub(super) fn catch_up(&mut self, store: &mut Store, mut appended: impl FnMut(u32, Sample)) -> News {
        let follower = *self.follower.get_or_insert_with(|| store.follow(&self.matchers));
        if !store.take_changes(follower, &mut self.changes) {
            // Another store than before.
            let follower = *self.follower.insert(store.follow(&self.matchers));
            store.take_changes(follower, &mut self.changes);
            (self.rows, self.heads, self.free, self.order, self.rows_by_place) = Default::default();
        }
        let reread = self.changes.reread;
        let born = if self.changes.members_changed || reread { self.select(store) } else { Vec::new() };
        let reordered = self.changes.members_changed || reread;
        if reread {
            self.refresh(store);
        } else {
            self.take_appended(&mut appended);
        }
        News { reordered, born, reread, kept_from_ms: self.changes.kept_from_ms }
    }

    fn take_appended(&mut self, appended: &mut impl FnMut(u32, Sample)) {
        for (id, sample) in &self.changes.appended {
            let Some(row) = self.rows_by_place.get(id.place()) else { continue };
            // A place of the store changes hands only when the members change.
            if self.changes.members_changed && self.rows[row as usize].id != *id {
                continue;
            }
            let head = &mut self.heads[row as usize];
            // A series that was born meanwhile has been read with this sample in it.
            if sample.timestamp_ms > head.newest_ms {
                *head = Head { newest_ms: sample.timestamp_ms, ended: sample.is_stale_marker() };
                appended(row, *sample);
            }
        }
    }

    /// Selects anew; returns the rows of series that were not there.
    fn select(&mut self, store: &Store) -> Vec<u32> {
        let ids = store.select_ids(&self.matchers);
        let mut kept = vec![false; self.rows.len()];
        let known: Vec<Option<u32>> = ids
            .iter()
            .map(|id| {
                let row = self.rows_by_place.get(id.place())?;
                let same = self.rows[row as usize].id == *id;
                kept[row as usize] |= same;
                same.then_some(row)
            })
            .collect();
        let in_use: Vec<u32> = self.order.clone();
        self.free.extend(in_use.into_iter().filter(|row| !kept[*row as usize]));
        self.rows_by_place = Rows::between(ids.iter().map(|id| id.place()));
        self.order.clear();
        let mut born = Vec::new();
        for (id, known) in ids.into_iter().zip(known) {
            let row = known.unwrap_or_else(|| {
                let row = self.add(store, id);
                born.push(row);
                row
            });
            self.rows_by_place.set(id.place(), row);
            self.order.push(row);
        }
        self.name_sources();
        born
    }

    fn add(&mut self, store: &Store, id: SeriesId) -> u32 {
        let labels = store.series(id).map(|series| series.labels().clone()).unwrap_or_default();
        let (member, head) = (Member { id, labels, source: 0 }, Head::of(store, id));
        match self.free.pop() {
            Some(row) => {
                self.rows[row as usize] = member;
                self.heads[row as usize] = head;
                row
            }
            None => {
                self.rows.push(member);
                self.heads.push(head);
                // A store has fewer series than 2³².
                u32::try_from(self.rows.len() - 1).unwrap_or(NO_ROW)
            }
        }
    }

    fn refresh(&mut self, store: &Store) {
        for row in &self.order {
            self.heads[*row as usize] = Head::of(store, self.rows[*row as usize].id);
        }
    }

    fn name_sources(&mut self) {
        let mut known: BTreeMap<Labels, u32> = BTreeMap::new();
        self.sources.clear();
        for row in &self.order {
            let member = &mut self.rows[*row as usize];
            let labels = member.labels.keep(&SOURCE_LABELS);
            member.source = *known.entry(labels).or_insert_with_key(|labels| {
                self.sources.push(labels.clone());
                u32::try_from(self.sources.len() - 1).unwrap_or(NO_ROW)
            });
        }
    }

    /// The rows in the order of the store's selection.
    pub(super) fn order(&self) -> &[u32] {
        &self.order
    }

    /// One more than the largest row.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn id(&self, row: u32) -> SeriesId {
        self.rows[row as usize].id
    }

    pub(super) fn labels(&self, row: u32) -> &Labels {
        &self.rows[row as usize].labels
    }

    /// The targets of the series that have not ended, with the time of their newest sample.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&Labels, i64)> {
        let mut newest = vec![None; self.sources.len()];
        for row in self.order.iter().filter(|row| !self.heads[**row as usize].ended) {
            let newest: &mut Option<i64> = &mut newest[self.rows[*row as usize].source as usize];
            *newest = (*newest).max(Some(self.heads[*row as usize].newest_ms));
        }
        self.sources.iter().zip(newest).filter_map(|(labels, newest)| Some((labels, newest?)))
    }

    /// Ends the following.
    pub(super) fn leave(&mut self, store: &mut Store) {
        if let Some(follower) = self.follower.take() {
            store.unfollow(follower);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.capacity() * (size_of::<Member>() + size_of::<Head>())
            + (self.order.capacity() + self.rows_by_place.rows.capacity()) * size_of::<u32>()
            + self.changes.appended.capacity() * size_of::<(SeriesId, Sample)>()
    }
}

impl Head {
    /// How far a series of the store has come.
    fn of(store: &Store, id: SeriesId) -> Head {
        let series = store.series(id);
        let alive_ms = series.and_then(|series| series.alive_ms());
        let newest_ms =
            alive_ms.or(series.and_then(|series| series.newest()).map(|sample| sample.timestamp_ms));
        Head { newest_ms: newest_ms.unwrap_or(i64::MIN), ended: alive_ms.is_none() }
    }
}
