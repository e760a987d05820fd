//! Label selectors as users write them: `app=queue,tier in (a, b),!legacy`.
//!
//! The syntax is that of `k8s.io/apimachinery/pkg/labels`; its comparisons `>` and `<` are left out, as the
//! client library cannot express them.

use kube::core::{Expression, Selector};
use thiserror::Error;

/// A selector with more requirements than anyone writes is a mistake or an attack.
const REQUIREMENTS_MAX: usize = 256;

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unable to parse requirement {requirement:?}: {why}")]
pub struct SelectorError {
    requirement: String,
    why: &'static str,
}

/// Reads a selector; an empty text selects everything.
///
/// # Errors
/// If a requirement is not one of `k`, `!k`, `k=v`, `k==v`, `k!=v`, `k in (v, …)`, `k notin (v, …)`.
pub fn parse(text: &str) -> Result<Selector, SelectorError> {
    let requirements = split(text);
    if requirements.len() > REQUIREMENTS_MAX {
        return Err(SelectorError { requirement: String::new(), why: "too many requirements" });
    }
    requirements
        .into_iter()
        .map(|requirement| {
            expression(requirement).map_err(|why| SelectorError { requirement: requirement.to_owned(), why })
        })
        .collect()
}

/// Splits at the commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    let parts = text.split(move |c| {
        depth = match c {
            '(' => depth + 1,
            ')' => depth.saturating_sub(1),
            _ => depth,
        };
        c == ',' && depth == 0
    });
    let parts: Vec<_> = parts.map(str::trim).collect();
    if parts == [""] { Vec::new() } else { parts }
}

fn expression(requirement: &str) -> Result<Expression, &'static str> {
    if let Some(name) = requirement.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key(name)?));
    }
    if let Some((name, value)) = requirement.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, label_value(value)?));
    }
    if let Some((name, value)) = requirement.split_once('=') {
        return Ok(Expression::Equal(key(name)?, label_value(value.strip_prefix('=').unwrap_or(value))?));
    }
    match requirement.split_once(char::is_whitespace) {
        None => Ok(Expression::Exists(key(requirement)?)),
        Some((name, rest)) => {
            let rest = rest.trim_start();
            match (rest.strip_prefix("in"), rest.strip_prefix("notin")) {
                (Some(list), _) => Ok(Expression::In(key(name)?, values(list)?)),
                (_, Some(list)) => Ok(Expression::NotIn(key(name)?, values(list)?)),
                _ => Err("expected 'in', 'notin', '=', '==' or '!='"),
            }
        }
    }
}

fn values(list: &str) -> Result<std::collections::BTreeSet<String>, &'static str> {
    list.trim()
        .strip_prefix('(')
        .and_then(|list| list.strip_suffix(')'))
        .ok_or("expected a list in parentheses")?
        .split(',')
        .map(label_value)
        .collect()
}

/// An optional DNS prefix and a name.
fn key(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let name = text.rsplit_once('/').map_or(text, |(_, name)| name);
    let prefix_fits = text.len() - name.len() <= 254;
    if name.is_empty()
        || name.len() > 63
        || !prefix_fits
        || !text.chars().all(|c| is_label_char(c) || c == '/')
    {
        return Err("not a label name");
    }
    Ok(text.to_owned())
}

fn label_value(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.len() > 63 || !text.chars().all(is_label_char) {
        return Err("not a label value");
    }
    Ok(text.to_owned())
}

fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn selectors_are_read_as_kubectl_reads_them() {
        for (text, expected) in [
            ("", ""),
            ("app=model", "app=model"),
            ("app==model", "app=model"),
            (" app = model , tier!=web ", "app=model,tier!=web"),
            ("tier in (a, b),!legacy,gpu", "tier in (a,b),!legacy,gpu"),
            ("tier notin (a)", "tier notin (a)"),
            ("example.com/app=", "example.com/app="),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), expected, "{text:?}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, why) in [
            ("a=b,", "not a label name"),
            ("a in b", "expected a list in parentheses"),
            ("a like b", "expected 'in', 'notin', '=', '==' or '!='"),
            ("a=b c", "not a label value"),
            ("=b", "not a label name"),
        ] {
            assert_eq!(parse(text).unwrap_err().why, why, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = parse(&text);
        }
    }
}
