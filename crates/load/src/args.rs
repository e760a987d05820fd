//! The arguments: hey's flags unchanged, plus a few of our own.

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;

use crate::go_duration::{parse_go_duration, parse_timeout};

/// The format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// hey's summary.
    Text,
    /// One JSON object.
    Json,
    /// One line for each successful request, in hey's columns.
    Csv,
}

/// The arguments of `flyball load`. Pass the words through [`normalize_args`] first: clap cannot parse `-host`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Total number of requests; ignored with -z.
    #[arg(short = 'n', default_value_t = 200, value_name = "N")]
    pub requests: u64,
    /// Concurrent workers; at most one for each request.
    #[arg(short = 'c', default_value_t = 50, value_name = "N")]
    pub workers: usize,
    /// Requests per second of each worker; a slow response delays the next request.
    #[arg(short = 'q', value_name = "RATE", conflicts_with = "rate")]
    pub worker_rate: Option<f64>,
    /// Total requests per second, sent on schedule even if earlier ones are unanswered; latency counts from the schedule.
    #[arg(long, value_name = "RATE")]
    pub rate: Option<f64>,
    /// How long to send, such as 30s, 3m or 1m30s.
    #[arg(short = 'z', value_name = "DURATION", value_parser = parse_go_duration)]
    pub duration: Option<Duration>,
    /// Report format.
    #[arg(short = 'o', long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: Output,
    /// HTTP method.
    #[arg(short = 'm', default_value = "GET", value_name = "METHOD")]
    pub method: String,
    /// Request header as "Name: value"; may be repeated.
    #[arg(short = 'H', value_name = "HEADER", allow_hyphen_values = true)]
    pub headers: Vec<String>,
    /// Timeout of each request, in seconds or such as 500ms; 0 means none.
    #[arg(short = 't', default_value = "20", value_name = "TIME", value_parser = parse_timeout)]
    pub timeout: Duration,
    /// Accept header.
    #[arg(short = 'A', value_name = "TYPE")]
    pub accept: Option<String>,
    /// Content-Type header.
    #[arg(short = 'T', default_value = "text/html", value_name = "TYPE")]
    pub content_type: String,
    /// User-Agent header, placed before our own.
    #[arg(short = 'U', value_name = "AGENT")]
    pub user_agent: Option<String>,
    /// Request body.
    #[arg(short = 'd', value_name = "BODY", conflicts_with = "body_file", allow_hyphen_values = true)]
    pub body: Option<String>,
    /// File with the request body.
    #[arg(short = 'D', value_name = "FILE")]
    pub body_file: Option<PathBuf>,
    /// Basic authentication as user:password.
    #[arg(short = 'a', value_name = "USER:PASSWORD", hide_env_values = true)]
    pub auth: Option<String>,
    /// HTTP proxy as host:port.
    #[arg(short = 'x', value_name = "HOST:PORT")]
    pub proxy: Option<String>,
    /// Use HTTP/2 with https:// servers that support it; http:// stays HTTP/1.1.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL", value_parser = parse_go_bool)]
    pub h2: bool,
    /// Use HTTP/2 with http:// servers too, by prior knowledge.
    #[arg(long)]
    pub h2c: bool,
    /// Host header.
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Do not request compressed responses.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL", value_parser = parse_go_bool)]
    pub disable_compression: bool,
    /// Open a new connection for each request.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL", value_parser = parse_go_bool)]
    pub disable_keepalive: bool,
    /// Do not follow redirects.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL", value_parser = parse_go_bool)]
    pub disable_redirects: bool,
    /// Number of threads. One sends tens of thousands of requests per second.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub cpus: usize,
    /// Accept any TLS certificate, as hey always does.
    #[arg(short = 'k', long)]
    pub insecure: bool,
    /// Show no progress.
    #[arg(long)]
    pub no_progress: bool,
    /// The URL to send requests to, such as http://host:port/path.
    pub url: String,
}

/// hey's flags of more than one letter.
const LONG: [&str; 6] =
    ["host", "h2", "disable-compression", "disable-keepalive", "disable-redirects", "cpus"];
/// Short flags that take a value; the word after one is left as it is.
const VALUED: &str = "ncqzomHtATUdDax";

/// Parses the value of a boolean flag as Go does: `-h2` alone is `-h2=true`.
fn parse_go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// Rewrites the words after `flyball load` from Go's flag style to clap's: `-host x` to `--host x`, `--n 5` to `-n 5`.
///
/// Values and everything after `--` stay unchanged.
pub fn normalize_args(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut words = words.into_iter();
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            out.push(word);
            out.extend(words);
            break;
        }
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            out.push(word);
            continue;
        };
        let name = flag.split('=').next().unwrap_or(flag);
        let short = name.chars().count() == 1;
        let dashed = if short {
            format!("-{flag}")
        } else if LONG.contains(&name) {
            format!("--{flag}")
        } else {
            word.clone()
        };
        let takes_value = !flag.contains('=')
            && (short && VALUED.contains(name) || matches!(name, "host" | "cpus" | "rate" | "output"));
        out.push(dashed);
        if takes_value {
            out.extend(words.next());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_flags_become_claps() {
        for (given, wanted) in [
            ("-n 10 -c 3 http://a", "-n 10 -c 3 http://a"),
            ("-n=10 --c 3", "-n=10 -c 3"),
            ("-host a.b -h2 -cpus=2", "--host a.b --h2 --cpus=2"),
            ("-disable-keepalive -disable-redirects", "--disable-keepalive --disable-redirects"),
            ("-d -host -m POST", "-d -host -m POST"),
            ("-- -host", "-- -host"),
        ] {
            let got = normalize_args(given.split(' ').map(String::from)).join(" ");
            assert_eq!(got, wanted, "{given}");
        }
    }
    proptest::proptest! {
        #[test]
        fn words_are_neither_lost_nor_added(words in proptest::collection::vec("-{0,3}[a-z2=-]{0,6}|.*", 0..8)) {
            let out = normalize_args(words.clone());
            proptest::prop_assert_eq!(out.len(), words.len());
            for (before, after) in words.iter().zip(&out) {
                proptest::prop_assert_eq!(before.trim_start_matches('-'), after.trim_start_matches('-'));
            }
            proptest::prop_assert_eq!(normalize_args(out.clone()), out);
        }
    }
}
