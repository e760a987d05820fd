//! Responses, in the shapes FastAPI gives them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use jiff::fmt::temporal::DateTimePrinter;
use jiff::{Timestamp, tz::TimeZone};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::json;

use super::queue::Refusal;
use crate::house::FEATURES;
use crate::input::Rejection;
use crate::model::Prediction;

/// A response with its whole body; every body of this server fits in memory.
pub(super) type HttpResponse = Response<Full<Bytes>>;

/// When to retry after a refusal: by then a full replica has worked off its queue, or is scaled out.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Returns a text response; `content_type` is one of our constants, so it is a valid header.
pub(super) fn text(content_type: &'static str, body: impl Into<Bytes>) -> HttpResponse {
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) fn json_bytes(body: impl Into<Bytes>) -> HttpResponse {
    text("application/json", body)
}

fn json_value(value: &impl Serialize) -> HttpResponse {
    json_bytes(serde_json::to_vec(value).expect("string keys and finite numbers are JSON"))
}

/// Returns `{"detail": …}` with a status, as FastAPI's `HTTPException` does.
pub(super) fn detail(status: StatusCode, detail: impl Serialize) -> HttpResponse {
    let mut response = json_value(&json!({ "detail": detail }));
    *response.status_mut() = status;
    response
}

pub(super) fn not_found() -> HttpResponse {
    detail(StatusCode::NOT_FOUND, "Not Found")
}

pub(super) fn method_not_allowed(allowed: &'static str) -> HttpResponse {
    let mut response = detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

pub(super) fn rejection(rejection: Rejection) -> HttpResponse {
    match rejection {
        Rejection::NotText => detail(StatusCode::BAD_REQUEST, "There was an error parsing the body"),
        Rejection::Problems(problems) => detail(StatusCode::UNPROCESSABLE_ENTITY, problems),
    }
}

pub(super) fn refusal(refusal: Refusal) -> HttpResponse {
    let why = match refusal {
        Refusal::QueueFull => "too many requests are waiting for a prediction; try again",
        Refusal::TimeLimit => "the request waited too long for a prediction; try again",
    };
    let mut response = detail(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    response
}

/// Returns the response of `/predict`; `contributions` are present only with `explain`.
pub(super) fn prediction(
    prediction: Prediction,
    contributions: Option<[f64; FEATURES.len()]>,
    at: Timestamp,
) -> HttpResponse {
    json_value(&PredictionBody {
        predicted_price: cents(prediction.price),
        confidence_interval: prediction.interval.map(cents),
        features_importance: Contributions(contributions),
        prediction_time: naive_utc(at),
    })
}

/// Returns the response of `/batch-predict`.
pub(super) fn prices(predictions: &[Prediction]) -> HttpResponse {
    json_value(&predictions.iter().map(|prediction| cents(prediction.price)).collect::<Vec<_>>())
}

/// The body of `/predict`, with its fields in the order of the original.
#[derive(Serialize)]
struct PredictionBody {
    predicted_price: f64,
    confidence_interval: [f64; 2],
    features_importance: Contributions,
    prediction_time: String,
}

/// `{}`, or a number for each feature in the order of [`FEATURES`].
struct Contributions(Option<[f64; FEATURES.len()]>);

impl Serialize for Contributions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (feature, contribution) in FEATURES.iter().zip(self.0.iter().flatten()) {
            map.serialize_entry(feature, &((contribution * 1e6).round() / 1e6))?;
        }
        map.end()
    }
}

fn cents(dollars: f64) -> f64 {
    (dollars * 100.0).round() / 100.0
}

/// Formats a time as Python's `datetime.now().isoformat()` does in a container: UTC, microseconds, no zone.
fn naive_utc(at: Timestamp) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    PRINTER.datetime_to_string(&at.to_zoned(TimeZone::UTC).datetime())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_prediction_has_the_shape_clients_know() {
        let said = Prediction { price: 819_093.179, interval: [737_183.864, 901_003.0] };
        let at: Timestamp = "2025-12-30T13:46:19.759867123Z".parse().expect("a time");
        let body = |contributions| async move {
            let response = prediction(said, contributions, at);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
            let bytes = response.into_body().collect().await.expect("whole").to_bytes();
            String::from_utf8(bytes.to_vec()).expect("text")
        };
        assert_eq!(
            body(None).await,
            r#"{"predicted_price":819093.18,"confidence_interval":[737183.86,901003.0],"features_importance":{},"prediction_time":"2025-12-30T13:46:19.759867"}"#
        );
        let explained = body(Some([0.25, 0.0, -0.125, 1e-9, 0.1, 0.5])).await;
        let importance = r#""features_importance":{"sqft":0.25,"bedrooms":0.0,"bathrooms":-0.125,"year_built":0.0,"condition":0.1,"location":0.5}"#;
        assert!(explained.contains(importance), "{explained}");
    }
}
