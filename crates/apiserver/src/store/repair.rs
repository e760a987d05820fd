//! `flyball up --repair`: rebuilds a damaged data file from everything still readable, and keeps the damaged file.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{self, DiskError};
use super::pages::{self, Salvage};

/// Maximum number of names or ranges listed per category; the damaged file has the rest.
const LISTED_MAX: usize = 20;

/// The outcome of a repair.
#[derive(Debug)]
pub struct Repaired {
    /// Where the damaged file was kept, unchanged; `None` when there was nothing to repair.
    pub kept: Option<PathBuf>,
    /// Number of objects in the new file.
    pub saved: usize,
    /// Number of objects before the damage, if readable.
    pub expected: Option<u64>,
    /// Objects from a damaged page: readable, but possibly altered.
    pub doubtful: Vec<String>,
    /// Objects of which only an older state remained; some may have been deleted since.
    pub older: Vec<String>,
    /// Descriptions of what is missing.
    pub lost: Vec<String>,
}

impl fmt::Display for Repaired {
    /// Formats one fact per line, for users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(kept) = &self.kept else { return f.write_str("the data file is intact: nothing to repair") };
        match self.expected {
            Some(expected) => write!(f, "{} of {expected} objects were saved", self.saved)?,
            None => write!(f, "{} objects were saved; the original number is unreadable", self.saved)?,
        }
        for (what, names) in [
            ("lost", &self.lost),
            ("saved from a damaged page, check it", &self.doubtful),
            ("saved in an older state, may have been deleted since", &self.older),
        ] {
            for name in names.iter().take(LISTED_MAX) {
                write!(f, "\n  {what}: {name}")?;
            }
            if names.len() > LISTED_MAX {
                write!(f, "\n  … and {} more", names.len() - LISTED_MAX)?;
            }
        }
        write!(f, "\nthe damaged file is kept as {}", kept.display())
    }
}

/// Repairs `file`; does nothing if it is intact or missing.
pub(crate) fn repair(file: &Path, now: jiff::Timestamp) -> Result<Repaired, DiskError> {
    let intact = Repaired {
        kept: None,
        saved: 0,
        expected: None,
        doubtful: Vec::new(),
        older: Vec::new(),
        lost: Vec::new(),
    };
    if !file.exists() {
        return Ok(intact);
    }
    // This reads every object, closes the file at once, and changes nothing.
    match disk::Disk::open_existing(file).and_then(|mut disk| disk.load(|_, _, _| {})) {
        Ok(_) => return Ok(intact),
        Err(DiskError::Damaged(_)) => {}
        Err(other) => return Err(other),
    }
    let io = |error: io::Error| DiskError::from(redb::Error::Io(error));
    let salvage = pages::salvage(&fs::read(file).map_err(io)?);
    let kept = copy_aside(file, now).map_err(io)?;
    let objects = salvage.objects.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice()));
    disk::catch_panics(|| {
        disk::create(file, |transaction| disk::fill(transaction, objects, salvage.revision))
    })?;
    Ok(Repaired { kept: Some(kept), ..report(salvage) })
}

/// Copies the file to an unused name beside it.
fn copy_aside(file: &Path, now: jiff::Timestamp) -> io::Result<PathBuf> {
    let name = format!("redb.damaged-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let copy = (0..)
        .map(|count| file.with_extension(if count == 0 { name.clone() } else { format!("{name}-{count}") }))
        .find(|copy| !copy.exists())
        .unwrap_or_else(|| file.with_extension(&name));
    fs::copy(file, &copy)?;
    crate::socket::make_private(&copy)?;
    Ok(copy)
}

fn report(salvage: Salvage) -> Repaired {
    let lost = salvage.lost.iter().map(|between| match between {
        (None, None) => "any object: the index is damaged".to_owned(),
        (Some(low), None) => format!("objects after {low}"),
        (None, Some(high)) => format!("objects up to {high}"),
        (Some(low), Some(high)) => format!("objects after {low}, up to {high}"),
    });
    let before = salvage
        .rolled_back
        .then(|| "the last changes: the data is as it was before them".to_owned())
        .into_iter();
    let complete = salvage.expected.is_some_and(|expected| {
        salvage.older.is_empty() && usize::try_from(expected) == Ok(salvage.objects.len())
    });
    Repaired {
        kept: None,
        saved: salvage.objects.len(),
        expected: salvage.expected,
        lost: before.chain(lost.filter(|_| !complete)).collect(),
        doubtful: salvage.doubtful.into_iter().collect(),
        older: salvage.older.into_iter().collect(),
    }
}
