//! Words of a query: numbers, durations, strings, names and signs, each with its place.
//!
//! Keywords are names here; the parser knows where they mean something. That is how Prometheus lets `sum` or `offset` be a
//! metric's name as well.

use super::ast::Span;
use super::error::ParseError;
use super::strings::unquote;
use crate::text::quote;

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A number; `true` when written as a duration, then in seconds.
    Number(f64, bool),
    String(Vec<u8>),
    /// A name or a keyword.
    Name,
    /// Any sign: `(`, `<=`, `=~`, …
    Sign(&'static str),
    End,
}

/// Signs, the longer ones before their prefixes.
const SIGNS: [&str; 27] = [
    "==", "!=", "<=", ">=", "</", ">/", "=~", "!~", "(", ")", "{", "}", "[", "]", ",", "@", "+", "-", "*",
    "/", "%", "^", "<", ">", "=", ":", ";",
];

/// Units of a duration literal; `ms` before `m`.
const UNITS: [(&str, f64); 7] = [
    ("ms", 0.001),
    ("y", 31_536_000.0),
    ("w", 604_800.0),
    ("d", 86_400.0),
    ("h", 3_600.0),
    ("m", 60.0),
    ("s", 1.0),
];

/// Splits a query into words; the last one is [`Token::End`].
pub(super) fn lex(query: &str) -> Result<Vec<(Token, Span)>, ParseError> {
    let mut lexer = Lexer { query, at: 0, brackets: 0, braces: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        tokens.push((token, Span { start, end: lexer.at }));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    query: &'a str,
    at: usize,
    /// Inside `[…]` a colon separates range and step.
    brackets: usize,
    braces: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.query[self.at..]
    }

    fn error(&self, start: usize, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, Span { start, end: self.at }, message)
    }

    fn skip_blanks(&mut self) {
        loop {
            self.at += self.rest().bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn token(&mut self) -> Result<Token, ParseError> {
        let Some(first) = self.rest().chars().next() else { return Ok(Token::End) };
        let second_is_digit = self.rest().as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        match first {
            '"' | '\'' | '`' => self.string(first),
            '0'..='9' => self.number(),
            '.' if second_is_digit => self.number(),
            'a'..='z' | 'A'..='Z' | '_' => Ok(self.name()),
            ':' if self.brackets == 0 && self.braces == 0 => Ok(self.name()),
            _ => self.sign(first),
        }
    }

    fn name(&mut self) -> Token {
        let colon = self.brackets == 0 && self.braces == 0;
        let part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || (colon && *b == b':');
        let length = self.rest().as_bytes().iter().take_while(|b| part(b)).count();
        let text = &self.rest()[..length];
        self.at += length;
        if self.braces == 0 {
            match text.to_ascii_lowercase().as_str() {
                "inf" => return Token::Number(f64::INFINITY, false),
                "nan" => return Token::Number(f64::NAN, false),
                _ => {}
            }
        }
        Token::Name
    }

    fn sign(&mut self, first: char) -> Result<Token, ParseError> {
        let Some(sign) = SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) else {
            return Err(self.error(self.at, format!("unexpected character: {first:?}")));
        };
        self.at += sign.len();
        match *sign {
            "[" => self.brackets += 1,
            "]" => self.brackets = self.brackets.saturating_sub(1),
            "{" => self.braces += 1,
            "}" => self.braces = self.braces.saturating_sub(1),
            _ => {}
        }
        Ok(Token::Sign(sign))
    }

    fn string(&mut self, quote_char: char) -> Result<Token, ParseError> {
        let start = self.at;
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' if quote_char != '`' => escaped = true,
                '\n' if quote_char != '`' => break,
                c if c == quote_char => {
                    let inner = &self.query[start + 1..start + offset];
                    self.at = start + offset + 1;
                    return unquote(inner, quote_char)
                        .map(Token::String)
                        .map_err(|message| self.error(start, message));
                }
                _ => {}
            }
        }
        let kind = if quote_char == '`' { "raw string" } else { "quoted string" };
        Err(self.error(start, format!("unterminated {kind}")))
    }

    /// A number or a duration: `12`, `1e3`, `0x1f`, `.5`, `1h30m`.
    fn number(&mut self) -> Result<Token, ParseError> {
        let start = self.at;
        if let Some(seconds) = self.duration() {
            return self.number_end(start, Token::Number(seconds, true));
        }
        let rest = self.rest();
        let hex = rest.starts_with("0x") || rest.starts_with("0X");
        let length = if hex { 2 + digits(&rest[2..], u8::is_ascii_hexdigit) } else { decimal_length(rest) };
        let written = &rest[..length];
        // As in Go, underscores stand between digits, and of whole numbers only.
        let misplaced = written.contains("__")
            || written.ends_with('_')
            || (!hex && written.contains('_') && written.contains(['.', 'e', 'E']));
        let text = written.replace('_', "");
        self.at += length;
        let value = if misplaced {
            None
        } else if hex {
            i64::from_str_radix(&text[2..], 16).ok().map(|v| v as f64)
        } else if text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| (b'0'..=b'7').contains(&b))
        {
            // Go's ParseInt with base 0, which Prometheus tries first, reads a leading zero as octal.
            i64::from_str_radix(&text, 8).ok().map(|v| v as f64)
        } else {
            text.parse().ok()
        };
        match value {
            Some(value) => self.number_end(start, Token::Number(value, false)),
            None => {
                Err(self
                    .error(start, format!("bad number or duration syntax: {}", quote(written.as_bytes()))))
            }
        }
    }

    fn number_end(&mut self, start: usize, token: Token) -> Result<Token, ParseError> {
        match self.rest().chars().next() {
            Some(c) if c.is_alphanumeric() || c == '_' => {
                self.at += c.len_utf8();
                let text = &self.query[start..self.at];
                Err(self.error(start, format!("bad number or duration syntax: {}", quote(text.as_bytes()))))
            }
            _ => Ok(token),
        }
    }

    /// The seconds of a duration literal, when one stands here: units from large to small.
    fn duration(&mut self) -> Option<f64> {
        let rest = self.rest();
        let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let text = &rest[..length];
        if !UNITS.iter().any(|(unit, _)| text.ends_with(unit)) || text.starts_with("0x") {
            return None;
        }
        let ms = crate::text::parse_duration_ms(text).ok()?;
        self.at += length;
        Some(ms as f64 / 1_000.0)
    }
}

fn digits(text: &str, is_digit: impl Fn(&u8) -> bool) -> usize {
    text.as_bytes().iter().take_while(|b| is_digit(b) || **b == b'_').count()
}

/// Bytes of a decimal number: digits, a point, digits, an exponent.
fn decimal_length(text: &str) -> usize {
    let mut length = digits(text, u8::is_ascii_digit);
    if text[length..].starts_with('.') {
        length += 1 + digits(&text[length + 1..], u8::is_ascii_digit);
    }
    if text[length..].starts_with(['e', 'E']) {
        let sign = usize::from(text[length + 1..].starts_with(['+', '-']));
        let exponent = digits(&text[length + 1 + sign..], u8::is_ascii_digit);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length
}
