//! Decodes protobuf request bodies (`application/vnd.kubernetes.protobuf`) to JSON.
//!
//! `kubectl autoscale` and `kubectl create` send them: four bytes `k8s\0`, then a `runtime.Unknown` with
//! apiVersion, kind and the raw message. The decoder is generic and driven by `messages.txt`, which has a line for
//! each message with tag, JSON name and type of each field; `*` marks a message whose fields are inline in the
//! parent's JSON, `[]` a list, `{}` a map with string keys. `examples/tables.rs` generates it from Kubernetes'
//! .proto files; the tests encode with k8s-pb's types and decode with it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine;
use serde_json::{Map, Value, json};

use crate::bounds::{Meter, VALUE_BYTES};

const MAGIC: &[u8] = b"k8s\0";
/// Maximum nesting of messages; Kubernetes' own reach about twenty.
const DEPTH_MAX: usize = 40;

struct Field {
    name: &'static str,
    kind: &'static str,
}

type Message = BTreeMap<u64, Field>;

fn messages() -> &'static BTreeMap<&'static str, Message> {
    static TABLE: OnceLock<BTreeMap<&'static str, Message>> = OnceLock::new();
    TABLE.get_or_init(|| include_str!("protobuf/messages.txt").lines().filter_map(line).collect())
}

fn line(line: &'static str) -> Option<(&'static str, Message)> {
    let mut parts = line.split('|');
    let name = parts.next()?;
    let fields = parts.filter_map(|part| {
        let mut words = part.split(' ');
        Some((words.next()?.parse().ok()?, Field { name: words.next()?, kind: words.next()? }))
    });
    Some((name, fields.collect()))
}

/// Decodes a body to JSON within the meter's memory budget; the error says what is wrong with it.
pub(crate) fn decode(bytes: &[u8], meter: &Meter) -> Result<Value, String> {
    let unknown =
        bytes.strip_prefix(MAGIC).ok_or("a protobuf body must start with the four bytes \"k8s\\0\"")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for (tag, wire) in fields(unknown)? {
        match (tag, wire) {
            (1, Wire::Bytes(meta)) => {
                for (tag, wire) in fields(meta)? {
                    match (tag, wire) {
                        (1, Wire::Bytes(text)) => api_version = string(text)?,
                        (2, Wire::Bytes(text)) => kind = string(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(message)) => raw = message,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind);
    if !messages().contains_key(name.as_str()) {
        return Err(format!("no protobuf form of {kind} in {api_version:?} is known; send it as JSON"));
    }
    let mut value = Reader { meter }.message(&name, raw, 0)?;
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(value)
}

fn message_name(api_version: &str, kind: &str) -> String {
    if kind == "DeleteOptions" {
        return "meta.v1.DeleteOptions".into();
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let package = group.split('.').next().unwrap_or(group);
    format!("{package}.{version}.{kind}")
}

type Fields<'a> = Vec<(u64, Wire<'a>)>;

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("a protobuf number is cut off")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a protobuf number is too long".into())
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], String> {
    let length = usize::try_from(length).map_err(|_| "a protobuf length is too large")?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or("a protobuf field is cut off")?;
    *bytes = rest;
    Ok(taken)
}

/// Splits a message into its fields, in order.
fn fields(mut bytes: &[u8]) -> Result<Fields<'_>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let wire = match key & 7 {
            0 => Wire::Number(varint(&mut bytes)?),
            1 => Wire::Number(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().unwrap_or_default())),
            2 => {
                let length = varint(&mut bytes)?;
                Wire::Bytes(take(&mut bytes, length)?)
            }
            5 => Wire::Number(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().unwrap_or_default()).into()),
            other => return Err(format!("protobuf wire type {other} is not used by Kubernetes")),
        };
        found.push((key >> 3, wire));
    }
    Ok(found)
}

fn string(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a protobuf string is not UTF-8".into())
}

/// Decodes messages within a memory budget.
struct Reader<'a> {
    meter: &'a Meter,
}

impl Reader<'_> {
    fn take(&self, enough: bool) -> Result<(), String> {
        if enough { Ok(()) } else { Err("the protobuf body holds too many values".into()) }
    }

    fn message(&self, name: &str, bytes: &[u8], depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err("protobuf messages are nested too deep".into());
        }
        if let Some(special) = special(name, bytes) {
            return special;
        }
        let table = messages().get(name).ok_or_else(|| format!("no protobuf message {name} is known"))?;
        let mut map = Map::new();
        for (tag, wire) in fields(bytes)? {
            let Some(field) = table.get(&tag) else { continue };
            self.take(self.meter.field(map.len(), field.name))?;
            if let Some(kind) = field.kind.strip_prefix("[]") {
                let value = self.scalar(kind, &wire, depth)?;
                if let Some(list) = map.entry(field.name).or_insert_with(|| json!([])).as_array_mut() {
                    list.push(value);
                }
            } else if let Some(kind) = field.kind.strip_prefix("{}") {
                let (key, value) = self.entry(kind, &wire, depth)?;
                if let Some(entries) = map.entry(field.name).or_insert_with(|| json!({})).as_object_mut() {
                    self.take(self.meter.field(entries.len(), &key))?;
                    entries.insert(key, value);
                }
            } else if field.name == "*" {
                if let Value::Object(inner) = self.scalar(field.kind, &wire, depth)? {
                    map.extend(inner);
                }
            } else {
                map.insert(field.name.to_owned(), self.scalar(field.kind, &wire, depth)?);
            }
        }
        // Go encodes empty strings too; JSON omits them.
        map.retain(|_, value| value.as_str() != Some(""));
        Ok(Value::Object(map))
    }

    fn entry(&self, kind: &str, wire: &Wire<'_>, depth: usize) -> Result<(String, Value), String> {
        let Wire::Bytes(bytes) = wire else { return Err("a protobuf map entry is not a message".into()) };
        let (mut key, mut value) = (String::new(), None);
        for (tag, wire) in fields(bytes)? {
            match (tag, &wire) {
                (1, Wire::Bytes(text)) => key = string(text)?,
                (2, wire) => value = Some(self.scalar(kind, wire, depth)?),
                _ => {}
            }
        }
        // A missing value is the type's zero value.
        let zero = if kind == "string" || kind == "bytes" { json!("") } else { json!({}) };
        Ok((key, value.unwrap_or(zero)))
    }

    fn scalar(&self, kind: &str, wire: &Wire<'_>, depth: usize) -> Result<Value, String> {
        let text = if let (Wire::Bytes(bytes), "string" | "bytes") = (wire, kind) { bytes.len() } else { 0 };
        self.take(self.meter.take(VALUE_BYTES + text))?;
        Ok(match (kind, wire) {
            ("string", Wire::Bytes(bytes)) => string(bytes)?.into(),
            ("bytes", Wire::Bytes(bytes)) => base64::engine::general_purpose::STANDARD.encode(bytes).into(),
            ("bool", Wire::Number(number)) => (*number != 0).into(),
            // Negative numbers are sign-extended to 64 bits; the cast restores them.
            ("int32" | "int64", Wire::Number(number)) => number.cast_signed().into(),
            ("double", Wire::Number(number)) => f64::from_bits(*number).into(),
            (name, Wire::Bytes(bytes)) => self.message(name, bytes, depth + 1)?,
            (name, Wire::Number(_)) => return Err(format!("a protobuf field of type {name} holds a number")),
        })
    }
}

/// Decodes messages whose JSON form is not an object.
fn special(name: &str, bytes: &[u8]) -> Option<Result<Value, String>> {
    let read: fn(Fields<'_>) -> Result<Value, String> = match name {
        "resource.Quantity" => |fields| first_string(&fields),
        "intstr.IntOrString" => int_or_string,
        "meta.v1.Time" | "meta.v1.MicroTime" => time,
        "meta.v1.FieldsV1" | "runtime.RawExtension" => |fields| match fields.first() {
            Some((1, Wire::Bytes(raw))) => serde_json::from_slice(raw).map_err(|error| error.to_string()),
            _ => Ok(json!({})),
        },
        _ => return None,
    };
    Some(fields(bytes).and_then(read))
}

fn first_string(fields: &[(u64, Wire<'_>)]) -> Result<Value, String> {
    match fields.first() {
        Some((1, Wire::Bytes(text))) => Ok(string(text)?.into()),
        _ => Ok("0".into()),
    }
}

fn int_or_string(fields: Fields<'_>) -> Result<Value, String> {
    let (mut is_string, mut number, mut text) = (false, 0_i64, String::new());
    for field in fields {
        match field {
            (1, Wire::Number(kind)) => is_string = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(value)) => text = string(value)?,
            _ => {}
        }
    }
    Ok(if is_string { text.into() } else { number.into() })
}

fn time(fields: Fields<'_>) -> Result<Value, String> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in &fields {
        match field {
            (1, Wire::Number(value)) => seconds = value.cast_signed(),
            (2, Wire::Number(value)) => nanos = i32::try_from(value.cast_signed()).unwrap_or(0),
            _ => {}
        }
    }
    // Go's zero time means absent.
    if fields.is_empty() {
        return Ok(Value::Null);
    }
    jiff::Timestamp::new(seconds, nanos)
        .map(|time| time.to_string().into())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use k8s_pb::api::autoscaling::v1 as hpa;
    use k8s_pb::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use k8s_pb::apimachinery::pkg::runtime::{TypeMeta, Unknown};
    use prost::Message as _;
    use serde_json::json;

    fn decode(bytes: &[u8]) -> Result<serde_json::Value, String> {
        super::decode(bytes, &super::Meter::new(1 << 20))
    }

    fn message(name: &str, bytes: &[u8]) -> Result<serde_json::Value, String> {
        super::Reader { meter: &super::Meter::new(1 << 20) }.message(name, bytes, 0)
    }

    fn envelope(api_version: &str, kind: &str, message: &impl prost::Message) -> Vec<u8> {
        let unknown = Unknown {
            type_meta: Some(TypeMeta { api_version: Some(api_version.into()), kind: Some(kind.into()) }),
            raw: Some(message.encode_to_vec()),
            ..Unknown::default()
        };
        [super::MAGIC, &unknown.encode_to_vec()].concat()
    }

    fn metadata(name: &str) -> Option<ObjectMeta> {
        Some(ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() })
    }

    #[test]
    fn an_autoscaler_as_kubectl_sends_it() {
        let message = hpa::HorizontalPodAutoscaler {
            metadata: metadata("model"),
            spec: Some(hpa::HorizontalPodAutoscalerSpec {
                scale_target_ref: Some(hpa::CrossVersionObjectReference {
                    kind: Some("Deployment".into()),
                    name: Some("model".into()),
                    api_version: Some("apps/v1".into()),
                }),
                min_replicas: Some(1),
                max_replicas: Some(3),
                target_cpu_utilization_percentage: Some(50),
            }),
            status: None,
        };
        let decoded = decode(&envelope("autoscaling/v1", "HorizontalPodAutoscaler", &message));
        let target = json!({"kind": "Deployment", "name": "model", "apiVersion": "apps/v1"});
        assert_eq!(
            decoded,
            Ok(json!({
                "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "model"},
                "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
            }))
        );
    }

    #[test]
    fn inlined_messages_maps_and_unions() {
        use k8s_pb::api::core::v1::{HttpGetAction, Probe, ProbeHandler};
        use k8s_pb::apimachinery::pkg::util::intstr::IntOrString;
        let port = IntOrString { r#type: Some(1), int_val: None, str_val: Some("http".into()) };
        let get = HttpGetAction { path: Some("/ready".into()), port: Some(port), ..HttpGetAction::default() };
        let probe = Probe {
            handler: Some(ProbeHandler { http_get: Some(get), ..ProbeHandler::default() }),
            period_seconds: Some(-3),
            ..Probe::default()
        };
        let decoded = message("core.v1.Probe", &probe.encode_to_vec());
        assert_eq!(decoded, Ok(json!({"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": -3})));

        let secret = k8s_pb::api::core::v1::Secret {
            metadata: metadata("s"),
            data: [("key".to_owned(), b"value".to_vec())].into(),
            ..Default::default()
        };
        let decoded = decode(&envelope("v1", "Secret", &secret)).expect("it decodes");
        assert_eq!(decoded["data"], json!({"key": "dmFsdWU="}));
    }

    #[test]
    fn every_type_in_the_table_is_in_the_table() {
        let known = super::messages();
        for (name, fields) in known {
            for field in fields.values() {
                let kind = field.kind.trim_start_matches("[]").trim_start_matches("{}");
                let plain = ["string", "bytes", "bool", "int32", "int64", "double"].contains(&kind);
                assert!(
                    plain || known.contains_key(kind) || super::special(kind, &[]).is_some(),
                    "{name}: {kind}"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(0_u8.., 0..300)) {
            let _ = decode(&[super::MAGIC, &bytes].concat());
            let _ = message("core.v1.Pod", &bytes);
        }
    }
}
