//! The store's file: one redb database, `objects.redb`, in the state directory.
//!
//! It has two tables: objects' bytes by `resource/namespace/name`, and the revision counter. redb locks the open
//! file, so two servers can't share a state directory. All objects are in memory anyway, so redb's cache is small.
//!
//! A file is created under a temporary name and renamed when complete, so an empty or truncated file is damaged.
//! Before use, every page is verified against its checksum through an [`Overlay`], so that checking changes
//! nothing. redb may panic on damaged pages; this module, the only caller of redb, catches panics and returns them
//! as errors.

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

use super::change::{Event, EventType, Stored};
use super::overlay::Overlay;

/// Longest time until relaxed changes are durable.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_secs(2);
/// Maximum number of relaxed commits in a row; together they use fewer revisions than a start skips.
const RELAXED_MAX: u32 = 200;
/// Revisions skipped at every start: more than `RELAXED_MAX` × the batch size, so that none is used twice.
const REVISION_SKIP: u64 = 100_000;
/// Size of redb's page cache. All reads happen at start, so it only holds pages being written.
const CACHE_BYTES: usize = 1 << 20;

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// Why the file cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("it is in use by another process")]
    InUse,
    /// The content is damaged, in the way described.
    #[error("{0}")]
    Damaged(String),
    /// There is no space for a write.
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

/// Returns whether a write failed for lack of space: on the disk, in the user's quota, or by the file size limit.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The database. redb refuses all calls after an I/O error, so it is closed after a failure and reopened by the
/// next write: after a disk has been full, no restart is needed.
pub(crate) struct Disk {
    file: PathBuf,
    database: Option<Database>,
    relaxed: u32,
    /// Whether the last commit was incomplete, as after a power failure, and was rolled back.
    pub(crate) rolled_back: bool,
}

impl Disk {
    /// Opens the file, or creates it. A file with a page that fails its checksum is refused.
    pub(crate) fn open(file: &Path) -> Result<Self, DiskError> {
        if !file.exists() {
            catch_panics(|| create(file, |_| Ok(())))?;
        }
        Self::open_existing(file)
    }

    /// Opens an existing file.
    pub(super) fn open_existing(file: &Path) -> Result<Self, DiskError> {
        let (database, rolled_back) = catch_panics(|| {
            let rolled_back = examine(file)?;
            Ok((open(file)?, rolled_back))
        })?;
        Ok(Self { file: file.to_owned(), database: Some(database), relaxed: 0, rolled_back })
    }

    fn ensure_open(&mut self) -> Result<&Database, DiskError> {
        let open = match self.database.take() {
            Some(open) => open,
            None => open(&self.file)?,
        };
        Ok(self.database.insert(open))
    }

    /// Passes every object to `each` and returns the revision to continue from.
    pub(crate) fn load(&mut self, mut each: impl FnMut(&str, &str, Stored)) -> Result<u64, DiskError> {
        catch_panics(|| {
            let transaction = self.ensure_open()?.begin_read()?;
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
            // The initial namespaces are written first and are never deleted.
            if count == 0 && counted > 0 {
                return Err(DiskError::Damaged(format!("it holds no objects after {counted} changes")));
            }
            Ok(if newest == 0 { 0 } else { newest + REVISION_SKIP })
        })
    }

    /// Writes the events in one transaction; with `relaxed`, they may become durable later.
    pub(super) fn commit<'a>(
        &mut self,
        events: impl Iterator<Item = &'a Event>,
        relaxed: bool,
    ) -> Result<(), DiskError> {
        let relaxed = relaxed && self.relaxed < RELAXED_MAX;
        let written = catch_panics(|| write(self.ensure_open()?, events, relaxed));
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
        let flushed = catch_panics(|| Ok(self.ensure_open()?.begin_write()?.commit()?));
        match flushed {
            Ok(()) => self.relaxed = 0,
            Err(_) => self.close(),
        }
        flushed
    }

    /// Closes the database, which may write to the file once more.
    fn close(&mut self) {
        let database = self.database.take();
        // Best effort: a failure here cannot be handled.
        let _ = catch_panics(|| {
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

/// Creates the file with its content under a temporary name, then renames it.
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

/// Syncs the file's directory, so that its name is durable.
fn sync_directory(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

/// Writes the content of a new file: objects by key, and the revision.
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

/// Verifies every page of the file without changing it. Returns true when the last commit is incomplete. After a
/// power failure that is fine, because it was never acknowledged; after a clean shutdown it is damage.
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

/// The fields of a file header that matter here (`docs/design.md` of redb).
struct Header {
    /// Whether the file was closed cleanly.
    closed: bool,
    /// Number of the newest valid commit.
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
                return Err(DiskError::Damaged(format!("it is truncated to {len} bytes")));
            }
            _ => file.read(0, &mut bytes).map_err(redb::Error::Io)?,
        }
        if !bytes.starts_with(MAGIC) {
            return Err(DiskError::Damaged("it does not start with a data file header".into()));
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
            if event.event_type == EventType::Deleted {
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
    /// Whether this thread is in a call of redb, whose panics become errors.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call of redb; returns a panic as an error and prints nothing.
pub(super) fn catch_panics<T>(call: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
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

/// Splits `group/plural/namespace/name` into `group/plural` and `namespace/name`.
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
