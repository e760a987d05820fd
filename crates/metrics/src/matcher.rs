//! Label matchers: `=`, `!=`, `=~`, `!~`.

use std::fmt;

use regex::Regex;

use crate::labels::{Labels, METRIC_NAME};
use crate::re2;
use crate::text::{is_legacy_label_name, quote};

/// Bytes that a compiled pattern may take. RE2, which Prometheus uses, has a like bound; ours stops patterns such as `(a{1000}){1000}`.
const REGEX_BYTES_MAX: usize = 4 << 20;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    RegexMatch,
    /// `!~`
    RegexNoMatch,
}

impl fmt::Display for MatchOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::RegexMatch => "=~",
            MatchOp::RegexNoMatch => "!~",
        })
    }
}

/// A condition on one label. A label that is not there has the value `""`.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<Regex>,
}

/// A pattern that is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(String);

impl Matcher {
    /// A matcher; patterns are anchored at both ends and `.` matches line breaks, as in Prometheus 3.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Matcher, RegexError> {
        PatternBudget::default().matcher(name, op, value)
    }

    /// The matcher `name="value"`.
    pub fn equal(name: &str, value: &str) -> Matcher {
        Matcher { name: name.to_owned(), op: MatchOp::Equal, value: value.to_owned(), regex: None }
    }

    /// The label it looks at.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or pattern as written.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The one value that matches, for `=`.
    pub(crate) fn equal_value(&self) -> Option<&str> {
        (self.op == MatchOp::Equal).then_some(&*self.value)
    }

    /// Whether a value of the label satisfies the condition.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::RegexMatch, Some(regex)) => regex.is_match(value),
            (MatchOp::RegexNoMatch, Some(regex)) => !regex.is_match(value),
            (MatchOp::NotEqual, _) => self.value != value,
            _ => self.value == value,
        }
    }

    /// Whether a series satisfies the condition.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name))
    }

    /// Whether it is `__name__="…"`, which is written before the braces.
    pub(crate) fn is_metric_name(&self) -> bool {
        self.name == METRIC_NAME && self.op == MatchOp::Equal
    }
}

/// Patterns of one query. Each takes memory that has nothing to do with its length, so there may be few large ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PatternBudget {
    patterns: u32,
    large: u32,
}

/// Patterns that a query may have. Generated queries have some dozen.
const PATTERNS_MAX: u32 = 1_000;
/// Patterns among them that may take more than [`SMALL_REGEX_BYTES`].
const LARGE_PATTERNS_MAX: u32 = 20;
const SMALL_REGEX_BYTES: usize = 64 << 10;

impl Default for PatternBudget {
    fn default() -> PatternBudget {
        PatternBudget { patterns: PATTERNS_MAX, large: LARGE_PATTERNS_MAX }
    }
}

impl PatternBudget {
    /// A matcher; see [`Matcher::new`].
    pub(crate) fn matcher(&mut self, name: &str, op: MatchOp, value: &str) -> Result<Matcher, RegexError> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::RegexMatch | MatchOp::RegexNoMatch => Some(self.regex(value)?),
        };
        Ok(Matcher { name: name.to_owned(), op, value: value.to_owned(), regex })
    }

    fn regex(&mut self, pattern: &str) -> Result<Regex, RegexError> {
        let spend = |left: &mut u32, what: &str| {
            *left = left.checked_sub(1).ok_or_else(|| RegexError(format!("more than {what}")))?;
            Ok(())
        };
        spend(&mut self.patterns, &format!("{PATTERNS_MAX} patterns in one query"))?;
        if let Ok(small) = compile(pattern, SMALL_REGEX_BYTES) {
            return Ok(small);
        }
        spend(&mut self.large, &format!("{LARGE_PATTERNS_MAX} large patterns in one query"))?;
        anchored_regex(pattern)
    }
}

/// Same label, comparison and text.
impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

/// As written: `job=~"a|b"`.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            if is_legacy_label_name(&self.name) { self.name.clone() } else { quote(self.name.as_bytes()) };
        write!(f, "{name}{}{}", self.op, quote(self.value.as_bytes()))
    }
}

/// Compiles a pattern that must match the whole text.
pub(crate) fn anchored_regex(pattern: &str) -> Result<Regex, RegexError> {
    compile(pattern, REGEX_BYTES_MAX)
}

fn compile(pattern: &str, bytes_max: usize) -> Result<Regex, RegexError> {
    let translated = re2::translate(pattern).map_err(RegexError)?;
    // The pattern alone first: `a)(b` must not become valid by our parentheses.
    regex::RegexBuilder::new(&translated)
        .size_limit(bytes_max)
        .build()
        .and_then(|_| regex::RegexBuilder::new(&format!("^(?s:{translated})$")).size_limit(bytes_max).build())
        .map_err(|error| RegexError(format!("{}: `{pattern}`", reason(&error))))
}

/// The last line of the library's message: what is wrong, without the drawing of where.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "expression nests or repeats too much".into(),
        other => {
            let text = other.to_string();
            text.lines().last().unwrap_or(&text).trim_start_matches("error: ").to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_see_missing_labels_as_empty() {
        let labels = Labels::new([("job", "model")]);
        let rows = [
            ("job", MatchOp::Equal, "model", true),
            ("job", MatchOp::NotEqual, "model", false),
            ("job", MatchOp::RegexMatch, "mod", false),
            ("job", MatchOp::RegexMatch, "m.*|x", true),
            ("job", MatchOp::RegexNoMatch, "x.*", true),
            ("pod", MatchOp::Equal, "", true),
            ("pod", MatchOp::RegexMatch, ".+", false),
        ];
        for (name, op, value, expected) in rows {
            let matcher = Matcher::new(name, op, value).expect("valid");
            assert_eq!(matcher.matches_labels(&labels), expected, "{matcher}");
        }
    }

    #[test]
    fn bad_patterns_are_named() {
        for pattern in ["a(", "a)(b", "(((a{1000}){1000}){1000})"] {
            let error = Matcher::new("job", MatchOp::RegexMatch, pattern).expect_err(pattern).to_string();
            assert!(error.starts_with("error parsing regexp: ") && error.contains(pattern), "{error}");
        }
    }
}
