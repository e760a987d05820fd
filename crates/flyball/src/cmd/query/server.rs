//! The server of a query: the world of a kubeconfig, through its API server, or a Prometheus by its URL.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use http::{Request, StatusCode, Uri, header};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::place;

/// The path of the Prometheus API in a world's API server.
const IN_WORLD: &str = "/apis/flyball.dev/v1alpha1/prometheus";

/// A Prometheus API.
pub(super) struct Server {
    client: Client,
    prefix: &'static str,
    name: String,
}

/// A successful response.
pub(super) struct Reply {
    pub(super) data: Value,
    /// The warnings, then the infos.
    pub(super) annotations: Vec<String>,
}

impl Server {
    /// Returns the server at `url`, or else that of the kubeconfig.
    pub(super) async fn find(url: Option<&str>, kubeconfig: Option<PathBuf>) -> Result<Server> {
        let Some(url) = url else { return Server::of_world(kubeconfig).await };
        let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = whole.parse().with_context(|| {
            format!("--server {url}: not a URL; write one such as http://127.0.0.1:30300")
        })?;
        if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            bail!("--server {url}: write a URL such as http://127.0.0.1:30300");
        }
        Ok(Server { client: Client::try_from(Config::new(uri))?, prefix: "", name: whole })
    }

    async fn of_world(kubeconfig: Option<PathBuf>) -> Result<Server> {
        let path = place::find_kubeconfig(kubeconfig)?;
        let kubeconfig =
            Kubeconfig::read_from(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let name = format!("the world of `{}`", path.display());
        Ok(Server { client: Client::try_from(config)?, prefix: IN_WORLD, name })
    }

    /// Posts a form to an endpoint of the API.
    pub(super) async fn post(&self, endpoint: &str, form: &[(&str, &str)]) -> Result<Reply> {
        let request = Request::post(format!("{}/api/v1/{endpoint}", self.prefix))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(encode(form).into_bytes()))?;
        let response = self.client.send(request).await;
        let response = response.with_context(|| format!("cannot reach {}", self.name))?;
        let status = response.status();
        let body = response.into_body().collect_bytes().await?;
        self.read(status, &body)
    }

    fn read(&self, status: StatusCode, body: &[u8]) -> Result<Reply> {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        if json["status"] == "success" {
            let texts = |name: &str| {
                let list = json[name].as_array().map(Vec::as_slice).unwrap_or_default();
                list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect::<Vec<_>>()
            };
            let annotations = [texts("warnings"), texts("infos")].concat();
            return Ok(Reply { data: json["data"].clone(), annotations });
        }
        if json["status"] == "error" {
            let text = |name: &str| json[name].as_str().unwrap_or_default();
            bail!("{}: {}", text("errorType"), text("error"));
        }
        let message = json["message"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        Err(anyhow!("{} has no Prometheus API: {message}; name another server with --server URL", self.name))
    }
}

/// Encodes name and value pairs as a form.
fn encode(pairs: &[(&str, &str)]) -> String {
    let escape = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let pairs = pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Adds the line of the query with a pointer to the position of a parse error (`1:5: parse error: …`).
pub(super) fn point_at(query: &str, error: anyhow::Error) -> anyhow::Error {
    let message = error.to_string();
    match pointer(&message, query) {
        Some(pointer) => anyhow!("{message}\n{pointer}"),
        None => error,
    }
}

fn pointer(message: &str, query: &str) -> Option<String> {
    let (before, _) = message.split_once(": parse error: ")?;
    let (_, place) = before.rsplit_once(' ').unwrap_or(("", before));
    let (line, column) = place.split_once(':')?;
    let line_text = query.lines().nth(line.parse::<usize>().ok()?.checked_sub(1)?)?;
    let before = line_text.get(..column.parse::<usize>().ok()?.checked_sub(1)?)?;
    Some(format!("  {line_text}\n  {}^", " ".repeat(before.chars().count())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_errors_point_at_their_position() {
        let rows = [
            (
                "bad_data: invalid parameter \"query\": 1:5: parse error: unexpected end of input",
                "sum(",
                Some("  sum(\n      ^"),
            ),
            ("1:1: parse error: x", "é", Some("  é\n  ^")),
            ("2:2: parse error: x", "a +\n)b", Some("  )b\n   ^")),
            ("9:9: parse error: x", "a", None),
            ("execution: too many samples", "a", None),
        ];
        for (message, query, expected) in rows {
            assert_eq!(pointer(message, query).as_deref(), expected, "{message}");
        }
    }

    #[test]
    fn forms_are_escaped() {
        assert_eq!(
            encode(&[("query", "a+b{c=\"é\"}"), ("time", "1.5")]),
            "query=a%2Bb%7Bc%3D%22%C3%A9%22%7D&time=1%2E5"
        );
    }
}
