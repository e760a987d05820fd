//! Validates custom resources against their schema, with apiextensions' messages, all problems at once.
//!
//! CEL rules (`x-kubernetes-validations`) are stored with the CRD but not evaluated.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{ListType, Rules, Schema, Type};
use crate::path::{Path, shortened};
use crate::status::{FieldError, PROBLEMS_MAX};

/// Maximum number of values, rules, names and alternatives checked for one object: some tenths of a second. A
/// schema and an object of three megabytes each could require the product of their sizes.
const STEPS_MAX: usize = 5_000_000;

/// Returns all problems of `value`.
pub(crate) fn validate(schema: &Schema, value: &Value) -> Vec<FieldError> {
    let mut check = Validator { errors: Vec::new(), problems_max: PROBLEMS_MAX, steps: STEPS_MAX };
    check.visit(schema, value, Path::Root);
    if check.steps == 0 {
        let why =
            format!("the schema and the object are too large together: more than {STEPS_MAX} steps to check");
        check.errors.push(FieldError::forbidden("", &why));
    }
    check.errors
}

struct Validator {
    errors: Vec<FieldError>,
    problems_max: usize,
    /// Remaining steps of [`STEPS_MAX`].
    steps: usize,
}

impl Validator {
    /// Takes steps; returns false when none are left.
    fn step(&mut self, count: usize) -> bool {
        self.steps = self.steps.saturating_sub(count);
        self.steps > 0
    }

    /// Records a problem, unless only the number of problems matters or there are enough already.
    fn fail(&mut self, error: impl FnOnce() -> FieldError) {
        if self.errors.len() < self.problems_max {
            self.errors.push(error());
        }
    }

    fn visit(&mut self, schema: &Schema, value: &Value, path: Path<'_>) {
        let own = schema.resolved();
        if !self.step(1)
            || self.errors.len() >= self.problems_max
            || (value.is_null() && (own.nullable || own.kind == Type::Any))
        {
            return;
        }
        if !has_type(own.kind, value) {
            let found = type_name(value);
            return self.fail(|| {
                let detail = format!("{path} in body must be of type {}: \"{found}\"", own.kind.name());
                FieldError::wrong_type(path, &found.into(), detail)
            });
        }
        if let Some(rules) = &own.rules {
            self.rules(rules, value, path);
        }
        match value {
            Value::Object(map) => {
                self.step(own.required.len());
                for key in own.required.iter().filter(|key| !map.contains_key(&***key)) {
                    self.fail(|| FieldError::required(path.field(key), ""));
                }
                for (key, inner) in map {
                    if let Some(schema) = own.properties.get(key.as_str()).or(own.additional.as_deref()) {
                        self.visit(schema, inner, path.field(key));
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.visit(schema.item(), item, path.item(index));
                }
                self.duplicates(own, items, path);
            }
            _ => {}
        }
    }

    fn rules(&mut self, rules: &Rules, value: &Value, path: Path<'_>) {
        if !self.step(rules.allowed.len()) {
            return;
        }
        if !rules.allowed.is_empty() && !rules.allowed.contains(value) {
            self.fail(|| {
                let names: Vec<String> = rules.allowed.iter().map(name_of).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                FieldError::not_supported(path, value, &names)
            });
        }
        match value {
            Value::Number(number) => self.numeric(rules, number.as_f64().unwrap_or(0.0), value, path),
            Value::String(text) => self.textual(rules, text, value, path),
            Value::Array(items) => self.sized_list(rules, items, path),
            Value::Object(map) => {
                let count = map.len();
                if let Some(min) = rules.properties_min.filter(|min| count < *min) {
                    let detail = format!("{path} in body should have at least {min} properties");
                    self.fail(|| FieldError::invalid(path, &count.into(), detail));
                }
                if let Some(max) = rules.properties_max.filter(|max| count > *max) {
                    self.fail(|| FieldError::too_many(path, count, max));
                }
            }
            _ => {}
        }
        self.combined(rules, value, path);
    }

    fn numeric(&mut self, rules: &Rules, number: f64, value: &Value, path: Path<'_>) {
        let mut fail = |words: String| {
            self.fail(|| FieldError::invalid(path, value, format!("{path} in body should be {words}")));
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
        let whole = |factor: &f64| (number / factor).fract() == 0.0;
        if let Some(factor) = rules.multiple_of.filter(|factor| *factor > 0.0 && !whole(factor)) {
            fail(format!("a multiple of {factor}"));
        }
    }

    fn textual(&mut self, rules: &Rules, text: &str, value: &Value, path: Path<'_>) {
        let length = text.chars().count();
        if let Some(min) = rules.length_min.filter(|min| length < *min) {
            let detail = format!("{path} in body should be at least {min} chars long");
            self.fail(|| FieldError::invalid(path, value, detail));
        }
        if let Some(max) = rules.length_max.filter(|max| length > *max) {
            self.fail(|| FieldError::too_long(path, max));
        }
        if let Some(pattern) = &rules.pattern {
            // Matching is linear in the text, but with a large factor.
            self.step(text.len());
            if !pattern.matches(text) {
                let detail = format!("{path} in body should match '{}'", shortened(&pattern.text));
                self.fail(|| FieldError::invalid(path, value, detail));
            }
        }
    }

    fn sized_list(&mut self, rules: &Rules, items: &[Value], path: Path<'_>) {
        let count = items.len();
        if let Some(min) = rules.items_min.filter(|min| count < *min) {
            let detail = format!("{path} in body should have at least {min} items");
            self.fail(|| FieldError::invalid(path, &count.into(), detail));
        }
        if let Some(max) = rules.items_max.filter(|max| count > *max) {
            self.fail(|| FieldError::too_many(path, count, max));
        }
        if rules.unique {
            let mut seen = BTreeSet::new();
            if !items.iter().all(|item| seen.insert(item.to_string())) {
                let detail = format!("{path} in body shouldn't contain duplicates");
                self.fail(|| FieldError::invalid(path, &count.into(), detail));
            }
        }
    }

    /// Returns whether the value is valid against the schema, without recording problems.
    fn passes(&mut self, schema: &Schema, value: &Value) -> bool {
        let mut check = Validator { errors: Vec::new(), problems_max: 1, steps: self.steps };
        check.visit(schema, value, Path::Root);
        self.steps = check.steps;
        check.errors.is_empty()
    }

    fn combined(&mut self, rules: &Rules, value: &Value, path: Path<'_>) {
        for schema in &rules.all_of {
            self.visit(schema, value, path);
        }
        let any = rules.any_of.is_empty() || rules.any_of.iter().any(|schema| self.passes(schema, value));
        let one = rules.one_of.iter().filter(|schema| self.passes(schema, value)).count();
        let not = rules.not.as_deref().is_some_and(|schema| self.passes(schema, value));
        let mut fail = |words: &str| {
            self.fail(|| FieldError::invalid(path, value, format!("\"{path}\" must {words}")));
        };
        if !any {
            fail("validate at least one schema (anyOf)");
        }
        match one {
            _ if rules.one_of.is_empty() => {}
            1 => {}
            0 => fail("validate one and only one schema (oneOf). Found none valid"),
            count => {
                fail(&format!("validate one and only one schema (oneOf). Found {count} valid alternatives"));
            }
        }
        if not {
            fail("not validate the schema (not)");
        }
    }

    fn duplicates(&mut self, schema: &Schema, items: &[Value], path: Path<'_>) {
        let identity = |item: &Value| match &schema.list {
            ListType::Atomic => None,
            ListType::Set => Some(item.clone()),
            ListType::Map(keys) => {
                let picked = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                Some(Value::Object(picked.collect()))
            }
        };
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let Some(identity) = identity(item) else { return };
            if !seen.insert(identity.to_string()) {
                self.fail(|| FieldError::duplicate(path.item(index), &identity));
            }
        }
    }
}

fn name_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_and_an_object_that_are_large_together_are_refused() {
        let names: Vec<String> = (0..20_000).map(|index| format!("n{index}")).collect();
        for schema in [
            json!({"type": "array", "items": {"type": "object", "required": names}}),
            json!({"type": "array", "items": {"enum": names}}),
            json!({"type": "array", "items": {"anyOf": vec![json!({"type": "string"}); 20_000]}}),
        ] {
            let errors = validate(&Schema::read(&schema), &Value::Array(vec![json!({}); 20_000]));
            assert!(errors.len() <= PROBLEMS_MAX + 1, "{}", errors.len());
        }
        let all: Vec<Value> = (0..5_000).map(|_| json!({"minProperties": 0})).collect();
        let schema = Schema::read(&json!({"type": "array", "items": {"type": "object", "allOf": all}}));
        let errors = validate(&schema, &Value::Array(vec![json!({}); 20_000]));
        let last = errors.last().map(ToString::to_string).unwrap_or_default();
        assert!(last.contains("too large together"), "{last}");
    }

    proptest::proptest! {
        #[test]
        fn any_schema_and_any_value_are_checked(schema in r#"[\[\]{}",:0-9]{0,6}(\{"(items|properties|additionalProperties|anyOf|not|enum|pattern|required|default|type)":[\[{"a-z0-9:,}\]]{0,12}\}?){0,3}"#, value in r#"[\[\]{}",:0-9a-z]{0,30}"#) {
            let schema: Value = serde_json::from_str(&schema).unwrap_or_default();
            let mut value: Value = serde_json::from_str(&value).unwrap_or_default();
            let schema = Schema::of_custom_resource(&schema);
            let _ = schema.apply_defaults(&mut value);
            validate(&schema, &value);
        }
    }
}
