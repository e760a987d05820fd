//! Followers: who is told what happens to the series of a selector, so that nobody has to look at all of them again to
//! see what is new.
//!
//! A follower gets every sample that was taken and learns that series came or went. What it is told is kept until it
//! asks, up to [`UNREAD_MAX`] samples; after that it only learns that it must read the store again.

use super::SeriesId;
use crate::labels::Labels;
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
    all: Vec<Follower>,
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
        id
    }

    pub(super) fn remove(&mut self, id: FollowerId) {
        self.all.retain(|follower| follower.id != id);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Those who follow a series with these labels; each is told that it was born.
    pub(super) fn of_new_series(&mut self, labels: &Labels) -> FollowedBy {
        let mut followed_by = FollowedBy::new();
        for follower in &mut self.all {
            if follower.matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                follower.changes.members_changed = true;
                followed_by.push(follower.id.0);
            }
        }
        followed_by
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
            // Ids rise, so the list is sorted; a follower that left is not found.
            if let Ok(at) = self.all.binary_search_by_key(id, |follower| follower.id.0) {
                what(&mut self.all[at].changes);
            }
        }
    }

    /// Hands over what is new, and takes the old buffer back to fill it again. `false` if nobody has that id.
    pub(super) fn take(&mut self, id: FollowerId, changes: &mut Changes) -> bool {
        let Some(follower) = self.all.iter_mut().find(|follower| follower.id == id) else { return false };
        std::mem::swap(&mut follower.changes, changes);
        follower.changes.members_changed = false;
        follower.changes.reread = false;
        follower.changes.kept_from_ms = None;
        follower.changes.appended.clear();
        true
    }
}
