//! From samples to histories, and from there to a recommendation.

use std::time::Duration;

use flyball_engine::vertical::{
    Buckets, ContainerFacts, ContainerId, ContainerLook, ContainerResources, ContainerState,
    DecayingHistogram, EvictionEvent, HalfLives, MemoryOverrides, MemorySettings, Recommender,
    RecommenderSettings, Resources, VerticalPolicy, VerticalRules, oom_killed,
};
use serde_json::{Value, json};

use crate::Case;
use crate::json::{at, flag, float, list, number, resources, seconds, text, whole};

pub(crate) fn check(case: &Case) -> Result<(), String> {
    match case.kind.as_str() {
        "memory_peaks" => memory_peaks(case),
        "cpu_samples" => cpu_samples(case),
        "aggregate_expired" => {
            let settings = MemorySettings {
                interval: seconds(&case.input["interval_s"]),
                interval_count: number(&case.input["interval_count"]),
                ..MemorySettings::default()
            };
            let expired = settings.expired(seconds(&case.input["age_s"]));
            case.same("expired", expired, flag(&case.expected["expired"]))
        }
        "oom_detect" => {
            let [old, new] = ["old", "new"].map(|look| facts(&case.input[look]));
            let killed = oom_killed(&look(&case.input["old"], &old), &look(&case.input["new"], &new));
            case.same("oom_memory", killed, whole(&case.expected["oom_memory"]))
        }
        "eviction_event" => eviction_event(case),
        "recommend_end_to_end" => end_to_end(case),
        other => Err(format!("unknown kind {other}")),
    }
}

fn id() -> ContainerId {
    ContainerId::new("pod", "container")
}

fn memory_peaks(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let mut policy = VerticalPolicy::default();
    policy.other_containers.memory = MemoryOverrides {
        interval: Some(seconds(&input["interval_s"])),
        interval_count: None,
        oom_bump_up_ratio: input["oom_bump_ratio"].as_f64(),
        oom_min_bump_up_bytes: whole(&input["oom_min_bump_bytes"]),
    };
    let mut recommender = Recommender::new(RecommenderSettings::default());
    let (mut ops, mut accepted) = (Vec::new(), Vec::new());
    for event in list(&input["events"]) {
        let time = at(&event["t_s"]);
        let change = if text(&event["kind"]) == "oom" {
            recommender.oom_killed(&id(), time, whole(&event["request_bytes"]).unwrap_or(0), &policy)
        } else {
            recommender.memory_used(&id(), time, whole(&event["bytes"]).unwrap_or(0), &policy)
        };
        accepted.push(change.is_ok());
        if let Ok(Some(change)) = change {
            let end = change.interval_end;
            ops.extend(change.replaced_bytes.map(|bytes| ("subtract", bytes, end)));
            ops.push(("add", change.peak_bytes, end));
        }
    }
    let expected: Vec<_> = list(&case.expected["histogram_ops"]).iter().collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|op| (text(&op["op"]), whole(&op["bytes"]).unwrap_or(0), at(&op["t_s"])))
        .collect();
    case.same("histogram_ops", ops, expected)?;
    case.same("accepted", json!(accepted), case.expected["accepted"].clone())
}

fn cpu_samples(case: &Case) -> Result<(), String> {
    let mut recommender = Recommender::new(RecommenderSettings::default());
    let samples = list(&case.input["samples"]).iter();
    let accepted: Vec<bool> = samples
        .map(|sample| {
            recommender.cpu_used(&id(), at(&sample["t_s"]), whole(&sample["milli"]).unwrap_or(0)).is_ok()
        })
        .collect();
    case.same("accepted", json!(accepted), case.expected["accepted"].clone())?;
    let mut same = DecayingHistogram::new(Buckets::cpu(), HalfLives::default().cpu);
    for sample in list(&case.expected["histogram_adds"]) {
        same.add(float(&sample["cores"]), float(&sample["weight"]), at(&sample["t_s"]));
    }
    let history = recommender.history(&"container".into());
    case.same("histogram", history.is_some_and(|history| history.cpu().resembles(&same)), true)
}

fn facts(status: &Value) -> ContainerFacts {
    let memory = |field: &str| {
        let request = whole(&status[field])?;
        Some(ContainerResources {
            requests: Resources::new(None, Some(request)),
            limits: Resources::default(),
        })
    };
    let mut facts = ContainerFacts::new("container", memory("spec_memory_request").unwrap_or_default());
    facts.status = memory("status_memory_request");
    facts
}

fn look<'a>(status: &Value, facts: &'a ContainerFacts) -> ContainerLook<'a> {
    let state = match text(&status["state"]) {
        "waiting" => ContainerState::Waiting,
        "running" => ContainerState::Running,
        "terminated" => ContainerState::Terminated { oom_killed: text(&status["reason"]) == "OOMKilled" },
        _ => ContainerState::Unknown,
    };
    ContainerLook {
        state,
        restarts: number(&status["restart_count"]),
        last_oom_killed: text(&status["last_state_reason"]) == "OOMKilled",
        facts,
    }
}

fn eviction_event(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let event = EvictionEvent {
        reason: text(&input["reason"]),
        containers: text(&input["offending_containers"]),
        usages: text(&input["offending_containers_usage"]),
        resources: text(&input["starved_resource"]),
    };
    let kibibytes = |usage: &str| match usage.strip_suffix("Ki") {
        Some(number) => Some(number.parse::<i64>().ok()? * 1024),
        None => usage.parse().ok(),
    };
    case.same("ooms", json!(event.memory_used(kibibytes)), case.expected["ooms"].clone())
}

fn end_to_end(case: &Case) -> Result<(), String> {
    let (input, policy) = (&case.input, VerticalPolicy::default());
    let mut recommender = Recommender::new(RecommenderSettings::default());
    for container in 0..number(&input["containers"]) {
        let id = ContainerId::new("pod", format!("container-{container}"));
        let mut time = at(&json!(0));
        for run in list(&input["cpu_m_every_60s"]) {
            for _ in 0..number(&run[1]) {
                recommender.cpu_used(&id, time, whole(&run[0]).unwrap_or(0)).map_err(|_| "cpu refused")?;
                time = time + Duration::from_secs(60);
            }
        }
        for (index, peak) in list(&input["memory_peaks"]).iter().enumerate() {
            let time = at(&json!(float(&input["interval_s"]) * index as f64));
            let bytes = whole(peak).unwrap_or(0);
            recommender.memory_used(&id, time, bytes, &policy).map_err(|_| "memory refused")?;
        }
    }
    let recommended = recommender.recommend(&policy, &VerticalRules::upstream());
    let one = recommended.first().ok_or("no recommendation")?;
    let parts = [("lower_bound", one.lower_bound), ("target", one.target), ("upper_bound", one.upper_bound)];
    parts.into_iter().try_for_each(|(name, got)| case.same(name, got, resources(&case.expected[name])))
}
