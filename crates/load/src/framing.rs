//! Parses the framing of an HTTP/1.1 response: where the head ends, how long the body is, and whether the connection may
//! serve the next request (RFC 9112, sections 6 and 9). No I/O.

use std::mem::MaybeUninit;

/// Most headers of a response; a common limit of HTTP clients.
const MAX_ANSWER_HEADERS: usize = 100;
/// Longest chunk-size or trailer line; a longer one is not chunked encoding.
const MAX_CHUNK_LINE_BYTES: usize = 4 << 10;

/// The parsed head of a response.
#[derive(Debug, PartialEq)]
pub(crate) struct Head {
    /// Size of the head in bytes, including its empty line.
    pub(crate) bytes: usize,
    pub(crate) status: u16,
    pub(crate) body: Body,
    /// Whether the server keeps the connection open after this response.
    pub(crate) keep_alive: bool,
    /// The Location of a redirect.
    pub(crate) location: Option<Vec<u8>>,
}

/// The rest of a body.
#[derive(Debug, PartialEq)]
pub(crate) enum Body {
    /// A known number of bytes.
    Length(u64),
    /// Chunked encoding.
    Chunked(Chunk),
    /// Everything until the server closes.
    UntilClose,
}

/// The position in a chunked body.
#[derive(Debug, PartialEq)]
pub(crate) enum Chunk {
    Size,
    Data(u64),
    /// The line break after a chunk's data.
    DataEnd,
    Trailer,
    Done,
}

/// Parses the head at the start of `bytes`; `None` if it is incomplete. `bodiless`: the response to a HEAD request.
pub(crate) fn parse_head(bytes: &[u8], bodiless: bool) -> Result<Option<Head>, String> {
    let mut space = [const { MaybeUninit::uninit() }; MAX_ANSWER_HEADERS];
    let mut answer = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut answer, bytes, &mut space)
        .map_err(|e| format!("not an HTTP/1.1 response: {e}"))?;
    let (httparse::Status::Complete(length), Some(code)) = (status, answer.code) else { return Ok(None) };
    let mut framing = Framing { keep_alive: answer.version == Some(1), ..Framing::default() };
    let redirect = matches!(code, 301 | 302 | 303 | 307 | 308);
    let mut location = None;
    for header in answer.headers.iter() {
        framing.note(header)?;
        if redirect && header.name.eq_ignore_ascii_case("location") {
            location = Some(header.value.to_vec());
        }
    }
    let body =
        if bodiless || matches!(code, 100..200 | 204 | 304) { Body::Length(0) } else { framing.body()? };
    let keep_alive = framing.keep_alive && body != Body::UntilClose && code != 101;
    Ok(Some(Head { bytes: length, status: code, body, keep_alive, location }))
}

/// The headers' statements about the body and the connection.
#[derive(Default)]
struct Framing {
    keep_alive: bool,
    length: Option<u64>,
    encoded: bool,
    chunked: bool,
}

impl Framing {
    fn note(&mut self, header: &httparse::Header<'_>) -> Result<(), String> {
        // Compare lengths first: they rule out most headers.
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => self.note_length(header.value)?,
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                self.encoded = true;
                self.chunked =
                    tokens(header.value).last().is_some_and(|t| t.eq_ignore_ascii_case(b"chunked"));
            }
            10 if header.name.eq_ignore_ascii_case("connection") => {
                for token in tokens(header.value) {
                    if token.eq_ignore_ascii_case(b"close") {
                        self.keep_alive = false;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = true;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn note_length(&mut self, value: &[u8]) -> Result<(), String> {
        for token in tokens(value) {
            let digits = token.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(token).ok().filter(|_| digits).and_then(|t| t.parse().ok());
            let length = length.ok_or("Content-Length is not a number")?;
            if self.length.is_some_and(|before| before != length) {
                return Err("two different Content-Length headers".into());
            }
            self.length = Some(length);
        }
        Ok(())
    }

    fn body(&self) -> Result<Body, String> {
        match (self.encoded, self.chunked, self.length) {
            (true, _, Some(_)) => Err("both Transfer-Encoding and Content-Length".into()),
            (true, true, None) => Ok(Body::Chunked(Chunk::Size)),
            (true, false, None) => Ok(Body::UntilClose),
            (false, _, Some(length)) => Ok(Body::Length(length)),
            (false, _, None) => Ok(Body::UntilClose),
        }
    }
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

/// The bytes that [`Body::skip`] consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Skipped {
    /// Bytes consumed; the rest must be passed again, with those that follow.
    pub(crate) used: usize,
    /// Bytes of content among them.
    pub(crate) content: u64,
}

impl Body {
    /// Returns whether the body is complete.
    pub(crate) fn done(&self) -> bool {
        matches!(self, Body::Length(0) | Body::Chunked(Chunk::Done))
    }

    /// Skips as much of the body as `bytes` holds.
    pub(crate) fn skip(&mut self, bytes: &[u8]) -> Result<Skipped, String> {
        match self {
            Body::Length(left) => {
                let content = (*left).min(bytes.len() as u64);
                *left -= content;
                Ok(Skipped { used: content as usize, content })
            }
            Body::UntilClose => Ok(Skipped { used: bytes.len(), content: bytes.len() as u64 }),
            Body::Chunked(chunk) => chunk.skip(bytes),
        }
    }
}

impl Chunk {
    fn skip(&mut self, bytes: &[u8]) -> Result<Skipped, String> {
        let mut skipped = Skipped::default();
        while *self != Chunk::Done {
            let rest = &bytes[skipped.used..];
            let Some((used, next)) = self.step(rest)? else {
                if rest.len() > MAX_CHUNK_LINE_BYTES {
                    return Err(format!("a line of a chunk is longer than {MAX_CHUNK_LINE_BYTES} bytes"));
                }
                break;
            };
            if matches!(self, Chunk::Data(_)) {
                skipped.content += used as u64;
            }
            skipped.used += used;
            *self = next;
        }
        Ok(skipped)
    }

    /// Returns the size of the next piece and the position after it; `None` if the piece is incomplete.
    fn step(&self, rest: &[u8]) -> Result<Option<(usize, Chunk)>, String> {
        Ok(match *self {
            Chunk::Size => match httparse::parse_chunk_size(rest) {
                Ok(httparse::Status::Complete((used, 0))) => Some((used, Chunk::Trailer)),
                Ok(httparse::Status::Complete((used, size))) => Some((used, Chunk::Data(size))),
                Ok(httparse::Status::Partial) => None,
                Err(_) => return Err("a chunk's size is not a number".into()),
            },
            Chunk::Data(_) if rest.is_empty() => None,
            Chunk::Data(left) => match left.min(rest.len() as u64) {
                all if all == left => Some((all as usize, Chunk::DataEnd)),
                part => Some((part as usize, Chunk::Data(left - part))),
            },
            Chunk::DataEnd if rest.starts_with(b"\r\n") => Some((2, Chunk::Size)),
            Chunk::DataEnd if rest.len() < 2 => None,
            Chunk::DataEnd => return Err("a chunk is longer than its size".into()),
            Chunk::Trailer => rest.iter().position(|b| *b == b'\n').map(|end| match &rest[..end] {
                b"" | b"\r" => (end + 1, Chunk::Done),
                _ => (end + 1, Chunk::Trailer),
            }),
            Chunk::Done => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of `step`, as a connection would; returns status, content bytes and bytes left over.
    fn read(bytes: &[u8], step: usize) -> Result<(u16, u64, usize), String> {
        let (mut shown, mut start, mut content) = (0, 0, 0);
        let mut head: Option<Head> = None;
        loop {
            shown = (shown + step).min(bytes.len());
            if head.is_none() {
                head = parse_head(&bytes[..shown], false)?;
                start = head.as_ref().map_or(0, |head| head.bytes);
            }
            if let Some(head) = &mut head {
                let skipped = head.body.skip(&bytes[start..shown])?;
                start += skipped.used;
                content += skipped.content;
                if head.body.done() || shown == bytes.len() && head.body == Body::UntilClose {
                    return Ok((head.status, content, bytes.len() - start));
                }
            }
            if shown == bytes.len() {
                return Err("cut short".into());
            }
        }
    }

    #[test]
    fn answers() {
        for (answer, wanted) in [
            ("200 OK\r\nContent-Length: 2\r\n\r\nhi", Ok((200, 2, 0))),
            ("200 OK\r\ncontent-length: 2, 2\r\n\r\nhi+", Ok((200, 2, 1))),
            ("204 No Content\r\n\r\n", Ok((204, 0, 0))),
            ("304 Not Modified\r\nContent-Length: 9\r\n\r\n", Ok((304, 0, 0))),
            ("200 OK\r\n\r\nall of it", Ok((200, 9, 0))),
            (
                "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
                Ok((200, 12, 0)),
            ),
            ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\nHTTP", Ok((200, 0, 4))),
            ("200 OK\r\nTransfer-Encoding: gzip\r\n\r\nzz", Ok((200, 2, 0))),
            ("200 OK\r\nContent-Length: 2\r\n\r\nh", Err("cut short")),
            (
                "200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
                Err("two different Content-Length headers"),
            ),
            ("200 OK\r\nContent-Length: +2\r\n\r\nhi", Err("Content-Length is not a number")),
            (
                "200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi",
                Err("both Transfer-Encoding"),
            ),
            ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Err("a chunk's size is not a number")),
            (
                "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n",
                Err("a chunk is longer than its size"),
            ),
            ("two hundred\r\n\r\n", Err("not an HTTP/1.1 response")),
        ] {
            let answer = format!("HTTP/1.1 {answer}");
            for step in [1, 2, 7, answer.len()] {
                match (read(answer.as_bytes(), step), &wanted) {
                    (Ok(got), Ok(wanted)) => {
                        assert_eq!((got.0, got.1), (wanted.0, wanted.1), "{answer:?} by {step}")
                    }
                    (Err(got), Err(wanted)) => {
                        assert!(got.contains(wanted), "{got} for {answer:?} by {step}")
                    }
                    (got, wanted) => panic!("{got:?}, not {wanted:?} for {answer:?} by {step}"),
                }
            }
            if let Ok(wanted) = wanted {
                assert_eq!(read(answer.as_bytes(), answer.len()), Ok(wanted), "{answer:?} at once");
            }
        }
    }

    #[test]
    fn connections_are_kept_by_version_and_header() {
        for (start, kept) in [
            ("HTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.0 200 OK\r\n", false),
            ("HTTP/1.1 200 OK\r\nConnection: Close\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive, x\r\n", true),
            ("HTTP/1.1 101 Switching Protocols\r\n", false),
        ] {
            let head =
                parse_head(format!("{start}Content-Length: 0\r\n\r\n").as_bytes(), false).unwrap().unwrap();
            assert_eq!(head.keep_alive, kept, "{start:?}");
        }
        let head = parse_head(b"HTTP/1.1 200 OK\r\n\r\n", false).unwrap().unwrap();
        assert!(!head.keep_alive, "a body without a length ends the connection");
    }

    #[test]
    fn endless_lines_are_refused() {
        let mut chunk = Chunk::Trailer;
        assert!(chunk.skip(&[b'x'; MAX_CHUNK_LINE_BYTES]).is_ok());
        assert!(chunk.skip(&[b'x'; MAX_CHUNK_LINE_BYTES + 1]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), step in 1usize..9) {
            let _ = read(&bytes, step);
            let _ = read(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &bytes[..]].concat(), step);
        }

        #[test]
        fn chunks_count_by_their_content(sizes in proptest::collection::vec(1usize..50, 0..6), step in 1usize..9) {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for size in &sizes {
                answer.extend(format!("{size:x}\r\n{}\r\n", "\n".repeat(*size)).bytes());
            }
            answer.extend(b"0\r\n\r\n");
            proptest::prop_assert_eq!(read(&answer, step), Ok((200, sizes.iter().sum::<usize>() as u64, 0)));
        }
    }
}
