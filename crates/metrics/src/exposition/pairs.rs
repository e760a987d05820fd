//! Name and labels of a sample: places on the page, until somebody asks for them as labels.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::cursor::Mistake;
use super::number::is_canonical;
use super::series::FamilyKind;
use super::{LABELS_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::labels::{Labels, METRIC_NAME};
use crate::text::{format_open_metrics, parse_value, quote};

/// A part of the page; 32 bits hold every place on the largest one.
#[derive(Clone, Copy)]
pub(super) struct Part {
    start: u32,
    end: u32,
    has_escapes: bool,
}

impl Part {
    pub(super) fn new(start: usize, end: usize, has_escapes: bool) -> Part {
        Part { start: start as u32, end: end as u32, has_escapes }
    }

    fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// The part without its escapes.
    #[inline]
    fn text(self, page: &str) -> Cow<'_, str> {
        let text = &page[self.start as usize..self.end as usize];
        if self.has_escapes { unescape(text).into() } else { text.into() }
    }

    fn check(self, bytes_max: usize, what: &str) -> Result<(), Mistake> {
        if self.len() > bytes_max {
            let message = format!("{what} has {} bytes, more than {bytes_max}", self.len());
            return Err((self.start as usize, message));
        }
        Ok(())
    }
}

struct Pair {
    /// `None`: the value is the metric's name.
    name: Option<Part>,
    value: Part,
    /// The first bytes of the name, by which nearly all names are told apart.
    order: u64,
}

impl Pair {
    fn find_order(&mut self, page: &str) {
        let name = self.name(page);
        let mut first = [0; size_of::<u64>()];
        first.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
        self.order = u64::from_be_bytes(first);
    }

    /// By name.
    fn cmp(&self, other: &Pair, page: &str) -> Ordering {
        self.order.cmp(&other.order).then_with(|| self.name(page).cmp(&other.name(page)))
    }

    #[inline]
    fn name<'a>(&self, page: &'a str) -> Cow<'a, str> {
        self.name.map_or(METRIC_NAME.into(), |name| name.text(page))
    }

    /// The value; one spelling for those that are numbers.
    #[inline]
    fn value<'a>(&self, page: &'a str, is_number: bool) -> Cow<'a, str> {
        let text = self.value.text(page);
        if !is_number || is_canonical(&text) {
            return text;
        }
        parse_value(&text).map_or(text, |number| format_open_metrics(number).into())
    }

    fn check(&self) -> Result<(), Mistake> {
        let (name, what) = match self.name {
            None => (self.value, "metric name"),
            Some(name) => (name, "label name"),
        };
        name.check(NAME_BYTES_MAX, what)?;
        if name.len() == 0 {
            return Err((name.start as usize, format!("{what} is empty")));
        }
        self.value.check(VALUE_BYTES_MAX, "label value")
    }
}

/// Where a sample's name and labels stand.
#[derive(Default)]
pub(super) struct Pairs {
    pairs: Vec<Pair>,
    start: usize,
    has_name: bool,
    /// Labels are put together here.
    packed: String,
}

impl Pairs {
    /// Begins anew, with a sample whose text starts at `start`.
    pub(super) fn clear(&mut self, start: usize) {
        self.pairs.clear();
        (self.start, self.has_name) = (start, false);
    }

    pub(super) fn set_name(&mut self, value: Part) {
        self.has_name = true;
        self.pairs.push(Pair { name: None, value, order: 0 });
    }

    pub(super) fn has_name(&self) -> bool {
        self.has_name
    }

    pub(super) fn push(&mut self, name: Part, value: Part) {
        self.pairs.push(Pair { name: Some(name), value, order: 0 });
    }

    /// The labels; mistakes are places on the page.
    pub(super) fn labels(&mut self, page: &str, kind: FamilyKind) -> Result<Labels, Mistake> {
        if self.pairs.len() - usize::from(self.has_name) > LABELS_MAX {
            return Err((self.start, format!("more than {LABELS_MAX} labels")));
        }
        for pair in &mut self.pairs {
            pair.check()?;
            pair.find_order(page);
        }
        self.pairs.sort_unstable_by(|a, b| a.cmp(b, page));
        if let Some(twice) = self.pairs.windows(2).find(|pair| pair[0].cmp(&pair[1], page).is_eq()) {
            let name = twice[0].name(page);
            return Err((self.start, format!("label name {} is not unique", quote(name.as_bytes()))));
        }
        let number_label = kind.number_label();
        let texts = self.pairs.iter().map(|pair| {
            let name = pair.name(page);
            let is_number = number_label == Some(&*name);
            (name, pair.value(page, is_number))
        });
        Ok(Labels::packed_in(&mut self.packed, texts))
    }
}

/// The escapes `\\`, `\"` and `\n`; any other backslash stands for itself.
#[cold]
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some(escaped @ ('"' | '\\')) => plain.push(escaped),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}
