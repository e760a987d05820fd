//! Roles and role bindings: stored and printed, but not enforced.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1;
use serde_json::Value;

use super::row::{Row, Sub, cluster_scoped, namespaced};
use crate::cells::{AGE, NAME, age, column};
use crate::names;
use crate::object::{at, name, text};
use crate::problems::Problems;

const RBAC: [&str; 2] = ["rbac.authorization.k8s.io", "v1"];

pub(crate) const CLUSTER_ROLE: Row = Row {
    name_rule: names::path_segment,
    ..cluster_scoped::<v1::ClusterRole>(RBAC, "ClusterRole", "clusterroles")
};

pub(crate) const CLUSTER_ROLE_BINDING: Row =
    binding(cluster_scoped::<v1::ClusterRoleBinding>(RBAC, "ClusterRoleBinding", "clusterrolebindings"));

pub(crate) const ROLE: Row =
    Row { name_rule: names::path_segment, ..namespaced::<v1::Role>(RBAC, "Role", "roles") };

pub(crate) const ROLE_BINDING: Row =
    binding(namespaced::<v1::RoleBinding>(RBAC, "RoleBinding", "rolebindings"));

const fn binding(row: Row) -> Row {
    Row {
        name_rule: names::path_segment,
        columns: const { &[NAME, column("Role"), AGE] },
        cells,
        validate_update: role_stays,
        ..row
    }
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!("{}/{}", text(object, "roleRef.kind"), text(object, "roleRef.name"));
    vec![name(object).into(), role.into(), age(object, now)]
}

fn role_stays(current: &Value, object: &Value, _: Option<Sub>, problems: &mut Problems) {
    if at(current, "roleRef") != at(object, "roleRef") {
        problems.invalid("roleRef", &object["roleRef"], "cannot change roleRef");
    }
}
