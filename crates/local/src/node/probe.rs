//! Probes: is a container up, ready, alive?
//!
//! Rules and texts are the kubelet's (`pkg/kubelet/prober`): the startup probe first; after it readiness and liveness side by
//! side; `failureThreshold` failures or `successThreshold` successes in a row change the result. One thing is sooner: until
//! a container's first success the startup or readiness probe is also tried between its periods (50 ms, then doubled), so
//! that a server that is up after 60 ms is not ready after 10 s. Those extra tries can only succeed: failures count at periods alone.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::time::{Instant, sleep_until, timeout};

use super::network::PodNetwork;

/// The first extra try.
const EAGER_FIRST: Duration = Duration::from_millis(50);
/// A probe reads this much of an answer and no more.
const ANSWER_BYTES_MAX: usize = 10 * 1024;

/// Which question a probe answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Purpose {
    Startup,
    Readiness,
    Liveness,
}

/// What probes need to reach a container.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) network: &'a PodNetwork,
    pub(crate) container: &'a Container,
    /// Runs a command in the container: exit code and output.
    pub(crate) exec: &'a (dyn ExecInContainer + Sync),
}

/// Runs commands in a container.
pub(crate) trait ExecInContainer {
    /// Exit code and what was printed.
    fn exec<'a>(&'a self, argv: &'a [String]) -> BoxFuture<'a, io::Result<(i32, String)>>;
}

/// The counters of one probe.
struct Streak {
    successes_needed: i32,
    failures_needed: i32,
    successes: i32,
    failures: i32,
}

impl Streak {
    /// Takes one result in; the answer is a result that has just become certain.
    fn note(&mut self, success: bool) -> Option<bool> {
        if success {
            self.failures = 0;
            self.successes += 1;
            (self.successes >= self.successes_needed).then_some(true)
        } else {
            self.successes = 0;
            self.failures += 1;
            (self.failures >= self.failures_needed).then_some(false)
        }
    }
}

/// Probes for ever; `told` hears every certain result and every counted failure's text, and says whether to go on.
pub(crate) async fn probe(
    probe: &Probe,
    purpose: Purpose,
    target: Target<'_>,
    mut told: impl FnMut(Option<bool>, Option<String>) -> bool,
) {
    let seconds = |n: Option<i32>, default: u64| Duration::from_secs(n.map_or(default, |n| n.max(0) as u64));
    let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let mut streak = Streak {
        successes_needed: probe.success_threshold.unwrap_or(1),
        failures_needed: probe.failure_threshold.unwrap_or(3),
        successes: 0,
        failures: 0,
    };
    let mut next_period = Instant::now() + seconds(probe.initial_delay_seconds, 0);
    let mut eager = (purpose != Purpose::Liveness).then_some(EAGER_FIRST);
    let mut counted = purpose == Purpose::Liveness;
    sleep_until(next_period).await;
    loop {
        let result = match timeout(limit, ask(probe, target)).await {
            Ok(result) => result,
            Err(_) => Err(format!("probe timed out after {}s", limit.as_secs())),
        };
        let certain = match &result {
            Ok(()) => streak.note(true),
            Err(_) if counted => streak.note(false),
            Err(_) => None,
        };
        let text = result.err().filter(|_| counted);
        if certain == Some(true) {
            eager = None;
        }
        if !told(certain, text) {
            return;
        }
        counted = wait(&mut next_period, period, &mut eager).await;
    }
}

/// Waits for the next period, or for an extra try before it; says whether it is the period.
async fn wait(next_period: &mut Instant, period: Duration, eager: &mut Option<Duration>) -> bool {
    let now = Instant::now();
    while *next_period <= now {
        *next_period += period;
    }
    match eager {
        Some(delay) if now + *delay < *next_period => {
            sleep_until(now + *delay).await;
            *delay *= 2;
            false
        }
        _ => {
            sleep_until(*next_period).await;
            true
        }
    }
}

async fn ask(probe: &Probe, target: Target<'_>) -> Result<(), String> {
    if let Some(http) = &probe.http_get {
        return http_get(http, target).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = port(&tcp.port, target.container)?;
        return target.network.connect(port).await.map(drop).map_err(|e| dial(target.network, port, &e));
    }
    if let Some(exec) = &probe.exec {
        let (code, output) =
            target.exec.exec(exec.command.as_deref().unwrap_or_default()).await.map_err(|e| e.to_string())?;
        return if code == 0 { Ok(()) } else { Err(output) };
    }
    if let Some(grpc) = &probe.grpc {
        let port = port(&IntOrString::Int(grpc.port), target.container)?;
        let stream = target.network.connect(port).await.map_err(|e| dial(target.network, port, &e))?;
        return super::grpc::check(stream, grpc.service.as_deref().unwrap_or_default()).await;
    }
    Err("missing probe handler".to_owned())
}

pub(crate) async fn http_get(action: &HTTPGetAction, target: Target<'_>) -> Result<(), String> {
    if action.scheme.as_deref() == Some("HTTPS") {
        return Err("HTTPS probes are not supported on this machine: use HTTP or tcpSocket".to_owned());
    }
    let network = target.network;
    let port = port(&action.port, target.container)?;
    let path = format!("/{}", action.path.as_deref().unwrap_or("/").trim_start_matches('/'));
    let url = format!("http://{}:{port}{path}", network.ip());
    let failed = |e: String| format!("Get \"{url}\": {e}");
    let stream = network.connect(port).await.map_err(|e| failed(dial(network, port, &e)))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|e| failed(e.to_string()))?;
    let mut request = http::Request::get(&path)
        .header("host", format!("{}:{port}", network.ip()))
        .header("user-agent", "kube-probe/1.37")
        .header("accept", "*/*")
        .header("connection", "close");
    for header in action.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::new()).map_err(|e| failed(e.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| failed(e.to_string()))?;
        let status = response.status().as_u16();
        // the answer itself does not matter, but a server may dislike being cut off
        let _ = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        if (200..400).contains(&status) {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {status}"))
        }
    };
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = &mut exchange => result,
        _ = &mut connection => exchange.await,
    }
}

fn dial(network: &PodNetwork, port: u16, e: &io::Error) -> String {
    let why = match e.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => e.to_string(),
    };
    format!("dial tcp {}:{port}: connect: {why}", network.ip())
}

/// A port by number, or by the name it has in the container.
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_ref() == Some(name))
            .map(|p| p.container_port)
            .or_else(|| name.parse().ok()),
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .ok_or_else(|| format!("no port named {port:?} in the container"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_become_certain_after_enough_in_a_row() {
        let check = |needed: (i32, i32), results: &str, expected: &str| {
            let (successes_needed, failures_needed) = needed;
            let mut streak = Streak { successes_needed, failures_needed, successes: 0, failures: 0 };
            let certain: String = results
                .chars()
                .map(|c| match streak.note(c == '+') {
                    Some(true) => '+',
                    Some(false) => '-',
                    None => '.',
                })
                .collect();
            assert_eq!(certain, expected, "{needed:?} {results}");
        };
        check((1, 3), "+--+---", "+..+..-");
        check((2, 1), "+-++", ".-.+");
        check((1, 1), "-+-", "-+-");
    }

    #[tokio::test(start_paused = true)]
    async fn extra_tries_come_between_periods_until_the_first_success() {
        let start = Instant::now();
        let period = Duration::from_secs(1);
        let (mut next, mut eager) = (start, Some(EAGER_FIRST));
        let mut seen = Vec::new();
        for _ in 0..6 {
            let counted = wait(&mut next, period, &mut eager).await;
            seen.push((start.elapsed().as_millis(), counted));
        }
        assert_eq!(
            seen,
            [(50, false), (150, false), (350, false), (750, false), (1000, true), (1800, false)]
        );
        eager = None;
        assert!(wait(&mut next, period, &mut eager).await);
        assert_eq!(start.elapsed().as_millis(), 2000);
    }
}
