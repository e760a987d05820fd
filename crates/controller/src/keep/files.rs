//! What is written down: decisions as they are made, samples every few rounds. Neither keeps a round waiting for the disk, and
//! a disk that is full costs a warning and nothing else.

use std::sync::Arc;

use flyball_engine::Decision;
use flyball_metrics::Store;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::keep::history::{History, file::Journal};
use crate::keep::samples::StoreFile;
use crate::options::Options;

/// The files, as far as there are any.
pub(crate) struct Files {
    journal: Option<Journal>,
    samples: Option<Arc<Mutex<StoreFile>>>,
    /// The samples that are being written.
    saving: Option<JoinHandle<()>>,
}

impl Files {
    /// Reads what they hold.
    ///
    /// # Errors
    /// One of them cannot be read or written.
    pub(crate) fn open(
        options: &Options,
        history: &Mutex<History>,
        store: &Mutex<Store>,
    ) -> std::io::Result<Files> {
        let journal = options.history.as_ref().map(|path| Journal::open(path, &mut history.lock()));
        let now_ms = Timestamp::now().as_millisecond();
        let samples = options.samples.as_ref().map(|path| StoreFile::open(path, store, now_ms));
        let samples = samples.transpose()?.map(|file| Arc::new(Mutex::new(file)));
        Ok(Files { journal: journal.transpose()?, samples, saving: None })
    }

    /// Adds a decision to the history, and what is complete of it to the journal.
    pub(crate) fn record(&mut self, history: &Mutex<History>, decision: Decision) {
        let mut history = history.lock();
        let complete = history.push(decision).cloned();
        let Some(journal) = &mut self.journal else { return };
        let written = complete
            .map_or(Ok(()), |record| journal.append(&record))
            .and_then(|()| journal.compact(&history));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write decisions down");
        }
    }

    /// Writes new samples to their file, beside everything else: the disk may be slow.
    pub(crate) fn save_samples(&mut self, store: &Arc<Mutex<Store>>) {
        let Some(file) = &self.samples else { return };
        let before = self.saving.take();
        if let Some(saving) = before.filter(|saving| !saving.is_finished()) {
            self.saving = Some(saving);
            return;
        }
        let (file, store) = (Arc::clone(file), Arc::clone(store));
        self.saving = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = file.lock().save(&store) {
                tracing::warn!(%error, "cannot write samples down");
            }
        }));
    }

    /// Writes what is still open, and waits for it.
    pub(crate) async fn finish(&mut self, history: &Mutex<History>, store: &Arc<Mutex<Store>>) {
        if let Some(journal) = &mut self.journal {
            let history = history.lock();
            let written: std::io::Result<()> = history.newest().try_for_each(|record| journal.append(record));
            if let Err(error) = written {
                tracing::warn!(%error, "cannot write decisions down");
            }
        }
        self.save_samples(store);
        if let Some(saving) = self.saving.take() {
            // What was written up to now is whole; the rest is in nobody's way.
            let _ = saving.await;
        }
    }
}
