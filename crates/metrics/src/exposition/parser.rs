//! The reader of pages: finds the lines and their parts.

use super::series::{Mistake, parse_series};
use super::{BODY_BYTES_MAX, Entry, ExpositionError, Format, PAGE_SAMPLES_MAX, SeriesLine};
use crate::text::{is_legacy_metric_name, parse_value, quote};

/// An iterator over the entries of a page; ends after the first error.
///
/// ```
/// use flyball_metrics::exposition::{Entry, Format, Parser};
///
/// let page = "# TYPE http_requests_total counter\nhttp_requests_total{handler=\"/predict\"} 3\n";
/// let entries: Vec<Entry> = Parser::new(page.as_bytes(), Format::Text)?.collect::<Result<_, _>>()?;
/// let Entry::Series(line) = &entries[1] else { panic!() };
/// assert_eq!((line.text, line.value), ("http_requests_total{handler=\"/predict\"}", 3.0));
/// # Ok::<(), flyball_metrics::exposition::ExpositionError>(())
/// ```
pub struct Parser<'a> {
    page: &'a str,
    format: Format,
    /// Start of the next line.
    at: usize,
    line: usize,
    samples: usize,
    state: State,
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
        let page = std::str::from_utf8(page).map_err(|error| {
            let before = &page[..error.valid_up_to()];
            let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            ExpositionError { line, column: before.len() - line_start + 1, message: "invalid UTF-8".into() }
        })?;
        Ok(Parser { page, format, at: 0, line: 0, samples: 0, state: State::Reading })
    }

    /// The next entry. `expected` is the series text that stood here on the target's last page: where it stands
    /// here again, it is compared and not searched.
    pub fn next_expecting(&mut self, expected: Option<&str>) -> Option<Result<Entry<'a>, ExpositionError>> {
        while self.state != State::Ended {
            let start = self.at;
            if start == self.page.len() {
                return self.end();
            }
            self.line += 1;
            match self.read_line(expected) {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => {}
                Err((at, message)) => {
                    self.state = State::Ended;
                    let column = at.saturating_sub(start) + 1;
                    return Some(Err(ExpositionError { line: self.line, column, message }));
                }
            }
        }
        None
    }

    fn end(&mut self) -> Option<Result<Entry<'a>, ExpositionError>> {
        let complete = self.format == Format::Text || self.state == State::Complete;
        self.state = State::Ended;
        let message = "data does not end with # EOF".into();
        (!complete).then_some(Err(ExpositionError { line: self.line + 1, column: 1, message }))
    }

    /// An error at a byte of a series text of the line just read.
    pub(crate) fn error_in_series(&self, text: &str, (offset, message): Mistake) -> ExpositionError {
        let line_start = self.page[..self.at.saturating_sub(1)].rfind('\n').map_or(0, |at| at + 1);
        let indent = self.page[line_start..].find(text).unwrap_or(0);
        ExpositionError { line: self.line, column: indent + offset + 1, message }
    }

    /// Reads one line; mistakes are positions in the page.
    fn read_line(&mut self, expected: Option<&str>) -> Result<Option<Entry<'a>>, Mistake> {
        if self.state == State::Complete {
            return Err((self.at, "unexpected data after # EOF".into()));
        }
        if self.format == Format::Text {
            self.at = self.skip_blanks(self.at);
        }
        match self.page.as_bytes().get(self.at) {
            Some(b'\n') if self.format == Format::Text => {
                self.at += 1;
                Ok(None)
            }
            Some(b'#') => self.comment(),
            _ => self.sample(expected).map(|line| Some(Entry::Series(line))),
        }
    }

    fn skip_blanks(&self, from: usize) -> usize {
        from + self.page.as_bytes()[from..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count()
    }

    /// `# HELP`, `# TYPE`, `# UNIT`, `# EOF`, or (in the text format) any comment.
    fn comment(&mut self) -> Result<Option<Entry<'a>>, Mistake> {
        let start = self.at;
        let end = self.page[start..].find('\n').map_or(self.page.len(), |offset| start + offset);
        let line = &self.page[start..end];
        if self.format == Format::OpenMetrics && line == "# EOF" {
            self.at = (end + 1).min(self.page.len());
            self.state = State::Complete;
            return Ok(None);
        }
        if end == self.page.len() {
            return Err((end, "expected a line break, got end of page".into()));
        }
        self.at = end + 1;
        let words = line[1..].trim_ascii_start();
        let Some((keyword, rest)) = words.split_once([' ', '\t']) else {
            return self.unknown_comment(start, line);
        };
        let rest = rest.trim_ascii_start();
        let (family, text) = split_family(rest).unwrap_or((rest, ""));
        let valid = !family.is_empty() && (rest.starts_with('"') || is_legacy_metric_name(family));
        let mistake =
            || (start, format!("expected metric name after {keyword}, got {}", quote(rest.as_bytes())));
        let check = |entry| if valid { Ok(Some(entry)) } else { Err(mistake()) };
        match keyword {
            "HELP" => check(Entry::Help { family, text }),
            "TYPE" if is_known_type(text.trim_ascii(), self.format) => {
                check(Entry::Type { family, kind: text.trim_ascii() })
            }
            "TYPE" => Err((start, format!("invalid metric type {}", quote(text.trim_ascii().as_bytes())))),
            "UNIT" if self.format == Format::OpenMetrics => {
                check(Entry::Unit { family, unit: text.trim_ascii() })
            }
            _ => self.unknown_comment(start, line),
        }
    }

    fn unknown_comment(&self, start: usize, line: &str) -> Result<Option<Entry<'a>>, Mistake> {
        match self.format {
            Format::Text => Ok(None),
            Format::OpenMetrics => {
                Err((start, format!("expected HELP, TYPE, UNIT or EOF, got {}", quote(line.as_bytes()))))
            }
        }
    }

    fn sample(&mut self, expected: Option<&str>) -> Result<SeriesLine<'a>, Mistake> {
        self.samples += 1;
        if self.samples > PAGE_SAMPLES_MAX {
            return Err((self.at, format!("more than {PAGE_SAMPLES_MAX} samples on the page")));
        }
        let start = self.at;
        let after = match expected {
            Some(text) if self.starts_with_series(start, text) => start + text.len(),
            _ => self.series_end(start)?,
        };
        let text = self.page[start..after].trim_ascii_end();
        let (value_text, after_value) = self.token(after);
        let value = parse_value(value_text).ok_or_else(|| {
            (self.skip_blanks(after), format!("expected value after metric, got {}", self.got(after)))
        })?;
        let (timestamp_ms, after_time) = self.timestamp(after_value)?;
        let (exemplar, end) = self.exemplar(after_time)?;
        self.line_end(end)?;
        Ok(SeriesLine { text, value, timestamp_ms, exemplar })
    }

    fn starts_with_series(&self, start: usize, text: &str) -> bool {
        let line = &self.page.as_bytes()[start..];
        line.starts_with(text.as_bytes()) && line.get(text.len()) == Some(&b' ')
    }

    /// The end of name and braces; blanks may stand between them.
    fn series_end(&self, start: usize) -> Result<usize, Mistake> {
        let bytes = self.page.as_bytes();
        let name = bytes[start..].iter().take_while(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n')).count();
        let mut at = self.skip_blanks(start + name);
        if bytes.get(at) != Some(&b'{') {
            return if name == 0 {
                Err((start, format!("expected a metric name, got {}", self.got(start))))
            } else {
                Ok(start + name)
            };
        }
        at += 1;
        let mut quoted = false;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => quoted = !quoted,
                b'\\' if quoted => at += 1,
                b'}' if !quoted => return Ok(at + 1),
                b'\n' => break,
                _ => {}
            }
            at += 1;
        }
        let at = at.min(bytes.len());
        // Tell a wrong label before the missing brace: it is the likelier cause.
        // A line break or the end of the page, except after a backslash: there the rest of the page is as good.
        let text = self.page.get(start..at).unwrap_or(&self.page[start..]);
        match parse_series(text) {
            Err((offset, message)) => Err((start + offset, message)),
            Ok(_) => Err((at, "expected brace close".into())),
        }
    }

    /// The word after blanks from `from` on, and where it ends.
    fn token(&self, from: usize) -> (&'a str, usize) {
        let start = self.skip_blanks(from);
        let length = self.page.as_bytes()[start..].iter().take_while(|b| !b.is_ascii_whitespace()).count();
        (&self.page[start..start + length], start + length)
    }

    /// What stands after blanks, for a message.
    fn got(&self, from: usize) -> String {
        let line = &self.page[self.skip_blanks(from)..];
        match line.chars().next() {
            None => "end of page".into(),
            Some('\n') => quote(b"\n"),
            Some(_) => quote(line.split_ascii_whitespace().next().unwrap_or("").as_bytes()),
        }
    }

    fn timestamp(&self, from: usize) -> Result<(Option<i64>, usize), Mistake> {
        let (word, after) = self.token(from);
        if word.is_empty() || word == "#" {
            return Ok((None, from));
        }
        let parsed = match self.format {
            Format::Text => word.parse().ok(),
            Format::OpenMetrics => {
                parse_value(word).filter(|s| s.abs() < 9.2e15).map(|s| (s * 1_000.0) as i64)
            }
        };
        match parsed {
            Some(timestamp_ms) => Ok((Some(timestamp_ms), after)),
            None => Err((
                self.skip_blanks(from),
                format!("expected timestamp or new record, got {}", self.got(from)),
            )),
        }
    }

    fn exemplar(&self, from: usize) -> Result<(Option<&'a str>, usize), Mistake> {
        if self.token(from).0 != "#" {
            return Ok((None, from));
        }
        let start = self.skip_blanks(from);
        if self.format == Format::Text {
            return Err((start, "expected timestamp or new record, got \"#\"".into()));
        }
        let labels_start = self.skip_blanks(start + 1);
        let labels_end = self.series_end(labels_start)?;
        let (value, after_value) = self.token(labels_end);
        if !self.page[labels_start..].starts_with('{') || parse_value(value).is_none() {
            return Err((
                labels_end,
                format!("expected value after exemplar labels, got {}", self.got(labels_end)),
            ));
        }
        let (_, end) = self.timestamp(after_value)?;
        Ok((Some(&self.page[labels_start..end]), end))
    }

    fn line_end(&mut self, from: usize) -> Result<(), Mistake> {
        let at = self.skip_blanks(from);
        let bytes = self.page.as_bytes();
        let at = if bytes.get(at) == Some(&b'\r') { at + 1 } else { at };
        match bytes.get(at) {
            Some(b'\n') => {
                self.at = at + 1;
                Ok(())
            }
            None => Err((at, "expected a line break, got end of page".into())),
            Some(_) => Err((at, format!("expected timestamp or new record, got {}", self.got(at)))),
        }
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Entry<'a>, ExpositionError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_expecting(None)
    }
}

/// The family's name (quoted ones without their quotes) and what follows.
fn split_family(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map(|(family, rest)| (family, rest.trim_ascii_start())),
        None => text.split_once([' ', '\t']),
    }
}

fn is_known_type(kind: &str, format: Format) -> bool {
    match kind {
        "counter" | "gauge" | "histogram" | "summary" => true,
        "untyped" => format == Format::Text,
        "unknown" | "info" | "stateset" | "gaugehistogram" => format == Format::OpenMetrics,
        _ => false,
    }
}
