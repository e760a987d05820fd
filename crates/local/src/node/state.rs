//! What the node knows about a pod, and the status this makes: a pure function, so that every field can be put in a table.
//!
//! The rules are the kubelet's (`pkg/kubelet/kubelet_pods.go` `getPhase`, `pkg/kubelet/status/generate.go`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::HOST_IP;
use super::restart::Restart;

/// Everything a pod's status is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodState {
    pub(crate) ip: Option<String>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) init: Vec<ContainerState>,
    pub(crate) containers: Vec<ContainerState>,
    /// A resize that is not granted.
    pub(crate) pending: Option<Resize>,
    /// A resize that was granted and is being carried out.
    pub(crate) in_progress: Option<Resize>,
    /// Why the node has ended the pod, as reason and message; it has failed once its containers have ended.
    pub(crate) failed: Option<(&'static str, String)>,
}

/// How a resize stands, for the condition that shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resize {
    pub(crate) reason: Option<&'static str>,
    pub(crate) message: Option<String>,
    /// The generation of the pod that asked for it.
    pub(crate) generation: Option<i64>,
}

/// One container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerState {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) run: Run,
    pub(crate) last: Option<Ended>,
    pub(crate) restarts: i32,
    /// How it is started again after its end.
    pub(crate) restart: Restart,
    /// Past its startup probe.
    pub(crate) started: bool,
    /// Was past it in this run or an earlier one: a sidecar that was lets the pod go on.
    pub(crate) has_started: bool,
    /// Past its readiness probe; meaningful while running.
    pub(crate) ready: bool,
    /// What the node has granted.
    pub(crate) allocated: ResourceRequirements,
    /// What the control group enforces now.
    pub(crate) resources: Option<ResourceRequirements>,
    /// Ends to start again with other resources.
    pub(crate) restarting: bool,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Run {
    Waiting { reason: String, message: Option<String> },
    Running { since: Timestamp },
    Ended(Ended),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: Option<String>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
}

impl PodState {
    /// A pod whose containers have yet to be made.
    pub(crate) fn new(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let waiting = |reason: &str| Run::Waiting { reason: reason.to_owned(), message: None };
        let with_init = spec.is_some_and(|s| s.init_containers.as_ref().is_some_and(|c| !c.is_empty()));
        let first = waiting(if with_init { "PodInitializing" } else { "ContainerCreating" });
        let all = |containers: &[Container], is_init: bool| {
            containers.iter().map(|c| ContainerState::new(pod, c, is_init, first.clone())).collect::<Vec<_>>()
        };
        PodState {
            init: all(spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default(), true),
            containers: all(spec.map(|s| s.containers.as_slice()).unwrap_or_default(), false),
            ..PodState::default()
        }
    }

    fn initialized(&self) -> bool {
        self.init.iter().all(ContainerState::lets_the_next_start)
    }

    /// Whether the pod has come to its end.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    fn phase(&self) -> &'static str {
        let mut all = self.init.iter().chain(&self.containers);
        if self.failed.is_some() && !all.any(|c| matches!(c.run, Run::Running { .. })) {
            return "Failed";
        }
        let over = |c: &ContainerState| match &c.run {
            Run::Ended(end) if !c.restart.follows(end.code) => Some(end.code),
            _ => None,
        };
        if !self.initialized() {
            let failed = self.init.iter().any(|c| over(c).is_some_and(|code| code != 0));
            return if failed { "Failed" } else { "Pending" };
        }
        let waiting = |c: &ContainerState| matches!(c.run, Run::Waiting { .. }) && c.last.is_none();
        let has_sidecars = self.init.iter().any(|c| c.restart.is_sidecar && !matches!(c.run, Run::Ended(_)));
        let codes: Option<Vec<i32>> = self.containers.iter().map(over).collect();
        match codes {
            _ if self.containers.iter().any(waiting) => "Pending",
            Some(codes) if !has_sidecars => match codes.iter().all(|code| *code == 0) {
                true => "Succeeded",
                false => "Failed",
            },
            _ => "Running",
        }
    }
}

impl ContainerState {
    fn new(pod: &Pod, container: &Container, is_init: bool, run: Run) -> Self {
        ContainerState {
            restart: Restart::of(pod, container, is_init),
            has_started: false,
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            run,
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            allocated: container.resources.clone().unwrap_or_default(),
            resources: None,
            restarting: false,
        }
    }

    /// Notes that the container is up.
    pub(crate) fn set_started(&mut self) {
        (self.started, self.has_started) = (true, true);
    }

    /// Of an init container: whether those after it may start.
    fn lets_the_next_start(&self) -> bool {
        match self.restart.is_sidecar {
            true => self.has_started,
            false => matches!(&self.run, Run::Ended(end) if end.code == 0),
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.run, Run::Running { .. }) && self.started && self.ready
    }

    fn status(&self, uid: &str, is_init: bool) -> ContainerStatus {
        let has_run = !matches!(self.run, Run::Waiting { .. }) || self.last.is_some();
        let completed = matches!(&self.run, Run::Ended(end) if end.code == 0);
        ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: self.image.clone(),
            container_id: has_run.then(|| format!("flyball://{uid}-{}-{}", self.name, self.restarts)),
            ready: if is_init && !self.restart.is_sidecar { completed } else { self.is_ready() },
            started: Some(matches!(self.run, Run::Running { .. }) && self.started),
            restart_count: self.restarts,
            state: Some(self.run.api()),
            last_state: Some(self.last.as_ref().map(|end| Run::Ended(end.clone()).api()).unwrap_or_default()),
            allocated_resources: self.allocated.requests.clone(),
            resources: self.resources.clone(),
            ..ContainerStatus::default()
        }
    }
}

impl Run {
    fn api(&self) -> ApiState {
        match self {
            Run::Waiting { reason, message } => ApiState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some(reason.clone()),
                    message: message.clone(),
                }),
                ..ApiState::default()
            },
            Run::Running { since } => ApiState {
                running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
                ..ApiState::default()
            },
            Run::Ended(end) => ApiState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: end.code,
                    signal: None,
                    reason: Some(end.reason.clone()),
                    message: end.message.clone(),
                    started_at: end.started_at.map(Time),
                    finished_at: Some(Time(end.finished_at)),
                    container_id: None,
                }),
                ..ApiState::default()
            },
        }
    }
}

/// The status to show, given the one that is shown: conditions that do not change keep their times, and those that
/// are not the node's are kept.
pub(crate) fn status(pod: &Pod, state: &PodState, now: Timestamp) -> PodStatus {
    let shown = pod.status.clone().unwrap_or_default();
    let phase = state.phase();
    let failed = state.failed.clone().filter(|_| phase == "Failed");
    let uid = pod.uid().unwrap_or_default();
    let statuses = |list: &[ContainerState], is_init| -> Option<Vec<ContainerStatus>> {
        (!list.is_empty()).then(|| list.iter().map(|c| c.status(&uid, is_init)).collect())
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: failed.as_ref().map(|(reason, _)| (*reason).to_owned()).or(shown.reason),
        message: failed.map(|(_, message)| message).or(shown.message),
        conditions: Some(conditions(pod, state, phase, shown.conditions.unwrap_or_default(), now)),
        container_statuses: statuses(&state.containers, false),
        init_container_statuses: statuses(&state.init, true),
        host_ip: Some(HOST_IP.to_owned()),
        host_ips: Some(vec![HostIP { ip: HOST_IP.to_owned() }]),
        pod_ip: state.ip.clone(),
        pod_ips: state.ip.as_ref().map(|ip| vec![PodIP { ip: ip.clone() }]),
        start_time: state.started_at.map(Time),
        observed_generation: pod.metadata.generation,
        qos_class: shown.qos_class.or_else(|| Some(qos_class(pod).to_owned())),
        ..shown
    }
}

fn conditions(
    pod: &Pod,
    state: &PodState,
    phase: &str,
    shown: Vec<PodCondition>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let sidecars = state.init.iter().filter(|c| c.restart.is_sidecar);
    let unready: Vec<&str> =
        sidecars.chain(&state.containers).filter(|c| !c.is_ready()).map(|c| c.name.as_str()).collect();
    let uninitialized: Vec<&str> =
        state.init.iter().filter(|c| !c.lets_the_next_start()).map(|c| c.name.as_str()).collect();
    let containers_ready = if phase == "Succeeded" {
        Err(("PodCompleted", None))
    } else if phase == "Failed" {
        Err(("PodFailed", None))
    } else if unready.is_empty() {
        Ok(())
    } else {
        Err(("ContainersNotReady", Some(format!("containers with unready status: [{}]", unready.join(" ")))))
    };
    let initialized = if uninitialized.is_empty() {
        Ok(())
    } else {
        let message = format!("containers with incomplete status: [{}]", uninitialized.join(" "));
        Err(("ContainersNotInitialized", Some(message)))
    };
    let ready = containers_ready.clone().and_then(|()| gates(pod, &shown));
    let with_sandbox = if state.ip.is_some() { Ok(()) } else { Err(("", None)) };
    let own = [
        ("PodReadyToStartContainers", with_sandbox),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
    ];
    let mut all: BTreeMap<String, PodCondition> = shown.into_iter().map(|c| (c.type_.clone(), c)).collect();
    let mut out = Vec::new();
    for (name, resize) in [("PodResizePending", &state.pending), ("PodResizeInProgress", &state.in_progress)]
    {
        let shown = all.remove(name);
        out.extend(resize.as_ref().map(|resize| resize_condition(name, resize, shown, now)));
    }
    for (name, outcome) in own {
        out.push(condition(name, outcome, all.remove(name), now, pod.metadata.generation));
    }
    out.push(
        all.remove("PodScheduled").unwrap_or_else(|| condition("PodScheduled", Ok(()), None, now, None)),
    );
    out.extend(all.into_values());
    out
}

fn resize_condition(
    name: &str,
    resize: &Resize,
    shown: Option<PodCondition>,
    now: Timestamp,
) -> PodCondition {
    let reason = resize.reason.map(str::to_owned);
    // looked at anew when it says something else
    let same = shown.filter(|shown| shown.reason == reason && shown.message == resize.message);
    PodCondition {
        type_: name.to_owned(),
        status: "True".to_owned(),
        last_probe_time: same.as_ref().and_then(|shown| shown.last_probe_time.clone()).or(Some(Time(now))),
        last_transition_time: same.and_then(|shown| shown.last_transition_time).or(Some(Time(now))),
        reason,
        message: resize.message.clone(),
        observed_generation: resize.generation,
    }
}

type Outcome = Result<(), (&'static str, Option<String>)>;

fn gates(pod: &Pod, shown: &[PodCondition]) -> Outcome {
    let gates = pod.spec.iter().flat_map(|s| s.readiness_gates.iter().flatten());
    let closed: Vec<String> = gates
        .filter(|gate| !shown.iter().any(|c| c.type_ == gate.condition_type && c.status == "True"))
        .map(|gate| {
            format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )
        })
        .collect();
    if closed.is_empty() { Ok(()) } else { Err(("ReadinessGatesNotReady", Some(closed.join(", ")))) }
}

fn condition(
    name: &str,
    outcome: Outcome,
    shown: Option<PodCondition>,
    now: Timestamp,
    generation: Option<i64>,
) -> PodCondition {
    let status = if outcome.is_ok() { "True" } else { "False" };
    let (reason, message) = outcome.err().unwrap_or_default();
    let since = shown.filter(|c| c.status == status).and_then(|c| c.last_transition_time);
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message,
        last_transition_time: Some(since.unwrap_or(Time(now))),
        observed_generation: generation,
        ..PodCondition::default()
    }
}

/// Guaranteed: every container's limits for both resources, requests equal to them. BestEffort: none at all.
fn qos_class(pod: &Pod) -> &'static str {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let (mut none, mut full) = (true, true);
    for container in containers {
        let resources = container.resources.clone().unwrap_or_default();
        let (limits, requests) =
            (resources.limits.unwrap_or_default(), resources.requests.unwrap_or_default());
        none &= limits.is_empty() && requests.is_empty();
        full &= ["cpu", "memory"].iter().all(|name| {
            limits.get(*name).is_some_and(|limit| requests.get(*name).is_none_or(|request| request == limit))
        });
    }
    match (none, full) {
        (true, _) => "BestEffort",
        (_, true) => "Guaranteed",
        _ => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ended(code: i32) -> Run {
        Run::Ended(Ended {
            code,
            reason: String::new(),
            message: None,
            started_at: None,
            finished_at: Timestamp::UNIX_EPOCH,
        })
    }

    fn running() -> Run {
        Run::Running { since: Timestamp::UNIX_EPOCH }
    }

    fn waiting() -> Run {
        Run::Waiting { reason: "ContainerCreating".into(), message: None }
    }

    fn pod(policy: &str, init: usize, main: usize) -> Pod {
        let list = |what: &str, n| (0..n).map(|i| json!({"name": format!("{what}{i}")})).collect::<Vec<_>>();
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "restartPolicy": policy, "initContainers": list("i", init), "containers": list("c", main)}}))
        .unwrap()
    }

    fn check(policy: &str, init: &[Run], main: &[Run], phase: &str, ready: &str) {
        let pod = pod(policy, init.len(), main.len());
        let mut state = PodState::new(&pod);
        for (container, run) in state.init.iter_mut().zip(init).chain(state.containers.iter_mut().zip(main)) {
            container.run = run.clone();
            (container.started, container.ready) = (true, true);
        }
        let status = status(&pod, &state, Timestamp::UNIX_EPOCH);
        let shown = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
        let why = shown.reason.unwrap_or_else(|| shown.status.clone());
        assert_eq!(
            (status.phase.as_deref(), why.as_str()),
            (Some(phase), ready),
            "{policy} {init:?} {main:?}"
        );
    }

    #[test]
    fn phase_and_readiness_follow_the_containers() {
        check("Always", &[], &[waiting()], "Pending", "ContainersNotReady");
        check("Always", &[], &[running()], "Running", "True");
        check("Always", &[], &[running(), waiting()], "Pending", "ContainersNotReady");
        check("Always", &[], &[running(), ended(1)], "Running", "ContainersNotReady");
        check("Always", &[], &[ended(0)], "Running", "ContainersNotReady");
        check("OnFailure", &[], &[ended(0)], "Succeeded", "PodCompleted");
        check("OnFailure", &[], &[ended(1)], "Running", "ContainersNotReady");
        check("Never", &[], &[ended(0), ended(0)], "Succeeded", "PodCompleted");
        check("Never", &[], &[ended(0), ended(3)], "Failed", "PodFailed");
        check("Never", &[], &[ended(0), running()], "Running", "ContainersNotReady");
        check("Always", &[running()], &[waiting()], "Pending", "ContainersNotReady");
        check("Never", &[ended(1)], &[waiting()], "Failed", "PodFailed");
        check("Always", &[ended(0)], &[running()], "Running", "True");
    }

    /// Containers of a pod with a sidecar: what it does, whether it has been up, and the one container.
    #[test]
    fn a_sidecar_holds_the_pod_while_it_starts_and_while_it_ends() {
        let check = |sidecar: Run, has_started: bool, main: Run, phase: &str, ready: &str| {
            let mut pod = pod("Never", 1, 1);
            pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0].restart_policy =
                Some("Always".to_owned());
            let mut state = PodState::new(&pod);
            (state.init[0].run, state.containers[0].run) = (sidecar, main);
            (state.init[0].started, state.init[0].ready) = (has_started, has_started);
            state.init[0].has_started = has_started;
            (state.containers[0].started, state.containers[0].ready) = (true, true);
            let status = status(&pod, &state, Timestamp::UNIX_EPOCH);
            let shown = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
            let why = shown.message.or(shown.reason).unwrap_or(shown.status);
            assert_eq!((status.phase.as_deref(), why.as_str()), (Some(phase), ready), "{state:?}");
        };
        let unready = |names: &str| format!("containers with unready status: [{names}]");
        check(running(), false, waiting(), "Pending", &unready("i0 c0"));
        check(running(), true, waiting(), "Pending", &unready("c0"));
        check(running(), true, running(), "Running", "True");
        check(waiting(), true, running(), "Running", &unready("i0"));
        check(running(), true, ended(0), "Running", &unready("c0"));
        check(ended(143), true, ended(0), "Succeeded", "PodCompleted");
        check(ended(0), true, ended(1), "Failed", "PodFailed");
    }

    #[test]
    fn a_pod_that_the_node_ended_has_failed_once_nothing_of_it_runs() {
        let pod = pod("Always", 0, 1);
        let mut state = PodState::new(&pod);
        state.failed = Some(("DeadlineExceeded", "too long".to_owned()));
        for (run, phase, reason) in
            [(running(), "Running", None), (ended(143), "Failed", Some("DeadlineExceeded"))]
        {
            state.containers[0].run = run;
            let status = status(&pod, &state, Timestamp::UNIX_EPOCH);
            assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some(phase), reason));
        }
    }

    #[test]
    fn conditions_keep_their_time_and_foreign_ones_stay() {
        let mut pod = pod("Always", 0, 1);
        let later = Timestamp::from_second(100).unwrap();
        let mut state = PodState::new(&pod);
        let mut before = status(&pod, &state, Timestamp::UNIX_EPOCH);
        let foreign = PodCondition { type_: "Mine".into(), status: "True".into(), ..PodCondition::default() };
        before.conditions.as_mut().unwrap().push(foreign);
        pod.status = Some(before);
        state.containers[0].run = running();
        (state.containers[0].ready, state.containers[0].started) = (true, true);
        let after = status(&pod, &state, later).conditions.unwrap();
        let time = |name: &str| after.iter().find(|c| c.type_ == name).unwrap().last_transition_time.clone();
        assert_eq!(time("Ready"), Some(Time(later)));
        assert_eq!(time("Initialized"), Some(Time(Timestamp::UNIX_EPOCH)));
        assert!(after.iter().any(|c| c.type_ == "Mine"));
    }
}
