//! What containers print: one file a container start, in the CRI format, bounded, and read back for `kubectl logs`.
//!
//! `<log dir>/<namespace>_<pod>_<uid>/<container>/<restart count>.log`, lines `<RFC 3339 time> <stream> F <text>`, as the
//! kubelet has them under `/var/log/pods`. A file that would grow past [`FILE_BYTES_MAX`] is renamed to `….log.1` and begun anew, so a
//! start keeps at most two files; of a container's starts the last two are kept, for `kubectl logs --previous`.

use std::io::{self, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use tokio::fs::{self, File};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, watch};

/// The kubelet's `containerLogMaxSize`.
const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Longer lines are cut into parts (`P`), as containerd does, so that a line without an end needs no endless memory.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Where the logs of one pod are.
pub(crate) fn pod_dir(root: &Path, namespace: &str, pod: &str, uid: &str) -> PathBuf {
    root.join(format!("{namespace}_{pod}_{uid}"))
}

/// The writer of one container start; clones of `changed` wake readers that follow.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Mutex<Option<(File, u64)>>,
    /// Counts writes; closed when both streams have ended.
    changed: watch::Sender<u64>,
}

impl Log {
    /// Opens the log of a start, and removes those of all but the one before.
    pub(crate) async fn open(dir: &Path, restart: i32) -> io::Result<Arc<Self>> {
        fs::create_dir_all(dir).await?;
        if restart > 1 {
            for name in [format!("{}.log", restart - 2), format!("{}.log.1", restart - 2)] {
                let _ = fs::remove_file(dir.join(name)).await;
            }
        }
        let path = dir.join(format!("{restart}.log"));
        let file = File::options().create(true).append(true).open(&path).await?;
        let length = file.metadata().await?.len();
        Ok(Arc::new(Log { path, file: Mutex::new(Some((file, length))), changed: watch::Sender::new(0) }))
    }

    /// A pipe whose other end is copied into the log, line by line, until it closes.
    pub(crate) fn pipe(self: &Arc<Self>, stream: &'static str) -> io::Result<OwnedFd> {
        let (reader, writer) = io::pipe()?;
        let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let log = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(e) = log.copy(reader, stream).await {
                tracing::warn!(path = %log.path.display(), "log lost: {e}");
            }
        });
        Ok(OwnedFd::from(writer))
    }

    async fn copy(&self, reader: pipe::Receiver, stream: &str) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(LINE_BYTES_MAX, reader);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await?;
            if read == 0 {
                return Ok(());
            }
            let complete = line.last() == Some(&b'\n');
            let tag = if complete || read < LINE_BYTES_MAX { "F" } else { "P" };
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            self.append(stream, tag, text).await?;
        }
    }

    /// Appends one line.
    pub(crate) async fn append(&self, stream: &str, tag: &str, text: &[u8]) -> io::Result<()> {
        let mut entry = format!("{:.9} {stream} {tag} ", Timestamp::now()).into_bytes();
        entry.extend_from_slice(text);
        entry.push(b'\n');
        let mut guard = self.file.lock().await;
        let Some((file, length)) = guard.as_mut() else { return Ok(()) };
        if *length + entry.len() as u64 > FILE_BYTES_MAX {
            fs::rename(&self.path, self.path.with_extension("log.1")).await?;
            *file = File::options().create(true).append(true).open(&self.path).await?;
            *length = 0;
        }
        file.write_all(&entry).await?;
        file.flush().await?;
        *length += entry.len() as u64;
        self.changed.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Wakes followers at each write, and ends when the writer is dropped.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// What `kubectl logs` asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogOptions {
    pub(crate) tail_lines: Option<usize>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<usize>,
}

/// The path of a start's log.
pub(crate) fn path(container_dir: &Path, restart: i32) -> PathBuf {
    container_dir.join(format!("{restart}.log"))
}

/// Reads a log from its oldest kept line, and with `changes` follows it to its end.
pub(crate) fn read(
    path: PathBuf,
    options: LogOptions,
    changes: Option<watch::Receiver<u64>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures::stream::try_unfold(Reader::Start { path, options, changes }, Reader::next)
}

enum Reader {
    Start { path: PathBuf, options: LogOptions, changes: Option<watch::Receiver<u64>> },
    Following(Box<Follow>),
    End,
}

struct Follow {
    path: PathBuf,
    options: LogOptions,
    left: usize,
    file: BufReader<File>,
    partial: Vec<u8>,
    changes: watch::Receiver<u64>,
}

impl Reader {
    async fn next(self) -> io::Result<Option<(Bytes, Self)>> {
        match self {
            Reader::Start { path, options, changes } => Self::begin(path, options, changes).await,
            Reader::Following(follow) => follow.next().await,
            Reader::End => Ok(None),
        }
    }

    async fn begin(
        path: PathBuf,
        options: LogOptions,
        changes: Option<watch::Receiver<u64>>,
    ) -> io::Result<Option<(Bytes, Self)>> {
        let mut text = fs::read(path.with_extension("log.1")).await.unwrap_or_default();
        let mut file = BufReader::new(File::open(&path).await?);
        let end = file.read_to_end(&mut text).await? as u64;
        let limit = options.limit_bytes.unwrap_or(usize::MAX);
        let mut chunk = render(&text, &options);
        chunk.truncate(limit);
        let left = limit - chunk.len();
        let next = match changes {
            Some(changes) if left > 0 => {
                file.seek(SeekFrom::Start(end)).await?;
                Reader::Following(Box::new(Follow {
                    path,
                    options,
                    left,
                    file,
                    partial: Vec::new(),
                    changes,
                }))
            }
            _ => Reader::End,
        };
        Ok(Some((Bytes::from(chunk), next)))
    }
}

impl Follow {
    async fn next(mut self: Box<Self>) -> io::Result<Option<(Bytes, Reader)>> {
        loop {
            let ended = self.changes.has_changed().is_err();
            self.changes.mark_unchanged();
            let mut chunk = self.rest().await?;
            if chunk.is_empty() {
                self.reopen_if_rotated().await?;
                chunk = self.rest().await?;
            }
            if !chunk.is_empty() {
                chunk.truncate(self.left);
                self.left -= chunk.len();
                let next = if self.left == 0 { Reader::End } else { Reader::Following(self) };
                return Ok(Some((Bytes::from(chunk), next)));
            }
            if ended {
                return Ok(None);
            }
            let _ = self.changes.changed().await;
        }
    }

    async fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.file.read_to_end(&mut self.partial).await?;
        let complete = self.partial.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.partial.drain(..complete).collect();
        Ok(render(&lines, &LogOptions { tail_lines: None, ..self.options.clone() }))
    }

    async fn reopen_if_rotated(&mut self) -> io::Result<()> {
        let here = self.file.stream_position().await?;
        if fs::metadata(&self.path).await?.len() < here {
            self.file = BufReader::new(File::open(&self.path).await?);
        }
        Ok(())
    }
}

/// Turns stored lines into what the user sees.
fn render(stored: &[u8], options: &LogOptions) -> Vec<u8> {
    let lines = stored.split(|b| *b == b'\n').filter_map(|line| parse(line));
    let wanted: Vec<_> = lines.filter(|(time, _, _)| since(time, options.since)).collect();
    let first = options.tail_lines.map_or(0, |n| wanted.len().saturating_sub(n));
    let mut out = Vec::new();
    for (time, complete, text) in &wanted[first..] {
        if options.timestamps {
            out.extend_from_slice(time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(text);
        if *complete {
            out.push(b'\n');
        }
    }
    out
}

fn since(time: &str, since: Option<Timestamp>) -> bool {
    since.is_none_or(|since| time.parse::<Timestamp>().is_ok_and(|t| t >= since))
}

/// A stored line as its time, whether it was complete, and its text.
fn parse(line: &[u8]) -> Option<(&str, bool, &[u8])> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let _stream = parts.next()?;
    let tag = parts.next()?;
    Some((time, tag == b"F", parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    async fn all(path: PathBuf, options: LogOptions, changes: Option<watch::Receiver<u64>>) -> String {
        let chunks: Vec<Bytes> = read(path, options, changes).try_collect().await.unwrap();
        String::from_utf8(chunks.concat()).unwrap()
    }

    #[tokio::test]
    async fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), 0).await.unwrap();
        for line in ["one", "two two", "", "four"] {
            log.append("stdout", "F", line.as_bytes()).await.unwrap();
        }
        let path = path(dir.path(), 0);
        let tail = |n| LogOptions { tail_lines: Some(n), ..LogOptions::default() };
        assert_eq!(all(path.clone(), LogOptions::default(), None).await, "one\ntwo two\n\nfour\n");
        assert_eq!(all(path.clone(), tail(2), None).await, "\nfour\n");
        assert_eq!(all(path.clone(), tail(0), None).await, "");
        let limited = LogOptions { limit_bytes: Some(5), ..LogOptions::default() };
        assert_eq!(all(path.clone(), limited, None).await, "one\nt");
        let stamped = all(path.clone(), LogOptions { timestamps: true, ..tail(1) }, None).await;
        assert!(stamped.ends_with("Z four\n") && stamped.starts_with("20"), "{stamped}");
        let future = LogOptions { since: Some(Timestamp::MAX), ..LogOptions::default() };
        assert_eq!(all(path, future, None).await, "");
    }

    #[tokio::test]
    async fn following_ends_with_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), 0).await.unwrap();
        log.append("stdout", "F", b"before").await.unwrap();
        let reader = tokio::spawn(all(path(dir.path(), 0), LogOptions::default(), Some(log.changes())));
        log.append("stderr", "F", b"after").await.unwrap();
        drop(log);
        assert_eq!(reader.await.unwrap(), "before\nafter\n");
    }

    #[tokio::test]
    async fn a_log_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), 0).await.unwrap();
        let line = vec![b'x'; LINE_BYTES_MAX];
        for _ in 0..(3 * FILE_BYTES_MAX as usize / LINE_BYTES_MAX) {
            log.append("stdout", "P", &line).await.unwrap();
        }
        let mut total = 0;
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            total += entry.unwrap().metadata().unwrap().len();
        }
        assert!((FILE_BYTES_MAX..=2 * FILE_BYTES_MAX).contains(&total), "{total}");
    }
}
