//! Decodes request bodies to JSON values: JSON (reporting duplicate fields), YAML, protobuf.
//!
//! serde_json silently keeps the last of two fields with the same name. Kubernetes reports them, so this decoder
//! records their paths. It also counts the memory of the values: see [`crate::bounds`].

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::bounds::{self, Meter, VALUE_BYTES, VALUES_BYTES_MAX};
use crate::path::Path;
use crate::status::{Failure, Result};

/// Maximum number of duplicate fields recorded.
const DUPLICATES_MAX: usize = 100;

/// A decoded body and its duplicate fields.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Body {
    pub(crate) value: Value,
    /// Paths of fields that occur more than once.
    pub(crate) duplicates: Vec<String>,
}

/// Decodes a body by its media type; an empty body is null.
pub(crate) fn read(media_type: &str, bytes: &[u8]) -> Result<Body> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Body::default());
    }
    match media_type.split(';').next().unwrap_or_default().trim() {
        "application/vnd.kubernetes.protobuf" => protobuf(bytes),
        "application/yaml" | "application/apply-patch+yaml" => yaml(bytes),
        ""
        | "application/json"
        | "application/json-patch+json"
        | "application/merge-patch+json"
        | "application/strategic-merge-patch+json" => json(bytes),
        other => Err(Failure::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf (got \"{other}\")"
        ))),
    }
}

fn protobuf(bytes: &[u8]) -> Result<Body> {
    let meter = Meter::new(VALUES_BYTES_MAX);
    let value = crate::protobuf::decode(bytes, &meter).map_err(|why| unreadable(&meter, why))?;
    Ok(Body { value, duplicates: Vec::new() })
}

fn yaml(bytes: &[u8]) -> Result<Body> {
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        return json(bytes);
    }
    let cannot = |why: &dyn fmt::Display| format!("error decoding YAML: {why}");
    let text = std::str::from_utf8(bytes).map_err(|error| Failure::bad_request(cannot(&error)))?;
    let findings = Findings::default();
    let value = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        findings.root().deserialize(deserializer)
    })
    .map_err(|error| unreadable(&findings.meter, cannot(&error)))?;
    Ok(Body { value, duplicates: findings.duplicates.into_inner() })
}

fn json(bytes: &[u8]) -> Result<Body> {
    let findings = Findings::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = findings
        .root()
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| unreadable(&findings.meter, format!("error decoding JSON: {error}")))?;
    Ok(Body { value, duplicates: findings.duplicates.into_inner() })
}

/// Returns the error of a failed decode: the memory limit if it was reached, else `why`.
fn unreadable(meter: &Meter, why: String) -> Failure {
    if meter.is_empty() { bounds::too_many_values() } else { Failure::bad_request(why) }
}

/// Collected while a body is decoded.
struct Findings {
    duplicates: RefCell<Vec<String>>,
    meter: Meter,
}

impl Default for Findings {
    fn default() -> Self {
        Self { duplicates: RefCell::default(), meter: Meter::new(VALUES_BYTES_MAX) }
    }
}

impl Findings {
    fn root(&self) -> JsonVisitor<'_> {
        JsonVisitor { path: Path::Root, findings: self }
    }
}

#[derive(Clone, Copy)]
struct JsonVisitor<'a> {
    path: Path<'a>,
    findings: &'a Findings,
}

impl JsonVisitor<'_> {
    fn take<E: Error>(&self, bytes: usize) -> std::result::Result<(), E> {
        if self.findings.meter.take(bytes) { Ok(()) } else { Err(E::custom("too many values")) }
    }
}

impl<'de> DeserializeSeed<'de> for JsonVisitor<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        self.take(VALUE_BYTES)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> std::result::Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> std::result::Result<Value, E> {
        self.take(value.len())?;
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = self.path.item(items.len());
            match access.next_element_seed(JsonVisitor { path, findings: self.findings })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if !self.findings.meter.field(map.len(), &key) {
                self.take(usize::MAX)?;
            }
            let path = self.path.field(&key);
            let value = access.next_value_seed(JsonVisitor { path, findings: self.findings })?;
            if map.contains_key(&key) && self.findings.duplicates.borrow().len() < DUPLICATES_MAX {
                self.findings.duplicates.borrow_mut().push(path.to_string());
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_noted_with_their_path() {
        let body =
            read("application/json", br#"{"a":{"b":1,"b":2},"c":[{"d":1,"d":2}]}"#).expect("it is JSON");
        assert_eq!(body.duplicates, ["a.b", "c[0].d"]);
        assert_eq!(body.value["a"]["b"], 2);
    }

    /// Bodies that expand when decoded, though their text is short.
    #[test]
    fn bodies_that_multiply_are_refused() {
        let maps = format!("[{}]", vec![r#"{"a":1}"#; 120_000].join(","));
        let deep = "[".repeat(20_000);
        let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let before = vec![format!("*a{}", level - 1); 10].join(",");
            laughs.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        // Containers with a one-letter image: five bytes each, a hundred times that in memory.
        let containers = [0x12, 0x03, 0x12, 0x01, b'x'].repeat(200_000);
        for (media_type, body, code) in [
            ("application/json", maps.as_bytes(), 413),
            ("application/yaml", maps.as_bytes(), 400),
            ("application/json", deep.as_bytes(), 400),
            ("application/yaml", deep.as_bytes(), 400),
            ("application/yaml", laughs.as_bytes(), 400),
            ("application/vnd.kubernetes.protobuf", &pod_of(&containers), 413),
        ] {
            let refused = read(media_type, body).map(|body| body.value.to_string().len());
            assert_eq!(refused.map_err(|failure| failure.code), Err(code), "{media_type}");
        }
    }

    /// Encodes a Pod with these spec fields.
    fn pod_of(spec: &[u8]) -> Vec<u8> {
        let field = |tag: u8, bytes: &[u8]| {
            let mut length = bytes.len();
            let mut field = vec![tag << 3 | 2];
            while length > 0x7f {
                field.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            field.push(length as u8);
            field.extend_from_slice(bytes);
            field
        };
        let meta = [field(1, b"v1"), field(2, b"Pod")].concat();
        [b"k8s\0".to_vec(), field(1, &meta), field(2, &field(2, spec))].concat()
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(0_u8.., 0..200)) {
            for media_type in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"] {
                let _ = read(media_type, &bytes);
            }
        }

        #[test]
        fn json_text_reads_as_serde_json_does(text in r#"[\[\]{}",:0-9a-z ]{0,40}"#) {
            let ours = read("application/json", text.as_bytes()).ok().map(|body| body.value);
            let theirs = serde_json::from_str::<Value>(&text).ok();
            proptest::prop_assert!(text.trim().is_empty() || ours == theirs);
        }

        #[test]
        fn yaml_reads_as_json_where_it_is_json(text in r#"[\[\]{}",:0-9a-z ]{0,40}"#) {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let yaml = serde_json::to_string(&serde_json::json!([value])).expect("it is a value");
                let body = read("application/yaml", yaml.as_bytes()).map(|body| body.value);
                if let Ok(read) = body {
                    proptest::prop_assert_eq!(read.to_string(), yaml);
                }
            }
        }
    }
}
