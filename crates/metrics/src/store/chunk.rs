//! Compressed runs of floats, after Facebook's Gorilla (Pelkonen et al., VLDB 2015).
//!
//! Timestamps are stored as the change of their distance (a steady scrape costs one bit each), and shared: the series of a
//! target have the same ones. Values that never change are one number. Where all of a chunk are whole numbers, which counters are,
//! the changes of their distance are stored too, in the number of bits that suits them (Rice, 1979); other values as the bits in which they
//! differ from the one before. Chunks are written once and never changed.

use std::collections::VecDeque;
use std::sync::Arc;

use super::bits::{BitReader, BitWriter};
use super::samples::{Block, Room};
use super::save;
use crate::sample::Sample;

/// A run of samples in the order of their timestamps, compressed.
pub(super) struct Chunk {
    times: Arc<[u8]>,
    values: Box<[u8]>,
    first_ms: i64,
    last_ms: i64,
    samples: u32,
    coding: Coding,
}

/// How the values of a chunk are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Coding {
    /// One value for all.
    Same,
    /// Whole numbers, whose changes mostly fit into so many bits.
    Whole(u8),
    Float,
}

/// Timestamps that were stored last: most likely the next series has them too.
#[derive(Default)]
pub(super) struct RecentTimes(VecDeque<Arc<[u8]>>);

/// Two targets that are scraped at the same time, with series that began at different times, are still found.
const RECENT_TIMES: usize = 8;

impl RecentTimes {
    fn share(&mut self, times: Box<[u8]>) -> Arc<[u8]> {
        if let Some(known) = self.0.iter().find(|known| known[..] == times[..]) {
            return Arc::clone(known);
        }
        let times: Arc<[u8]> = times.into();
        self.0.truncate(RECENT_TIMES - 1);
        self.0.push_front(Arc::clone(&times));
        times
    }
}

impl Block for Chunk {
    type Sample = Sample;
    /// Prometheus' size. Two minutes at a scrape each second stay plain.
    const SAMPLES: usize = 120;
    /// Eight minutes at a scrape each second: long enough that what a chunk costs beside its bits does not matter.
    const MERGED_SAMPLES: usize = 480;

    fn compress(samples: &[Sample], room: &mut Room) -> (Chunk, usize) {
        let mut times = BitWriter::default();
        let mut codec = DeltaCodec::default();
        samples.iter().for_each(|sample| codec.write(sample.timestamp_ms, &mut times));
        let coding = Coding::of(samples);
        let chunk = Chunk {
            times: room.times.share(times.into_bytes()),
            values: coding.write(samples),
            first_ms: samples.first().map_or(0, |s| s.timestamp_ms),
            last_ms: samples.last().map_or(0, |s| s.timestamp_ms),
            samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
            coding,
        };
        (chunk, samples.len())
    }

    fn decompress(&self, after_ms: i64, to_ms: i64, out: &mut Vec<Sample>) {
        let mut time_bits = BitReader::new(&self.times);
        let mut times = DeltaCodec::default();
        let mut values = Values::new(self.coding, &self.values);
        for _ in 0..self.samples {
            let timestamp_ms = times.read(&mut time_bits);
            let value = values.next();
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

    fn samples(&self) -> usize {
        self.samples as usize
    }

    fn weights(&self) -> usize {
        self.samples as usize
    }

    fn heap_bytes(&self) -> usize {
        // Shared timestamps are paid for by all who share them.
        let times = self.times.len() / Arc::strong_count(&self.times).max(1);
        times + self.values.len() + size_of::<Chunk>()
    }

    fn save(&self, out: &mut Vec<u8>) {
        let (kind, bits) = match self.coding {
            Coding::Same => (0, 0),
            Coding::Whole(bits) => (1, bits),
            Coding::Float => (2, 0),
        };
        out.extend([kind, bits]);
        out.extend(self.samples.to_le_bytes());
        out.extend(self.first_ms.to_le_bytes());
        out.extend(self.last_ms.to_le_bytes());
        save::put_bytes(out, &self.times);
        save::put_bytes(out, &self.values);
    }

    fn load(from: &mut &[u8], room: &mut Room) -> Option<Chunk> {
        let [kind, bits] = save::take(from)?;
        let coding = match kind {
            0 => Coding::Same,
            1 => Coding::Whole(bits.min(RICE_BITS_MAX)),
            2 => Coding::Float,
            _ => return None,
        };
        let samples = u32::from_le_bytes(save::take(from)?);
        let first_ms = i64::from_le_bytes(save::take(from)?);
        let last_ms = i64::from_le_bytes(save::take(from)?);
        let times = room.times.share(save::take_bytes(from)?.into());
        let values = save::take_bytes(from)?.into();
        let valid = (1..=Self::MERGED_SAMPLES).contains(&(samples as usize)) && first_ms <= last_ms;
        valid.then_some(Chunk { times, values, first_ms, last_ms, samples, coding })
    }
}

impl Coding {
    fn of(samples: &[Sample]) -> Coding {
        let same = samples.windows(2).all(|pair| pair[0].value.to_bits() == pair[1].value.to_bits());
        if same {
            return Coding::Same;
        }
        if samples.iter().any(|sample| as_whole(sample.value).is_none()) {
            return Coding::Float;
        }
        let mut changes = Changes::default();
        // The first two say where the values start, not how they change.
        let sizes: Vec<u64> = samples.iter().map(|sample| changes.of(sample.value as i64)).skip(2).collect();
        let mean = sizes.iter().fold(0u64, |sum, size| sum.saturating_add(*size)) / sizes.len().max(1) as u64;
        let near = (u64::BITS - mean.leading_zeros()) as u8;
        let cost = |bits: u8| sizes.iter().fold(0u64, |sum, size| sum + rice_cost(*size, bits));
        let candidates = near.saturating_sub(2)..=(near + 1).min(RICE_BITS_MAX);
        Coding::Whole(candidates.min_by_key(|bits| cost(*bits)).unwrap_or(RICE_BITS_MAX))
    }

    fn write(self, samples: &[Sample]) -> Box<[u8]> {
        let mut out = BitWriter::default();
        match self {
            Coding::Same => out.push(samples.first().map_or(0, |sample| sample.value.to_bits()), u64::BITS),
            Coding::Whole(bits) => {
                let mut changes = Changes::default();
                samples.iter().for_each(|s| rice_write(changes.of(s.value as i64), bits, &mut out));
            }
            Coding::Float => {
                let mut codec = XorCodec::default();
                samples.iter().for_each(|sample| codec.write(sample.value.to_bits(), &mut out));
            }
        }
        out.into_bytes()
    }
}

/// The values of a chunk, one after the other.
struct Values<'a> {
    bits: BitReader<'a>,
    codec: Codec,
}

enum Codec {
    Same(f64),
    Whole(u8, Changes),
    Float(XorCodec),
}

impl Values<'_> {
    fn new(coding: Coding, bytes: &[u8]) -> Values<'_> {
        let mut bits = BitReader::new(bytes);
        let codec = match coding {
            Coding::Same => Codec::Same(f64::from_bits(bits.pull(u64::BITS))),
            Coding::Whole(width) => Codec::Whole(width, Changes::default()),
            Coding::Float => Codec::Float(XorCodec::default()),
        };
        Values { bits, codec }
    }

    fn next(&mut self) -> f64 {
        match &mut self.codec {
            Codec::Same(value) => *value,
            Codec::Whole(width, changes) => changes.apply(rice_read(*width, &mut self.bits)) as f64,
            Codec::Float(codec) => f64::from_bits(codec.read(&mut self.bits)),
        }
    }
}

/// Changes of distances between whole numbers, small ones of either sign as small numbers.
#[derive(Default)]
struct Changes {
    previous: i64,
    delta: i64,
}

impl Changes {
    fn of(&mut self, number: i64) -> u64 {
        let delta = number.wrapping_sub(self.previous);
        let change = delta.wrapping_sub(self.delta);
        (self.previous, self.delta) = (number, delta);
        ((change << 1) ^ (change >> 63)) as u64
    }

    fn apply(&mut self, change: u64) -> i64 {
        let change = (change >> 1) as i64 ^ -((change & 1) as i64);
        self.delta = self.delta.wrapping_add(change);
        self.previous = self.previous.wrapping_add(self.delta);
        self.previous
    }
}

/// What does not fit into so many ones is written in full.
const RICE_ONES_MAX: u32 = 20;
/// Changes of a chunk that need more bits than this are mostly written in full.
const RICE_BITS_MAX: u8 = 40;

fn rice_cost(number: u64, bits: u8) -> u64 {
    match number >> bits {
        ones if ones < u64::from(RICE_ONES_MAX) => ones + 1 + u64::from(bits),
        _ => u64::from(RICE_ONES_MAX + u64::BITS),
    }
}

/// As many ones as `2^bits` fits into the number, a zero, and the rest.
fn rice_write(number: u64, bits: u8, out: &mut BitWriter) {
    let ones = number >> bits;
    if ones < u64::from(RICE_ONES_MAX) {
        out.push((1 << (ones + 1)) - 2, ones as u32 + 1);
        out.push(number, u32::from(bits));
    } else {
        out.push(u64::MAX, RICE_ONES_MAX);
        out.push(number, u64::BITS);
    }
}

fn rice_read(bits: u8, from: &mut BitReader<'_>) -> u64 {
    match from.pull_ones(RICE_ONES_MAX) {
        RICE_ONES_MAX => from.pull(u64::BITS),
        ones => u64::from(ones) << bits | from.pull(u32::from(bits)),
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
        let ones = bits.pull_ones(4);
        let change = match ones {
            0 => 0,
            4 => bits.pull(64) as i64,
            class => {
                let width = DELTA_CLASS_BITS[class as usize - 1];
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn restored(samples: &[Sample]) -> Vec<(i64, u64)> {
        let mut out = Vec::new();
        Chunk::compress(samples, &mut Room::default()).0.decompress(i64::MIN, i64::MAX, &mut out);
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

    proptest! {
        #[test]
        fn whole_numbers_come_back(steps in prop::collection::vec(-3_000i64..1_000_000, 1..480), scale in 0u32..24) {
            let mut value = 0i64;
            let samples: Vec<Sample> = (0i64..).zip(&steps).map(|(i, step)| {
                value += step << scale;
                Sample::new(i * 1_000, value as f64)
            }).collect();
            let expected: Vec<(i64, u64)> = samples.iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect();
            prop_assert_eq!(restored(&samples), expected);
        }

        #[test]
        fn saved_chunks_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(chunk) = Chunk::load(&mut &bytes[..], &mut Room::default()) {
                let mut out = Vec::new();
                chunk.decompress(i64::MIN, i64::MAX, &mut out);
                prop_assert!(out.len() <= Chunk::MERGED_SAMPLES);
            }
        }
    }

    #[test]
    fn a_steady_counter_costs_little() {
        let samples: Vec<Sample> = (0..120).map(|i| Sample::new(i * 1_000, (1_000 + i * 3) as f64)).collect();
        let chunk = Chunk::compress(&samples, &mut Room::default()).0;
        let bytes = chunk.times.len() + chunk.values.len();
        assert!(bytes < 120 / 2, "{bytes} bytes for 120 samples");
    }
}
