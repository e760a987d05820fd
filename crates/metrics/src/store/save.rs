//! The store as bytes, to be kept over a restart.
//!
//! A file is a header and frames; a frame is its length, its checksum and records. First everything is written, then
//! again and again what is new since ([`Store::save`]): appending never changes what stands there already. A frame that is torn or
//! damaged ends the reading: what stands before it is whole ([`Store::load_frame`]).
//!
//! What ran when the file was written does not run any more, so every series that was alive is ended when all is read.

use std::collections::HashMap;
use std::sync::Arc;

use super::{SeriesId, Store};
use crate::labels::Labels;
use crate::sample::{STALE_NAN, Sample};

/// The first bytes of a file; the last is the version of the format.
pub const FILE_HEADER: [u8; 8] = *b"flyball\x02";
/// Length and checksum of a frame.
pub const FRAME_HEADER_BYTES: usize = 8;
/// A frame is closed when it has so many bytes: what a torn one costs.
const FRAME_BYTES: usize = 256 << 10;
/// The largest frame that is read; one series with all its blocks may be larger than `FRAME_BYTES`.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Labels,
    Floats,
    Histograms,
    StartTimes,
}

const KINDS: [Kind; 4] = [Kind::Labels, Kind::Floats, Kind::Histograms, Kind::StartTimes];

/// How far a store has been written.
#[derive(Debug, Default)]
pub struct Saving {
    whole: bool,
    next_slot: usize,
}

impl Saving {
    /// Everything, for a new file.
    pub fn whole() -> Saving {
        Saving { whole: true, next_slot: 0 }
    }

    /// What is new since the last time.
    pub fn news() -> Saving {
        Saving::default()
    }
}

/// What was read from a file so far.
#[derive(Debug, Default)]
pub struct Loading {
    series: HashMap<u64, SeriesId>,
    /// Samples that were taken.
    pub samples: usize,
}

/// A frame that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("torn or damaged frame")]
pub struct DamagedFrame;

/// The length of a frame, by its header.
pub fn frame_length(header: &[u8; FRAME_HEADER_BYTES]) -> Result<usize, DamagedFrame> {
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if (1..=FRAME_BYTES_MAX).contains(&length) { Ok(length) } else { Err(DamagedFrame) }
}

impl Store {
    /// The next frame to write, header included; `None` when all is written. The store may change between two calls.
    pub fn save(&mut self, saving: &mut Saving) -> Option<Vec<u8>> {
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        while saving.next_slot < self.slots.len() && frame.len() < FRAME_BYTES {
            let slot = &mut self.slots[saving.next_slot];
            let key = (saving.next_slot as u64) << 32 | u64::from(slot.generation);
            saving.next_slot += 1;
            self.pages.write_out(slot, &mut self.room);
            let Some(series) = &slot.series else { continue };
            let labels = &series.labels;
            let saved_ms = slot.saved_ms;
            slot.saved_ms = series.newest_ms().unwrap_or(saved_ms);
            series.save(saving.whole, saved_ms, &mut self.room, &mut frame, |kind, out| {
                out.push(kind as u8);
                out.extend(key.to_le_bytes());
                if kind == Kind::Labels {
                    put_bytes(out, labels.packed().as_bytes());
                }
            });
        }
        if frame.len() == FRAME_HEADER_BYTES {
            return None;
        }
        let length = (frame.len() - FRAME_HEADER_BYTES) as u32;
        let checksum = crc32fast::hash(&frame[FRAME_HEADER_BYTES..]);
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame[4..FRAME_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        Some(frame)
    }

    /// Takes a frame of a file.
    ///
    /// # Errors
    /// It is not what was written; nothing of it was taken, and what follows it can't be trusted.
    pub fn load_frame(
        &mut self,
        loading: &mut Loading,
        header: &[u8; FRAME_HEADER_BYTES],
        frame: &[u8],
    ) -> Result<(), DamagedFrame> {
        let checksum = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if crc32fast::hash(frame) != checksum {
            return Err(DamagedFrame);
        }
        let mut rest = frame;
        while !rest.is_empty() {
            self.load_record(loading, &mut rest).ok_or(DamagedFrame)?;
        }
        Ok(())
    }

    fn load_record(&mut self, loading: &mut Loading, from: &mut &[u8]) -> Option<()> {
        let [kind] = take(from)?;
        let kind = *KINDS.get(usize::from(kind))?;
        let key = u64::from_le_bytes(take(from)?);
        if kind == Kind::Labels {
            let labels = Labels::from_packed(std::str::from_utf8(take_bytes(from)?).ok()?)?;
            // A store that is full by now keeps what it has.
            match self.series_id(&labels) {
                Ok(id) => drop(loading.series.insert(key, id)),
                Err(_) => drop(loading.series.remove(&key)),
            }
            return Some(());
        }
        let mut refused = super::Series::new(Labels::empty());
        let series = loading.series.get(&key).and_then(|id| self.slots.get_mut(id.slot as usize));
        let series = series.and_then(|slot| slot.series.as_mut()).map_or(&mut refused, Arc::make_mut);
        let weight = series.load(kind, from, &mut self.room)?;
        let taken = if series.labels.is_empty() { 0 } else { weight };
        (self.samples, loading.samples) = (self.samples + taken, loading.samples + taken);
        Some(())
    }

    /// Ends what was read: the series that were alive end with their last sample, and what is too old goes.
    pub fn loaded(&mut self, loading: Loading, now_ms: i64) {
        for id in loading.series.into_values() {
            let Some(series) = self.slots.get_mut(id.slot as usize).and_then(|slot| slot.series.as_mut())
            else {
                continue;
            };
            Arc::make_mut(series).settle(&mut self.room);
            if let Some(last_ms) = self.series(id).and_then(|series| series.alive_ms()) {
                // A refusal is counted by the store.
                let _ = self.append(id, Sample::new(last_ms.saturating_add(1), STALE_NAN));
            }
        }
        self.evict(now_ms);
    }
}

/// Appends bytes after their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*taken)
}

pub(super) fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(from)?);
    let (taken, rest) = from.split_at_checked(length as usize)?;
    *from = rest;
    Some(taken)
}

/// Numbers of `N` bytes each.
pub(super) fn numbers<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.chunks_exact(N).filter_map(|number| number.try_into().ok())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::histogram::{Buckets, NativeHistogram, Schema};
    use crate::sample::HistogramSample;

    fn labels(series: i64) -> Labels {
        Labels::new([("__name__", "load"), ("pod", &format!("model-{series}"))])
    }

    fn histogram(count: i64) -> Arc<NativeHistogram> {
        let positive = Buckets::from_rising(vec![(3, count as f64)]);
        let empty = NativeHistogram::empty(Schema::Exponential(2));
        Arc::new(NativeHistogram { count: count as f64, sum: count as f64, positive, ..empty })
    }

    /// Appends seconds to three series, the last of which has histograms; all but the first restart every 50 s.
    fn fill(store: &mut Store, seconds: std::ops::Range<i64>) {
        for second in seconds {
            for series in 0..3 {
                let id = store.series_id(&labels(series)).expect("few");
                let timestamp_ms = second * 1_000;
                let start_ms = series * (second / 50) * 50_000;
                match series {
                    2 => {
                        let sample = HistogramSample { timestamp_ms, histogram: histogram(second) };
                        store.append_started_histogram(id, sample, start_ms).expect("in order");
                    }
                    _ => store
                        .append_started(id, Sample::new(timestamp_ms, (second * series) as f64), start_ms)
                        .expect("in order"),
                }
            }
        }
    }

    fn frames(store: &mut Store, mut saving: Saving) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| store.save(&mut saving)).collect()
    }

    fn load(store: &mut Store, mut file: &[u8], now_ms: i64) -> Result<usize, DamagedFrame> {
        let mut loading = Loading::default();
        let mut result = Ok(());
        while let Some((header, rest)) = file.split_first_chunk::<FRAME_HEADER_BYTES>() {
            let read =
                frame_length(header).and_then(|length| rest.split_at_checked(length).ok_or(DamagedFrame));
            let read = read.and_then(|(frame, rest)| {
                file = rest;
                store.load_frame(&mut loading, header, frame)
            });
            if read.is_err() {
                result = read;
                break;
            }
        }
        let samples = loading.samples;
        store.loaded(loading, now_ms);
        result.map(|()| samples)
    }

    /// Every sample with its start, but not the stale markers that loading appends.
    fn contents(store: &Store) -> Vec<String> {
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        let mut lines = Vec::new();
        for series in store.select(&[]) {
            let start_ms = |timestamp_ms| series.start_times().map_or(0, |starts| starts.at(timestamp_ms));
            for sample in
                series.samples(i64::MIN, i64::MAX, &mut floats).iter().filter(|s| !s.is_stale_marker())
            {
                let start_ms = start_ms(sample.timestamp_ms);
                lines.push(format!(
                    "{} {} {start_ms} {}",
                    series.labels(),
                    sample.timestamp_ms,
                    sample.value
                ));
            }
            for sample in series.histograms(i64::MIN, i64::MAX, &mut histograms) {
                let start_ms = start_ms(sample.timestamp_ms);
                let (labels, histogram) = (series.labels(), &sample.histogram);
                lines.push(format!("{labels} {} {start_ms} {histogram:?}", sample.timestamp_ms));
            }
        }
        lines.sort();
        lines
    }

    #[test]
    fn what_was_saved_comes_back_and_ends() {
        let mut store = Store::default();
        fill(&mut store, 0..700);
        let mut file = frames(&mut store, Saving::whole()).concat();
        assert!(frames(&mut store, Saving::news()).is_empty(), "nothing new");
        for from in [700, 710, 1_200] {
            fill(&mut store, from..from + 10);
            file.extend(frames(&mut store, Saving::news()).concat());
        }
        let mut restored = Store::default();
        load(&mut restored, &file, 1_300_000).expect("whole");
        assert_eq!(contents(&restored), contents(&store));
        let pod = [crate::Matcher::equal("pod", "model-1")];
        let newest = restored.select(&pod)[0].newest().expect("a sample");
        assert!(newest.is_stale_marker() && newest.timestamp_ms == 1_209_001, "{newest:?}");
        fill(&mut restored, 1_400..1_410);
        fill(&mut store, 1_400..1_410);
        assert_eq!(contents(&restored).len(), contents(&store).len());
        assert_eq!(restored.size().samples, store.size().samples + 3, "the stale markers");
    }

    #[test]
    fn old_samples_and_further_series_stay_out() {
        let mut store = Store::default();
        fill(&mut store, 0..700);
        let file = frames(&mut store, Saving::whole()).concat();
        let mut late = Store::default();
        load(&mut late, &file, 100_000_000).expect("whole");
        assert_eq!(late.size().series, 0);
        let mut small = Store::new(crate::StoreOptions { series_max: 1, ..Default::default() });
        load(&mut small, &file, 700_000).expect("whole");
        assert_eq!(small.size().series, 1);
    }

    proptest! {
        /// A file that ends anywhere, or has a wrong byte anywhere, gives what stands before that.
        #[test]
        fn damage_costs_what_follows_it(cut in 0usize..6_000, wrong in any::<bool>(), bit in 0u8..8) {
            let mut store = Store::default();
            fill(&mut store, 0..300);
            let mut file = frames(&mut store, Saving::whole()).concat();
            let first = file.len();
            fill(&mut store, 300..320);
            file.extend(frames(&mut store, Saving::news()).concat());
            let cut = cut % file.len();
            if wrong { file[cut] ^= 1 << bit } else { file.truncate(cut) }
            let mut restored = Store::default();
            let _ = load(&mut restored, &file, 320_000);
            let count = contents(&restored).len();
            prop_assert!(if cut >= first { count == 900 } else { count == 0 }, "{count} samples, cut at {cut} of {first}");
        }
    }
}
