//! The store's file: one redb database, `objects.redb`, in the state directory.
//!
//! Two tables: every object's bytes under `resource/namespace/name`, and the revision counter. The file is locked
//! by redb while it is open, so two servers can't share a state directory. All objects are in memory anyway;
//! therefore redb's own cache is kept small.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};

use super::{Event, Happened, Stored};

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
    #[error("{0}")]
    Redb(#[from] redb::Error),
    #[error("an object has no readable resourceVersion: {0}")]
    Damaged(String),
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for DiskError {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        }
    )*};
}
from_redb!(
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

/// The database; closed after a failure, because redb refuses everything after an I/O error, and opened again by
/// the next write: a disk that was full for a while needs no restart.
pub(crate) struct Disk {
    file: PathBuf,
    database: Option<Database>,
    relaxed: u32,
}

impl Disk {
    pub(crate) fn open(file: &Path) -> Result<Self, DiskError> {
        Ok(Self { file: file.to_owned(), database: Some(database(file)?), relaxed: 0 })
    }

    fn ready(&mut self) -> Result<&Database, DiskError> {
        let open = match self.database.take() {
            Some(open) => open,
            None => database(&self.file)?,
        };
        Ok(self.database.insert(open))
    }

    /// Hands over every object; the revision to continue from.
    pub(crate) fn load(&mut self, mut each: impl FnMut(&str, &str, Stored)) -> Result<u64, DiskError> {
        let database = self.ready()?;
        let transaction = database.begin_read()?;
        // the first commit makes both tables
        let counters = match transaction.open_table(COUNTERS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(0),
            counters => counters?,
        };
        let mut newest = counters.get("revision")?.map_or(0, |value| value.value());
        for entry in transaction.open_table(OBJECTS)?.iter()? {
            let (key, value) = entry?;
            let bytes = Bytes::copy_from_slice(value.value());
            let revision = revision_of(&bytes).ok_or_else(|| DiskError::Damaged(key.value().to_owned()))?;
            newest = newest.max(revision);
            let (resource, path) =
                split(key.value()).ok_or_else(|| DiskError::Damaged(key.value().to_owned()))?;
            each(resource, path, Stored { revision, bytes });
        }
        Ok(if newest == 0 { 0 } else { newest + REVISION_SKIP })
    }

    /// Writes the events in one transaction; with `relaxed` the disk may have them later.
    pub(super) fn commit<'a>(
        &mut self,
        events: impl Iterator<Item = &'a Event>,
        relaxed: bool,
    ) -> Result<(), DiskError> {
        let relaxed = relaxed && self.relaxed < RELAXED_MAX;
        let written = self.ready().and_then(|database| write(database, events, relaxed));
        if written.is_err() {
            self.database = None;
            return written;
        }
        self.relaxed = if relaxed { self.relaxed + 1 } else { 0 };
        Ok(())
    }

    /// Makes relaxed commits durable.
    pub(super) fn flush(&mut self) -> Result<(), DiskError> {
        if self.relaxed > 0 {
            self.ready()?.begin_write()?.commit()?;
            self.relaxed = 0;
        }
        Ok(())
    }
}

fn database(file: &Path) -> Result<Database, DiskError> {
    Database::builder().set_cache_size(CACHE_BYTES).create(file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => DiskError::InUse,
        other => DiskError::Redb(other.into()),
    })
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
        for event in events {
            let key = format!("{}/{}", event.key.resource, event.key.path);
            if event.happened == Happened::Deleted {
                objects.remove(key.as_str())?;
            } else {
                objects.insert(key.as_str(), event.object.as_ref())?;
            }
            counters.insert("revision", event.revision)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// `group/plural/namespace/name` → (`group/plural`, `namespace/name`).
fn split(key: &str) -> Option<(&str, &str)> {
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

fn revision_of(bytes: &[u8]) -> Option<u64> {
    serde_json::from_slice::<OnlyMetadata>(bytes).ok()?.metadata.resource_version.parse().ok()
}
