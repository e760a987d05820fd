//! Defaults and validation of CustomResourceDefinitions (`apiextensions/v1/defaults.go`,
//! `apiextensions/validation`), and limits that keep a single CRD from exhausting the server.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::jsonpath::JsonPath;
use crate::names;
use crate::object::{self, at, list, text};
use crate::path::{Path, shortened};
use crate::schema::Pattern;
use crate::status::{FieldError, PROBLEMS_MAX};

/// Maximum number of nested schemas in a CRD: each field has one. Large CRDs have thousands, and each may take
/// kilobytes.
const SCHEMAS_MAX: usize = 30_000;
/// Maximum number of distinct patterns in a CRD. Each is compiled when the CRD is stored and may take a megabyte
/// once used.
const PATTERNS_MAX: usize = 200;
/// Maximum number of printer columns per version; each is evaluated for every object of a list.
pub(crate) const COLUMNS_MAX: usize = 64;
/// Maximum bytes of a path in `subresources.scale`.
const SCALE_PATH_BYTES_MAX: usize = 1024;

/// Defaults the names that derive from others.
pub(super) fn defaults(crd: &mut Value) {
    let kind = text(crd, "spec.names.kind").to_owned();
    let names = object::ensure(object::ensure(crd, "spec"), "names");
    object::default(names, "singular", kind.to_lowercase());
    object::default(names, "listKind", format!("{kind}List"));
    object::default(&mut crd["spec"], "conversion", json!({"strategy": "None"}));
}

/// Validates a CRD, including the limits on its schemas.
pub(super) fn validate(crd: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (group, plural, name) = (text(crd, "spec.group"), text(crd, "spec.names.plural"), object::name(crd));
    if name != format!("{plural}.{group}") {
        let detail = format!("must be spec.names.plural+\".\"+spec.group: {plural}.{group}");
        errors.push(FieldError::invalid("metadata.name", &name.into(), detail));
    }
    for (field, problem) in
        [("spec.group", names::dns_subdomain(group)), ("spec.names.plural", names::dns_label(plural))]
    {
        match problem {
            _ if text(crd, field).is_empty() => errors.push(FieldError::required(field, "")),
            Some(why) => errors.push(FieldError::invalid(field, &text(crd, field).into(), why)),
            None => {}
        }
    }
    if text(crd, "spec.names.kind").is_empty() {
        errors.push(FieldError::required("spec.names.kind", ""));
    }
    let scope = text(crd, "spec.scope");
    if !["Cluster", "Namespaced"].contains(&scope) {
        errors.push(FieldError::not_supported("spec.scope", &scope.into(), &["Cluster", "Namespaced"]));
    }
    if text(crd, "spec.conversion.strategy") != "None" {
        let strategy = &crd["spec"]["conversion"]["strategy"];
        errors.push(FieldError::not_supported("spec.conversion.strategy", strategy, &["None"]));
    }
    versions(crd, &mut errors);
    errors
}

fn versions(crd: &Value, errors: &mut Vec<FieldError>) {
    let versions = list(crd, "spec.versions");
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", &crd["spec"]["versions"], detail));
    }
    // The limits on schemas and patterns hold for all versions together: the server keeps them all.
    let mut schemas = Schemas::default();
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let name = text(version, "name");
        if let Some(why) = names::dns_1035_label(name) {
            errors.push(FieldError::invalid(format!("{path}.name"), &name.into(), why));
        }
        match at(version, "schema.openAPIV3Schema") {
            None => {
                errors.push(FieldError::required(
                    format!("{path}.schema.openAPIV3Schema"),
                    "schemas are required",
                ));
            }
            Some(schema) => {
                let path = format!("{path}.schema.openAPIV3Schema");
                schemas.visit(schema, Path::Root.field(&path), 0, errors);
            }
        }
        let columns = list(version, "additionalPrinterColumns");
        if columns.len() > COLUMNS_MAX {
            let path = format!("{path}.additionalPrinterColumns");
            errors.push(FieldError::too_many(path, columns.len(), COLUMNS_MAX));
        }
        for (index, column) in columns.iter().take(COLUMNS_MAX).enumerate() {
            if let Err(why) = JsonPath::parse(text(column, "jsonPath")) {
                let path = format!("{path}.additionalPrinterColumns[{index}].jsonPath");
                errors.push(FieldError::invalid(path, &column["jsonPath"], why));
            }
        }
        for field in ["specReplicasPath", "statusReplicasPath", "labelSelectorPath"] {
            let field = format!("subresources.scale.{field}");
            if text(version, &field).len() > SCALE_PATH_BYTES_MAX {
                errors.push(FieldError::too_long(format!("{path}.{field}"), SCALE_PATH_BYTES_MAX));
            }
        }
    }
    if schemas.count > SCHEMAS_MAX {
        let why = format!("the schemas have more than {SCHEMAS_MAX} fields in total");
        errors.push(FieldError::forbidden("spec.versions", &why));
    }
    if schemas.patterns.len() > PATTERNS_MAX {
        let why = format!("the schemas have more than {PATTERNS_MAX} different patterns");
        errors.push(FieldError::forbidden("spec.versions", &why));
    }
}

/// Counts of what is limited in a CRD's schemas.
#[derive(Default)]
struct Schemas<'a> {
    count: usize,
    patterns: BTreeSet<&'a str>,
}

impl<'a> Schemas<'a> {
    fn visit(&mut self, schema: &'a Value, path: Path<'_>, depth: usize, errors: &mut Vec<FieldError>) {
        self.count += 1;
        if self.count > SCHEMAS_MAX || errors.len() > PROBLEMS_MAX {
            return;
        }
        if depth > crate::schema::DEPTH_MAX {
            return errors.push(FieldError::forbidden(path, "the schema is nested too deep"));
        }
        if schema.get("$ref").is_some() {
            errors.push(FieldError::forbidden(path.field("$ref"), "$ref is not supported"));
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
            self.pattern(pattern, path.field("pattern"), errors);
        }
        for (key, inner) in object::map(schema, "properties").into_iter().flatten() {
            let name = format!("properties[{}]", shortened(key));
            self.visit(inner, path.field(&name), depth + 1, errors);
        }
        for key in ["items", "additionalProperties", "not"] {
            if let Some(inner) = schema.get(key) {
                self.visit(inner, path.field(key), depth + 1, errors);
            }
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            let list_path = path.field(key);
            for (index, inner) in list(schema, key).iter().enumerate() {
                self.visit(inner, list_path.item(index), depth + 1, errors);
            }
        }
    }

    fn pattern(&mut self, pattern: &'a str, path: Path<'_>, errors: &mut Vec<FieldError>) {
        let new = self.patterns.len() <= PATTERNS_MAX && self.patterns.insert(pattern);
        if new && Pattern::compile(pattern).is_none() {
            let why =
                "must be a valid regular expression (look-around and back-references are not supported)";
            errors.push(FieldError::invalid(path, &pattern.into(), why));
        }
    }
}
