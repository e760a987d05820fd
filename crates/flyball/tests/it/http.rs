//! As much HTTP as a test needs to ask a Service: one request on one connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than any Service holds a request that waits for a pod.
const PATIENCE: Duration = Duration::from_secs(70);

/// The status code and the body of the answer.
pub(crate) fn request(address: &str, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {answer:?}")))
}

/// A house whose price is asked.
pub(crate) const HOUSE: &str =
    r#"{"sqft":4500,"bedrooms":4,"bathrooms":2,"year_built":2014,"condition":"Good","location":"Urban"}"#;
