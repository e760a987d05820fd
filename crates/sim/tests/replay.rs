//! A usage history through either recommender.

use flyball_engine::vertical::{RecommenderSettings, Resources};
use flyball_sim::{MemoryModel, Replay, Report, Sample, UsageHistory, replay};

const DAY: u64 = 24 * 60;

/// Four days of minutes.
fn history(cpu_cores: impl Fn(u64) -> f64, memory_mib: impl Fn(u64) -> f64) -> UsageHistory {
    let sample = |minute| Sample {
        seconds: 1_800_000_000 + 60 * minute,
        cpu_cores: cpu_cores(minute),
        memory_bytes: Some(memory_mib(minute) * 1048576.0),
    };
    UsageHistory::new((0..4 * DAY).map(sample).collect())
}

fn both(history: &UsageHistory) -> [Report; 2] {
    // Enough at first, so that nothing is killed before anything is known.
    let requests = Resources::new(Some(100), Some(480 << 20));
    let settings = [RecommenderSettings::default(), RecommenderSettings::flyball()];
    settings.map(|settings| replay(history, &Replay { requests, ..Replay::new(settings) }))
}

/// A step up stays throttled for more than a day by VPA's default, which sees only what the limit lets through, and for
/// minutes by `flyball`.
#[test]
fn a_step_is_followed_within_minutes() {
    let step = history(|minute| if minute < 2 * DAY { 0.1 } else { 1.0 }, |_| 100.0);
    let [default, flyball] = both(&step);
    let hours = |report: &Report| report.cpu_throttled_time * report.samples as f64 / 60.0;
    assert!(hours(&default) > 24.0, "{} h", hours(&default));
    assert!(hours(&flyball) < 0.2, "{} h", hours(&flyball));
}

/// Memory that doubles kills once: the next limit holds.
#[test]
fn memory_that_grows_kills_no_more_often() {
    let grows = history(|_| 0.1, |minute| if minute < 2 * DAY { 300.0 } else { 600.0 });
    let [default, flyball] = both(&grows);
    assert!(flyball.ooms <= default.ooms && flyball.ooms <= Some(2), "{:?} {:?}", default.ooms, flyball.ooms);
}

#[test]
fn slack_is_what_was_requested_and_not_used() {
    let steady = history(|_| 0.5, |_| 400.0);
    for report in both(&steady) {
        // A bucket's end and 15 %, at most.
        assert!((0.0..0.2).contains(&report.cpu_slack), "{}", report.cpu_slack);
        assert!(
            report.memory_slack.is_some_and(|slack| (0.0..0.2).contains(&slack)),
            "{:?}",
            report.memory_slack
        );
        assert_eq!((report.ooms, report.cpu_throttled), (Some(0), 0.0));
        assert_eq!(report.samples as u64, 3 * DAY);
    }
}

#[test]
fn nothing_is_reported_of_nothing() {
    let nothing = replay(&UsageHistory::default(), &Replay::new(RecommenderSettings::default()));
    assert_eq!(nothing, Report::default());
}

#[test]
fn a_load_becomes_cpu_and_memory() {
    let model = MemoryModel { idle_bytes: 100.0, bytes_per_core: 1000.0 };
    let history = UsageHistory::from_csv("load\n1\n3\n").expect("two rows");
    assert!(history.is_load());
    let found: Vec<_> = history.with_mean_cpu(0.2).with_memory(model).samples().to_vec();
    let expected = [(0, 0.1, 200.0), (60, 0.3, 400.0)];
    for (found, (seconds, cpu, memory)) in found.iter().zip(expected) {
        assert_eq!(found.seconds, seconds);
        assert!((found.cpu_cores - cpu).abs() < 1e-12);
        assert!(found.memory_bytes.is_some_and(|bytes| (bytes - memory).abs() < 1e-9));
    }
}
