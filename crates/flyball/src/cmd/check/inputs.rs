//! The inputs of a check: files, folders, standard input, or a target of a running world.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::documents::{self, Document, Malformed};
use crate::cli::Check;

/// The largest file: an object in etcd is at most 1.5 MiB, and a rendered chart has some dozens, mostly small.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The extensions of manifests in a folder, as in kubectl.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// The inputs named on the command line.
pub(crate) enum Inputs {
    /// A workload or an autoscaler in a running world.
    Target { kind: String, name: String },
    /// The contents of files.
    Files { documents: Vec<Document>, malformed: Vec<(String, Malformed)>, unreadable: Vec<anyhow::Error> },
}

impl Inputs {
    /// Reads all inputs. Unreadable ones do not stop the rest from being checked.
    pub(crate) fn of(options: &Check) -> Result<Inputs> {
        if let Some((kind, name)) = options.inputs.iter().find_map(|input| target(input)) {
            if options.inputs.len() > 1 {
                bail!("{kind}/{name} is a running target, which is checked alone: pass it without files");
            }
            return Ok(Inputs::Target { kind: kind.to_owned(), name: name.to_owned() });
        }
        let (mut documents, mut malformed, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for input in &options.inputs {
            let mut files = Vec::new();
            add_files(input, options.recursive, &mut files, &mut unreadable);
            for file in files {
                match text(&file) {
                    Ok(text) => {
                        let name = file.to_string_lossy().into_owned();
                        let (found, wrong) = documents::read(&name, &text);
                        documents.extend(found);
                        malformed.extend(wrong.into_iter().map(|wrong| (name.clone(), wrong)));
                    }
                    Err(error) => unreadable.push(error),
                }
            }
        }
        Ok(Inputs::Files { documents, malformed, unreadable })
    }
}

/// Parses a target such as `deploy/model`, unless a file has that name.
fn target(input: &str) -> Option<(&str, &str)> {
    let (kind, name) = input.split_once('/')?;
    let plain = |text: &str| !text.is_empty() && !text.contains(['/', '.']) && !text.starts_with('-');
    (plain(kind) && !name.is_empty() && !name.contains('/') && !Path::new(input).exists())
        .then_some((kind, name))
}

/// Adds a file, or the manifests in a folder in order of their names. Unreadable folders and Helm charts are reported and
/// skipped.
fn add_files(input: &str, recursive: bool, found: &mut Vec<PathBuf>, unreadable: &mut Vec<anyhow::Error>) {
    let path = PathBuf::from(input);
    if !path.is_dir() || input == "-" {
        return found.push(path);
    }
    if path.join("Chart.yaml").is_file() {
        let help = format!("render it first: helm template {input} | flyball check -");
        return unreadable.push(anyhow!("`{input}` is a Helm chart: {help}"));
    }
    let entries = std::fs::read_dir(&path).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<PathBuf>>>()
    });
    let mut entries = match entries.with_context(|| format!("cannot read `{input}`")) {
        Ok(entries) => entries,
        Err(error) => return unreadable.push(error),
    };
    entries.sort();
    for entry in entries {
        let is_manifest = entry.extension().is_some_and(|end| EXTENSIONS.iter().any(|known| end == *known));
        if entry.is_dir() && recursive && !entry.is_symlink() {
            add_files(&entry.to_string_lossy(), recursive, found, unreadable);
        } else if entry.is_file() && is_manifest {
            found.push(entry);
        }
    }
}

/// Reads a file as text, or standard input for `-`.
pub(crate) fn text(file: &Path) -> Result<String> {
    let shown = || format!("cannot read `{}`", file.display());
    let mut bytes = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes),
        _ => std::fs::File::open(file)
            .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    let length = read.with_context(shown)?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(anyhow!("the file is larger than {} MiB; split it", FILE_BYTES_MAX >> 20))
            .with_context(shown);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        anyhow!("line {line} is not UTF-8; pass a manifest in YAML or JSON")
    });
    text.with_context(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_told_from_a_file() {
        for (input, expected) in [
            ("deploy/model", Some(("deploy", "model"))),
            ("hpa/a.b", Some(("hpa", "a.b"))),
            ("model.yaml", None),
            ("./model", None),
            ("a/b/c", None),
            ("-", None),
            ("/tmp", None),
            ("src/main.rs", None),
        ] {
            assert_eq!(target(input), expected, "{input}");
        }
    }
}
