//! Label sets: the identity of a series.
//!
//! A [`Labels`] is a sorted list of name and value pairs, packed into one shared string, each part after its length. So
//! cloning is a counter, a series with ten labels is one allocation and not twenty, and looking for a label reads memory
//! from front to back: a query over many series does little else. A label with an empty value is the same as no label
//! (Prometheus' data model), so it is never stored. The metric name is the label `__name__`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::text::{is_legacy_label_name, quote};

/// The label that carries a metric's name.
pub const METRIC_NAME: &str = "__name__";
/// The label in which a classic histogram's bucket keeps its upper bound.
pub const BUCKET_LABEL: &str = "le";

/// Labels that describe a metric rather than a series; they go where the name goes (Prometheus, proposal PROM-39).
const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// A sorted set of labels. Cheap to clone; compares and hashes by content; orders as Prometheus orders series.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

/// A length below this is one byte, which is text as well; a longer one is this byte and the length in seven bits each.
const LONG: u8 = 0x7f;
/// Bytes that hold a long length.
const LENGTH_BYTES: usize = 4;
/// The longest name or value that fits; parsers stop far below.
const PART_BYTES_MAX: usize = (1 << (7 * LENGTH_BYTES)) - 1;

/// What most label sets stay below, packed: room for them is taken at once.
const PACKED_BYTES: usize = 256;

/// Appends a part after its length. What is longer than can be told becomes empty.
fn push_part(text: &mut String, part: &str) {
    let part = if part.len() > PART_BYTES_MAX { "" } else { part };
    if part.len() < usize::from(LONG) {
        text.push(part.len() as u8 as char);
    } else {
        text.push(LONG as char);
        text.extend((0..LENGTH_BYTES).map(|byte| ((part.len() >> (7 * byte)) & 0x7f) as u8 as char));
    }
    text.push_str(part);
}

/// Splits the first part from packed text.
fn split_part(text: &str) -> Option<(&str, &str)> {
    let first = *text.as_bytes().first()?;
    if first < LONG {
        return text[1..].split_at_checked(usize::from(first));
    }
    let length = text.as_bytes()[1..].first_chunk::<LENGTH_BYTES>()?;
    let length = length.iter().rev().fold(0, |length, byte| length << 7 | usize::from(*byte));
    text.get(1 + LENGTH_BYTES..)?.split_at_checked(length)
}

/// The pairs of a label set.
#[derive(Clone)]
struct Pairs<'a>(&'a str);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = split_part(self.0)?;
        let (value, rest) = split_part(rest)?;
        self.0 = rest;
        Some((name, value))
    }
}

impl Labels {
    /// The labels of `pairs`, in any order. Of two pairs with one name the later wins; empty values are left out.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut pairs: Vec<(&str, &str)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(b.0));
        let mut unique: Vec<(&str, &str)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match unique.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => unique.push(pair),
            }
        }
        Labels::from_sorted(unique.into_iter())
    }

    /// The labels of `pairs`; `None` if two of them have the same name.
    pub(crate) fn of_unique<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Option<Labels> {
        let labels = Labels::new(pairs.clone());
        let count = pairs.filter(|(_, value)| !value.is_empty()).count();
        (labels.len() == count).then_some(labels)
    }

    /// The labels as they are kept in memory.
    pub(crate) fn packed(&self) -> &str {
        &self.0
    }

    /// Labels from what [`Labels::packed`] gave; `None` for anything else.
    pub(crate) fn from_packed(packed: &str) -> Option<Labels> {
        let pairs = Pairs(packed);
        let labels = Labels::new(pairs);
        (labels.packed() == packed).then_some(labels)
    }

    /// No labels at all: `{}`.
    pub fn empty() -> Labels {
        Labels("".into())
    }

    /// Packs pairs that are sorted by name and unique; empty values are left out.
    pub(crate) fn from_sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Labels {
        Labels::packed_in(&mut String::with_capacity(PACKED_BYTES), pairs)
    }

    /// The same in a buffer that is used again and again.
    pub(crate) fn packed_in<T: AsRef<str>>(
        buffer: &mut String,
        pairs: impl Iterator<Item = (T, T)>,
    ) -> Labels {
        buffer.clear();
        for (name, value) in pairs.filter(|(_, value)| !value.as_ref().is_empty()) {
            push_part(buffer, name.as_ref());
            push_part(buffer, value.as_ref());
        }
        Labels(buffer.as_str().into())
    }

    /// The pairs, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        Pairs(&self.0)
    }

    /// The value of a label; the empty string when it is not there.
    pub fn get(&self, name: &str) -> &str {
        // Sorted by name, so most searches end early.
        self.iter().find(|(n, _)| *n >= name).filter(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    /// The metric name, or the empty string.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME)
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of memory that this label set holds, without the allocator's overhead.
    pub fn heap_bytes(&self) -> usize {
        // The text behind its two counters.
        self.0.len() + 2 * size_of::<usize>()
    }

    /// These labels with one set (or, with an empty value, removed).
    pub fn with(&self, name: &str, value: &str) -> Labels {
        Labels::new(self.iter().filter(|(n, _)| *n != name).chain([(name, value)]))
    }

    /// Only the named labels.
    pub fn keep(&self, names: &[impl AsRef<str>]) -> Labels {
        Labels::from_sorted(self.iter().filter(|(n, _)| names.iter().any(|name| name.as_ref() == *n)))
    }

    /// All but the named labels.
    pub fn without(&self, names: &[impl AsRef<str>]) -> Labels {
        Labels::from_sorted(self.iter().filter(|(n, _)| !names.iter().any(|name| name.as_ref() == *n)))
    }

    /// All but the metric's name, type and unit.
    pub fn without_name(&self) -> Labels {
        if self.iter().any(|(n, _)| METADATA_LABELS.contains(&n)) {
            self.without(&METADATA_LABELS)
        } else {
            self.clone()
        }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Labels::empty()
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Prometheus' form: `{__name__="up", job="model"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            let name = if is_legacy_label_name(name) { name.to_owned() } else { quote(name.as_bytes()) };
            write!(f, "{separator}{name}={}", quote(value.as_bytes()))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_unique_and_never_empty() {
        let labels = Labels::new([("job", "old"), ("empty", ""), ("__name__", "up"), ("job", "model")]);
        assert_eq!(labels.to_string(), r#"{__name__="up", job="model"}"#);
        assert_eq!((labels.get("job"), labels.get("none"), labels.len()), ("model", "", 2));
        assert_eq!(labels.with("job", "").to_string(), r#"{__name__="up"}"#);
        assert_eq!(labels.without_name(), Labels::new([("job", "model")]));
        assert_eq!(labels.keep(&["__name__"]).metric_name(), "up");
    }

    #[test]
    fn long_and_strange_parts_come_back() {
        for length in [0, 1, 126, 127, 128, 16_384, 70_000] {
            let (name, value) = ("n".repeat(length + 1), "\u{e9}".repeat(length));
            let labels = Labels::new([(name.as_str(), value.as_str()), ("", "\u{7f}")]);
            assert_eq!((labels.get(&name), labels.get("")), (value.as_str(), "\u{7f}"), "{length}");
            assert_eq!(Labels::from_packed(labels.packed()), Some(labels));
        }
        for text in ["\u{1}", "\u{7f}", "\u{7f}\u{1}\0\0\0a\u{1}b", "\u{1}\u{e9}\u{1}a"] {
            assert_eq!(Labels::from_packed(text), None, "{text:?}");
        }
    }

    #[test]
    fn order_is_by_names_then_values() {
        let mut all =
            [Labels::new([("a", "2")]), Labels::new([("b", "1")]), Labels::new([("a", "1"), ("b", "1")])];
        all.sort();
        let text: Vec<String> = all.iter().map(Labels::to_string).collect();
        assert_eq!(text, [r#"{a="1", b="1"}"#, r#"{a="2"}"#, r#"{b="1"}"#]);
    }
}
