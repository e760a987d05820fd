//! The grammar of a line with a sample: name, labels, value, timestamp, exemplar.

use super::cursor::{Cursor, Mistake, is_name_byte, is_name_start};
use super::number::parse_number;
use super::pairs::{Pairs, Part};
use super::series::{Exemplar, SeriesLine};
use super::{Format, NO_EOF};
use crate::text::quote;

/// Seconds whose milliseconds fit into 64 bits.
const SECONDS_MAX: f64 = 9.2e15;

impl<'a> Cursor<'a> {
    /// Name and labels; returns where they end.
    pub(super) fn series(&mut self, pairs: &mut Pairs) -> Result<usize, Mistake> {
        let start = self.at;
        pairs.clear(start);
        let named = self.peek().is_some_and(is_name_start);
        if named {
            self.skip_while(is_name_byte);
            pairs.set_name(Part::new(start, self.at, false));
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
                    Part::new(start, self.at, false)
                }
                _ => return Err((start, format!("expected label name, got {}", self.got()))),
            };
            self.blanks();
            if quoted && !is_exemplar && matches!(self.peek(), Some(b',' | b'}')) {
                if pairs.has_name() {
                    return Err((start, "metric name already set while parsing".into()));
                }
                pairs.set_name(name);
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

    /// Value, timestamp and exemplar of a sample whose name and labels stand from `start` to `end`.
    pub(super) fn after_series(
        &mut self,
        start: usize,
        end: usize,
        exemplar_pairs: &mut Pairs,
    ) -> Result<SeriesLine<'a>, Mistake> {
        let text = &self.page[start..end];
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
            line.exemplar = Some(self.exemplar(exemplar_pairs)?);
        }
        if self.line_is_over()? {
            return Ok(line);
        }
        let part = if line.exemplar.is_some() { "exemplar timestamp" } else { "timestamp" };
        Err((self.at, format!("expected next entry after {part}, got {}", self.got())))
    }

    fn value(&mut self, after: &str) -> Result<f64, Mistake> {
        let missing =
            |cursor: &Self| Err((cursor.at, format!("expected value after {after}, got {}", cursor.got())));
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
    fn exemplar(&mut self, pairs: &mut Pairs) -> Result<Exemplar, Mistake> {
        if !self.rest().starts_with(" # {") {
            return Err((self.at, format!("expected next entry after timestamp, got {}", self.got())));
        }
        self.at += " # {".len();
        pairs.clear(self.at);
        self.labels_in_braces(pairs, true)?;
        let value = self.value("exemplar labels")?;
        let timestamp_ms = match self.peek() {
            Some(b' ') => Some(self.seconds("exemplar timestamp")?),
            _ => None,
        };
        Ok(Exemplar { value, timestamp_ms })
    }
}
