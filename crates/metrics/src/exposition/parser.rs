//! The reader of text pages: finds lines and their parts in one pass over the bytes.
//!
//! The grammars are Prometheus' own (`model/textparse/promlex.l` and `openmetricslex.l`), with their leniencies: the text
//! format allows blanks between all parts and does without commas between labels; OpenMetrics allows one space
//! where one must be, and nothing else.

use super::number::parse_number;
use super::series::{FamilyKind, Pairs};
use super::{BODY_BYTES_MAX, Entry, ExpositionError, Format, SeriesLine};
use crate::labels::Labels;
use crate::text::quote;

/// A mistake on a page: at which byte, and what.
pub(super) type Mistake = (usize, String);

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
    page: &'a str,
    format: Format,
    /// Start of what is still to be read.
    at: usize,
    state: State,
    /// The kind that the last `# TYPE` told.
    kind: FamilyKind,
    /// Name and labels of the last sample, as places on the page.
    pairs: Pairs,
    /// Those of the exemplar that is being read.
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
        let kind = FamilyKind::Other;
        Ok(Parser { page, format, at: 0, state: State::Reading, kind, pairs, exemplar_pairs })
    }

    /// The labels of the sample that was read last, its name among them. Buckets of a histogram and quantiles of a summary
    /// get one spelling (`le="1"` becomes `le="1.0"`), as in Prometheus 3.
    pub fn labels(&self) -> Result<Labels, ExpositionError> {
        self.pairs.labels(self.page, self.kind).map_err(|mistake| place(self.page.as_bytes(), mistake))
    }

    /// The labels of the exemplar of the sample that was read last.
    pub fn exemplar_labels(&self) -> Result<Labels, ExpositionError> {
        let labels = self.exemplar_pairs.labels(self.page, FamilyKind::Other);
        labels.map_err(|mistake| place(self.page.as_bytes(), mistake))
    }

    pub(crate) fn page(&self) -> &'a str {
        self.page
    }

    /// Where the next line starts.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    pub(crate) fn kind(&self) -> FamilyKind {
        self.kind
    }

    /// Passes over a line that stood on the last page as it stands here, without reading it. `kind` is what it
    /// told about the family, if it was a `# TYPE`.
    pub(crate) fn skip_same(&mut self, line: &[u8], kind: Option<FamilyKind>) -> bool {
        let same = self.state == State::Reading && self.page.as_bytes()[self.at..].starts_with(line);
        if same {
            self.at += line.len();
            self.kind = kind.unwrap_or(self.kind);
        }
        same
    }

    /// Reads a line whose name and labels are known to be right, because they stood on the last page.
    pub(crate) fn next_of(&mut self, text: &[u8]) -> Option<Result<SeriesLine<'a>, ExpositionError>> {
        let rest = &self.page.as_bytes()[self.at..];
        let closed = text.last() == Some(&b'}');
        let ends = matches!(rest.get(text.len()), Some(b' ' | b'\t')) || closed;
        if self.state != State::Reading || !ends || !rest.starts_with(text) {
            return None;
        }
        let start = self.at;
        self.at += text.len();
        Some(self.after_series(start, self.at).map_err(|mistake| self.fail(mistake)))
    }

    fn fail(&mut self, mistake: Mistake) -> ExpositionError {
        self.state = State::Ended;
        place(self.page.as_bytes(), mistake)
    }

    /// Reads one line; mistakes are places on the page.
    fn read_line(&mut self) -> Result<Option<Entry<'a>>, Mistake> {
        if self.state == State::Complete {
            return Err((self.at, "unexpected data after # EOF".into()));
        }
        if self.format == Format::Text {
            self.skip_blanks();
        }
        match self.peek() {
            Some(b'\n') if self.format == Format::Text => {
                self.at += 1;
                Ok(None)
            }
            None if self.format == Format::Text => Ok(None),
            // Prometheus' lexer takes a zero byte for the end of the page.
            Some(0) if self.format == Format::Text => {
                self.at = self.page.len();
                Ok(None)
            }
            Some(b'#') => self.comment(),
            _ => self.sample().map(|line| Some(Entry::Series(line))),
        }
    }

    /// `# HELP`, `# TYPE`, `# UNIT`, `# EOF`, or (in the text format) any comment.
    fn comment(&mut self) -> Result<Option<Entry<'a>>, Mistake> {
        let start = self.at;
        let end = self.line_end();
        let line = &self.page[start..end];
        if self.format == Format::OpenMetrics && line == "# EOF" {
            self.at = (end + 1).min(self.page.len());
            self.state = State::Complete;
            return Ok(None);
        }
        self.at = (end + 1).min(self.page.len());
        let Some((keyword, rest)) = self.keyword(line) else {
            return match self.format {
                Format::Text => Ok(None),
                _ => Err((start, format!("expected a valid start token, got {}", quote(line.as_bytes())))),
            };
        };
        let family_at = start + line.len() - rest.len();
        let Some((family, text)) = split_family(rest) else {
            return Err((family_at, format!("expected metric name after {keyword}, got {}", got(rest))));
        };
        // What follows the one separator is the text, blanks and all.
        let text = match text.as_bytes().first() {
            None if self.format == Format::OpenMetrics => {
                return Err((start + line.len(), format!("expected text in {keyword}")));
            }
            None => "",
            Some(_) => &text[text.len().min(1)..],
        };
        self.metadata(keyword, family, text, start).map(Some)
    }

    fn metadata(
        &mut self,
        keyword: &str,
        family: &'a str,
        text: &'a str,
        start: usize,
    ) -> Result<Entry<'a>, Mistake> {
        match keyword {
            "HELP" => Ok(Entry::Help { family, text }),
            "TYPE" if is_known_type(text, self.format) => {
                self.kind = FamilyKind::of(text);
                Ok(Entry::Type { family, kind: text })
            }
            "TYPE" => Err((start, format!("invalid metric type {}", quote(text.as_bytes())))),
            _ => {
                let suffixed = family.strip_suffix(text).is_some_and(|name| name.ends_with('_'));
                if text.is_empty() || suffixed {
                    return Ok(Entry::Unit { family, unit: text });
                }
                let (unit, metric) = (quote(text.as_bytes()), quote(family.as_bytes()));
                Err((start, format!("unit {unit} not a suffix of metric {metric}")))
            }
        }
    }

    /// `HELP`, `TYPE` or `UNIT` and what follows; nothing for any other comment.
    fn keyword<'b>(&self, line: &'b str) -> Option<(&'b str, &'b str)> {
        let (keyword, rest) = match self.format {
            Format::OpenMetrics => line.strip_prefix("# ")?.split_once(' ')?,
            _ => {
                let words = line[1..].trim_start_matches(BLANKS);
                if words.len() + 1 == line.len() {
                    return None;
                }
                let (keyword, rest) = words.split_once(BLANKS)?;
                (keyword, rest.trim_start_matches(BLANKS))
            }
        };
        let known =
            matches!(keyword, "HELP" | "TYPE") || (keyword == "UNIT" && self.format == Format::OpenMetrics);
        known.then_some((keyword, rest))
    }

    fn sample(&mut self) -> Result<SeriesLine<'a>, Mistake> {
        let start = self.at;
        let mut pairs = std::mem::take(&mut self.pairs);
        pairs.clear();
        let read = self.series(&mut pairs);
        self.pairs = pairs;
        let end = read?;
        self.after_series(start, end)
    }

    /// Name and labels; returns where they end.
    fn series(&mut self, pairs: &mut Pairs) -> Result<usize, Mistake> {
        let start = self.at;
        let named = self.peek().is_some_and(is_name_start);
        if named {
            self.skip_while(is_name_byte);
            pairs.set_name(start, self.at);
        } else if self.peek() != Some(b'{') {
            return Err((start, format!("expected a valid start token, got {}", self.got())));
        }
        let end = self.at;
        if self.format == Format::Text {
            self.skip_blanks();
        }
        if !self.eat(b'{') {
            self.at = end;
            return Ok(end);
        }
        self.labels_in_braces(pairs, false)?;
        if !pairs.has_name() {
            return Err((start, "metric name not set while parsing".into()));
        }
        Ok(self.at)
    }

    /// The inside of braces, the closing one included.
    fn labels_in_braces(&mut self, pairs: &mut Pairs, is_exemplar: bool) -> Result<(), Mistake> {
        loop {
            self.blanks();
            if self.eat(b'}') {
                return Ok(());
            }
            let start = self.at;
            let quoted = self.peek() == Some(b'"');
            let name = match self.peek() {
                Some(b'"') => self.string(false)?,
                Some(byte) if is_name_start(byte) && byte != b':' => {
                    self.skip_while(|byte| is_name_byte(byte) && byte != b':');
                    (start, self.at)
                }
                _ => return Err((start, format!("expected label name, got {}", self.got()))),
            };
            self.blanks();
            if quoted && !is_exemplar && matches!(self.peek(), Some(b',' | b'}')) {
                if pairs.has_name() {
                    return Err((start, "metric name already set while parsing".into()));
                }
                pairs.set_name(name.0, name.1);
                self.eat(b',');
                continue;
            }
            if !self.eat(b'=') {
                return Err((self.at, format!("expected equal, got {}", self.got())));
            }
            self.blanks();
            let value = match self.peek() {
                Some(b'"') => self.string(self.format == Format::OpenMetrics)?,
                _ => return Err((self.at, format!("expected label value, got {}", self.got()))),
            };
            pairs.push(name, value);
            self.blanks();
            let separated = self.eat(b',') || self.peek() == Some(b'}');
            if !separated && self.format == Format::OpenMetrics {
                return Err((self.at, format!("expected comma or brace close, got {}", self.got())));
            }
        }
    }

    /// A string in double quotes; returns the place of its inside.
    fn string(&mut self, one_line: bool) -> Result<(usize, usize), Mistake> {
        let bytes = self.page.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    self.at = at + 1;
                    return Ok((start, at));
                }
                b'\\' => at += 1,
                b'\n' if one_line => break,
                _ => {}
            }
            at += 1;
        }
        Err((start, "unterminated label value".into()))
    }

    /// Value, timestamp and exemplar of a sample whose name and labels stand from `start` to `end`.
    fn after_series(&mut self, start: usize, end: usize) -> Result<SeriesLine<'a>, Mistake> {
        let text = &self.page[start..end];
        self.exemplar_pairs.clear();
        let value = self.value("metric")?;
        let mut line = SeriesLine { text, value, timestamp_ms: None, exemplar: None };
        if self.line_is_over()? {
            return Ok(line);
        }
        if self.format == Format::Text {
            line.timestamp_ms = Some(self.text_timestamp()?);
        } else {
            if !self.rest().starts_with(" # {") {
                line.timestamp_ms = Some(self.seconds("timestamp")?);
                if self.line_is_over()? {
                    return Ok(line);
                }
            }
            line.exemplar = Some(self.exemplar()?);
        }
        if self.line_is_over()? {
            return Ok(line);
        }
        let part = if line.exemplar.is_some() { "exemplar timestamp" } else { "timestamp" };
        Err((self.at, format!("expected next entry after {part}, got {}", self.got())))
    }

    fn value(&mut self, after: &str) -> Result<f64, Mistake> {
        let missing =
            |parser: &Self| Err((parser.at, format!("expected value after {after}, got {}", parser.got())));
        if self.format == Format::OpenMetrics {
            if !self.eat(b' ') {
                return missing(self);
            }
        } else {
            self.skip_blanks();
        }
        let start = self.at;
        self.skip_word();
        if self.at == start {
            return missing(self);
        }
        let word = &self.page[start..self.at];
        parse_number(word).map_err(|why| (start, format!("{why} {}", quote(word.as_bytes()))))
    }

    /// Whether nothing but the line's end follows; passes over it.
    fn line_is_over(&mut self) -> Result<bool, Mistake> {
        if self.format == Format::Text {
            self.skip_blanks();
        }
        match self.peek() {
            Some(b'\n') => {
                self.at += 1;
                Ok(true)
            }
            None if self.format == Format::Text => Ok(true),
            None => Err((self.at, NO_EOF.into())),
            Some(_) => Ok(false),
        }
    }

    /// Milliseconds, in digits only.
    fn text_timestamp(&mut self) -> Result<i64, Mistake> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_digit());
        let digits = &self.page[start..self.at];
        if digits.is_empty() {
            return Err((start, format!("expected timestamp or new record, got {}", self.got())));
        }
        digits.parse().map_err(|_| (start, format!("timestamp {digits} is out of range")))
    }

    /// Seconds, as a float.
    fn seconds(&mut self, what: &str) -> Result<i64, Mistake> {
        if !self.eat(b' ') {
            return Err((self.at, format!("expected {what} or new record, got {}", self.got())));
        }
        let start = self.at;
        self.skip_word();
        let word = &self.page[start..self.at];
        let seconds =
            parse_number(word).map_err(|why| (start, format!("{why} {}", quote(word.as_bytes()))))?;
        if !seconds.is_finite() || seconds.abs() >= SECONDS_MAX {
            return Err((start, format!("invalid {what} {}", crate::text::format_value(seconds))));
        }
        Ok((seconds * 1_000.0) as i64)
    }

    /// ` # {labels} value [timestamp]`.
    fn exemplar(&mut self) -> Result<Exemplar, Mistake> {
        if !self.rest().starts_with(" # {") {
            return Err((self.at, format!("expected next entry after timestamp, got {}", self.got())));
        }
        self.at += " # {".len();
        let mut pairs = std::mem::take(&mut self.exemplar_pairs);
        let read = self.labels_in_braces(&mut pairs, true);
        self.exemplar_pairs = pairs;
        read?;
        let value = self.value("exemplar labels")?;
        let timestamp_ms = match self.peek() {
            Some(b' ') => Some(self.seconds("exemplar timestamp")?),
            _ => None,
        };
        Ok(Exemplar { value, timestamp_ms })
    }

    fn rest(&self) -> &'a str {
        &self.page[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.page.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_while(&mut self, holds: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&holds) {
            self.at += 1;
        }
    }

    fn skip_blanks(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// Blanks where only the text format allows them.
    fn blanks(&mut self) {
        if self.format == Format::Text {
            self.skip_blanks();
        }
    }

    /// A word ends at a blank; in OpenMetrics a tab is not one, in the text format a brace ends it too.
    fn skip_word(&mut self) {
        match self.format {
            Format::OpenMetrics => self.skip_while(|byte| !matches!(byte, b' ' | b'\n')),
            _ => self.skip_while(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'{')),
        }
    }

    fn line_end(&self) -> usize {
        memchr::memchr(b'\n', self.rest().as_bytes()).map_or(self.page.len(), |offset| self.at + offset)
    }

    /// What stands here, for a message.
    fn got(&self) -> String {
        got(self.rest())
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Entry<'a>, ExpositionError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.state != State::Ended {
            if self.at == self.page.len() {
                let complete = self.format == Format::Text || self.state == State::Complete;
                let error = self.fail((self.at, NO_EOF.into()));
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

const NO_EOF: &str = "data does not end with # EOF";
const BLANKS: [char; 2] = [' ', '\t'];
/// Seconds whose milliseconds fit into 64 bits.
const SECONDS_MAX: f64 = 9.2e15;
/// Characters of a page that a message quotes.
const GOT_CHARS_MAX: usize = 32;

/// An exemplar's value and own time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// The value.
    pub value: f64,
    /// Its time, where it has one.
    pub timestamp_ms: Option<i64>,
}

/// A byte of a page as line and column.
fn place(page: &[u8], (at, message): Mistake) -> ExpositionError {
    let before = &page[..at.min(page.len())];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    ExpositionError { line, column: before.len() - line_start + 1, message }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b':'
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':'
}

fn got(rest: &str) -> String {
    match rest.chars().next() {
        None => "end of page".into(),
        Some('\n') => quote(b"\n"),
        Some(c @ (' ' | '\t')) => quote(&[c as u8]),
        Some(_) => {
            let word: String =
                rest.chars().take(GOT_CHARS_MAX).take_while(|c| !matches!(c, ' ' | '\t' | '\n')).collect();
            quote(word.as_bytes())
        }
    }
}

/// The family's name (quoted ones without their quotes) and what follows.
fn split_family(text: &str) -> Option<(&str, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        return quoted.split_once('"');
    }
    let length = text.bytes().take_while(|byte| is_name_byte(*byte)).count();
    text.bytes().next().is_some_and(is_name_start).then(|| text.split_at(length))
}

fn is_known_type(kind: &str, format: Format) -> bool {
    match kind {
        "counter" | "gauge" | "histogram" | "summary" => true,
        "untyped" => format == Format::Text,
        "unknown" | "info" | "stateset" | "gaugehistogram" => format == Format::OpenMetrics,
        _ => false,
    }
}
