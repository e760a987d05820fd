//! The parameters of a request: from its URL, and from its form.

use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, header};
use flyball_metrics::response::ErrorKind;
use flyball_metrics::{Matcher, promql};
use jiff::Timestamp;

use crate::tell::serve::prometheus::Refused;
use crate::tell::serve::questions::QUESTION_TIMEOUT_MAX;

/// Names and values in the order they were given; a name may repeat (`match[]`).
pub(super) struct Parameters {
    pairs: Vec<(String, String)>,
    /// When the request began to arrive.
    pub(super) begun: Instant,
    /// Whether this one query sees since when samples count, if the request says so.
    pub(super) use_start_timestamps: Option<bool>,
}

/// Turns `use-start-timestamps` on or off for one query (Prometheus 3.16).
const USE_START_TIMESTAMPS: &str = "x-prometheus-use-start-timestamps";

/// A truth as Go's `ParseBool` reads it.
fn truth(value: Option<&HeaderValue>) -> Option<bool> {
    match value?.as_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Parameters, Refused> {
        let begun = Instant::now();
        let use_start_timestamps = truth(request.headers().get(USE_START_TIMESTAMPS));
        let in_url = decode(request.uri().query().unwrap_or_default());
        let mut pairs = Vec::new();
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if content_type.is_some_and(|text| text.starts_with("application/x-www-form-urlencoded")) {
            let body = tokio::time::timeout(QUESTION_TIMEOUT_MAX, Bytes::from_request(request, state)).await;
            let body = body.map_err(|_| Refused {
                kind: ErrorKind::Timeout,
                message: "query timed out while its request was read".to_owned(),
            })?;
            let body = body.map_err(|error| Refused::bad_data(error.to_string()))?;
            pairs.extend(decode(&String::from_utf8_lossy(&body)));
        }
        // Of a name that stands in both, the form's comes first, as in Go.
        pairs.extend(in_url);
        Ok(Parameters { pairs, begun, use_start_timestamps })
    }
}

impl Parameters {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that must be there and mean something.
    pub(super) fn required<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, Refused> {
        parse(self.get(name).unwrap_or_default()).map_err(|error| invalid(name, &error))
    }

    /// A parameter that may be missing or empty.
    pub(super) fn optional<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Refused> {
        let given = self.get(name).filter(|text| !text.is_empty());
        given.map(parse).transpose().map_err(|error| invalid(name, &error))
    }

    /// A time, or now.
    pub(super) fn time_ms(&self, name: &str) -> Result<i64, Refused> {
        let given = self.optional(name, flyball_metrics::parse_time_ms)?;
        Ok(given.unwrap_or_else(|| Timestamp::now().as_millisecond()))
    }

    /// The most results that are wanted; 0 and nothing are all.
    pub(super) fn limit(&self) -> Result<usize, Refused> {
        let limit = self.optional("limit", |text| match text.parse::<i64>() {
            Ok(limit) => usize::try_from(limit).map_err(|_| "limit must be non-negative".to_owned()),
            Err(_) => Err(format!("{text:?} is not a number")),
        })?;
        Ok(limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX))
    }

    /// The most results of an endpoint for which 0 is none, and nothing or a negative number are all.
    pub(super) fn count(&self, name: &str) -> Result<usize, Refused> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(usize::MAX) };
        let count = text.parse::<i64>().map_err(|_| Refused::bad_data(format!("{name} must be a number")))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The selectors of `match[]`.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, Refused> {
        promql::parse_metric_selectors(self.all("match[]")).map_err(|error| invalid("match[]", &error))
    }
}

pub(super) fn invalid(name: &str, error: &dyn std::fmt::Display) -> Refused {
    Refused::bad_data(format!("invalid parameter \"{name}\": {error}"))
}

/// Splits `a=1&b=2`, and undoes the escapes.
fn decode(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (unescape(name), unescape(value))).collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn forms_are_decoded() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let expected: Vec<(String, String)> =
                expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(decode(text), expected, "{text}");
        };
        check("", &[]);
        check("query=up", &[("query", "up")]);
        check("query=a+b%20%3D%3d&time=", &[("query", "a b =="), ("time", "")]);
        check("match%5B%5D=up&match[]=x&flag", &[("match[]", "up"), ("match[]", "x"), ("flag", "")]);
        check("bad=%zz%4&%", &[("bad", "%zz%4"), ("%", "")]);
    }
}
