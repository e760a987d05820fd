//! Forwards requests to another router in this process: aggregated APIs and kubelets.

use axum::extract::Request;
use axum::response::Response;
use tower::ServiceExt;

/// Forwards the request to `router`.
pub(crate) async fn forward(router: axum::Router, request: Request) -> Response {
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}
