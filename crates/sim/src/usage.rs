//! What a container used: a list of samples, from a CSV file or from Prometheus' answer to a range query.
//!
//! A CSV file has a header. A column whose name begins with `cpu` is in cores, one that begins with `memory` in bytes. A
//! file without a `cpu` column is a load in some unit of its own: its other numbers are added up, and the load is scaled
//! so that its mean is a given amount of CPU. Time is a column in Unix seconds, or else the rows are a minute apart.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

/// More samples than this are refused: four years of minutes, or 64 MB.
pub const SAMPLES_MAX: usize = 2_000_000;

/// The distance of rows without a time.
const ROW_SECONDS: u64 = 60;

/// Columns that say when a row is, in Unix seconds.
const TIME_COLUMNS: [&str; 4] = ["ts", "time", "timestamp", "timestamp_seconds"];

/// Columns that say when in another way. The rows are taken as a minute apart.
const CALENDAR_COLUMNS: [&str; 5] = ["day", "minute", "bin", "minute_utc", "date"];

/// What was used at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Unix time.
    pub seconds: u64,
    /// CPU in cores: what would have been used without a limit.
    pub cpu_cores: f64,
    /// Memory in bytes, if it is known.
    pub memory_bytes: Option<f64>,
}

/// Samples in the order of their times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageHistory {
    samples: Vec<Sample>,
    /// The columns of the file are no CPU in cores, but a load.
    is_load: bool,
}

/// Memory where none was recorded: so much, and so much more for each core in use, as of a server that holds its requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryModel {
    /// With nothing to do.
    pub idle_bytes: f64,
    /// For each core.
    pub bytes_per_core: f64,
}

/// Why a history can't be read.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum UsageError {
    /// No header, or nothing under it.
    #[error("there are no samples; write a header such as `timestamp,cpu,memory`, and a row for each minute")]
    Empty,
    /// Too many samples.
    #[error("there are more than {SAMPLES_MAX} samples; take a coarser step")]
    TooMany,
    /// The header has no column that could be a use.
    #[error("line 1: none of the columns {0} is a use; name one `cpu`, in cores")]
    NoColumn(String),
    /// A field that is not a number, or below zero.
    #[error("line {line}, column {column}: {value:?} is not a number of at least 0")]
    Number {
        /// From 1.
        line: usize,
        /// Its name.
        column: String,
        /// What is there.
        value: String,
    },
    /// A row that lies before the one above it.
    #[error("line {line}: its time {seconds} lies before that of the line above")]
    Order {
        /// From 1.
        line: usize,
        /// Its time.
        seconds: u64,
    },
    /// Not the answer of a range query.
    #[error("not the answer of a Prometheus range query: {0}")]
    Json(String),
    /// An answer with more than one series, or none.
    #[error("the answer has {0} series where one is needed; select one container of one pod")]
    Series(usize),
}

impl UsageHistory {
    /// From these samples, in the order of their times.
    pub fn new(mut samples: Vec<Sample>) -> Self {
        samples.sort_by_key(|sample| sample.seconds);
        Self { samples, is_load: false }
    }

    /// Reads a CSV file.
    ///
    /// # Errors
    ///
    /// No samples, no column that is a use, a field that is not a number, rows that are not in the order of time.
    pub fn from_csv(text: &str) -> Result<Self, UsageError> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, header) = lines.next().ok_or(UsageError::Empty)?;
        let columns = Columns::new(header)?;
        let mut samples: Vec<Sample> = Vec::new();
        for (index, line) in lines {
            if samples.len() == SAMPLES_MAX {
                return Err(UsageError::TooMany);
            }
            let seconds = samples.last().map_or(0, |last| last.seconds + ROW_SECONDS);
            let sample = columns.sample(index + 1, line, seconds)?;
            if samples.last().is_some_and(|last| sample.seconds < last.seconds) {
                return Err(UsageError::Order { line: index + 1, seconds: sample.seconds });
            }
            samples.push(sample);
        }
        if samples.is_empty() {
            return Err(UsageError::Empty);
        }
        Ok(Self { samples, is_load: columns.is_load })
    }

    /// Reads the answers of Prometheus to range queries: one for CPU in cores, and perhaps one for memory in bytes.
    ///
    /// # Errors
    ///
    /// Another kind of answer, more or fewer than one series, no samples.
    pub fn from_prometheus(cpu: &str, memory: Option<&str>) -> Result<Self, UsageError> {
        let memory = memory.map(matrix).transpose()?.unwrap_or_default();
        let samples: Vec<Sample> = matrix(cpu)?
            .into_iter()
            .map(|(seconds, cpu_cores)| {
                let memory_bytes = memory.range(..=seconds).next_back().map(|(_, bytes)| *bytes);
                Sample { seconds, cpu_cores, memory_bytes }
            })
            .collect();
        match samples.len() {
            0 => Err(UsageError::Empty),
            len if len > SAMPLES_MAX => Err(UsageError::TooMany),
            _ => Ok(Self { samples, is_load: false }),
        }
    }

    /// In the order of their times.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The numbers are a load in a unit of its own, not CPU in cores.
    pub fn is_load(&self) -> bool {
        self.is_load
    }

    /// Scales all CPU so that its mean is `cores`.
    #[must_use]
    pub fn with_mean_cpu(mut self, cores: f64) -> Self {
        let mean = self.samples.iter().map(|sample| sample.cpu_cores).sum::<f64>()
            / self.samples.len().max(1) as f64;
        if mean > 0.0 {
            self.samples.iter_mut().for_each(|sample| sample.cpu_cores *= cores / mean);
        }
        self.is_load = false;
        self
    }

    /// Adds memory where none was recorded.
    #[must_use]
    pub fn with_memory(mut self, model: MemoryModel) -> Self {
        for sample in &mut self.samples {
            let modelled = model.idle_bytes + model.bytes_per_core * sample.cpu_cores;
            sample.memory_bytes = sample.memory_bytes.or(Some(modelled));
        }
        self
    }
}

/// Which column is what.
struct Columns {
    names: Vec<String>,
    time: Option<usize>,
    /// Added up.
    cpu: Vec<usize>,
    memory: Option<usize>,
    is_load: bool,
}

impl Columns {
    fn new(header: &str) -> Result<Self, UsageError> {
        let names: Vec<String> = header.split(',').map(|name| name.trim().to_lowercase()).collect();
        let find = |wanted: &dyn Fn(&str) -> bool| names.iter().position(|name| wanted(name));
        let time = find(&|name| TIME_COLUMNS.contains(&name));
        let memory = find(&|name| name.starts_with("memory"));
        let cpu = find(&|name| name.starts_with("cpu"));
        let is_load = cpu.is_none();
        let cpu: Vec<usize> = match cpu {
            Some(cpu) => vec![cpu],
            None => (0..names.len())
                .filter(|index| Some(*index) != time && Some(*index) != memory)
                .filter(|index| !CALENDAR_COLUMNS.contains(&names[*index].as_str()))
                .collect(),
        };
        if cpu.is_empty() {
            return Err(UsageError::NoColumn(header.chars().take(200).collect()));
        }
        Ok(Self { names, time, cpu, memory, is_load })
    }

    fn sample(&self, line: usize, text: &str, seconds: u64) -> Result<Sample, UsageError> {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        let number = |index: usize| self.number(line, index, fields.get(index).copied().unwrap_or_default());
        let seconds = match self.time {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, and is not negative"
            )]
            Some(time) => number(time)? as u64,
            None => seconds,
        };
        let mut cpu_cores = 0.0;
        for index in &self.cpu {
            cpu_cores += number(*index)?;
        }
        let memory_bytes = self.memory.map(number).transpose()?;
        Ok(Sample { seconds, cpu_cores, memory_bytes })
    }

    fn number(&self, line: usize, column: usize, field: &str) -> Result<f64, UsageError> {
        let number = field.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| UsageError::Number {
            line,
            column: self.names[column].clone(),
            value: field.chars().take(40).collect(),
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    values: Vec<(f64, String)>,
}

/// The one series of an answer; what is not a number or below zero is left out.
fn matrix(text: &str) -> Result<BTreeMap<u64, f64>, UsageError> {
    let answer: Answer = serde_json::from_str(text).map_err(|error| UsageError::Json(error.to_string()))?;
    let [series] = answer.data.result.as_slice() else {
        return Err(UsageError::Series(answer.data.result.len()));
    };
    let pair = |(seconds, value): &(f64, String)| {
        let value = value.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let seconds = *seconds as u64;
        Some((seconds, value))
    };
    Ok(series.values.iter().filter_map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Seconds, cores, bytes.
    type Row = (u64, f64, Option<f64>);

    #[track_caller]
    fn check(text: &str, expected: Result<&[Row], &str>) {
        let read = UsageHistory::from_csv(text);
        match (read, expected) {
            (Ok(history), Ok(samples)) => {
                let found: Vec<_> =
                    history.samples.iter().map(|s| (s.seconds, s.cpu_cores, s.memory_bytes)).collect();
                assert_eq!(found, samples, "{text}");
            }
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (read, _) => panic!("{text}: {read:?}"),
        }
    }

    #[test]
    fn csv_files() {
        check(
            "timestamp,cpu,memory\n60,0.5,1e6\n120,0.25,2e6\n",
            Ok(&[(60, 0.5, Some(1e6)), (120, 0.25, Some(2e6))]),
        );
        check("day,minute,f0,f1\n0,0,1,2\n0,1,3,4\n", Ok(&[(0, 3.0, None), (60, 7.0, None)]));
        check("minute_utc,count\n1998-04-30 21:30:00,2\n", Ok(&[(0, 2.0, None)]));
        check(
            "",
            Err(
                "there are no samples; write a header such as `timestamp,cpu,memory`, and a row for each minute",
            ),
        );
        check(
            "day,minute\n1,2",
            Err("line 1: none of the columns day,minute is a use; name one `cpu`, in cores"),
        );
        check("cpu\n0.1\nx", Err("line 3, column cpu: \"x\" is not a number of at least 0"));
        check("cpu,memory\n0.1", Err("line 2, column memory: \"\" is not a number of at least 0"));
        check("ts,cpu\n60,1\n0,1", Err("line 3: its time 0 lies before that of the line above"));
    }

    #[test]
    fn answers_of_prometheus() {
        let answer = |values: &str| {
            let series = format!(r#"{{"metric":{{}},"values":[{values}]}}"#);
            format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#)
        };
        let (cpu, memory) =
            (answer(r#"[60,"0.5"],[120,"NaN"],[180,"1"]"#), answer(r#"[60,"100"],[170,"200"]"#));
        let history = UsageHistory::from_prometheus(&cpu, Some(&memory)).expect("two answers");
        let sample = |seconds, cpu_cores, bytes| Sample { seconds, cpu_cores, memory_bytes: Some(bytes) };
        assert_eq!(history.samples(), [sample(60, 0.5, 100.0), sample(180, 1.0, 200.0)]);
        let none = r#"{"data":{"result":[]}}"#;
        assert_eq!(UsageHistory::from_prometheus(none, None), Err(UsageError::Series(0)));
        assert!(matches!(UsageHistory::from_prometheus("{", None), Err(UsageError::Json(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(ts|cpu|memory|day|[a-z0-9.,\\-\n]){0,200}") {
            let _ = UsageHistory::from_csv(&text);
            let _ = UsageHistory::from_prometheus(&text, Some(&text));
        }
    }
}
