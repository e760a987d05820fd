//! Random identifiers: uids, the suffixes of generated names, tokens.

use std::fmt::Write;

/// Alphabet of generated names: no vowels, so no words (apimachinery's `util/rand`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of the suffix after `generateName`.
const SUFFIX_LENGTH: usize = 5;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's generator cannot fail on a running system; a repeated uid would show as a conflict.
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "no random numbers");
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns a random version 4 UUID.
pub(crate) fn uid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// Returns a random suffix for `generateName`.
pub(crate) fn suffix() -> String {
    random::<SUFFIX_LENGTH>()
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// Returns a random bearer token of 256 bits.
pub(crate) fn token() -> String {
    hex(&random::<32>())
}
