//! Names near a name that does not exist: what was meant, most likely.

/// Letters of a name that others are compared with: the work grows with the square.
const WANTED_MAX: usize = 200;
/// Near names that are told at most.
const NEAREST_MAX: usize = 3;

/// The texts with the fewest edits to `wanted`, if they are near enough to be meant.
pub(super) fn nearest(wanted: &str, texts: &[impl AsRef<str>]) -> Vec<String> {
    let length = wanted.chars().count();
    if length > WANTED_MAX {
        return Vec::new();
    }
    let far = length / 2 + 1;
    let mut scored: Vec<(usize, &str)> = texts
        .iter()
        .map(AsRef::as_ref)
        // Each letter more is an edit at least; a suffix may be longer.
        .filter(|text| !text.is_empty() && (text.len() <= 4 * (length + far) || text.starts_with(wanted)))
        .map(|text| (score(wanted, text), text))
        .filter(|(distance, _)| *distance <= far)
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(NEAREST_MAX).map(|(_, text)| text.to_owned()).collect()
}

/// Edit distance; a name that only lacks a suffix such as `_total` or `_bucket` is one edit away.
fn score(wanted: &str, text: &str) -> usize {
    let (short, long) = if wanted.len() < text.len() { (wanted, text) } else { (text, wanted) };
    let suffix = long.strip_prefix(short).is_some_and(|rest| rest.starts_with('_'));
    if suffix && !short.is_empty() { 1 } else { edit_distance(wanted, text) }
}

/// How many letters must be added, removed or exchanged (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut current = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let exchanged = previous[j] + usize::from(x != *y);
            current.push(exchanged.min(previous[j + 1] + 1).min(current[j] + 1));
        }
        previous = current;
    }
    previous[b.len()]
}
