//! Parses the body of a request into houses, or reports every problem at once.
//!
//! Rules and wording are those of FastAPI with pydantic, so that clients need no change: the same `422` with
//! `{"detail": [{"type", "loc", "msg", "input", "ctx"}]}`, the same leniency (`"4"` and `4.0` are integers, `true` is 1),
//! the same order of fields. Three rules are stricter on purpose: numbers must be finite (the original answers 500), an
//! unknown location or condition is a problem in the list (the original stops at the first, with a bare string), and a
//! list of problems ends at [`PROBLEMS_MAX`].

mod fields;
mod problem;
mod syntax;

use serde_json::{Map, Value};

use crate::house::{BUILD_YEARS, House};
use crate::model::Model;
use fields::{FieldError, Fields};

pub(crate) use problem::{Loc, Problem};

/// The most problems in one response. Without a limit, a megabyte of `{},{},…` gets a quarter of a gigabyte back.
pub(crate) const PROBLEMS_MAX: usize = 100;

/// Why a body holds no houses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rejection {
    /// The body is not text; answered with 400.
    NotText,
    /// The body breaks rules; answered with 422.
    Problems(Vec<Problem>),
}

/// Parses one house; `is_json` is whether the content type says that the body is JSON.
///
/// # Errors
/// Returns every problem of the body.
pub(crate) fn house(body: &[u8], is_json: bool, model: &Model) -> Result<House, Rejection> {
    let value = parse(body, is_json)?;
    let mut problems = Vec::new();
    let house = read_house(&value, &mut vec![Loc::Name("body")], model, &mut problems);
    house.ok_or(Rejection::Problems(problems))
}

/// Parses a list of houses.
///
/// # Errors
/// Returns the problems of all houses, up to [`PROBLEMS_MAX`].
pub(crate) fn houses(body: &[u8], is_json: bool, model: &Model) -> Result<Vec<House>, Rejection> {
    let value = parse(body, is_json)?;
    let Value::Array(items) = value else {
        let problem = Problem::new("list_type", &[Loc::Name("body")], "Input should be a valid list", &value);
        return Err(Rejection::Problems(vec![problem]));
    };
    let (mut houses, mut problems) = (Vec::with_capacity(items.len()), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let mut loc = vec![Loc::Name("body"), Loc::Index(index)];
        houses.extend(read_house(item, &mut loc, model, &mut problems));
        if problems.len() >= PROBLEMS_MAX {
            problems.truncate(PROBLEMS_MAX);
            break;
        }
    }
    if problems.is_empty() { Ok(houses) } else { Err(Rejection::Problems(problems)) }
}

/// Parses a body. To FastAPI one without a JSON content type is a string, and so not an object.
fn parse(body: &[u8], is_json: bool) -> Result<Value, Rejection> {
    let text = std::str::from_utf8(body).map_err(|_| Rejection::NotText)?;
    if text.is_empty() {
        let problem = Problem::new("missing", &[Loc::Name("body")], "Field required", &Value::Null);
        return Err(Rejection::Problems(vec![problem]));
    }
    if !is_json {
        return Ok(Value::String(text.to_owned()));
    }
    serde_json::from_str(text).map_err(|error| Rejection::Problems(vec![syntax::problem(text, &error)]))
}

fn read_house(
    value: &Value,
    loc: &mut Vec<Loc>,
    model: &Model,
    problems: &mut Vec<Problem>,
) -> Option<House> {
    let Value::Object(object) = value else {
        let message = "Input should be a valid dictionary or object to extract fields from";
        problems.push(Problem::new("model_attributes_type", loc, message, value));
        return None;
    };
    read_fields(object, value, loc, model, problems)
}

/// Reads all fields before failing on any, in the order of the original's class.
fn read_fields(
    object: &Map<String, Value>,
    whole: &Value,
    loc: &mut Vec<Loc>,
    model: &Model,
    problems: &mut Vec<Problem>,
) -> Option<House> {
    let mut fields = Fields { object, whole, loc, problems };
    let sqft = fields.read("sqft", |value| fields::number_above(value, 0.0));
    let bedrooms = fields.read("bedrooms", |value| fields::integer_within(value, 1..=i64::MAX));
    let bathrooms = fields.read("bathrooms", |value| fields::number_above(value, 0.0));
    let location = fields.read("location", |value| fields::location(value, model));
    let year_built = fields.read("year_built", |value| fields::integer_within(value, BUILD_YEARS));
    let condition = fields.read("condition", fields::condition);
    Some(House {
        sqft: sqft?,
        bedrooms: bedrooms?,
        bathrooms: bathrooms?,
        year_built: year_built?,
        condition: condition?,
        location: location?,
    })
}

/// Parses a boolean query parameter; the last one wins, absent is false.
///
/// # Errors
/// Returns one problem, in pydantic's words.
pub(crate) fn query_flag(query: Option<&str>, name: &'static str) -> Result<bool, Rejection> {
    let pairs = query.unwrap_or_default().split('&').rev();
    let value = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(key, _)| *key == name);
    let Some((_, value)) = value else { return Ok(false) };
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "t" | "yes" | "y" | "on" => Ok(true),
        "0" | "false" | "f" | "no" | "n" | "off" => Ok(false),
        _ => {
            let message = "Input should be a valid boolean, unable to interpret input";
            let loc = [Loc::Name("query"), Loc::Name(name)];
            Err(Rejection::Problems(vec![Problem::new("bool_parsing", &loc, message, &value.into())]))
        }
    }
}

/// Returns whether FastAPI takes a content type for JSON: `application/json` or `application/*+json`, any parameters.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

impl FieldError {
    fn report(self, loc: &[Loc], input: &Value, problems: &mut Vec<Problem>) {
        for part in self.parts {
            let mut loc = loc.to_vec();
            loc.extend(part.branch.map(Loc::Name));
            problems.push(Problem { ctx: part.ctx, ..Problem::new(part.kind, &loc, &part.message, input) });
        }
    }
}

#[cfg(test)]
mod tests;
