//! The label index: which series carry which label.
//!
//! For each label name and value, the numbers of the series that have it, in rising order. A selector starts from the
//! shortest list that one of its matchers allows and then tests the others on the labels themselves.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::labels::Labels;
use crate::matcher::Matcher;

#[derive(Default)]
pub(super) struct Index {
    postings: BTreeMap<Box<str>, BTreeMap<Arc<str>, Vec<u32>>>,
}

/// Where the series of a selection are looked for, without a look at a pattern.
pub(super) enum Plan {
    /// Those with this value of this label.
    List(String, String),
    /// Those with any of these values of this label.
    Values(String, Vec<Arc<str>>),
    /// Those in these slots.
    Slots(Vec<u32>),
}

impl Index {
    /// Where to look. Instead, the place of a matcher: it is to be tested on the values of its label first. Neither: everywhere.
    pub(super) fn plan(&self, matchers: &[Matcher]) -> (Option<Plan>, Option<usize>) {
        let narrowing = matchers.iter().enumerate().filter(|(_, matcher)| !matcher.matches(""));
        let cost = |(_, matcher): &(usize, &Matcher)| match (
            self.postings.get(matcher.name()),
            matcher.equal_value(),
        ) {
            (None, _) => 0,
            (Some(values), Some(value)) => values.get(value).map_or(0, Vec::len),
            // What a text costs to look for, and a value to be tested.
            (Some(values), None) => matcher.texts().map_or(2 * values.len(), |texts| 2 * texts.len()),
        };
        let Some((place, matcher)) = narrowing.min_by_key(cost) else { return (None, None) };
        let name = matcher.name().to_owned();
        if let Some(value) = matcher.equal_value() {
            return (Some(Plan::List(name, value.to_owned())), None);
        }
        let Some(texts) = matcher.texts() else { return (None, Some(place)) };
        let values = self.postings.get(matcher.name());
        let known = texts.filter_map(|text| Some(Arc::clone(values?.get_key_value(text)?.0)));
        (Some(Plan::Values(name, known.collect())), None)
    }

    /// The slots of the series with a value of a label, from one slot on.
    pub(super) fn slots_from(&self, name: &str, value: &str, from: usize) -> &[u32] {
        let list = self.postings.get(name).and_then(|values| values.get(value));
        list.map_or(&[], |list| &list[list.partition_point(|slot| (*slot as usize) < from)..])
    }

    /// The slots of the series with any of the values of a label, in rising order.
    pub(super) fn slots_of(&self, name: &str, values: &[Arc<str>]) -> Vec<u32> {
        let Some(lists) = self.postings.get(name) else { return Vec::new() };
        let mut slots: Vec<u32> =
            values.iter().filter_map(|value| lists.get(value)).flatten().copied().collect();
        if values.len() > 1 {
            slots.sort_unstable();
        }
        slots
    }

    /// The values of a label that come after one of them.
    pub(super) fn values_after(&self, name: &str, after: Option<&str>) -> impl Iterator<Item = &Arc<str>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let values = self.postings.get(name);
        values
            .into_iter()
            .flat_map(move |values| values.range::<str, _>((from, Bound::Unbounded)).map(|(value, _)| value))
    }

    pub(super) fn insert(&mut self, labels: &Labels, id: u32) {
        for (name, value) in labels.iter() {
            if !self.postings.contains_key(name) {
                self.postings.insert(name.into(), BTreeMap::new());
            }
            let Some(values) = self.postings.get_mut(name) else { continue };
            match values.get_mut(value) {
                Some(ids) => {
                    let at = ids.partition_point(|other| *other < id);
                    ids.insert(at, id);
                }
                None => drop(values.insert(value.into(), vec![id])),
            }
        }
    }

    pub(super) fn remove(&mut self, labels: &Labels, id: u32) {
        for (name, value) in labels.iter() {
            let Some(values) = self.postings.get_mut(name) else { continue };
            if let Some(ids) = values.get_mut(value) {
                if let Ok(at) = ids.binary_search(&id) {
                    ids.remove(at);
                }
                if ids.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.postings.remove(name);
            }
        }
    }

    /// The slots of the series that may match, in rising order; `None`: no matcher narrows the search.
    pub(super) fn slots(&self, matchers: &[Matcher]) -> Option<Vec<u32>> {
        match self.plan(matchers) {
            (Some(Plan::List(name, value)), _) => Some(self.slots_from(&name, &value, 0).to_vec()),
            (Some(Plan::Values(name, values)), _) => Some(self.slots_of(&name, &values)),
            (Some(Plan::Slots(slots)), _) => Some(slots),
            (None, Some(place)) => {
                let matcher = matchers.get(place)?;
                let matching = |value: &&Arc<str>| matcher.matches(value);
                let values: Vec<_> =
                    self.values_after(matcher.name(), None).filter(matching).cloned().collect();
                Some(self.slots_of(matcher.name(), &values))
            }
            (None, None) => None,
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.postings.keys().map(|name| &**name)
    }

    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.postings.get(name).into_iter().flat_map(|values| values.keys().map(|value| &**value))
    }

    /// Bytes of memory, estimated: texts, numbers and the maps' entries.
    pub(super) fn heap_bytes(&self) -> usize {
        // A shared text has its counters beside it.
        let entry = 2 * size_of::<Box<str>>() + size_of::<Vec<u32>>();
        let values = |values: &BTreeMap<Arc<str>, Vec<u32>>| -> usize {
            values.iter().map(|(value, ids)| value.len() + entry + ids.capacity() * size_of::<u32>()).sum()
        };
        self.postings.iter().map(|(name, map)| name.len() + entry + values(map)).sum()
    }
}
