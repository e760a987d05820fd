//! In-process admission: rules that other crates register for their kinds, in place of webhooks. Mutating rules
//! return a JSON patch for a new object and run first; validating rules may refuse.
//!
//! A rule is a pure function of the request and of the objects it looks up. It runs after defaulting and validation
//! and before storage. All rules of a resource run, and their causes are combined.

use std::sync::Arc;

use serde_json::Value;

use crate::kinds::Kind;
use crate::status::{Failure, FieldError, ResourceName};
use crate::store::{Key, Store};

/// The operation being admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Creation of an object.
    Create,
    /// Update of the object or a subresource.
    Update,
    /// Deletion of the object.
    Delete,
}

/// Read access to the store, for rules that depend on other objects.
pub trait Lookup {
    /// Returns one object in its stored version; `namespace` is "" for cluster-scoped kinds.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value>;
    /// Lists the objects of a namespace, or of all namespaces with "".
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value>;
    /// Lists only the objects that may have one of `names` as some field's value, without parsing the others. A
    /// uniqueness rule needs this to stay fast among a thousand objects.
    fn list_naming(&self, group: &str, resource: &str, namespace: &str, names: &[&str]) -> Vec<Value>;
}

/// The request passed to a rule.
pub struct AdmissionRequest<'a> {
    /// The operation being admitted.
    pub operation: Operation,
    /// The API group of the resource ("" for core).
    pub group: &'a str,
    /// The plural name of the resource.
    pub resource: &'a str,
    /// `status`, `scale` … or "" for the object itself.
    pub subresource: &'a str,
    /// The namespace, "" for cluster-scoped kinds.
    pub namespace: &'a str,
    /// The name of the object.
    pub name: &'a str,
    /// The object to be stored; absent for deletions.
    pub object: Option<&'a Value>,
    /// The object as stored; absent for creations.
    pub old_object: Option<&'a Value>,
    /// Whether this is a dry run, which stores nothing.
    pub dry_run: bool,
    /// Access to other objects.
    pub lookup: &'a dyn Lookup,
}

/// A rule's response: allowed or denied, with warnings, and a patch.
#[derive(Debug, Clone, Default)]
pub struct AdmissionResponse {
    /// The refusal; `None` allows the request.
    pub denied: Option<Denial>,
    /// Messages for the client's `Warning` header.
    pub warnings: Vec<String>,
    /// A mutating rule's JSON patch (RFC 6902) of the object.
    pub patch: Option<Value>,
}

/// A refusal by a rule.
#[derive(Debug, Clone)]
pub struct Denial {
    /// The message shown to the user.
    pub message: String,
    /// The invalid fields, if any; they make the refusal a 422.
    pub causes: Vec<FieldError>,
}

impl AdmissionResponse {
    /// Allows the request without warnings.
    pub fn allowed() -> Self {
        Self::default()
    }

    /// Refuses with a message, formatted as Kubernetes formats a webhook's.
    pub fn denied(message: impl Into<String>) -> Self {
        Self { denied: Some(Denial { message: message.into(), causes: Vec::new() }), ..Self::default() }
    }

    /// Refuses because of invalid fields (422 Invalid), or allows if `causes` is empty.
    pub fn invalid(causes: Vec<FieldError>) -> Self {
        let denied = (!causes.is_empty()).then(|| Denial { message: String::new(), causes });
        Self { denied, ..Self::default() }
    }
}

/// An admission rule: a pure function of the request.
pub type Rule = Arc<dyn Fn(&AdmissionRequest<'_>) -> AdmissionResponse + Send + Sync>;

/// Registered rules by group and resource.
#[derive(Default)]
pub(crate) struct Rules(Vec<(String, String, Rule)>);

impl Rules {
    pub(crate) fn add(&mut self, group: &str, resource: &str, rule: Rule) {
        self.0.push((group.to_owned(), resource.to_owned(), rule));
    }

    /// Returns the rules of a resource.
    pub(crate) fn of(&self, kind: &Kind) -> Vec<Rule> {
        let same =
            |(group, resource, _): &&(String, String, Rule)| *group == kind.group && *resource == kind.plural;
        self.0.iter().filter(same).map(|(_, _, rule)| rule.clone()).collect()
    }
}

/// Runs every rule; returns their warnings, or the combined refusal.
pub(crate) fn validate(
    rules: &[Rule],
    kind: &Kind,
    request: &AdmissionRequest<'_>,
) -> Result<Vec<String>, Failure> {
    let (mut warnings, mut messages, mut causes) = (Vec::new(), Vec::new(), Vec::new());
    for rule in rules {
        let response = rule(request);
        warnings.extend(response.warnings);
        if let Some(denial) = response.denied {
            messages.extend(Some(denial.message).filter(|message| !message.is_empty()));
            causes.extend(denial.causes);
        }
    }
    if !causes.is_empty() {
        return Err(Failure::invalid(kind, request.name, &causes));
    }
    if !messages.is_empty() {
        let text = messages.join("; ");
        let message = format!("admission webhook \"{}\" denied the request: {text}", kind.qualified());
        return Err(Failure::new(403, "Forbidden", message));
    }
    Ok(warnings)
}

/// Applies a mutating rule's patch as the API server applies a webhook's.
pub(crate) fn apply_patch(kind: &Kind, object: &mut Value, patch: Value) -> Result<(), Failure> {
    let applied = serde_json::from_value::<json_patch::Patch>(patch)
        .map_err(|error| error.to_string())
        .and_then(|patch| json_patch::patch(object, &patch).map_err(|error| error.to_string()));
    applied.map_err(|error| {
        let rule = kind.qualified();
        Failure::internal(format!("the patch of the admission rule for {rule} does not apply: {error}"))
    })
}

impl Lookup for Store {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let storage = storage(group, resource);
        Store::get(self, &Key::new(&storage.into(), namespace, name)).map(|stored| stored.value())
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value> {
        let (found, _) = Store::list(self, &storage(group, resource).into(), namespace, None);
        found.iter().map(crate::store::Stored::value).collect()
    }

    fn list_naming(&self, group: &str, resource: &str, namespace: &str, names: &[&str]) -> Vec<Value> {
        let (found, _) = Store::list(self, &storage(group, resource).into(), namespace, None);
        // Quoted, as they appear in the stored JSON.
        let written: Vec<String> = names.iter().map(|name| Value::from(*name).to_string()).collect();
        let finders: Vec<_> = written.iter().map(memchr::memmem::Finder::new).collect();
        let names_one = |stored: &&crate::store::Stored| {
            finders.iter().any(|finder| finder.find(&stored.bytes).is_some())
        };
        found.iter().filter(names_one).map(crate::store::Stored::value).collect()
    }
}

fn storage(group: &str, resource: &str) -> String {
    format!("{}/{resource}", if group.is_empty() { "core" } else { group })
}
