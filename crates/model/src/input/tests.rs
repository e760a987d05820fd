//! Bodies with FastAPI's responses (`fastapi.json`, recorded from a FastAPI 0.165 service with pydantic 2.14 that
//! declares the same fields), then the cases where this parser is stricter, then arbitrary bodies.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn model() -> Model {
    Model::embedded().expect("the embedded model is sound")
}

fn answer(path: &str, content_type: &str, body: &str, model: &Model) -> (u64, Value) {
    let is_json = is_json(content_type);
    let read = match path {
        "/predict" => house(body.as_bytes(), is_json, model).map(|_| ()),
        _ => houses(body.as_bytes(), is_json, model).map(|_| ()),
    };
    match read {
        Ok(()) => (200, Value::Null),
        Err(Rejection::NotText) => (400, Value::Null),
        Err(Rejection::Problems(problems)) => (422, json!(problems)),
    }
}

#[test]
fn bodies_are_answered_as_fastapi_answers_them() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("fastapi.json")).expect("the recording is JSON");
    assert!(cases.len() > 80);
    let model = model();
    for case in &cases {
        let text = |name: &str| case[name].as_str().expect("a string");
        let (status, detail) = answer(text("path"), text("content_type"), text("body"), &model);
        assert_eq!(status, case["status"], "{case}\n{detail}");
        assert_eq!(detail, case["detail"], "{}", text("body"));
    }
}

const GOOD: &str =
    r#"{"sqft":4500,"bedrooms":4,"bathrooms":2,"year_built":2014,"condition":"Good","location":"Urban"}"#;

#[test]
fn stricter_than_fastapi() {
    let model = model();
    for (from, to, kind, field, message) in [
        ("4500", r#""inf""#, "finite_number", "sqft", "Input should be a finite number"),
        (
            "Urban",
            "nowhere",
            "literal_error",
            "location",
            "Input should be a King County zip code, 'urban', 'suburban' or 'rural'",
        ),
        (
            "Good",
            "3",
            "literal_error",
            "condition",
            "Input should be 'poor', 'fair', 'average', 'good', 'very good' or 'excellent'",
        ),
        (r#""Good""#, "6", "less_than_equal", "condition", "Input should be less than or equal to 5"),
    ] {
        let (status, detail) = answer("/predict", "application/json", &GOOD.replace(from, to), &model);
        assert_eq!((status, detail.as_array().map(Vec::len)), (422, Some(1)), "{detail}");
        assert_eq!(detail[0]["type"], kind);
        assert_eq!(detail[0]["loc"], json!(["body", field]));
        assert_eq!(detail[0]["msg"], message);
    }
    for (body, error) in
        [(r#"{"sqft":1e999}"#, "number out of range"), (&"[".repeat(3000), "recursion limit exceeded")]
    {
        let (status, detail) = answer("/predict", "application/json", body, &model);
        assert_eq!((status, &detail[0]["ctx"]["error"]), (422, &json!(error)));
    }
    assert_eq!(house(b"\"\xff\"", true, &model), Err(Rejection::NotText));
}

#[test]
fn a_flood_of_problems_ends_at_the_limit() {
    let body = format!("[{}1]", "{},".repeat(100_000));
    let Err(Rejection::Problems(problems)) = houses(body.as_bytes(), true, &model()) else {
        panic!("rejected")
    };
    assert_eq!(problems.len(), PROBLEMS_MAX);
}

#[test]
fn query_flags() {
    for (query, expected) in [
        (None, Some(false)),
        (Some("explain=true"), Some(true)),
        (Some("a=b&explain=1"), Some(true)),
        (Some("explain=On"), Some(true)),
        (Some("explain=true&explain=no"), Some(false)),
        (Some("explained=true"), Some(false)),
        (Some("explain="), None),
        (Some("explain"), None),
        (Some("explain=maybe"), None),
    ] {
        assert_eq!(query_flag(query, "explain").ok(), expected, "{query:?}");
    }
    let Err(Rejection::Problems(problems)) = query_flag(Some("explain=maybe"), "explain") else {
        panic!("rejected")
    };
    assert_eq!(
        json!(problems),
        json!([{"type": "bool_parsing", "loc": ["query", "explain"], "input": "maybe",
                "msg": "Input should be a valid boolean, unable to interpret input"}])
    );
}

proptest! {
    /// Any text is a house or a list of problems: never a panic, never an empty list.
    #[test]
    fn any_text_is_read_or_explained(body in r#"([{}\[\]:,"\\0-9eE.+-]|true|null|"[a-z]*"|\\u[0-9a-f]{0,4}| |é){0,40}"#) {
        if let Err(Rejection::Problems(problems)) = house(body.as_bytes(), true, &model()) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_read_or_explained(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        prop_assert!(house(&body, true, &model()).is_err());
        prop_assert!(houses(&body, true, &model()).is_err() || serde_json::from_slice::<Vec<Value>>(&body).is_ok());
    }

    /// A model file is untrusted too: damage is refused, or changes no more than numbers.
    #[test]
    fn a_damaged_model_never_panics(
        at in prop_oneof![0usize..2_000, 0usize..61_000],
        byte in any::<u8>(),
        cut in prop_oneof![Just(0usize), 0usize..62_000],
    ) {
        let mut bytes = model().encode();
        bytes[at] = byte;
        bytes.truncate(bytes.len().saturating_sub(cut));
        if let Ok(model) = Model::decode(&bytes)
            && let Some(location) = model.location("urban").or(model.location("rural"))
        {
            let house = crate::House { sqft: 1.0, bedrooms: 1, bathrooms: 1.0, year_built: 2000, condition: 3, location };
            model.predict(&house);
            model.contributions(&house);
        }
    }
}
