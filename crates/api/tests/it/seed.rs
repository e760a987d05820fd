//! A published course's manifests for scaling a model, which must work as they are.

use std::path::PathBuf;

use flyball_api::kinds::crds;
use serde_json::Value;

/// Where the manifests are: `FLYBALL_SEED`, or beside the workspace.
fn directory() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/seed");
    let directory = PathBuf::from(std::env::var("FLYBALL_SEED").unwrap_or_else(|_| beside.to_owned()));
    if !directory.is_dir() {
        eprintln!("skipped: {} not found", directory.display());
        return None;
    }
    Some(directory)
}

/// Every manifest, by file name.
pub(crate) fn manifests() -> Vec<(String, Value)> {
    let Some(directory) = directory() else { return Vec::new() };
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, serde_saphyr::from_str(&text).unwrap())
        })
        .collect()
}

fn unknown_fields(path: &str, value: &Value, schema: &Value, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, child) in fields {
                let inner = &schema["properties"][name];
                let inner = if inner.is_null() { &schema["additionalProperties"] } else { inner };
                if inner.is_null() {
                    unknown.push(format!("{path}.{name}"));
                } else {
                    unknown_fields(&format!("{path}.{name}"), child, inner, unknown);
                }
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                unknown_fields(&format!("{path}[{index}]"), child, &schema["items"], unknown);
            }
        }
        _ => {}
    }
}

#[test]
fn no_field_is_unknown() {
    let definitions: Vec<Value> = crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    for (file, manifest) in manifests() {
        let kind = &manifest["kind"];
        let Some(crd) = definitions.iter().find(|crd| crd["spec"]["names"]["kind"] == *kind) else {
            continue;
        };
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut unknown = Vec::new();
        unknown_fields("spec", &manifest["spec"], schema, &mut unknown);
        assert_eq!(unknown, Vec::<String>::new(), "{file}");
    }
}
