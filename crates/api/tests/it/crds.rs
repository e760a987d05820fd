//! The definitions: names and columns as users know them, and schemas that Kubernetes accepts as structural.

use flyball_api::kinds::crds;
use serde_json::Value;

fn definitions() -> Vec<Value> {
    crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect()
}

fn strings(value: &Value) -> String {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

#[test]
fn names_scope_and_subresources_are_those_of_the_originals() {
    let described: Vec<String> = definitions()
        .iter()
        .map(|crd| {
            let version = &crd["spec"]["versions"][0];
            format!(
                "{} {} {} short={} categories={} subresources={}",
                crd["metadata"]["name"].as_str().unwrap(),
                version["name"].as_str().unwrap(),
                crd["spec"]["scope"].as_str().unwrap(),
                strings(&crd["spec"]["names"]["shortNames"]),
                strings(&crd["spec"]["names"]["categories"]),
                version["subresources"].as_object().map_or(0, |all| all.len()),
            )
        })
        .collect();
    let expected = [
        "scaledobjects.keda.sh v1alpha1 Namespaced short=so categories= subresources=1",
        "scaledjobs.keda.sh v1alpha1 Namespaced short=sj categories= subresources=1",
        "triggerauthentications.keda.sh v1alpha1 Namespaced short=ta,triggerauth categories= subresources=1",
        "clustertriggerauthentications.keda.sh v1alpha1 Cluster short=cta,clustertriggerauth categories= \
        subresources=1",
        "verticalpodautoscalers.autoscaling.k8s.io v1 Namespaced short=vpa categories= subresources=1",
        "verticalpodautoscalercheckpoints.autoscaling.k8s.io v1 Namespaced short=vpacheckpoint categories= \
        subresources=0",
        "servicemonitors.monitoring.coreos.com v1 Namespaced short=smon categories=prometheus-operator \
        subresources=1",
        "podmonitors.monitoring.coreos.com v1 Namespaced short=pmon categories=prometheus-operator \
        subresources=1",
        "scrapeconfigs.monitoring.coreos.com v1alpha1 Namespaced short=scfg categories=prometheus-operator \
        subresources=1",
    ];
    assert_eq!(described, expected);
}

#[test]
fn columns_are_those_of_the_originals() {
    for (name, expected) in [
        (
            "scaledobjects.keda.sh",
            "ScaleTargetKind ScaleTargetName Min Max Ready Active Fallback Paused Triggers Authentications \
            Age",
        ),
        ("scaledjobs.keda.sh", "Min Max Ready Active Paused Triggers Authentications Age"),
        (
            "triggerauthentications.keda.sh",
            "PodIdentity Secret Env VaultAddress ScaledObjects/1 ScaledJobs/1",
        ),
        (
            "clustertriggerauthentications.keda.sh",
            "PodIdentity Secret Env FilePath VaultAddress ScaledObjects/1 ScaledJobs/1",
        ),
        ("verticalpodautoscalers.autoscaling.k8s.io", "Mode CPU Mem Provided Age MinReplicas/1 OOMSeconds/1"),
        ("servicemonitors.monitoring.coreos.com", ""),
    ] {
        let definitions = definitions();
        let crd = definitions.iter().find(|crd| crd["metadata"]["name"] == name).unwrap();
        let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array();
        let described: Vec<String> = columns
            .into_iter()
            .flatten()
            .map(|column| match column["priority"].as_i64() {
                None | Some(0) => column["name"].as_str().unwrap().to_owned(),
                Some(priority) => format!("{}/{priority}", column["name"].as_str().unwrap()),
            })
            .collect();
        assert_eq!(described.join(" "), expected, "{name}");
    }
}

/// What a structural schema may say at every node, and what controller-gen says in the originals.
const KEYWORDS: &[&str] = &[
    "additionalProperties",
    "anyOf",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

fn check_structural(path: &str, schema: &Value, problems: &mut Vec<String>) {
    let Some(fields) = schema.as_object() else { return problems.push(format!("{path}: not an object")) };
    for keyword in fields.keys().filter(|keyword| !KEYWORDS.contains(&keyword.as_str())) {
        problems.push(format!("{path}: {keyword}"));
    }
    let int_or_string = fields.contains_key("x-kubernetes-int-or-string");
    if int_or_string == fields.get("type").is_some_and(Value::is_string) {
        problems.push(format!("{path}: needs a type or to be an int-or-string"));
    }
    if fields.contains_key("anyOf") && !int_or_string {
        problems.push(format!("{path}: anyOf"));
    }
    if fields.contains_key("properties") && fields.contains_key("additionalProperties") {
        problems.push(format!("{path}: properties and additionalProperties exclude each other"));
    }
    for (name, child) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        check_structural(&format!("{path}.{name}"), child, problems);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(child) = fields.get(inner) {
            check_structural(&format!("{path}.{inner}"), child, problems);
        }
    }
}

#[test]
fn schemas_are_structural() {
    let mut problems = Vec::new();
    for crd in definitions() {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        check_structural(&kind, &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut problems);
    }
    assert_eq!(problems, Vec::<String>::new());
}

fn defaults(path: &str, schema: &Value, found: &mut Vec<String>) {
    if let Some(default) = schema.get("default") {
        found.push(format!("{path}={default}"));
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        defaults(&format!("{path}.{name}"), child, found);
    }
    if let Some(items) = schema.get("items") {
        defaults(&format!("{path}[]"), items, found);
    }
}

#[test]
fn only_the_defaults_of_the_originals_are_in_the_schemas() {
    let mut found = Vec::new();
    for crd in definitions() {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        defaults(&kind, &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut found);
    }
    let expected = [
        r#"ScaledObject.spec.fallback.behavior="static""#,
        r#"TriggerAuthentication.spec.oauth2.type="clientCredentials""#,
        r#"ClusterTriggerAuthentication.spec.oauth2.type="clientCredentials""#,
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_scaled_job_has_the_schema_of_a_job() {
    let definitions = definitions();
    let crd = definitions.iter().find(|crd| crd["spec"]["names"]["kind"] == "ScaledJob").unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let job = schema.pointer("/properties/spec/properties/jobTargetRef").unwrap();
    assert_eq!(job["description"], "The Job to create.");
    assert_eq!(job["required"], serde_json::json!(["template"]));
    let container = "/properties/template/properties/spec/properties/containers/items/properties/resources";
    let limits = job.pointer(container).unwrap().pointer("/properties/limits/additionalProperties").unwrap();
    assert_eq!(limits["x-kubernetes-int-or-string"], true);
}

/// Every `required` of the schema as `path: names`, so that a field that becomes required by accident shows.
fn required(schema: &Value, path: &str, found: &mut Vec<String>) {
    let names = strings(&schema["required"]);
    if !names.is_empty() {
        found.push(format!("{path}: {names}"));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        required(property, &format!("{path}.{name}"), found);
    }
    if schema["items"].is_object() {
        required(&schema["items"], &format!("{path}[]"), found);
    }
}

#[test]
fn monitors_require_only_what_prometheus_operator_requires() {
    for definition in definitions() {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        if !kind.ends_with("Monitor") {
            continue;
        }
        let mut found = Vec::new();
        required(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &kind, &mut found);
        let settings = ["interval", "scrapeTimeout", "path", "port", "jobLabel", "status"];
        for line in found.iter().filter(|line| line.starts_with(&format!("{kind}.spec"))) {
            let names: Vec<&str> = line.split(": ").nth(1).unwrap().split(',').collect();
            assert!(settings.iter().all(|setting| !names.contains(setting)), "{line}");
        }
        assert!(
            found.iter().any(|line| line.starts_with(&format!("{kind}.spec: ")) && line.contains("selector")),
            "{found:?}"
        );
    }
}
