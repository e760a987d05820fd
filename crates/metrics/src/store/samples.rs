//! The samples of a series: the newest as they came, older ones compressed.
//!
//! Queries of triggers look at the last minute or two, so that part stays plain and is handed out without a copy. Floats and
//! native histograms are kept in the same way, each in their own kind of block.
//!
//! Blocks are shared with whoever reads them: a copy of a series that is being read costs its plain samples and a counter for each block.

use std::sync::Arc;

use super::ChunkSize;
use super::times::RecentTimes;

/// Plain samples that all series together may have, so that many series have few of them each: 40 MB.
const PLAIN_SAMPLES_MAX: usize = 2_500_000;
/// Plain samples that a series may have however many series there are: fewer, and compressing takes all the time.
const HEAD_MIN: usize = 16;

/// The counters of a shared block.
const ARC_BYTES: usize = 2 * size_of::<usize>();

/// Blocks that may have grown since the last eviction: one that is full by now, and the one after it.
const NEWEST_BLOCKS: usize = 2;

/// What the series of a store share.
#[derive(Default)]
pub(super) struct Room {
    pub(super) times: RecentTimes,
    series: usize,
}

impl Room {
    pub(super) fn set_series(&mut self, series: usize) {
        self.series = series;
    }

    fn head_max(&self) -> usize {
        (PLAIN_SAMPLES_MAX / self.series.max(1)).max(HEAD_MIN)
    }
}

/// A compressed run of samples.
pub(super) trait Block: Clone {
    type Sample: Clone;
    /// Samples that are compressed together at most. Up to twice as many stay plain.
    const SAMPLES: usize;
    /// Blocks that follow one another are merged up to so many samples.
    const MERGED_SAMPLES: usize;

    /// Compresses samples whose timestamps rise strictly: the first, and those after it that fit; tells how many.
    fn compress(samples: &[Self::Sample], room: &mut Room) -> (Self, usize);
    /// Puts samples behind those that are there, if that can be done without coding all anew.
    fn grow(&mut self, _: &[Self::Sample], _: &mut Room) -> bool {
        false
    }
    /// Whether it is worth it to code the block anew with so many more samples.
    fn merges_with(&self, count: usize) -> bool {
        self.samples() + count <= Self::MERGED_SAMPLES
    }
    /// Shares with other blocks what has become the same.
    fn share(&mut self, _: &mut Room) {}
    /// Appends the samples in `(after_ms, to_ms]` to `out`.
    fn decompress(&self, after_ms: i64, to_ms: i64, out: &mut Vec<Self::Sample>);
    fn time_ms(sample: &Self::Sample) -> i64;
    /// How many numbers a sample has: what it counts in the store's limit.
    fn weight(sample: &Self::Sample) -> usize;
    /// Bytes of a plain sample.
    fn sample_bytes(sample: &Self::Sample) -> usize;
    fn first_ms(&self) -> i64;
    fn last_ms(&self) -> i64;
    fn samples(&self) -> usize;
    /// The weight of its samples.
    fn weights(&self) -> usize;
    fn heap_bytes(&self) -> usize;
    /// Appends the block's bytes.
    fn save(&self, out: &mut Vec<u8>);
    /// Reads what `save` wrote.
    fn load(from: &mut &[u8], room: &mut Room) -> Option<Self>;
}

/// See the module's documentation.
pub(super) struct Samples<B: Block> {
    blocks: Vec<Arc<B>>,
    head: Vec<B::Sample>,
}

impl<B: Block> Clone for Samples<B> {
    fn clone(&self) -> Self {
        // Somebody is about to append.
        let mut head = Vec::with_capacity(self.head.capacity());
        head.extend_from_slice(&self.head);
        Samples { blocks: self.blocks.clone(), head }
    }
}

impl<B: Block> Default for Samples<B> {
    fn default() -> Self {
        Samples { blocks: Vec::new(), head: Vec::new() }
    }
}

impl<B: Block> Samples<B> {
    /// Appends a sample that is later than all others.
    pub(super) fn push(&mut self, sample: B::Sample, room: &mut Room) {
        let free = self.make_room(room);
        if self.head.len() == self.head.capacity() {
            // Doubling, but never past what is needed.
            self.head.reserve_exact(self.head.len().max(4).min(free));
        }
        self.head.push(sample);
    }

    /// Appends samples that are later than all others. The blocks become those that they had become one after the other.
    pub(super) fn extend(&mut self, samples: impl ExactSizeIterator<Item = B::Sample>, room: &mut Room) {
        let head_max = room.head_max().min(2 * B::SAMPLES);
        let count = self.head.len() + samples.len();
        if count <= head_max {
            return samples.for_each(|sample| self.push(sample, room));
        }
        let mut all = Vec::with_capacity(count);
        all.append(&mut self.head);
        all.extend(samples);
        let at_once = head_max - head_max / 2;
        let compressed = (count - head_max).next_multiple_of(at_once);
        let mut done = 0;
        while done < compressed {
            done += self.compress(&all[done..compressed], room);
        }
        self.head.extend_from_slice(&all[done..]);
    }

    /// Compresses what is too much to stay plain; returns how many samples there is room for, at least one.
    fn make_room(&mut self, room: &mut Room) -> usize {
        let head_max = room.head_max().min(2 * B::SAMPLES);
        if self.head.len() >= head_max {
            self.compress_oldest(self.head.len() - head_max / 2, room);
            // Series have become many since the head has grown.
            if self.head.capacity() > 2 * head_max {
                self.head.shrink_to(head_max);
            }
        }
        head_max.saturating_sub(self.head.len()).max(1)
    }

    /// Compresses the first `count` plain samples, or those of them that fit into one block.
    fn compress_oldest(&mut self, count: usize, room: &mut Room) {
        let mut head = std::mem::take(&mut self.head);
        let taken = self.compress(&head[..count], room);
        head.drain(..taken);
        self.head = head;
    }

    /// Compresses samples that follow those of the blocks, or the first of them; tells how many.
    fn compress(&mut self, samples: &[B::Sample], room: &mut Room) -> usize {
        let free = self.blocks.last().map_or(0, |last| B::MERGED_SAMPLES.saturating_sub(last.samples()));
        let count = samples.len().min(B::SAMPLES).min(if free > 0 { free } else { B::SAMPLES });
        let samples = &samples[..count];
        let last = self.blocks.last_mut();
        if last.is_some_and(|last| Arc::make_mut(last).grow(samples, room) || merge(last, samples, room)) {
            return count;
        }
        let (block, taken) = B::compress(samples, room);
        self.push_block(block);
        taken
    }

    fn push_block(&mut self, block: B) {
        // Most series have few blocks, so there is little room in advance.
        if self.blocks.len() == self.blocks.capacity() {
            self.blocks.reserve_exact((self.blocks.len() / 4).max(1));
        }
        self.blocks.push(Arc::new(block));
    }

    pub(super) fn newest(&self) -> Option<&B::Sample> {
        self.head.last()
    }

    pub(super) fn newest_ms(&self) -> Option<i64> {
        self.newest().map(B::time_ms)
    }

    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.blocks.first().map(|block| block.first_ms()).or_else(|| self.head.first().map(B::time_ms))
    }

    /// The samples in `(after_ms, to_ms]`: a slice of the head, or of `scratch` where older ones must be decompressed.
    pub(super) fn window<'a>(
        &'a self,
        after_ms: i64,
        to_ms: i64,
        scratch: &'a mut Vec<B::Sample>,
    ) -> &'a [B::Sample] {
        let in_blocks = self.blocks.last().is_some_and(|block| block.last_ms() > after_ms);
        if !in_blocks {
            let end = self.position_after(self.head.len(), to_ms);
            return &self.head[self.position_after(end, after_ms)..end];
        }
        scratch.clear();
        self.append_window(after_ms, to_ms, scratch);
        scratch
    }

    /// Appends the samples in `(after_ms, to_ms]` to `out`.
    pub(super) fn append_window(&self, after_ms: i64, to_ms: i64, out: &mut Vec<B::Sample>) {
        let first = self.blocks.partition_point(|block| block.last_ms() <= after_ms);
        for block in self.blocks[first..].iter().take_while(|block| block.first_ms() <= to_ms) {
            block.decompress(after_ms, to_ms, out);
        }
        let end = self.position_after(self.head.len(), to_ms);
        out.extend_from_slice(&self.head[self.position_after(end, after_ms)..end]);
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

    /// Whether there is something that [`Samples::evict`] would drop.
    pub(super) fn has_before(&self, cutoff_ms: i64) -> bool {
        let oldest_ms = self.blocks.first().map(|block| block.last_ms());
        oldest_ms.or_else(|| self.head.first().map(B::time_ms)).is_some_and(|oldest_ms| oldest_ms < cutoff_ms)
    }

    /// Drops samples before `cutoff_ms`, whole blocks at a time; returns the weight of those that went.
    pub(super) fn evict(&mut self, cutoff_ms: i64) -> usize {
        let old = self.blocks.partition_point(|block| block.last_ms() < cutoff_ms);
        let mut dropped = self.blocks.drain(..old).map(|block| block.weights()).sum();
        if self.blocks.is_empty() {
            let old = self.head.partition_point(|s| B::time_ms(s) < cutoff_ms);
            dropped += self.head.drain(..old).map(|sample| B::weight(&sample)).sum::<usize>();
        }
        dropped
    }

    /// Drops the oldest block, or the older half of the head; returns the weight of what went.
    pub(super) fn drop_oldest(&mut self) -> usize {
        if !self.blocks.is_empty() {
            return self.blocks.remove(0).weights();
        }
        self.head.drain(..self.head.len().div_ceil(2)).map(|sample| B::weight(&sample)).sum()
    }

    /// Appends the blocks' bytes, then the plain samples as blocks, each after what `each` writes.
    pub(super) fn save(&self, room: &mut Room, out: &mut Vec<u8>, each: impl Fn(&mut Vec<u8>)) {
        for block in &self.blocks {
            each(out);
            block.save(out);
        }
        save_samples::<B>(&self.head, room, out, each);
    }

    /// Takes a saved block if it is later than all that is there; returns the weight of its samples.
    pub(super) fn take_block(&mut self, block: B) -> usize {
        if !self.head.is_empty() || self.newest_block_ms() >= Some(block.first_ms()) {
            return 0;
        }
        let weights = block.weights();
        self.push_block(block);
        weights
    }

    /// Compresses all but the newest sample: nobody appends to them any more.
    pub(super) fn rest(&mut self, room: &mut Room) {
        while self.head.len() > 1 {
            self.compress_oldest(self.head.len() - 1, room);
        }
        self.head.shrink_to_fit();
    }

    /// Shares with other series what the newest blocks have become in common with theirs: not all grow at once.
    pub(super) fn share(&mut self, room: &mut Room) {
        let newest = self.blocks.iter_mut().rev().take(NEWEST_BLOCKS);
        // One that is being read is left for the next time.
        newest.filter_map(Arc::get_mut).for_each(|block| block.share(room));
    }

    /// Keeps the newest sample plain, where it is looked for.
    pub(super) fn settle(&mut self, room: &mut Room) {
        if !self.head.is_empty() {
            return;
        }
        let Some(last) = self.blocks.pop() else { return };
        let mut samples = Vec::with_capacity(last.samples());
        last.decompress(i64::MIN, i64::MAX, &mut samples);
        self.head.extend(samples.pop());
        if !samples.is_empty() {
            self.push_block(B::compress(&samples, room).0);
        }
    }

    fn newest_block_ms(&self) -> Option<i64> {
        self.blocks.last().map(|block| block.last_ms())
    }

    pub(super) fn weights(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(|block| block.weights()).sum();
        blocks + self.head.iter().map(B::weight).sum::<usize>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.blocks.is_empty()
    }

    /// What is compressed.
    pub(super) fn chunks(&self) -> ChunkSize {
        ChunkSize {
            count: self.blocks.len(),
            samples: self.blocks.iter().map(|block| block.weights()).sum(),
            bytes: self.blocks.iter().map(|block| block.heap_bytes() + ARC_BYTES).sum(),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let spare = (self.head.capacity() - self.head.len()) * size_of::<B::Sample>()
            + self.blocks.capacity() * size_of::<Arc<B>>();
        self.chunks().bytes + spare + self.head.iter().map(B::sample_bytes).sum::<usize>()
    }
}

/// Codes a block anew with more samples behind its own. `false` if they do not fit.
fn merge<B: Block>(block: &mut Arc<B>, more: &[B::Sample], room: &mut Room) -> bool {
    if !block.merges_with(more.len()) {
        return false;
    }
    let mut samples = Vec::with_capacity(block.samples() + more.len());
    block.decompress(i64::MIN, i64::MAX, &mut samples);
    samples.extend_from_slice(more);
    let (merged, taken) = B::compress(&samples, room);
    let fits = taken == samples.len();
    if fits {
        *block = Arc::new(merged);
    }
    fits
}

#[cfg(test)]
impl<B: Block> Samples<B> {
    /// Appends samples and compresses all of them.
    pub(super) fn compress_all(&mut self, samples: &[B::Sample], room: &mut Room) {
        let mut done = 0;
        while done < samples.len() {
            done += self.compress(&samples[done..], room);
        }
    }
}

/// Appends samples as blocks, each after what `each` writes.
pub(super) fn save_samples<B: Block>(
    mut samples: &[B::Sample],
    room: &mut Room,
    out: &mut Vec<u8>,
    each: impl Fn(&mut Vec<u8>),
) {
    while !samples.is_empty() {
        let (block, taken) = B::compress(&samples[..samples.len().min(B::SAMPLES)], room);
        each(out);
        block.save(out);
        samples = &samples[taken..];
    }
}
