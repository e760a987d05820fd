//! A formula's text, cut into tokens, each with its column.

use super::{FormulaError, Result};

/// The smallest piece with a meaning.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Int(i64),
    Float(f64),
    Text(String),
    Name(String),
    /// `#`, or what follows it without a space: `acc`, `index`.
    Pointer(String),
    /// An operator, a keyword, a bracket or a separator.
    Sign(&'static str),
    End,
}

/// Longest first, so that `**` is not read as `*` twice.
const SIGNS: [&str; 32] = [
    "**", "==", "!=", "<=", ">=", "&&", "||", "??", "?.", "..", "+", "-", "*", "/", "%", "^", "<", ">", "!",
    "?", ":", "(", ")", "[", "]", "{", "}", ",", "|", "=", ".", ";",
];

/// Words that are no names.
const KEYWORDS: [&str; 11] =
    ["and", "or", "not", "in", "let", "if", "else", "contains", "startsWith", "endsWith", "matches"];

/// The tokens of `text` with their columns; the last one is [`Token::End`].
pub(super) fn lex(text: &str) -> Result<Vec<(Token, usize)>> {
    let mut tokens = Vec::new();
    let (mut rest, mut column) = (text, 1);
    loop {
        let blank = blank(rest, column)?;
        column += rest[..blank].chars().count();
        rest = &rest[blank..];
        let Some(first) = rest.chars().next() else {
            tokens.push((Token::End, column));
            return Ok(tokens);
        };
        let (token, length) = match first {
            '0'..='9' => number(rest, column)?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => number(rest, column)?,
            '"' | '\'' => quoted(rest, first, column)?,
            '`' => raw(rest, column)?,
            '#' => {
                let length = word_length(&rest[1..]) + 1;
                (Token::Pointer(rest[1..length].to_owned()), length)
            }
            c if is_word(c) => word(rest),
            _ => sign(rest, first, column)?,
        };
        tokens.push((token, column));
        column += rest[..length].chars().count();
        rest = &rest[length..];
    }
}

/// The length of spaces and comments: `/* … */`, and `//` to the end of the line.
fn blank(text: &str, column: usize) -> Result<usize> {
    let mut length = 0;
    loop {
        let rest = &text[length..];
        let spaces = rest.len() - rest.trim_start().len();
        let rest = &rest[spaces..];
        length += spaces;
        if rest.starts_with("//") {
            length += rest.find('\n').unwrap_or(rest.len());
        } else if let Some(comment) = rest.strip_prefix("/*") {
            let Some(end) = comment.find("*/") else {
                return Err(FormulaError::new(column, "a comment begins with `/*` and does not end"));
            };
            length += end + 4;
        } else {
            return Ok(length);
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !is_word(c)).unwrap_or(text.len())
}

fn word(text: &str) -> (Token, usize) {
    let length = word_length(text);
    let written = &text[..length];
    let token = match KEYWORDS.iter().find(|keyword| **keyword == written) {
        Some(keyword) => Token::Sign(keyword),
        None => Token::Name(written.to_owned()),
    };
    (token, length)
}

/// `10`, `1_000`, `0x1F`, `0o17`, `0b101`, `2.5`, `.5`, `1e3`; `1..3` begins with a whole number.
fn number(text: &str, column: usize) -> Result<(Token, usize)> {
    let digits = |from: usize| {
        from + text[from..].find(|c: char| !(c.is_ascii_digit() || c == '_')).unwrap_or(text.len() - from)
    };
    let radix = match text.get(..2) {
        Some("0x" | "0X") => 16,
        Some("0o" | "0O") => 8,
        Some("0b" | "0B") => 2,
        _ => 10,
    };
    let mut length = if radix == 10 { digits(0) } else { word_length(text) };
    let mut whole = true;
    if radix == 10 && text[length..].starts_with('.') && !text[length..].starts_with("..") {
        (length, whole) = (digits(length + 1), false);
    }
    if radix == 10 && text[length..].starts_with(['e', 'E']) {
        let sign = usize::from(text[length + 1..].starts_with(['+', '-']));
        (length, whole) = (digits(length + 1 + sign), false);
    }
    length += word_length(&text[length..]);
    let written = &text[..length];
    let plain = written.replace('_', "");
    let token = if whole {
        let digits = if radix == 10 { &plain } else { &plain[2..] };
        i64::from_str_radix(digits, radix).ok().map(Token::Int)
    } else {
        plain.parse().ok().filter(|number: &f64| number.is_finite()).map(Token::Float)
    };
    match token {
        Some(token) => Ok((token, length)),
        None => Err(FormulaError::new(column, format!("`{written}` is not a number, or too large"))),
    }
}

/// A text between quotes, with the usual escapes.
fn quoted(text: &str, quote: char, column: usize) -> Result<(Token, usize)> {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        let escaped = match c {
            '\n' => break,
            c if c == quote => return Ok((Token::Text(content), at + 1)),
            '\\' => chars.next().map(|(_, c)| c),
            c => {
                content.push(c);
                continue;
            }
        };
        content.push(match escaped {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('\\') => '\\',
            Some(c) if c == quote => c,
            _ => {
                return Err(FormulaError::new(
                    column,
                    "a text may escape only \\n, \\t, \\r, \\\\ and its quote",
                ));
            }
        });
    }
    Err(FormulaError::new(column, format!("a text begins with {quote} and does not end")))
}

/// A text between backticks, as it stands.
fn raw(text: &str, column: usize) -> Result<(Token, usize)> {
    match text[1..].find('`') {
        Some(end) => Ok((Token::Text(text[1..=end].to_owned()), end + 2)),
        None => Err(FormulaError::new(column, "a text begins with ` and does not end")),
    }
}

fn sign(text: &str, first: char, column: usize) -> Result<(Token, usize)> {
    match SIGNS.iter().find(|sign| text.starts_with(**sign)) {
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None => Err(FormulaError::new(column, format!("unrecognized character {first:?}"))),
    }
}
