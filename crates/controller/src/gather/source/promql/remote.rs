//! Asks a Prometheus over HTTP, as KEDA's prometheus scaler does, and takes less for an answer than that does.
//!
//! A result counts only in an answer that says `success` and has a type that a query at one time has. Who asks through
//! Thanos, Mimir or VictoriaMetrics gets what there is when a store behind them is silent, with a warning: such a
//! number is a lower bound. NaN says that nothing happened only where the series are known to be fresh, and here they
//! are not. A sample has a time of its own, and an old one is no answer to a question about now.

use std::time::Duration;

use flyball_api::trigger::prometheus::Prometheus;
use flyball_engine::Time;
use serde::Deserialize;
use serde_json::Value;

use crate::gather::source::answer::Answer;
use crate::gather::source::caller::{Call, Caller, without_credentials};
use crate::gather::url;

/// Prometheus' look-back: a sample that is further from the time of the query is none (`--query.lookback-delta`).
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// Characters of a server's words that a reason shows.
const SHOWN_CHARS_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    status: String,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Value,
    /// VictoriaMetrics' word.
    #[serde(default)]
    is_partial: bool,
}

/// What the trigger's server answers to its query at this time.
pub(super) async fn ask(caller: &Caller, trigger: &Prometheus, now: Time) -> Answer {
    let at = Time::from_seconds(now.as_millis() / 1000).to_string();
    let mut pairs = vec![("query", trigger.query.as_str()), ("time", at.as_str())];
    pairs.extend(trigger.namespace.as_deref().map(|namespace| ("namespace", namespace)));
    pairs.extend(trigger.query_parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let server = trigger.server_address.trim_end_matches('/');
    let call = Call {
        url: format!("{server}/api/v1/query?{}", url::query(&pairs)),
        timeout: trigger.timeout,
        unsafe_ssl: trigger.unsafe_ssl,
        authentication: trigger.authentication.clone(),
        headers: trigger.custom_headers.clone(),
    };
    let answer = match caller.get(&call).await {
        Ok(answer) if answer.status.is_success() => read(&answer.body, now),
        Ok(answer) => {
            let status = answer.status.as_u16();
            let words = excerpt(&String::from_utf8_lossy(&answer.body));
            let said = if words.is_empty() { String::new() } else { format!(" response: {words}") };
            Answer::Failed(format!("prometheus query api returned error. status: {status}{said}"))
        }
        Err(error) => Answer::Failed(error),
    };
    told_of(&without_credentials(&trigger.server_address), answer)
}

/// The answer, with the server in every sentence.
fn told_of(server: &str, answer: Answer) -> Answer {
    let told = |why: String| format!("{server}: {why}");
    match answer {
        Answer::Failed(error) => Answer::Failed(told(error)),
        Answer::Empty(why) => Answer::Empty(told(why)),
        Answer::NotANumber(why) => Answer::NotANumber(told(why)),
        Answer::Partial { value, why } => Answer::Partial { value, why: told(why) },
        Answer::Stale { value, at, why } => Answer::Stale { value, at, why: told(why) },
        other @ (Answer::Number(_) | Answer::Nothing | Answer::Unknown(_)) => other,
    }
}

/// The start of a server's words, on one line.
fn excerpt(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn read(body: &[u8], now: Time) -> Answer {
    let body: Body = match serde_json::from_slice(body) {
        Ok(read) => read,
        Err(error) => {
            let begins = excerpt(&String::from_utf8_lossy(body));
            return Answer::Failed(format!("the answer is not Prometheus' ({error}): {begins:?}"));
        }
    };
    if body.status != "success" {
        let Body { status, error_type, error, .. } = body;
        return Answer::Failed(format!(
            "the answer has status {status:?}: {}",
            excerpt(&format!("{error_type}: {error}"))
        ));
    }
    match (result(&body.data, now), warning(&body)) {
        (answer, None) => answer,
        (Answer::Number(value), Some(why)) if value.is_finite() => Answer::Partial { value, why },
        (Answer::Empty(_), Some(why)) => {
            Answer::Failed(format!("the result is empty, with a warning: {why}"))
        }
        (Answer::Number(_) | Answer::NotANumber(_), Some(why)) => {
            Answer::Failed(format!("the result is no number, with a warning: {why}"))
        }
        (answer, Some(_)) => answer,
    }
}

/// Why the answer is not whole, if the server says so.
fn warning(body: &Body) -> Option<String> {
    let words = match &body.warnings {
        Value::Null => None,
        Value::Array(list) => {
            list.first().map(|first| first.as_str().map_or_else(|| first.to_string(), str::to_owned))
        }
        other => Some(other.to_string()),
    };
    words.or_else(|| body.is_partial.then(|| "isPartial is true".to_owned())).map(|words| excerpt(&words))
}

/// What the data of a successful answer says.
fn result(data: &Value, now: Time) -> Answer {
    let kind = data.get("resultType").and_then(Value::as_str);
    let result = data.get("result").unwrap_or(&Value::Null);
    match (kind, result) {
        (Some("scalar"), sample) => number(sample, now),
        (Some("vector"), Value::Array(samples)) => match samples.as_slice() {
            [] => Answer::Empty("the query's result is empty".to_owned()),
            [one] if one.get("histogram").is_some() => Answer::Failed(
                "prometheus query returned a native histogram: take a number from it, as with histogram_quantile(0.95, …)"
                    .to_owned(),
            ),
            [one] => number(one.get("value").unwrap_or(&Value::Null), now),
            several => Answer::Failed(format!(
                "prometheus query returned multiple elements ({}): aggregate them, as in sum(…)",
                several.len()
            )),
        },
        (Some("vector"), other) => {
            Answer::Failed(format!("the answer's result is no list: {}", excerpt(&other.to_string())))
        }
        (Some(kind), _) => {
            Answer::Failed(format!("the answer is of type {}, not vector or scalar", excerpt(kind)))
        }
        (None, _) => Answer::Failed(format!("the answer has no resultType: {}", excerpt(&data.to_string()))),
    }
}

/// The number of a sample: its time in seconds, and the number as text.
fn number(sample: &Value, now: Time) -> Answer {
    let few = || Answer::Failed("prometheus query didn't return enough values".to_owned());
    let Value::Array(pair) = sample else { return few() };
    let [Value::Number(seconds), Value::String(text)] = pair.as_slice() else { return few() };
    let (Some(seconds), Some(value)) = (seconds.as_f64(), flyball_metrics::parse_value(text)) else {
        return few();
    };
    let ahead = seconds - now.as_millis() as f64 / 1000.0;
    let age_max = SAMPLE_AGE_MAX.as_secs_f64();
    if ahead > age_max {
        return Answer::Failed(format!("the sample is of {ahead:.0} s from now"));
    }
    if ahead < -age_max {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped, and casts saturate"
        )]
        let at = Time::from_millis((seconds.max(0.0) * 1000.0) as u64);
        let why = format!("the sample in the answer is {:.0} s old", -ahead);
        return match value.is_finite() {
            true => Answer::Stale { value, at, why },
            false => Answer::Failed(why),
        };
    }
    match value.is_nan() {
        true => Answer::NotANumber(
            "the query returns NaN, and nothing shows that its series are fresh".to_owned(),
        ),
        false => Answer::Number(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time::from_seconds(1_000_000);

    fn vector(result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#)
    }

    #[test]
    fn only_a_number_of_now_in_a_successful_answer_counts() {
        let check = |body: &str, expected: Answer| assert_eq!(read(body.as_bytes(), NOW), expected, "{body}");
        check(&vector("[]"), Answer::Empty("the query's result is empty".to_owned()));
        check(&vector(r#"[{"metric":{},"value":[1000000,"2.5"]}]"#), Answer::Number(2.5));
        check(&vector(r#"[{"value":[999700.001,"-2"]}]"#), Answer::Number(-2.0));
        check(&vector(r#"[{"value":[1000000,"+Inf"]}]"#), Answer::Number(f64::INFINITY));
        let scalar =
            r#"{"status":"success","data":{"resultType":"scalar","result":[1000000,"3"]},"infos":["i"]}"#;
        check(scalar, Answer::Number(3.0));
        let old = "the sample in the answer is 301 s old".to_owned();
        let at = Time::from_seconds(999_699);
        check(&vector(r#"[{"value":[999699,"2"]}]"#), Answer::Stale { value: 2.0, at, why: old });
        let warned = |result: &str, more: &str| {
            format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}},{more}}}"#)
        };
        let one = r#"[{"value":[1000000,"2"]}]"#;
        let partial = |why: &str| Answer::Partial { value: 2.0, why: why.to_owned() };
        check(&warned(one, r#""warnings":["partial response"]"#), partial("partial response"));
        check(&warned(one, r#""isPartial":true"#), partial("isPartial is true"));
        check(&warned(one, r#""warnings":[],"isPartial":false"#), Answer::Number(2.0));
        assert!(matches!(
            read(vector(r#"[{"value":[1000000,"NaN"]}]"#).as_bytes(), NOW),
            Answer::NotANumber(_)
        ));
    }

    #[test]
    fn everything_else_is_a_failure() {
        let success = |data: &str| format!(r#"{{"status":"success","data":{data}}}"#);
        for body in [
            "",
            "<html>",
            "null",
            "[]",
            "{}",
            r#"{"data":{"resultType":"vector","result":[]}}"#,
            r#"{"status":"error","errorType":"timeout","error":"late","data":{"resultType":"vector","result":[]}}"#,
            r#"{"status":"success"}"#,
            &success("{}"),
            &success("null"),
            &success(r#"{"result":[]}"#),
            &success(r#"{"resultType":"vector"}"#),
            &success(r#"{"resultType":"vector","result":null}"#),
            &success(r#"{"resultType":"vector","result":{}}"#),
            &success(r#"{"resultType":"vector","result":""}"#),
            &success(r#"{"resultType":"matrix","result":[]}"#),
            &success(r#"{"resultType":"string","result":[1000000,"3"]}"#),
            &success(r#"{"resultType":"streams","result":[]}"#),
            &success(r#"{"resultType":"scalar","result":[]}"#),
            &vector(r#"[{"value":[1000000,"1"]},{"value":[1000000,"2"]}]"#),
            &vector(r#"[{"histogram":[1000000,{}]}]"#),
            &vector("[{}]"),
            &vector("[null]"),
            &vector(r#"[{"value":[1000000]}]"#),
            &vector(r#"[{"value":[1000000,2]}]"#),
            &vector(r#"[{"value":[1000000,null]}]"#),
            &vector(r#"[{"value":[1000000,"many"]}]"#),
            &vector(r#"[{"value":[null,"1"]}]"#),
            &vector(r#"[{"value":[]}]"#),
            &vector(r#"[{"value":[1000000000,"1"]}]"#),
            &vector(r#"[{"value":[1,"NaN"]}]"#),
            &(vector("[]") + "}"),
            r#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["a store is down"]}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":[]},"isPartial":true}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":[]},"isPartial":"yes"}"#,
        ] {
            assert!(matches!(read(body.as_bytes(), NOW), Answer::Failed(_)), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(body in ".{0,80}", data in r#"[\[\]{}":,a-z0-9]{0,40}"#) {
            let _ = read(body.as_bytes(), NOW);
            let _ = read(format!(r#"{{"status":"success","data":{data}}}"#).as_bytes(), NOW);
        }
    }
}
