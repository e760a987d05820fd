//! Asks a Prometheus over HTTP, as KEDA's prometheus scaler does.

use flyball_api::trigger::prometheus::Prometheus;
use flyball_engine::Time;
use serde::Deserialize;
use serde_json::Value;

use crate::source::caller::{Call, Caller};
use crate::source::promql::Answer;

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    #[serde(default)]
    result_type: String,
    #[serde(default)]
    result: Value,
}

/// What the trigger's server answers to its query at this time.
pub(super) async fn ask(caller: &Caller, trigger: &Prometheus, now: Time) -> Answer {
    let at = Time::from_seconds(now.as_millis() / 1000).to_string();
    let mut pairs = vec![("query", trigger.query.as_str()), ("time", at.as_str())];
    pairs.extend(trigger.namespace.as_deref().map(|namespace| ("namespace", namespace)));
    pairs.extend(trigger.query_parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let server = trigger.server_address.trim_end_matches('/');
    let call = Call {
        url: format!("{server}/api/v1/query?{}", crate::encode_query(&pairs)),
        timeout: trigger.timeout,
        unsafe_ssl: trigger.unsafe_ssl,
        authentication: trigger.authentication.clone(),
        headers: trigger.custom_headers.clone(),
    };
    match caller.get(&call).await {
        Ok((status, body)) if status.is_success() => read(&body),
        Ok((status, _)) => {
            Answer::Failed(format!("prometheus query api returned error. status: {}", status.as_u16()))
        }
        Err(error) => Answer::Failed(format!("{}: {error}", trigger.server_address)),
    }
}

fn read(body: &[u8]) -> Answer {
    let body: Body = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(error) => return Answer::Failed(format!("the server's answer is not Prometheus': {error}")),
    };
    let result = body.data.result;
    let sample = match body.data.result_type.as_str() {
        "scalar" => Some(&result),
        _ => match result.as_array().map(Vec::as_slice) {
            None | Some([]) => return Answer::Empty("the query's result is empty".to_owned()),
            Some([one]) => one.get("value"),
            Some(several) => {
                return Answer::Failed(format!(
                    "prometheus query returned multiple elements ({})",
                    several.len()
                ));
            }
        },
    };
    let number = sample.and_then(|sample| sample.get(1)?.as_str()).and_then(flyball_metrics::parse_value);
    match number {
        Some(value) if value.is_nan() => Answer::Nothing,
        Some(value) => Answer::Number(value),
        None => Answer::Failed("prometheus query didn't return enough values".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_keda_reads_them() {
        let check = |body: &str, expected: Answer| assert_eq!(read(body.as_bytes()), expected, "{body}");
        let vector = |result: &str| {
            format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#)
        };
        let empty = || Answer::Empty("the query's result is empty".to_owned());
        check(&vector("[]"), empty());
        check(r#"{"data":{}}"#, empty());
        check(&vector(r#"[{"metric":{},"value":[1,"2.5"]}]"#), Answer::Number(2.5));
        check(&vector(r#"[{"value":[1,"NaN"]}]"#), Answer::Nothing);
        check(&vector(r#"[{"value":[1,"+Inf"]}]"#), Answer::Number(f64::INFINITY));
        check(r#"{"data":{"resultType":"scalar","result":[1,"3"]}}"#, Answer::Number(3.0));
        let many = Answer::Failed("prometheus query returned multiple elements (2)".to_owned());
        check(&vector(r#"[{"value":[1,"1"]},{"value":[1,"2"]}]"#), many);
        let few = || Answer::Failed("prometheus query didn't return enough values".to_owned());
        check(&vector(r#"[{"value":[1]}]"#), few());
        check(&vector(r#"[{"value":[1,2]}]"#), few());
        check(&vector(r#"[{"value":[]}]"#), few());
        assert!(matches!(read(b"<html>"), Answer::Failed(_)));
    }
}
