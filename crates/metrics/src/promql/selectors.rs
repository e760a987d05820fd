//! The parser's part for selectors: `name{label="value", …}`.

use super::ast::*;
use super::error::ParseError;
use super::lexer::Token;
use super::parser::{LABELS_MAX, Parser};
use crate::labels::METRIC_NAME;
use crate::matcher::{MatchOp, Matcher};
use crate::text::quote;

impl Parser<'_> {
    /// `name`, `name{…}`, `{…}`.
    pub(super) fn vector_selector(&mut self) -> Result<VectorSelector, ParseError> {
        let start = self.span();
        let mut name = None;
        if *self.peek() == Token::Name {
            name = Some(self.text().to_owned());
            self.advance();
        }
        let mut matchers = Vec::new();
        if self.eat("{") {
            matchers = self.matchers()?;
        } else if name.is_none() {
            return Err(self.unexpected("", ""));
        }
        let span = start.to(self.last_span());
        if let Some(name) = &name {
            if let Some(other) = matchers.iter().find(|matcher| matcher.name() == METRIC_NAME) {
                let (name, other) = (quote(name.as_bytes()), quote(other.value().as_bytes()));
                return Err(self.error(span, format!("metric name must not be set twice: {name} or {other}")));
            }
            matchers.push(Matcher::equal(METRIC_NAME, name));
        }
        Ok(VectorSelector { name, matchers, shift: TimeShift::default(), extension: None, span })
    }

    /// The inside of the braces, after `{`. A string alone is the metric's name.
    fn matchers(&mut self) -> Result<Vec<Matcher>, ParseError> {
        let mut matchers = Vec::new();
        while !self.eat("}") {
            let span = self.span();
            if matchers.len() >= LABELS_MAX {
                return Err(self.error(span, format!("selector has more than {LABELS_MAX} label matchers")));
            }
            let label = match self.peek().clone() {
                Token::Name => self.text().to_owned(),
                Token::String(value) => {
                    let value = String::from_utf8_lossy(&value).into_owned();
                    if self.next_is(",") || self.next_is("}") {
                        self.advance();
                        matchers.push(Matcher::equal(METRIC_NAME, &value));
                        self.matcher_end()?;
                        continue;
                    }
                    value
                }
                Token::End => return Err(self.error(span, "unexpected end of input inside braces")),
                _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
            };
            self.advance();
            let op = match self.peek() {
                Token::Sign("=") => MatchOp::Equal,
                Token::Sign("!=") => MatchOp::NotEqual,
                Token::Sign("=~") => MatchOp::RegexMatch,
                Token::Sign("!~") => MatchOp::RegexNoMatch,
                _ => return Err(self.unexpected("label matching", "label matching operator")),
            };
            self.advance();
            let Token::String(value) = self.peek().clone() else {
                return Err(self.unexpected("label matching", "string"));
            };
            let value = String::from_utf8_lossy(&value).into_owned();
            let matcher = self
                .patterns
                .matcher(&label, op, &value)
                .map_err(|error| self.error(span, error.to_string()))?;
            matchers.push(matcher);
            self.advance();
            self.matcher_end()?;
        }
        Ok(matchers)
    }

    fn matcher_end(&mut self) -> Result<(), ParseError> {
        if self.eat(",") || matches!(self.peek(), Token::Sign("}")) {
            return Ok(());
        }
        match self.peek() {
            Token::End => Err(self.error(self.span(), "unexpected end of input inside braces")),
            _ => Err(self.unexpected("label matching", "\",\" or \"}\"")),
        }
    }
}
