//! PersistentVolumes, their claims, and StorageClasses.

use k8s_openapi::api::{core::v1, storage};
use serde_json::{Value, json};

use super::row::{Generation, Row, Sub, cluster_scoped, namespaced};
use crate::cells::{AGE, NAME, age, column};
use crate::object::{default, ensure, list, name, text};

const CORE: [&str; 2] = ["", "v1"];

pub(crate) const PERSISTENT_VOLUME: Row = Row {
    short_names: &["pv"],
    subresources: &[Sub::Status],
    defaults: |object| {
        let spec = ensure(object, "spec");
        default(spec, "persistentVolumeReclaimPolicy", "Retain");
        default(spec, "volumeMode", "Filesystem");
    },
    on_create: |object, _| object["status"] = json!({"phase": "Pending"}),
    generation: Generation::Never,
    ..cluster_scoped::<v1::PersistentVolume>(CORE, "PersistentVolume", "persistentvolumes")
};

pub(crate) const PERSISTENT_VOLUME_CLAIM: Row = Row {
    short_names: &["pvc"],
    subresources: &[Sub::Status],
    columns: const {
        &[
            NAME,
            column("Status"),
            column("Volume"),
            column("Capacity"),
            column("Access Modes"),
            column("StorageClass"),
            AGE,
        ]
    },
    cells: |object, now| {
        let modes: Vec<&str> = list(object, "spec.accessModes").iter().filter_map(Value::as_str).collect();
        vec![
            name(object).into(),
            text(object, "status.phase").into(),
            text(object, "spec.volumeName").into(),
            text(object, "status.capacity.storage").into(),
            modes.join(",").into(),
            text(object, "spec.storageClassName").into(),
            age(object, now),
        ]
    },
    defaults: |object| default(ensure(object, "spec"), "volumeMode", "Filesystem"),
    on_create: |object, _| object["status"] = json!({"phase": "Pending"}),
    generation: Generation::Never,
    ..namespaced::<v1::PersistentVolumeClaim>(CORE, "PersistentVolumeClaim", "persistentvolumeclaims")
};

pub(crate) const STORAGE_CLASS: Row = Row {
    short_names: &["sc"],
    defaults: |object| {
        default(object, "reclaimPolicy", "Delete");
        default(object, "volumeBindingMode", "Immediate");
    },
    ..cluster_scoped::<storage::v1::StorageClass>(["storage.k8s.io", "v1"], "StorageClass", "storageclasses")
};
