//! A copy-on-write view of a file: the database can open, repair and write it, but writes stay in memory. Checking
//! a file must not change it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

const BLOCK: u64 = 4096;

#[derive(Debug)]
struct State {
    len: u64,
    /// Length of the file's prefix that is still visible.
    file_len: u64,
    written: BTreeMap<u64, Vec<u8>>,
}

/// The file and the blocks written over it; clones share both.
#[derive(Debug, Clone)]
pub(super) struct Overlay {
    file: Arc<FileBackend>,
    state: Arc<Mutex<State>>,
}

impl Overlay {
    pub(super) fn new(file: FileBackend) -> io::Result<Self> {
        let len = file.len()?;
        let state = State { len, file_len: len, written: BTreeMap::new() };
        Ok(Self { file: Arc::new(file), state: Arc::new(Mutex::new(state)) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn block(&self, state: &State, index: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = state.written.get(&index) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK as usize];
        let start = index * BLOCK;
        let there = state.file_len.saturating_sub(start).min(BLOCK);
        self.file.read(start, &mut block[..there as usize])?;
        Ok(block)
    }
}

/// Splits a range into block number, range within the block, and offset within the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let end = offset + len as u64;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |index| {
        let start = (index * BLOCK).max(offset);
        let stop = ((index + 1) * BLOCK).min(end);
        let within = (start - index * BLOCK) as usize..(stop - index * BLOCK) as usize;
        (index, within, (start - offset) as usize)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset.saturating_add(out.len() as u64) > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (index, within, at) in parts(offset, out.len()) {
            let block = self.block(&state, index)?;
            let part = &block[within];
            out[at..at + part.len()].copy_from_slice(part);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if !len.is_multiple_of(BLOCK) {
            let last = len / BLOCK;
            let mut block = self.block(&state, last)?;
            block[(len % BLOCK) as usize..].fill(0);
            state.written.insert(last, block);
        }
        state.written.retain(|index, _| index * BLOCK < len);
        state.file_len = state.file_len.min(len);
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        for (index, within, at) in parts(offset, data.len()) {
            let mut block = self.block(&state, index)?;
            let count = within.len();
            block[within].copy_from_slice(&data[at..at + count]);
            state.written.insert(index, block);
        }
        state.len = state.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    // Locking is delegated to the file, so that another process's lock is respected.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
