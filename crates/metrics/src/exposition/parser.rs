//! The reader of text pages: finds lines and their parts in one pass over the bytes.
//!
//! The grammars are Prometheus' own (`model/textparse/promlex.l` and `openmetricslex.l`), with their leniencies: the text
//! format allows blanks between all parts and does without commas between labels; OpenMetrics allows one space
//! where one must be, and nothing else.

use super::comment::Comment;
use super::cursor::{Cursor, Mistake};
use super::pairs::Pairs;
use super::series::FamilyKind;
use super::{BODY_BYTES_MAX, Entry, ExpositionError, Format, NO_EOF, SeriesLine};
use crate::labels::Labels;

/// An iterator over the entries of a page; ends after the first error.
///
/// ```
/// use flyball_metrics::exposition::{Entry, Format, Parser};
///
/// let page = "# TYPE http_requests_total counter\nhttp_requests_total{handler=\"/predict\"} 3\n";
/// let mut parser = Parser::new(page.as_bytes(), Format::Text)?;
/// assert!(matches!(parser.next(), Some(Ok(Entry::Type { family: "http_requests_total", kind: "counter" }))));
/// let Some(Ok(Entry::Series(line))) = parser.next() else { panic!("a sample") };
/// assert_eq!((line.text, line.value), ("http_requests_total{handler=\"/predict\"}", 3.0));
/// assert_eq!(parser.labels()?.get("handler"), "/predict");
/// # Ok::<(), flyball_metrics::exposition::ExpositionError>(())
/// ```
pub struct Parser<'a> {
    cursor: Cursor<'a>,
    state: State,
    /// The kind that the last `# TYPE` told.
    kind: FamilyKind,
    /// Name and labels of the last sample.
    pairs: Pairs,
    /// Those of its exemplar.
    exemplar_pairs: Pairs,
}

#[derive(PartialEq)]
enum State {
    Reading,
    /// `# EOF` was read: nothing may follow.
    Complete,
    Ended,
}

impl<'a> Parser<'a> {
    /// A reader of `page`; fails if it is too large or not UTF-8.
    pub fn new(page: &'a [u8], format: Format) -> Result<Parser<'a>, ExpositionError> {
        let whole = |message| ExpositionError { line: 1, column: 1, message };
        if page.len() > BODY_BYTES_MAX {
            return Err(whole(format!("page has {} bytes, more than {BODY_BYTES_MAX}", page.len())));
        }
        if format == Format::Protobuf {
            return Err(whole("protocol buffers are no lines of text".into()));
        }
        let page = std::str::from_utf8(page)
            .map_err(|error| place(page, (error.valid_up_to(), "invalid UTF-8".into())))?;
        let (pairs, exemplar_pairs) = Default::default();
        let cursor = Cursor { page, format, at: 0 };
        Ok(Parser { cursor, state: State::Reading, kind: FamilyKind::Other, pairs, exemplar_pairs })
    }

    /// The labels of the sample that was read last, its name among them. Buckets of a histogram and quantiles of a summary
    /// get one spelling (`le="1"` becomes `le="1.0"`), as in Prometheus 3.
    pub fn labels(&mut self) -> Result<Labels, ExpositionError> {
        let labels = self.pairs.labels(self.cursor.page, self.kind);
        labels.map_err(|mistake| self.place(mistake))
    }

    /// The labels of the exemplar of the sample that was read last.
    pub fn exemplar_labels(&mut self) -> Result<Labels, ExpositionError> {
        let labels = self.exemplar_pairs.labels(self.cursor.page, FamilyKind::Other);
        labels.map_err(|mistake| self.place(mistake))
    }

    pub(crate) fn page(&self) -> &'a str {
        self.cursor.page
    }

    /// Where the next line starts.
    pub(crate) fn offset(&self) -> usize {
        self.cursor.at
    }

    pub(crate) fn kind(&self) -> FamilyKind {
        self.kind
    }

    /// Passes over a line that stood on the last page as it stands here, without reading it. `kind` is what it
    /// told about the family, if it was a `# TYPE`.
    pub(crate) fn skip_same(&mut self, line: &[u8], kind: Option<FamilyKind>) -> bool {
        let same = self.state == State::Reading && self.cursor.rest().as_bytes().starts_with(line);
        if same {
            self.cursor.at += line.len();
            self.kind = kind.unwrap_or(self.kind);
        }
        same
    }

    /// Reads a line whose name and labels are known to be right, because they stood on the last page.
    pub(crate) fn next_of(&mut self, text: &[u8]) -> Option<Result<SeriesLine<'a>, ExpositionError>> {
        let rest = self.cursor.rest().as_bytes();
        let closed = text.last() == Some(&b'}');
        let ends = matches!(rest.get(text.len()), Some(b' ' | b'\t')) || closed;
        if self.state != State::Reading || !ends || !rest.starts_with(text) {
            return None;
        }
        let start = self.cursor.at;
        self.cursor.at += text.len();
        Some(self.after_series(start, self.cursor.at).map_err(|mistake| self.fail(mistake)))
    }

    fn after_series(&mut self, start: usize, end: usize) -> Result<SeriesLine<'a>, Mistake> {
        self.cursor.after_series(start, end, &mut self.exemplar_pairs)
    }

    fn place(&self, mistake: Mistake) -> ExpositionError {
        place(self.cursor.page.as_bytes(), mistake)
    }

    fn fail(&mut self, mistake: Mistake) -> ExpositionError {
        self.state = State::Ended;
        self.place(mistake)
    }

    /// Reads one line; mistakes are places on the page.
    fn read_line(&mut self) -> Result<Option<Entry<'a>>, Mistake> {
        let cursor = &mut self.cursor;
        if self.state == State::Complete {
            return Err((cursor.at, "unexpected data after # EOF".into()));
        }
        cursor.blanks();
        match cursor.peek() {
            Some(b'\n') if cursor.format == Format::Text => {
                cursor.at += 1;
                Ok(None)
            }
            None if cursor.format == Format::Text => Ok(None),
            // Prometheus' lexer takes a zero byte for the end of the page.
            Some(0) if cursor.format == Format::Text => {
                cursor.at = cursor.page.len();
                Ok(None)
            }
            Some(b'#') => self.comment(),
            _ => {
                let start = cursor.at;
                let end = cursor.series(&mut self.pairs)?;
                self.after_series(start, end).map(|line| Some(Entry::Series(line)))
            }
        }
    }

    fn comment(&mut self) -> Result<Option<Entry<'a>>, Mistake> {
        match self.cursor.comment()? {
            Comment::Nothing => Ok(None),
            Comment::EndOfPage => {
                self.state = State::Complete;
                Ok(None)
            }
            Comment::Entry(entry) => {
                if let Entry::Type { kind, .. } = entry {
                    self.kind = FamilyKind::of(kind);
                }
                Ok(Some(entry))
            }
        }
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Entry<'a>, ExpositionError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.state != State::Ended {
            let Cursor { page, format, at } = self.cursor;
            if at == page.len() {
                let complete = format == Format::Text || self.state == State::Complete;
                let error = self.fail((at, NO_EOF.into()));
                return (!complete).then_some(Err(error));
            }
            match self.read_line() {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => {}
                Err(mistake) => return Some(Err(self.fail(mistake))),
            }
        }
        None
    }
}

/// A byte of a page as line and column.
fn place(page: &[u8], (at, message): Mistake) -> ExpositionError {
    let before = &page[..at.min(page.len())];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    ExpositionError { line, column: before.len() - line_start + 1, message }
}
