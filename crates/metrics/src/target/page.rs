//! Reads a page against the last one: only lines that changed are read.
//!
//! Targets print the same series in the same order, so each line is compared as bytes with the one that is expected. If it is the
//! same, its sample is known; if only what follows the labels changed, a number is read. A page with any
//! other line is read anew, and of its lines those are parsed that the last page did not have; where the order changed, they are found by
//! their text.
//!
//! A line that did not change, of a series that is a member of the target's page in the store, needs nothing at all.

use std::collections::HashMap;
use std::ops::Range;

use super::messages::ExemplarsOfKnown;
use super::{ScrapeError, Scraped, Target};
use crate::exposition::protobuf::PageExemplar;
use crate::exposition::{Entry, FamilyKind, Format, Parser, SeriesLine};
use crate::store::Store;

/// The last page and what its lines said.
#[derive(Default)]
pub(super) struct LastPage {
    bytes: Vec<u8>,
    format: Option<Format>,
    pub(super) lines: Vec<Line>,
    /// Samples on it, and how many of them metric relabelings leave.
    samples: usize,
    kept: usize,
    /// The lines whose samples are to be stored again even if they do not change.
    pub(super) uncovered: Vec<u32>,
}

/// A line that means something, with the meaningless ones before it.
pub(super) struct Line {
    length: u32,
    pub(super) what: What,
}

pub(super) enum What {
    Comment,
    Type(FamilyKind),
    Series(Sampled),
}

/// A line with a sample.
pub(super) struct Sampled {
    /// Where name and labels stand in the line.
    text: (u32, u32),
    pub(super) found: Found,
    /// The series stands on the page already.
    pub(super) again: bool,
    /// The store repeats the value until told otherwise.
    pub(super) covered: bool,
}

/// A sample of a page: of which of the target's series, with what value and own time.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) known: u32,
    pub(super) value: f64,
    pub(super) timestamp_ms: Option<i64>,
}

/// What a page said.
pub(super) struct Read {
    /// The lines whose samples are to be stored.
    pub(super) to_store: Vec<u32>,
    pub(super) exemplars: ExemplarsOfKnown,
    /// Whether it has other series than the last one, or the same in another order.
    pub(super) is_other: bool,
}

impl LastPage {
    /// The lines with samples, and what each says.
    pub(super) fn series(&mut self) -> impl Iterator<Item = (u32, &mut Sampled)> {
        (0..).zip(&mut self.lines).filter_map(|(at, line)| match &mut line.what {
            What::Series(sampled) => Some((at, sampled)),
            _ => None,
        })
    }

    /// How many samples the store repeats.
    pub(super) fn covered(&self) -> usize {
        self.samples - self.uncovered.len()
    }

    /// The lines, each with its bytes.
    fn lines(&self) -> impl Iterator<Item = (&Line, &[u8])> {
        let mut start = 0;
        self.lines.iter().map(move |line| {
            let bytes = self.bytes.get(start..start + line.length as usize).unwrap_or_default();
            start += line.length as usize;
            (line, bytes)
        })
    }

    /// Takes over that the target's series have got other numbers.
    pub(super) fn renumber(&mut self, numbers: &[Option<u32>]) {
        for (_, sampled) in self.series() {
            let number = numbers.get(sampled.found.known as usize).copied().flatten();
            sampled.found.known = number.unwrap_or(sampled.found.known);
        }
    }

    fn replace_bytes(&mut self, page: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(page);
    }
}

impl Line {
    /// A last line without a line break could be the start of a longer one.
    fn is_whole(bytes: &[u8]) -> bool {
        bytes.last() == Some(&b'\n')
    }

    fn text<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        match &self.what {
            What::Series(Sampled { text: (start, end), .. }) => bytes.get(*start as usize..*end as usize),
            _ => None,
        }
    }

    /// What it told about its family, if it was a `# TYPE`.
    fn kind(&self) -> Option<FamilyKind> {
        match self.what {
            What::Type(kind) => Some(kind),
            _ => None,
        }
    }
}

impl Target {
    /// Reads the whole page before anything is stored.
    pub(super) fn read(
        &mut self,
        store: &mut Store,
        page: &[u8],
        format: Format,
        scraped: &mut Scraped,
    ) -> Result<Read, ScrapeError> {
        let mut last = std::mem::take(&mut self.page);
        let (mut to_store, mut exemplars) = (Vec::new(), Vec::new());
        let same_format = last.format == Some(format);
        if same_format && last.bytes == page {
            to_store.extend_from_slice(&last.uncovered);
        } else if same_format && last.take_values(page, format, &mut to_store, &mut exemplars)? {
            last.replace_bytes(page);
        } else {
            let exemplars = self.read_anew(store, last, page, format, scraped)?;
            let to_store = self.page.series().map(|(at, _)| at).collect();
            return Ok(Read { to_store, exemplars, is_other: true });
        }
        (scraped.samples, scraped.samples_post_relabeling) = (last.samples, last.kept);
        self.page = last;
        Ok(Read { to_store, exemplars, is_other: false })
    }

    fn read_anew(
        &mut self,
        store: &mut Store,
        last: LastPage,
        page: &[u8],
        format: Format,
        scraped: &mut Scraped,
    ) -> Result<ExemplarsOfKnown, ScrapeError> {
        let mut reading =
            Reading { target: self, last: &last, lines: Vec::new(), exemplars: Vec::new(), scraped };
        reading.lines.reserve(last.lines.len());
        if !page.is_empty() {
            reading.page(store, Parser::new(page, format)?)?;
        }
        let Reading { lines, exemplars, .. } = reading;
        let (samples, kept) = (scraped.samples, scraped.samples_post_relabeling);
        let LastPage { bytes, mut uncovered, .. } = last;
        uncovered.clear();
        self.page = LastPage { bytes, format: Some(format), lines, samples, kept, uncovered };
        self.page.replace_bytes(page);
        self.mark_series();
        Ok(exemplars)
    }
}

impl LastPage {
    /// Takes new values over from a page with the same lines; `false`, and nothing has changed: it has others.
    fn take_values(
        &mut self,
        page: &[u8],
        format: Format,
        to_store: &mut Vec<u32>,
        exemplars: &mut ExemplarsOfKnown,
    ) -> Result<bool, ScrapeError> {
        if page.is_empty() {
            return Ok(false);
        }
        let mut parser = Parser::new(page, format)?;
        let mut changed = Vec::new();
        for (at, (line, bytes)) in (0..).zip(self.lines()) {
            if Line::is_whole(bytes) && parser.skip_same(bytes, line.kind()) {
                if matches!(&line.what, What::Series(sampled) if !sampled.covered) {
                    to_store.push(at);
                }
                continue;
            }
            let start = parser.offset();
            let Some(series) = line.text(bytes).and_then(|text| parser.next_of(text)) else {
                return Ok(false);
            };
            let series = series?;
            let What::Series(Sampled { found, .. }) = line.what else { return Ok(false) };
            exemplars.extend(exemplar(&mut parser, found.known, &series)?);
            let found = Found { value: series.value, timestamp_ms: series.timestamp_ms, ..found };
            changed.push((at, (parser.offset() - start) as u32, series.text.len() as u32, found));
            to_store.push(at);
        }
        if parser.next().transpose()?.is_some() {
            return Ok(false);
        }
        for (at, length, text_length, found) in changed {
            let line = &mut self.lines[at as usize];
            line.length = length;
            if let What::Series(sampled) = &mut line.what {
                (sampled.text, sampled.found) = ((0, text_length), found);
            }
        }
        Ok(true)
    }
}

/// A page that is read anew.
struct Reading<'t> {
    target: &'t mut Target,
    last: &'t LastPage,
    lines: Vec<Line>,
    exemplars: ExemplarsOfKnown,
    scraped: &'t mut Scraped,
}

impl<'t> Reading<'t> {
    fn page(&mut self, store: &mut Store, mut parser: Parser<'_>) -> Result<(), ScrapeError> {
        let last: Vec<(&Line, &[u8])> = self.last.lines().collect();
        // Which of the target's series a text stands for, and which line is expected after it.
        let texts = || {
            last.iter().enumerate().filter_map(|(at, (line, bytes))| match &line.what {
                What::Series(sampled) => Some((line.text(bytes)?, (sampled.found.known, at + 1))),
                _ => None,
            })
        };
        // The line of the last page that is expected next.
        let mut expected = 0;
        let mut by_text: Option<HashMap<&[u8], (u32, usize)>> = None;
        loop {
            if let Some((line, bytes)) = last.get(expected)
                && (self.same_line(&mut parser, line, bytes)?
                    || self.same_series(&mut parser, line, bytes)?)
            {
                expected += 1;
                continue;
            }
            let start = parser.offset();
            match parser.next().transpose()? {
                None => return Ok(()),
                Some(Entry::Series(series)) => {
                    let by_text = by_text.get_or_insert_with(|| texts().collect());
                    let known = match by_text.get(series.text.as_bytes()) {
                        Some((known, next)) => {
                            expected = *next;
                            *known
                        }
                        None => {
                            let known = self.target.remember(&parser.labels()?, self.scraped)?;
                            by_text.insert(series.text.as_bytes(), (known, expected));
                            known
                        }
                    };
                    self.sample(&mut parser, start, known, series)?;
                }
                Some(comment) => self.comment(store, &parser, start, &comment),
            }
        }
    }

    /// A line that stands here as it stood on the last page.
    fn same_line(&mut self, parser: &mut Parser<'_>, line: &Line, bytes: &[u8]) -> Result<bool, ScrapeError> {
        if !Line::is_whole(bytes) || !parser.skip_same(bytes, line.kind()) {
            return Ok(false);
        }
        let what = match &line.what {
            What::Comment => What::Comment,
            What::Type(kind) => What::Type(*kind),
            What::Series(Sampled { text, found, .. }) => {
                self.target.count(found.known, self.scraped)?;
                What::Series(Sampled { text: *text, found: *found, again: false, covered: false })
            }
        };
        self.lines.push(Line { length: line.length, what });
        Ok(true)
    }

    /// A line that has the same name and labels as the one on the last page.
    fn same_series(
        &mut self,
        parser: &mut Parser<'_>,
        line: &Line,
        bytes: &[u8],
    ) -> Result<bool, ScrapeError> {
        let (What::Series(Sampled { found, .. }), Some(text)) = (&line.what, line.text(bytes)) else {
            return Ok(false);
        };
        let start = parser.offset();
        let Some(series) = parser.next_of(text) else { return Ok(false) };
        self.sample(parser, start, found.known, series?)?;
        Ok(true)
    }

    fn sample(
        &mut self,
        parser: &mut Parser<'_>,
        start: usize,
        known: u32,
        series: SeriesLine<'_>,
    ) -> Result<(), ScrapeError> {
        let text = range_in(parser.page(), series.text);
        self.exemplars.extend(exemplar(parser, known, &series)?);
        let found = Found { known, value: series.value, timestamp_ms: series.timestamp_ms };
        let text = ((text.start - start) as u32, (text.end - start) as u32);
        let what = What::Series(Sampled { text, found, again: false, covered: false });
        self.lines.push(Line { length: (parser.offset() - start) as u32, what });
        self.target.count(known, self.scraped)
    }

    fn comment(&mut self, store: &mut Store, parser: &Parser<'_>, start: usize, comment: &Entry<'_>) {
        let what = match comment {
            Entry::Type { .. } => What::Type(parser.kind()),
            _ => What::Comment,
        };
        self.lines.push(Line { length: (parser.offset() - start) as u32, what });
        describe(store, comment);
    }
}

/// The exemplar of the line that was read last.
fn exemplar(
    parser: &mut Parser<'_>,
    known: u32,
    series: &SeriesLine<'_>,
) -> Result<Option<(u32, PageExemplar)>, ScrapeError> {
    let Some(exemplar) = series.exemplar else { return Ok(None) };
    let labels = parser.exemplar_labels()?;
    let (value, timestamp_ms) = (exemplar.value, exemplar.timestamp_ms);
    Ok(Some((known, PageExemplar { labels, value, timestamp_ms })))
}

/// Where a part of a page stands on it.
fn range_in(page: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - page.as_ptr() as usize;
    start..start + part.len()
}

/// Keeps what a comment says about its metric family.
fn describe(store: &mut Store, comment: &Entry<'_>) {
    let (family, field, text): (_, fn(&mut crate::Metadata) -> &mut String, _) = match comment {
        Entry::Help { family, text } => (family, |m| &mut m.help, *text),
        Entry::Unit { family, unit } => (family, |m| &mut m.unit, *unit),
        Entry::Type { family, kind } => (family, |m| &mut m.kind, *kind),
        Entry::Series(_) => return,
    };
    let Some(field) = store.metadata_entry(family).map(field) else { return };
    if field != text {
        *field = text.to_owned();
    }
}
