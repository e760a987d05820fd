//! Validation of names and labels, with apimachinery's messages: DNS-1123 labels and subdomains, DNS-1035 labels,
//! label keys and values.
//!
//! Each function returns what is wrong, or `None`.

const SUBDOMAIN_MAX: usize = 253;
const LABEL_MAX: usize = 63;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_words(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().last())
}

/// Checks a DNS-1123 label: `my-name`, at most 63 bytes.
pub(crate) fn dns_label(text: &str) -> Option<String> {
    if text.len() > LABEL_MAX {
        return Some(too_long(LABEL_MAX));
    }
    (!is_label(text)).then(|| LABEL.to_owned())
}

/// Checks a DNS-1035 label, which must start with a letter: names of Services.
pub(crate) fn dns_1035_label(text: &str) -> Option<String> {
    if text.len() > LABEL_MAX {
        return Some(too_long(LABEL_MAX));
    }
    (!is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase())).then(|| DNS_1035.to_owned())
}

/// Checks a DNS-1123 subdomain: `example.com`, at most 253 bytes; names of most objects.
pub(crate) fn dns_subdomain(text: &str) -> Option<String> {
    if text.len() > SUBDOMAIN_MAX {
        return Some(too_long(SUBDOMAIN_MAX));
    }
    (!text.split('.').all(is_label)).then(|| SUBDOMAIN.to_owned())
}

/// Checks a name that only has to be a valid path segment (RBAC).
pub(crate) fn path_segment(text: &str) -> Option<String> {
    if text == "." || text == ".." {
        return Some(format!("may not be '{text}'"));
    }
    text.chars().find(|c| "/%".contains(*c)).map(|c| format!("may not contain '{c}'"))
}

/// Checks a label or annotation key: `[prefix/]name`.
pub(crate) fn qualified_name(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if prefix == Some("") {
        return Some("prefix part must be non-empty".into());
    }
    if let Some(why) = prefix.and_then(dns_subdomain) {
        return Some(format!("prefix part {why}"));
    }
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    if name.len() > LABEL_MAX {
        return Some(format!("name part {}", too_long(LABEL_MAX)));
    }
    (!is_words(name)).then(|| QUALIFIED.to_owned())
}

/// Checks a label value.
pub(crate) fn label_value(text: &str) -> Option<String> {
    if text.len() > LABEL_MAX {
        return Some(too_long(LABEL_MAX));
    }
    (!text.is_empty() && !is_words(text)).then(|| VALUE.to_owned())
}

/// Checks a port name: at most 15 of `a-z0-9-`, at least one letter, no leading, trailing or double hyphen.
pub(crate) fn port_name(text: &str) -> Option<String> {
    let wrong = if text.len() > 15 {
        "must be no more than 15 characters"
    } else if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    } else if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        "must contain at least one letter (a-z)"
    } else if text.contains("--") {
        "must not contain consecutive hyphens"
    } else if text.starts_with('-') || text.ends_with('-') {
        "must not begin or end with a hyphen"
    } else {
        return None;
    };
    Some(wrong.to_owned())
}
