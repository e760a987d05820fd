//! The definition of one version of a custom kind, from its CRD.

use std::sync::Arc;

use crate::jsonpath::JsonPath;
use crate::schema::Schema;

/// A column of `additionalPrinterColumns`.
#[derive(Debug, Clone)]
pub(crate) struct PrinterColumn {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) path: JsonPath,
}

/// The paths of the scale subresource, without the leading dot.
#[derive(Debug, Clone)]
pub(crate) struct ScalePaths {
    pub(crate) spec: String,
    pub(crate) status: String,
    pub(crate) selector: Option<String>,
}

/// One version of a custom kind.
#[derive(Debug, Clone)]
pub(crate) struct CustomKind {
    pub(crate) list_kind: String,
    pub(crate) schema: Arc<Schema>,
    pub(crate) columns: Vec<PrinterColumn>,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) selectable_fields: Vec<String>,
    /// Name of the CRD, which has the descriptions for OpenAPI.
    pub(crate) definition: String,
}
