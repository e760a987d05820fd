#!/bin/sh
# Applies a ScaledObject or a Deployment with something wrong in it: `wrong.sh KIND FIELD...`, each FIELD put where it
# belongs by its name.
kind=$1
shift
case $kind in
scaled-object)
    min=1 max=5 type=prometheus query=up threshold=1 spec= trigger= target=web
    for field; do eval "${field%%=*}=\${field#*=}"; done
    kubectl apply -f - <<MANIFEST
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: wrong}
spec:
  scaleTargetRef: {name: $target}
  minReplicaCount: $min
  maxReplicaCount: $max
  $spec
  triggers:
  - type: $type
    metadata: {serverAddress: "http://prometheus:9090", query: '$query', threshold: "$threshold"}
    $trigger
MANIFEST
    ;;
deployment)
    name=wrong replicas=1 label=wrong container=
    for field; do eval "${field%%=*}=\${field#*=}"; done
    kubectl apply -f - <<MANIFEST
apiVersion: apps/v1
kind: Deployment
metadata: {name: $name}
spec:
  replicas: $replicas
  selector: {matchLabels: {app: wrong}}
  template:
    metadata: {labels: {app: $label}}
    spec:
      containers:
      - name: c
        image: webmakaka/house-price-model
        $container
MANIFEST
    ;;
esac
