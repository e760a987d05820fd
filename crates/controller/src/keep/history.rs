//! The decisions of the recent past, for each target, over restarts. Reading and writing files is `file`'s.
//!
//! A target is decided every second, and mostly nothing changes. So decisions in a row that keep the replicas for the
//! same reasons are one record, which holds the newest of them and since when; a decision that changes the replicas is
//! always a record of its own.

use std::collections::{BTreeMap, VecDeque};

use flyball_engine::{Decision, TargetId, Time};
use serde::{Deserialize, Serialize};

/// Records kept for each target: with the page's manifests some hours, and under 1 MB.
pub(crate) const RECORDS_MAX: usize = 300;
/// Records kept in all, some 100 MB: with more targets than 200, each has fewer.
const RECORDS_ALL_MAX: usize = 60_000;
/// As few records as a target has however many others there are: the last minutes of change.
const RECORDS_MIN: usize = 20;
/// Targets whose decisions are kept, those that are gone included; beyond this, the one that was decided about the
/// longest ago is forgotten.
const TARGETS_MAX: usize = 10_000;

/// One decision, or several that kept the replicas for the same reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When the first of them was made.
    pub since: Time,
    /// How many there were.
    pub times: u64,
    /// The newest of them.
    pub decision: Decision,
}

impl Record {
    fn of(decision: Decision) -> Record {
        Record { since: decision.at, times: 1, decision }
    }

    /// Whether the next decision says the same thing once more.
    fn repeats(&self, next: &Decision) -> bool {
        let codes = |decision: &Decision| -> Vec<&'static str> {
            let proposals = decision.proposals.iter().map(|proposal| proposal.reason.code());
            decision.steps.iter().map(|step| step.reason.code()).chain(proposals).collect()
        };
        let kept = !self.decision.rescales() && !next.rescales() && self.decision.current == next.current;
        let sizes =
            |decision: &Decision| -> Vec<_> { decision.sizes.iter().map(|size| size.requests()).collect() };
        kept && codes(&self.decision) == codes(next) && sizes(&self.decision) == sizes(next)
    }
}

/// The records of every target, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    targets: BTreeMap<TargetId, VecDeque<Record>>,
}

impl History {
    /// Takes in a decision. Gives the record before it when that one is complete, to be written down.
    pub(crate) fn push(&mut self, decision: Decision) -> Option<&Record> {
        if let Some(last) = self.last_mut(&decision.target).filter(|last| last.repeats(&decision)) {
            last.times += 1;
            last.decision = decision;
            return None;
        }
        let records = self.append(Record::of(decision));
        records.len().checked_sub(2).and_then(|before| records.get(before))
    }

    /// Takes in a record from before a restart.
    pub(crate) fn restore(&mut self, record: Record) {
        self.append(record);
    }

    fn last_mut(&mut self, target: &TargetId) -> Option<&mut Record> {
        self.targets.get_mut(target)?.back_mut()
    }

    /// Adds a record, and lets go of the oldest ones where there are too many.
    fn append(&mut self, record: Record) -> &VecDeque<Record> {
        if self.targets.len() == TARGETS_MAX && !self.targets.contains_key(&record.decision.target) {
            self.forget_one();
        }
        let records_max = (RECORDS_ALL_MAX / self.targets.len().max(1)).clamp(RECORDS_MIN, RECORDS_MAX);
        let records = self.targets.entry(record.decision.target.clone()).or_default();
        let too_many = (records.len() + 1).saturating_sub(records_max);
        records.drain(..too_many);
        records.push_back(record);
        records
    }

    fn forget_one(&mut self) {
        let newest = |records: &VecDeque<Record>| records.back().map(|record| record.decision.at);
        let oldest = self.targets.iter().min_by_key(|(_, records)| newest(records));
        if let Some(target) = oldest.map(|(target, _)| target.clone()) {
            self.targets.remove(&target);
        }
    }

    /// Every record.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Record> {
        self.targets.values().flatten()
    }

    /// The newest record of each target: what is not written down yet.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Record> {
        self.targets.values().filter_map(VecDeque::back)
    }
}

/// The records in a file, one JSON object a line, so that a torn last line costs one record.
pub(crate) mod file {
    use std::io::{BufRead, BufReader, Write};
    use std::path::{Path, PathBuf};

    use super::{History, Record};

    /// The file is written anew from memory when it has grown to this.
    const BYTES_MAX: u64 = 16 << 20;

    /// Appends records to a file.
    #[derive(Debug)]
    pub(crate) struct Journal {
        path: PathBuf,
        file: std::fs::File,
        bytes: u64,
    }

    impl Journal {
        /// Opens the file, and reads what it holds into `history`. A line that does not parse is left out.
        pub(crate) fn open(path: &Path, history: &mut History) -> std::io::Result<Journal> {
            if let Ok(file) = std::fs::File::open(path) {
                let lines = BufReader::new(file).lines().map_while(Result::ok);
                lines
                    .filter_map(|line| serde_json::from_str(&line).ok())
                    .for_each(|record| history.restore(record));
            }
            Journal::rewrite(path, history)
        }

        /// Writes a record down. The whole file is written anew when it has grown too large.
        pub(crate) fn append(&mut self, record: &Record) -> std::io::Result<()> {
            self.bytes += write(&mut self.file, record)?;
            Ok(())
        }

        /// Keeps the file from growing without end.
        pub(crate) fn compact(&mut self, history: &History) -> std::io::Result<()> {
            if self.bytes > BYTES_MAX {
                *self = Journal::rewrite(&self.path, history)?;
            }
            Ok(())
        }

        fn rewrite(path: &Path, history: &History) -> std::io::Result<Journal> {
            use std::os::unix::fs::OpenOptionsExt;
            let next = path.with_extension("new");
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&next)?;
            let mut bytes = 0;
            for record in history.all() {
                bytes += write(&mut file, record)?;
            }
            std::fs::rename(&next, path)?;
            Ok(Journal { path: path.to_owned(), file, bytes })
        }
    }

    fn write(file: &mut std::fs::File, record: &Record) -> std::io::Result<u64> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        file.write_all(&line)?;
        Ok(line.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use flyball_engine::{Reason, Stage, Step};

    use super::file::Journal;
    use super::*;

    fn decision(at: u64, current: u32, desired: u32, reason: Reason) -> Decision {
        Decision {
            target: TargetId::new("Deployment", "default", "model"),
            at: Time::from_seconds(at),
            current,
            desired,
            steps: vec![Step { stage: Stage::Bound, from: current, to: desired, reason }],
            proposals: Vec::new(),
            activity: None,
            turning_points: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Decisions as (second, current, desired, maximum), and the records as (since, times, current, desired).
    fn check(decisions: &[(u64, u32, u32, Option<u32>)], expected: &[(u64, u64, u32, u32)]) -> History {
        let mut history = History::default();
        for &(at, current, desired, max) in decisions {
            let reason = max.map_or(Reason::ScalingDisabled, |max| Reason::TooManyReplicas { max });
            history.push(decision(at, current, desired, reason));
        }
        let seconds = |time: Time| time.as_millis() / 1000;
        let found: Vec<_> = history
            .all()
            .map(|r| (seconds(r.since), r.times, r.decision.current, r.decision.desired))
            .collect();
        assert_eq!(found, expected, "{decisions:?}");
        history
    }

    #[test]
    fn keeping_for_the_same_reasons_is_one_record() {
        check(&[], &[]);
        check(&[(1, 2, 2, Some(5)), (2, 2, 2, Some(5)), (3, 2, 2, Some(4))], &[(1, 3, 2, 2)]);
        check(&[(1, 2, 2, Some(5)), (2, 2, 2, None)], &[(1, 1, 2, 2), (2, 1, 2, 2)]);
        check(&[(1, 2, 3, Some(5)), (2, 2, 3, Some(5))], &[(1, 1, 2, 3), (2, 1, 2, 3)]);
        check(&[(1, 2, 2, Some(5)), (2, 3, 3, Some(5))], &[(1, 1, 2, 2), (2, 1, 3, 3)]);
    }

    #[test]
    fn records_are_bounded() {
        let changes: Vec<_> = (0..1000).map(|at| (at, 1, 2, Some(5))).collect();
        let mut history = History::default();
        for (at, current, desired, _) in changes {
            history.push(decision(at, current, desired, Reason::ScalingDisabled));
        }
        assert_eq!(history.all().count(), RECORDS_MAX);
    }

    #[test]
    fn many_targets_share_the_room_and_the_oldest_is_forgotten() {
        let mut history = History::default();
        let named = |index: usize| TargetId::new("Deployment", "default", format!("model-{index}"));
        for index in 0..=TARGETS_MAX {
            for at in 0..2 {
                let made = decision(index as u64 * 2 + at, 1, 2, Reason::ScalingDisabled);
                history.push(Decision { target: named(index), ..made });
            }
        }
        assert_eq!(history.targets.len(), TARGETS_MAX);
        assert!(!history.targets.contains_key(&named(0)));
        for at in 0..100 {
            let made = decision(1_000_000 + at, 1, 2, Reason::ScalingDisabled);
            history.push(Decision { target: named(1), ..made });
        }
        assert_eq!(history.targets[&named(1)].len(), RECORDS_MIN);
    }

    #[test]
    fn a_journal_brings_records_back_and_survives_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        let written = check(&[(1, 1, 2, Some(5)), (2, 2, 2, Some(5))], &[(1, 1, 1, 2), (2, 1, 2, 2)]);
        let mut journal = Journal::open(&path, &mut History::default()).unwrap();
        written.all().for_each(|record| journal.append(record).unwrap());
        let torn = [std::fs::read(&path).unwrap().as_slice(), b"{\"since\":"].concat();
        std::fs::write(&path, torn).unwrap();
        let mut read = History::default();
        Journal::open(&path, &mut read).unwrap();
        assert_eq!(read.all().collect::<Vec<_>>(), written.all().collect::<Vec<_>>());
    }
}
