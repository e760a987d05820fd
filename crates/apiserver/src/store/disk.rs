//! The store's file: one redb database, `objects.redb`, in the state directory.
//!
//! Two tables: every object's bytes under `resource/namespace/name`, and the revision counter. The file is locked
//! by redb while it is open, so two servers can't share a state directory. All objects are in memory anyway;
//! therefore redb's own cache is kept small.
//!
//! A file is made under another name and gets its own when it is whole, so one that is empty or cut off was damaged.
//! Before it is used, every page is checked against its checksum, on an [`Overlay`], so that looking changes nothing.
//! redb may panic on damaged pages; a panic is caught here, at the one boundary to it, and is an error like others.

use std::cell::Cell;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::change::{Event, Happened, Stored};
use super::overlay::Overlay;

/// Relaxed changes reach the disk after this time at the latest.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_secs(2);
/// Relaxed commits between two durable ones; fewer than the revisions that a start skips.
const RELAXED_MAX: u32 = 200;
/// Revisions skipped at every start: above `RELAXED_MAX` × the batch size, so that none is ever used twice.
const REVISION_SKIP: u64 = 100_000;
/// redb's page cache. Reads happen at the start only; this serves the pages being written.
const CACHE_BYTES: usize = 1 << 20;

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// The file cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("it is in use by another process")]
    InUse,
    /// What is wrong with its content.
    #[error("{0}")]
    Damaged(String),
    /// No room for a write.
    #[error("{0}")]
    Full(io::Error),
    #[error("{0}")]
    Redb(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for DiskError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Io(error) if is_full(&error) => Self::Full(error),
            redb::Error::Corrupted(why) => Self::Damaged(why),
            other => Self::Redb(other),
        }
    }
}

/// Is it for want of room (on the disk, of the user, for the file) that a write fails?
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The database; closed after a failure, because redb refuses everything after an I/O error, and opened again by
/// the next write: a disk that was full for a while needs no restart.
pub(crate) struct Disk {
    file: PathBuf,
    database: Option<Database>,
    relaxed: u32,
    /// The last commit was not whole, as after a power failure, and is left out.
    pub(crate) rolled_back: bool,
}

impl Disk {
    /// Opens the file, or makes it. One with a page that is not as it was written is refused.
    pub(crate) fn open(file: &Path) -> Result<Self, DiskError> {
        if !file.exists() {
            caught(|| create(file, |_| Ok(())))?;
        }
        Self::open_existing(file)
    }

    /// Opens a file that is there.
    pub(super) fn open_existing(file: &Path) -> Result<Self, DiskError> {
        let (database, rolled_back) = caught(|| {
            let rolled_back = examine(file)?;
            Ok((open(file)?, rolled_back))
        })?;
        Ok(Self { file: file.to_owned(), database: Some(database), relaxed: 0, rolled_back })
    }

    fn ready(&mut self) -> Result<&Database, DiskError> {
        let open = match self.database.take() {
            Some(open) => open,
            None => open(&self.file)?,
        };
        Ok(self.database.insert(open))
    }

    /// Hands over every object; the revision to continue from.
    pub(crate) fn load(&mut self, mut each: impl FnMut(&str, &str, Stored)) -> Result<u64, DiskError> {
        caught(|| {
            let transaction = self.ready()?.begin_read()?;
            let counters = transaction.open_table(COUNTERS)?;
            let counted = counters.get("revision")?.map_or(0, |value| value.value());
            let mut newest = counted;
            let mut count = 0;
            for entry in transaction.open_table(OBJECTS)?.iter()? {
                let (key, value) = entry?;
                let unreadable = || DiskError::Damaged(format!("the object {} cannot be read", key.value()));
                let bytes = Bytes::copy_from_slice(value.value());
                let revision = revision_of(&bytes).ok_or_else(unreadable)?;
                newest = newest.max(revision);
                let (resource, path) = split(key.value()).ok_or_else(unreadable)?;
                each(resource, path, Stored { revision, bytes });
                count += 1;
            }
            // The namespaces that every cluster has are written first, and stay.
            if count == 0 && counted > 0 {
                return Err(DiskError::Damaged(format!("it holds no objects after {counted} changes")));
            }
            Ok(if newest == 0 { 0 } else { newest + REVISION_SKIP })
        })
    }

    /// Writes the events in one transaction; with `relaxed` the disk may have them later.
    pub(super) fn commit<'a>(
        &mut self,
        events: impl Iterator<Item = &'a Event>,
        relaxed: bool,
    ) -> Result<(), DiskError> {
        let relaxed = relaxed && self.relaxed < RELAXED_MAX;
        let written = caught(|| write(self.ready()?, events, relaxed));
        if written.is_err() {
            self.close();
            return written;
        }
        self.relaxed = if relaxed { self.relaxed + 1 } else { 0 };
        Ok(())
    }

    /// Makes relaxed commits durable.
    pub(super) fn flush(&mut self) -> Result<(), DiskError> {
        if self.relaxed == 0 {
            return Ok(());
        }
        let flushed = caught(|| Ok(self.ready()?.begin_write()?.commit()?));
        match flushed {
            Ok(()) => self.relaxed = 0,
            Err(_) => self.close(),
        }
        flushed
    }

    /// Lets go of the database, which may write to the file once more.
    fn close(&mut self) {
        let database = self.database.take();
        // Nothing more can be done about what fails here.
        let _ = caught(|| {
            drop(database);
            Ok(())
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}

/// Makes the file, with all its content, under another name first.
pub(super) fn create(
    file: &Path,
    fill: impl FnOnce(&redb::WriteTransaction) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    let unfinished = file.with_extension("redb.new");
    let _ = fs::remove_file(&unfinished);
    let database = Builder::new().set_cache_size(CACHE_BYTES).create(&unfinished)?;
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    transaction.open_table(COUNTERS)?;
    fill(&transaction)?;
    transaction.commit()?;
    drop(database);
    fs::rename(&unfinished, file).and_then(|()| sync_directory(file)).map_err(redb::Error::Io)?;
    Ok(())
}

/// Makes the name of a file durable.
fn sync_directory(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

/// The content of a new file, from objects by their keys.
pub(super) fn fill<'a>(
    transaction: &redb::WriteTransaction,
    objects: impl Iterator<Item = (&'a str, &'a [u8])>,
    revision: u64,
) -> Result<(), DiskError> {
    let mut table = transaction.open_table(OBJECTS)?;
    for (key, bytes) in objects {
        table.insert(key, bytes)?;
    }
    transaction.open_table(COUNTERS)?.insert("revision", revision)?;
    Ok(())
}

fn open(file: &Path) -> Result<Database, DiskError> {
    Ok(Builder::new().set_cache_size(CACHE_BYTES).open(file)?)
}

/// Checks every page of the file, and leaves it as it is. True when the last commit is not whole: after a power
/// failure that is right, since nobody was told that it was made. After a clean stop it is damage.
pub(super) fn examine(file: &Path) -> Result<bool, DiskError> {
    let io = |error: io::Error| DiskError::from(redb::Error::Io(error));
    let opened = fs::OpenOptions::new().read(true).write(true).open(file).map_err(io)?;
    let overlay = Overlay::new(FileBackend::new(opened).map_err(redb::Error::from)?).map_err(io)?;
    let before = Header::read(&overlay)?;
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(overlay.clone())?;
    let after = Header::read(&overlay)?;
    drop(database);
    // The check itself commits once.
    let rolled_back = after.transaction <= before.transaction;
    if rolled_back && before.closed {
        return Err(DiskError::Damaged("its last changes are damaged".into()));
    }
    Ok(rolled_back)
}

/// What the head of a file says (`docs/design.md` of redb).
struct Header {
    /// It was closed in order.
    closed: bool,
    /// The newest commit that counts.
    transaction: u64,
}

const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
const HEADER_BYTES: usize = 320;

impl Header {
    fn read(file: &Overlay) -> Result<Self, DiskError> {
        let mut bytes = [0; HEADER_BYTES];
        match file.len() {
            Ok(0) => return Err(DiskError::Damaged("it is empty (0 bytes)".into())),
            Ok(len) if len < HEADER_BYTES as u64 => {
                return Err(DiskError::Damaged(format!("it is cut off after {len} bytes")));
            }
            _ => file.read(0, &mut bytes).map_err(redb::Error::Io)?,
        }
        if !bytes.starts_with(MAGIC) {
            return Err(DiskError::Damaged("it does not start as a data file does".into()));
        }
        let flags = bytes[MAGIC.len()];
        let transaction = |slot: usize| {
            let at = 64 + 128 * slot + 104;
            bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        Ok(Self { closed: flags & 2 == 0, transaction: transaction(usize::from(flags & 1)) })
    }
}

fn write<'a>(
    database: &Database,
    events: impl Iterator<Item = &'a Event>,
    relaxed: bool,
) -> Result<(), DiskError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(if relaxed { Durability::None } else { Durability::Immediate })?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut counters = transaction.open_table(COUNTERS)?;
        let mut revision = 0;
        for event in events {
            let key = format!("{}/{}", event.key.resource, event.key.path);
            if event.happened == Happened::Deleted {
                objects.remove(key.as_str())?;
            } else {
                objects.insert(key.as_str(), event.object.as_ref())?;
            }
            revision = event.revision;
        }
        counters.insert("revision", revision)?;
    }
    transaction.commit()?;
    Ok(())
}

thread_local! {
    /// This thread is inside the library, whose panics are told as errors.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs what calls the library; its panic is an error, and nothing is printed.
pub(super) fn caught<T>(call: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !INSIDE.get() {
                print(panic);
            }
        }));
    });
    INSIDE.set(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    INSIDE.set(false);
    result.unwrap_or_else(|_| Err(DiskError::Damaged("its pages contradict each other".into())))
}

/// `group/plural/namespace/name` → (`group/plural`, `namespace/name`).
pub(super) fn split(key: &str) -> Option<(&str, &str)> {
    let second = key.match_indices('/').nth(1)?.0;
    Some((&key[..second], &key[second + 1..]))
}

#[derive(serde::Deserialize)]
struct OnlyMetadata {
    metadata: OnlyRevision,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct OnlyRevision {
    resource_version: String,
}

pub(super) fn revision_of(bytes: &[u8]) -> Option<u64> {
    serde_json::from_slice::<OnlyMetadata>(bytes).ok()?.metadata.resource_version.parse().ok()
}
