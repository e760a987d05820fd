//! In-process admission: rules that other crates add for their kinds, as webhooks would. Validating ones may refuse,
//! mutating ones answer with a JSON patch for a new object and are asked first.
//!
//! A rule is a pure function of the request and of what it can look up in the store; it runs after defaulting and
//! validation and before anything is stored. All rules of a resource are asked and their causes are put together.

use std::sync::Arc;

use serde_json::Value;

use crate::kinds::Kind;
use crate::status::{Failure, FieldError, ResourceName};
use crate::store::{Key, Store};

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A change, of the object or of a subresource.
    Update,
    /// A deletion.
    Delete,
}

/// A look into the store, for rules that depend on other objects.
pub trait Lookup {
    /// One object, in its stored version; `namespace` is "" for cluster-scoped kinds.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value>;
    /// The objects of a namespace, or of all with "".
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value>;
    /// Those of them that may have one of `names` as the value of some field: what a rule about names that are taken
    /// needs of a thousand neighbours. The others are not even read.
    fn list_naming(&self, group: &str, resource: &str, namespace: &str, names: &[&str]) -> Vec<Value>;
}

/// A request to judge.
pub struct AdmissionRequest<'a> {
    /// What is being done.
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
    /// Nothing will be stored.
    pub dry_run: bool,
    /// Other objects.
    pub lookup: &'a dyn Lookup,
}

/// The judgement.
#[derive(Debug, Clone, Default)]
pub struct AdmissionResponse {
    /// Why not; `None` allows.
    pub denied: Option<Denial>,
    /// Sentences for the client's `Warning` header.
    pub warnings: Vec<String>,
    /// From a mutating rule: the operations of a JSON patch (RFC 6902) to the object.
    pub patch: Option<Value>,
}

/// A refusal.
#[derive(Debug, Clone)]
pub struct Denial {
    /// The sentence for people.
    pub message: String,
    /// What is wrong with which field, when it is about fields.
    pub causes: Vec<FieldError>,
}

impl AdmissionResponse {
    /// Allows without a word.
    pub fn allowed() -> Self {
        Self::default()
    }

    /// Refuses with a sentence, shown as Kubernetes shows a webhook's.
    pub fn denied(message: impl Into<String>) -> Self {
        Self { denied: Some(Denial { message: message.into(), causes: Vec::new() }), ..Self::default() }
    }

    /// Refuses because of fields (422 Invalid), or allows when there are none.
    pub fn invalid(causes: Vec<FieldError>) -> Self {
        let denied = (!causes.is_empty()).then(|| Denial { message: String::new(), causes });
        Self { denied, ..Self::default() }
    }
}

/// An admission rule.
pub type Rule = Arc<dyn Fn(&AdmissionRequest<'_>) -> AdmissionResponse + Send + Sync>;

/// The rules by group and resource.
#[derive(Default)]
pub(crate) struct Rules(Vec<(String, String, Rule)>);

impl Rules {
    pub(crate) fn add(&mut self, group: &str, resource: &str, rule: Rule) {
        self.0.push((group.to_owned(), resource.to_owned(), rule));
    }

    /// The rules of a resource.
    pub(crate) fn of(&self, kind: &Kind) -> Vec<Rule> {
        let same =
            |(group, resource, _): &&(String, String, Rule)| *group == kind.group && *resource == kind.plural;
        self.0.iter().filter(same).map(|(_, _, rule)| rule.clone()).collect()
    }
}

/// Asks every rule; the warnings, or the refusal.
pub(crate) fn judge(
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

/// Applies what a mutating rule answered, as the API server applies a webhook's patch.
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
        // as the writer of JSON wrote them, quotes included
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
