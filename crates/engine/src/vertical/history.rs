//! What is known of the containers of one name under one VerticalPodAutoscaler
//! (`pkg/recommender/model/aggregate_container_state.go`, `pkg/recommender/checkpoint`).
//!
//! VPA keeps one history for each set of pod labels and merges them at every recommendation, so that each rollout
//! starts another one. Here there is one for each container name: the same samples give the same histogram, no rollout
//! loses anything, and memory is bounded by the number of names.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decay::DecayingHistogram;
use super::histogram::{Buckets, CheckpointError, HistogramCheckpoint};
use super::peaks::PeakChange;
use super::recent_use::RecentUse;
use super::resources::clamp_amount;
use crate::time::Time;

/// The weight of a CPU sample. VPA's documentation says that it is the request; the code never had the request
/// (kubernetes/autoscaler#7819).
const CPU_SAMPLE_WEIGHT: f64 = 0.1;

/// The share of the memory peaks in a checkpoint that stands for the hours before it was loaded.
const RESTORED_PEAK: f64 = 0.95;

/// The version of checkpoints that is written and read.
const CHECKPOINT_VERSION: &str = "v3";

/// The half-lives of a history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HalfLives {
    /// `--cpu-histogram-decay-half-life`.
    pub cpu: Duration,
    /// `--memory-histogram-decay-half-life`.
    pub memory: Duration,
}

impl Default for HalfLives {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self { cpu: day, memory: day }
    }
}

/// The samples of all containers of one name.
#[derive(Clone, Debug)]
pub struct ContainerHistory {
    cpu: DecayingHistogram,
    memory: DecayingHistogram,
    created: Time,
    /// Of CPU samples, as the rest.
    first_sample: Option<Time>,
    last_sample: Option<Time>,
    samples: u64,
    recent: RecentUse,
}

/// A history as VPA keeps it: the `status` of a VerticalPodAutoscalerCheckpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Checkpoint {
    /// When it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// `v3`.
    pub version: String,
    /// CPU in cores.
    pub cpu_histogram: HistogramCheckpoint,
    /// Memory peaks in bytes.
    pub memory_histogram: HistogramCheckpoint,
    /// The first CPU sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_sample_start: Option<Time>,
    /// The last CPU sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sample_start: Option<Time>,
    /// How many CPU samples there were.
    pub total_samples_count: u64,
}

impl ContainerHistory {
    /// An empty one.
    pub fn new(now: Time, half_lives: HalfLives) -> Self {
        Self {
            cpu: DecayingHistogram::new(Buckets::cpu(), half_lives.cpu),
            memory: DecayingHistogram::new(Buckets::memory(), half_lives.memory),
            created: now,
            first_sample: None,
            last_sample: None,
            samples: 0,
            recent: RecentUse::default(),
        }
    }

    /// CPU use in cores.
    pub fn cpu(&self) -> &DecayingHistogram {
        &self.cpu
    }

    /// Memory peaks in bytes.
    pub fn memory(&self) -> &DecayingHistogram {
        &self.memory
    }

    /// What was used lately.
    pub(crate) fn recent(&self) -> &RecentUse {
        &self.recent
    }

    /// How many CPU samples it has.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// From the first to the last CPU sample.
    pub fn span(&self) -> Duration {
        self.first_sample.zip(self.last_sample).map_or(Duration::ZERO, |(first, last)| last.since(first))
    }

    /// How long it has had no CPU sample, or none since it exists.
    pub fn age(&self, now: Time) -> Duration {
        now.since(self.last_sample.unwrap_or(self.created))
    }

    /// Adds a CPU sample.
    pub fn add_cpu(&mut self, at: Time, millis: i64) {
        self.cpu.add(millis as f64 / 1000.0, CPU_SAMPLE_WEIGHT, at);
        self.first_sample = Some(self.first_sample.map_or(at, |first| first.min(at)));
        self.last_sample = Some(self.last_sample.map_or(at, |last| last.max(at)));
        self.samples = self.samples.saturating_add(1);
        self.recent.add_cpu(at, millis);
    }

    /// A container was held at its CPU limit, and would have used more.
    pub fn add_throttled(&mut self, at: Time, limit_millis: i64) {
        self.recent.add_throttled(at, limit_millis);
    }

    /// A container used so much memory, or would have needed it: for the last hours, whatever the peaks are.
    pub fn add_memory(&mut self, at: Time, bytes: i64) {
        self.recent.add_memory(at, bytes);
    }

    /// Replaces or adds a memory peak.
    pub fn add_peak(&mut self, change: &PeakChange) {
        if let Some(replaced) = change.replaced_bytes {
            self.memory.subtract(replaced as f64, 1.0, change.interval_end);
        }
        self.memory.add(change.peak_bytes as f64, 1.0, change.interval_end);
    }

    /// Adds the history of others of this name.
    pub fn merge(&mut self, other: &Self) {
        self.cpu.merge(&other.cpu);
        self.memory.merge(&other.memory);
        self.created = self.created.min(other.created);
        self.first_sample = [self.first_sample, other.first_sample].into_iter().flatten().min();
        self.last_sample = self.last_sample.max(other.last_sample);
        self.samples = self.samples.saturating_add(other.samples);
    }

    /// As VPA keeps it. `unfinished` are the peaks of intervals that still run, which are left out.
    pub fn save(&self, now: Time, unfinished: &[(i64, Time)]) -> Checkpoint {
        let mut memory = self.memory.clone();
        for &(peak, interval_end) in unfinished {
            memory.subtract(peak as f64, 1.0, interval_end);
        }
        Checkpoint {
            last_update_time: Some(now),
            version: CHECKPOINT_VERSION.to_owned(),
            cpu_histogram: self.cpu.save(),
            memory_histogram: memory.save(),
            first_sample_start: self.first_sample,
            last_sample_start: self.last_sample,
            total_samples_count: self.samples,
        }
    }

    /// The history that a checkpoint holds.
    ///
    /// # Errors
    ///
    /// Another version, weights or buckets that make no sense, samples that end before they begin.
    pub fn load(now: Time, half_lives: HalfLives, checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        if checkpoint.version != CHECKPOINT_VERSION {
            return Err(CheckpointError::Version(checkpoint.version.chars().take(40).collect()));
        }
        let (first, last) = (checkpoint.first_sample_start, checkpoint.last_sample_start);
        if let Some((first, last)) = first.zip(last).filter(|(first, last)| last < first) {
            return Err(CheckpointError::Times { first, last });
        }
        let mut history = Self::new(now, half_lives);
        history.cpu.load(&checkpoint.cpu_histogram)?;
        history.memory.load(&checkpoint.memory_histogram)?;
        history.first_sample = first.or(last);
        history.last_sample = last.or(first);
        history.samples = checkpoint.total_samples_count;
        // A checkpoint knows no hours: what it recommends stands for them.
        let peak = clamp_amount(history.memory.percentile(RESTORED_PEAK));
        if peak > 0 {
            history.add_memory(now, peak);
        }
        Ok(history)
    }
}
