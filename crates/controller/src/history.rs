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
        kept && codes(&self.decision) == codes(next)
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
        let records = self.targets.entry(decision.target.clone()).or_default();
        if let Some(last) = records.back_mut().filter(|last| last.repeats(&decision)) {
            last.times += 1;
            last.decision = decision;
            return None;
        }
        append(records, Record::of(decision));
        records.len().checked_sub(2).and_then(|before| records.get(before))
    }

    /// Takes in a record from before a restart.
    pub(crate) fn restore(&mut self, record: Record) {
        append(self.targets.entry(record.decision.target.clone()).or_default(), record);
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

fn append(records: &mut VecDeque<Record>, record: Record) {
    if records.len() == RECORDS_MAX {
        records.pop_front();
    }
    records.push_back(record);
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
                lines.filter_map(|line| serde_json::from_str(&line).ok()).for_each(|record| history.restore(record));
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
