//! Reading the store while others write it.
//!
//! Who asks a question must not keep the store from those who append and decide. So a question takes [`SeriesHandle`]s of the
//! series that it selects, in short turns ([`Lend`]), and reads them on its own: a series that changes meanwhile is copied by
//! whoever changes it. What costs time, which is patterns and samples, happens between the turns or after them. A turn hands out
//! [`SERIES_PER_TURN`] series at most; a question about fewer sees all of them at one moment.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::index::Plan;
use super::pages::Repeated;
use super::select::SeriesRef;
use super::series::Series;
use super::{Slot, Store};
use crate::labels::Labels;
use crate::matcher::Matcher;

/// Series, or values of a label, that one turn looks at: a millisecond or two.
pub(crate) const SERIES_PER_TURN: usize = 20_000;
/// What one selector costs in a turn beside its series.
const SELECTOR_COST: usize = 10;
/// Series that are tested against a selector's matchers between two looks at whether the question still stands.
const TESTED_AT_ONCE: usize = 100;

/// Lends the store for a short time, as a lock does. Nobody appends meanwhile, so `read` must not take long.
pub trait Lend: Sync {
    /// Calls `read` once.
    fn lend(&self, read: &mut (dyn FnMut(&Store) + Send));
}

impl Lend for Store {
    fn lend(&self, read: &mut (dyn FnMut(&Store) + Send)) {
        read(self);
    }
}

impl Lend for Mutex<Store> {
    fn lend(&self, read: &mut (dyn FnMut(&Store) + Send)) {
        read(&self.lock());
    }
}

/// A series as it was when the handle was taken.
#[derive(Clone)]
pub struct SeriesHandle {
    series: Arc<Series>,
    repeated: Repeated,
}

impl SeriesHandle {
    /// The series to read from.
    pub fn read(&self) -> SeriesRef<'_> {
        SeriesRef::new(&self.series, self.repeated.times_ms())
    }

    /// The labels, name included.
    pub fn labels(&self) -> &Labels {
        &self.series.labels
    }
}

/// More series were selected than the limit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManySeries;

/// A selection that is being made.
struct Selecting<'m> {
    matchers: &'m [Matcher],
    plan: Option<Plan>,
    /// Where the next turn goes on: a slot, or a place among the plan's slots.
    next: usize,
    done: bool,
    found: Vec<SeriesHandle>,
    /// Those before this satisfy the matchers.
    tested: usize,
}

/// The series of each selection, in the order of [`Store::select`]. `go_on` is asked now and then whether the question still
/// stands.
pub(crate) fn select<E: From<TooManySeries>>(
    store: &dyn Lend,
    selections: &[&[Matcher]],
    series_max: usize,
    go_on: &dyn Fn() -> Result<(), E>,
) -> Result<Vec<Vec<SeriesHandle>>, E> {
    let mut all: Vec<Selecting<'_>> = selections.iter().map(|matchers| Selecting::of(matchers)).collect();
    plan(store, &mut all, go_on)?;
    let mut first = 0;
    while first < all.len() {
        store.lend(&mut |store| take_turn(store, &mut all[first..]));
        for selecting in &mut all[first..] {
            selecting.test(go_on)?;
            first += usize::from(selecting.done);
            if !selecting.done {
                break;
            }
        }
        if all.iter().map(|selecting| selecting.found.len()).sum::<usize>() > series_max {
            return Err(TooManySeries.into());
        }
    }
    Ok(all.into_iter().map(|selecting| selecting.found).collect())
}

/// Decides where each selection looks. Where that is a matter of a label's values, they are tested between two turns.
fn plan<E>(store: &dyn Lend, all: &mut [Selecting<'_>], go_on: &dyn Fn() -> Result<(), E>) -> Result<(), E> {
    // Many selectors of a query look at the same label.
    let mut values: HashMap<&str, Vec<Arc<str>>> = HashMap::new();
    for some in all.chunks_mut(SERIES_PER_TURN / SELECTOR_COST) {
        let mut places = vec![None; some.len()];
        store.lend(&mut |store| {
            for (selecting, place) in some.iter_mut().zip(&mut places) {
                (selecting.plan, *place) = store.index.plan(selecting.matchers);
            }
        });
        for (selecting, place) in some.iter_mut().zip(places) {
            let Some(matcher) = place.and_then(|place: usize| selecting.matchers.get(place)) else {
                continue;
            };
            let all = values.entry(matcher.name()).or_insert_with(|| label_values(store, matcher.name()));
            let mut matching = Vec::new();
            for some in all.chunks(TESTED_AT_ONCE) {
                go_on()?;
                matching.extend(some.iter().filter(|value| matcher.matches(value)).cloned());
            }
            selecting.plan = Some(Plan::Values(matcher.name().to_owned(), matching));
        }
    }
    Ok(())
}

/// The values of a label, sorted.
pub(crate) fn label_values(store: &dyn Lend, name: &str) -> Vec<Arc<str>> {
    let mut values: Vec<Arc<str>> = Vec::new();
    loop {
        let before = values.len();
        store.lend(&mut |store| {
            let after = values.last().cloned();
            values.extend(store.index.values_after(name, after.as_deref()).take(SERIES_PER_TURN).cloned());
        });
        if values.len() < before + SERIES_PER_TURN {
            return values;
        }
    }
}

fn take_turn(store: &Store, all: &mut [Selecting<'_>]) {
    let mut left = SERIES_PER_TURN;
    for selecting in all {
        let before = selecting.found.len();
        selecting.take(store, left);
        left = left.saturating_sub(selecting.found.len() - before + SELECTOR_COST);
        if left == 0 {
            return;
        }
    }
}

impl<'m> Selecting<'m> {
    fn of(matchers: &'m [Matcher]) -> Selecting<'m> {
        Selecting { matchers, plan: None, next: 0, done: false, found: Vec::new(), tested: 0 }
    }

    /// Takes up to `count` series that may be selected.
    fn take(&mut self, store: &Store, count: usize) {
        if let Some(Plan::Values(name, values)) = &self.plan {
            self.plan = Some(Plan::Slots(store.index.slots_of(name, values)));
        }
        let (next, end) = (self.next, self.next.saturating_add(count));
        let handle = |slot: &Slot| store.handle(slot);
        let last = match &self.plan {
            Some(Plan::List(name, value)) => {
                let list = store.index.slots_from(name, value, next);
                let slots = &list[..list.len().min(count)];
                self.found.extend(slots.iter().filter_map(|slot| handle(store.slots.get(*slot as usize)?)));
                self.next = slots.last().map_or(next, |last| *last as usize + 1);
                slots.len() == list.len()
            }
            Some(Plan::Slots(slots)) => {
                let some = slots.get(next..end.min(slots.len())).unwrap_or_default();
                self.found.extend(some.iter().filter_map(|slot| handle(store.slots.get(*slot as usize)?)));
                self.next = end;
                end >= slots.len()
            }
            _ => {
                let some = store.slots.get(next..end.min(store.slots.len())).unwrap_or_default();
                self.found.extend(some.iter().filter_map(handle));
                self.next = end;
                end >= store.slots.len()
            }
        };
        self.done = last;
    }

    /// Leaves those that satisfy the matchers.
    fn test<E>(&mut self, go_on: &dyn Fn() -> Result<(), E>) -> Result<(), E> {
        let new = self.found.split_off(self.tested);
        for some in new.chunks(TESTED_AT_ONCE) {
            go_on()?;
            let selected = |handle: &&SeriesHandle| {
                self.matchers.iter().all(|matcher| matcher.matches_labels(handle.labels()))
            };
            self.found.extend(some.iter().filter(selected).cloned());
        }
        self.tested = self.found.len();
        Ok(())
    }
}

impl Store {
    /// The series that satisfy all matchers, in the order in which they came into the store, to be read when others have
    /// the store again.
    pub fn select_handles(&self, matchers: &[Matcher]) -> Vec<SeriesHandle> {
        self.selected(matchers).filter_map(|(_, slot)| self.handle(slot)).collect()
    }

    fn handle(&self, slot: &Slot) -> Option<SeriesHandle> {
        let series = Arc::clone(slot.series.as_ref()?);
        Some(SeriesHandle { series, repeated: self.pages.repeated_shared(slot.membership) })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::exposition::Format;
    use crate::matcher::MatchOp;
    use crate::sample::Sample;
    use crate::store::StoreOptions;
    use crate::target::{Target, TargetOptions};

    struct Counted<'a>(&'a Store, std::sync::atomic::AtomicUsize);

    impl Lend for Counted<'_> {
        fn lend(&self, read: &mut (dyn FnMut(&Store) + Send)) {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            read(self.0);
        }
    }

    /// Times and values, whose bits tell a stale marker.
    type Samples = Vec<(i64, u64)>;

    fn all(handles: &[SeriesHandle]) -> Vec<(String, Samples)> {
        let read = |handle: &SeriesHandle| {
            let mut scratch = Vec::new();
            let samples = handle.read().samples(i64::MIN, i64::MAX, &mut scratch).iter();
            let samples = samples.map(|sample| (sample.timestamp_ms, sample.value.to_bits())).collect();
            (handle.labels().to_string(), samples)
        };
        handles.iter().map(read).collect()
    }

    fn matcher(name: &str, op: MatchOp, value: &str) -> Matcher {
        Matcher::new(name, op, value).expect("valid")
    }

    #[test]
    fn turns_find_what_one_look_finds() {
        let mut store = Store::new(StoreOptions::default());
        for series in 0..SERIES_PER_TURN + 5_000 {
            let (pod, job) = (format!("p{series}"), format!("j{}", series % 7));
            let labels = Labels::new([("__name__", "x"), ("pod", &pod), ("job", &job)]);
            store.append_to(&labels, Sample::new(1, series as f64)).expect("stored");
        }
        let selections = [
            vec![],
            vec![matcher("__name__", MatchOp::Equal, "x")],
            vec![matcher("__name__", MatchOp::Equal, "y")],
            vec![matcher("pod", MatchOp::RegexMatch, "p.*7")],
            vec![matcher("job", MatchOp::RegexMatch, "j1|j5|j9"), matcher("pod", MatchOp::NotEqual, "p1")],
            vec![matcher("job", MatchOp::NotEqual, "")],
            vec![matcher("nothing", MatchOp::Equal, "")],
        ];
        let counted = Counted(&store, Default::default());
        let slices: Vec<&[Matcher]> = selections.iter().map(Vec::as_slice).collect();
        let looked = Cell::new(0);
        let go_on = || {
            looked.set(looked.get() + 1);
            Ok::<(), TooManySeries>(())
        };
        let found = select(&counted, &slices, usize::MAX, &go_on).expect("few");
        for (matchers, found) in selections.iter().zip(&found) {
            let one_look = store.select_handles(matchers);
            assert!(all(found) == all(&one_look), "{matchers:?}: {} and {}", found.len(), one_look.len());
        }
        assert!(counted.1.into_inner() > 5 && looked.get() > 100);
        assert_eq!(select(&store, &[&[]], 1_000, &go_on).err(), Some(TooManySeries));
        let stopped = || Err::<(), TooManySeries>(TooManySeries);
        assert!(select(&store, &[&[]], usize::MAX, &stopped).is_err(), "who asks may stop");
        assert_eq!(label_values(&store, "pod").len(), SERIES_PER_TURN + 5_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever happens to a series, who has a handle reads what was there when it was taken.
        #[test]
        fn handles_do_not_change(
            pages in prop::collection::vec(prop::collection::vec(0..4u8, 1..6), 2..150),
            taken_at in 0..150usize,
            dropped_after in 1..8usize,
        ) {
            let options = StoreOptions { samples_max: 600, ..StoreOptions::default() };
            let (mut store, mut target) =
                (Store::new(options), Target::new(Labels::empty(), TargetOptions::default()));
            let mut taken: Vec<(Vec<SeriesHandle>, _)> = Vec::new();
            for (at, page) in pages.iter().enumerate() {
                let lines: String =
                    page.iter().enumerate().map(|(series, value)| format!("x{{s=\"{series}\"}} {value}\n")).collect();
                let at_ms = at as i64 * 1_000;
                target.ingest(&mut store, lines.as_bytes(), Format::Text, at_ms).expect("valid");
                if at >= taken_at && at % 10 == 0 {
                    let handles = store.select_handles(&[]);
                    let read = all(&handles);
                    taken.push((handles, read));
                }
                if at % 60 == 59 {
                    store.evict(at_ms);
                }
                if taken.len() > dropped_after {
                    taken.remove(0);
                }
                for (handles, read) in &taken {
                    prop_assert_eq!(&all(handles), read);
                }
            }
        }
    }
}
