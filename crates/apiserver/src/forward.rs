//! Requests that another router of this process answers: aggregated APIs, and the nodes' own servers.

use axum::extract::Request;
use axum::response::Response;
use tower::ServiceExt;

/// Calls another router of this process with the request.
pub(crate) async fn forward(router: axum::Router, request: Request) -> Response {
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}
