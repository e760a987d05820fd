//! Kinds that configure pods: ConfigMaps, Secrets, ServiceAccounts, LimitRanges, ResourceQuotas.

use k8s_openapi::api::core::v1;
use serde_json::Value;

use super::row::{Generation, Row, Sub, namespaced};
use crate::cells::{AGE, NAME, age, column, count, name_and_age};
use crate::limits;
use crate::object::{self, at, default, ensure, map, name, text};
use crate::problems::Problems;
use crate::status::FieldError;

const CORE: [&str; 2] = ["", "v1"];
/// Maximum bytes of data in a ConfigMap or Secret (`MaxSecretSize`).
const DATA_BYTES_MAX: usize = 1024 * 1024;

pub(crate) const CONFIG_MAP: Row = Row {
    short_names: &["cm"],
    columns: const { &[NAME, column("Data"), AGE] },
    cells: |object, now| {
        let entries = count(object, "data") + count(object, "binaryData");
        vec![name(object).into(), entries.into(), age(object, now)]
    },
    validate: |object, problems| data(object, &["data", "binaryData"], problems),
    validate_update: |current, object, _, problems| {
        check_immutable(current, object, &["data", "binaryData"], problems)
    },
    ..namespaced::<v1::ConfigMap>(CORE, "ConfigMap", "configmaps")
};

pub(crate) const SECRET: Row = Row {
    columns: const { &[NAME, column("Type"), column("Data"), AGE] },
    cells: |object, now| {
        let (kind, entries) = (text(object, "type").into(), count(object, "data").into());
        vec![name(object).into(), kind, entries, age(object, now)]
    },
    field_selectors: &["type"],
    defaults: secret,
    validate: |object, problems| data(object, &["data"], problems),
    validate_update: |current, object, _, problems| {
        problems.immutable(current, object, "type");
        check_immutable(current, object, &["data"], problems);
    },
    ..namespaced::<v1::Secret>(CORE, "Secret", "secrets")
};

pub(crate) const SERVICE_ACCOUNT: Row = Row {
    short_names: &["sa"],
    columns: const { &[NAME, AGE] },
    cells: name_and_age,
    ..namespaced::<v1::ServiceAccount>(CORE, "ServiceAccount", "serviceaccounts")
};

pub(crate) const LIMIT_RANGE: Row = Row {
    short_names: &["limits"],
    defaults: limits::apply_range_defaults,
    validate: |object, problems| {
        for (path, value, why) in limits::validate_range(object) {
            problems.invalid(path, &value, why);
        }
    },
    ..namespaced::<v1::LimitRange>(CORE, "LimitRange", "limitranges")
};

pub(crate) const RESOURCE_QUOTA: Row = Row {
    short_names: &["quota"],
    subresources: &[Sub::Status],
    generation: Generation::Never,
    ..namespaced::<v1::ResourceQuota>(CORE, "ResourceQuota", "resourcequotas")
};

fn secret(object: &mut Value) {
    use base64::Engine;
    default(object, "type", "Opaque");
    let Some(Value::Object(texts)) = object::remove(object, "stringData") else { return };
    let data = ensure(object, "data");
    for (key, value) in texts {
        let bytes = value.as_str().unwrap_or_default();
        data[key] = base64::engine::general_purpose::STANDARD.encode(bytes).into();
    }
}

fn data(object: &Value, fields: &[&str], problems: &mut Problems) {
    let mut size = 0;
    for field in fields {
        for (key, value) in map(object, field).into_iter().flatten() {
            size += value.as_str().map_or(0, str::len);
            let valid = !key.is_empty()
                && key.len() <= 253
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                && key != "."
                && !key.starts_with("..");
            if !valid {
                let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                problems.invalid(format!("{field}[{key}]"), &key.as_str().into(), why);
            }
        }
    }
    if size > DATA_BYTES_MAX {
        problems.push(FieldError::too_long("", DATA_BYTES_MAX));
    }
}

/// Enforces `immutable: true` of ConfigMaps and Secrets.
fn check_immutable(current: &Value, object: &Value, fields: &[&str], problems: &mut Problems) {
    if current["immutable"] != true {
        return;
    }
    for field in fields.iter().copied().chain(["immutable"]) {
        if at(current, field) != at(object, field) {
            problems.push(FieldError::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}
