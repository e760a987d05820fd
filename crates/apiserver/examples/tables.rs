//! Derives the tables of the API server from a version of Kubernetes: `src/schema/lists.txt` (how lists merge) from its OpenAPI
//! document, and `src/protobuf/messages.txt` (tags of fields) from its .proto files and Go types.
//!
//!     cargo run -p flyball-apiserver --example tables -- 1.37.2
//!
//! Needs Go and its module proxy, because the sources are published as Go modules. Lists are those of the stable
//! API groups. Messages are those already in the table plus the ones they refer to, so that the tables cover what
//! is served and no more.
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "a program that writes files")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LISTS: &str = "src/schema/lists.txt";
const MESSAGES: &str = "src/protobuf/messages.txt";
/// Modules with .proto files; their versions are 0.x where Kubernetes' are 1.x.
const STAGING: [&str; 3] = ["api", "apimachinery", "apiextensions-apiserver"];

fn main() -> Result<()> {
    let version = std::env::args().nth(1).ok_or("which version of Kubernetes? For example 1.37.2")?;
    let minor = version.strip_prefix("1.").ok_or("a version of Kubernetes begins with 1.")?;
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));

    let kubernetes = module(&format!("k8s.io/kubernetes@v{version}"))?;
    let openapi = fs::read(kubernetes.join("api/openapi-spec/swagger.json"))?;
    fs::write(home.join(LISTS), lists(&serde_json::from_slice(&openapi)?)?)?;

    let mut messages = BTreeMap::new();
    for name in STAGING {
        read_module(&module(&format!("k8s.io/{name}@v0.{minor}"))?, &mut messages)?;
    }
    let known = fs::read_to_string(home.join(MESSAGES))?;
    let wanted = known.lines().filter_map(|line| line.split('|').next()).map(str::to_owned).collect();
    fs::write(home.join(MESSAGES), closure(wanted, &messages))?;
    Ok(())
}

/// Downloads a Go module and returns its directory.
fn module(name: &str) -> Result<PathBuf> {
    eprintln!("{name}");
    let output = Command::new("go").args(["mod", "download", "-json", name]).output()?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let folder = answer["Dir"].as_str().ok_or_else(|| format!("{name}: {}", answer["Error"]))?;
    Ok(folder.into())
}

/// Returns the lines of `lists.txt`: definition, field, how it merges, keys.
fn lists(openapi: &Value) -> Result<String> {
    let definitions = openapi["definitions"].as_object().ok_or("the OpenAPI document has no definitions")?;
    let unstable = Regex::new(r"\.v\d+(alpha|beta)\d+\.")?;
    let mut table = String::new();
    for (name, definition) in definitions.iter().filter(|(name, _)| !unstable.is_match(name)) {
        if definition["x-kubernetes-map-type"] == "atomic" {
            table += &format!("{name} . atomic\n");
        }
        for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
            if let Some(how) = merge(schema) {
                table += &format!("{name} {field} {how}\n");
            }
        }
    }
    Ok(table)
}

/// Returns how a field merges, or `None` if as usual. Strategic patches have merge keys that server-side apply
/// ignores.
fn merge(schema: &Value) -> Option<String> {
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    let keys: Vec<&str> = keys.into_iter().flatten().filter_map(Value::as_str).collect();
    let by_patch = schema["x-kubernetes-patch-merge-key"].as_str();
    match (schema["x-kubernetes-list-type"].as_str(), schema["x-kubernetes-map-type"].as_str()) {
        (Some("map"), _) => Some(format!("map {}", keys.join(","))),
        (Some("set"), _) => Some("set".to_owned()),
        (_, Some("atomic")) => Some("atomic".to_owned()),
        _ => by_patch.map(|key| format!("map {key}")),
    }
}

/// The fields of a message: tag, JSON name, type.
type Fields = Vec<(u64, String, String)>;

/// Reads every package of a module.
fn read_module(folder: &Path, messages: &mut BTreeMap<String, Fields>) -> Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "generated.proto") {
                read_package(&folder, messages)?;
            }
        }
    }
    Ok(())
}

/// Reads one package: its messages from the .proto file, and from the Go types which of their fields are inline in
/// JSON.
fn read_package(folder: &Path, messages: &mut BTreeMap<String, Fields>) -> Result<()> {
    let proto = fs::read_to_string(folder.join("generated.proto"))?;
    let package = Regex::new(r"(?m)^package ([\w.]+);")?;
    let package = package.captures(&proto).ok_or("a .proto file without a package")?[1].to_owned();
    let inline = inline_fields(folder)?;
    let block = Regex::new(r"(?ms)^message (\w+) \{$(.*?)^\}")?;
    let line =
        Regex::new(r"(?m)^  (optional |repeated |required )?(map<string, *)?([\w.]+)>? (\w+) = (\d+);")?;
    for message in block.captures_iter(&proto) {
        let mut fields = Vec::new();
        for field in line.captures_iter(&message[2]) {
            let kind = type_name(&package, &field[3]);
            let kind = match (field.get(1).map(|word| word.as_str()), field.get(2)) {
                (_, Some(_)) => format!("{{}}{kind}"),
                (Some("repeated "), _) => format!("[]{kind}"),
                _ => kind,
            };
            let is_inline = inline.contains(&(message[1].to_owned(), field[4].to_owned()));
            let name = if is_inline { "*".to_owned() } else { field[4].to_owned() };
            fields.push((field[5].parse()?, name, kind));
        }
        messages.insert(type_name(&package, &message[1]), fields);
    }
    Ok(())
}

/// Returns struct and protobuf name of the fields that are inline in Go's JSON.
fn inline_fields(folder: &Path) -> Result<BTreeSet<(String, String)>> {
    let structs = Regex::new(r"(?ms)^type (\w+) struct \{$(.*?)^\}")?;
    let inline =
        Regex::new(r#"(?m)^\s*(\w+) +`json:"(?:,inline)?" protobuf:"bytes,\d+,\w+(?:,name=(\w+))?"#)?;
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "go") {
            let go = fs::read_to_string(&path)?;
            for one in structs.captures_iter(&go) {
                for field in inline.captures_iter(&one[2]) {
                    // Without a name, the field has its type's name with a lower-case initial.
                    let of_type = || format!("{}{}", field[1][..1].to_lowercase(), &field[1][1..]);
                    let name = field.get(2).map_or_else(of_type, |name| name.as_str().to_owned());
                    found.insert((one[1].to_owned(), name));
                }
            }
        }
    }
    Ok(found)
}

/// Shortens `k8s.io.api.core.v1.Pod` to the table's `core.v1.Pod`. Scalars are unchanged; a name without dots
/// belongs to `package`.
fn type_name(package: &str, name: &str) -> String {
    let scalars = ["string", "bytes", "bool", "int32", "int64", "double"];
    if scalars.contains(&name) {
        return name.to_owned();
    }
    let full = if name.contains('.') {
        name.trim_start_matches('.').to_owned()
    } else {
        format!("{package}.{name}")
    };
    let parts: Vec<&str> = full.split('.').collect();
    match parts.as_slice() {
        // Packages without a version: resource.Quantity, intstr.IntOrString, runtime.RawExtension.
        [.., "api", "resource", name] => format!("resource.{name}"),
        [.., "util", "intstr", name] => format!("intstr.{name}"),
        [.., "pkg", "runtime", name] => format!("runtime.{name}"),
        [.., package, version, name] => format!("{package}.{version}.{name}"),
        _ => full,
    }
}

/// Returns the wanted messages and all messages they refer to, one per line.
fn closure(mut wanted: BTreeSet<String>, messages: &BTreeMap<String, Fields>) -> String {
    let mut queue: Vec<String> = wanted.iter().cloned().collect();
    while let Some(name) = queue.pop() {
        for (_, _, kind) in messages.get(&name).into_iter().flatten() {
            let kind = kind.trim_start_matches(['[', ']', '{', '}']).to_owned();
            if messages.contains_key(&kind) && wanted.insert(kind.clone()) {
                queue.push(kind);
            }
        }
    }
    // Their JSON is not an object; the decoder handles them by name.
    let special =
        ["resource.Quantity", "intstr.IntOrString", "meta.v1.Time", "meta.v1.MicroTime", "meta.v1.FieldsV1"];
    let line = |name: &String| {
        let fields = messages.get(name)?.iter().map(|(tag, name, kind)| format!("|{tag} {name} {kind}"));
        Some(format!("{name}{}\n", fields.collect::<String>()))
    };
    wanted.iter().filter(|name| !special.contains(&name.as_str())).filter_map(line).collect()
}
