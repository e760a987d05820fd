//! GET and LIST: selectors, pages, and the revision from which a watch can continue.
//!
//! Objects in the stored version are sent as their stored bytes. A page's `continue` token holds the revision of
//! the first page and the last key. Later pages read the current state, so a paged list followed by a watch from
//! its resourceVersion misses nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::Call;
use crate::selector::{Fields, Labels};
use crate::status::{Failure, Result};
use crate::store::{Key, Stored};

/// Maximum number of objects per response, whatever `limit` says; clients follow `continue`.
const PAGE_MAX: usize = 10_000;

/// A page of a list.
pub(crate) struct ListPage {
    pub(crate) items: Vec<Stored>,
    pub(crate) revision: u64,
    pub(crate) continue_token: Option<String>,
    /// Number of objects after this page; known only without selectors.
    pub(crate) remaining: Option<usize>,
}

/// The label and field selectors of a request.
pub(crate) struct Selection {
    pub(crate) labels: Labels,
    pub(crate) fields: Fields,
}

impl Selection {
    pub(crate) fn read(call: &Call<'_>) -> Result<Self> {
        let labels = Labels::parse(&call.parameters.label_selector)?;
        let parse =
            |selector: &str| Fields::parse(selector, &call.kind.plural, &call.kind.selectable_fields());
        let mut fields = parse(&call.parameters.field_selector)?;
        if !call.name.is_empty() {
            fields = parse(&format!("metadata.name={}", call.name))?;
        }
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        self.is_everything() || serde_json::from_slice(bytes).is_ok_and(|object| self.matches_object(&object))
    }

    fn matches_object(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

/// Parses a `resourceVersion` parameter.
pub(crate) fn revision(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        Failure::bad_request(format!("Invalid value: \"{text}\": resourceVersion must be a number"))
    })
}

/// Returns everything that the request selects, in one page; for deletecollection.
pub(crate) fn matching(call: &Call<'_>) -> Result<ListPage> {
    let selection = Selection::read(call)?;
    let (mut items, revision) = call.server.store.list(&call.kind.storage, &call.namespace, None);
    items.retain(|stored| selection.matches(&stored.bytes));
    Ok(ListPage { items, revision, continue_token: None, remaining: None })
}

/// Handles LIST: a page of the objects that the request selects.
pub(crate) fn list(call: &Call<'_>) -> Result<ListPage> {
    let selection = Selection::read(call)?;
    check_version(call)?;
    if let Some(name) =
        selection.fields.only_name().filter(|_| !call.namespace.is_empty() || !call.kind.namespaced)
    {
        return Ok(single_object(call, &selection, name));
    }
    let (revision_of_first, after) = match call.parameters.continue_token.as_str() {
        "" => (None, None),
        token => {
            let (revision, after) = parse_token(token)?;
            (Some(revision), Some(after))
        }
    };
    let (mut found, current) = call.server.store.list(&call.kind.storage, &call.namespace, after.as_deref());
    if !selection.is_everything() {
        found.retain(|stored| selection.matches(&stored.bytes));
    }
    let limit = call.parameters.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let remaining = found.len().saturating_sub(limit);
    found.truncate(limit);
    let revision = revision_of_first.unwrap_or(current);
    let last = if remaining > 0 { found.last() } else { None };
    let continue_token = last.map(|last| {
        let object = last.value();
        let key =
            Key::new(&call.kind.storage, crate::object::namespace(&object), crate::object::name(&object));
        URL_SAFE_NO_PAD.encode(format!("{revision} {}", key.path))
    });
    let remaining = Some(remaining).filter(|count| *count > 0 && selection.is_everything());
    Ok(ListPage { items: found, revision, continue_token, remaining })
}

fn single_object(call: &Call<'_>, selection: &Selection, name: &str) -> ListPage {
    let revision = call.server.store.revision();
    let found = call.server.store.get(&Key::new(&call.kind.storage, &call.namespace, name));
    let items = found.into_iter().filter(|stored| selection.matches(&stored.bytes)).collect();
    ListPage { items, revision, continue_token: None, remaining: None }
}

fn parse_token(token: &str) -> Result<(u64, String)> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (revision, after) = text.split_once(' ')?;
        Some((revision.parse().ok()?, after.to_owned()))
    };
    read()
        .ok_or_else(|| Failure::bad_request("continue key is not valid: it must be one that a list returned"))
}

/// Checks the requested resourceVersion. The state served is always the newest, which satisfies any existing
/// revision, but `Exact` only the newest.
fn check_version(call: &Call<'_>) -> Result<()> {
    let parameters = &call.parameters;
    let Some(text) = &parameters.resource_version else { return Ok(()) };
    let (wanted, current) = (revision(text)?, call.server.store.revision());
    if wanted > current {
        let mut failure =
            Failure::new(504, "Timeout", format!("Too large resource version: {wanted}, current: {current}"));
        let cause =
            serde_json::json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        failure.details = Some(serde_json::json!({"causes": [cause], "retryAfterSeconds": 1}));
        return Err(failure);
    }
    if parameters.resource_version_match.as_deref() == Some("Exact") && wanted != current {
        return Err(Failure::expired(format!(
            "The provided resource version is too old: {wanted} ({current})"
        )));
    }
    Ok(())
}
