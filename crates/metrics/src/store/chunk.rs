//! Compressed runs of floats, after Facebook's Gorilla (Pelkonen et al., VLDB 2015).
//!
//! Timestamps are stored as the change of their distance (a steady scrape costs one bit each), and shared: the series of a
//! target have the same ones. Values that never change are one number. Where all of a chunk are whole numbers, which counters are,
//! the changes of their distance are stored too, in the number of bits that suits them (Rice, 1979); other values as the bits in which they
//! differ from the one before. The newest chunk of a series grows at its end.

use std::sync::Arc;

use super::bits::{BitReader, BitWriter};
use super::codecs::{
    Changes, DeltaCodec, RICE_BITS_MAX, XorCodec, as_whole, rice_cost, rice_read, rice_write,
};
use super::samples::{Block, Room};
use super::save;
use crate::sample::Sample;

/// A run of samples in the order of their timestamps, compressed.
#[derive(Clone)]
pub(super) struct Chunk {
    times: Arc<[u8]>,
    values: Box<[u8]>,
    first_ms: i64,
    last_ms: i64,
    samples: u32,
    coding: Coding,
    end: End,
}

/// Where the values of a chunk of whole numbers go on.
#[derive(Clone, Copy, Default)]
struct End {
    /// The length of the values; 0: not known, the chunk is from a file.
    bits: u32,
    changes: Changes,
}

/// A chunk with fewer samples is coded anew when it grows: that takes no longer.
const GROWS_FROM: u32 = 32;

/// How the values of a chunk are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Coding {
    /// One value for all.
    Same,
    /// Whole numbers, whose changes mostly fit into so many bits.
    Whole(u8),
    Float,
}

impl Block for Chunk {
    type Sample = Sample;
    /// Prometheus' size. Two minutes at a scrape each second stay plain.
    const SAMPLES: usize = 120;
    /// Eight minutes at a scrape each second: long enough that what a chunk costs beside its bits does not matter.
    const MERGED_SAMPLES: usize = 480;

    fn compress(samples: &[Sample], room: &mut Room) -> (Chunk, usize) {
        let coding = Coding::of(samples);
        let (values, end) = coding.write(samples);
        let chunk = Chunk {
            times: room.times.of(times_ms(samples)),
            values,
            first_ms: samples.first().map_or(0, |s| s.timestamp_ms),
            last_ms: samples.last().map_or(0, |s| s.timestamp_ms),
            samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
            coding,
            end,
        };
        (chunk, samples.len())
    }

    fn grow(&mut self, samples: &[Sample], room: &mut Room) -> bool {
        let before = self.samples;
        let after = before + samples.len() as u32;
        if after as usize > Self::MERGED_SAMPLES || !self.put_behind(samples, after) {
            return false;
        }
        self.times = room.times.longer(&self.times, before as usize, times_ms(samples));
        self.samples = after;
        self.last_ms = samples.last().map_or(self.last_ms, |sample| sample.timestamp_ms);
        true
    }

    fn merges_with(&self, count: usize) -> bool {
        // Floats take so much room that what a chunk costs beside them does not matter, and coding them anew takes long.
        let most = match self.coding {
            Coding::Float => Self::MERGED_SAMPLES.min(Self::SAMPLES.max(4 * count)),
            _ => Self::MERGED_SAMPLES,
        };
        self.samples() + count <= most
    }

    fn share(&mut self, room: &mut Room) {
        self.times = room.times.share(Arc::clone(&self.times));
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
        valid.then_some(Chunk { times, values, first_ms, last_ms, samples, coding, end: End::default() })
    }
}

impl Chunk {
    /// Codes more values as those before them; `false` if that can't be, or if something else may suit by now.
    fn put_behind(&mut self, samples: &[Sample], after: u32) -> bool {
        match self.coding {
            Coding::Same => {
                let value = Values::new(Coding::Same, &self.values).next();
                samples.iter().all(|sample| sample.value.to_bits() == value.to_bits())
            }
            Coding::Whole(bits) => {
                let settled = self.samples >= GROWS_FROM && self.samples.ilog2() == after.ilog2();
                let whole = samples.iter().all(|sample| as_whole(sample.value).is_some());
                if !settled || !whole || self.end.bits == 0 {
                    return false;
                }
                let values = std::mem::take(&mut self.values).into_vec();
                let out = BitWriter::after(values, self.end.bits as usize);
                (self.values, self.end) = write_whole(samples, bits, self.end.changes, out);
                true
            }
            Coding::Float => false,
        }
    }
}

fn times_ms(samples: &[Sample]) -> impl ExactSizeIterator<Item = i64> + Clone {
    samples.iter().map(|sample| sample.timestamp_ms)
}

fn write_whole(samples: &[Sample], bits: u8, mut changes: Changes, mut out: BitWriter) -> (Box<[u8]>, End) {
    samples.iter().for_each(|sample| rice_write(changes.of(sample.value as i64), bits, &mut out));
    let end = End { bits: u32::try_from(out.len()).unwrap_or(0), changes };
    (out.into_bytes(), end)
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

    fn write(self, samples: &[Sample]) -> (Box<[u8]>, End) {
        let mut out = BitWriter::default();
        match self {
            Coding::Same => out.push(samples.first().map_or(0, |sample| sample.value.to_bits()), u64::BITS),
            Coding::Whole(bits) => return write_whole(samples, bits, Changes::default(), out),
            Coding::Float => {
                let mut codec = XorCodec::default();
                samples.iter().for_each(|sample| codec.write(sample.value.to_bits(), &mut out));
            }
        }
        (out.into_bytes(), End::default())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples;
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
        fn a_chunk_grows_at_its_end(
            steps in prop::collection::vec((1i64..2_000, -2i64..50), 1..470),
            first in 1..120usize,
            more in 1..30usize,
            odd in prop::option::of(0..470usize),
        ) {
            let (mut time_ms, mut value) = (0, 0);
            let samples: Vec<Sample> = steps.iter().enumerate().map(|(at, (step, change))| {
                (time_ms, value) = (time_ms + step, value + (*change).max(0));
                Sample::new(time_ms, if Some(at) == odd { 0.5 } else { value as f64 })
            }).collect();
            let mut room = Room::default();
            let (first, rest) = samples.split_at(first.min(samples.len()));
            let mut grown = samples::Samples::<Chunk>::default();
            for part in std::iter::once(first).chain(rest.chunks(more)) {
                grown.compress_all(part, &mut room);
            }
            let mut scratch = Vec::new();
            prop_assert_eq!(grown.window(i64::MIN, i64::MAX, &mut scratch), &samples[..]);
            prop_assert_eq!(grown.weights(), samples.len());
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
