//! Explains why text is not JSON, in the words and positions of Python's `json`, which FastAPI shows.
//!
//! `serde_json` decides *whether* text is JSON; this only locates the fault again and words it. Positions count
//! characters from the start, as Python does. Where Python would accept the text (a lone surrogate, a number beyond
//! `f64`, nesting deeper than [`DEPTH_MAX`]), `serde_json`'s own words are used.

use serde_json::{Value, json};

use super::{Loc, Problem};

/// `serde_json`'s own limit on nesting.
const DEPTH_MAX: usize = 128;

/// Returns the problem with `text`, which `serde_json` refused with `error`.
pub(super) fn problem(text: &str, error: &serde_json::Error) -> Problem {
    let fault = Scanner { bytes: text.as_bytes(), at: 0 }.document().err().flatten();
    let (at, words) = fault.map_or_else(
        || (offset(text, error.line(), error.column()), own_words(error)),
        |fault| (fault.at, fault.words.to_owned()),
    );
    let position = String::from_utf8_lossy(&text.as_bytes()[..at]).chars().count();
    let loc = [Loc::Name("body"), Loc::Index(position)];
    let problem = Problem::new("json_invalid", &loc, "JSON decode error", &Value::Object(Default::default()));
    Problem { ctx: Some(json!({ "error": words })), ..problem }
}

/// Returns `serde_json`'s message without the position at its end, which `loc` holds.
fn own_words(error: &serde_json::Error) -> String {
    let words = error.to_string();
    words.split(" at line ").next().unwrap_or_default().to_owned()
}

fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

struct Fault {
    at: usize,
    words: &'static str,
}

/// `Err(None)`: refused for a reason that does not exist in Python.
type Scan = Result<(), Option<Fault>>;

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn document(mut self) -> Scan {
        self.space();
        self.value(0)?;
        self.space();
        if self.at < self.bytes.len() { self.fault("Extra data") } else { Ok(()) }
    }

    fn fault(&self, words: &'static str) -> Scan {
        Err(Some(Fault { at: self.at, words }))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Consumes the next byte if it is `byte`.
    fn takes(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Scan {
        if depth >= DEPTH_MAX {
            return Err(None);
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Scan {
        self.at += 1;
        self.space();
        if self.takes(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.fault("Expecting property name enclosed in double quotes");
            }
            self.string()?;
            self.space();
            if !self.takes(b':') {
                return self.fault("Expecting ':' delimiter");
            }
            self.space();
            self.value(depth + 1)?;
            self.space();
            if self.takes(b'}') {
                return Ok(());
            }
            if !self.takes(b',') {
                return self.fault("Expecting ',' delimiter");
            }
            self.space();
        }
    }

    fn array(&mut self, depth: usize) -> Scan {
        self.at += 1;
        self.space();
        if self.takes(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            if self.takes(b']') {
                return Ok(());
            }
            if !self.takes(b',') {
                return self.fault("Expecting ',' delimiter");
            }
            self.space();
        }
    }

    fn string(&mut self) -> Scan {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(Some(Fault { at: start, words: "Unterminated string starting at" })),
                Some(b'"') => break self.at += 1,
                Some(b'\\') => self.escape(start)?,
                Some(0..=0x1f) => return self.fault("Invalid control character at"),
                Some(_) => self.at += 1,
            }
        }
        Ok(())
    }

    fn escape(&mut self, string_start: usize) -> Scan {
        match self.bytes.get(self.at + 1) {
            None => return Err(Some(Fault { at: string_start, words: "Unterminated string starting at" })),
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    self.at += 1;
                    return self.fault("Invalid \\uXXXX escape");
                }
                self.at += 6;
            }
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(_) => return self.fault("Invalid \\escape"),
        }
        Ok(())
    }

    /// Takes the longest number, as Python does; the rest then fails with `Extra data` or `Expecting ',' delimiter`.
    fn number(&mut self) -> Scan {
        let start = self.at;
        self.takes(b'-');
        if !self.takes(b'0') && self.digits() == 0 {
            self.at = start;
            return self.fault("Expecting value");
        }
        let whole = self.at;
        if self.takes(b'.') && self.digits() == 0 {
            self.at = whole;
        }
        let mantissa = self.at;
        if self.takes(b'e') || self.takes(b'E') {
            let _sign = self.takes(b'+') || self.takes(b'-');
            if self.digits() == 0 {
                self.at = mantissa;
            }
        }
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self) -> Scan {
        for word in ["true", "false", "null"] {
            if self.bytes[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(());
            }
        }
        self.fault("Expecting value")
    }
}
