//! The rules for TriggerAuthentication and ClusterTriggerAuthentication.
//!
//! Messages are those of KEDA's webhook (`apis/keda/v1alpha1/triggerauthentication_webhook.go`). KEDA leaves
//! out the rules for OAuth2 when some cloud identities are set; they are always checked here, as its
//! documentation has it.

use super::Admission;
use crate::kinds::trigger_authentication::{
    ClusterTriggerAuthentication, OAuth2, PodIdentity, TriggerAuthentication,
};
use crate::problem::Problem;

/// Checks a TriggerAuthentication that is created or changed.
pub fn admit_trigger_authentication(object: &TriggerAuthentication) -> Admission {
    admit(object.spec.pod_identity.as_ref(), object.spec.oauth2.as_ref())
}

/// Checks a ClusterTriggerAuthentication that is created or changed.
pub fn admit_cluster_trigger_authentication(object: &ClusterTriggerAuthentication) -> Admission {
    admit(object.spec.pod_identity.as_ref(), object.spec.oauth2.as_ref())
}

fn admit(identity: Option<&PodIdentity>, oauth2: Option<&OAuth2>) -> Admission {
    let mut problems = identity.map(check_identity).unwrap_or_default();
    problems.extend(oauth2.map(check_oauth2).unwrap_or_default());
    Admission { problems, warnings: Vec::new() }
}

fn check_identity(identity: &PodIdentity) -> Vec<Problem> {
    match identity.provider.as_str() {
        "azure-workload" => check_azure(identity),
        "aws" => check_aws(identity),
        _ => Vec::new(),
    }
}

fn check_azure(identity: &PodIdentity) -> Vec<Problem> {
    let field = |name: &str| format!("spec.podIdentity.{name}");
    let is_empty = |value: &Option<String>| value.as_deref() == Some("");
    let mut problems = Vec::new();
    if is_empty(&identity.identity_id) {
        let message = "identityId of PodIdentity should not be empty. If it's set, identityId has to be \
        different than \"\"";
        problems.push(Problem::invalid(field("identityId"), "", message));
    }
    let has_host = identity.identity_authority_host.as_deref().is_some_and(|host| !host.is_empty());
    if has_host && identity.identity_tenant_id.as_deref().unwrap_or_default().is_empty() {
        let message = "identityTenantID of PodIdentity should not be nil or empty when \
        identityAuthorityHost of PodIdentity is set";
        problems.push(Problem::required(field("identityTenantId"), message));
    } else if is_empty(&identity.identity_tenant_id) {
        let message = "identityTenantId of PodIdentity should not be empty. If it's set, identityTenantId \
        has to be different than \"\"";
        problems.push(Problem::invalid(field("identityTenantId"), "", message));
    }
    problems
}

fn check_aws(identity: &PodIdentity) -> Vec<Problem> {
    let mut problems = Vec::new();
    let role = identity.role_arn.as_deref().filter(|role| !role.is_empty());
    if let (Some(role), Some("workload")) = (role, identity.identity_owner.as_deref()) {
        let message = "roleArn of PodIdentity can't be set if KEDA isn't identityOwner";
        problems.push(Problem::invalid("spec.podIdentity.roleArn", role, message));
    }
    if let (None, Some(id)) = (role, identity.external_id.as_deref().filter(|id| !id.is_empty())) {
        let message = "externalID of PodIdentity requires roleArn to be set";
        problems.push(Problem::invalid("spec.podIdentity.externalID", id, message));
    }
    problems
}

fn check_oauth2(oauth2: &OAuth2) -> Vec<Problem> {
    let mut problems = Vec::new();
    if oauth2.client_id.is_empty() {
        problems.push(Problem::required(
            "spec.oauth2.clientId",
            "oauth2.clientId is required when oauth2 is configured",
        ));
    }
    let url = oauth2.token_url.as_str();
    if url.is_empty() {
        problems.push(Problem::required(
            "spec.oauth2.tokenUrl",
            "oauth2.tokenUrl is required when oauth2 is configured",
        ));
    } else if !is_http_url(url) {
        let message = "oauth2.tokenUrl must be a valid http or https URL";
        problems.push(Problem::invalid("spec.oauth2.tokenUrl", url, message));
    }
    problems
}

fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace))
}
