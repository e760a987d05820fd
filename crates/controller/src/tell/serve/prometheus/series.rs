//! `/api/v1/series`, `/api/v1/labels` and `/api/v1/label/<name>/values`.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use flyball_metrics::{Labels, Matcher, SeriesHandle, parse_time_ms, promql, response};

use crate::tell::serve::prometheus::parameters::Parameters;
use crate::tell::serve::prometheus::run::{Query, ask};
use crate::tell::serve::prometheus::{Refused, Source, respond};

pub(super) async fn series(State(source): State<Source>, parameters: Parameters) -> Response {
    if parameters.get("match[]").is_none() {
        return Refused::bad_data("no match[] parameter provided").into_response();
    }
    from_selected(&source, parameters, |selected, limit| {
        let labels: BTreeSet<&Labels> = selected.iter().map(SeriesHandle::labels).collect();
        response::series(labels.into_iter(), limit)
    })
    .await
}

pub(super) async fn label_names(State(source): State<Source>, parameters: Parameters) -> Response {
    from_selected(&source, parameters, |selected, limit| {
        let names: BTreeSet<&str> =
            selected.iter().flat_map(|series| series.labels().iter().map(|(name, _)| name)).collect();
        response::strings(names.into_iter(), limit)
    })
    .await
}

pub(super) async fn label_values(
    State(source): State<Source>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Response {
    let name = unescape_name(&name).unwrap_or(name);
    from_selected(&source, parameters, move |selected, limit| {
        let values = selected.iter().map(|series| series.labels().get(&name));
        let values: BTreeSet<&str> = values.filter(|value| !value.is_empty()).collect();
        response::strings(values.into_iter(), limit)
    })
    .await
}

/// An answer made from the series that the request's `match[]`, `start` and `end` select; from all without them.
async fn from_selected(
    source: &Source,
    parameters: Parameters,
    body: impl FnOnce(&[SeriesHandle], usize) -> String + Send + 'static,
) -> Response {
    let question = |query: &Query<'_>| {
        let limit = query.parameters.limit()?;
        let from_ms = query.parameters.optional("start", parse_time_ms)?.unwrap_or(i64::MIN);
        let to_ms = query.parameters.optional("end", parse_time_ms)?.unwrap_or(i64::MAX);
        let mut selectors = query.parameters.selectors()?;
        if selectors.is_empty() {
            selectors.push(Vec::new());
        }
        Ok(body(&query.select(&selectors, from_ms, to_ms)?, limit))
    };
    respond(ask(source, parameters, question).await)
}

impl Query<'_> {
    /// The series that any of the selectors matches, in a stretch of time; some may be there twice.
    pub(super) fn select(
        &self,
        selectors: &[Vec<Matcher>],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<SeriesHandle>, Refused> {
        let mut selected = promql::select(self.store(), selectors, &self.stop())?;
        selected.retain(|series| series.read().is_between(from_ms, to_ms));
        Ok(selected)
    }
}

/// A label name that was escaped to fit into a path: `U__my_2e_label` is `my.label`. `None` if it is none.
fn unescape_name(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut plain = String::with_capacity(rest.len());
    while let Some(at) = rest.find('_') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('_') {
            Some(after) => {
                plain.push('_');
                rest = after;
            }
            None => {
                let (code, after) = rest.split_once('_')?;
                plain.push(u32::from_str_radix(code, 16).ok().and_then(char::from_u32)?);
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::unescape_name;

    #[test]
    fn escaped_names_are_read() {
        let rows = [
            ("job", None),
            ("U__my_2e_label", Some("my.label")),
            ("U__a__b", Some("a_b")),
            ("U___1f600___", Some("\u{1f600}_")),
            ("U__a_zz_b", None),
            ("U__a_2e", None),
        ];
        for (name, expected) in rows {
            assert_eq!(unescape_name(name).as_deref(), expected, "{name}");
        }
    }
}
