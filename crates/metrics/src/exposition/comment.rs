//! The grammar of a line that starts with `#`.

use super::cursor::{Cursor, Mistake, got, is_name_byte, is_name_start};
use super::{Entry, Format};
use crate::text::quote;

const BLANKS: [char; 2] = [' ', '\t'];

/// What such a line says.
pub(super) enum Comment<'a> {
    Nothing,
    /// `# EOF`: nothing may follow.
    EndOfPage,
    Entry(Entry<'a>),
}

impl<'a> Cursor<'a> {
    /// `# HELP`, `# TYPE`, `# UNIT`, `# EOF`, or (in the text format) any comment.
    pub(super) fn comment(&mut self) -> Result<Comment<'a>, Mistake> {
        let start = self.at;
        let end = self.line_end();
        let line = &self.page[start..end];
        self.at = (end + 1).min(self.page.len());
        if self.format == Format::OpenMetrics && line == "# EOF" {
            return Ok(Comment::EndOfPage);
        }
        let Some((keyword, rest)) = self.keyword(line) else {
            return match self.format {
                Format::Text => Ok(Comment::Nothing),
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
            Some(_) => {
                let mut after = text.chars();
                after.next();
                after.as_str()
            }
        };
        self.metadata(keyword, family, text, start).map(Comment::Entry)
    }

    fn metadata(
        &self,
        keyword: &str,
        family: &'a str,
        text: &'a str,
        start: usize,
    ) -> Result<Entry<'a>, Mistake> {
        match keyword {
            "HELP" => Ok(Entry::Help { family, text }),
            "TYPE" if is_known_type(text, self.format) => Ok(Entry::Type { family, kind: text }),
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
