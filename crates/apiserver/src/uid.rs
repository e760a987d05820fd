//! Random identifiers: uids, the suffixes of generated names, tokens.

use std::fmt::Write;

/// Letters and digits of generated names: no vowels, so no words (apimachinery's `util/rand`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Characters after `generateName`.
const SUFFIX_LENGTH: usize = 5;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's generator cannot fail on a running system; a repeated uid would be noticed as a conflict.
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

/// A version 4 UUID.
pub(crate) fn uid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// What is appended to `generateName`.
pub(crate) fn suffix() -> String {
    random::<SUFFIX_LENGTH>()
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// A bearer token of 256 bits.
pub(crate) fn token() -> String {
    hex(&random::<32>())
}
