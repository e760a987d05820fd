//! A place on a page, and the blanks, words and strings that may stand there.

use super::Format;
use super::pairs::Part;
use crate::text::quote;

/// A mistake on a page: at which byte, and what.
pub(super) type Mistake = (usize, String);

/// Characters of a page that a message quotes.
const GOT_CHARS_MAX: usize = 32;

/// Which bytes a name may have.
const NAME_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 128u8 {
        bytes[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
        byte += 1;
    }
    bytes
};

pub(super) struct Cursor<'a> {
    pub(super) page: &'a str,
    pub(super) format: Format,
    /// Start of what is still to be read.
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.page[self.at..]
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.page.as_bytes().get(self.at).copied()
    }

    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_while(&mut self, holds: impl Fn(u8) -> bool) {
        let rest = &self.page.as_bytes()[self.at..];
        self.at += rest.iter().position(|byte| !holds(*byte)).unwrap_or(rest.len());
    }

    pub(super) fn skip_blanks(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// Blanks where only the text format allows them.
    pub(super) fn blanks(&mut self) {
        if self.format == Format::Text {
            self.skip_blanks();
        }
    }

    /// A word ends at a blank; in OpenMetrics a tab is not one, in the text format a brace ends it too.
    pub(super) fn skip_word(&mut self) {
        match self.format {
            Format::OpenMetrics => self.skip_while(|byte| !matches!(byte, b' ' | b'\n')),
            _ => self.skip_while(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'{')),
        }
    }

    /// A string in double quotes; returns its inside.
    pub(super) fn string(&mut self, one_line: bool) -> Result<Part, Mistake> {
        let start = self.at + 1;
        let (mut at, mut has_escapes) = (start, false);
        while let Some(byte) = self.page.as_bytes().get(at) {
            match byte {
                b'"' => {
                    self.at = at + 1;
                    return Ok(Part::new(start, at, has_escapes));
                }
                b'\\' => (at, has_escapes) = (at + 1, true),
                b'\n' if one_line => break,
                _ => {}
            }
            at += 1;
        }
        Err((start, "unterminated label value".into()))
    }

    pub(super) fn line_end(&self) -> usize {
        memchr::memchr(b'\n', self.rest().as_bytes()).map_or(self.page.len(), |offset| self.at + offset)
    }

    /// What stands here, for a message.
    pub(super) fn got(&self) -> String {
        got(self.rest())
    }
}

pub(super) fn is_name_start(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)] && !byte.is_ascii_digit()
}

pub(super) fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)]
}

pub(super) fn got(rest: &str) -> String {
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
