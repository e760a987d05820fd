//! Salvages objects from a damaged data file.
//!
//! redb refuses a file with a single damaged page; this module reads all others. It follows the trees of the last
//! commit from their roots (`docs/design.md` of redb, format 3) and skips invalid pages. A page with a wrong
//! checksum is read as far as it parses, and its objects are marked doubtful. Objects that the trees no longer
//! reach are searched on all pages, where older states remain until the space is reused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;
use twox_hash::XxHash3_128;

use super::disk::{revision_of, split};
use crate::object;

const PAGE: usize = 4096;
const SLOTS: [usize; 2] = [64, 192];
const LEAF: u8 = 1;
const BRANCH: u8 = 2;
/// Size of a tree root: page number, checksum, and number of entries.
const ROOT_BYTES: usize = 32;

/// Objects' bytes by `resource/namespace/name`.
pub(super) type Objects = BTreeMap<String, Vec<u8>>;

/// The result of a salvage.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    pub(super) objects: Objects,
    /// Objects on a damaged page: they parse, but may differ from what was written.
    pub(super) doubtful: BTreeSet<String>,
    /// Objects of which only an older state was found; some may have been deleted since.
    pub(super) older: BTreeSet<String>,
    /// Key ranges on unreadable pages; `None` is unbounded.
    pub(super) lost: Vec<(Option<String>, Option<String>)>,
    /// Whether the last commit was unreadable and the one before it was used.
    pub(super) rolled_back: bool,
    /// Number of objects that the file had, if readable.
    pub(super) expected: Option<u64>,
    pub(super) revision: u64,
}

/// Salvages all readable objects of a file.
pub(super) fn salvage(file: &[u8]) -> Salvage {
    let mut found = Salvage::default();
    let slots = newest_first(file);
    match slots.iter().position(|slot| Reader { file, found: &mut found }.commit(slot)) {
        Some(slot) => found.rolled_back = slot > 0,
        None => found.lost.push((None, None)),
    }
    let missing = found.expected.map_or(usize::MAX, |expected| {
        usize::try_from(expected).unwrap_or(usize::MAX).saturating_sub(found.objects.len())
    });
    if !found.lost.is_empty() && missing > 0 {
        older(file, missing, &mut found);
    }
    let revisions = found.objects.values().filter_map(|bytes| revision_of(bytes));
    found.revision = revisions.max().unwrap_or(0).max(found.revision);
    found
}

/// Returns the commit slots with a valid checksum, newest first, then the others, in case only the slot was
/// damaged.
fn newest_first(file: &[u8]) -> Vec<&[u8]> {
    let mut slots: Vec<&[u8]> = SLOTS.iter().filter_map(|at| file.get(*at..*at + 128)).collect();
    let sound = |slot: &[u8]| checksum(&slot[..112]) == slot[112..];
    slots.sort_by_key(|slot| std::cmp::Reverse((sound(slot), number(&slot[104..]))));
    slots
}

fn checksum(bytes: &[u8]) -> [u8; 16] {
    XxHash3_128::oneshot(bytes).to_le_bytes()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}

/// Returns a page by number: 20 bits of index, 20 of region (files here have one), 5 of order.
fn page(file: &[u8], number: u64) -> Option<&[u8]> {
    let order = number >> 59;
    let index = number & (0xf_ffff >> order.min(20));
    let length = PAGE.checked_shl(u32::try_from(order).ok()?).filter(|length| *length <= file.len())?;
    let start = usize::try_from(index).ok()?.checked_mul(length)?.checked_add(PAGE)?;
    file.get(start..start.checked_add(length)?).filter(|_| number >> 20 & 0xf_ffff == 0)
}

/// Byte ranges of a key and its value in a page.
type Entry = (Range<usize>, Range<usize>);

/// Returns the entries of a leaf and where it ends. Fixed-size values have no table of ends.
fn leaf(page: &[u8], value_size: Option<usize>) -> Option<(Vec<Entry>, usize)> {
    let count = u16_at(page, 2).filter(|count| page[0] == LEAF && *count > 0)?;
    let ends = if value_size.is_some() { 1 } else { 2 };
    let mut start = 4 + 4 * count * ends;
    let mut entries = Vec::with_capacity(count.min(PAGE));
    for index in 0..count {
        let end = u32_at(page, 4 + 4 * index).filter(|end| (start..=page.len()).contains(end))?;
        entries.push((start..end, 0..0));
        start = end;
    }
    for (index, (_, value)) in entries.iter_mut().enumerate() {
        let end = match value_size {
            Some(size) => start + size,
            None => u32_at(page, 4 + 4 * (count + index))?,
        };
        *value = Some(start..end).filter(|range| range.start <= range.end && range.end <= page.len())?;
        start = end;
    }
    Some((entries, start))
}

/// A child of a branch: page number, checksum, and upper bound of the keys below it.
type Child<'a> = (u64, &'a [u8], Option<&'a [u8]>);

/// Returns the children of a branch and where it ends.
fn branch(page: &[u8]) -> Option<(Vec<Child<'_>>, usize)> {
    let count = u16_at(page, 2).filter(|count| page[0] == BRANCH && *count > 0)?;
    let (checksums, numbers) = (8, 8 + 16 * (count + 1));
    let ends = numbers + 8 * (count + 1);
    let mut start = ends + 4 * count;
    let mut children = Vec::with_capacity(count.min(PAGE));
    for index in 0..=count {
        let sum = page.get(checksums + 16 * index..checksums + 16 * index + 16)?;
        let child = number(page.get(numbers + 8 * index..numbers + 8 * index + 8)?);
        let key = if index < count {
            let end = u32_at(page, ends + 4 * index)?;
            let key = page.get(start..end)?;
            start = end;
            Some(key)
        } else {
            None
        };
        children.push((child, sum, key));
    }
    Some((children, start))
}

/// Returns the key of an entry if its value is a valid object.
fn object_of(key: &[u8], value: &[u8]) -> Option<String> {
    let key = std::str::from_utf8(key).ok()?;
    let (_, path) = split(key)?;
    let (namespace, name) = path.split_once('/')?;
    let object: Value = serde_json::from_slice(value).ok()?;
    let right = object::name(&object) == name && object::namespace(&object) == namespace;
    (right && revision_of(value).is_some()).then(|| key.to_owned())
}

struct Reader<'a> {
    file: &'a [u8],
    found: &'a mut Salvage,
}

/// Exclusive lower and inclusive upper bound of the keys below a page.
#[derive(Clone, Copy)]
struct KeyRange<'a>(Option<&'a [u8]>, Option<&'a [u8]>);

impl<'a> Reader<'a> {
    /// Reads the tables of a commit; returns false when the objects' table cannot be found.
    fn commit(&mut self, slot: &'a [u8]) -> bool {
        if slot[1] == 0 {
            return false;
        }
        let mut tables = Vec::new();
        self.entries(&slot[8..8 + ROOT_BYTES], 0, &mut tables);
        let table = |name: &[u8]| {
            let definition = tables.iter().find(|(key, _)| *key == name)?.1;
            // Layout: type, length, whether there is a root, the root.
            let root = definition.get(10..10 + ROOT_BYTES).filter(|_| definition[9] == 1);
            Some((number(&definition[1..]), root))
        };
        if let Some((_, Some(root))) = table(b"counters")
            && let Some(page) = page(self.file, number(root))
            && let Some((entries, _)) = leaf(page, Some(8))
        {
            let counts = entries.iter().filter(|(key, _)| &page[key.clone()] == b"revision");
            self.found.revision = counts.map(|(_, value)| number(&page[value.clone()])).max().unwrap_or(0);
        }
        let Some((count, root)) = table(b"objects") else { return false };
        self.found.expected = Some(count);
        if let Some(root) = root {
            self.objects(number(root), &root[8..24], KeyRange(None, None), 0);
        }
        true
    }

    /// Collects the entries of a small tree with variable-size keys and values.
    fn entries(&self, root: &'a [u8], depth: usize, into: &mut Vec<(&'a [u8], &'a [u8])>) {
        let Some(page) = page(self.file, number(root)).filter(|_| depth < 8) else { return };
        if let Some((entries, _)) = leaf(page, None) {
            into.extend(entries.into_iter().map(|(key, value)| (&page[key], &page[value])));
        } else if let Some((children, _)) = branch(page) {
            let at = 8 + 16 * children.len();
            for index in 0..children.len() {
                self.entries(&page[at + 8 * index..], depth + 1, into);
            }
        }
    }

    /// Reads all objects below a page of the objects' tree. Four levels hold millions of objects, so a deeper tree
    /// is a cycle.
    fn objects(&mut self, number: u64, sum: &[u8], between: KeyRange<'a>, depth: usize) {
        let Some(page) = page(self.file, number).filter(|_| depth < 8) else {
            return self.record_lost(between);
        };
        if let Some((entries, end)) = leaf(page, None) {
            let sound = checksum(&page[..end]) == *sum;
            if !sound {
                self.record_lost(between);
            }
            for (key, value) in entries {
                self.take(&page[key], &page[value], sound);
            }
        } else if let Some((children, _)) = branch(page) {
            let mut low = between.0;
            for (child, sum, key) in children {
                self.objects(child, sum, KeyRange(low, key.or(between.1)), depth + 1);
                low = key;
            }
        } else {
            self.record_lost(between);
        }
    }

    fn take(&mut self, key: &[u8], value: &[u8], sound: bool) {
        let Some(key) = object_of(key, value) else { return };
        if !sound {
            self.found.doubtful.insert(key.clone());
        }
        self.found.objects.insert(key, value.to_vec());
    }

    fn record_lost(&mut self, between: KeyRange<'_>) {
        let text = |key: Option<&[u8]>| key.map(|key| String::from_utf8_lossy(key).into_owned());
        self.found.lost.push((text(between.0), text(between.1)));
    }
}

/// Searches all pages for objects that the trees no longer reach: the newest state of each, and only the `missing`
/// newest of them.
fn older(file: &[u8], missing: usize, found: &mut Salvage) {
    let mut candidates: BTreeMap<String, (u64, &[u8])> = BTreeMap::new();
    for start in (PAGE..file.len()).step_by(PAGE) {
        let Some((entries, _)) = leaf(&file[start..], None) else { continue };
        for (key, value) in entries {
            let (key, value) = (&file[start..][key], &file[start..][value]);
            let Some(key) = object_of(key, value).filter(|key| found.is_lost(key)) else { continue };
            let revision = revision_of(value).unwrap_or(0);
            if candidates.get(&key).is_none_or(|(known, _)| *known < revision) {
                candidates.insert(key, (revision, value));
            }
        }
    }
    let mut newest: Vec<_> = candidates.into_iter().collect();
    newest.sort_by_key(|(_, (revision, _))| std::cmp::Reverse(*revision));
    for (key, (_, value)) in newest.into_iter().take(missing) {
        found.objects.insert(key.clone(), value.to_vec());
        found.older.insert(key);
    }
}

impl Salvage {
    fn is_lost(&self, key: &str) -> bool {
        let within = |(low, high): &(Option<String>, Option<String>)| {
            low.as_deref().is_none_or(|low| low < key) && high.as_deref().is_none_or(|high| key <= high)
        };
        !self.objects.contains_key(key) && self.lost.iter().any(within)
    }
}
