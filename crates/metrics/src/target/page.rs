//! Reads a page against the last one: only lines that changed are read.
//!
//! Targets print the same series in the same order, so the line that is expected next is compared as bytes. If it is the
//! same, its sample is known; if only what follows the labels changed, a number is read; and only a line that is
//! neither is parsed. Where the order changed, lines are found by their text.

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
    lines: Vec<Line>,
}

/// A line that means something, with the meaningless ones before it.
struct Line {
    start: u32,
    end: u32,
    what: What,
}

enum What {
    Comment,
    Type(FamilyKind),
    /// Where name and labels stand, and the sample.
    Series {
        text_start: u32,
        text_end: u32,
        found: Found,
    },
}

/// A sample of a page: of which of the target's series, with what value and own time.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) known: u32,
    pub(super) value: f64,
    pub(super) timestamp_ms: Option<i64>,
}

impl LastPage {
    fn line(&self, line: &Line) -> Option<&[u8]> {
        // A last line without a line break could be the start of a longer one.
        self.bytes.get(line.start as usize..line.end as usize).filter(|line| line.last() == Some(&b'\n'))
    }

    fn text(&self, line: &Line) -> Option<&[u8]> {
        match line.what {
            What::Series { text_start, text_end, .. } => {
                self.bytes.get(text_start as usize..text_end as usize)
            }
            _ => None,
        }
    }

    /// The lines of samples by their text.
    fn by_text(&self) -> HashMap<&[u8], usize> {
        self.lines.iter().enumerate().filter_map(|(at, line)| Some((self.text(line)?, at))).collect()
    }

    /// Takes over that the target's series have got other numbers.
    pub(super) fn renumber(&mut self, numbers: &[Option<u32>]) {
        self.lines.retain_mut(|line| match &mut line.what {
            What::Series { found, .. } => {
                let number = numbers.get(found.known as usize).copied().flatten();
                found.known = number.unwrap_or(found.known);
                number.is_some()
            }
            _ => true,
        });
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
    ) -> Result<(Vec<Found>, ExemplarsOfKnown), ScrapeError> {
        let last = std::mem::take(&mut self.page);
        let mut reading = Reading {
            target: self,
            last: &last,
            lines: Vec::new(),
            found: Vec::new(),
            exemplars: Vec::new(),
            scraped,
        };
        reading.found.reserve(reading.target.known.len());
        reading.lines.reserve(last.lines.len());
        if last.format == Some(format) && last.bytes == page {
            reading.repeat()?;
            let found = reading.found;
            self.page = last;
            return Ok((found, Vec::new()));
        }
        if !page.is_empty() {
            reading.page(store, Parser::new(page, format)?)?;
        }
        let Reading { lines, found, exemplars, .. } = reading;
        let mut bytes = last.bytes;
        bytes.clear();
        bytes.extend_from_slice(page);
        self.page = LastPage { bytes, format: Some(format), lines };
        Ok((found, exemplars))
    }
}

/// A page that is being read.
struct Reading<'t> {
    target: &'t mut Target,
    last: &'t LastPage,
    lines: Vec<Line>,
    found: Vec<Found>,
    exemplars: ExemplarsOfKnown,
    scraped: &'t mut Scraped,
}

impl<'t> Reading<'t> {
    /// The very same page again.
    fn repeat(&mut self) -> Result<(), ScrapeError> {
        for line in &self.last.lines {
            if let What::Series { found, .. } = line.what {
                self.count(found)?;
            }
        }
        Ok(())
    }

    fn page(&mut self, store: &mut Store, mut parser: Parser<'_>) -> Result<(), ScrapeError> {
        let last = self.last;
        // The line of the last page that is expected next.
        let mut expected = 0;
        let mut by_text: Option<HashMap<&[u8], usize>> = None;
        loop {
            if let Some(line) = last.lines.get(expected)
                && (self.same_line(&mut parser, line)? || self.same_series(&mut parser, line)?)
            {
                expected += 1;
                continue;
            }
            let start = parser.offset();
            match parser.next().transpose()? {
                None => return Ok(()),
                Some(Entry::Series(series)) => {
                    let by_text = by_text.get_or_insert_with(|| last.by_text());
                    let at = by_text.get(series.text.as_bytes()).copied();
                    expected = at.map_or(expected, |at| at + 1);
                    let known = match at.and_then(|at| last.lines.get(at)).map(|line| &line.what) {
                        Some(What::Series { found, .. }) => found.known,
                        _ => self.target.remember(&parser.labels()?, self.scraped)?,
                    };
                    self.sample(&parser, start, known, series)?;
                }
                Some(comment) => self.comment(store, &parser, start, &comment),
            }
        }
    }

    /// A line that stands here as it stood on the last page.
    fn same_line(&mut self, parser: &mut Parser<'_>, line: &Line) -> Result<bool, ScrapeError> {
        let kind = match line.what {
            What::Type(kind) => Some(kind),
            _ => None,
        };
        let start = parser.offset();
        if !self.last.line(line).is_some_and(|bytes| parser.skip_same(bytes, kind)) {
            return Ok(false);
        }
        let moved = |place: u32| place - line.start + start as u32;
        let what = match line.what {
            What::Comment => What::Comment,
            What::Type(kind) => What::Type(kind),
            What::Series { text_start, text_end, found } => {
                self.count(found)?;
                What::Series { text_start: moved(text_start), text_end: moved(text_end), found }
            }
        };
        self.lines.push(Line { start: start as u32, end: moved(line.end), what });
        Ok(true)
    }

    /// A line that has the same name and labels as the one on the last page.
    fn same_series(&mut self, parser: &mut Parser<'_>, line: &Line) -> Result<bool, ScrapeError> {
        let (What::Series { found, .. }, Some(text)) = (&line.what, self.last.text(line)) else {
            return Ok(false);
        };
        let start = parser.offset();
        let Some(series) = parser.next_of(text) else { return Ok(false) };
        self.sample(parser, start, found.known, series?)?;
        Ok(true)
    }

    fn sample(
        &mut self,
        parser: &Parser<'_>,
        start: usize,
        known: u32,
        series: SeriesLine<'_>,
    ) -> Result<(), ScrapeError> {
        let text = range_in(parser.page(), series.text);
        if let Some(exemplar) = series.exemplar {
            let labels = parser.exemplar_labels()?;
            let (value, timestamp_ms) = (exemplar.value, exemplar.timestamp_ms);
            self.exemplars.push((known, PageExemplar { labels, value, timestamp_ms }));
        }
        let found = Found { known, value: series.value, timestamp_ms: series.timestamp_ms };
        self.lines.push(Line {
            start: start as u32,
            end: parser.offset() as u32,
            what: What::Series { text_start: text.start as u32, text_end: text.end as u32, found },
        });
        self.count(found)
    }

    fn count(&mut self, found: Found) -> Result<(), ScrapeError> {
        self.target.count(found.known, self.scraped)?;
        self.found.push(found);
        Ok(())
    }

    fn comment(&mut self, store: &mut Store, parser: &Parser<'_>, start: usize, comment: &Entry<'_>) {
        let what = match comment {
            Entry::Type { .. } => What::Type(parser.kind()),
            _ => What::Comment,
        };
        self.lines.push(Line { start: start as u32, end: parser.offset() as u32, what });
        describe(store, comment);
    }
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
