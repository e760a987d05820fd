//! Reviews of identity and access. A client with the token may do everything.

use serde_json::{Value, json};

use super::Call;
use crate::status::{Failure, Result};

/// Returns the review with its status.
pub(crate) fn answer(call: &mut Call<'_>, mut review: Value, user: &str) -> Result<Value> {
    if !review.is_object() {
        return Err(Failure::bad_request(format!("the body must be a {} object", call.kind.kind)));
    }
    super::write::identify(call, &mut review)?;
    super::write::decode_and_default(call, &mut review, Vec::new())?;
    let groups = json!(["system:masters", "system:authenticated"]);
    review["status"] = match call.kind.kind.as_str() {
        "SelfSubjectReview" => json!({"userInfo": {"username": user, "groups": groups}}),
        "SelfSubjectRulesReview" => json!({
            "incomplete": false,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }),
        _ => json!({"allowed": true, "reason": "the owner of the token may do everything"}),
    };
    Ok(review)
}
