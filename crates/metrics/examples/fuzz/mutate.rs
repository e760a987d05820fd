//! Changes to inputs: those that keep most of the grammar, and those that do not.

use crate::random::Random;

/// The longest input that is made; longer ones are refused everywhere before they are read.
const INPUT_BYTES_MAX: usize = 300 << 10;
/// Numbers and texts at which things break.
const ODD: [&str; 26] = [
    "0",
    "-1",
    "1e308",
    "-1e308",
    "NaN",
    "+Inf",
    "-Inf",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1e-320",
    "0x7ff0000000000002",
    "\"",
    "\\",
    "\u{0}",
    "\u{feff}",
    "é",
    "\u{1F600}",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "$1",
    "",
];

/// A changed input, made of one or two others.
pub(crate) fn changed(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut result = input.to_vec();
    for _ in 0..1 + random.below(4) {
        result = one_change(random, result, other);
        result.truncate(INPUT_BYTES_MAX);
    }
    result
}

fn one_change(random: &mut Random, mut input: Vec<u8>, other: &[u8]) -> Vec<u8> {
    let (from, to) = stretch(random, input.len());
    match random.below(12) {
        // Words.
        0 | 1 => exchange_words(random, &input, other),
        2 => {
            let word = random.pick(&ODD).as_bytes().to_vec();
            let (from, to) = word_at(&input, from);
            input.splice(from..to, word);
            input
        }
        // A stretch again and again.
        3 => {
            let times = 1 << random.below(14);
            let part = input[from..to].to_vec();
            let times = times.min(INPUT_BYTES_MAX / part.len().max(1));
            input.splice(to..to, part.repeat(times));
            input
        }
        4 => {
            input.drain(from..to);
            input
        }
        5 => {
            input.truncate(from);
            input
        }
        // The beginning of one and the end of another.
        6 => {
            let (at, _) = stretch(random, other.len());
            input.truncate(from);
            input.extend_from_slice(&other[at..]);
            input
        }
        7 => {
            let (start, end) = stretch(random, other.len());
            input.splice(from..from, other[start..end].iter().copied());
            input
        }
        // Bits and bytes.
        8 if !input.is_empty() => {
            let at = random.below(input.len() as u64) as usize;
            input[at] ^= 1 << random.below(8);
            input
        }
        9 if !input.is_empty() => {
            let at = random.below(input.len() as u64) as usize;
            input[at] = random.next() as u8;
            input
        }
        // Lengths and counts of binary formats.
        10 if !input.is_empty() => {
            let at = random.below(input.len() as u64) as usize;
            let long = [0xff; 9];
            let bytes = 1 + random.below(9) as usize;
            input.splice(at..at + 1, long[..bytes].iter().copied().chain([1]));
            input
        }
        _ => {
            let bytes = random.next().to_le_bytes();
            input.splice(from..from, bytes);
            input
        }
    }
}

/// A stretch of up to some dozen bytes, now and then of many.
fn stretch(random: &mut Random, length: usize) -> (usize, usize) {
    let from = random.below(length as u64 + 1) as usize;
    let longest = if random.chance(0.2) { length } else { 24 };
    (from, (from + random.below(longest as u64 + 1) as usize).min(length))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || byte >= 0x80
}

/// The word or sign at a place.
fn word_at(input: &[u8], at: usize) -> (usize, usize) {
    let at = at.min(input.len());
    let start = input[..at].iter().rposition(|byte| !is_word(*byte)).map_or(0, |before| before + 1);
    let length = input[start..].iter().take_while(|byte| is_word(**byte)).count();
    (start, (start + length.max(1)).min(input.len()))
}

fn exchange_words(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let (from, to) = word_at(input, random.below(input.len() as u64 + 1) as usize);
    let (start, end) = word_at(other, random.below(other.len() as u64 + 1) as usize);
    let mut result = input.to_vec();
    result.splice(from..to.max(from), other[start..end.max(start)].iter().copied());
    result
}
