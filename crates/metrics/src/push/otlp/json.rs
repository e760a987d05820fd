//! OTLP as JSON, turned into the bytes that the same request has as protocol buffers.
//!
//! So there is one reader of requests, whatever their encoding, and a body takes no more memory than it has bytes: nothing is
//! decoded into a tree. The mapping is that of proto3 with OTLP's exceptions: ids are hexadecimal, and unknown fields are
//! passed over. Numbers may be written as strings, names of fields as in the `.proto` files, enumerations by name.

use std::cell::Cell;
use std::fmt;

use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::{PushError, REQUEST_BYTES_MAX};

/// The shape of a message: the JSON name, the number and the kind of each field that means something here.
type Shape = [(&'static str, u32, Kind)];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// Bytes, in hexadecimal.
    Id,
    Truth,
    /// A whole number, as a varint.
    Whole,
    /// The same, where small negative ones are short.
    Zigzag,
    /// A whole number of eight bytes.
    Fixed,
    Float,
    /// AggregationTemporality.
    Temporality,
    Message(&'static Shape),
}

use Kind::*;

const REQUEST: &Shape = &[("resourceMetrics", 1, Message(RESOURCE_METRICS))];
const RESOURCE_METRICS: &Shape =
    &[("resource", 1, Message(RESOURCE)), ("scopeMetrics", 2, Message(SCOPE_METRICS))];
const RESOURCE: &Shape = &[("attributes", 1, Message(&KEY_VALUE))];
const SCOPE_METRICS: &Shape = &[("metrics", 2, Message(METRIC))];
const METRIC: &Shape = &[
    ("name", 1, Text),
    ("description", 2, Text),
    ("unit", 3, Text),
    ("gauge", 5, Message(NUMBERS)),
    ("sum", 7, Message(NUMBERS)),
    ("histogram", 9, Message(HISTOGRAM)),
    ("exponentialHistogram", 10, Message(EXPONENTIAL_HISTOGRAM)),
    ("summary", 11, Message(SUMMARY)),
];
const NUMBERS: &Shape = &[
    ("dataPoints", 1, Message(NUMBER_POINT)),
    ("aggregationTemporality", 2, Temporality),
    ("isMonotonic", 3, Truth),
];
const HISTOGRAM: &Shape =
    &[("dataPoints", 1, Message(HISTOGRAM_POINT)), ("aggregationTemporality", 2, Temporality)];
const EXPONENTIAL_HISTOGRAM: &Shape =
    &[("dataPoints", 1, Message(EXPONENTIAL_POINT)), ("aggregationTemporality", 2, Temporality)];
const SUMMARY: &Shape = &[("dataPoints", 1, Message(SUMMARY_POINT))];
const NUMBER_POINT: &Shape = &[
    ("attributes", 7, Message(&KEY_VALUE)),
    ("startTimeUnixNano", 2, Fixed),
    ("timeUnixNano", 3, Fixed),
    ("asDouble", 4, Float),
    ("asInt", 6, Fixed),
    ("exemplars", 5, Message(EXEMPLAR)),
    ("flags", 8, Whole),
];
const HISTOGRAM_POINT: &Shape = &[
    ("attributes", 9, Message(&KEY_VALUE)),
    ("startTimeUnixNano", 2, Fixed),
    ("timeUnixNano", 3, Fixed),
    ("count", 4, Fixed),
    ("sum", 5, Float),
    ("bucketCounts", 6, Fixed),
    ("explicitBounds", 7, Float),
    ("exemplars", 8, Message(EXEMPLAR)),
    ("flags", 10, Whole),
];
const EXPONENTIAL_POINT: &Shape = &[
    ("attributes", 1, Message(&KEY_VALUE)),
    ("startTimeUnixNano", 2, Fixed),
    ("timeUnixNano", 3, Fixed),
    ("count", 4, Fixed),
    ("sum", 5, Float),
    ("scale", 6, Zigzag),
    ("zeroCount", 7, Fixed),
    ("positive", 8, Message(BUCKETS)),
    ("negative", 9, Message(BUCKETS)),
    ("flags", 10, Whole),
    ("exemplars", 11, Message(EXEMPLAR)),
];
const BUCKETS: &Shape = &[("offset", 1, Zigzag), ("bucketCounts", 2, Whole)];
const SUMMARY_POINT: &Shape = &[
    ("attributes", 7, Message(&KEY_VALUE)),
    ("startTimeUnixNano", 2, Fixed),
    ("timeUnixNano", 3, Fixed),
    ("count", 4, Fixed),
    ("sum", 5, Float),
    ("quantileValues", 6, Message(QUANTILE)),
    ("flags", 8, Whole),
];
const QUANTILE: &Shape = &[("quantile", 1, Float), ("value", 2, Float)];
const EXEMPLAR: &Shape = &[
    ("filteredAttributes", 7, Message(&KEY_VALUE)),
    ("timeUnixNano", 2, Fixed),
    ("asDouble", 3, Float),
    ("asInt", 6, Fixed),
    ("spanId", 4, Id),
    ("traceId", 5, Id),
];
static KEY_VALUE: [(&str, u32, Kind); 2] = [("key", 1, Text), ("value", 2, Message(&ANY_VALUE))];
static ANY_VALUE: [(&str, u32, Kind); 6] = [
    ("stringValue", 1, Text),
    ("boolValue", 2, Truth),
    ("intValue", 3, Whole),
    ("doubleValue", 4, Float),
    ("arrayValue", 5, Message(&ARRAY_VALUE)),
    ("kvlistValue", 6, Message(&KEY_VALUE_LIST)),
];
static ARRAY_VALUE: [(&str, u32, Kind); 1] = [("values", 1, Message(&ANY_VALUE))];
static KEY_VALUE_LIST: [(&str, u32, Kind); 1] = [("values", 1, Message(&KEY_VALUE))];

const TEMPORALITIES: [&str; 3] = [
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
];

/// The same request as protocol buffers.
///
/// # Errors
/// It is not JSON, or a field has a value of a wrong kind: with line and column.
pub fn to_protobuf(body: &[u8]) -> Result<Vec<u8>, PushError> {
    let (mut out, left) = (Vec::new(), Cell::new(REQUEST_BYTES_MAX));
    let mut reader = serde_json::Deserializer::from_slice(body);
    let fields = FieldsOf { message: REQUEST, out: &mut out, left: &left };
    let read = fields.deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|error| PushError::BadRequest(error.to_string()))?;
    Ok(out)
}

/// Reads an object as a message, field by field; null is an empty one.
struct FieldsOf<'a> {
    message: &'static Shape,
    out: &'a mut Vec<u8>,
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for FieldsOf<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldsOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let key = camel_case(key);
            match self.message.iter().find(|(name, ..)| *name == key) {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(&(name, number, kind)) => {
                    map.next_value_seed(Value { name, number, kind, out: self.out, left: self.left })?;
                }
            }
        }
        Ok(())
    }
}

/// The JSON name of a field, of whichever of its two names.
fn camel_case(name: String) -> String {
    if !name.contains('_') {
        return name;
    }
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// Reads the value of a field; a list is as many fields.
struct Value<'a> {
    name: &'static str,
    number: u32,
    kind: Kind,
    out: &'a mut Vec<u8>,
    left: &'a Cell<usize>,
}

impl Value<'_> {
    /// Writes a field whose value `write` writes.
    fn field<E: Error>(self, wire: WireType, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), E> {
        let before = self.out.len();
        encode_key(self.number, wire, self.out);
        write(self.out);
        self.spend(self.out.len() - before)
    }

    fn bytes<E: Error>(self, bytes: &[u8]) -> Result<(), E> {
        self.field(WireType::LengthDelimited, |out| {
            encode_varint(bytes.len() as u64, out);
            out.extend(bytes);
        })
    }

    /// Writes a message, whose fields have been paid for.
    fn message<E: Error>(self, fields: &[u8]) -> Result<(), E> {
        let before = self.out.len();
        encode_key(self.number, WireType::LengthDelimited, self.out);
        encode_varint(fields.len() as u64, self.out);
        self.spend(self.out.len() - before)?;
        self.out.extend(fields);
        Ok(())
    }

    /// A list of short numbers is longer in protocol buffers than in JSON, so what is written has a limit of its own.
    fn spend<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(bytes);
        self.left
            .set(left.ok_or_else(|| E::custom(format!("request has more than {REQUEST_BYTES_MAX} bytes")))?);
        Ok(())
    }

    /// A whole number; the kinds differ in how they write it.
    fn whole<E: Error>(self, number: i128) -> Result<(), E> {
        let wrong = || E::custom(format!("{number} is out of range for {}", self.name));
        // Both signed and unsigned fields of 64 bits have this bit pattern.
        let bits = i64::try_from(number).map(|number| number as u64).or_else(|_| u64::try_from(number));
        let bits = bits.map_err(|_| wrong())?;
        match self.kind {
            Whole | Temporality => self.field(WireType::Varint, |out| encode_varint(bits, out)),
            Fixed => self.field(WireType::SixtyFourBit, |out| out.extend(bits.to_le_bytes())),
            Zigzag => {
                let number = i32::try_from(number).map_err(|_| wrong())?;
                let zigzag = ((number << 1) ^ (number >> 31)) as u32;
                self.field(WireType::Varint, |out| encode_varint(u64::from(zigzag), out))
            }
            Float => self.float(number as f64),
            _ => Err(E::custom(format!("invalid type: number, expected {}", Expected(&self)))),
        }
    }

    fn float<E: Error>(self, number: f64) -> Result<(), E> {
        match self.kind {
            Float => self.field(WireType::SixtyFourBit, |out| out.extend(number.to_le_bytes())),
            Whole | Fixed | Zigzag if number.fract() == 0.0 => self.whole(number as i128),
            _ => Err(E::custom(format!(
                "invalid type: floating point `{number}`, expected {}",
                Expected(&self)
            ))),
        }
    }
}

/// What a field expects, as words.
struct Expected<'a, 'b>(&'a Value<'b>);

impl fmt::Display for Expected<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0.kind {
            Text => "a string",
            Id => "hexadecimal digits",
            Truth => "true or false",
            Whole | Zigzag | Fixed => "a whole number",
            Float => "a number",
            Temporality => "a number or AGGREGATION_TEMPORALITY_…",
            Message(_) => "an object",
        };
        write!(f, "{kind} for {}", self.0.name)
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Expected(self))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        match self.kind {
            Truth => self.field(WireType::Varint, |out| encode_varint(u64::from(truth), out)),
            _ => Err(E::invalid_type(serde::de::Unexpected::Bool(truth), &self)),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.whole(number.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.whole(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.float(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let wrong = |value: &Self| E::invalid_value(serde::de::Unexpected::Str(text), value);
        match self.kind {
            Text => self.bytes(text.as_bytes()),
            Id => match unhex(text) {
                Some(id) => self.bytes(&id),
                None => Err(wrong(&self)),
            },
            Whole | Zigzag | Fixed => match text.parse() {
                Ok(number) => self.whole(number),
                Err(_) => Err(wrong(&self)),
            },
            Float => match text {
                "Infinity" => self.float(f64::INFINITY),
                "-Infinity" => self.float(f64::NEG_INFINITY),
                _ => match text.parse() {
                    Ok(number) => self.float(number),
                    Err(_) => Err(wrong(&self)),
                },
            },
            Temporality => match TEMPORALITIES.iter().position(|name| *name == text) {
                Some(number) => self.whole(number as i128),
                None => Err(wrong(&self)),
            },
            Truth | Message(_) => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Message(message) = self.kind else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        };
        let mut inner = Vec::new();
        FieldsOf { message, out: &mut inner, left: self.left }.visit_map(map)?;
        self.message(&inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let (name, number, kind, left) = (self.name, self.number, self.kind, self.left);
        while list.next_element_seed(Value { name, number, kind, out: &mut *self.out, left })?.is_some() {}
        Ok(())
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let digits: Option<Vec<u8>> = text.as_bytes().iter().map(digit).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests;
