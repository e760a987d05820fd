//! Which program an `image:` names: a map instead of a registry.
//!
//! An entry without a tag answers to every tag; an entry with one only to that, where no tag means `latest`. The most
//! exact entry wins. `docker.io/` and `library/` in front of a name mean nothing, as everywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a container of an image runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Program and arguments: the image's entry point, which `command:` replaces and `args:` extends.
    pub command: Vec<String>,
    /// A folder that becomes the container's `/`; `None` runs the program on the machine's file system.
    pub root: Option<PathBuf>,
}

/// Images by name.
#[derive(Clone, Debug, Default)]
pub struct ImageMap(BTreeMap<(String, Option<String>), Image>);

/// Why `NAME=COMMAND` was not understood.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ImageError {
    /// No `=`, or nothing on one of its sides.
    #[error("`{0}` is not NAME=COMMAND, for example `shop/model=python3 serve.py --port 8000`")]
    NotAPair(String),
    /// A quote that never ends.
    #[error("`{0}` has a quote that is not closed")]
    OpenQuote(String),
}

impl ImageMap {
    /// Adds an image, or replaces the one of that name.
    pub fn insert(&mut self, name: &str, image: Image) {
        self.0.insert(split(name), image);
    }

    /// Adds `NAME=COMMAND`, as `--image` has it; the command is split like a shell splits words, with quotes.
    ///
    /// # Errors
    /// When it is not a pair or a quote is left open.
    pub fn insert_text(&mut self, text: &str) -> Result<(), ImageError> {
        let (name, command) = text.split_once('=').ok_or_else(|| ImageError::NotAPair(text.to_owned()))?;
        let command = shlex::split(command).ok_or_else(|| ImageError::OpenQuote(text.to_owned()))?;
        if name.trim().is_empty() || command.is_empty() {
            return Err(ImageError::NotAPair(text.to_owned()));
        }
        self.insert(name.trim(), Image { command, root: None });
        Ok(())
    }

    /// The image a container asks for.
    #[must_use]
    pub fn get(&self, image: &str) -> Option<&Image> {
        let (name, tag) = split(image);
        let tag = tag.unwrap_or_else(|| "latest".to_owned());
        self.0.get(&(name.clone(), Some(tag))).or_else(|| self.0.get(&(name, None)))
    }

    /// Why an image is not there, which ones are, and how to add it.
    #[must_use]
    pub fn missing(&self, image: &str) -> String {
        let known: Vec<String> = self.0.keys().map(|(name, tag)| join(name, tag.as_deref())).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!(
            "image \"{image}\" is not known on this machine (known: {known}); name a program for it with --image {}=COMMAND",
            split(image).0
        )
    }
}

/// Name and tag; the digest of `name@sha256:…` counts as a tag.
fn split(image: &str) -> (String, Option<String>) {
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    let image = image.strip_prefix("library/").unwrap_or(image);
    if let Some((name, digest)) = image.split_once('@') {
        return (name.to_owned(), Some(digest.to_owned()));
    }
    match image.rsplit_once(':') {
        // a colon before a slash belongs to the registry's port
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), Some(tag.to_owned())),
        _ => (image.to_owned(), None),
    }
}

fn join(name: &str, tag: Option<&str>) -> String {
    tag.map_or_else(|| name.to_owned(), |tag| format!("{name}:{tag}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[&str]) -> ImageMap {
        let mut map = ImageMap::default();
        for entry in entries {
            map.insert_text(entry).unwrap();
        }
        map
    }

    #[test]
    fn the_most_exact_entry_answers() {
        let map = map(&[
            "webmakaka/house-price-model=any",
            "shop/model:v2=second",
            "shop/model=other",
            "r:5000/x=port",
        ]);
        let check = |image: &str, expected: Option<&str>| {
            assert_eq!(map.get(image).map(|i| i.command[0].as_str()), expected, "{image}");
        };
        check("webmakaka/house-price-model", Some("any"));
        check("webmakaka/house-price-model:latest", Some("any"));
        check("docker.io/webmakaka/house-price-model:v7", Some("any"));
        check("shop/model:v2", Some("second"));
        check("shop/model:v3", Some("other"));
        check("r:5000/x", Some("port"));
        check("r:5000/x:1", Some("port"));
        check("nobody/knows", None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut map = ImageMap::default();
        assert!(matches!(map.insert_text("name"), Err(ImageError::NotAPair(_))));
        assert!(matches!(map.insert_text("name="), Err(ImageError::NotAPair(_))));
        assert!(matches!(map.insert_text("name='x"), Err(ImageError::OpenQuote(_))));
        assert!(map.missing("a/b:1").contains("--image a/b=COMMAND"));
    }
}
