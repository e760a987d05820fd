//! `$(NAME)` in commands, arguments and environment values, as Kubernetes expands it.
//!
//! `$(NAME)` becomes the variable's value; one that is not set stays as it is; `$$` is a plain `$`, so `$$(NAME)` is
//! `$(NAME)` unexpanded. Everything else, a lone `$` too, is kept (`third_party/forked/golang/expansion`).

use std::collections::BTreeMap;

/// Expands one string.
pub(crate) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_as_kubernetes_does() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]);
        for (text, expected) in [
            ("--port=$(A)", "--port=1"),
            ("$(A)$(A)", "11"),
            ("$(MISSING)", "$(MISSING)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(A)"), // not expanded twice
            ("cost: 5$", "cost: 5$"),
            ("$(open", "$(open"),
            ("$A ${A}", "$A ${A}"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &env), expected, "{text}");
        }
    }
}
