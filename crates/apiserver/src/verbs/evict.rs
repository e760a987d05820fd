//! Eviction: a deletion that PodDisruptionBudgets may refuse for now, with 429.
//!
//! Budgets are evaluated at the time of the request, over the pods that are ready then: `minAvailable` pods must
//! stay ready, or at most `maxUnavailable` of all matching pods may be missing (percentages are of the matching
//! pods, rounded up). Kubernetes reads `status.disruptionsAllowed` from a controller instead; evaluating here needs
//! no controller. A pod that is not ready may always be evicted, as with `unhealthyPodEvictionPolicy: AlwaysAllow`.

use serde_json::{Value, json};

use super::Call;
use super::delete::{Options, delete};
use crate::kinds::policy::POD_DISRUPTION_BUDGET;
use crate::object::{self, at, text};
use crate::selector::Labels;
use crate::status::{Failure, Result};

/// Handles POST of an Eviction.
pub(crate) async fn evict(call: &Call<'_>, eviction: &Value) -> Result<Value> {
    let named = text(eviction, "metadata.name");
    if !named.is_empty() && named != call.name {
        return Err(Failure::bad_request(format!(
            "name in URL does not match name in Eviction object: {} vs {named}",
            call.name
        )));
    }
    let pod = call.stored()?.value();
    let _evicting = call.server.eviction.lock().await;
    if is_ready(&pod) {
        for budget in budgets(call, &pod) {
            check_budget(call, &pod, &budget)?;
        }
    }
    let mut options = Options::read(call, eviction.get("deleteOptions").unwrap_or(&Value::Null))?;
    options.dry_run |= call.parameters.dry_run;
    delete(call, &options).await?;
    Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}

fn is_ready(pod: &Value) -> bool {
    at(pod, "metadata.deletionTimestamp").is_none()
        && object::list(pod, "status.conditions")
            .iter()
            .any(|condition| text(condition, "type") == "Ready" && text(condition, "status") == "True")
}

fn budgets(call: &Call<'_>, pod: &Value) -> Vec<Value> {
    let storage = POD_DISRUPTION_BUDGET.storage().into();
    let (found, _) = call.server.store.list(&storage, &call.namespace, None);
    let covers = |budget: &Value| {
        at(budget, "spec.selector").is_some_and(|selector| Labels::from_object(selector).matches(pod))
    };
    found.iter().map(crate::store::Stored::value).filter(covers).collect()
}

fn check_budget(call: &Call<'_>, pod: &Value, budget: &Value) -> Result<()> {
    let selector = Labels::from_object(&budget["spec"]["selector"]);
    let (pods, _) = call.server.store.list(&call.kind.storage, object::namespace(pod), None);
    let pods: Vec<Value> =
        pods.iter().map(crate::store::Stored::value).filter(|pod| selector.matches(pod)).collect();
    let healthy = pods.iter().filter(|pod| is_ready(pod)).count();
    let needed = match (at(budget, "spec.minAvailable"), at(budget, "spec.maxUnavailable")) {
        (Some(minimum), _) => scaled(minimum, pods.len()),
        (None, Some(maximum)) => pods.len().saturating_sub(scaled(maximum, pods.len())),
        (None, None) => 1,
    };
    if healthy > needed {
        return Ok(());
    }
    let mut failure =
        Failure::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 0);
    let message = format!(
        "The disruption budget {} needs {needed} healthy pods and has {healthy} currently",
        object::name(budget)
    );
    failure.details = Some(json!({"causes": [{"reason": "DisruptionBudget", "message": message}]}));
    Err(failure)
}

/// Resolves a number, or a percentage of `total` rounded up.
fn scaled(value: &Value, total: usize) -> usize {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<usize>().ok());
    match (value.as_u64(), percent) {
        (Some(number), _) => usize::try_from(number).unwrap_or(usize::MAX),
        (None, Some(percent)) => total.saturating_mul(percent).div_ceil(100),
        (None, None) => 0,
    }
}
