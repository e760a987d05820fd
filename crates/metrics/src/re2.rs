//! Patterns as Prometheus reads them (RE2's syntax), for the library here, which reads some of their signs otherwise.
//!
//! `\d`, `\w`, `\s` and `\b` are of ASCII, `[` and `&` in brackets are plain signs, `{` is one where it does not repeat, `\Q…\E`
//! quotes, and repetitions cannot be stacked.

use std::iter::Peekable;
use std::str::Chars;

/// How often a part may be repeated.
const REPEATS_MAX: u32 = 1_000;
/// Letters after a backslash that mean the same to both.
const SAME_ESCAPES: &str = "afnrtvxABpPz";

/// The same pattern in the library's syntax, as far as it is valid; the rest of what is wrong the library finds.
pub(crate) fn translate(pattern: &str) -> Result<String, String> {
    let mut translation =
        Translation { rest: pattern.chars().peekable(), out: String::new(), repetition: None };
    while let Some(c) = translation.rest.next() {
        translation.next(c)?;
    }
    Ok(translation.out)
}

struct Translation<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
    /// The repetition that ends here.
    repetition: Option<String>,
}

impl Translation<'_> {
    fn next(&mut self, c: char) -> Result<(), String> {
        match c {
            '*' | '+' | '?' => return self.repeat(c.to_string()),
            '{' => {
                if let Some(counts) = self.counts()? {
                    return self.repeat(format!("{{{counts}}}"));
                }
                self.out.push_str("\\{");
            }
            '\\' => self.escape()?,
            '[' => self.brackets()?,
            '(' => {
                self.out.push('(');
                // What follows is a flag, and no repetition.
                self.out.extend(self.rest.next_if_eq(&'?'));
            }
            other => self.out.push(other),
        }
        self.repetition = None;
        Ok(())
    }

    fn repeat(&mut self, operator: String) -> Result<(), String> {
        self.out.push_str(&operator);
        if let Some(before) = self.repetition.take() {
            return Err(format!("invalid nested repetition operator: `{before}{operator}`"));
        }
        let lazy = self.rest.next_if_eq(&'?');
        self.out.extend(lazy);
        self.repetition = Some(operator + if lazy.is_some() { "?" } else { "" });
        Ok(())
    }

    /// The inside of `{2}`, `{2,}` or `{2,5}`, when that is what follows.
    fn counts(&mut self) -> Result<Option<String>, String> {
        let ahead: String = self.rest.clone().take_while(|c| *c != '}').collect();
        let mut parts = ahead.split(',');
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (from, to) = (parts.next().unwrap_or_default(), parts.next());
        let closed = self.rest.clone().any(|c| c == '}');
        let valid = is_number(from) && to.is_none_or(|to| to.is_empty() || is_number(to));
        if !closed || !valid || parts.next().is_some() {
            return Ok(None);
        }
        let too_many = |text: &str| text.parse().is_ok_and(|n: u32| n > REPEATS_MAX) || text.len() > 9;
        if too_many(from) || to.is_some_and(too_many) {
            return Err(format!("invalid repeat count: `{{{ahead}}}`"));
        }
        self.rest.by_ref().take(ahead.chars().count() + 1).for_each(drop);
        Ok(Some(ahead))
    }

    /// What follows a backslash outside of brackets.
    fn escape(&mut self) -> Result<(), String> {
        match self.rest.next() {
            Some('Q') => self.quoted(),
            // The end of a quotation that did not begin.
            Some('E') => {}
            Some('b') => self.out.push_str("(?-u:\\b)"),
            Some(c) if class(c).is_some() => {
                let (negated, inside) = class(c).unwrap_or_default();
                self.out.push_str(&format!("[{}{inside}]", if negated { "^" } else { "" }));
            }
            other => self.plain_escape(other)?,
        }
        Ok(())
    }

    fn plain_escape(&mut self, c: Option<char>) -> Result<(), String> {
        match c {
            Some(c) if c.is_ascii_alphabetic() && !SAME_ESCAPES.contains(c) => {
                Err(format!("invalid escape sequence: `\\{c}`"))
            }
            Some(c) if c.is_ascii_punctuation() => {
                self.out.push_str(&regex::escape(&c.to_string()));
                Ok(())
            }
            other => {
                self.out.push('\\');
                self.out.extend(other);
                Ok(())
            }
        }
    }

    /// Up to `\E` everything is itself.
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.out.push_str(&regex::escape(&c.to_string()));
        }
    }

    /// The rest of a class in brackets.
    fn brackets(&mut self) -> Result<(), String> {
        self.out.push('[');
        self.out.extend(self.rest.next_if_eq(&'^'));
        // A bracket that comes first is itself.
        if self.rest.next_if_eq(&']').is_some() {
            self.out.push_str("\\]");
        }
        while let Some(c) = self.rest.next() {
            match c {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.rest.peek() == Some(&':') => self.named_class(),
                '[' | '&' | '~' => self.out.extend(['\\', c]),
                '\\' => match self.rest.next() {
                    Some(c) if class(c).is_some() => {
                        let (negated, inside) = class(c).unwrap_or_default();
                        let inside = if negated { format!("[^{inside}]") } else { inside.to_owned() };
                        self.out.push_str(&inside);
                    }
                    other => self.plain_escape(other)?,
                },
                other => self.out.push(other),
            }
        }
        Ok(())
    }

    /// `[:alpha:]`, which both know, or a bracket like any other sign.
    fn named_class(&mut self) {
        let ahead: String = self.rest.clone().take_while(|c| *c != ']').collect();
        if ahead.len() < 3 || !ahead.ends_with(':') {
            return self.out.push_str("\\[");
        }
        self.out.push_str(&format!("[{ahead}]"));
        self.rest.by_ref().take(ahead.chars().count() + 1).for_each(drop);
    }
}

/// The ASCII signs of `\d` and its like, and whether it is all the others.
fn class(c: char) -> Option<(bool, &'static str)> {
    let inside = match c.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => "\\t\\n\\f\\r ",
        _ => return None,
    };
    Some((c.is_ascii_uppercase(), inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::anchored_regex;

    #[test]
    fn patterns_mean_what_they_mean_in_prometheus() {
        let rows = [
            ("\\d+", "12", "1२"),
            ("\\w*", "a_1", "é"),
            ("[\\w-]+", "a-b", "a b"),
            ("[^\\W\\d]", "a", "1"),
            ("a\\s\\S", "a\tb", "a\u{b}b"),
            (".*\\bb", "a-b", "éb_"),
            ("[[]a", "[a", "a"),
            ("[]a]+", "]a", "[a"),
            ("[a&&b]+", "a&b", "c"),
            ("[[:alpha:]]+", "ab", "a1"),
            ("\\Qa.b*\\E+", "a.b**", "axb"),
            ("a{,2}", "a{,2}", "aa"),
            ("a{2,3}?", "aaa", "a"),
            ("\\<a\\>", "<a>", "a"),
            ("(?i)model", "MODEL", "mode"),
            ("a|b", "b", "ab"),
        ];
        for (pattern, matches, other) in rows {
            let regex = anchored_regex(pattern).expect(pattern);
            assert!(regex.is_match(matches) && !regex.is_match(other), "{pattern}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let rows = [
            ("a**", "invalid nested repetition operator: `**`"),
            ("a+?*", "invalid nested repetition operator: `+?*`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("\\u00e9", "invalid escape sequence: `\\u`"),
        ];
        for (pattern, message) in rows {
            assert_eq!(translate(pattern).expect_err(pattern), message, "{pattern}");
        }
    }
}
