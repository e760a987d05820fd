//! Parses manifests into documents, with the positions of each object and field.
//!
//! A file is split at its `---` lines first, so that a malformed document does not affect the others. A `List` is split
//! into its items, since kubectl applies them one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use granit_parser::{Event, Parser};
use serde_json::Value;

use super::{expansion, template};

/// Longest path of a field that gets a position, in bytes.
const PATH_LENGTH_MAX: usize = 1024;
/// Most bytes of paths that one document keeps; later fields get the position of their parent.
const PATHS_BYTES_MAX: usize = 32 << 20;
/// Largest size of a file with its aliases expanded: several times the largest file that is read.
const EXPANDED_BYTES_MAX: usize = 256 << 20;
/// Most documents in one file, more than a large folder of manifests has.
const DOCUMENTS_MAX: usize = 10_000;

/// A position in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// An object with the positions of its fields.
#[derive(Debug)]
pub(crate) struct Document {
    /// The file as named on the command line; `None` for an object of a running world.
    pub(crate) file: Option<String>,
    pub(crate) object: Value,
    start: Position,
    positions: Arc<BTreeMap<String, Position>>,
    /// The path of the object in its document: `items[2]` in a List.
    prefix: String,
}

/// A document that cannot be parsed.
#[derive(Debug, PartialEq)]
pub(crate) struct Malformed {
    /// The code of the broken rule.
    pub(crate) rule: &'static str,
    pub(crate) position: Position,
    pub(crate) message: String,
    /// The fix.
    pub(crate) help: String,
}

impl Document {
    /// Wraps an object of a running world, which has no positions.
    pub(crate) fn live(object: Value) -> Document {
        let start = Position { line: 0, column: 0 };
        Document { file: None, object, start, positions: Arc::default(), prefix: String::new() }
    }

    /// Returns the position of a field, or of its nearest parent that is present.
    pub(crate) fn position(&self, field: &str) -> Position {
        let mut path = join(&self.prefix, &dotted(field));
        loop {
            if let Some(position) = self.positions.get(&path) {
                return *position;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path.truncate(end),
                None => return self.start,
            }
        }
    }
}

/// Rewrites names in brackets with dots: `annotations[a/b]` becomes `annotations.a/b`.
fn dotted(field: &str) -> String {
    let mut path = String::new();
    for (index, part) in field.split('[').enumerate() {
        match part.split_once(']') {
            Some((number, rest)) if index > 0 && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                path.push_str(&format!("[{number}]{rest}"));
            }
            Some((name, rest)) if index > 0 => path.push_str(&format!(".{}{rest}", name.trim_matches('"'))),
            _ => path.push_str(part),
        }
    }
    path
}

fn join(parent: &str, child: &str) -> String {
    match (parent, child) {
        ("", child) => child.to_owned(),
        (parent, "") => parent.to_owned(),
        (parent, child) if child.starts_with('[') => format!("{parent}{child}"),
        (parent, child) => format!("{parent}.{child}"),
    }
}

/// Returns the objects of a file and its malformed documents. A Helm template yields no objects and one problem.
pub(crate) fn read(file: &str, text: &str) -> (Vec<Document>, Vec<Malformed>) {
    let (mut documents, mut malformed) = (Vec::new(), Vec::new());
    let mut bytes: usize = 0;
    for (index, (lines_before, document)) in split(text).into_iter().enumerate() {
        bytes = bytes.saturating_add(expansion::expanded_bytes(document));
        if bytes > EXPANDED_BYTES_MAX || index == DOCUMENTS_MAX {
            malformed.push(too_large(lines_before, index == DOCUMENTS_MAX));
            break;
        }
        match serde_saphyr::from_str::<Option<Value>>(document) {
            Ok(None) => {}
            Ok(Some(object)) => documents.extend(objects(file, object, document, lines_before)),
            Err(error) => malformed.push(malformed_yaml(&error, lines_before)),
        }
    }
    let unrendered = documents.iter().any(|document| template::is_unrendered(&document.object));
    match template::first_action(text).filter(|_| unrendered || !malformed.is_empty()) {
        Some(position) => (Vec::new(), vec![template::malformed(file, position)]),
        None => (documents, malformed),
    }
}

/// Splits a file into documents, each with the number of lines before it. By YAML's rules a line of `---` always begins a
/// document, even within a block scalar.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let begins = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if begins && offset > start {
            parts.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, number);
        }
        offset += line.len();
    }
    parts.push((start_line, &text[start..]));
    parts.retain(|(_, part)| part.lines().any(has_content));
    parts
}

/// Returns whether a line is more than a comment, a directive or a separator.
fn has_content(line: &str) -> bool {
    let line = line.trim().trim_start_matches("---").trim_start();
    !line.is_empty() && !line.starts_with(['#', '%'])
}

fn malformed_yaml(error: &serde_saphyr::Error, lines_before: usize) -> Malformed {
    let place = error.location();
    let number = |count: Option<u64>| count.and_then(|count| usize::try_from(count).ok()).unwrap_or(1).max(1);
    let position = Position {
        line: lines_before + number(place.map(|place| place.line())),
        column: number(place.map(|place| place.column())),
    };
    let said = error.without_snippet().to_string();
    let said = said.lines().next().unwrap_or_default();
    // Drop the position in the message, which counts from the start of the document.
    let message = said.split(" at line ").next().unwrap_or_default().to_owned();
    let help = "fix the syntax; the other documents of the file are checked anyway".to_owned();
    Malformed { rule: "malformed-yaml", position, message, help }
}

/// Returns the problem of a file beyond the limits; nothing after this position is read.
fn too_large(lines_before: usize, by_number: bool) -> Malformed {
    let message = match by_number {
        true => format!("more than {DOCUMENTS_MAX} documents in one file"),
        false => format!("more than {} MiB with aliases expanded", EXPANDED_BYTES_MAX >> 20),
    };
    let help = "split the file; nothing after this position was checked".to_owned();
    Malformed {
        rule: "malformed-yaml",
        position: Position { line: lines_before + 1, column: 1 },
        message,
        help,
    }
}

/// Returns the object of a document, or the items of a List.
fn objects(file: &str, object: Value, text: &str, lines_before: usize) -> Vec<Document> {
    let positions = Arc::new(positions(text, lines_before));
    let first = positions.values().min().copied().unwrap_or(Position { line: lines_before + 1, column: 1 });
    let document = |object: Value, prefix: String| {
        let start = positions.get(&prefix).copied().unwrap_or(first);
        Document { file: Some(file.to_owned()), object, start, positions: Arc::clone(&positions), prefix }
    };
    let is_list = object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match object.get("items").and_then(Value::as_array).filter(|_| is_list) {
        Some(items) => {
            let items = items.iter().enumerate();
            items.map(|(index, item)| document(item.clone(), format!("items[{index}]"))).collect()
        }
        None => vec![document(object, String::new())],
    }
}

/// A collection being parsed.
enum Open {
    /// The path, and the key whose value comes next.
    Mapping(String, Option<String>),
    /// The path, and the index of the next item.
    Sequence(String, usize),
}

impl Open {
    fn path(&self) -> &str {
        match self {
            Open::Mapping(path, _) | Open::Sequence(path, _) => path,
        }
    }
}

/// Returns the position of each field of a document: that of its key, or of the list item.
fn positions(text: &str, lines_before: usize) -> BTreeMap<String, Position> {
    let mut found = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut bytes = 0;
    for event in Parser::new_from_str(text) {
        // The document was parsed before; whatever this parser rejects has no position.
        let Ok((event, span)) = event else { break };
        bytes += open.last().map_or(0, |open| open.path().len());
        if bytes > PATHS_BYTES_MAX {
            break;
        }
        let position = Position { line: lines_before + span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::MappingEnd | Event::SequenceEnd => drop(open.pop()),
            Event::Scalar(key, ..) if matches!(open.last(), Some(Open::Mapping(_, None))) => {
                if let Some(Open::Mapping(path, next)) = open.last_mut() {
                    remember(&mut found, join(path, &key), position);
                    *next = Some(key.into_owned());
                }
            }
            Event::Scalar(..) | Event::Alias(_) => drop(value_path(&mut open, &mut found, position)),
            Event::MappingStart(..) => {
                let path = value_path(&mut open, &mut found, position);
                open.push(Open::Mapping(path, None));
            }
            Event::SequenceStart(..) => {
                let path = value_path(&mut open, &mut found, position);
                open.push(Open::Sequence(path, 0));
            }
            _ => {}
        }
    }
    found
}

/// Returns the path of the value that begins here, and advances its collection to the next one.
fn value_path(open: &mut [Open], found: &mut BTreeMap<String, Position>, position: Position) -> String {
    match open.last_mut() {
        None => String::new(),
        Some(Open::Mapping(path, key)) => join(path, &key.take().unwrap_or_default()),
        Some(Open::Sequence(path, index)) => {
            let path = format!("{path}[{index}]");
            *index += 1;
            remember(found, path.clone(), position);
            path
        }
    }
}

fn remember(found: &mut BTreeMap<String, Position>, path: String, position: Position) {
    if path.len() <= PATH_LENGTH_MAX {
        found.entry(path).or_insert(position);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO: &str = "\
# a comment
---
kind: A
metadata:
  name: a
  annotations: {\"x.y/z\": \"1\"}
spec:
  triggers:
  - type: cpu
    metadata:
      value: '5'
  -   type: cron
---
kind: [broken
---
# nothing
---
kind: AList
items:
- kind: B
  spec: &anchor
    one: 1
- kind: C
  spec: *anchor
";

    #[test]
    fn fields_have_positions() {
        let (documents, malformed) = read("two.yaml", TWO);
        assert_eq!(malformed.len(), 1);
        assert_eq!(malformed[0].position.line, 14, "{malformed:?}");
        let table = [
            (0, "", 3, 1),
            (0, "kind", 3, 1),
            (0, "metadata.name", 5, 3),
            (0, "metadata.annotations[x.y/z]", 6, 17),
            (0, "spec.triggers[0]", 9, 5),
            (0, "spec.triggers[0].metadata.value", 11, 7),
            (0, "spec.triggers[0].metricType", 9, 5),
            (0, "spec.triggers[1].type", 12, 7),
            (0, "spec.minReplicaCount", 7, 1),
            (1, "", 20, 3),
            (1, "spec.one", 22, 5),
            (2, "spec.one", 24, 3),
        ];
        for (index, field, line, column) in table {
            assert_eq!(documents[index].position(field), Position { line, column }, "{index} {field}");
        }
        assert_eq!(documents[2].object["spec"]["one"], 1);
    }

    #[test]
    fn empty_documents_are_skipped() {
        for text in ["", "\n\n", "---\n---\n", "# only a comment\n", "%YAML 1.2\n---\n"] {
            assert_eq!(read("f", text).0.len() + read("f", text).1.len(), 0, "{text:?}");
        }
        assert_eq!(read("f", "--- {kind: A}").0.len(), 1);
        assert_eq!(read("f", "---x\n").0.len() + read("f", "---x\n").1.len(), 1);
    }

    /// Input that would fill the memory is refused with its position; a large but normal file is read.
    #[test]
    fn bombs_are_refused() {
        let laughs: String = (1..12)
            .map(|level| {
                format!("l{level}: &l{level} [{}]\n", vec![format!("*l{}", level - 1); 9].join(", "))
            })
            .collect();
        let big = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 400].join(", "));
        let honest: String = (0..2_000).map(|index| format!("---\nkind: A\nname: n{index}\n")).collect();
        for (text, documents, refused) in [
            (format!("l0: &l0 lol\n{laughs}"), 0, "more than 256 MiB with aliases expanded"),
            (big, 0, "more than 256 MiB with aliases expanded"),
            ("---\na\n".repeat(10_500), 10_000, "more than 10000 documents in one file"),
            ("[".repeat(100_000), 0, ""),
            ("a: ".repeat(50_000), 0, ""),
            (format!("a: {}1{}", "[".repeat(5_000), "]".repeat(5_000)), 0, ""),
            ("? ".repeat(50_000), 0, ""),
            ("- ".repeat(50_000), 0, ""),
            ("&a ".repeat(1000) + "1", 0, ""),
            ("\u{0}\u{1}\u{7f}: \u{fffe}".to_owned(), 0, ""),
            (honest, 2_000, ""),
        ] {
            let shown: String = text.chars().take(40).collect();
            let (read, malformed) = read("f", &text);
            assert_eq!(read.len(), documents, "{shown}: {malformed:?}");
            assert!(documents == 2_000 || malformed.len() == 1, "{shown}: {malformed:?}");
            assert!(malformed.iter().all(|found| found.message.contains(refused)), "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_malformed(text in "([ -]{0,3}[a-zA-Z{}\\[\\]&*:,!|>#%\"'?0-9.~<]{0,8}(: |\n|- )?){0,30}") {
            let (documents, malformed) = read("f", &text);
            for document in &documents {
                document.position("spec.triggers[0].metadata");
            }
            let lines = text.lines().count() + 1;
            prop_assert!(malformed.iter().all(|found| found.position.line <= lines + 1));
        }
    }
}
