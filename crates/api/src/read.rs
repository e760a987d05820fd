//! Reads a JSON object as one of the kinds, with the path of the field where that fails.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::problem::{Checked, Problem};

/// The object as a kind. Unknown fields are left to the schema, which refuses them where the object is
/// stored.
///
/// # Errors The first field that has a wrong type or is missing, with its path.
pub fn read<T: DeserializeOwned>(object: &Value) -> Checked<T> {
    serde_path_to_error::deserialize(object).map_err(|error| {
        let path = error.path().to_string();
        let pointer = format!("/{}", path.replace('[', ".").replace(']', "").replace('.', "/"));
        let found = object.pointer(&pointer).cloned().unwrap_or(Value::Null);
        let field = if path == "." { String::new() } else { path };
        vec![Problem::invalid(field, found, error.inner().to_string())]
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::scaled_object::ScaledObject;

    #[test]
    fn the_path_of_a_wrong_field_is_told() {
        let good = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "model"},
            "spec": {"scaleTargetRef": {"name": "model"}, "triggers": [{"type": "cpu", "metadata": {"value": "50"}}]},
        });
        assert!(read::<ScaledObject>(&good).is_ok());
        for (pointer, value, expected) in [
            (
                "/spec/triggers/0/metadata/value",
                json!(50),
                "spec.triggers[0].metadata.value: Invalid value: 50: invalid type: integer `50`, expected \
                a string",
            ),
            (
                "/spec/scaleTargetRef",
                json!({}),
                "spec.scaleTargetRef: Invalid value: {}: missing field `name`",
            ),
            (
                "/spec",
                json!(3),
                "spec: Invalid value: 3: invalid type: integer `3`, expected struct ScaledObjectSpec",
            ),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            let problems = read::<ScaledObject>(&bad).unwrap_err();
            assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        }
    }
}
