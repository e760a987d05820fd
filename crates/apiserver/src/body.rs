//! Request bodies become JSON values: JSON (with duplicate fields noticed), YAML, protobuf.
//!
//! serde_json keeps the last of two fields of one name silently; Kubernetes tells the user about them, so the
//! reading here notes the path of each.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::status::{Failure, Result};

/// Largest body, as Kubernetes limits it (`MaxRequestBodyBytes`, twice etcd's 1.5 MiB).
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Paths of duplicate fields that are kept.
const DUPLICATES_MAX: usize = 100;

/// A body as read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Body {
    pub(crate) value: Value,
    /// Paths of fields that are there more than once.
    pub(crate) duplicates: Vec<String>,
}

/// Reads a body by its media type; an empty one is null.
pub(crate) fn read(media_type: &str, bytes: &[u8]) -> Result<Body> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Body::default());
    }
    match media_type.split(';').next().unwrap_or_default().trim() {
        "application/vnd.kubernetes.protobuf" => {
            let value = crate::protobuf::decode(bytes).map_err(Failure::bad_request)?;
            Ok(Body { value, duplicates: Vec::new() })
        }
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

fn yaml(bytes: &[u8]) -> Result<Body> {
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        return json(bytes);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}")))?;
    let value = serde_saphyr::from_str(text)
        .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}")))?;
    Ok(Body { value, duplicates: Vec::new() })
}

fn json(bytes: &[u8]) -> Result<Body> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let noting = Noting { path: String::new(), duplicates: &duplicates };
    let value = noting
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| Failure::bad_request(format!("error decoding JSON: {error}")))?;
    Ok(Body { value, duplicates: duplicates.into_inner() })
}

struct Noting<'a> {
    path: String,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Noting<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Noting<'_> {
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

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            match access.next_element_seed(Noting { path, duplicates: self.duplicates })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            let value = access.next_value_seed(Noting { path: path.clone(), duplicates: self.duplicates })?;
            if map.insert(key, value).is_some() && self.duplicates.borrow().len() < DUPLICATES_MAX {
                self.duplicates.borrow_mut().push(path);
            }
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
    }
}
