//! Writes to the API server: bounded in time, with errors as sentences.

use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::Serialize;
use serde_json::json;

use crate::api_error;
use crate::gather::workload::FIELD_MANAGER;

/// A write that takes longer has failed, and is tried again.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// The outcome of a write, or that it took too long, as a sentence.
pub(super) async fn in_time<T>(write: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(TIMEOUT, write).await {
        Ok(written) => written.map_err(|error| api_error::message(&error)),
        Err(_) => Err(format!("the API server has not answered within {} s", TIMEOUT.as_secs())),
    }
}

/// Writes a whole status. A merge would keep what it does not name, such as triggers that are gone.
pub(crate) async fn write_status<K>(api: &Api<K>, name: &str, status: &impl Serialize) -> kube::Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = json!([{ "op": "add", "path": "/status", "value": status }]);
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    api.patch_status(name, &parameters(), &Patch::Json::<()>(patch)).await.map(|_| ())
}
