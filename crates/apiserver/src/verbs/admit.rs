//! Runs the admission rules that other crates register: mutating rules on new objects first, then validating rules.

use serde_json::Value;

use super::Call;
use crate::admission::{AdmissionRequest, Operation, apply_patch, validate};
use crate::kinds::{Kind, Sub};
use crate::schema::decode;
use crate::status::{Failure, Result};

/// Runs the kind's mutating rules on a new object, and applies defaults again after each.
pub(crate) fn mutate(call: &Call<'_>, operation: Operation, object: &mut Value) -> Result<()> {
    for rule in call.server.mutation_rules(&call.kind) {
        let before = object.clone();
        let response = rule(&request(call, operation, Some(&before), None));
        response.warnings.into_iter().for_each(|warning| call.warn(warning));
        if let Some(patch) = response.patch {
            apply_patch(&call.kind, object, patch)?;
            call.kind.apply_defaults(object);
            canonical(&call.kind, object)?;
        }
    }
    Ok(())
}

/// Runs the kind's validating rules.
pub(crate) fn admit(
    call: &Call<'_>,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<()> {
    let rules = call.server.admission_rules(&call.kind);
    if rules.is_empty() {
        return Ok(());
    }
    for warning in validate(&rules, &call.kind, &request(call, operation, object, old))? {
        call.warn(warning);
    }
    Ok(())
}

fn request<'a>(
    call: &'a Call<'_>,
    operation: Operation,
    object: Option<&'a Value>,
    old: Option<&'a Value>,
) -> AdmissionRequest<'a> {
    AdmissionRequest {
        operation,
        group: &call.kind.group,
        resource: &call.kind.plural,
        subresource: call.sub.map_or("", Sub::name),
        namespace: &call.namespace,
        name: &call.name,
        object,
        old_object: old,
        dry_run: call.parameters.dry_run,
        lookup: &call.server.store,
    }
}

/// Decodes a mutated object as if a client had sent it: canonicalizes quantities, refuses wrong types.
fn canonical(kind: &Kind, object: &mut Value) -> Result<()> {
    let Some(schema) = kind.schema().filter(|_| kind.row().is_some()) else { return Ok(()) };
    let report = decode::typed(&schema, object);
    match report.wrong.as_slice() {
        [] => Ok(()),
        wrong => {
            let wrong = wrong.join(", ");
            Err(Failure::internal(format!("an admission rule wrote values of the wrong type: {wrong}")))
        }
    }
}
