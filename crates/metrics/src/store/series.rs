//! One series: its newest samples as they came, older ones compressed.
//!
//! Queries of triggers look at the last minute or two, so that part stays plain and is handed out without a copy.

use std::collections::VecDeque;

use super::chunk::Chunk;
use crate::labels::Labels;
use crate::sample::Sample;

/// Samples that are compressed together; Prometheus' size.
const CHUNK_SAMPLES: usize = 120;
/// Plain samples are kept up to this count; then the older half becomes a chunk. Two minutes at a scrape each second stay plain.
const HEAD_SAMPLES_MAX: usize = 2 * CHUNK_SAMPLES;

/// Why a sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleRefused {
    /// Older than the newest sample of its series.
    OutOfOrder,
    /// As old as the newest sample, with another value.
    Duplicate,
}

/// A series and its samples.
pub(super) struct Series {
    pub(super) labels: Labels,
    chunks: VecDeque<Chunk>,
    head: Vec<Sample>,
}

impl Series {
    pub(super) fn new(labels: Labels) -> Series {
        Series { labels, chunks: VecDeque::new(), head: Vec::new() }
    }

    /// Appends by Prometheus' rule: later is taken, the same again is ignored (`false`), all else refused.
    pub(super) fn append(&mut self, sample: Sample) -> Result<bool, SampleRefused> {
        if let Some(last) = self.newest() {
            if sample.timestamp_ms < last.timestamp_ms {
                return Err(SampleRefused::OutOfOrder);
            }
            if sample.timestamp_ms == last.timestamp_ms {
                let same = sample.value.to_bits() == last.value.to_bits();
                return if same { Ok(false) } else { Err(SampleRefused::Duplicate) };
            }
        }
        if self.head.len() >= HEAD_SAMPLES_MAX {
            self.chunks.push_back(Chunk::compress(&self.head[..CHUNK_SAMPLES]));
            self.head.drain(..CHUNK_SAMPLES);
        }
        if self.head.len() == self.head.capacity() {
            // Doubling, but never past what is needed.
            let more = self.head.len().max(4).min(HEAD_SAMPLES_MAX - self.head.len());
            self.head.reserve_exact(more);
        }
        self.head.push(sample);
        Ok(true)
    }

    pub(super) fn newest(&self) -> Option<Sample> {
        self.head.last().copied()
    }

    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.chunks.front().map(Chunk::first_ms).or_else(|| self.head.first().map(|s| s.timestamp_ms))
    }

    /// The samples in `(after_ms, to_ms]`, stale markers included: a slice of the head, or of `scratch` where
    /// older ones must be decompressed.
    pub(super) fn window<'a>(
        &'a self,
        after_ms: i64,
        to_ms: i64,
        scratch: &'a mut Vec<Sample>,
    ) -> &'a [Sample] {
        let end = position_after(&self.head, to_ms);
        let start = position_after(&self.head[..end], after_ms);
        let in_chunks = self.chunks.back().is_some_and(|chunk| chunk.last_ms() > after_ms);
        if !in_chunks {
            return &self.head[start..end];
        }
        scratch.clear();
        let first = self.chunks.partition_point(|chunk| chunk.last_ms() <= after_ms);
        for chunk in self.chunks.range(first..).take_while(|chunk| chunk.first_ms() <= to_ms) {
            chunk.decompress(after_ms, to_ms, scratch);
        }
        scratch.extend_from_slice(&self.head[start..end]);
        scratch
    }

    /// Drops samples before `cutoff_ms`, whole chunks at a time; returns how many went.
    pub(super) fn evict(&mut self, cutoff_ms: i64) -> usize {
        let mut dropped = 0;
        while let Some(chunk) = self.chunks.front().filter(|chunk| chunk.last_ms() < cutoff_ms) {
            dropped += chunk.samples();
            self.chunks.pop_front();
        }
        if self.chunks.is_empty() {
            let old = self.head.partition_point(|s| s.timestamp_ms < cutoff_ms);
            self.head.drain(..old);
            dropped += old;
        }
        dropped
    }

    /// Drops the oldest chunk, or the older half of the head; returns how many samples went.
    pub(super) fn drop_oldest(&mut self) -> usize {
        if let Some(chunk) = self.chunks.pop_front() {
            return chunk.samples();
        }
        self.head.drain(..self.head.len().div_ceil(2)).count()
    }

    pub(super) fn samples(&self) -> usize {
        self.head.len() + self.chunks.iter().map(Chunk::samples).sum::<usize>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.chunks.is_empty()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Chunk::heap_bytes).sum();
        chunks + self.head.capacity() * size_of::<Sample>() + self.labels.heap_bytes() + size_of::<Series>()
    }
}

/// How many samples are at or before a time. Looks from the end in growing steps: most windows are near it, and what
/// the search reads is then read again.
fn position_after(samples: &[Sample], time_ms: i64) -> usize {
    let (mut end, mut step) = (samples.len(), 1);
    while end > 0 {
        let start = end.saturating_sub(step);
        if samples[start].timestamp_ms <= time_ms {
            return start + samples[start..end].partition_point(|s| s.timestamp_ms <= time_ms);
        }
        (end, step) = (start, step * 2);
    }
    0
}
