//! Reviews: answered on creation and never stored.

use k8s_openapi::api::{authentication, authorization::v1};

use super::row::{Row, cluster_scoped, namespaced};

const AUTHORIZATION: [&str; 2] = ["authorization.k8s.io", "v1"];

pub(crate) const SELF_SUBJECT_REVIEW: Row = review(cluster_scoped::<authentication::v1::SelfSubjectReview>(
    ["authentication.k8s.io", "v1"],
    "SelfSubjectReview",
    "selfsubjectreviews",
));

pub(crate) const LOCAL_SUBJECT_ACCESS_REVIEW: Row = review(namespaced::<v1::LocalSubjectAccessReview>(
    AUTHORIZATION,
    "LocalSubjectAccessReview",
    "localsubjectaccessreviews",
));

pub(crate) const SELF_SUBJECT_ACCESS_REVIEW: Row = review(cluster_scoped::<v1::SelfSubjectAccessReview>(
    AUTHORIZATION,
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
));

pub(crate) const SELF_SUBJECT_RULES_REVIEW: Row = review(cluster_scoped::<v1::SelfSubjectRulesReview>(
    AUTHORIZATION,
    "SelfSubjectRulesReview",
    "selfsubjectrulesreviews",
));

pub(crate) const SUBJECT_ACCESS_REVIEW: Row = review(cluster_scoped::<v1::SubjectAccessReview>(
    AUTHORIZATION,
    "SubjectAccessReview",
    "subjectaccessreviews",
));

const fn review(row: Row) -> Row {
    Row { review: true, ..row }
}
