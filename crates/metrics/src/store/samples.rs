//! The samples of a series: the newest as they came, older ones compressed.
//!
//! Queries of triggers look at the last minute or two, so that part stays plain and is handed out without a copy. Floats and
//! native histograms are kept in the same way, each in their own kind of block.

use std::collections::VecDeque;

/// A compressed run of samples.
pub(super) trait Block: Sized {
    type Sample: Clone;
    /// Samples that are compressed together at most. Up to twice as many stay plain.
    const SAMPLES: usize;

    /// Compresses samples whose timestamps rise strictly: the first, and those after it that fit; tells how many.
    fn compress(samples: &[Self::Sample]) -> (Self, usize);
    /// Appends the samples in `(after_ms, to_ms]` to `out`.
    fn decompress(&self, after_ms: i64, to_ms: i64, out: &mut Vec<Self::Sample>);
    fn time_ms(sample: &Self::Sample) -> i64;
    /// How many numbers a sample has: what it counts in the store's limit.
    fn weight(sample: &Self::Sample) -> usize;
    /// Bytes of a plain sample.
    fn sample_bytes(sample: &Self::Sample) -> usize;
    fn first_ms(&self) -> i64;
    fn last_ms(&self) -> i64;
    /// The weight of its samples.
    fn weights(&self) -> usize;
    fn heap_bytes(&self) -> usize;
}

/// See the module's documentation.
pub(super) struct Samples<B: Block> {
    blocks: VecDeque<B>,
    head: Vec<B::Sample>,
}

impl<B: Block> Default for Samples<B> {
    fn default() -> Self {
        Samples { blocks: VecDeque::new(), head: Vec::new() }
    }
}

impl<B: Block> Samples<B> {
    const HEAD_MAX: usize = 2 * B::SAMPLES;

    /// Appends a sample that is later than all others.
    pub(super) fn push(&mut self, sample: B::Sample) {
        if self.head.len() >= Self::HEAD_MAX {
            let (block, taken) = B::compress(&self.head[..B::SAMPLES]);
            self.blocks.push_back(block);
            self.head.drain(..taken);
        }
        if self.head.len() == self.head.capacity() {
            // Doubling, but never past what is needed.
            let more = self.head.len().max(4).min(Self::HEAD_MAX - self.head.len());
            self.head.reserve_exact(more);
        }
        self.head.push(sample);
    }

    pub(super) fn newest(&self) -> Option<&B::Sample> {
        self.head.last()
    }

    pub(super) fn newest_ms(&self) -> Option<i64> {
        self.newest().map(B::time_ms)
    }

    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.blocks.front().map(B::first_ms).or_else(|| self.head.first().map(B::time_ms))
    }

    /// The samples in `(after_ms, to_ms]`: a slice of the head, or of `scratch` where older ones must be decompressed.
    pub(super) fn window<'a>(
        &'a self,
        after_ms: i64,
        to_ms: i64,
        scratch: &'a mut Vec<B::Sample>,
    ) -> &'a [B::Sample] {
        let end = self.position_after(self.head.len(), to_ms);
        let start = self.position_after(end, after_ms);
        let in_blocks = self.blocks.back().is_some_and(|block| block.last_ms() > after_ms);
        if !in_blocks {
            return &self.head[start..end];
        }
        scratch.clear();
        let first = self.blocks.partition_point(|block| block.last_ms() <= after_ms);
        for block in self.blocks.range(first..).take_while(|block| block.first_ms() <= to_ms) {
            block.decompress(after_ms, to_ms, scratch);
        }
        scratch.extend_from_slice(&self.head[start..end]);
        scratch
    }

    /// How many of the first `end` plain samples are at or before a time. Looks from the end in growing steps: most windows are
    /// near it, and what the search reads is then read again.
    fn position_after(&self, mut end: usize, time_ms: i64) -> usize {
        let mut step = 1;
        while end > 0 {
            let start = end.saturating_sub(step);
            if B::time_ms(&self.head[start]) <= time_ms {
                return start + self.head[start..end].partition_point(|s| B::time_ms(s) <= time_ms);
            }
            (end, step) = (start, step * 2);
        }
        0
    }

    /// Drops samples before `cutoff_ms`, whole blocks at a time; returns the weight of those that went.
    pub(super) fn evict(&mut self, cutoff_ms: i64) -> usize {
        let mut dropped = 0;
        while let Some(block) = self.blocks.front().filter(|block| block.last_ms() < cutoff_ms) {
            dropped += block.weights();
            self.blocks.pop_front();
        }
        if self.blocks.is_empty() {
            let old = self.head.partition_point(|s| B::time_ms(s) < cutoff_ms);
            dropped += self.head.drain(..old).map(|sample| B::weight(&sample)).sum::<usize>();
        }
        dropped
    }

    /// Drops the oldest block, or the older half of the head; returns the weight of what went.
    pub(super) fn drop_oldest(&mut self) -> usize {
        if let Some(block) = self.blocks.pop_front() {
            return block.weights();
        }
        self.head.drain(..self.head.len().div_ceil(2)).map(|sample| B::weight(&sample)).sum()
    }

    pub(super) fn weights(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(B::weights).sum();
        blocks + self.head.iter().map(B::weight).sum::<usize>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.blocks.is_empty()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let spare = (self.head.capacity() - self.head.len()) * size_of::<B::Sample>();
        let blocks: usize = self.blocks.iter().map(B::heap_bytes).sum();
        blocks + spare + self.head.iter().map(B::sample_bytes).sum::<usize>()
    }
}
