//! Pages: series that are scraped together, whose unchanged values are not written one by one.
//!
//! Most of what a target answers is what it answered before. A series whose value stays the same is a member of its
//! page: the page keeps the times of its scrapes once for all members, and a member keeps from which of them on it has repeated its newest
//! value. So a scrape that finds nothing new costs one timestamp. What a member has repeated is written out before anything
//! else happens to it: another value, another writer, its end, a follower, a file. Readers see no difference.

use std::sync::Arc;

use super::{Rejected, Room, Sample, SeriesId, Slot, Store};

/// A page that has so many times is written out by the next eviction.
const WRITTEN_FROM: usize = 240;
/// Times of a page at most, if nobody evicts.
const TIMES_MAX: usize = 480;
/// The page of a series that is a member of none.
const NO_PAGE: u32 = u32::MAX;

/// A page of one [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageId(u32);

#[derive(Default)]
struct Page {
    /// Shared with readers.
    times_ms: Arc<Vec<i64>>,
    /// The time of the last scrape, also when it is written out.
    newest_ms: Option<i64>,
    members: usize,
    /// Those that have their sample of the scrape that goes on.
    joined: usize,
    round_ms: Option<i64>,
}

/// All pages.
#[derive(Default)]
pub(super) struct Pages {
    all: Vec<Page>,
    free: Vec<u32>,
}

/// Of which page a series is a member, and from which of the page's times on it has repeated its newest value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    page: u32,
    from: u32,
}

impl Default for Membership {
    fn default() -> Self {
        Membership { page: NO_PAGE, from: 0 }
    }
}

impl Membership {
    pub(super) fn is_member(self) -> bool {
        self.page != NO_PAGE
    }
}

/// The times at which a series has repeated its newest value, as a reader keeps them.
#[derive(Clone, Default)]
pub(super) struct Repeated {
    times_ms: Option<Arc<Vec<i64>>>,
    from: usize,
}

impl Repeated {
    pub(super) fn times_ms(&self) -> &[i64] {
        self.times_ms.as_ref().and_then(|times_ms| times_ms.get(self.from..)).unwrap_or_default()
    }
}

impl Pages {
    /// The times at which a series has repeated its newest value since that was written.
    pub(super) fn repeated(&self, membership: Membership) -> &[i64] {
        let page = self.all.get(membership.page as usize);
        page.and_then(|page| page.times_ms.get(membership.from as usize..)).unwrap_or_default()
    }

    /// The same, for who reads on when the store has changed.
    pub(super) fn repeated_shared(&self, membership: Membership) -> Repeated {
        let page = self.all.get(membership.page as usize);
        Repeated { times_ms: page.map(|page| Arc::clone(&page.times_ms)), from: membership.from as usize }
    }

    /// Writes out what a series has repeated; it stays a member.
    pub(super) fn write_out(&self, slot: &mut Slot, room: &mut Room) {
        let repeated = self.repeated(slot.membership);
        if let Some(series) = slot.series.as_mut().filter(|_| !repeated.is_empty()) {
            Arc::make_mut(series).repeat(repeated, room);
            slot.membership.from += repeated.len() as u32;
        }
    }

    /// Writes out what a series has repeated, and takes it out of its page.
    pub(super) fn leave(&mut self, slot: &mut Slot, room: &mut Room) {
        self.write_out(slot, room);
        let membership = std::mem::take(&mut slot.membership);
        if let Some(page) = self.all.get_mut(membership.page as usize) {
            page.members -= 1;
            page.joined -= usize::from(membership.from as usize > page.times_ms.len());
        }
    }

    /// Before an eviction looks at a series: long runs are written out, and such as are about to be forgotten.
    pub(super) fn write_out_old(&self, slot: &mut Slot, cutoff_ms: i64, room: &mut Room) {
        let Some(page) = self.all.get(slot.membership.page as usize) else { return };
        let newest_ms = slot.series.as_ref().and_then(|series| series.newest_ms());
        if page.is_long() || newest_ms < Some(cutoff_ms) {
            self.write_out(slot, room);
        }
        if page.is_long() {
            slot.membership.from = 0;
        }
    }

    /// Forgets the times of the long pages, after all their members were written out.
    pub(super) fn forget_written(&mut self) {
        self.all.iter_mut().filter(|page| page.is_long()).for_each(|page| page.times_ms = Arc::default());
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let times: usize = self.all.iter().map(|page| page.times_ms.capacity() * size_of::<i64>()).sum();
        times + self.all.capacity() * size_of::<Page>()
    }
}

impl Page {
    fn is_long(&self) -> bool {
        self.times_ms.len() >= WRITTEN_FROM
    }
}

impl Store {
    /// A page without members.
    pub(crate) fn open_page(&mut self) -> PageId {
        PageId(self.pages.free.pop().unwrap_or_else(|| {
            self.pages.all.push(Page::default());
            // There are fewer targets than 2³².
            u32::try_from(self.pages.all.len() - 1).unwrap_or(NO_PAGE)
        }))
    }

    /// Ends a page whose members have all left or ended.
    pub(crate) fn close_page(&mut self, id: PageId) {
        if let Some(page) = self.pages.all.get_mut(id.0 as usize).filter(|page| page.members == 0) {
            *page = Page::default();
            self.pages.free.push(id.0);
        }
    }

    /// Takes a series out of its page.
    pub(crate) fn leave_page(&mut self, id: SeriesId) {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation);
        if let Some(slot) = slot {
            self.pages.leave(slot, &mut self.room);
        }
    }

    /// How many series are members. The store takes some out: then the page asks for all again.
    pub(crate) fn page_members(&self, id: PageId) -> usize {
        self.pages.all.get(id.0 as usize).map_or(0, |page| page.members)
    }

    /// Begins a scrape: until [`Store::end_round`], what happens to a member happens instead of the repetition of its
    /// value. `false`: at this time nothing can be repeated, and all values are to be appended one by one.
    pub(crate) fn begin_round(&mut self, id: PageId, at_ms: i64) -> bool {
        let old = self.cutoff_ms.is_some_and(|cutoff_ms| at_ms < cutoff_ms);
        let Some(page) = self.pages.all.get_mut(id.0 as usize) else { return false };
        let fits = !old && page.newest_ms < Some(at_ms) && page.times_ms.len() < TIMES_MAX;
        page.round_ms = fits.then_some(at_ms);
        fits
    }

    /// Appends a float like [`Store::append`]. Tells whether the series is a member of the page from now on.
    pub(crate) fn append_to_page(
        &mut self,
        id: SeriesId,
        sample: Sample,
        page: PageId,
    ) -> Result<bool, Rejected> {
        self.append(id, sample)?;
        let slot = self.slots.get_mut(id.slot as usize);
        let Some(Slot { series: Some(_), membership, followed_by, .. }) = slot else { return Ok(false) };
        let Some(open) = self.pages.all.get_mut(page.0 as usize) else { return Ok(false) };
        // Followers are told of every sample.
        if open.round_ms != Some(sample.timestamp_ms) || !followed_by.is_empty() {
            return Ok(false);
        }
        // The time of this scrape comes last, and this sample is written already.
        *membership = Membership { page: page.0, from: open.times_ms.len() as u32 + 1 };
        (open.members, open.joined) = (open.members + 1, open.joined + 1);
        Ok(true)
    }

    /// Ends a scrape: all members that nothing happened to have repeated their values.
    pub(crate) fn end_round(&mut self, id: PageId) {
        let Some(page) = self.pages.all.get_mut(id.0 as usize) else { return };
        let Some(at_ms) = page.round_ms.take() else { return };
        self.samples += page.members - std::mem::take(&mut page.joined);
        Arc::make_mut(&mut page.times_ms).push(at_ms);
        page.newest_ms = Some(at_ms);
    }
}
