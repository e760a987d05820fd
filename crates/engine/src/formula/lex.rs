//! A formula's text, cut into tokens, each with its column.

use super::FormulaError;

/// The smallest piece with a meaning.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Number(f64),
    Name(String),
    /// An operator, a bracket or a separator.
    Sign(&'static str),
    End,
}

/// Longest first, so that `**` is not read as `*` twice.
const SIGNS: [&str; 31] = [
    "**", "==", "!=", "<=", ">=", "&&", "||", "??", "+", "-", "*", "/", "%", "^", "<", ">", "!", "?", ":",
    "(", ")", "[", "]", "{", "}", ",", "#", "|", "=", ".", ";",
];

/// The tokens of `text` with their columns; the last one is [`Token::End`].
pub(super) fn lex(text: &str) -> Result<Vec<(Token, usize)>, FormulaError> {
    let mut tokens = Vec::new();
    let (mut rest, mut column) = (text, 1);
    loop {
        let blank = rest.len() - rest.trim_start().len();
        column += rest[..blank].chars().count();
        rest = &rest[blank..];
        let Some(first) = rest.chars().next() else {
            tokens.push((Token::End, column));
            return Ok(tokens);
        };
        let (token, length) = match first {
            '0'..='9' => number(rest, column)?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => number(rest, column)?,
            c if c.is_alphabetic() || c == '_' || c == '$' => name(rest),
            _ => sign(rest, first, column)?,
        };
        tokens.push((token, column));
        column += rest[..length].chars().count();
        rest = &rest[length..];
    }
}

fn number(text: &str, column: usize) -> Result<(Token, usize), FormulaError> {
    let mut length = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    if text[length..].starts_with(['e', 'E']) {
        let exponent = text[length + 1..].strip_prefix(['+', '-']).unwrap_or(&text[length + 1..]);
        let digits = exponent.find(|c: char| !c.is_ascii_digit()).unwrap_or(exponent.len());
        if digits > 0 {
            length = text.len() - exponent.len() + digits;
        }
    }
    let written = &text[..length];
    match written.replace('_', "").parse() {
        Ok(number) => Ok((Token::Number(number), length)),
        Err(_) => Err(FormulaError::new(column, format!("`{written}` is not a number"))),
    }
}

fn name(text: &str) -> (Token, usize) {
    let length = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
    let token = match &text[..length] {
        "and" => Token::Sign("&&"),
        "or" => Token::Sign("||"),
        "not" => Token::Sign("!"),
        other => Token::Name(other.to_owned()),
    };
    (token, length)
}

fn sign(text: &str, first: char, column: usize) -> Result<(Token, usize), FormulaError> {
    match SIGNS.iter().find(|sign| text.starts_with(**sign)) {
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None => Err(FormulaError::new(column, format!("unrecognized character {first:?}"))),
    }
}
