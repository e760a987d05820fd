//! To zero and back: a Service without pods keeps a request until there is one.

use std::thread;

use crate::http::{HOUSE, request};
use crate::needs::needs;
use crate::world::World;

/// Requests that arrive together while there is no pod.
const AT_ONCE: usize = 5;

/// A model that may go to zero after three seconds without requests, by the given bounds.
fn model(name: &str, bounds: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: model
        image: webmakaka/house-price-model
        ports: [{{containerPort: 8000}}]
        readinessProbe: {{httpGet: {{path: /ready, port: 8000}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: web, port: 8000}}, {{name: metrics, port: 9100}}]
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  endpoints: [{{port: metrics, path: /, interval: 15s, scrapeTimeout: 10s}}]
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: {name}}}
spec:
  scaleTargetRef: {{name: {name}}}
  {bounds}
  maxReplicaCount: 3
  cooldownPeriod: 3
  advanced: {{horizontalPodAutoscalerConfig: {{behavior: {{scaleDown: {{stabilizationWindowSeconds: 0}}}}}}}}
  triggers:
  - type: prometheus
    metadata:
      serverAddress: http://prometheus.monitoring.svc:9090
      query: sum(rate(http_requests_total{{service="{name}",handler="/predict"}}[5s]))
      threshold: "5"
"#
    )
}

/// The model goes to zero; requests that arrive then are all answered, by as many replicas as `bounds` asks for.
fn check(name: &str, bounds: &str, replicas_when_active: &str) {
    needs(&["kubectl"]);
    let world = World::up(&[]);
    world.apply(&model(name, bounds));
    let replicas = ["get", "deploy", name, "-o", "jsonpath={.spec.replicas}"];
    world.kubectl_until(&["get", "deploy", name, "--no-headers"], |row| row.contains("0/0"));

    let address = world.service(name);
    let senders: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || request(&address, "POST", "/predict", HOUSE))
        })
        .collect();
    for sender in senders {
        let (status, body) = sender.join().expect("it does not panic").expect("an answer");
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("predicted_price"), "{body}");
    }
    world.kubectl_until(&replicas, |count| count == replicas_when_active);
    let why =
        world.command(crate::world::FLYBALL, &["why", &format!("deploy/{name}"), "--last", "50"]).output();
    let why = crate::world::text(&why.expect("it runs").stdout);
    assert!(why.contains("RequestsWaiting"), "{why}");
    world.kubectl_until(&replicas, |count| count == "0");
}

pub(crate) fn min_replica_count_zero() {
    check("zero", "minReplicaCount: 0", "1");
}

pub(crate) fn idle_replica_count_zero() {
    check("idle", "minReplicaCount: 2\n  idleReplicaCount: 0", "2");
}
