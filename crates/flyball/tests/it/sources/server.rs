//! A server that plays every broken one: each path has answers of its own, one until all break and one after it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

/// What the built-in store has for whoever asks it by mistake: a tenth of a replica's load.
const BAIT: &str = "queue 1\n";
/// A connection is not kept longer, whatever the client does.
const HOLD: Duration = Duration::from_secs(30);

/// How an answer is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Send {
    #[default]
    Whole,
    Bare,
    Cut,
    Chunked,
    Open,
    Silent,
    Stuck,
    Reset,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: String,
    pub(super) send: Send,
}

/// The answer until all break, and the one after it.
pub(super) type Answers = (Answer, Answer);

pub(super) struct Server {
    pub(super) port: u16,
    /// A port where nobody listens.
    pub(super) closed_port: u16,
    broken: Arc<AtomicBool>,
}

impl Server {
    /// Serves `rows` under `/r0`, `/r1` and so on, and the bait.
    pub(super) fn start(rows: Vec<Answers>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
        let closed_port = closed.local_addr().expect("it is bound").port();
        let broken = Arc::new(AtomicBool::new(false));
        let (rows, is_broken) = (Arc::new(rows), Arc::clone(&broken));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (rows, is_broken) = (Arc::clone(&rows), Arc::clone(&is_broken));
                std::thread::spawn(move || serve(stream, &rows, &is_broken));
            }
        });
        Server { port, closed_port, broken }
    }

    pub(super) fn break_all(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}

/// Answers one request. A client that goes away is no failure.
fn serve(mut stream: TcpStream, rows: &[Answers], is_broken: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(HOLD));
    let Some(path) = read_path(&stream) else { return };
    let first = path.split(['/', '?']).nth(1).unwrap_or_default();
    let row = first.strip_prefix('r').and_then(|number| number.parse::<usize>().ok());
    let bait = Answer {
        status: 200,
        content_type: "text/plain; version=0.0.4".to_owned(),
        body: BAIT.to_owned(),
        send: Send::Whole,
    };
    let answer = match row.and_then(|row| rows.get(row)) {
        Some((_, after)) if is_broken.load(Ordering::Relaxed) => after,
        Some((before, _)) => before,
        None => &bait,
    };
    let _ = send(&mut stream, answer);
}

fn read_path(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    while !lines.next()?.ok()?.is_empty() {}
    Some(first.split_whitespace().nth(1)?.to_owned())
}

fn send(stream: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let body =
        answer.body.replace("NOW", &now.to_string()).replace("OLD", &now.saturating_sub(600).to_string());
    let head = format!(
        "HTTP/1.1 {} X\r\nContent-Type: {}\r\nConnection: close\r\n",
        answer.status, answer.content_type
    );
    let length = body.len();
    let chunk = format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n");
    match answer.send {
        Send::Whole if answer.status == 204 => write!(stream, "{head}\r\n"),
        Send::Whole => write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}"),
        Send::Bare => write!(stream, "{head}\r\n{body}"),
        Send::Cut => write!(stream, "{head}Content-Length: {length}\r\n\r\n{}", &body[..length / 2]),
        Send::Chunked => write!(stream, "{chunk}0\r\n\r\n"),
        Send::Open => write!(stream, "{chunk}"),
        Send::Reset => Ok(()),
        Send::Silent => wait(stream),
        Send::Stuck => {
            write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", length + 100)?;
            wait(stream)
        }
    }
}

/// Until the client goes away.
fn wait(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.flush()?;
    stream.read(&mut [0; 1]).map(|_| ())
}
