//! What the engine remembers of each target, over restarts: recommendations for stabilization, changes for the pace, and
//! when it was last in use.
//!
//! kube-controller-manager forgets the first two whenever it restarts or another replica leads. Here they are in a
//! file, written every few seconds, so that a kill loses no more than those; and the cluster itself keeps the last time
//! in use (`status.lastActiveTime`) and whether the autoscaler brought the target to zero (condition `ScaledToZero`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flyball_engine::{Engine, Memory, TargetId, Time};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::decide::scalers::{Owner, Scaler};
use crate::gather::facts;

/// How often the file is written. A recommendation counts for minutes, so these seconds are not missed.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// A file larger than this is none of ours: ten thousand targets take some megabytes.
const BYTES_MAX: u64 = 64 << 20;

/// The memories, and the file that keeps them.
#[derive(Debug, Default)]
pub(crate) struct Memories {
    file: Option<PathBuf>,
    /// From before the start, until a target claims its own.
    known: BTreeMap<TargetId, Memory>,
    written_at: Time,
    /// The write that is under way, beside the loop: the disk may be slow.
    writing: Option<JoinHandle<()>>,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct StoredMemory<T, M> {
    target: T,
    memory: M,
}

impl Memories {
    /// Reads the file. One that cannot be read is logged, and counts as none.
    pub(crate) fn open(file: Option<PathBuf>) -> Memories {
        let known = file.as_deref().map(read).unwrap_or_default();
        Memories { file, known, written_at: Time::default(), writing: None }
    }

    /// What is known of a target that is new to the engine.
    pub(crate) fn recall(&mut self, scaler: &Scaler) -> Memory {
        let kept = self.known.remove(&scaler.plan.target).unwrap_or_default();
        match &scaler.owner {
            Owner::ScaledObject(object) => {
                let status = object.status.as_ref();
                let told = status.and_then(|status| status.last_active_time.as_ref());
                let told = told.map(|time| facts::engine_time(time.0));
                Memory { last_active: kept.last_active.max(told), ..kept }
            }
            Owner::Autoscaler(object) => {
                let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
                let mut told = conditions.filter(|condition| condition.type_ == "ScaledToZero");
                let told = told.next().map(|condition| condition.status == "True");
                Memory { scaled_to_zero: told.or(kept.scaled_to_zero), ..kept }
            }
        }
    }

    /// Writes the memories down, if it is time.
    pub(crate) fn keep<'a>(
        &mut self,
        engine: &Engine,
        targets: impl Iterator<Item = &'a TargetId>,
        now: Time,
    ) {
        let is_writing = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if now.since(self.written_at) >= WRITE_EVERY && !is_writing {
            self.write(engine, targets, now);
        }
    }

    /// Writes the memories down for the last time, and waits for it.
    pub(crate) async fn finish<'a>(
        &mut self,
        engine: &Engine,
        targets: impl Iterator<Item = &'a TargetId>,
        now: Time,
    ) {
        self.written().await;
        self.write(engine, targets, now);
        self.written().await;
    }

    async fn written(&mut self) {
        if let Some(writing) = self.writing.take() {
            // What was written up to a panic did not take the old file's place.
            let _ = writing.await;
        }
    }

    /// Writes the memories down. They are written whole, and take the old ones' place only when they are complete.
    fn write<'a>(&mut self, engine: &Engine, targets: impl Iterator<Item = &'a TargetId>, now: Time) {
        self.written_at = now;
        let Some(file) = self.file.clone() else { return };
        let kept = targets.filter_map(|target| Some(StoredMemory { target, memory: engine.memory(target)? }));
        let lines = lines(kept);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = lines.and_then(|lines| write(&file, &lines)) {
                tracing::warn!(file = %file.display(), %error, "cannot write the memory of targets");
            }
        }));
    }
}

fn read(file: &Path) -> BTreeMap<TargetId, Memory> {
    let text = match std::fs::metadata(file).and_then(|about| {
        if about.len() > BYTES_MAX { Ok(String::new()) } else { std::fs::read_to_string(file) }
    }) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "cannot read the memory of targets");
            return BTreeMap::new();
        }
    };
    let lines =
        text.lines().filter_map(|line| serde_json::from_str::<StoredMemory<TargetId, Memory>>(line).ok());
    lines.map(|kept| (kept.target, kept.memory)).collect()
}

fn lines<'a>(kept: impl Iterator<Item = StoredMemory<&'a TargetId, &'a Memory>>) -> std::io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for one in kept {
        serde_json::to_writer(&mut lines, &one)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn write(file: &Path, lines: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt;
    let next = file.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut new = options.create(true).write(true).truncate(true).mode(0o600).open(&next)?;
    new.write_all(lines)?;
    new.sync_data()?;
    std::fs::rename(&next, file)
}

#[cfg(test)]
mod tests {
    use flyball_engine::{
        Bounds, Metric, MetricSource, MetricTarget, Metrics, Milli, Observation, Policy, Reading, Scale,
        Selector,
    };

    use super::*;

    fn target() -> TargetId {
        TargetId::new("Deployment", "default", "model")
    }

    /// An engine whose target reads `value` of a metric that wants 10 per replica, and how it decides.
    fn decide(engine: &mut Engine, second: u64, replicas: u32, value: f64) -> u32 {
        let now = Time::from_seconds(second);
        let scale = Scale { spec_replicas: replicas, status_replicas: replicas, selector: Selector::Valid };
        engine.observe(now, Observation::Scale { target: target(), scale });
        let reading = Reading::Value { value, at: now };
        engine.observe(now, Observation::Metric { target: target(), metric: "rate".into(), reading });
        engine.evaluate(now)[0].desired
    }

    fn engine() -> Engine {
        let source = MetricSource::External { metric: "rate".into(), selector: None };
        let rate = Metric::new("rate", source, MetricTarget::AverageValue(Milli::new(10_000))).unwrap();
        let bounds = Bounds::new(1, 10, None).unwrap();
        let policy = Box::new(Policy::new(bounds, Metrics::new(vec![rate], None).unwrap()));
        let mut engine = Engine::new();
        engine.observe(Time::from_seconds(1), Observation::Policy { target: target(), policy });
        engine
    }

    #[tokio::test]
    async fn a_stabilization_window_goes_on_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.json");
        let mut before = engine();
        assert_eq!(decide(&mut before, 1000, 5, 50.0), 5);
        assert_eq!(decide(&mut before, 1100, 5, 10.0), 5, "more was wanted not long ago");
        let mut memories = Memories::open(Some(file.clone()));
        memories.keep(&before, [target()].iter(), Time::from_seconds(1100));
        memories.written().await;
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + "{\"torn").unwrap();

        let mut after = engine();
        let memory = Memories::open(Some(file)).known.remove(&target()).unwrap();
        assert_eq!(before.memory(&target()), Some(&memory));
        let memory = Box::new(memory);
        after.observe(Time::from_seconds(1110), Observation::Memory { target: target(), memory });
        assert_eq!(decide(&mut after, 1299, 5, 10.0), 5, "it still is not long ago");
        assert_eq!(decide(&mut after, 1301, 5, 10.0), 1, "without the memory it would wait until 1599");
    }

    #[test]
    fn a_file_that_is_not_there_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Memories::open(Some(folder.path().join("none.json"))).known.is_empty());
        assert!(Memories::open(None).known.is_empty());
    }
}
