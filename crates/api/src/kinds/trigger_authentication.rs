//! KEDA's TriggerAuthentication and ClusterTriggerAuthentication: where a trigger's credentials come from.
//!
//! Fields and limits are those of KEDA 2.21 (`apis/keda/v1alpha1/triggerauthentication_types.go`). The two
//! kinds share one specification and one status; they differ in scope, names and columns.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// Declares one of the two kinds over the same fields.
macro_rules! authentication_kind {
    ($spec:ident { $($kube:tt)* }) => {
        /// Where a trigger's credentials come from.
        #[skip_serializing_none]
        #[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[kube(
            group = "keda.sh",
            version = "v1alpha1",
            status = "TriggerAuthenticationStatus",
            derive = "Default",
            derive = "PartialEq",
            $($kube)*
        )]
        #[serde(rename_all = "camelCase")]
        pub struct $spec {
            /// The cloud identity that the pod runs under.
            pub pod_identity: Option<PodIdentity>,
            /// Parameters read from Secrets.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub secret_target_ref: Vec<TargetRef>,
            /// Parameters read from ConfigMaps.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub config_map_target_ref: Vec<TargetRef>,
            /// Parameters read from the environment of the workload's container.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub env: Vec<EnvironmentRef>,
            /// A file with parameters, below the operator's root path for them.
            pub file_path: Option<String>,
            /// Parameters read from HashiCorp Vault.
            pub hashi_corp_vault: Option<HashiCorpVault>,
            /// Parameters read from Azure Key Vault.
            pub azure_key_vault: Option<AzureKeyVault>,
            /// Parameters read from Google Secret Manager.
            pub gcp_secret_manager: Option<GcpSecretManager>,
            /// Parameters read from AWS Secrets Manager.
            pub aws_secret_manager: Option<AwsSecretManager>,
            /// Parameters that are tokens of a ServiceAccount.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub bound_service_account_token: Vec<BoundServiceAccountToken>,
            /// Credentials of an OAuth2 client.
            pub oauth2: Option<OAuth2>,
        }
    };
}

authentication_kind!(TriggerAuthenticationSpec {
    kind = "TriggerAuthentication",
    namespaced,
    doc = "Holds the credentials of triggers in its namespace.",
    shortname = "ta",
    shortname = "triggerauth",
});

authentication_kind!(ClusterTriggerAuthenticationSpec {
    kind = "ClusterTriggerAuthentication",
    doc = "Holds the credentials of triggers in every namespace.",
    shortname = "cta",
    shortname = "clustertriggerauth",
});

/// Which objects use these credentials.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerAuthenticationStatus {
    /// The names of the ScaledObjects that use it, joined by commas.
    pub scaledobjects: Option<String>,
    /// The names of the ScaledJobs that use it, joined by commas.
    pub scaledjobs: Option<String>,
}

/// The cloud identity that the pod runs under.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentity {
    /// Whose identity it is.
    #[schemars(extend("enum" = ["azure-workload", "gcp", "aws", "aws-eks", "none"]))]
    pub provider: String,
    /// The client ID of an Azure identity.
    pub identity_id: Option<String>,
    /// The tenant of an Azure identity.
    pub identity_tenant_id: Option<String>,
    /// The authority host of an Azure identity.
    pub identity_authority_host: Option<String>,
    /// The AWS role to assume.
    pub role_arn: Option<String>,
    /// The external ID given when an AWS role is assumed.
    #[serde(rename = "externalID")]
    pub external_id: Option<String>,
    /// Whether the identity of KEDA or of the workload is used; keda if unset.
    #[schemars(extend("enum" = ["keda", "workload"]))]
    pub identity_owner: Option<String>,
}

/// One parameter, read from a key of a Secret or ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetRef {
    /// The parameter of the trigger.
    pub parameter: String,
    /// The name of the Secret or ConfigMap.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// One parameter, read from an environment variable.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentRef {
    /// The parameter of the trigger.
    pub parameter: String,
    /// The name of the variable.
    pub name: String,
    /// The container; the first one if unset.
    pub container_name: Option<String>,
}

/// Parameters read from HashiCorp Vault.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashiCorpVault {
    /// The URL of the Vault.
    pub address: String,
    /// How to log in.
    #[schemars(extend("enum" = ["token", "kubernetes"]))]
    pub authentication: String,
    /// The secrets to read.
    #[schemars(length(min = 1))]
    pub secrets: Vec<VaultSecret>,
    /// The Vault namespace.
    pub namespace: Option<String>,
    /// The credentials to log in with.
    pub credential: Option<VaultCredential>,
    /// The Vault role.
    pub role: Option<String>,
    /// The mount path of the login method.
    pub mount: Option<String>,
}

/// The credentials to log in to a Vault with.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultCredential {
    /// A token.
    pub token: Option<String>,
    /// The path of a ServiceAccount token.
    pub service_account: Option<String>,
    /// The name of a ServiceAccount.
    pub service_account_name: Option<String>,
}

/// One secret of a Vault.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultSecret {
    /// The parameter of the trigger.
    pub parameter: String,
    /// The path of the secret.
    pub path: String,
    /// The key in it.
    pub key: String,
    /// The kind of secret.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["", "secretV2", "secret", "pki"]))]
    pub kind: Option<String>,
    /// What a certificate to be issued should say.
    pub pki_data: Option<VaultPkiData>,
}

/// What a certificate to be issued should say.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultPkiData {
    /// The common name.
    pub common_name: Option<String>,
    /// Further names.
    pub alt_names: Option<String>,
    /// IP addresses.
    pub ip_sans: Option<String>,
    /// URIs.
    pub uri_sans: Option<String>,
    /// Other names.
    pub other_sans: Option<String>,
    /// How long it is valid.
    pub ttl: Option<String>,
    /// The encoding of the answer.
    pub format: Option<String>,
}

/// A value that is a key of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretValue {
    /// Where the value is.
    pub value_from: ValueFromSecret,
}

/// Where a value is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueFromSecret {
    /// The key of a Secret.
    pub secret_key_ref: SecretKeyRef,
}

/// A key of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// The name of the Secret.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// Parameters read from Azure Key Vault.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureKeyVault {
    /// The URI of the vault.
    pub vault_uri: String,
    /// The secrets to read.
    #[schemars(length(min = 1))]
    pub secrets: Vec<AzureKeyVaultSecret>,
    /// The credentials of an application.
    pub credentials: Option<AzureKeyVaultCredentials>,
    /// The identity to log in with.
    pub pod_identity: Option<PodIdentity>,
    /// The cloud that the vault is in.
    pub cloud: Option<AzureKeyVaultCloud>,
}

/// One secret of an Azure Key Vault.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AzureKeyVaultSecret {
    /// The parameter of the trigger.
    pub parameter: String,
    /// The name of the secret.
    pub name: String,
    /// The version; the newest if unset.
    pub version: Option<String>,
}

/// The credentials of an Azure application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureKeyVaultCredentials {
    /// The client ID.
    pub client_id: String,
    /// The tenant ID.
    pub tenant_id: String,
    /// The client secret.
    pub client_secret: SecretValue,
}

/// The cloud that an Azure Key Vault is in.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureKeyVaultCloud {
    /// The name of the cloud.
    #[serde(rename = "type")]
    pub kind: String,
    /// The resource URL of a private cloud.
    #[serde(rename = "keyVaultResourceURL")]
    pub key_vault_resource_url: Option<String>,
    /// The directory endpoint of a private cloud.
    pub active_directory_endpoint: Option<String>,
}

/// Parameters read from Google Secret Manager.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpSecretManager {
    /// The secrets to read.
    #[schemars(length(min = 1))]
    pub secrets: Vec<GcpSecret>,
    /// The credentials of a service account.
    pub credentials: Option<GcpCredentials>,
    /// The identity to log in with.
    pub pod_identity: Option<PodIdentity>,
}

/// One secret of Google Secret Manager.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GcpSecret {
    /// The parameter of the trigger.
    pub parameter: String,
    /// The ID of the secret.
    pub id: String,
    /// The version; latest if unset.
    pub version: Option<String>,
}

/// The credentials of a Google service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpCredentials {
    /// The key of the service account.
    pub client_secret: SecretValue,
}

/// Parameters read from AWS Secrets Manager.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsSecretManager {
    /// The secrets to read.
    #[schemars(length(min = 1))]
    pub secrets: Vec<AwsSecret>,
    /// The keys to log in with.
    pub credentials: Option<AwsCredentials>,
    /// The identity to log in with.
    pub pod_identity: Option<PodIdentity>,
    /// The AWS region.
    pub region: Option<String>,
}

/// One secret of AWS Secrets Manager.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsSecret {
    /// The parameter of the trigger.
    pub parameter: String,
    /// The name of the secret.
    pub name: String,
    /// The ID of the version.
    pub version_id: Option<String>,
    /// The stage of the version.
    pub version_stage: Option<String>,
    /// The key in a secret that is a JSON object.
    pub secret_key: Option<String>,
}

/// The keys of an AWS user.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsCredentials {
    /// The access key.
    pub access_key: SecretValue,
    /// The secret of the access key.
    pub access_secret_key: SecretValue,
    /// A session token.
    pub access_token: Option<SecretValue>,
}

/// A parameter that is a token of a ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundServiceAccountToken {
    /// The parameter of the trigger.
    pub parameter: String,
    /// The name of the ServiceAccount.
    pub service_account_name: String,
}

/// Credentials of an OAuth2 client.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2 {
    /// The grant type.
    #[serde(rename = "type", default)]
    pub kind: OAuth2Type,
    /// The client ID.
    pub client_id: String,
    /// The client secret.
    pub client_secret: Option<SecretValue>,
    /// Where tokens are issued.
    pub token_url: String,
    /// The scopes to ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Further parameters of the request for a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub token_url_params: BTreeMap<String, String>,
}

/// The grant type of an OAuth2 client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OAuth2Type {
    /// The client's own credentials.
    #[default]
    ClientCredentials,
}
