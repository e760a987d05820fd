//! Values of custom resources against their schema, with apiextensions' messages, all problems at once.
//!
//! CEL rules (`x-kubernetes-validations`) are stored with the CRD and not evaluated.

use serde_json::Value;

use super::{Rules, Schema, Type};
use crate::status::FieldError;

/// Problems of one object at most.
const PROBLEMS_MAX: usize = 100;

/// Everything that is wrong with `value`.
pub(crate) fn validate(schema: &Schema, value: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    visit(schema, value, path, &mut errors);
    errors
}

fn visit(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let own = schema.resolved();
    if errors.len() >= PROBLEMS_MAX || (value.is_null() && (own.nullable || own.kind == Type::Any)) {
        return;
    }
    if !has_type(own.kind, value) {
        let found = type_name(value);
        let detail = format!("{path} in body must be of type {}: \"{found}\"", own.kind.name());
        return errors.push(FieldError::wrong_type(path, &found.into(), detail));
    }
    if let Some(rules) = &own.rules {
        check_rules(rules, value, path, errors);
    }
    match value {
        Value::Object(map) => {
            for key in own.required.iter().filter(|key| !map.contains_key(&***key)) {
                errors.push(FieldError::required(join(path, key), ""));
            }
            for (key, inner) in map {
                if let Some(schema) = own.properties.get(key.as_str()).or(own.additional.as_deref()) {
                    visit(schema, inner, &join(path, key), errors);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit(schema.item(), item, &format!("{path}[{index}]"), errors);
            }
            duplicates(own, items, path, errors);
        }
        _ => {}
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn has_type(kind: Type, value: &Value) -> bool {
    match kind {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Integer => {
            value.as_i64().is_some() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
        Type::IntOrString => value.is_string() || value.is_i64(),
        Type::Quantity => value.is_string() || value.is_number(),
    }
}

fn check_rules(rules: &Rules, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !rules.allowed.is_empty() && !rules.allowed.contains(value) {
        let names: Vec<String> = rules
            .allowed
            .iter()
            .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        errors.push(FieldError::not_supported(path, value, &names));
    }
    match value {
        Value::Number(number) => numeric(rules, number.as_f64().unwrap_or(0.0), value, path, errors),
        Value::String(text) => textual(rules, text, value, path, errors),
        Value::Array(items) => sized_list(rules, items, path, errors),
        Value::Object(map) => {
            let count = Value::from(map.len());
            if let Some(min) = rules.properties_min.filter(|min| map.len() < *min) {
                errors.push(FieldError::invalid(
                    path,
                    &count,
                    format!("{path} in body should have at least {min} properties"),
                ));
            }
            if let Some(max) = rules.properties_max.filter(|max| map.len() > *max) {
                errors.push(FieldError::too_many(path, map.len(), max));
            }
        }
        _ => {}
    }
    combined(rules, value, path, errors);
}

fn numeric(rules: &Rules, number: f64, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut fail = |words: String| {
        errors.push(FieldError::invalid(path, value, format!("{path} in body should be {words}")))
    };
    match rules.minimum {
        Some(min) if rules.exclusive_minimum && number <= min => fail(format!("greater than {min}")),
        Some(min) if number < min => fail(format!("greater than or equal to {min}")),
        _ => {}
    }
    match rules.maximum {
        Some(max) if rules.exclusive_maximum && number >= max => fail(format!("less than {max}")),
        Some(max) if number > max => fail(format!("less than or equal to {max}")),
        _ => {}
    }
    if let Some(factor) = rules.multiple_of.filter(|factor| *factor > 0.0 && (number / factor).fract() != 0.0)
    {
        fail(format!("a multiple of {factor}"));
    }
}

fn textual(rules: &Rules, text: &str, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let length = text.chars().count();
    if let Some(min) = rules.length_min.filter(|min| length < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        errors.push(FieldError::invalid(path, value, detail));
    }
    if let Some(max) = rules.length_max.filter(|max| length > *max) {
        errors.push(FieldError::too_long(path, max));
    }
    if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        let detail = format!("{path} in body should match '{}'", pattern.text);
        errors.push(FieldError::invalid(path, value, detail));
    }
}

fn sized_list(rules: &Rules, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    if let Some(min) = rules.items_min.filter(|min| items.len() < *min) {
        let detail = format!("{path} in body should have at least {min} items");
        errors.push(FieldError::invalid(path, &items.len().into(), detail));
    }
    if let Some(max) = rules.items_max.filter(|max| items.len() > *max) {
        errors.push(FieldError::too_many(path, items.len(), max));
    }
    if rules.unique && items.iter().enumerate().any(|(index, item)| items[..index].contains(item)) {
        let detail = format!("{path} in body shouldn't contain duplicates");
        errors.push(FieldError::invalid(path, &items.len().into(), detail));
    }
}

fn combined(rules: &Rules, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let passes = |schema: &&Schema| validate(schema, value, path).is_empty();
    for schema in &rules.all_of {
        visit(schema, value, path, errors);
    }
    let mut fail = |words: &str| {
        errors.push(FieldError::invalid(path, value, format!("\"{path}\" must {words}")));
    };
    if !rules.any_of.is_empty() && !rules.any_of.iter().any(|schema| passes(&schema)) {
        fail("validate at least one schema (anyOf)");
    }
    match rules.one_of.iter().filter(passes).count() {
        _ if rules.one_of.is_empty() => {}
        1 => {}
        0 => fail("validate one and only one schema (oneOf). Found none valid"),
        count => fail(&format!("validate one and only one schema (oneOf). Found {count} valid alternatives")),
    }
    if rules.not.as_deref().is_some_and(|schema| passes(&schema)) {
        fail("not validate the schema (not)");
    }
}

fn duplicates(schema: &Schema, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let identity = |item: &Value| match &schema.list {
        super::ListType::Atomic => None,
        super::ListType::Set => Some(item.clone()),
        super::ListType::Map(keys) => {
            let picked = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Some(Value::Object(picked.collect()))
        }
    };
    let mut seen = std::collections::BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        if let Some(identity) = identity(item)
            && !seen.insert(identity.to_string())
        {
            errors.push(FieldError::duplicate(format!("{path}[{index}]"), &identity));
        }
    }
}
