//! Pods, workload controllers and Services on this machine, through the Kubernetes API only.
