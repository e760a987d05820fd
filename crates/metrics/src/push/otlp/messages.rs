//! The inner messages of OTLP metrics (opentelemetry.proto.metrics.v1), as far as they mean something here.

use prost::{Message, Oneof};

use crate::text::format_value;

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum AnyValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Truth(bool),
    #[prost(int64, tag = "3")]
    Whole(i64),
    #[prost(double, tag = "4")]
    Float(f64),
    #[prost(message, tag = "5")]
    Array(ArrayValue),
    #[prost(message, tag = "6")]
    Map(KeyValues),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(oneof = "AnyValue", tags = "1, 2, 3, 4, 5, 6")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValues {
    #[prost(message, repeated, tag = "1")]
    values: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<Any>,
}

impl KeyValue {
    /// The value as a label has it: lists and maps as JSON; bytes not at all.
    pub(super) fn text(&self) -> String {
        match self.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(AnyValue::Text(text)) => text.clone(),
            Some(AnyValue::Float(number)) => format_value(*number),
            Some(other) => other.json().to_string(),
            None => String::new(),
        }
    }
}

impl AnyValue {
    fn json(&self) -> serde_json::Value {
        let inner = |any: &Any| any.value.as_ref().map_or(serde_json::Value::Null, AnyValue::json);
        match self {
            AnyValue::Text(text) => text.as_str().into(),
            AnyValue::Truth(truth) => (*truth).into(),
            AnyValue::Whole(number) => (*number).into(),
            AnyValue::Float(number) => (*number).into(),
            AnyValue::Array(array) => array.values.iter().map(inner).collect(),
            AnyValue::Map(map) => {
                let pair = |pair: &KeyValue| {
                    (pair.key.clone(), pair.value.as_ref().map_or(serde_json::Value::Null, inner))
                };
                map.values.iter().map(pair).collect::<serde_json::Map<_, _>>().into()
            }
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

/// A data point: what all kinds have in common, under numbers that differ, and what is its own.
macro_rules! point {
    ($name:ident, attributes = $attributes:tt, flags = $flags:tt, $($field:ident: $type:ty = ($($kind:tt)*)),* $(,)?) => {
        #[derive(Clone, PartialEq, Message)]
        pub(super) struct $name {
            #[prost(message, repeated, tag = $attributes)]
            pub(super) attributes: Vec<KeyValue>,
            #[prost(fixed64, tag = "2")]
            pub(super) start_ns: u64,
            #[prost(fixed64, tag = "3")]
            pub(super) time_ns: u64,
            #[prost(uint32, tag = $flags)]
            pub(super) flags: u32,
            $(#[prost($($kind)*)] pub(super) $field: $type,)*
        }
    };
}

point!(NumberPoint, attributes = "7", flags = "8",
    float: Option<f64> = (double, optional, tag = "4"),
    whole: Option<i64> = (sfixed64, optional, tag = "6"),
    exemplars: Vec<ExemplarPoint> = (message, repeated, tag = "5"),
);

point!(HistogramPoint, attributes = "9", flags = "10",
    count: u64 = (fixed64, tag = "4"),
    sum: Option<f64> = (double, optional, tag = "5"),
    bucket_counts: Vec<u64> = (fixed64, repeated, tag = "6"),
    explicit_bounds: Vec<f64> = (double, repeated, tag = "7"),
    exemplars: Vec<ExemplarPoint> = (message, repeated, tag = "8"),
);

point!(ExponentialPoint, attributes = "1", flags = "10",
    count: u64 = (fixed64, tag = "4"),
    sum: Option<f64> = (double, optional, tag = "5"),
    scale: i32 = (sint32, tag = "6"),
    zero_count: u64 = (fixed64, tag = "7"),
    positive: Option<ExponentialBuckets> = (message, optional, tag = "8"),
    negative: Option<ExponentialBuckets> = (message, optional, tag = "9"),
    exemplars: Vec<ExemplarPoint> = (message, repeated, tag = "11"),
);

point!(SummaryPoint, attributes = "7", flags = "8",
    count: u64 = (fixed64, tag = "4"),
    sum: f64 = (double, tag = "5"),
    quantiles: Vec<QuantileValue> = (message, repeated, tag = "6"),
);

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExemplarPoint {
    #[prost(fixed64, tag = "2")]
    pub(super) time_ns: u64,
    #[prost(double, optional, tag = "3")]
    pub(super) float: Option<f64>,
    #[prost(sfixed64, optional, tag = "6")]
    pub(super) whole: Option<i64>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) trace_id: Vec<u8>,
    #[prost(message, repeated, tag = "7")]
    pub(super) attributes: Vec<KeyValue>,
}

/// The value of a number that is sent as a float or as a whole one.
pub(super) fn either(float: Option<f64>, whole: Option<i64>) -> Option<f64> {
    float.or(whole.map(|whole| whole as f64))
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExponentialBuckets {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint64, repeated, tag = "2")]
    pub(super) counts: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QuantileValue {
    #[prost(double, tag = "1")]
    pub(super) quantile: f64,
    #[prost(double, tag = "2")]
    pub(super) value: f64,
}

#[cfg(test)]
impl KeyValue {
    pub(super) fn of(key: &str, value: AnyValue) -> KeyValue {
        KeyValue { key: key.into(), value: Some(Any { value: Some(value) }) }
    }
}
