//! Bits in bytes, the highest first.

#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that wait for their byte to be full: the low `waiting` bits.
    open: u64,
    waiting: u32,
}

impl BitWriter {
    /// Goes on behind the first `bits` bits.
    pub(super) fn after(mut bytes: Vec<u8>, bits: usize) -> BitWriter {
        bytes.truncate(bits.div_ceil(8));
        let waiting = (bits % 8) as u32;
        let open = if waiting > 0 { u64::from(bytes.pop().unwrap_or(0)) >> (8 - waiting) } else { 0 };
        BitWriter { bytes, open, waiting }
    }

    /// How many bits there are.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() * 8 + self.waiting as usize
    }

    pub(super) fn into_bytes(mut self) -> Box<[u8]> {
        if self.waiting > 0 {
            self.bytes.push((self.open << (8 - self.waiting)) as u8);
        }
        self.bytes.into()
    }

    /// Appends the low `width` bits of `value`, the highest first.
    pub(super) fn push(&mut self, value: u64, width: u32) {
        if width > 32 {
            self.push(value >> 32, width - 32);
            return self.push(value, 32);
        }
        self.open = self.open << width | (value & ((1 << width) - 1));
        self.waiting += width;
        while self.waiting >= 8 {
            self.waiting -= 8;
            self.bytes.push((self.open >> self.waiting) as u8);
        }
    }
}

pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Position in bits.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    /// The next `width` bits; zeros after the end.
    pub(super) fn pull(&mut self, width: u32) -> u64 {
        if width > 32 {
            let high = self.pull(width - 32);
            return high << 32 | self.pull(32);
        }
        let window = self.window();
        self.at += width as usize;
        window.checked_shr(u64::BITS - width).unwrap_or(0)
    }

    /// How many ones come next, at most `max`; passes over them and the zero after them.
    pub(super) fn pull_ones(&mut self, max: u32) -> u32 {
        let ones = self.window().leading_ones().min(max);
        self.at += ones as usize + usize::from(ones < max);
        ones
    }

    /// At least 56 bits from here on, at the top.
    fn window(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None => {
                rest.iter().zip((0..8).rev()).fold(0, |word, (byte, at)| word | u64::from(*byte) << (8 * at))
            }
        };
        word << (self.at % 8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(parts in prop::collection::vec((any::<u64>(), 0u32..=64), 0..100)) {
            let mut bits = BitWriter::default();
            for (value, width) in &parts {
                bits.push(*value, *width);
                if value % 5 == 0 {
                    let length = bits.len();
                    bits = BitWriter::after(bits.into_bytes().into(), length);
                }
            }
            let bytes = bits.into_bytes();
            let mut bits = BitReader::new(&bytes);
            for (value, width) in parts {
                prop_assert_eq!(bits.pull(width), value & u64::MAX.checked_shr(64 - width).unwrap_or(0));
            }
            prop_assert!(bits.pull(7) == 0 && bits.pull(64) == 0);
        }
    }
}
