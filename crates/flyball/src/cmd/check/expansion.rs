//! Computes the size of a document with its aliases expanded, without expanding it.
//!
//! `*a` stands for all of `&a`, which may contain aliases itself, so a few lines can stand for more than any memory holds.
//! One pass over the events adds up the size.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser};

/// Bytes of a value beside its text.
const VALUE_BYTES: usize = 64;

/// A collection being parsed: its anchor, and its size so far.
struct Open {
    anchor: usize,
    bytes: usize,
}

/// Returns the size of a document's values in bytes; of malformed YAML, that of the part before the mistake.
pub(super) fn expanded_bytes(text: &str) -> usize {
    let mut anchored: BTreeMap<usize, usize> = BTreeMap::new();
    let mut open = vec![Open { anchor: 0, bytes: 0 }];
    for event in Parser::new_from_str(text) {
        let Ok((event, _)) = event else { break };
        let (anchor, bytes) = match event {
            Event::Scalar(text, _, anchor, _) => (anchor, VALUE_BYTES.saturating_add(text.len())),
            // An alias inside its own anchor has no size yet; the parser refuses it.
            Event::Alias(anchor) => (0, anchored.get(&anchor).copied().unwrap_or(VALUE_BYTES)),
            Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _) => {
                open.push(Open { anchor, bytes: VALUE_BYTES });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open { anchor, bytes }) => (anchor, bytes),
                None => break,
            },
            _ => continue,
        };
        if anchor != 0 {
            anchored.insert(anchor, bytes);
        }
        if let Some(parent) = open.last_mut() {
            parent.bytes = parent.bytes.saturating_add(bytes);
        }
    }
    open.iter().fold(0, |sum, open| sum.saturating_add(open.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_count_as_what_they_stand_for() {
        let laughs: String = (1..9)
            .map(|level| {
                format!("l{level}: &l{level} [{}]\n", vec![format!("*l{}", level - 1); 10].join(", "))
            })
            .collect();
        for (text, at_least, at_most) in [
            ("a: 1\n".to_owned(), 64, 400),
            (format!("a: &a {}\nb: [*a, *a, *a]\n", "x".repeat(1000)), 4000, 5000),
            (format!("l0: &l0 lol\n{laughs}"), 1_000_000_000, usize::MAX),
            ("a: &a [*a]\n".to_owned(), 64, 1000),
            ("[".repeat(10_000), 0, 10_000_000),
        ] {
            let bytes = expanded_bytes(&text);
            assert!(
                (at_least..=at_most).contains(&bytes),
                "{bytes} for {}",
                text.chars().take(60).collect::<String>()
            );
        }
    }
}
