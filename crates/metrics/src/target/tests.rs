//! Scrape after scrape of one target.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::matcher::Matcher;
use crate::relabel::{Rule, RuleText};
use crate::store::{Changes, FRAME_HEADER_BYTES, FollowerId, Loading, Saving, StoreOptions, frame_length};

fn target(options: TargetOptions) -> (Store, Target) {
    let labels = Labels::new([("instance", "127.1.0.1:9100"), ("job", "model")]);
    (Store::default(), Target::new(labels, options))
}

fn limited(limits: Limits) -> TargetOptions {
    TargetOptions { limits, ..TargetOptions::default() }
}

fn newest(store: &Store, name: &str) -> Vec<(String, i64, String)> {
    let series = store.select(&[Matcher::equal(METRIC_NAME, name)]);
    let row = |series: &crate::SeriesRef<'_>| {
        let newest = series.newest().expect("a sample");
        let value = if newest.is_stale_marker() { "stale".into() } else { newest.value.to_string() };
        (series.labels().without_name().to_string(), newest.timestamp_ms, value)
    };
    series.iter().map(row).collect()
}

#[test]
fn series_appear_continue_vanish_and_come_back() {
    let (mut store, mut target) = target(TargetOptions::default());
    let mut scrape =
        |page: &str, at_ms| target.ingest(&mut store, page.as_bytes(), Format::Text, at_ms).expect("valid");
    let first = scrape("a{x=\"1\"} 1\na{x=\"2\"} 2\nb 3\n", 1_000);
    assert_eq!((first.samples, first.series_added, first.series_ended), (3, 3, 0));
    let second = scrape("a{x=\"2\"} 20\nb 30\n", 2_000);
    assert_eq!((second.samples, second.series_added, second.series_ended), (2, 0, 1));
    let third = scrape("a{x=\"1\"} 100\na{x=\"2\"} 200\nb 300\n", 3_000);
    assert_eq!((third.series_added, third.series_ended), (1, 0));
    let expected = |x: &str, value: &str| {
        (format!("{{instance=\"127.1.0.1:9100\", job=\"model\", x=\"{x}\"}}"), 3_000, value.to_owned())
    };
    assert_eq!(newest(&store, "a"), [expected("1", "100"), expected("2", "200")]);
}

#[test]
fn created_series_tell_since_when_others_count() {
    let (mut store, mut target) =
        target(TargetOptions { start_timestamps: true, ..TargetOptions::default() });
    let page = |created: &str| {
        format!(
            "# TYPE a counter\na_total{{x=\"1\"}} 5\na_created{{x=\"1\"}} {created}\na_total{{x=\"2\"}} 6\n\
             # TYPE h histogram\nh_bucket{{le=\"1\"}} 2\nh_bucket{{le=\"+Inf\"}} 3\nh_count 3\nh_sum 4\nh_created 0.25\n\
             # TYPE g gauge\ng 1\n# EOF\n"
        )
    };
    let mut at = |created: &str, at_ms| {
        let read = target.ingest(&mut store, page(created).as_bytes(), Format::OpenMetrics, at_ms);
        read.expect("valid");
        let start = |series: &crate::SeriesRef<'_>| {
            let start_ms = series.start_times()?.at(at_ms);
            let labels = series.labels();
            Some(format!("{} {}{} {start_ms}", labels.metric_name(), labels.get("x"), labels.get("le")))
        };
        let mut starts: Vec<String> = store.select(&[]).iter().filter_map(start).collect();
        starts.sort();
        starts
    };
    let others = ["h_bucket +Inf 250", "h_bucket 1.0 250", "h_count  250", "h_sum  250"];
    let with = |first: &'static str| [&[first][..], &others].concat();
    assert_eq!(at("0.5", 1_000), with("a_total 1 500"));
    assert_eq!(at("1.5", 2_000), with("a_total 1 1500"), "it has restarted");
    assert_eq!(at("9.5", 3_000), with("a_total 1 0"), "that lies ahead");
}

#[test]
fn a_broken_page_leaves_nothing_behind_and_ends_all() {
    let (mut store, mut target) = target(TargetOptions::default());
    target.ingest(&mut store, b"a 1\n", Format::Text, 1_000).expect("valid");
    let error = target.ingest(&mut store, b"a 2\nnew 1\nb{\n", Format::Text, 2_000).expect_err("broken");
    assert_eq!(error.to_string(), "line 3, column 3: expected label name, got \"\\n\"");
    assert_eq!(store.size().samples, 1);
    target.end(&mut store, 2_000);
    assert_eq!(newest(&store, "a")[0].2, "stale");
    target.report(
        &mut store,
        &ScrapeReport { up: false, duration_seconds: 0.1, scraped: Scraped::default() },
        2_000,
    );
    assert_eq!(newest(&store, "up")[0].2, "0");
    target.end_reports(&mut store, 3_000);
    assert_eq!(newest(&store, "up")[0].2, "stale");
}

#[test]
fn a_refused_report_costs_no_later_one() {
    let (mut store, mut target) = target(TargetOptions::default());
    let mut report = |up, at_ms| {
        let report = ScrapeReport { up, duration_seconds: 0.5, scraped: Scraped::default() };
        target.report(&mut store, &report, at_ms);
    };
    report(true, 2_000);
    report(false, 1_000);
    report(true, 3_000);
    assert_eq!(newest(&store, "up")[0].2, "1");
    assert_eq!(newest(&store, "scrape_duration_seconds")[0].2, "0.5");
    target.end_reports(&mut store, 4_000);
    assert_eq!(newest(&store, "up")[0].2, "stale");
}

#[test]
fn clashing_labels_are_renamed_or_honored() {
    let page = b"a{job=\"mine\",exported_job=\"other\"} 1\n";
    for (honor_labels, expected) in [
        (
            false,
            r#"{exported_exported_job="mine", exported_job="other", instance="127.1.0.1:9100", job="model"}"#,
        ),
        (true, r#"{exported_job="other", instance="127.1.0.1:9100", job="mine"}"#),
    ] {
        let (mut store, mut target) = target(TargetOptions { honor_labels, ..TargetOptions::default() });
        target.ingest(&mut store, page, Format::Text, 1_000).expect("valid");
        assert_eq!(newest(&store, "a")[0].0, expected);
    }
}

#[test]
fn own_timestamps_are_kept_untracked_and_bounded() {
    let (mut store, mut target) = target(TargetOptions::default());
    target.ingest(&mut store, b"a 1 500\nb 1 99999999\n", Format::Text, 1_000).expect("valid");
    target.ingest(&mut store, b"c 1\n", Format::Text, 2_000).expect("valid");
    assert_eq!((newest(&store, "a")[0].1, newest(&store, "a")[0].2.as_str()), (500, "1"), "lingers");
    assert_eq!(store.size().samples, 2, "b lies too far in the future");
}

#[test]
fn limits_and_evictions_do_not_stop_a_target() {
    let (mut store, mut target) = target(limited(Limits { sample_limit: 1, ..Limits::default() }));
    assert_eq!(target.ingest(&mut store, b"a 1\nb 1\n", Format::Text, 0), Err(ScrapeError::SampleLimit(1)));
    target.ingest(&mut store, b"a 1\n", Format::Text, 1_000).expect("valid");
    store.evict(10_000_000);
    assert_eq!(store.size().series, 0);
    target.ingest(&mut store, b"a 2\n", Format::Text, 10_001_000).expect("valid");
    assert_eq!(newest(&store, "a")[0].2, "2");
}

#[test]
fn metadata_is_kept() {
    let (mut store, mut target) = target(TargetOptions::default());
    target
        .ingest(&mut store, b"# HELP a What it is.\n# TYPE a gauge\na 1\n", Format::Text, 0)
        .expect("valid");
    let metadata = store.metadata().get("a").expect("described");
    assert_eq!((metadata.kind.as_str(), metadata.help.as_str()), ("gauge", "What it is."));
}

#[test]
fn label_limits_fail_the_scrape_in_the_words_of_prometheus() {
    let table = [
        (
            Limits { label_limit: 3, ..Limits::default() },
            "label_limit exceeded (metric: a, number of labels: 4, limit: 3)",
        ),
        (
            Limits { label_name_length_limit: 8, ..Limits::default() },
            "label_name_length_limit exceeded (metric: a, label name: verylongname, length: 12, limit: 8)",
        ),
        (
            Limits { label_value_length_limit: 15, ..Limits::default() },
            "label_value_length_limit exceeded (metric: a, label name: verylongname, value: \"a long long value\", length: 17, limit: 15)",
        ),
    ];
    for (limits, message) in table {
        let (mut store, mut target) = target(limited(limits));
        let page = b"b 1\na{verylongname=\"a long long value\"} 1\n";
        let error = target.ingest(&mut store, page, Format::Text, 0).expect_err(message);
        assert_eq!((error.to_string().as_str(), store.size().samples), (message, 0));
    }
}

#[test]
fn metric_relabelings_rename_and_drop() {
    let rule = |text: RuleText| Rule::new(text).expect("valid");
    let text = |text: &str| Some(text.to_owned());
    let rules = [
        rule(RuleText {
            regex: text("go_.*"),
            action: text("drop"),
            source_labels: vec![METRIC_NAME.into()],
            ..RuleText::default()
        }),
        rule(RuleText { regex: text("x"), action: text("labeldrop"), ..RuleText::default() }),
    ];
    let options = TargetOptions {
        metric_relabelings: rules.into(),
        ..limited(Limits { sample_limit: 2, ..Limits::default() })
    };
    let (mut store, mut target) = target(options);
    for at_ms in [1_000, 2_000] {
        let page = b"go_threads 1\na{x=\"1\"} 1\na{x=\"2\"} 2\n";
        let scraped = target.ingest(&mut store, page, Format::Text, at_ms).expect("valid");
        let counts = (scraped.samples, scraped.samples_post_relabeling, scraped.rejected);
        assert_eq!(counts, (3, 2, 1), "the second `a` is a duplicate now");
    }
    assert_eq!((store.metric_names(), newest(&store, "a").len()), (vec!["a"], 1));
    assert_eq!(store.rejections().duplicate_timestamp, 2);
}

/// What may happen between two pages.
#[derive(Clone, Debug)]
enum Event {
    /// A page of these lines, so many milliseconds after the last; a line is a series, a value and how it is written.
    Page(i64, Vec<(usize, u8, bool)>),
    /// The last page again.
    Again(i64),
    Broken,
    Evict,
    Follow(usize),
    Save,
    /// Somebody else writes to a series of the target.
    Foreign(usize, i64),
    /// The scrape failed.
    End,
}

const SERIES: [&str; 8] =
    ["a", "a{x=\"1\"}", "a{x=\"12\"}", "b", "ab{le=\"1\"}", "# HELP ab What it is.", "own", "dropped"];

fn event() -> impl Strategy<Value = Event> {
    let lines = || prop::collection::vec((0..SERIES.len(), 0..3u8, any::<bool>()), 0..12);
    prop_oneof![
        6 => (0..2_000_i64, lines()).prop_map(|(after_ms, lines)| Event::Page(after_ms, lines)),
        12 => (-100..2_000_i64).prop_map(Event::Again),
        1 => Just(Event::Broken),
        1 => Just(Event::Evict),
        1 => (0..SERIES.len()).prop_map(Event::Follow),
        1 => Just(Event::Save),
        1 => (0..SERIES.len(), -500..500_i64).prop_map(|(series, after_ms)| Event::Foreign(series, after_ms)),
        1 => Just(Event::End),
    ]
}

/// A target, what its followers were told, and its file.
struct Play {
    store: Store,
    target: Target,
    remembers: bool,
    format: Format,
    page: String,
    now_ms: i64,
    followers: Vec<FollowerId>,
    told: Vec<String>,
    file: Vec<u8>,
}

impl Play {
    fn new(remembers: bool, format: Format, options: StoreOptions) -> Play {
        let drops = RuleText {
            regex: Some("dropped".into()),
            action: Some("drop".into()),
            source_labels: vec![METRIC_NAME.into()],
            ..RuleText::default()
        };
        let rules = [Rule::new(drops).expect("valid")];
        let options_of_target =
            TargetOptions { metric_relabelings: rules.into(), ..TargetOptions::default() };
        let (store, (_, target)) = (Store::new(options), target(options_of_target));
        let (page, followers, told, file) = Default::default();
        Play { store, target, remembers, format, page, now_ms: 0, followers, told, file }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Page(after_ms, lines) => {
                let line = |(which, value, long): &(usize, u8, bool)| match (SERIES[*which], long) {
                    (comment, _) if comment.starts_with('#') => format!("{comment}\n"),
                    ("own", _) => {
                        let own_ms = self.now_ms - 1_000 * i64::from(*value);
                        let is_text = self.format == Format::Text;
                        format!("own {value} {}\n", if is_text { own_ms } else { own_ms / 1_000 })
                    }
                    (series, true) => format!("{series} {value}{value}\n"),
                    (series, false) => format!("{series} {value}\n"),
                };
                let lines: String = lines.iter().map(line).collect();
                let end = if self.format == Format::Text { "" } else { "# EOF\n" };
                self.page = format!("# TYPE ab histogram\n{lines}{end}");
                self.scrape(*after_ms);
            }
            Event::Again(after_ms) => self.scrape(*after_ms),
            Event::Broken => {
                let page = std::mem::replace(&mut self.page, "a 1\nb one\n".into());
                self.scrape(1_000);
                self.page = page;
            }
            Event::Evict => self.store.evict(self.now_ms),
            Event::Follow(series) => {
                let name = SERIES[*series].split('{').next().unwrap_or_default();
                self.followers.push(self.store.follow(&[Matcher::equal(METRIC_NAME, name)]));
            }
            Event::Save => {
                let mut saving = Saving::news();
                while let Some(frame) = self.store.save(&mut saving) {
                    self.file.extend(frame);
                }
            }
            Event::Foreign(series, after_ms) => {
                let labels = Labels::new([
                    (METRIC_NAME, SERIES[*series]),
                    ("job", "model"),
                    ("instance", "127.1.0.1:9100"),
                ]);
                let _ = self.store.append_to(&labels, Sample::new(self.now_ms + after_ms, 7.0));
            }
            Event::End => drop(self.target.end(&mut self.store, self.now_ms)),
        }
        for follower in &self.followers {
            let mut changes = Changes::default();
            self.store.take_changes(*follower, &mut changes);
            // Series end in any order, and their numbers mean nothing.
            let text = |(id, sample): &(SeriesId, Sample)| {
                let labels = self.store.series(*id).map(|series| series.labels());
                format!("{labels:?} {} {:x}", sample.timestamp_ms, sample.value.to_bits())
            };
            let mut told: Vec<String> = changes.appended.iter().map(text).collect();
            told.sort();
            self.told.append(&mut told);
        }
    }

    fn scrape(&mut self, after_ms: i64) {
        if !self.remembers {
            self.target.page = page::LastPage::default();
        }
        self.now_ms += after_ms;
        let result = self.target.ingest(&mut self.store, self.page.as_bytes(), self.format, self.now_ms);
        if result.is_err() {
            self.target.end(&mut self.store, self.now_ms);
        }
        self.told.extend(result.map(|scraped| {
            format!(
                "{} {} {} {}",
                scraped.samples, scraped.samples_post_relabeling, scraped.series_ended, scraped.rejected
            )
        }));
    }

    /// All that can be seen of the store.
    fn seen(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .store
            .select(&[])
            .into_iter()
            .filter(|series| series.oldest_ms().is_some())
            .map(|series| {
                let mut scratch = Vec::new();
                let text = |sample: &Sample| format!("{}@{:x}", sample.timestamp_ms, sample.value.to_bits());
                let samples: Vec<String> =
                    series.samples(i64::MIN, i64::MAX, &mut scratch).iter().map(text).collect();
                let mut scratch = Vec::new();
                let middle = series.samples(self.now_ms - 3_000, self.now_ms - 500, &mut scratch).len();
                let ends = (series.oldest_ms(), series.newest().map(|s| text(&s)), series.alive_ms());
                format!("{} {samples:?} {middle} {ends:?}", series.labels())
            })
            .collect();
        all.sort();
        all.push(format!("{:?} {}", self.store.rejections(), self.store.size().samples));
        all
    }
}

proptest! {
    /// What a target remembers of the last page makes it quicker, and changes nothing.
    #[test]
    fn remembering_changes_nothing(
        events in prop::collection::vec(event(), 1..40),
        format in prop_oneof![Just(Format::Text), Just(Format::OpenMetrics)],
        retention_seconds in prop_oneof![Just(5), Just(3_600)],
        samples_max in prop_oneof![4 => Just(1_000_000_usize), 1 => 5..50_usize],
    ) {
        let retention = Duration::from_secs(retention_seconds);
        let options = StoreOptions { retention, samples_max, ..StoreOptions::default() };
        let [mut quick, mut plain] = [true, false].map(|remembers| Play::new(remembers, format, options.clone()));
        for event in &events {
            quick.happen(event);
            plain.happen(event);
            // Which of too many samples go depends on how they are kept.
            if samples_max == 1_000_000 {
                prop_assert_eq!(quick.seen(), plain.seen(), "{:?}", event);
            }
            quick.store.size();
        }
        if samples_max == 1_000_000 {
            prop_assert_eq!(&quick.told, &plain.told);
            prop_assert_eq!(restored(&quick.file), restored(&plain.file));
        }
    }
}

/// What a file brings back.
fn restored(file: &[u8]) -> Vec<String> {
    let (mut store, mut loading, mut rest) = (Store::default(), Loading::default(), file);
    while let Some((header, after)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() {
        let (frame, after) = after.split_at(frame_length(header).expect("whole"));
        store.load_frame(&mut loading, header, frame).expect("whole");
        rest = after;
    }
    store.loaded(loading, 0);
    let mut all: Vec<String> = store
        .select(&[])
        .into_iter()
        .map(|series| {
            let mut scratch = Vec::new();
            format!("{} {:?}", series.labels(), series.samples(i64::MIN, i64::MAX, &mut scratch))
        })
        .collect();
    all.sort();
    all
}

/// A page that never changes, for as long as it takes to be written out several times.
#[test]
fn an_idle_page_is_kept_whole() {
    let (mut store, mut target) = target(TargetOptions::default());
    let labels = Labels::new([(METRIC_NAME, "a"), ("job", "model"), ("instance", "127.1.0.1:9100")]);
    for second in 1..=2_000 {
        target.ingest(&mut store, b"a 1\nb 2\n", Format::Text, second * 1_000).expect("valid");
        if second % 60 == 0 {
            store.evict(second * 1_000);
        }
        let id = store.series_id(&labels).expect("there");
        let newest = store.series(id).and_then(|series| series.newest());
        assert_eq!(newest, Some(Sample::new(second * 1_000, 1.0)));
    }
    assert_eq!(store.size().samples, 4_000);
    assert_eq!(store.page_members(target.page_id.expect("open")), 2);
    let mut scratch = Vec::new();
    for series in store.select(&[]) {
        let times: Vec<i64> =
            series.samples(i64::MIN, i64::MAX, &mut scratch).iter().map(|s| s.timestamp_ms).collect();
        assert_eq!(times, (1..=2_000).map(|second| second * 1_000).collect::<Vec<_>>());
        scratch = Vec::new();
    }
    target.end(&mut store, 2_001_000);
    target.end_reports(&mut store, 2_001_000);
    assert!(store.select(&[]).iter().all(|series| series.alive_ms().is_none()));
}

/// Exemplars name their series by number, and numbers change when a series leaves the page.
#[test]
fn exemplars_stay_with_their_series_when_others_leave() {
    let (mut store, mut target) =
        (Store::new(StoreOptions::default()), Target::new(Labels::empty(), TargetOptions::default()));
    let page = |names: &[&str], at_ms: i64| {
        let line = |name: &&str| format!("x_total{{s=\"{name}\"}} 1 # {{trace_id=\"{name}\"}} {at_ms}\n");
        let lines: String = names.iter().map(line).collect();
        format!("# TYPE x counter\n{lines}# EOF\n")
    };
    for (at_ms, names) in [(1_000, vec!["a", "b", "c"]), (2_000, vec!["b", "c"]), (3_000, vec!["c"])] {
        target
            .ingest(&mut store, page(&names, at_ms).as_bytes(), Format::OpenMetrics, at_ms)
            .expect("a valid page");
    }
    let found = store.exemplars_between(0, 10_000);
    assert_eq!(found.iter().filter(|(series, _)| series.get("s") == "c").count(), 3);
    for (series, exemplar) in found {
        assert_eq!(series.get("s"), exemplar.labels.get("trace_id"));
    }
}
