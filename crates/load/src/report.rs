//! The report of a run, as hey's summary, JSON or CSV.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::record::{Recorder, Sample, Summary};

/// Percentiles of the summary.
const PERCENTILES: [u32; 7] = [10, 25, 50, 75, 90, 95, 99];
/// The parts of a request, by hey's names.
const PARTS: [&str; 5] = ["DNS+dialup", "DNS-lookup", "req write", "resp wait", "resp read"];
/// Width of the longest bar of the histogram, in characters.
const BAR: u64 = 40;

/// The result of a run. Times are in seconds. Latency counts from the planned start, service time from the actual one;
/// they differ only at an open rate, when the generator could not start a request on time.
#[derive(Clone, Serialize)]
pub struct Report {
    /// Duration of the run.
    pub total: f64,
    /// Requests answered, whatever the status.
    pub answered: u64,
    /// Requests still unanswered [`DRAIN_MAX`](crate::DRAIN_MAX) after the end; they count nowhere else.
    pub unfinished: u64,
    /// Requests per second, answered and failed.
    pub requests_per_second: f64,
    /// Mean and extremes of the latency.
    pub latency: Summary,
    /// Latency at p10 to p99.
    pub percentiles: BTreeMap<String, f64>,
    /// Service time at p10 to p99.
    pub service_percentiles: BTreeMap<String, f64>,
    /// Mean and extremes of each part of a request.
    pub details: BTreeMap<&'static str, Summary>,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// Responses by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// Failed requests by message.
    pub errors: BTreeMap<String, u64>,
    #[serde(skip)]
    histogram: Histogram<u64>,
    #[serde(skip)]
    samples: Vec<Sample>,
}

impl Report {
    /// Creates a report; takes the recorder's samples and copies the rest.
    pub(crate) fn new(recorder: &mut Recorder, total: Duration) -> Report {
        let answered = recorder.latency.len();
        let requests = answered + recorder.errors.values().sum::<u64>();
        Report {
            total: total.as_secs_f64(),
            answered,
            unfinished: recorder.unfinished,
            requests_per_second: requests as f64 / total.as_secs_f64().max(1e-9),
            latency: recorder.total,
            percentiles: percentiles(&recorder.latency, recorder.total.slowest),
            service_percentiles: percentiles(&recorder.service, recorder.total.slowest),
            details: PARTS.into_iter().zip(recorder.parts).collect(),
            bytes: recorder.bytes,
            statuses: recorder.statuses.clone(),
            errors: recorder.errors.clone(),
            histogram: recorder.latency.clone(),
            samples: recorder.samples.take().unwrap_or_default(),
        }
    }

    /// Returns whether at least one request was answered.
    pub fn succeeded(&self) -> bool {
        self.answered > 0
    }

    /// Formats the report as hey's summary.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out).expect("a String takes all that is written");
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nSummary:")?;
        writeln!(out, "  Total:\t{:.4} secs", self.total)?;
        writeln!(out, "  Slowest:\t{:.4} secs", self.latency.slowest)?;
        writeln!(out, "  Fastest:\t{:.4} secs", self.latency.fastest)?;
        writeln!(out, "  Average:\t{:.4} secs", self.latency.average)?;
        writeln!(out, "  Requests/sec:\t{:.4}\n  ", self.requests_per_second)?;
        if self.bytes > 0 {
            writeln!(out, "  Total data:\t{} bytes", self.bytes)?;
            writeln!(out, "  Size/request:\t{} bytes", self.bytes / self.answered.max(1))?;
        }
        self.write_latencies(out)?;
        writeln!(out, "\nStatus code distribution:")?;
        for (status, count) in &self.statuses {
            writeln!(out, "  [{status}]\t{count} responses")?;
        }
        if self.errors.is_empty() {
            writeln!(out, "\n")?;
        } else {
            writeln!(out, "\nError distribution:")?;
            for (error, count) in &self.errors {
                writeln!(out, "  [{count}]\t{error}")?;
            }
        }
        writeln!(out)
    }

    /// Writes hey's three middle parts; only their headings if nothing was answered.
    fn write_latencies(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nResponse time histogram:")?;
        let rows = if self.answered > 0 { &self.rows()[..] } else { &[] };
        let most = rows.iter().map(|row| row.1).max().unwrap_or(0).max(1);
        for &(mark, count) in rows {
            let bar = "■".repeat(((count * BAR * 2 + most) / (most * 2)) as usize);
            writeln!(out, "  {mark:.3} [{count}]\t|{bar}")?;
        }
        writeln!(out, "\n\nLatency distribution:")?;
        for p in PERCENTILES.into_iter().filter(|_| self.answered > 0) {
            writeln!(out, "  {p}% in {:.4} secs", quantile(&self.histogram, p, self.latency.slowest))?;
        }
        writeln!(out, "\nDetails (average, fastest, slowest):")?;
        for name in PARTS {
            let part = self.details.get(name).copied().unwrap_or_default();
            writeln!(
                out,
                "  {name}:\t{:.4} secs, {:.4} secs, {:.4} secs",
                part.average, part.fastest, part.slowest
            )?;
        }
        Ok(())
    }

    /// Returns hey's eleven rows: the fastest, then ten equal steps to the slowest. Every response is in one row.
    fn rows(&self) -> [(f64, u64); 11] {
        let step = (self.latency.slowest - self.latency.fastest) / 10.0;
        let mut rows: [(f64, u64); 11] = std::array::from_fn(|i| (self.latency.fastest + step * i as f64, 0));
        for value in self.histogram.iter_recorded() {
            let lowest = self.histogram.lowest_equivalent(value.value_iterated_to()) as f64 / 1e6;
            let row = rows.iter().position(|row| lowest <= row.0).unwrap_or(10);
            rows[row].1 += value.count_at_value();
        }
        rows
    }

    /// Formats the report as one JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and text make JSON")
    }

    /// Formats the samples as hey's CSV: a line for each response, at most the first million.
    pub fn csv(&self) -> String {
        let mut out = String::from(
            "response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset\n",
        );
        for s in &self.samples {
            for part in [s.latency, s.dial, s.lookup, s.write, s.wait, s.read] {
                let _ = write!(out, "{:.4},", part.as_secs_f64());
            }
            let _ = writeln!(out, "{},{:.4}", s.status, s.offset.as_secs_f64());
        }
        out
    }
}

fn percentiles(histogram: &Histogram<u64>, slowest: f64) -> BTreeMap<String, f64> {
    PERCENTILES.into_iter().map(|p| (format!("p{p}"), quantile(histogram, p, slowest))).collect()
}

/// Returns a quantile in seconds. The histogram gives the upper end of a bucket, which may exceed the slowest value.
fn quantile(histogram: &Histogram<u64>, percent: u32, slowest: f64) -> f64 {
    (histogram.value_at_quantile(f64::from(percent) / 100.0) as f64 / 1e6).min(slowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a report of two seconds with ten responses of 2 to 20 ms, or none, and `errors` errors.
    fn report(answers: u64, bytes: u64, errors: u64) -> Report {
        let now = std::time::Instant::now();
        let mut recorder = Recorder::new(now, true);
        for ms in 1..=answers {
            let latency = Duration::from_millis(2 * ms);
            let sample = Sample { latency, wait: latency, status: 200, bytes, ..Sample::default() };
            recorder.record(now, Ok(sample));
        }
        for _ in 0..errors {
            recorder.record(now, Err("Get \"http://a/\": 100% refused".into()));
        }
        Report::new(&mut recorder, Duration::from_secs(2))
    }

    #[test]
    fn summary_is_heys() {
        assert_eq!(report(10, 7, 1).text(), include_str!("report/summary.txt"));
        assert_eq!(report(0, 0, 3).text(), include_str!("report/summary_failed.txt"));
        let (head, tail) =
            ("  Requests/sec:\t5.0000\n  \n\nResponse time", "\n  [200]\t10 responses\n\n\n\n");
        let text = report(10, 0, 0).text();
        assert!(text.contains(head) && text.ends_with(tail), "{text}");
    }

    #[test]
    fn every_answer_is_in_one_row() {
        for answers in [1, 2, 10, 1000] {
            let rows = report(answers, 0, 0).rows();
            assert_eq!(rows.iter().map(|row| row.1).sum::<u64>(), answers);
        }
    }

    #[test]
    fn csv_has_heys_columns() {
        let csv = report(2, 0, 1).csv();
        assert_eq!(csv.lines().count(), 3);
        assert_eq!(csv.lines().nth(1), Some("0.0020,0.0000,0.0000,0.0000,0.0020,0.0000,200,0.0000"));
    }

    #[test]
    fn json_says_the_same() {
        let json: serde_json::Value = serde_json::from_str(&report(10, 7, 1).json()).unwrap();
        for (pointer, wanted) in [
            ("/answered", serde_json::json!(10)),
            ("/unfinished", 0.into()),
            ("/requests_per_second", 5.5.into()),
            ("/bytes", 70.into()),
            ("/statuses/200", 10.into()),
            ("/latency/slowest", 0.02.into()),
            ("/percentiles/p99", 0.02.into()),
            ("/details/resp wait/fastest", 0.002.into()),
            ("/errors/Get \"http:~1~1a~1\": 100% refused", 1.into()),
        ] {
            assert_eq!(json.pointer(pointer), Some(&wanted), "{pointer} in {json}");
        }
    }
}
