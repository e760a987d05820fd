//! The path of a value in an object, as error messages show it: `spec.containers[0].image`.
//!
//! A path is a linked list on the stack and is rendered only for a message. Building text at each level would cost
//! depth times size: a key of a megabyte with a hundred thousand fields below it.

use std::fmt::{self, Write};
use std::io;

/// Maximum length of a rendered path in bytes; the rest is cut off.
const SHOWN_MAX: usize = 1024;

/// The path of a value, linked to that of its parent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Path::Field(self, name)
    }

    pub(crate) fn item(&'a self, index: usize) -> Self {
        Path::Item(self, index)
    }
}

impl io::Write for BoundedText {
    /// Never splits a character: serde_json writes whole ones.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        self.write_str(text).map(|()| bytes.len()).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> Self {
        path.to_string()
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = BoundedText::new(SHOWN_MAX);
        // Fails when the buffer is full; the truncated text is what we want.
        let _ = write(self, &mut text);
        f.write_str(&text.finish())
    }
}

fn write(path: &Path<'_>, text: &mut BoundedText) -> fmt::Result {
    match path {
        Path::Root => Ok(()),
        Path::Field(Path::Root, name) => text.write_str(name),
        Path::Field(parent, name) => {
            write(parent, text)?;
            text.write_char('.')?;
            text.write_str(name)
        }
        Path::Item(parent, index) => {
            write(parent, text)?;
            write!(text, "[{index}]")
        }
    }
}

/// Text of bounded length; ends with `…` when truncated.
pub(crate) struct BoundedText {
    text: String,
    limit: usize,
    full: bool,
}

impl BoundedText {
    pub(crate) fn new(limit: usize) -> Self {
        Self { text: String::new(), limit, full: false }
    }

    pub(crate) fn finish(mut self) -> String {
        if self.full {
            self.text.push('…');
        }
        self.text
    }
}

/// Truncates client-supplied text for an error message.
pub(crate) fn shortened(text: &str) -> String {
    let mut limited = BoundedText::new(SHOWN_MAX);
    let _ = limited.write_str(text);
    limited.finish()
}

impl Write for BoundedText {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.limit - self.text.len();
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        let cut = (0..=room).rev().find(|at| more.is_char_boundary(*at)).unwrap_or(0);
        self.text.push_str(&more[..cut]);
        self.full = true;
        // Accept nothing further, not even a shorter piece.
        self.limit = self.text.len();
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_kubernetes_does_and_never_gets_long() {
        let root = Path::Root;
        let (spec, long) = (root.field("spec"), "x".repeat(5000));
        let containers = spec.field("containers");
        assert_eq!(containers.item(3).field("image").to_string(), "spec.containers[3].image");
        assert_eq!(root.to_string(), "");
        let shown = spec.field(&long).to_string();
        assert!(shown.len() <= SHOWN_MAX + '…'.len_utf8() && shown.ends_with('…'), "{}", shown.len());
    }
}
