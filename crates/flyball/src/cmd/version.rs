//! `flyball version`: the version, and those of the projects whose rules it follows.
//!
//! The version of Kubernetes equals that of the embedded API server at `/version`; a test compares the two.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::{Version, WhyOutput};
use crate::output;

const OWN: &str = env!("CARGO_PKG_VERSION");

/// The projects whose rules, constants and messages are followed: name, key in JSON and YAML, version.
const FOLLOWED: [(&str, &str, &str); 4] = [
    ("Kubernetes", "kubernetes", "1.37"),
    ("KEDA", "keda", "2.21.1"),
    ("VerticalPodAutoscaler", "verticalPodAutoscaler", "1.8"),
    ("Prometheus", "prometheus", "3.16"),
];

/// The text of `flyball --version`.
pub(crate) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nfollows Kubernetes 1.37, KEDA 2.21.1, VerticalPodAutoscaler 1.8, Prometheus 3.16"
);

pub(crate) fn run(options: &Version) -> Result<()> {
    match options.output {
        WhyOutput::Text => output::line(&format!("flyball {LONG}")),
        WhyOutput::Json => output::line(&serde_json::to_string_pretty(&data())?),
        WhyOutput::Yaml => output::line(serde_saphyr::to_string(&data())?.trim_end()),
    }
    Ok(())
}

/// Returns the versions in the shape of `kubectl version`.
fn data() -> Value {
    let mut numbers = OWN.split('.');
    let (major, minor) = (numbers.next(), numbers.next());
    let followed: serde_json::Map<_, _> =
        FOLLOWED.iter().map(|(_, key, version)| ((*key).to_owned(), json!(version))).collect();
    json!({
        "flyballVersion": {
            "major": major, "minor": minor, "gitVersion": format!("v{OWN}"),
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        },
        "follows": followed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_the_same_everywhere() {
        let (major, minor, _) = flyball_apiserver::KUBERNETES_VERSION;
        assert_eq!(FOLLOWED[0].2, format!("{major}.{minor}"));
        let named: Vec<String> =
            FOLLOWED.iter().map(|(name, _, version)| format!("{name} {version}")).collect();
        assert_eq!(LONG, format!("{OWN}\nfollows {}", named.join(", ")));
    }
}
