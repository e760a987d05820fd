//! Translates HTTP requests to [`Call`]s and results to responses.

use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use crate::body;
use crate::forward::forward;
use crate::kinds::{Kind, Sub};
use crate::load_limits::{HEAVY_BYTES, ReadBody};
use crate::patch::PatchType;
use crate::present::{Form, Presenter};
use crate::request::{Parameters, RequestPath};
use crate::state::ServerState;
use crate::status::{Failure, Result};
use crate::store::Key;
use crate::verbs::{Call, delete, evict, pod, read, review, scale, write};
use crate::{discovery, openapi, watch};

/// The authenticated user, set as a request extension by the TLS socket; absent for in-process requests.
#[derive(Debug, Clone)]
pub(crate) struct User(pub(crate) String);

/// Answers any request; failures become responses.
pub(crate) async fn serve(server: Arc<ServerState>, request: Request) -> Response {
    match route(&server, request).await {
        Ok(response) => response,
        Err(failure) => refusal(&failure),
    }
}

pub(crate) fn refusal(failure: &Failure) -> Response {
    let mut response = json(
        StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        failure.status().to_string(),
    );
    let retry = failure.details.as_ref().and_then(|details| details["retryAfterSeconds"].as_u64());
    if let Some(seconds) = retry {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

fn json(code: StatusCode, body: impl Into<HttpBody>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn header(headers: &HeaderMap, name: http::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

async fn route(server: &Arc<ServerState>, request: Request) -> Result<Response> {
    let path = request.uri().path().to_owned();
    if let Some(response) = non_resource(server, &path, &request) {
        return response;
    }
    let request_path = RequestPath::parse(&path).ok_or_else(Failure::unknown_path)?;
    if let Some(router) = server.aggregated(&request_path.group, &request_path.version) {
        return Ok(forward(router, request).await);
    }
    let kind = server.registry().find(&request_path.group, &request_path.version, &request_path.plural);
    let kind = kind.ok_or_else(Failure::unknown_path)?;
    let misplaced = !kind.namespaced && !request_path.namespace.is_empty();
    if misplaced || (kind.namespaced && request_path.namespace.is_empty() && request_path.name.is_some()) {
        return Err(Failure::unknown_path());
    }
    let sub = subresource(&kind, &request_path)?;
    if sub == Some(Sub::Proxy) {
        return pod::proxy(server, &request_path, request).await;
    }
    objects(server, kind, request_path, sub, request).await
}

/// Answers non-resource paths: health, discovery and OpenAPI. Returns `None` for all others.
fn non_resource(server: &Arc<ServerState>, path: &str, request: &Request) -> Option<Result<Response>> {
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    if !get {
        return None;
    }
    let accept = header(request.headers(), ACCEPT);
    let trimmed = path.trim_end_matches('/');
    if let Some(text) = discovery::health(trimmed, request.uri().query().unwrap_or_default()) {
        let mut response = Response::new(HttpBody::from(text));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        return Some(Ok(response));
    }
    if trimmed == "/openapi/v2" {
        let mut response = Response::new(HttpBody::from(openapi::v2()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(openapi::V2_TYPE));
        return Some(Ok(response));
    }
    if let Some(document) = openapi::serve(server, trimmed) {
        return Some(document.map(|document| json(StatusCode::OK, document)));
    }
    let document = discovery::serve(server, trimmed, &accept)?;
    let mut response = json(StatusCode::OK, document.body.to_string());
    if let Ok(content_type) = HeaderValue::from_str(&document.content_type) {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response.headers_mut().insert(http::header::VARY, HeaderValue::from_static("Accept"));
    Some(Ok(response))
}

fn subresource(kind: &Kind, request_path: &RequestPath) -> Result<Option<Sub>> {
    let Some(name) = &request_path.subresource else { return Ok(None) };
    let found = kind.subresources.iter().find(|sub| sub.name() == name);
    let found = found.ok_or_else(Failure::unknown_path)?;
    if !request_path.rest.is_empty() && *found != Sub::Proxy {
        return Err(Failure::unknown_path());
    }
    Ok(Some(*found))
}

async fn objects(
    server: &Arc<ServerState>,
    kind: Arc<Kind>,
    request_path: RequestPath,
    sub: Option<Sub>,
    request: Request,
) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let parameters = Parameters::parse(parts.uri.query().unwrap_or_default())?;
    let mut request =
        ObjectRequest { kind, request_path, sub, parameters, parts, verb: Verb::Get, body: ReadBody::none() };
    let call = request.call(server);
    if sub == Some(Sub::Log) {
        return pod::log(&call, request.parts.uri.query().unwrap_or_default()).await;
    }
    let verb = Verb::of(&request.parts.method, &call)?;
    let key = call.key();
    request.verb = verb;
    if verb != Verb::Get && verb != Verb::Collection {
        if request.parts.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(Failure::unsupported_media_type("compressed bodies are not accepted"));
        }
        request.body = server.load_limits.read(body).await?;
    }
    if request.is_heavy(server, &key) {
        let own = server.clone();
        return server.load_limits.run_heavy(async move { perform(&own, request).await }).await;
    }
    perform(server, request).await
}

/// A parsed request for objects.
struct ObjectRequest {
    kind: Arc<Kind>,
    request_path: RequestPath,
    sub: Option<Sub>,
    parameters: Parameters,
    parts: http::request::Parts,
    verb: Verb,
    body: ReadBody,
}

impl ObjectRequest {
    fn call<'s>(&self, server: &'s Arc<ServerState>) -> Call<'s> {
        let agent = header(&self.parts.headers, USER_AGENT);
        let default_manager =
            agent.split('/').next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
        Call {
            server,
            kind: self.kind.clone(),
            namespace: self.request_path.namespace.clone(),
            name: self.request_path.name.clone().unwrap_or_default(),
            sub: self.sub,
            manager: self.parameters.field_manager.clone().unwrap_or(default_manager),
            parameters: self.parameters.clone(),
            now: Timestamp::now(),
            warnings: Mutex::default(),
        }
    }

    /// Returns whether the request could hold up others, judged by the size of the data sent, changed or listed.
    fn is_heavy(&self, server: &Arc<ServerState>, key: &Key) -> bool {
        match self.verb {
            Verb::Get => false,
            Verb::Collection => !self.parameters.watch && server.store.bytes(&self.kind.storage) > LIST_BYTES,
            _ => {
                self.body.bytes.len() > HEAVY_BYTES
                    || server.store.get(key).is_some_and(|stored| stored.bytes.len() > HEAVY_BYTES)
            }
        }
    }
}

/// A list is heavy when the resource's objects take more bytes than this in total.
const LIST_BYTES: usize = 1 << 20;

async fn perform(server: &Arc<ServerState>, request: ObjectRequest) -> Result<Response> {
    let mut call = request.call(server);
    let headers = &request.parts.headers;
    let content_type = header(headers, CONTENT_TYPE);
    let user = request.parts.extensions.get::<User>().map_or("flyball:internal", |user| user.0.as_str());
    let (verb, bytes) = (request.verb, &request.body.bytes);
    let form = Form::negotiate(&header(headers, ACCEPT));
    let presenter = Presenter::new(request.kind, form, request.parameters.include_object.as_deref());
    let mut response = match verb {
        Verb::Get => get(&call, &presenter)?,
        Verb::Collection => collection(&call, presenter)?,
        Verb::Create => create(&mut call, user, &content_type, bytes, &presenter).await?,
        Verb::Update => {
            let body = body::read(&content_type, bytes)?;
            let written = if call.sub == Some(Sub::Scale) {
                scale::update(&call, body).await?
            } else {
                write::update(&call, body).await?
            };
            json(StatusCode::OK, presenter.object(written.object))
        }
        Verb::Patch => {
            let patch = PatchType::of(&content_type, &call)?;
            let body = body::read(&content_type, bytes)?;
            let written = crate::patch::apply(&mut call, patch, body).await?;
            let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
            json(code, presenter.object(written.object))
        }
        Verb::Delete | Verb::DeleteCollection => {
            let body = body::read(&content_type, bytes)?.value;
            let options = delete::Options::read(&call, &body)?;
            let answer = match verb {
                Verb::Delete => delete::delete(&call, &options).await?,
                _ => delete::delete_collection(&call, &options).await?,
            };
            json(StatusCode::OK, answer.to_string())
        }
    };
    add_warnings(&call, &mut response);
    Ok(response)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Get,
    /// A list or a watch, also of a single name.
    Collection,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    fn of(method: &Method, call: &Call<'_>) -> Result<Self> {
        let one = !call.name.is_empty();
        let verb = match (method.as_str(), one) {
            ("GET" | "HEAD", true) if call.parameters.watch && call.sub.is_none() => Self::Collection,
            ("GET" | "HEAD", true) => Self::Get,
            ("GET" | "HEAD", false) => Self::Collection,
            ("POST", _) => Self::Create,
            ("PUT", true) => Self::Update,
            ("PATCH", true) => Self::Patch,
            ("DELETE", true) => Self::Delete,
            ("DELETE", false) => Self::DeleteCollection,
            _ => return Err(Failure::method_not_allowed()),
        };
        let allowed = match call.sub {
            Some(sub) => sub.verbs().contains(&verb.name()),
            None if call.kind.is_review() => verb == Self::Create,
            None => verb != Self::Create || !one || call.kind.is_review(),
        };
        if allowed { Ok(verb) } else { Err(Failure::method_not_allowed()) }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Collection => "list",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

fn get(call: &Call<'_>, presenter: &Presenter) -> Result<Response> {
    let stored = call.stored()?;
    let body = match call.sub {
        Some(Sub::Scale) => {
            let scale = scale::of(&call.kind, &stored.value())?;
            Bytes::from(scale.to_string())
        }
        _ => presenter.stored(&stored),
    };
    Ok(json(StatusCode::OK, body))
}

fn collection(call: &Call<'_>, presenter: Presenter) -> Result<Response> {
    if call.parameters.watch {
        let events = watch::watch(call, presenter)?.map(Ok::<_, std::convert::Infallible>);
        return Ok(json(StatusCode::OK, HttpBody::from_stream(events)));
    }
    Ok(json(StatusCode::OK, presenter.list(&read::list(call)?)))
}

async fn create(
    call: &mut Call<'_>,
    user: &str,
    content_type: &str,
    bytes: &[u8],
    presenter: &Presenter,
) -> Result<Response> {
    let body = body::read(content_type, bytes)?;
    let object = match call.sub {
        Some(Sub::Eviction) => {
            return Ok(json(StatusCode::CREATED, evict::evict(call, &body.value).await?.to_string()));
        }
        Some(Sub::Binding) => {
            return Ok(json(StatusCode::CREATED, pod::bind(call, &body.value).await?.to_string()));
        }
        _ if call.kind.is_review() => review::answer(call, body.value, user)?,
        _ if call.kind.namespaced && call.namespace.is_empty() => return Err(Failure::method_not_allowed()),
        _ => write::create(call, body).await?.object,
    };
    Ok(json(StatusCode::CREATED, presenter.object(object)))
}

/// Maximum number of warnings per response; client-go prints each on its own line.
const WARNINGS_MAX: usize = 20;

fn add_warnings(call: &Call<'_>, response: &mut Response) {
    let warnings = call.warnings.lock();
    for sentence in warnings.iter().take(WARNINGS_MAX) {
        let quoted = Value::from(sentence.as_str()).to_string();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - {quoted}").as_bytes()) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
}
