//! Compressed runs of native histograms.
//!
//! Samples of one chunk have the same buckets, so a chunk is a table: times, hints, counts, sums, and a column for each bucket,
//! each compressed like the values of a float series. A counter's bucket that stands still costs one bit a sample.

use std::sync::Arc;

use super::bits::{BitReader, BitWriter};
use super::codecs::{DeltaCodec, ValueCodec};
use super::samples::{Block, Room};
use super::save;
use crate::histogram::{Buckets, NativeHistogram, ResetHint, Schema};
use crate::sample::HistogramSample;

/// See the module's documentation.
#[derive(Clone)]
pub(super) struct HistogramChunk {
    layout: Layout,
    bytes: Box<[u8]>,
    samples: u32,
    first_ms: i64,
    last_ms: i64,
}

/// What all histograms of a chunk share.
#[derive(Clone)]
struct Layout {
    schema: Schema,
    zero_threshold: f64,
    positive: Box<[i32]>,
    negative: Box<[i32]>,
}

impl Layout {
    fn of(histogram: &NativeHistogram) -> Layout {
        let indices = |buckets: &Buckets| buckets.iter().map(|(index, _)| index).collect();
        Layout {
            schema: histogram.schema.clone(),
            zero_threshold: histogram.zero_threshold,
            positive: indices(&histogram.positive),
            negative: indices(&histogram.negative),
        }
    }

    fn fits(&self, histogram: &NativeHistogram) -> bool {
        let same = |indices: &[i32], buckets: &Buckets| {
            indices.iter().copied().eq(buckets.iter().map(|(index, _)| index))
        };
        self.schema == histogram.schema
            && self.zero_threshold.to_bits() == histogram.zero_threshold.to_bits()
            && same(&self.positive, &histogram.positive)
            && same(&self.negative, &histogram.negative)
    }

    /// The columns: the count around zero, the count, the sum and the buckets.
    fn numbers(&self) -> usize {
        3 + self.positive.len() + self.negative.len()
    }

    /// A histogram with these buckets and no observations.
    fn empty(&self) -> NativeHistogram {
        let buckets =
            |indices: &[i32]| Buckets::from_rising(indices.iter().map(|index| (*index, 0.0)).collect());
        NativeHistogram {
            zero_threshold: self.zero_threshold,
            positive: buckets(&self.positive),
            negative: buckets(&self.negative),
            ..NativeHistogram::empty(self.schema.clone())
        }
    }
}

const HINTS: [ResetHint; 4] = [ResetHint::Unknown, ResetHint::NotReset, ResetHint::Reset, ResetHint::Gauge];

/// All numbers of a histogram, in the order of the columns.
fn numbers(histogram: &NativeHistogram) -> Vec<f64> {
    let mut numbers = Vec::new();
    histogram.clone().each_count(|count| numbers.push(*count));
    numbers
}

impl Block for HistogramChunk {
    type Sample = HistogramSample;
    /// Half of a float chunk: a histogram that waits to be compressed is as large as many floats.
    const SAMPLES: usize = 60;
    const MERGED_SAMPLES: usize = 60;

    fn compress(samples: &[HistogramSample], _: &mut Room) -> (HistogramChunk, usize) {
        let layout = samples.first().map_or_else(
            || Layout::of(&NativeHistogram::empty(Schema::Exponential(0))),
            |sample| Layout::of(&sample.histogram),
        );
        let fitting = samples.iter().take_while(|sample| layout.fits(&sample.histogram)).count();
        let samples = &samples[..fitting];
        let mut bits = BitWriter::default();
        let (mut times, mut hints) = (DeltaCodec::default(), DeltaCodec::default());
        samples.iter().for_each(|sample| times.write(sample.timestamp_ms, &mut bits));
        for sample in samples {
            let place = HINTS.iter().position(|hint| *hint == sample.histogram.reset_hint);
            hints.write(place.unwrap_or(0) as i64, &mut bits);
        }
        let rows: Vec<Vec<f64>> = samples.iter().map(|sample| numbers(&sample.histogram)).collect();
        for column in 0..rows.first().map_or(0, Vec::len) {
            let mut codec = ValueCodec::of(rows.iter().map(|row| row[column]));
            bits.push(u64::from(codec.is_whole()), 1);
            rows.iter().for_each(|row| codec.write(row[column], &mut bits));
        }
        let chunk = HistogramChunk {
            layout,
            bytes: bits.into_bytes(),
            samples: u32::try_from(fitting).unwrap_or(u32::MAX),
            first_ms: samples.first().map_or(0, |sample| sample.timestamp_ms),
            last_ms: samples.last().map_or(0, |sample| sample.timestamp_ms),
        };
        (chunk, fitting)
    }

    fn decompress(&self, after_ms: i64, to_ms: i64, out: &mut Vec<HistogramSample>) {
        let mut bits = BitReader::new(&self.bytes);
        let (mut times, mut hints) = (DeltaCodec::default(), DeltaCodec::default());
        let times: Vec<i64> = (0..self.samples).map(|_| times.read(&mut bits)).collect();
        let hints: Vec<i64> = (0..self.samples).map(|_| hints.read(&mut bits)).collect();
        let mut histograms = vec![self.layout.empty(); self.samples as usize];
        for (histogram, hint) in histograms.iter_mut().zip(hints) {
            histogram.reset_hint = HINTS[(hint & 3) as usize];
        }
        let columns: Vec<Vec<f64>> = (0..self.layout.numbers())
            .map(|_| {
                let mut codec = ValueCodec::new(bits.pull(1) == 1);
                (0..self.samples).map(|_| codec.read(&mut bits)).collect()
            })
            .collect();
        for (i, (timestamp_ms, mut histogram)) in times.into_iter().zip(histograms).enumerate() {
            if timestamp_ms <= after_ms || timestamp_ms > to_ms {
                continue;
            }
            let mut row = columns.iter().map(|column| column[i]);
            histogram.each_count(|count| *count = row.next().unwrap_or(0.0));
            out.push(HistogramSample { timestamp_ms, histogram: Arc::new(histogram) });
        }
    }

    fn time_ms(sample: &HistogramSample) -> i64 {
        sample.timestamp_ms
    }

    fn weight(sample: &HistogramSample) -> usize {
        3 + sample.histogram.positive.len() + sample.histogram.negative.len()
    }

    fn sample_bytes(sample: &HistogramSample) -> usize {
        size_of::<HistogramSample>() + sample.histogram.heap_bytes()
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
        self.samples as usize * self.layout.numbers()
    }

    fn heap_bytes(&self) -> usize {
        let indices = (self.layout.positive.len() + self.layout.negative.len()) * size_of::<i32>();
        size_of::<HistogramChunk>() + self.bytes.len() + indices
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend(self.samples.to_le_bytes());
        out.extend(self.first_ms.to_le_bytes());
        out.extend(self.last_ms.to_le_bytes());
        out.extend(self.layout.schema.number().to_le_bytes());
        out.extend(self.layout.zero_threshold.to_le_bytes());
        let bounds = self.layout.schema.custom_bounds().iter().flat_map(|bound| bound.to_le_bytes());
        save::put_bytes(out, &bounds.collect::<Vec<_>>());
        for indices in [&self.layout.positive, &self.layout.negative] {
            let indices: Vec<u8> = indices.iter().flat_map(|index| index.to_le_bytes()).collect();
            save::put_bytes(out, &indices);
        }
        save::put_bytes(out, &self.bytes);
    }

    fn load(from: &mut &[u8], _: &mut Room) -> Option<HistogramChunk> {
        let samples = u32::from_le_bytes(save::take(from)?);
        let first_ms = i64::from_le_bytes(save::take(from)?);
        let last_ms = i64::from_le_bytes(save::take(from)?);
        let schema = i32::from_le_bytes(save::take(from)?);
        let zero_threshold = f64::from_le_bytes(save::take(from)?);
        let bounds: Vec<f64> = save::numbers(save::take_bytes(from)?).map(f64::from_le_bytes).collect();
        let mut indices = || -> Option<Box<[i32]>> {
            let indices: Box<[i32]> =
                save::numbers(save::take_bytes(from)?).map(i32::from_le_bytes).collect();
            indices.is_sorted_by(|a, b| a < b).then_some(indices)
        };
        let (positive, negative) = (indices()?, indices()?);
        let bytes = save::take_bytes(from)?.into();
        let layout =
            Layout { schema: Schema::new(schema, &bounds).ok()?, zero_threshold, positive, negative };
        let valid = (1..=Self::SAMPLES).contains(&(samples as usize)) && first_ms <= last_ms;
        valid.then_some(HistogramChunk { layout, bytes, samples, first_ms, last_ms })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(time: i64, counts: &[(i32, f64)], sum: f64, hint: usize) -> HistogramSample {
        let count = counts.iter().map(|(_, count)| count).sum();
        let positive = Buckets::from_rising(counts.to_vec());
        let empty = NativeHistogram::empty(Schema::Exponential(3));
        let histogram = NativeHistogram { reset_hint: HINTS[hint], count, sum, positive, ..empty };
        HistogramSample { timestamp_ms: time, histogram: Arc::new(histogram) }
    }

    fn restored(samples: &[HistogramSample]) -> Vec<HistogramSample> {
        let (mut out, mut rest) = (Vec::new(), samples);
        while !rest.is_empty() {
            let (chunk, taken) = HistogramChunk::compress(rest, &mut Room::default());
            chunk.decompress(i64::MIN, i64::MAX, &mut out);
            rest = &rest[taken..];
        }
        out
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(steps in prop::collection::vec((1i64..100_000, 0usize..4, 0u32..3, -1e9..1e9, 0usize..4), 1..40)) {
            let mut time = 0;
            let samples: Vec<HistogramSample> = steps.iter().map(|(step, buckets, count, sum, hint)| {
                time += step;
                let counts: Vec<(i32, f64)> = (0..*buckets).map(|i| (i as i32 * 3 - 4, f64::from(*count) * 0.5)).collect();
                sample(time, &counts, *sum, *hint)
            }).collect();
            prop_assert_eq!(restored(&samples), samples);
        }
    }

    #[test]
    fn a_steady_histogram_costs_little() {
        let counts =
            |i: i64| -> Vec<(i32, f64)> { (0..50).map(|b| (b, (i * i64::from(b % 5)) as f64)).collect() };
        let samples: Vec<HistogramSample> =
            (0..60).map(|i| sample(i * 1_000, &counts(i), i as f64 * 0.5, usize::from(i > 0))).collect();
        let (chunk, taken) = HistogramChunk::compress(&samples, &mut Room::default());
        assert_eq!(taken, 60);
        assert!(chunk.bytes.len() < 60 * 15, "{} bytes for 60 histograms of 50 buckets", chunk.bytes.len());
    }
}
