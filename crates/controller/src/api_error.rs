//! Errors of the Kubernetes API as sentences for a user.

/// Describes an error of the API server's client: what the server answered, without the client's types around it.
pub(crate) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) if !status.reason.is_empty() => {
            format!("the API server answered {} ({})", status.code, status.reason)
        }
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        kube::Error::HyperError(error) => format!("the API server cannot be reached: {error}"),
        kube::Error::Service(error) => format!("the API server cannot be reached: {error}"),
        kube::Error::SerdeError(error) => format!("the API server's answer cannot be read: {error}"),
        other => other.to_string(),
    }
}
