//! Short stable hashes in names: FNV-1a, printed in Kubernetes' alphabet without vowels, so that no words appear.

/// 32-bit FNV-1a.
pub(crate) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A hash as Kubernetes' `SafeEncodeString` writes a number.
pub(crate) fn safe(hash: u32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn fnv1a_has_its_published_values() {
        assert_eq!(super::fnv1a(b""), 0x811c_9dc5);
        assert_eq!(super::fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(super::fnv1a(b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn names_have_no_vowels() {
        assert!(super::safe(1_234_567_890).chars().all(|c| !"aeiou013".contains(c)));
    }
}
