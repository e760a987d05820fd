//! The files of a volume that shows objects of the API: written so that a program sees all of them change at once.
//!
//! The layout is the kubelet's (`pkg/volume/util/atomic_writer.go`), which tools that reload their configuration know: the
//! files are in a directory of their own, `..data` is a link to it, and what the program opens are links through `..data`.
//! A change makes a new directory and moves the one link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// What is in a volume, by relative path: content and mode.
pub(super) type Payload = BTreeMap<PathBuf, (Vec<u8>, u32)>;

/// Brings a volume up to date; whether anything changed.
pub(super) fn publish(place: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    let shown = place.join(DATA);
    if shown.exists() && read(&shown, &shown)? == contents(payload) {
        return Ok(false);
    }
    let name = format!("..{}", Timestamp::now().as_nanosecond());
    for (path, (content, mode)) in payload {
        write(&place.join(&name).join(path), content, *mode, group)?;
    }
    fs::create_dir_all(place.join(&name))?;
    let _ = fs::remove_file(place.join(DATA_NEW));
    symlink(&name, place.join(DATA_NEW))?;
    fs::rename(place.join(DATA_NEW), &shown)?;
    let tops: BTreeSet<&Path> = payload.keys().filter_map(|path| path.iter().next()).map(Path::new).collect();
    for top in tops.iter().filter(|top| place.join(top).symlink_metadata().is_err()) {
        symlink(Path::new(DATA).join(top), place.join(top))?;
    }
    for entry in fs::read_dir(place)?.flatten() {
        let found = entry.file_name();
        let is_current = found == DATA || found.to_str() == Some(&name) || tops.contains(Path::new(&found));
        if is_current {
            continue;
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(true)
}

/// With the pod's `fsGroup`, files belong to the group, which may read them.
fn write(path: &Path, content: &[u8], mode: u32, group: Option<u32>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
        fs::set_permissions(parent, Permissions::from_mode(0o755))?;
    }
    fs::write(path, "")?;
    let shared = group.is_some_and(|group| chown(path, None, Some(group)).is_ok());
    let mode = if shared { mode | 0o440 } else { mode };
    fs::set_permissions(path, Permissions::from_mode(mode & 0o777))?;
    fs::write(path, content)
}

fn contents(payload: &Payload) -> BTreeMap<PathBuf, Vec<u8>> {
    payload.iter().map(|(path, (content, _))| (path.clone(), content.clone())).collect()
}

fn read(root: &Path, dir: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(read(root, &path)?);
        } else {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
            found.insert(relative, fs::read(&path)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_change_together_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        let payload = |files: &[(&str, &str)]| -> Payload {
            files.iter().map(|(path, text)| (path.into(), (text.as_bytes().to_vec(), 0o644))).collect()
        };
        let shown = |path: &str| fs::read_to_string(place.join(path)).ok();
        let first = payload(&[("a", "1"), ("gone", "x"), ("sub/b", "2")]);
        assert!(publish(place, &first, None).unwrap());
        assert!(!publish(place, &first, None).unwrap(), "the same again changes nothing");
        assert_eq!(
            (shown("a"), shown("sub/b"), shown("gone")),
            (Some("1".into()), Some("2".into()), Some("x".into()))
        );
        assert_eq!(fs::read_link(place.join("a")).unwrap(), Path::new("..data/a"));
        // as a bind mount of one file (subPath) keeps what it had
        let held = fs::File::open(place.join("a")).unwrap();
        assert!(publish(place, &payload(&[("a", "3"), ("sub/b", "2"), ("c", "4")]), None).unwrap());
        assert_eq!((shown("a"), shown("c"), shown("gone")), (Some("3".into()), Some("4".into()), None));
        assert_eq!(io::read_to_string(held).unwrap(), "1");
        let directories = fs::read_dir(place).unwrap().flatten().filter(|e| e.file_type().unwrap().is_dir());
        assert_eq!(directories.count(), 1, "the old one is removed");
        assert!(publish(place, &payload(&[]), None).unwrap());
        assert_eq!(fs::read_dir(place.join(DATA)).unwrap().count(), 0);
    }
}
