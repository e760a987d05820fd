//! The walls between the crates: an arrow that ARCHITECTURE.md does not draw fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// A crate, the crates of ours that it may use, and, for a pure one, all that it may lean on.
type Wall = (&'static str, &'static [&'static str], Option<&'static [&'static str]>);

/// Every crate of ours.
const ALLOWED: &[Wall] = &[
    ("flyball-engine", &[], Some(&["serde", "thiserror", "jiff"])),
    (
        "flyball-metrics",
        &[],
        Some(&[
            "serde",
            "serde_json",
            "thiserror",
            "regex",
            "regex-syntax",
            "memchr",
            "md-5",
            "prost",
            "snap",
            "crc32fast",
            "parking_lot",
        ]),
    ),
    (
        "flyball-api",
        &["flyball-engine"],
        Some(&[
            "serde",
            "serde_json",
            "serde_with",
            "serde_path_to_error",
            "schemars",
            "thiserror",
            "jiff",
            "kube",
            "k8s-openapi",
        ]),
    ),
    ("flyball-sim", &["flyball-engine"], Some(&["serde", "serde_json", "thiserror"])),
    ("flyball-apiserver", &[], None),
    ("flyball-local", &[], None),
    ("flyball-controller", &["flyball-api", "flyball-engine", "flyball-metrics"], None),
    ("flyball-model", &[], None),
    ("flyball-load", &[], None),
    (
        "flyball",
        &[
            "flyball-api",
            "flyball-apiserver",
            "flyball-controller",
            "flyball-engine",
            "flyball-load",
            "flyball-local",
            "flyball-metrics",
            "flyball-model",
            "flyball-sim",
        ],
        None,
    ),
];

/// Name of each workspace crate and the names of its normal dependencies.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages is a list");
    packages.iter().map(|package| (text(&package["name"]), normal_dependencies(package))).collect()
}

fn normal_dependencies(package: &serde_json::Value) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().expect("dependencies is a list");
    all.iter().filter(|d| d["kind"].is_null()).map(|d| text(&d["name"])).collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a name is a string").to_owned()
}

#[test]
fn every_crate_keeps_to_its_arrows() {
    let dependencies = dependencies();
    let drawn: BTreeSet<&str> = ALLOWED.iter().map(|(name, ..)| *name).collect();
    let found: BTreeSet<&str> = dependencies.keys().map(String::as_str).collect();
    assert_eq!(drawn, found, "the crates of the workspace and of this table differ");
    for (name, ours, leans_on) in ALLOWED {
        for dependency in &dependencies[*name] {
            let is_ours = dependency.starts_with("flyball");
            let allowed = if is_ours {
                ours.contains(&dependency.as_str())
            } else {
                leans_on.is_none_or(|allowed| allowed.contains(&dependency.as_str()))
            };
            assert!(allowed, "{name} -> {dependency} is not drawn in ARCHITECTURE.md");
        }
    }
}
