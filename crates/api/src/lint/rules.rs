//! Every rule: its name, how bad it is to break it, and why it matters.

use super::Check::{Live, Manifests, Reader};
use super::Severity::{Error, Info, Warning};
use super::{Check, Rule, Severity};
use super::{
    autoscalers, bounds, differences, limits, live, monitors, ports, queries, resources, windows, workloads,
};

const fn rule(code: &'static str, severity: Severity, check: Check, why: &'static str) -> Rule {
    Rule { code, severity, why, check }
}

/// Every rule, in the order of the documentation: files, queries, scraping, autoscalers, workloads, running
/// worlds, differences.
pub const RULES: &[Rule] = &[
    rule(
        "malformed-yaml",
        Error,
        Reader,
        "What is not YAML is not applied; kubectl stops at it and leaves the rest of the file out.",
    ),
    rule("helm-template", Error, Reader, "A template is no manifest before Helm has filled in its values."),
    rule("refused", Error, Reader, "The API server refuses the object, so nothing of it is applied."),
    rule("unknown-kind", Info, Reader, "Without the definition of the kind, only its form can be checked."),
    rule(
        "defined-twice",
        Warning,
        Reader,
        "Each definition replaces the one before; which is in force depends on the order of the files.",
    ),
    rule(
        "average-of-quantile",
        Error,
        Manifests(queries::average_of_quantile),
        "AverageValue divides the result by the number of replicas, so a latency looks the better the more replicas there \
         are, and the workload stops short of its target.",
    ),
    rule(
        "quantile-without-le",
        Error,
        Manifests(queries::quantile_without_le),
        "histogram_quantile reads the buckets by their label le; without it the result is empty.",
    ),
    rule(
        "several-series",
        Error,
        Manifests(queries::several_series),
        "A trigger needs one number; KEDA fails when the result has several series.",
    ),
    rule(
        "counter-without-rate",
        Warning,
        Manifests(queries::raw_counter),
        "A counter only grows, so its value says how long the pods have run, not how much they have to do.",
    ),
    rule(
        "query-may-vanish",
        Warning,
        Manifests(queries::may_vanish),
        "A comparison without bool is a filter: where it does not hold the result is empty, which KEDA reads as 0.",
    ),
    rule(
        "short-window",
        Warning,
        Manifests(queries::short_window),
        "A rate needs two samples; under four scrape intervals one missed scrape leaves a gap that reads as no data.",
    ),
    rule(
        "threshold-unit",
        Warning,
        Manifests(queries::threshold_unit),
        "Prometheus measures in seconds and shares of 1; a threshold in another unit is never reached, or always.",
    ),
    rule(
        "coarse-histogram",
        Info,
        Manifests(queries::coarse_histogram),
        "A quantile is interpolated inside a bucket: it is as exact as the bounds are close.",
    ),
    rule(
        "ignored-parameter",
        Info,
        Manifests(queries::ignored_parameter),
        "KEDA no longer reads metricName; the metric is named after the trigger's place.",
    ),
    rule(
        "misplaced-parameter",
        Warning,
        Manifests(queries::misplaced_parameter),
        "KEDA reads the settings of a trigger beside its type; what metadata has in addition is ignored without a word.",
    ),
    rule(
        "nothing-scraped",
        Error,
        Manifests(monitors::nothing_scraped),
        "Without a scrape there are no series, the query returns nothing, and KEDA reads nothing as no load.",
    ),
    rule(
        "monitor-selects-nothing",
        Error,
        Manifests(monitors::selects_nothing),
        "A ServiceMonitor selects Services by the labels of the Service, not of its pods, in the namespaces it names.",
    ),
    rule(
        "pod-monitor-selects-nothing",
        Warning,
        Manifests(monitors::selects_no_pods),
        "A PodMonitor selects pods by their own labels, in the namespaces it names.",
    ),
    rule(
        "monitor-port-unknown",
        Error,
        Manifests(ports::port_unknown),
        "port is a name: of a port of the Service, or for a PodMonitor of the container; a number or another name \
         matches nothing.",
    ),
    rule(
        "port-number-quoted",
        Error,
        Manifests(ports::number_quoted),
        "A number in quotes is taken for a port's name, which no port has, so nothing is scraped.",
    ),
    rule(
        "endpoint-without-port",
        Warning,
        Manifests(ports::endpoint_without_port),
        "prometheus-operator then scrapes all ports, and those that have no metrics are targets that are always down.",
    ),
    rule(
        "service-selects-nothing",
        Error,
        Manifests(monitors::service_selects_nothing),
        "A Service without pods has no endpoints, so nothing is reached and nothing is scraped.",
    ),
    rule(
        "metrics-port-undeclared",
        Warning,
        Manifests(ports::port_undeclared),
        "If no container listens there, every scrape is refused and the series never exist.",
    ),
    rule(
        "metrics-path",
        Info,
        Manifests(monitors::metrics_path),
        "A page that is not metrics is a failed scrape, and leaves no series.",
    ),
    rule(
        "monitor-release-label",
        Warning,
        Manifests(monitors::release_label),
        "kube-prometheus-stack only looks at monitors with the label release of its Helm release, and says nothing about \
         the others.",
    ),
    rule(
        "two-autoscalers",
        Error,
        Manifests(autoscalers::two_autoscalers),
        "Each sets the replicas or requests back to what it wants itself.",
    ),
    rule(
        "two-axes-one-resource",
        Warning,
        Manifests(autoscalers::two_axes),
        "The VerticalPodAutoscaler changes the requests that utilization is measured against, so the two undo each other's \
         work.",
    ),
    rule(
        "target-without-scale",
        Error,
        Manifests(autoscalers::without_scale),
        "Replicas are read and written through the scale subresource; without one nothing can be scaled.",
    ),
    rule(
        "target-missing",
        Warning,
        Manifests(autoscalers::target_missing),
        "An autoscaler whose target does not exist does nothing, and says so only in its conditions.",
    ),
    rule("min-above-max", Error, Manifests(bounds::min_above_max), "No number satisfies both bounds."),
    rule(
        "no-room-to-scale",
        Warning,
        Manifests(bounds::no_room),
        "Between equal bounds there is nothing to decide.",
    ),
    rule(
        "setting-without-effect",
        Warning,
        Manifests(bounds::setting_without_effect),
        "KEDA acts only between zero and one replica; everything above follows behavior.",
    ),
    rule(
        "never-activated",
        Error,
        Manifests(bounds::never_activated),
        "Without pods there is no use of CPU or memory, so nothing would ever start the first pod.",
    ),
    rule(
        "resource-idle-at-zero",
        Warning,
        Manifests(bounds::resource_idle_at_zero),
        "CPU and memory of no pods are nothing, so they count only above zero: the other triggers start the first pod and \
         end the last.",
    ),
    rule(
        "cron-never-opens",
        Error,
        Manifests(windows::never_opens),
        "A window that never opens asks for nothing, ever.",
    ),
    rule(
        "cron-without-effect",
        Warning,
        Manifests(windows::without_effect),
        "A cron trigger acts by what it adds while its window is open, and by closing it.",
    ),
    rule(
        "fallback-out-of-bounds",
        Warning,
        Manifests(bounds::fallback_out_of_bounds),
        "The bounds also hold for the fallback, so it never has as many replicas as it says.",
    ),
    rule(
        "replicas-in-manifest",
        Warning,
        Manifests(bounds::replicas_in_manifest),
        "Each apply of the workload, by hand or by GitOps, undoes what the autoscaler decided.",
    ),
    rule(
        "no-request",
        Error,
        Manifests(resources::no_request),
        "Utilization is use divided by request; without a request there is no utilization, and no scaling by it.",
    ),
    rule(
        "unreachable-utilization",
        Warning,
        Manifests(resources::unreachable_utilization),
        "Limits cap the use, so a target at or above them is never exceeded.",
    ),
    rule(
        "amount-unit",
        Warning,
        Manifests(resources::amount_unit),
        "A plain number is whole cores or bytes, which is hardly what was meant.",
    ),
    rule(
        "limit-below-request",
        Error,
        Manifests(resources::limit_below_request),
        "The API server refuses pods whose limit is below their request.",
    ),
    rule(
        "limit-above-max-allowed",
        Warning,
        Manifests(limits::above_max_allowed),
        "maxAllowed bounds the request; the limit keeps its ratio to it, and may grow over what a node has.",
    ),
    rule(
        "vpa-single-replica",
        Warning,
        Manifests(autoscalers::vpa_single_replica),
        "The VerticalPodAutoscaler evicts no pod of a workload with fewer than two replicas, unless it is told to.",
    ),
    rule(
        "vpa-mode-deprecated",
        Info,
        Manifests(autoscalers::deprecated_mode),
        "Each change of requests restarts a pod, which costs its warm-up and its cache.",
    ),
    rule(
        "no-readiness-probe",
        Warning,
        Manifests(workloads::no_readiness_probe),
        "Without a readiness probe a pod gets requests before its model is loaded, and new replicas count as soon as they \
         start.",
    ),
    rule(
        "no-startup-probe",
        Info,
        Manifests(workloads::no_startup_probe),
        "A liveness probe that fails while the model loads restarts the pod, which loads again.",
    ),
    rule(
        "moving-tag",
        Info,
        Manifests(workloads::moving_tag),
        "Old and new programs run side by side after a push, and nothing says which pod runs which.",
    ),
    rule(
        "query-fails",
        Error,
        Live(live::query_fails),
        "A trigger that cannot be read holds the replicas where they are.",
    ),
    rule(
        "series-missing",
        Error,
        Live(live::series_missing),
        "A query without series has no value; KEDA reads 0 and scales in, Flyball holds.",
    ),
    rule(
        "samples-old",
        Error,
        Live(live::samples_old),
        "A query looks back only so far; older samples are as good as none.",
    ),
    rule("target-down", Error, Live(live::target_down), "A target that cannot be scraped has no series."),
    rule(
        "pods-not-scraped",
        Warning,
        Live(live::pods_not_scraped),
        "Pods that nobody scrapes have no series.",
    ),
    rule(
        "threshold-never-near",
        Warning,
        Live(live::threshold_never_near),
        "A threshold that no load came near never scales out.",
    ),
    rule(
        "threshold-never-left",
        Warning,
        Live(live::threshold_never_left),
        "A threshold below every value keeps the workload at its maximum.",
    ),
    rule(
        "coarse-buckets",
        Warning,
        Live(live::coarse_buckets),
        "A quantile is interpolated inside a bucket: it is as exact as the bounds are close.",
    ),
    rule(
        "waiting-in-front",
        Warning,
        Live(live::waiting_in_front),
        "A server measures a request from when it takes it; what waits in front of it, in a queue or an event loop, only the \
         Service sees.",
    ),
    rule(
        "pinned-at-max",
        Warning,
        Live(live::pinned),
        "At the maximum, more load only makes every request slower.",
    ),
    rule(
        "pods-without-room",
        Error,
        Live(live::pods_without_room),
        "A pod that cannot be placed serves nothing, and its replica counts as wanted all the same.",
    ),
    rule(
        "flapping",
        Warning,
        Live(live::flapping),
        "Each turn starts pods that are stopped again before they pay off.",
    ),
    rule(
        "difference-no-data",
        Info,
        Manifests(differences::no_data),
        "No data is not no load: a dead exporter is no reason to scale in.",
    ),
    rule(
        "difference-polling",
        Info,
        Manifests(differences::polling),
        "The delays of KEDA and the HPA add up to most of a minute.",
    ),
    rule(
        "difference-to-zero",
        Info,
        Manifests(differences::to_zero),
        "The step from many replicas to none at once ignores scaleDown.",
    ),
    rule(
        "difference-pace",
        Info,
        Manifests(differences::pace),
        "One pace from the first replica to the last, whether behavior is written or not.",
    ),
    rule(
        "difference-both-axes",
        Info,
        Manifests(differences::both_axes),
        "Two controllers that each act on the other's result do not settle.",
    ),
];
