//! The file in which samples are kept over restarts.
//!
//! What is new is appended every few seconds, so a crash costs those seconds; when the file has grown to a few times what it began
//! with, it is written anew beside the old one and takes its place. A damaged end is left out when it is read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flyball_metrics::{FILE_HEADER, FRAME_HEADER_BYTES, Loading, Saving, Store, frame_length};
use parking_lot::Mutex;

/// A file is written anew when it is so many times as large as it began: dead samples cost at most that.
const GROWTH_MAX: u64 = 3;
/// Smaller files are not worth it.
const REWRITE_BYTES_MIN: u64 = 16 << 20;

/// See the module's documentation.
pub(crate) struct StoreFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_at_first: u64,
}

impl StoreFile {
    /// Reads what there is into the store, and begins a new file.
    ///
    /// # Errors
    /// The file can't be read or written. One that is damaged or of another version is no error: what stands
    /// before the damage is taken.
    pub(crate) fn open(path: &Path, store: &Mutex<Store>, now_ms: i64) -> io::Result<StoreFile> {
        match File::open(path) {
            Ok(file) => load(path, file, &mut store.lock(), now_ms)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        StoreFile::begin(path, store)
    }

    /// Writes everything into a new file, which then takes the place of the old one.
    fn begin(path: &Path, store: &Mutex<Store>) -> io::Result<StoreFile> {
        let beside = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&FILE_HEADER)?;
        let bytes = FILE_HEADER.len() as u64 + append(&mut file, store, Saving::whole())?;
        file.sync_data()?;
        fs::rename(&beside, path)?;
        Ok(StoreFile { path: path.to_owned(), file, bytes, bytes_at_first: bytes })
    }

    /// Writes what is new.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn save(&mut self, store: &Mutex<Store>) -> io::Result<()> {
        if self.bytes > (self.bytes_at_first * GROWTH_MAX).max(REWRITE_BYTES_MIN) {
            *self = StoreFile::begin(&self.path, store)?;
            return Ok(());
        }
        self.bytes += append(&mut self.file, store, Saving::news())?;
        self.file.sync_data()
    }
}

/// Writes frames; between two of them the store is free for others.
fn append(file: &mut File, store: &Mutex<Store>, mut saving: Saving) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        let frame = store.lock().save(&mut saving);
        let Some(frame) = frame else { return Ok(bytes) };
        file.write_all(&frame)?;
        bytes += frame.len() as u64;
    }
}

fn load(path: &Path, file: File, store: &mut Store, now_ms: i64) -> io::Result<()> {
    let mut reader = BufReader::new(file);
    let mut header = FILE_HEADER;
    if !read_whole(&mut reader, &mut header)? || header != FILE_HEADER {
        tracing::warn!(path = %path.display(), "the file of samples is of another version; samples begin anew");
        return Ok(());
    }
    let mut loading = Loading::default();
    let whole = load_frames(&mut reader, store, &mut loading)?;
    let samples = loading.samples;
    store.loaded(loading, now_ms);
    if whole {
        tracing::info!(samples, "samples were read from the last run");
    } else {
        tracing::warn!(samples, path = %path.display(), "the end of the file of samples is damaged and was left out");
    }
    Ok(())
}

/// Reads frames up to the end or the first damaged one; returns whether all were intact.
fn load_frames(reader: &mut impl Read, store: &mut Store, loading: &mut Loading) -> io::Result<bool> {
    let mut header = [0; FRAME_HEADER_BYTES];
    let mut frame = Vec::new();
    loop {
        let read = read_up_to(reader, &mut header)?;
        if read == 0 {
            return Ok(true);
        }
        let Some(length) = frame_length(&header).ok().filter(|_| read == header.len()) else {
            return Ok(false);
        };
        frame.resize(length, 0);
        if !read_whole(reader, &mut frame)? || store.load_frame(loading, &header, &frame).is_err() {
            return Ok(false);
        }
    }
}

fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    Ok(read_up_to(reader, buffer)? == buffer.len())
}

/// Fills the buffer as far as there is something to read.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use flyball_metrics::{Labels, Sample};

    use super::*;

    fn fill(store: &Mutex<Store>, seconds: std::ops::Range<i64>) {
        for second in seconds {
            let labels = Labels::new([("__name__", "load")]);
            let appended = store.lock().append_to(&labels, Sample::new(second * 1_000, second as f64));
            appended.expect("in order");
        }
    }

    fn samples(store: &Mutex<Store>) -> usize {
        store.lock().size().samples
    }

    #[test]
    fn samples_come_back_after_a_crash_and_a_torn_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics");
        let store = Mutex::new(Store::default());
        let mut file = StoreFile::open(&path, &store, 0).expect("a new file");
        fill(&store, 0..100);
        file.save(&store).expect("written");
        fill(&store, 100..200);
        file.save(&store).expect("written");
        drop(file);
        let whole = fs::read(&path).expect("the file");
        for (kept, expected) in [(whole.len(), 200), (whole.len() - 1, 100), (20, 0), (3, 0)] {
            fs::write(&path, &whole[..kept]).expect("written");
            let restored = Mutex::new(Store::default());
            StoreFile::open(&path, &restored, 200_000).expect("read");
            // Each series that came back ends with a stale marker.
            assert_eq!(samples(&restored), if expected > 0 { expected + 1 } else { 0 }, "{kept} bytes");
        }
        fs::write(&path, b"something else").expect("written");
        let other = Mutex::new(Store::default());
        StoreFile::open(&path, &other, 0).expect("begins anew");
        assert_eq!(samples(&other), 0);
    }
}
