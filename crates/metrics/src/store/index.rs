//! The label index: which series carry which label.
//!
//! For each label name and value, the numbers of the series that have it, in rising order. A selector starts from the
//! shortest list that one of its matchers allows and then tests the others on the labels themselves.

use std::collections::BTreeMap;

use crate::labels::Labels;
use crate::matcher::Matcher;

#[derive(Default)]
pub(super) struct Index {
    postings: BTreeMap<Box<str>, BTreeMap<Box<str>, Vec<u32>>>,
}

/// Series to test against all matchers.
pub(super) enum Candidates {
    /// No matcher narrows the search: every series.
    All,
    /// Only these, in rising order; the matcher at this place holds for them.
    These(Vec<u32>, usize),
}

impl Index {
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

    /// The shortest list of series that can match; matchers that also match "no such label" can't narrow it.
    pub(super) fn candidates(&self, matchers: &[Matcher]) -> Candidates {
        let shortest = matchers
            .iter()
            .enumerate()
            .filter(|(_, matcher)| !matcher.matches(""))
            .map(|(place, matcher)| (self.lists(matcher), place))
            .min_by_key(|(lists, _)| lists.iter().map(|list| list.len()).sum::<usize>());
        match shortest {
            None => Candidates::All,
            Some((lists, place)) => {
                let one_list = lists.len() == 1;
                let mut ids: Vec<u32> = lists.into_iter().flatten().copied().collect();
                if !one_list {
                    ids.sort_unstable();
                }
                Candidates::These(ids, place)
            }
        }
    }

    fn lists(&self, matcher: &Matcher) -> Vec<&Vec<u32>> {
        let Some(values) = self.postings.get(matcher.name()) else { return Vec::new() };
        match matcher.equal_value() {
            Some(value) => values.get(value).into_iter().collect(),
            None => values.iter().filter(|(value, _)| matcher.matches(value)).map(|(_, ids)| ids).collect(),
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
        let entry = size_of::<Box<str>>() + size_of::<Vec<u32>>();
        let values = |values: &BTreeMap<Box<str>, Vec<u32>>| -> usize {
            values.iter().map(|(value, ids)| value.len() + entry + ids.capacity() * size_of::<u32>()).sum()
        };
        self.postings.iter().map(|(name, map)| name.len() + entry + values(map)).sum()
    }
}
