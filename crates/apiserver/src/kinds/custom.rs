//! What a CustomResourceDefinition says about one version of its kind.

use std::sync::Arc;

use crate::jsonpath::JsonPath;
use crate::schema::Schema;

/// A printer column.
#[derive(Debug, Clone)]
pub(crate) struct PrinterColumn {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) path: JsonPath,
}

/// Paths of the scale subresource, without the leading dot.
#[derive(Debug, Clone)]
pub(crate) struct ScalePaths {
    pub(crate) spec: String,
    pub(crate) status: String,
    pub(crate) selector: Option<String>,
}

/// What a CRD says about one version.
#[derive(Debug, Clone)]
pub(crate) struct CustomKind {
    pub(crate) list_kind: String,
    pub(crate) schema: Arc<Schema>,
    pub(crate) columns: Vec<PrinterColumn>,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) selectable_fields: Vec<String>,
    /// The name of the CRD, to read its texts for OpenAPI.
    pub(crate) definition: String,
}
