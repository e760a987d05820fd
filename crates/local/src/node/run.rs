//! The life of one container: start, probes, end, and start again as the restart policy says.
//!
//! Reasons, messages and events are the kubelet's: `ErrImageNeverPull`, `CreateContainerConfigError`, `StartError`,
//! `CrashLoopBackOff` with "back-off 10s restarting failed container=… pod=…", `OOMKilled`, `Completed`, `Error`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, ObjectReference};
use rustix::process::Signal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::BackOff;
use super::network::Way;
use super::pod::{Live, PodContext, declared_ports, grace_over};
use super::probe::{ExecInContainer, Purpose, Target, http_get, probe};
use super::state::{ContainerState, Ended, Run};
use super::{env, security, volumes};
use crate::cluster::{Severity, reference};
use crate::container::limits::Limits;
use crate::container::logs::Log;
use crate::container::message::{Namespaces, RunSpec};
use crate::container::process::{Exit, Outputs, Process};

/// After a configuration error, which only a change outside of the pod can mend.
const CONFIG_RETRY: Duration = Duration::from_secs(10);
/// Output of a probe or hook that is kept.
const EXEC_OUTPUT_BYTES_MAX: usize = 10 * 1024;

/// Why a container could not be started.
enum NotStarted {
    /// It stays as it is: nothing on this machine will change.
    Image(String),
    /// Something it names is not there yet.
    Config(String),
    /// The program could not be executed.
    Start(String),
}

/// Runs a container until it needs no further start; whether it succeeded.
pub(crate) async fn until_done(context: &Arc<PodContext>, index: usize) -> bool {
    let Some(ContainerState { run, restart, .. }) = context.container_state(index) else { return false };
    if let Run::Ended(end) = run {
        return end.code == 0;
    }
    let stop = context.stop_of(index);
    let mut score = BackOff::default();
    loop {
        if stop.is_cancelled() {
            return false;
        }
        let Some(container) = context.container(index) else { return false };
        let began = Instant::now();
        let ended = match start(context, index, &container).await {
            Ok(running) => running.until_end(context, index, &container).await,
            Err(NotStarted::Image(message)) => {
                wait_for_image(context, index, &container, message).await;
                return false;
            }
            Err(NotStarted::Config(message)) => {
                failed(context, &container, &message);
                waiting(context, index, "CreateContainerConfigError", message);
                pause(stop, CONFIG_RETRY).await;
                continue;
            }
            Err(NotStarted::Start(message)) => {
                failed(context, &container, &message);
                // never started: the kubelet and its runtime show the beginning of Unix time
                ended(128, "StartError", Some(message), Some(Timestamp::UNIX_EPOCH))
            }
        };
        let code = ended.code;
        context.update_container(index, |c| {
            c.ready = false;
            c.started = false;
            c.run = Run::Ended(ended.clone());
        });
        let is_resized = context.container_state(index).is_some_and(|c| c.restarting);
        if is_resized && !stop.is_cancelled() {
            again_at_once(context, index, ended);
            continue;
        }
        if !restart.follows(code) || stop.is_cancelled() {
            return code == 0;
        }
        back_off(context, index, &container, ended, score.after(began.elapsed())).await;
    }
}

fn failed(context: &PodContext, container: &Container, message: &str) {
    context.event(&about(context, container), Severity::Warning, "Failed", format!("Error: {message}"));
}

/// A container that was ended for a resize starts again, whatever the restart policy says.
fn again_at_once(context: &PodContext, index: usize, ended: Ended) {
    context.update_container(index, |c| {
        c.last = Some(ended);
        c.restarts += 1;
        c.run = Run::Waiting { reason: "ContainerCreating".to_owned(), message: None };
    });
}

/// Waits before the next start, as `CrashLoopBackOff` if there is anything to wait for.
async fn back_off(context: &PodContext, index: usize, container: &Container, ended: Ended, wait: Duration) {
    let pod = format!("{}_{}({})", context.key.name, context.key.namespace, context.uid);
    if !wait.is_zero() {
        let name = &container.name;
        let message = format!("Back-off restarting failed container {name} in pod {pod}");
        context.event(&about(context, container), Severity::Warning, "BackOff", message);
    }
    let message =
        format!("back-off {} restarting failed container={} pod={pod}", go_duration(wait), container.name);
    context.update_container(index, |c| {
        c.last = Some(ended);
        c.restarts += 1;
        c.run = Run::Waiting { reason: "CrashLoopBackOff".to_owned(), message: Some(message) };
    });
    pause(context.stop_of(index), wait).await;
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

async fn wait_for_image(context: &PodContext, index: usize, container: &Container, message: String) {
    let about = about(context, container);
    context.event(&about, Severity::Warning, "ErrImageNeverPull", message.clone());
    context.event(&about, Severity::Warning, "Failed", "Error: ErrImageNeverPull".to_owned());
    waiting(context, index, "ErrImageNeverPull", message);
    context.stop_of(index).cancelled().await;
}

fn waiting(context: &PodContext, index: usize, reason: &str, message: String) {
    context.update_container(index, |c| {
        c.run = Run::Waiting { reason: reason.to_owned(), message: Some(message) };
    });
}

async fn pause(stop: &CancellationToken, time: Duration) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = stop.cancelled() => {}
    }
}

/// The reference that a container's events carry.
fn about(context: &PodContext, container: &Container) -> ObjectReference {
    let field_path = Some(format!("spec.containers{{{}}}", container.name));
    ObjectReference { field_path, ..reference(&*context.pod()) }
}

/// A started container.
struct Running {
    process: Arc<Process>,
    started_at: Timestamp,
    user_namespace: bool,
    /// What a command of a probe or hook has in common with the program.
    command: RunSpec,
}

async fn start(
    context: &Arc<PodContext>,
    index: usize,
    container: &Container,
) -> Result<Running, NotStarted> {
    let image_name = container.image.clone().unwrap_or_default();
    let node = &context.node;
    let image =
        node.images.get(&image_name).ok_or_else(|| NotStarted::Image(node.images.missing(&image_name)))?;
    let about = about(context, container);
    context.event(
        &about,
        Severity::Normal,
        "Pulled",
        format!("Container image \"{image_name}\" already present on machine"),
    );
    let start_error = |e: io::Error| NotStarted::Start(e.to_string());

    let pod = context.pod();
    let ip = context.network.get().map(|network| network.ip().to_string()).unwrap_or_default();
    let mut env =
        env::environment(&node.cluster.client, &pod, container, &ip).await.map_err(NotStarted::Config)?;
    if let Some(Way::Host(ports)) = context.network.get().map(|network| network.way()) {
        let first = declared_ports(&pod).first().and_then(|port| ports.get(port));
        env.extend(first.map(|port| ("PORT".to_owned(), port.to_string())));
        env.extend(ports.iter().map(|(declared, real)| (format!("PORT_{declared}"), real.to_string())));
    }
    let restarts = context.container_state(index).map_or(0, |c| c.restarts);
    let group = match &node.cgroups {
        Some(cgroups) => {
            let name = format!("{}_{}_{restarts}", context.uid, container.name);
            let limits = Limits::of(container.resources.as_ref());
            Some(Arc::new(cgroups.create(&name, &limits).map_err(start_error)?))
        }
        None => None,
    };
    let namespaces = match context.network.get().map(|network| network.way()) {
        Some(Way::Sandbox(sandbox)) => {
            Namespaces::Pod { sandbox: sandbox.pid(), user: sandbox.has_user_namespace() }
        }
        _ => Namespaces::Host,
    };
    let scratch = context.dir().join("scratch").join(&container.name);
    std::fs::create_dir_all(&scratch).map_err(start_error)?;
    let mounts = context
        .volumes
        .get()
        .map(|v| volumes::mounts(container, v, &env))
        .transpose()
        .map_err(NotStarted::Config)?;
    let mut mounts = mounts.unwrap_or_default();
    mounts.extend(volumes::hosts(&pod, context.dir()).map_err(start_error)?);
    let user_namespace = matches!(namespaces, Namespaces::Pod { user: true, .. });
    let mut spec = RunSpec {
        namespaces,
        cgroup_entrances: group.iter().flat_map(|g| g.entrances()).collect(),
        root: image.root.clone(),
        mounts,
        scratch: Some(scratch),
        hidden: node.private.clone(),
        identity: security::identity(&pod, container, rustix::process::getuid().is_root())
            .map_err(NotStarted::Config)?,
        hostname: Some(env::hostname(&pod)),
        working_dir: container.working_dir.as_ref().map(Into::into),
        argv: env::command_line(image, container, &env),
        env: env.into_iter().collect(),
    };
    let log = Log::open(&context.log_dir().join(&container.name), restarts).await.map_err(start_error)?;
    let outputs = Outputs {
        stdout: Some(log.pipe("stdout").map_err(start_error)?),
        stderr: Some(log.pipe("stderr").map_err(start_error)?),
    };
    context.event(&about, Severity::Normal, "Created", format!("Created container: {}", container.name));
    let process = Arc::new(node.launcher.run(&spec, outputs).await.map_err(start_error)?);
    context.event(&about, Severity::Normal, "Started", format!("Started container {}", container.name));
    let restart = Arc::default();
    let (running, written) = (Arc::downgrade(&process), Arc::downgrade(&log));
    context.set_live(index, Live { group, restart, process: running, log: written });
    let started_at = Timestamp::now();
    context.update_container(index, |c| {
        c.run = Run::Running { since: started_at };
        c.resources = container.resources.clone();
        c.restarting = false;
        if hook_after_start(container).is_none() {
            note_start(c, container);
        }
    });
    // a command needs no mounts of its own, and its time is the probe's or hook's
    spec.mounts.clear();
    Ok(Running { process, started_at, user_namespace, command: spec })
}

fn hook_after_start(container: &Container) -> Option<&LifecycleHandler> {
    container.lifecycle.as_ref()?.post_start.as_ref()
}

/// A container that runs is up unless a probe has yet to say so.
fn note_start(state: &mut ContainerState, container: &Container) {
    if container.startup_probe.is_none() {
        state.set_started();
        state.ready = container.readiness_probe.is_none();
    }
}

/// Why a container that runs is stopped.
enum Stop {
    PodEnds,
    /// It is to run again, for this reason.
    Restart(String),
}

impl Running {
    async fn until_end(self, context: &Arc<PodContext>, index: usize, container: &Container) -> Ended {
        let restart = context.live(index).map(|live| live.restart).unwrap_or_default();
        let why = tokio::select! {
            exit = self.process.wait() => return self.ended(context, index, exit, None),
            () = context.stop_of(index).cancelled() => Stop::PodEnds,
            message = self.probes(context, index, container) => Stop::Restart(message),
            () = restart.notified() => {
                Stop::Restart(format!("Container {} resize requires restart", container.name))
            }
        };
        let about = about(context, container);
        let deadline = match why {
            Stop::PodEnds => {
                let message = format!("Stopping container {}", container.name);
                context.event(&about, Severity::Normal, "Killing", message);
                context.deadline.clone()
            }
            Stop::Restart(message) => {
                context.event(&about, Severity::Normal, "Killing", message);
                let grace = context.pod().spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
                let grace = Duration::from_secs(grace.map_or(30, |s| s.max(0) as u64));
                tokio::sync::watch::Sender::new(Some(Instant::now() + grace))
            }
        };
        let stop = async {
            if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref())
                && let Err(e) = self.hook(context, container, hook).await
            {
                context.event(
                    &about,
                    Severity::Warning,
                    "FailedPreStopHook",
                    format!("PreStopHook failed: {e}"),
                );
            }
            self.process.signal(Signal::TERM);
            self.process.wait().await
        };
        let exit = tokio::select! {
            exit = stop => exit,
            () = grace_over(&deadline) => {
                self.process.signal(Signal::KILL);
                self.process.wait().await
            }
        };
        self.ended(context, index, exit, None)
    }

    /// Notes the end, and lets go of the control group, which knows whether memory ran out.
    fn ended(&self, context: &PodContext, index: usize, exit: Exit, message: Option<String>) -> Ended {
        let group = context.live(index).and_then(|live| live.group);
        let out_of_memory = group.as_ref().is_some_and(|group| group.oom_kills() > 0) && exit.code != 0;
        context.set_live(index, Live::default());
        let reason = match exit.code {
            _ if out_of_memory => "OOMKilled",
            0 => "Completed",
            _ => "Error",
        };
        ended(exit.code, reason, message, Some(self.started_at))
    }

    /// Probes as long as the container runs; ends with the reason to kill it.
    async fn probes(&self, context: &Arc<PodContext>, index: usize, container: &Container) -> String {
        if let Some(hook) = hook_after_start(container) {
            if let Err(e) = self.hook(context, container, hook).await {
                let about = about(context, container);
                let message = format!("PostStartHook failed: {e}");
                context.event(&about, Severity::Warning, "FailedPostStartHook", message);
                return format!("Container {} failed its postStart hook", container.name);
            }
            context.update_container(index, |c| note_start(c, container));
        }
        let Some(network) = context.network.get() else { return std::future::pending().await };
        let target = Target { network, container, exec: &Inside { context, running: self } };
        if let Some(startup) = &container.startup_probe {
            let mut failed = false;
            probe(startup, Purpose::Startup, target, |certain, text| {
                unhealthy(context, container, "Startup", text);
                failed = certain == Some(false);
                certain.is_none()
            })
            .await;
            if failed {
                return format!("Container {} failed startup probe, will be restarted", container.name);
            }
            context.update_container(index, |c| {
                c.set_started();
                c.ready = container.readiness_probe.is_none();
            });
        }
        let readiness = async {
            if let Some(readiness) = &container.readiness_probe {
                probe(readiness, Purpose::Readiness, target, |certain, text| {
                    unhealthy(context, container, "Readiness", text);
                    let was = context.container_state(index).map(|c| c.ready);
                    if let Some(ready) = certain.filter(|ready| Some(*ready) != was) {
                        context.update_container(index, |c| c.ready = ready);
                    }
                    true
                })
                .await;
            }
            std::future::pending::<()>().await;
        };
        let liveness = async {
            match &container.liveness_probe {
                Some(liveness) => {
                    probe(liveness, Purpose::Liveness, target, |certain, text| {
                        unhealthy(context, container, "Liveness", text);
                        certain != Some(false)
                    })
                    .await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = readiness => {}
            () = liveness => {}
        }
        format!("Container {} failed liveness probe, will be restarted", container.name)
    }

    async fn hook(
        &self,
        context: &Arc<PodContext>,
        container: &Container,
        hook: &LifecycleHandler,
    ) -> Result<(), String> {
        let inside = Inside { context, running: self };
        if let Some(sleep) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0) as u64)).await;
        } else if let Some(exec) = &hook.exec {
            let argv = exec.command.as_deref().unwrap_or_default();
            let (code, output) = inside.exec(argv).await.map_err(|e| e.to_string())?;
            if code != 0 {
                return Err(format!("command exited with {code}: {output}"));
            }
        } else if let (Some(http), Some(network)) = (&hook.http_get, context.network.get()) {
            http_get(http, Target { network, container, exec: &inside }).await?;
        }
        Ok(())
    }
}

fn unhealthy(context: &PodContext, container: &Container, purpose: &str, text: Option<String>) {
    if let Some(text) = text {
        let message = format!("{purpose} probe failed: {text}");
        context.event(&about(context, container), Severity::Warning, "Unhealthy", message);
    }
}

pub(super) fn ended(
    code: i32,
    reason: &str,
    message: Option<String>,
    started_at: Option<Timestamp>,
) -> Ended {
    Ended { code, reason: reason.to_owned(), message, started_at, finished_at: Timestamp::now() }
}

/// Runs commands in a running container, for probes and hooks.
struct Inside<'a> {
    context: &'a PodContext,
    running: &'a Running,
}

impl ExecInContainer for Inside<'_> {
    fn exec<'a>(&'a self, argv: &'a [String]) -> BoxFuture<'a, io::Result<(i32, String)>> {
        Box::pin(async move {
            let gone = || io::Error::other("the container has ended");
            let pid = self.running.process.pid().ok_or_else(gone)?;
            let user = self.running.user_namespace;
            let isolated = self.context.node.isolated;
            let spec = RunSpec {
                namespaces: if isolated { Namespaces::Container { pid, user } } else { Namespaces::Host },
                argv: argv.to_vec(),
                ..self.running.command.clone()
            };
            let (reader, writer) = io::pipe()?;
            let mut reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
            let outputs = Outputs { stdout: Some(writer.try_clone()?.into()), stderr: Some(writer.into()) };
            let process = self.context.node.launcher.run(&spec, outputs).await?;
            let mut output = Vec::new();
            let mut limited = tokio::io::AsyncReadExt::take(&mut reader, EXEC_OUTPUT_BYTES_MAX as u64);
            tokio::io::AsyncReadExt::read_to_end(&mut limited, &mut output).await?;
            let exit = process.wait().await;
            Ok((exit.code, String::from_utf8_lossy(&output).trim_end().to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_kubernetes() {
        for (seconds, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s")] {
            assert_eq!(go_duration(Duration::from_secs(seconds)), text);
        }
    }
}
