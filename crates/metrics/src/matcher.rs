//! Label matchers: `=`, `!=`, `=~`, `!~`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

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
    pattern: Option<Pattern>,
}

/// What a pattern was made into.
#[derive(Clone, Debug)]
enum Pattern {
    /// `a|b|c`: one of these texts, which dashboards write by the thousand.
    Texts(Arc<BTreeSet<Box<str>>>),
    Regex(Regex),
}

impl Pattern {
    /// The texts of a pattern that has nothing but alternatives in it.
    fn texts(pattern: &str) -> Option<Pattern> {
        let is_plain = !pattern.contains(['\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$']);
        is_plain.then(|| Pattern::Texts(Arc::new(pattern.split('|').map(Box::from).collect())))
    }

    fn is_match(&self, text: &str) -> bool {
        match self {
            Pattern::Texts(texts) => texts.contains(text),
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
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
        Matcher { name: name.to_owned(), op: MatchOp::Equal, value: value.to_owned(), pattern: None }
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

    /// The only values that match, for a pattern that lists them.
    pub(crate) fn texts(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        match (self.op, &self.pattern) {
            (MatchOp::RegexMatch, Some(Pattern::Texts(texts))) => Some(texts.iter().map(AsRef::as_ref)),
            _ => None,
        }
    }

    /// Whether a value of the label satisfies the condition.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.pattern) {
            (MatchOp::RegexMatch, Some(pattern)) => pattern.is_match(value),
            (MatchOp::RegexNoMatch, Some(pattern)) => !pattern.is_match(value),
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
    /// Bytes of pattern that may still be compiled.
    bytes: usize,
}

/// Bytes of all patterns of a query together, but for those that only list texts: compiling takes some microseconds for each, and what is
/// compiled is up to a hundred times as large.
const PATTERN_BYTES_MAX: usize = 32 << 10;
/// Patterns that a query may have. Generated queries have some dozen.
const PATTERNS_MAX: u32 = 1_000;
/// Patterns among them that may take more than [`SMALL_REGEX_BYTES`].
const LARGE_PATTERNS_MAX: u32 = 20;
const SMALL_REGEX_BYTES: usize = 64 << 10;

impl Default for PatternBudget {
    fn default() -> PatternBudget {
        PatternBudget { patterns: PATTERNS_MAX, large: LARGE_PATTERNS_MAX, bytes: PATTERN_BYTES_MAX }
    }
}

impl PatternBudget {
    /// A matcher; see [`Matcher::new`].
    pub(crate) fn matcher(&mut self, name: &str, op: MatchOp, value: &str) -> Result<Matcher, RegexError> {
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::RegexMatch | MatchOp::RegexNoMatch => Some(self.pattern(value)?),
        };
        Ok(Matcher { name: name.to_owned(), op, value: value.to_owned(), pattern })
    }

    fn pattern(&mut self, pattern: &str) -> Result<Pattern, RegexError> {
        if let Some(texts) = Pattern::texts(pattern) {
            return Ok(texts);
        }
        let spend = |left: &mut u32, what: &str| {
            *left = left.checked_sub(1).ok_or_else(|| RegexError(format!("more than {what}")))?;
            Ok(())
        };
        spend(&mut self.patterns, &format!("{PATTERNS_MAX} patterns in one query"))?;
        self.bytes = self.bytes.checked_sub(pattern.len()).ok_or_else(too_long)?;
        if let Ok(small) = compile(pattern, SMALL_REGEX_BYTES) {
            return Ok(Pattern::Regex(small));
        }
        spend(&mut self.large, &format!("{LARGE_PATTERNS_MAX} large patterns in one query"))?;
        compile(pattern, REGEX_BYTES_MAX).map(Pattern::Regex)
    }
}

/// Same label, comparison and text.
impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
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
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(too_long());
    }
    let translated = re2::translate(pattern).map_err(RegexError)?;
    let wrong = |reason: String| RegexError(format!("{reason}: `{pattern}`"));
    // The pattern alone first: `a)(b` must not become valid by our parentheses.
    regex_syntax::Parser::new().parse(&translated).map_err(|error| wrong(last_line(&error.to_string())))?;
    regex::RegexBuilder::new(&format!("^(?s:{translated})$"))
        .size_limit(bytes_max)
        .build()
        .map_err(|error| wrong(reason(&error)))
}

/// Prometheus' words for what RE2 finds too large.
fn too_long() -> RegexError {
    RegexError(format!("expression too large: more than {PATTERN_BYTES_MAX} bytes of patterns in one query"))
}

/// The last line of the library's message: what is wrong, without the drawing of where.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "expression nests or repeats too much".into(),
        other => last_line(&other.to_string()),
    }
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ").to_owned()
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
            ("job", MatchOp::RegexMatch, "a|model|b", true),
            ("job", MatchOp::RegexNoMatch, "a|model|b", false),
            ("pod", MatchOp::RegexMatch, "a|", true),
            ("job", MatchOp::RegexMatch, "mode|odel", false),
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
