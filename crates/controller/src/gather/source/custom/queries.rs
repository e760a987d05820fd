//! Which series of the store are meant by a metric of a HorizontalPodAutoscaler, by the conventions of
//! prometheus-adapter: the metric's name is the series', its selector the matchers; `namespace` and the label named
//! like the object's kind say whose it is; a counter `X_total` is asked for as `X_per_second`. Several series are summed.

use flyball_api::plan::Ask;
use kube::core::{Expression, Selector};

/// The time that a counter's rate is taken over.
const RATE_WINDOW: &str = "1m";

/// The query; `exists` says whether the store has a series of that name.
pub(super) fn text(ask: &Ask, namespace: &str, exists: &dyn Fn(&str) -> bool) -> String {
    let in_namespace = ("namespace", namespace);
    match ask {
        Ask::Pods { metric, selector } => {
            format!("sum by (pod) ({})", series(metric, selector, &[in_namespace], "pod!=\"\"", exists))
        }
        Ask::Object { kind, name, metric, selector, .. } if kind == "Namespace" => {
            format!("sum({})", series(metric, selector, &[("namespace", name)], "", exists))
        }
        Ask::Object { kind, name, metric, selector, .. } => {
            let owner = kind.to_lowercase();
            format!("sum({})", series(metric, selector, &[in_namespace, (&owner, name)], "", exists))
        }
        Ask::External { metric, selector } => {
            let says_namespace = selector.to_string().split(',').any(|part| part.starts_with("namespace"));
            let place: &[_] = if says_namespace { &[] } else { &[in_namespace] };
            format!("sum({})", series(metric, selector, place, "", exists))
        }
        Ask::Resource { .. } | Ask::Trigger(_) => String::new(),
    }
}

/// The series of a metric, or the rate of the counter that its name stands for.
fn series(
    metric: &str,
    selector: &Selector,
    labels: &[(&str, &str)],
    more: &str,
    exists: &dyn Fn(&str) -> bool,
) -> String {
    let counter = metric.strip_suffix("_per_second").map(|name| format!("{name}_total"));
    let counter = counter.filter(|counter| !exists(metric) && exists(counter));
    let name = counter.as_deref().unwrap_or(metric);
    let mut matchers = vec![matcher("__name__", "=", name)];
    matchers.extend(labels.iter().map(|(label, value)| matcher(label, "=", value)));
    matchers.extend(selector.clone().into_iter().map(requirement));
    matchers.extend((!more.is_empty()).then(|| more.to_owned()));
    let selected = format!("{{{}}}", matchers.join(","));
    match counter {
        Some(_) => format!("rate({selected}[{RATE_WINDOW}])"),
        None => selected,
    }
}

fn requirement(requirement: Expression) -> String {
    match requirement {
        Expression::Equal(label, value) => matcher(&label, "=", &value),
        Expression::NotEqual(label, value) => matcher(&label, "!=", &value),
        Expression::In(label, values) => matcher(&label, "=~", &any_of(values)),
        Expression::NotIn(label, values) => matcher(&label, "!~", &any_of(values)),
        Expression::Exists(label) => matcher(&label, "!=", ""),
        Expression::DoesNotExist(label) => matcher(&label, "=", ""),
    }
}

/// Label values have no characters that mean something in a regular expression but the dot.
fn any_of(values: impl IntoIterator<Item = String>) -> String {
    values.into_iter().map(|value| value.replace('.', "\\.")).collect::<Vec<_>>().join("|")
}

/// Prometheus' label names know no dots and slashes.
fn matcher(label: &str, operator: &str, value: &str) -> String {
    let label: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{label}{operator}\"{value}\"")
}

#[cfg(test)]
mod tests {
    use flyball_api::selector::parse;
    use flyball_metrics::promql;

    use super::*;

    #[test]
    fn metrics_are_series_by_the_adapters_conventions() {
        let selector = |text: &str| parse(text).unwrap();
        let object = |kind: &str, name: &str| Ask::Object {
            api_version: "v1".to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            metric: "hits".to_owned(),
            selector: selector(""),
        };
        let external =
            |text: &str| Ask::External { metric: "queue.length".to_owned(), selector: selector(text) };
        let pods =
            |metric: &str| Ask::Pods { metric: metric.to_owned(), selector: selector("verb in (GET,PUT)") };
        let table = [
            (
                pods("in_flight"),
                r#"sum by (pod) ({__name__="in_flight",namespace="shop",verb=~"GET|PUT",pod!=""})"#,
            ),
            (
                pods("requests_per_second"),
                r#"sum by (pod) (rate({__name__="requests_total",namespace="shop",verb=~"GET|PUT",pod!=""}[1m]))"#,
            ),
            (object("Ingress", "main"), r#"sum({__name__="hits",namespace="shop",ingress="main"})"#),
            (object("Namespace", "shop"), r#"sum({__name__="hits",namespace="shop"})"#),
            (
                external("app.kubernetes.io/name=a.b,!old,tier notin (x.y),gpu"),
                r#"sum({__name__="queue.length",namespace="shop",app_kubernetes_io_name="a.b",old="",tier!~"x\\.y",gpu!=""})"#,
            ),
            (external("namespace=other"), r#"sum({__name__="queue.length",namespace="other"})"#),
        ];
        for (ask, expected) in table {
            let found = text(&ask, "shop", &|name| name == "requests_total");
            assert_eq!(found, expected);
            assert!(promql::parse(&found).is_ok(), "{found}: {:?}", promql::parse(&found).err());
        }
    }
}
