//! Conditions as KEDA writes them: without a transition time, which is why they are not `meta/v1`'s.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// A condition without a transition time.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlainCondition {
    /// What the condition is about, such as Ready or Active.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// One word for why.
    pub reason: Option<String>,
    /// One sentence for why.
    pub message: Option<String>,
}
