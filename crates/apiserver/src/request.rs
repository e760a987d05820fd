//! Parses URL paths and queries into [`RequestPath`] and [`Parameters`]; no other module reads URLs.
//!
//! Paths follow apiserver's `RequestInfoFactory`: `/api/v1/…` and `/apis/{group}/{version}/…`, optionally
//! `namespaces/{namespace}/`, then resource, name, subresource and (for proxies) the rest.

use std::borrow::Cow;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::status::{Failure, Result};

/// The path of a request for objects: group, version, resource, and optionally name and subresource.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RequestPath {
    pub(crate) group: String,
    pub(crate) version: String,
    /// "" for all namespaces or a cluster-scoped resource.
    pub(crate) namespace: String,
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// The path after the subresource, for proxies.
    pub(crate) rest: String,
}

impl RequestPath {
    /// Parses a path; `None` for non-resource paths (discovery, health …).
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let decoded: Vec<Cow<'_, str>> = path.trim_matches('/').split('/').map(percent_decoded).collect();
        let parts: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, after @ ..] if !after.is_empty() => (*namespace, after),
            _ => ("", rest),
        };
        let (plural, after) = rest.split_first()?;
        Some(Self {
            group: group.into(),
            version: version.into(),
            namespace: namespace.into(),
            plural: (*plural).into(),
            name: after.first().map(|name| (*name).into()),
            subresource: after.get(1).map(|name| (*name).into()),
            rest: after.get(2..).unwrap_or_default().join("/"),
        })
    }
}

fn percent_decoded(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

/// How a write treats unknown and duplicate fields (`fieldValidation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FieldValidation {
    Ignore,
    /// The API server's default.
    #[default]
    Warn,
    Strict,
}

/// Query parameters of a request for objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) watch: bool,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) limit: Option<usize>,
    pub(crate) continue_token: String,
    pub(crate) resource_version: Option<String>,
    pub(crate) resource_version_match: Option<String>,
    pub(crate) send_initial_events: bool,
    pub(crate) allow_watch_bookmarks: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) dry_run: bool,
    pub(crate) field_manager: Option<String>,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: bool,
    pub(crate) include_object: Option<String>,
    pub(crate) propagation_policy: Option<String>,
    pub(crate) grace_period_seconds: Option<i64>,
}

impl Parameters {
    pub(crate) fn parse(query: &str) -> Result<Self> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.set(&percent_decoded(key), percent_decoded(&value.replace('+', " ")).into_owned())?;
        }
        Ok(parameters)
    }

    fn set(&mut self, key: &str, value: String) -> Result<()> {
        match key {
            "watch" => self.watch = is_true(key, &value)?,
            "labelSelector" => self.label_selector = value,
            "fieldSelector" => self.field_selector = value,
            "limit" => self.limit = Some(number::<usize>(key, &value)?).filter(|limit| *limit > 0),
            "continue" => self.continue_token = value,
            "resourceVersion" => self.resource_version = Some(value).filter(|value| !value.is_empty()),
            "resourceVersionMatch" => {
                self.resource_version_match = Some(value).filter(|value| !value.is_empty())
            }
            "sendInitialEvents" => self.send_initial_events = is_true(key, &value)?,
            "allowWatchBookmarks" => self.allow_watch_bookmarks = is_true(key, &value)?,
            "timeoutSeconds" => self.timeout = Some(Duration::from_secs(number::<u32>(key, &value)?.into())),
            "dryRun" => self.dry_run = dry_run(&value)?,
            "fieldManager" => {
                self.field_manager = Some(field_manager(value)?).filter(|value| !value.is_empty())
            }
            "fieldValidation" => self.field_validation = field_validation(&value)?,
            "force" => self.force = is_true(key, &value)?,
            "includeObject" => self.include_object = Some(value),
            "propagationPolicy" => self.propagation_policy = Some(value),
            "gracePeriodSeconds" => self.grace_period_seconds = Some(number(key, &value)?),
            _ => {}
        }
        Ok(())
    }
}

fn is_true(key: &str, value: &str) -> Result<bool> {
    match value {
        "" | "1" | "true" | "True" | "TRUE" | "t" => Ok(true),
        "0" | "false" | "False" | "FALSE" | "f" => Ok(false),
        _ => Err(Failure::bad_request(format!("query parameter {key}: \"{value}\" is not true or false"))),
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T> {
    let wrong =
        |_| Failure::bad_request(format!("query parameter {key}: \"{value}\" is not a number in its range"));
    value.parse().map_err(wrong)
}

fn dry_run(value: &str) -> Result<bool> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        _ => {
            let text = format!("dryRun: Unsupported value: \"{value}\": supported values: \"All\"");
            Err(Failure::new(422, "Invalid", text))
        }
    }
}

/// Longest field manager that Kubernetes accepts (`validation.FieldManagerMaxLength`).
const FIELD_MANAGER_MAX: usize = 128;

fn field_manager(value: String) -> Result<String> {
    if value.len() > FIELD_MANAGER_MAX {
        let text = format!("fieldManager: Too long: may not be more than {FIELD_MANAGER_MAX} bytes");
        return Err(Failure::new(422, "Invalid", text));
    }
    Ok(value)
}

fn field_validation(value: &str) -> Result<FieldValidation> {
    match value {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        _ => {
            let text = format!(
                "fieldValidation: Unsupported value: \"{value}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
            );
            Err(Failure::new(422, "Invalid", text))
        }
    }
}
