//! Followers: who is told what happens to the series of a selector, so that nobody has to look at all of them again to
//! see what is new.
//!
//! A follower gets every sample that was taken and learns that series came or went. What it is told is kept until it
//! asks, up to [`UNREAD_MAX`] samples; after that it only learns that it must read the store again.

use std::collections::BTreeMap;

use super::SeriesId;
use crate::labels::{Labels, METRIC_NAME};
use crate::matcher::Matcher;
use crate::sample::Sample;

/// Samples that wait for a follower at most, 24 bytes each: half a minute of 10,000 series that are scraped every second.
const UNREAD_MAX: usize = 300_000;

/// Who follows; never given to another follower of the same store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerId(u64);

/// What happened to the followed series since the last time.
#[derive(Debug, Default)]
pub struct Changes {
    /// Series were born or evicted: select again.
    pub members_changed: bool,
    /// Something happened that the samples below do not tell: read all series again.
    pub reread: bool,
    /// Samples that were taken, stale markers included, in the order in which they came.
    pub appended: Vec<(SeriesId, Sample)>,
    /// Samples were dropped before their window ended: of some series only those from this time on are left.
    pub kept_from_ms: Option<i64>,
}

impl FollowerId {
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

struct Follower {
    id: FollowerId,
    matchers: Vec<Matcher>,
    changes: Changes,
}

/// Everybody who follows, and which series each series' samples are told to.
#[derive(Default)]
pub(super) struct Followers {
    /// In the order of their ids.
    all: Vec<Follower>,
    /// The ids of those who follow one metric, by its name: a thousand queries do not look at a series of another one.
    by_metric: BTreeMap<String, Vec<u64>>,
    /// The ids of the others.
    of_any_metric: Vec<u64>,
    last_id: u64,
}

/// The followers of one series, by [`FollowerId`].
pub(super) type FollowedBy = Vec<u64>;

impl Followers {
    pub(super) fn add(&mut self, matchers: &[Matcher]) -> FollowerId {
        self.last_id += 1;
        let id = FollowerId(self.last_id);
        let changes = Changes { members_changed: true, reread: true, ..Changes::default() };
        self.all.push(Follower { id, matchers: matchers.to_vec(), changes });
        self.of_same_metric(matchers).push(id.0);
        id
    }

    pub(super) fn remove(&mut self, id: FollowerId) {
        let Some(at) = self.place(id.0) else { return };
        let Follower { matchers, .. } = self.all.remove(at);
        self.of_same_metric(&matchers).retain(|other| *other != id.0);
        self.by_metric.retain(|_, ids| !ids.is_empty());
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Those who follow a series with these labels; each is told that it was born.
    pub(super) fn of_new_series(&mut self, labels: &Labels) -> FollowedBy {
        let of_metric = self.by_metric.get(labels.get(METRIC_NAME)).into_iter().flatten();
        let mut followed_by: FollowedBy = of_metric.chain(&self.of_any_metric).copied().collect();
        followed_by.sort_unstable();
        followed_by.retain(|id| {
            let Some(follower) = self.place(*id).map(|at| &mut self.all[at]) else { return false };
            let matches = follower.matchers.iter().all(|matcher| matcher.matches_labels(labels));
            follower.changes.members_changed |= matches;
            matches
        });
        followed_by
    }

    /// Where the ids of those stand who follow the same metric as a selector.
    fn of_same_metric(&mut self, matchers: &[Matcher]) -> &mut Vec<u64> {
        let named = matchers.iter().filter(|matcher| matcher.is_metric_name());
        match named.filter_map(Matcher::equal_value).next() {
            Some(name) => self.by_metric.entry(name.to_owned()).or_default(),
            None => &mut self.of_any_metric,
        }
    }

    fn place(&self, id: u64) -> Option<usize> {
        self.all.binary_search_by_key(&id, |follower| follower.id.0).ok()
    }

    pub(super) fn tell_appended(&mut self, followed_by: &[u64], id: SeriesId, sample: Sample) {
        self.tell(followed_by, |changes| {
            if changes.appended.len() < UNREAD_MAX {
                changes.appended.push((id, sample));
            } else {
                changes.reread = true;
            }
        });
    }

    pub(super) fn tell_dropped(&mut self, followed_by: &[u64], kept_from_ms: Option<i64>) {
        self.tell(followed_by, |changes| changes.kept_from_ms = changes.kept_from_ms.max(kept_from_ms));
    }

    pub(super) fn tell_gone(&mut self, followed_by: &[u64]) {
        self.tell(followed_by, |changes| changes.members_changed = true);
    }

    pub(super) fn tell_reread(&mut self, followed_by: &[u64]) {
        self.tell(followed_by, |changes| changes.reread = true);
    }

    fn tell(&mut self, followed_by: &[u64], mut what: impl FnMut(&mut Changes)) {
        for id in followed_by {
            // A follower that left is not found.
            if let Some(at) = self.place(*id) {
                what(&mut self.all[at].changes);
            }
        }
    }

    /// Hands over what is new, and takes the old buffer back to fill it again. `false` if nobody has that id.
    pub(super) fn take(&mut self, id: FollowerId, changes: &mut Changes) -> bool {
        let Some(follower) = self.place(id.0).map(|at| &mut self.all[at]) else { return false };
        std::mem::swap(&mut follower.changes, changes);
        follower.changes.members_changed = false;
        follower.changes.reread = false;
        follower.changes.kept_from_ms = None;
        follower.changes.appended.clear();
        true
    }
}
