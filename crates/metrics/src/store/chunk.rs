//! Compressed runs of samples, after Facebook's Gorilla (Pelkonen et al., VLDB 2015).
//!
//! Timestamps are stored as the change of their distance (a steady scrape costs one bit each). So are values where all
//! of a chunk are whole numbers, which counters are; other values as the bits in which they differ from the one before. An
//! unchanged value costs one bit either way. Chunks are written once and never changed.

use super::samples::Block;
use crate::sample::Sample;

/// A run of samples in the order of their timestamps, compressed.
pub(super) struct Chunk {
    bytes: Box<[u8]>,
    samples: u32,
    /// Whether the values are stored as whole numbers.
    whole: bool,
    first_ms: i64,
    last_ms: i64,
}

impl Block for Chunk {
    type Sample = Sample;
    /// Prometheus' size. Two minutes at a scrape each second stay plain.
    const SAMPLES: usize = 120;

    fn compress(samples: &[Sample]) -> (Chunk, usize) {
        let mut bits = BitWriter::default();
        let mut times = DeltaCodec::default();
        let mut values = ValueCodec::of(samples.iter().map(|sample| sample.value));
        for sample in samples {
            times.write(sample.timestamp_ms, &mut bits);
            values.write(sample.value, &mut bits);
        }
        let chunk = Chunk {
            whole: values.is_whole(),
            bytes: bits.into_bytes(),
            samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
            first_ms: samples.first().map_or(0, |s| s.timestamp_ms),
            last_ms: samples.last().map_or(0, |s| s.timestamp_ms),
        };
        (chunk, samples.len())
    }

    fn decompress(&self, after_ms: i64, to_ms: i64, out: &mut Vec<Sample>) {
        let mut bits = BitReader::new(&self.bytes);
        let mut times = DeltaCodec::default();
        let mut values = ValueCodec::new(self.whole);
        for _ in 0..self.samples {
            let timestamp_ms = times.read(&mut bits);
            let value = values.read(&mut bits);
            if timestamp_ms > to_ms {
                return;
            }
            if timestamp_ms > after_ms {
                out.push(Sample { timestamp_ms, value });
            }
        }
    }

    fn time_ms(sample: &Sample) -> i64 {
        sample.timestamp_ms
    }

    fn weight(_: &Sample) -> usize {
        1
    }

    fn sample_bytes(_: &Sample) -> usize {
        size_of::<Sample>()
    }

    fn first_ms(&self) -> i64 {
        self.first_ms
    }

    fn last_ms(&self) -> i64 {
        self.last_ms
    }

    fn weights(&self) -> usize {
        self.samples as usize
    }

    fn heap_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Chunk>()
    }
}

/// A value as a whole number, if it is one and comes back with the same bits.
fn as_whole(value: f64) -> Option<i64> {
    let whole = value as i64;
    ((whole as f64).to_bits() == value.to_bits()).then_some(whole)
}

/// Values as whole numbers, if all of them are, or else as floats.
pub(super) enum ValueCodec {
    Whole(DeltaCodec),
    Float(XorCodec),
}

impl ValueCodec {
    /// The codec for these values.
    pub(super) fn of(mut values: impl Iterator<Item = f64>) -> ValueCodec {
        ValueCodec::new(values.all(|value| as_whole(value).is_some()))
    }

    pub(super) fn new(whole: bool) -> ValueCodec {
        if whole { ValueCodec::Whole(DeltaCodec::default()) } else { ValueCodec::Float(XorCodec::default()) }
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self, ValueCodec::Whole(_))
    }

    pub(super) fn write(&mut self, value: f64, bits: &mut BitWriter) {
        match self {
            ValueCodec::Whole(codec) => codec.write(value as i64, bits),
            ValueCodec::Float(codec) => codec.write(value.to_bits(), bits),
        }
    }

    pub(super) fn read(&mut self, bits: &mut BitReader) -> f64 {
        match self {
            ValueCodec::Whole(codec) => codec.read(bits) as f64,
            ValueCodec::Float(codec) => f64::from_bits(codec.read(bits)),
        }
    }
}

/// Whole numbers as changes of their distance: a unary class (0, 10, 110, 1110, 1111) and 0, 7, 12, 20 or 64 bits.
#[derive(Default)]
pub(super) struct DeltaCodec {
    previous: i64,
    delta: i64,
}

/// Widths of the classes between "no change" and "all 64 bits".
const DELTA_CLASS_BITS: [u32; 3] = [7, 12, 20];

impl DeltaCodec {
    pub(super) fn write(&mut self, number: i64, bits: &mut BitWriter) {
        let delta = number.wrapping_sub(self.previous);
        let change = delta.wrapping_sub(self.delta);
        (self.previous, self.delta) = (number, delta);
        if change == 0 {
            return bits.push(0, 1);
        }
        for (class, width) in DELTA_CLASS_BITS.into_iter().enumerate() {
            let half = 1i64 << (width - 1);
            if (-half..half).contains(&change) {
                // `class + 1` ones and a zero, then the change shifted to be positive.
                bits.push((1 << (class + 2)) - 2, class as u32 + 2);
                return bits.push((change + half) as u64, width);
            }
        }
        bits.push(0b1111, 4);
        bits.push(change as u64, 64);
    }

    pub(super) fn read(&mut self, bits: &mut BitReader) -> i64 {
        let ones = (0..4).take_while(|_| bits.pull(1) == 1).count();
        let change = match ones {
            0 => 0,
            4 => bits.pull(64) as i64,
            class => {
                let width = DELTA_CLASS_BITS[class - 1];
                bits.pull(width) as i64 - (1i64 << (width - 1))
            }
        };
        self.delta = self.delta.wrapping_add(change);
        self.previous = self.previous.wrapping_add(self.delta);
        self.previous
    }
}

/// Floats by XOR: 0 for the same, 10 and the bits inside the last window, or 11, a new window and its bits.
#[derive(Default)]
pub(super) struct XorCodec {
    previous: u64,
    /// Zero bits before and after the window of meaningful bits; a width of 0 means that there is none yet.
    leading: u32,
    width: u32,
}

impl XorCodec {
    fn write(&mut self, value: u64, bits: &mut BitWriter) {
        let difference = value ^ self.previous;
        self.previous = value;
        if difference == 0 {
            return bits.push(0, 1);
        }
        // Five bits hold the count of leading zeros.
        let leading = difference.leading_zeros().min(31);
        let trailing = difference.trailing_zeros();
        let fits = self.width > 0 && leading >= self.leading && 64 - trailing <= self.leading + self.width;
        if fits {
            bits.push(0b10, 2);
        } else {
            (self.leading, self.width) = (leading, 64 - leading - trailing);
            bits.push(0b11, 2);
            bits.push(u64::from(self.leading), 5);
            bits.push(u64::from(self.width - 1), 6);
        }
        bits.push(difference >> (64 - self.leading - self.width), self.width);
    }

    fn read(&mut self, bits: &mut BitReader) -> u64 {
        if bits.pull(1) == 0 {
            return self.previous;
        }
        if bits.pull(1) == 1 {
            self.leading = bits.pull(5) as u32;
            self.width = bits.pull(6) as u32 + 1;
        }
        self.previous ^= bits.pull(self.width) << (64 - self.leading - self.width);
        self.previous
    }
}

#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that are free in the last byte.
    free: u32,
}

impl BitWriter {
    pub(super) fn into_bytes(self) -> Box<[u8]> {
        self.bytes.into()
    }

    /// Appends the low `width` bits of `value`, the highest first.
    pub(super) fn push(&mut self, value: u64, mut width: u32) {
        while width > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let count = width.min(self.free);
            let part = (value >> (width - count)) & ((1 << count) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (self.free - count)) as u8;
            }
            self.free -= count;
            width -= count;
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
        let mut value = 0;
        let mut left = width;
        while left > 0 {
            let byte = self.bytes.get(self.at / 8).copied().unwrap_or(0);
            let available = 8 - (self.at % 8) as u32;
            let count = left.min(available);
            let part = (u64::from(byte) >> (available - count)) & ((1 << count) - 1);
            value = (value << count) | part;
            self.at += count as usize;
            left -= count;
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn restored(samples: &[Sample]) -> Vec<(i64, u64)> {
        let mut out = Vec::new();
        Chunk::compress(samples).0.decompress(i64::MIN, i64::MAX, &mut out);
        out.iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect()
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(steps in prop::collection::vec((1i64..5_000_000, any::<u64>(), any::<bool>()), 0..200)) {
            let (mut time, mut value) = (-7_000_000_000_000i64, 0u64);
            let samples: Vec<Sample> = steps.iter().map(|(step, bits, repeat)| {
                time += step;
                value = if *repeat { value } else { *bits };
                Sample::new(time, f64::from_bits(value))
            }).collect();
            let expected: Vec<(i64, u64)> = samples.iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect();
            prop_assert_eq!(restored(&samples), expected);
        }
    }

    #[test]
    fn whole_numbers_come_back_bit_for_bit() {
        let values =
            [0.0, -0.0, 1.0, -5.0, 9e15, -9e18, 9.3e18, 0.5, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE];
        for value in values {
            let samples = [Sample::new(0, 3.0), Sample::new(1, value), Sample::new(2, -3.0)];
            let expected: Vec<(i64, u64)> =
                samples.iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect();
            assert_eq!(restored(&samples), expected, "{value}");
        }
    }

    #[test]
    fn a_steady_counter_costs_little() {
        let samples: Vec<Sample> = (0..120).map(|i| Sample::new(i * 1_000, (1_000 + i * 3) as f64)).collect();
        let bytes = Chunk::compress(&samples).0.bytes.len();
        assert!(bytes < 120 / 2, "{bytes} bytes for 120 samples");
    }
}
