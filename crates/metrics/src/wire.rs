//! Protocol buffers, field by field.
//!
//! A message that is decoded whole takes up to a hundred times its bytes: an empty inner message is two bytes on the wire.
//! So outer messages are walked over, and only small inner ones are decoded; what a page or a request takes stays near what
//! it brings.

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::histogram::{Buckets, NativeHistogram, ResetHint, Schema, Span};

/// Bytes of a message that is decoded whole: one metric, one series or one data point. The largest known, a classic
/// histogram with hundreds of buckets and long labels, has 100 kB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A message that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub(crate) String);

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> WireError {
        WireError(error.to_string())
    }
}

/// The value of a field, as far as anybody asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Field<'a> {
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
    /// A number, an enumeration or a truth.
    Number(u64),
    /// A fixed-width number.
    Fixed,
}

/// The fields of a message by their numbers, in their order; ends after the first error.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Fields<'a> {
        Fields(message)
    }

    fn read(&mut self) -> Result<(u32, Field<'a>), WireError> {
        let (number, kind) = decode_key(&mut self.0)?;
        let field = match kind {
            WireType::Varint => Field::Number(decode_varint(&mut self.0)?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.0)?;
                Field::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            WireType::SixtyFourBit => self.take(8).map(|_| Field::Fixed)?,
            WireType::ThirtyTwoBit => self.take(4).map(|_| Field::Fixed)?,
            WireType::StartGroup | WireType::EndGroup => {
                return Err(WireError("groups are not supported".into()));
            }
        };
        Ok((number, field))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| WireError("unexpected end of message".into()))?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.0 = &[];
        }
        Some(read)
    }
}

/// Messages after their lengths, one behind the other.
pub(crate) fn delimited(mut bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], WireError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = decode_varint(&mut bytes).map_err(WireError::from).and_then(|length| {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            bytes.split_at_checked(length).ok_or_else(|| WireError("unexpected end of message".into()))
        });
        Some(
            message
                .map(|(message, rest)| {
                    bytes = rest;
                    message
                })
                .inspect_err(|_| bytes = &[]),
        )
    })
}

/// Decodes a small message whole.
pub(crate) fn message<M: Message + Default>(bytes: &[u8]) -> Result<M, WireError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(WireError(format!("message has {} bytes, more than {MESSAGE_BYTES_MAX}", bytes.len())));
    }
    Ok(M::decode(bytes)?)
}

/// The text of a field.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError("string is not UTF-8".into()))
}

/// A run of buckets.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpanMessage {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// The buckets of one side, as spans with whole counts by their differences, or with any counts.
pub(crate) fn buckets(spans: &[SpanMessage], deltas: &[i64], counts: &[f64]) -> Result<Buckets, WireError> {
    let spans: Vec<Span> =
        spans.iter().map(|span| Span { offset: span.offset, length: span.length }).collect();
    let buckets = match counts {
        [] => Buckets::from_deltas(&spans, deltas),
        counts => Buckets::from_spans(&spans, counts),
    };
    buckets.map_err(|error| WireError(error.to_string()))
}

/// A native histogram of remote write, both versions (prometheus.Histogram, io.prometheus.write.v2.Histogram).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HistogramMessage {
    #[prost(uint64, optional, tag = "1")]
    count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<SpanMessage>,
    #[prost(sint64, repeated, tag = "9")]
    negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<SpanMessage>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(crate) timestamp_ms: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
    /// Only in version 2.0.
    #[prost(int64, tag = "17")]
    pub(crate) start_ms: i64,
}

impl HistogramMessage {
    pub(crate) fn histogram(&self) -> Result<NativeHistogram, WireError> {
        let schema =
            Schema::new(self.schema, &self.custom_values).map_err(|error| WireError(error.to_string()))?;
        Ok(NativeHistogram {
            reset_hint: match self.reset_hint {
                1 => ResetHint::Reset,
                2 => ResetHint::NotReset,
                3 => ResetHint::Gauge,
                _ => ResetHint::Unknown,
            },
            schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count_float.unwrap_or(self.zero_count_int.unwrap_or(0) as f64),
            count: self.count_float.unwrap_or(self.count_int.unwrap_or(0) as f64),
            sum: self.sum,
            positive: buckets(&self.positive_spans, &self.positive_deltas, &self.positive_counts)?,
            negative: buckets(&self.negative_spans, &self.negative_deltas, &self.negative_counts)?,
        })
    }
}

#[cfg(test)]
impl SpanMessage {
    pub(crate) fn new(offset: i32, length: u32) -> SpanMessage {
        SpanMessage { offset, length }
    }
}

#[cfg(test)]
impl HistogramMessage {
    /// A histogram with whole counts.
    pub(crate) fn of(
        count: u64,
        sum: f64,
        schema: i32,
        spans: &[(i32, u32)],
        deltas: &[i64],
    ) -> HistogramMessage {
        let spans = spans.iter().map(|(offset, length)| SpanMessage::new(*offset, *length)).collect();
        let positive_deltas = deltas.to_vec();
        HistogramMessage {
            count_int: Some(count),
            sum,
            schema,
            positive_spans: spans,
            positive_deltas,
            ..HistogramMessage::default()
        }
    }

    pub(crate) fn set_spans(&mut self, spans: Vec<SpanMessage>) {
        self.positive_spans = spans;
    }
}
