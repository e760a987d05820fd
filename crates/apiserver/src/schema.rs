//! Compact schemas: the fields of an object, their types, and how lists merge.
//!
//! One representation serves built-in kinds (read from k8s-openapi when a kind is first used, without descriptions)
//! and custom ones (read from a CRD's `openAPIV3Schema`). [`decode`] checks types and finds unknown fields,
//! [`validate`] checks values, and [`Schema::apply_defaults`] applies a CRD's defaults; patches and server-side
//! apply use [`Schema::list`] and [`Schema::atomic`].

pub(crate) mod builtin;
pub(crate) mod decode;
pub(crate) mod read;
pub(crate) mod validate;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use serde_json::Value;

use crate::bounds::{self, Meter, NODE_BYTES};

/// Maximum nesting of objects and schemas, because reading recurses. serde_json itself stops at 128.
pub(crate) const DEPTH_MAX: usize = 128;

/// The JSON type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Type {
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// `x-kubernetes-int-or-string`.
    IntOrString,
    /// A Kubernetes quantity, as a string or number, stored in canonical form.
    Quantity,
}

impl Type {
    /// Returns the type's name in OpenAPI.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::IntOrString | Self::Quantity => "integer,string",
        }
    }
}

/// How a list merges (`x-kubernetes-list-type`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ListType {
    /// The list is a single value.
    #[default]
    Atomic,
    /// A set of scalars.
    Set,
    /// A list of objects identified by these fields.
    Map(Vec<String>),
}

/// Restrictions on a value besides its type; only CRDs have them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) allowed: Vec<Value>,
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) exclusive_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) length_min: Option<usize>,
    pub(crate) length_max: Option<usize>,
    pub(crate) items_min: Option<usize>,
    pub(crate) items_max: Option<usize>,
    pub(crate) unique: bool,
    pub(crate) properties_min: Option<usize>,
    pub(crate) properties_max: Option<usize>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) all_of: Vec<Schema>,
    pub(crate) any_of: Vec<Schema>,
    pub(crate) one_of: Vec<Schema>,
    pub(crate) not: Option<Box<Schema>>,
}

/// A regular expression, compiled on first use and shared between equal patterns.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    compiled: Compiled,
}

type Compiled = Arc<OnceLock<Option<regex::Regex>>>;

/// Maximum memory of a compiled CRD pattern. The regex crate's default of 10 MB is too much for many patterns.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Maximum memory of a pattern's lazy DFA cache.
const PATTERN_CACHE_BYTES_MAX: usize = 256 << 10;

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        static SHARED: Mutex<BTreeMap<String, Weak<OnceLock<Option<regex::Regex>>>>> =
            Mutex::new(BTreeMap::new());
        let mut shared = SHARED.lock();
        if let Some(compiled) = shared.get(text).and_then(Weak::upgrade) {
            return Self { text: text.to_owned(), compiled };
        }
        shared.retain(|_, compiled| compiled.strong_count() > 0);
        let compiled = Compiled::default();
        shared.insert(text.to_owned(), Arc::downgrade(&compiled));
        Self { text: text.to_owned(), compiled }
    }

    pub(crate) fn compile(text: &str) -> Option<regex::Regex> {
        regex::RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_CACHE_BYTES_MAX)
            .build()
            .ok()
    }

    /// Returns whether the value matches. CRDs with patterns that do not compile are refused, so such a pattern
    /// restricts nothing.
    pub(crate) fn matches(&self, value: &str) -> bool {
        self.compiled
            .get_or_init(|| Self::compile(&self.text))
            .as_ref()
            .is_none_or(|regex| regex.is_match(value))
    }
}

/// The schema of a value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schema {
    pub(crate) kind: Type,
    /// Name of another schema, of a built-in type (`io.k8s.api.core.v1.PodSpec`).
    pub(crate) reference: Option<Box<str>>,
    pub(crate) format: Option<Box<str>>,
    pub(crate) properties: BTreeMap<Box<str>, Schema>,
    pub(crate) additional: Option<Box<Schema>>,
    pub(crate) items: Option<Box<Schema>>,
    pub(crate) required: Vec<Box<str>>,
    pub(crate) list: ListType,
    /// Whether a map or struct is a single value (`x-kubernetes-map-type: atomic`).
    pub(crate) atomic: bool,
    pub(crate) nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub(crate) open: bool,
    pub(crate) default: Option<Box<Value>>,
    pub(crate) rules: Option<Box<Rules>>,
}

static ANY: Schema = Schema {
    kind: Type::Any,
    reference: None,
    format: None,
    properties: BTreeMap::new(),
    additional: None,
    items: None,
    required: Vec::new(),
    list: ListType::Atomic,
    atomic: false,
    nullable: true,
    open: true,
    default: None,
    rules: None,
};

impl Schema {
    /// Returns the schema without restrictions.
    pub(crate) fn any() -> &'static Self {
        &ANY
    }

    pub(crate) fn referring(name: &str) -> Self {
        Self { reference: Some(name.into()), ..Self::default() }
    }

    /// Resolves a reference; returns the schema itself otherwise.
    pub(crate) fn resolved(&self) -> &Self {
        match &self.reference {
            Some(name) => builtin::definition(name).unwrap_or(&ANY),
            None => self,
        }
    }

    /// Returns the schema of a field or map value; `None` if the field is unknown.
    pub(crate) fn field(&self, key: &str) -> Option<&Self> {
        let own = self.resolved();
        let found = own.properties.get(key).or(own.additional.as_deref());
        found.or_else(|| (own.open || own.kind == Type::Any).then_some(&ANY))
    }

    /// Returns the schema of a field, or the one without restrictions.
    pub(crate) fn field_or_any(&self, key: &str) -> &Self {
        self.field(key).unwrap_or(&ANY)
    }

    /// Returns the schema of the items.
    pub(crate) fn item(&self) -> &Self {
        self.resolved().items.as_deref().unwrap_or(&ANY)
    }

    /// Returns whether a map or struct is a single value here.
    pub(crate) fn is_atomic(&self) -> bool {
        self.atomic || self.resolved().atomic
    }

    /// Applies defaults where a value is absent (or null, but not nullable). Returns false if they would take too
    /// much memory: a default of a megabyte in each of a hundred thousand items.
    #[must_use]
    pub(crate) fn apply_defaults(&self, value: &mut Value) -> bool {
        self.fill_in(value, &Meter::new(DEFAULTED_BYTES_MAX))
    }

    fn fill_in(&self, value: &mut Value, meter: &Meter) -> bool {
        let own = self.resolved();
        match value {
            Value::Object(map) => {
                for (key, schema) in &own.properties {
                    // Visiting a property also costs time.
                    if !meter.take(VISIT_BYTES) {
                        return false;
                    }
                    let missing = match map.get(&**key) {
                        None => true,
                        Some(value) => value.is_null() && !schema.nullable,
                    };
                    if let Some(default) = schema.default.as_deref().filter(|_| missing) {
                        if !meter.take(NODE_BYTES + bounds::memory(default, DEFAULTED_BYTES_MAX)) {
                            return false;
                        }
                        map.insert(key.to_string(), default.clone());
                    }
                    if let Some(inner) = map.get_mut(&**key)
                        && !schema.fill_in(inner, meter)
                    {
                        return false;
                    }
                }
                let Some(additional) = &own.additional else { return true };
                map.iter_mut()
                    .filter(|(key, _)| !own.properties.contains_key(key.as_str()))
                    .all(|(_, inner)| additional.fill_in(inner, meter))
            }
            Value::Array(items) => items.iter_mut().all(|item| self.item().fill_in(item, meter)),
            _ => true,
        }
    }
}

/// Maximum memory of the defaults of one object.
const DEFAULTED_BYTES_MAX: usize = bounds::VALUES_BYTES_MAX;
/// Cost of visiting a property, which bounds time along with memory.
const VISIT_BYTES: usize = 4;
