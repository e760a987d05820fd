//! Patterns as Prometheus reads them (RE2's syntax), for the library here, which reads some of their signs otherwise.
//!
//! `\d`, `\w`, `\s` and `\b` are of ASCII, `[` and `&` in brackets are plain signs, `{` is one where it does not repeat, `\Q…\E`
//! quotes, and repetitions cannot be stacked.

/// How often a part may be repeated.
const REPEATS_MAX: u32 = 1_000;
/// Bytes in which the name of a class of characters ends.
const NAME_BYTES_MAX: usize = 64;
/// Letters after a backslash that mean the same to both.
const SAME_ESCAPES: &str = "afnrtvxABpPz";

/// The same pattern in the library's syntax, as far as it is valid; the rest of what is wrong the library finds. Takes time in
/// proportion to its length.
pub(crate) fn translate(pattern: &str) -> Result<String, String> {
    let mut translation = Translation { rest: pattern, out: String::new(), repetition: None, bracket: None };
    while let Some(c) = translation.take() {
        translation.next(c)?;
    }
    Ok(translation.out)
}

struct Translation<'p> {
    rest: &'p str,
    out: String,
    /// The repetition that ends here.
    repetition: Option<String>,
    /// How much was left behind the next `]`, when it was looked for; 0 if there is none.
    bracket: Option<usize>,
}

impl<'p> Translation<'p> {
    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take_if(&mut self, wanted: char) -> Option<char> {
        self.rest.starts_with(wanted).then(|| self.take()).flatten()
    }

    /// What stands before the next `]`. Each stretch of the pattern is searched once, however often this is asked.
    fn up_to_bracket(&mut self) -> Option<&'p str> {
        let known = self.bracket.filter(|after| *after <= self.rest.len());
        let after = known.unwrap_or_else(|| {
            memchr::memchr(b']', self.rest.as_bytes()).map_or(0, |at| self.rest.len() - at)
        });
        self.bracket = Some(after);
        (after > 0).then(|| &self.rest[..self.rest.len() - after])
    }

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
                let flag = self.take_if('?');
                self.out.extend(flag);
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
        let lazy = self.take_if('?');
        self.out.extend(lazy);
        self.repetition = Some(operator + if lazy.is_some() { "?" } else { "" });
        Ok(())
    }

    /// The inside of `{2}`, `{2,}` or `{2,5}`, when that is what follows.
    fn counts(&mut self) -> Result<Option<&'p str>, String> {
        // The next brace ends this, so the braces of a pattern are looked at once.
        let length = self.rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b',').count();
        let (ahead, after) = self.rest.split_at(length);
        let Some(after) = after.strip_prefix('}') else { return Ok(None) };
        let mut parts = ahead.split(',');
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (from, to) = (parts.next().unwrap_or_default(), parts.next());
        let valid = is_number(from) && to.is_none_or(|to| to.is_empty() || is_number(to));
        if !valid || parts.next().is_some() {
            return Ok(None);
        }
        let too_many = |text: &str| text.parse().is_ok_and(|n: u32| n > REPEATS_MAX) || text.len() > 9;
        if too_many(from) || to.is_some_and(too_many) {
            return Err(format!("invalid repeat count: `{{{ahead}}}`"));
        }
        self.rest = after;
        Ok(Some(ahead))
    }

    /// What follows a backslash outside of brackets.
    fn escape(&mut self) -> Result<(), String> {
        match self.take() {
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
                if matches!(other, Some('p' | 'P' | 'x')) && self.rest.starts_with('{') {
                    self.braces();
                }
                Ok(())
            }
        }
    }

    /// The name or number in `\p{Greek}` and `\x{10FFFF}`.
    fn braces(&mut self) {
        let close = self.rest.bytes().take(NAME_BYTES_MAX).position(|b| b == b'}');
        let (inside, after) = self.rest.split_at(close.map_or(0, |close| close + 1));
        self.out.push_str(inside);
        self.rest = after;
    }

    /// Up to `\E` everything is itself.
    fn quoted(&mut self) {
        let (quoted, after) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
        self.out.push_str(&regex::escape(quoted));
        self.rest = after;
    }

    /// The rest of a class in brackets.
    fn brackets(&mut self) -> Result<(), String> {
        self.out.push('[');
        let negated = self.take_if('^');
        self.out.extend(negated);
        // A bracket that comes first is itself.
        if self.take_if(']').is_some() {
            self.out.push_str("\\]");
        }
        while let Some(c) = self.take() {
            match c {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.rest.starts_with(':') => self.named_class(),
                '[' | '&' | '~' => self.out.extend(['\\', c]),
                '\\' => match self.take() {
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
        let ahead = self.up_to_bracket().filter(|ahead| ahead.len() >= 3 && ahead.ends_with(':'));
        let Some(ahead) = ahead else { return self.out.push_str("\\[") };
        self.out.push_str(&format!("[{ahead}]"));
        self.rest = &self.rest[ahead.len() + 1..];
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
            ("\\p{Greek}\\PL", "α1", "aa"),
            ("[\\p{Greek}\\x{1F600}]+", "α\u{1F600}", "a"),
            ("a{x{2}", "a{xx", "a{x"),
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

    /// Twice as long a pattern may take twice the output, and no part of it is looked at again: the steps are counted by how much
    /// of the pattern is left when it is asked for.
    #[test]
    fn every_byte_is_looked_at_a_few_times() {
        for part in ["{", "{1", "[[:", "[:", "[[:a:", "\\Q", "\\p{", "\\x{1", "(?", "a|", "{1,", "[a"] {
            let length =
                |times: usize| translate(&part.repeat(times)).map_or_else(|e| e.len(), |out| out.len());
            let (short, long) = (length(5_000), length(10_000));
            assert!(long <= 2 * short + 64, "{part}: {short} and {long}");
            // Minutes, if it were quadratic.
            let _ = translate(&part.repeat((256 << 10) / part.len()));
        }
    }
}
