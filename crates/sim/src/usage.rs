//! What a container used: a list of samples, from a CSV file or from Prometheus' answer to a range query.
//!
//! A CSV file has a header. A column whose name begins with `cpu` is in cores, one that begins with `memory` in bytes,
//! unless the end of the name has another unit. A file without a `cpu` column is a load in some unit of its own: its other
//! numbers are added up, and the load is scaled so that its mean is a given amount of CPU. Time is a column, or else the
//! rows are a minute apart. [`units`] says which unit is what.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use crate::units;

/// More samples than this are refused: four years of minutes, or 64 MB.
pub const SAMPLES_MAX: usize = 2_000_000;

/// The distance of rows without a time.
const ROW_SECONDS: u64 = 60;

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
    /// The unit of its times, where only their size says so.
    time_unit: Option<&'static str>,
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
    /// More than there is of anything, or a time after the year 9999.
    #[error("line {line}, column {column}: {value:?} is out of range")]
    Range {
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
    /// Rows too far apart to be what their column says.
    #[error(
        "line {line}, column {column}: the rows are {apart} apart, hours if these are seconds; name the column \
         timestamp_ms if they are milliseconds, or timestamp_seconds if they are not"
    )]
    Apart {
        /// The second row of a file.
        line: usize,
        /// The column of times.
        column: String,
        /// The most common distance.
        apart: u64,
    },
    /// More CPU than machines have.
    #[error(
        "column {column}: the mean is {mean:.0} cores; name the column cpu_millicores if these are thousandths of a core"
    )]
    Cores {
        /// The column.
        column: String,
        /// The mean of its numbers.
        mean: f64,
    },
    /// Less memory than a program needs.
    #[error(
        "column {column}: the most is {most} bytes; name the column memory_mib if these are mebibytes, memory_kib or \
         memory_gib"
    )]
    Bytes {
        /// The column.
        column: String,
        /// The highest of its numbers.
        most: f64,
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
        Self { samples, is_load: false, time_unit: None }
    }

    /// Reads a CSV file.
    ///
    /// # Errors
    ///
    /// No samples, no column that is a use, a field that is not a number, rows that are not in the order of time.
    pub fn from_csv(text: &str) -> Result<Self, UsageError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, header) = lines.next().ok_or(UsageError::Empty)?;
        let mut columns = Columns::new(header)?;
        let mut samples: Vec<Sample> = Vec::new();
        let mut time_unit = None;
        for (index, line) in lines {
            if samples.len() == SAMPLES_MAX {
                return Err(UsageError::TooMany);
            }
            if samples.is_empty() {
                time_unit = columns.find_time_unit(index + 1, line)?;
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
        columns.check_units(&samples)?;
        Ok(Self { samples, is_load: columns.is_load, time_unit })
    }

    /// Reads the answers of Prometheus to range queries: one for CPU in cores, and perhaps one for memory in bytes.
    ///
    /// # Errors
    ///
    /// Another kind of answer, more or fewer than one series, no samples.
    pub fn from_prometheus(cpu: &str, memory: Option<&str>) -> Result<Self, UsageError> {
        let memory = memory.map(matrix).transpose()?.map(|(memory, _)| memory).unwrap_or_default();
        let (cpu, time_unit) = matrix(cpu)?;
        let samples: Vec<Sample> = cpu
            .into_iter()
            .map(|(seconds, cpu_cores)| {
                let memory_bytes = memory.range(..=seconds).next_back().map(|(_, bytes)| *bytes);
                Sample { seconds, cpu_cores, memory_bytes }
            })
            .collect();
        match samples.len() {
            0 => Err(UsageError::Empty),
            len if len > SAMPLES_MAX => Err(UsageError::TooMany),
            _ => Ok(Self { samples, is_load: false, time_unit }),
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

    /// The unit that the times were taken to be in by their size, if it is not seconds and nothing else says so.
    pub fn time_unit(&self) -> Option<&'static str> {
        self.time_unit
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
    /// How many of the column of times make a second.
    per_second: f64,
    /// Whether the name of that column has the unit.
    time_is_named: bool,
    /// Added up.
    cpu: Vec<usize>,
    memory: Option<usize>,
    is_load: bool,
}

impl Columns {
    fn new(header: &str) -> Result<Self, UsageError> {
        let names: Vec<String> = header.split(',').map(|name| unquoted(name).to_lowercase()).collect();
        let find = |wanted: &dyn Fn(&str) -> bool| names.iter().position(|name| wanted(name));
        let time = find(&|name| units::time(name).is_some());
        let (per_second, time_is_named) =
            time.and_then(|time| units::time(&names[time])).unwrap_or((1.0, false));
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
        Ok(Self { names, time, per_second, time_is_named, cpu, memory, is_load })
    }

    /// Takes Unix times for what their size says, where the name of their column does not.
    fn find_time_unit(&mut self, line: usize, text: &str) -> Result<Option<&'static str>, UsageError> {
        let Some(time) = self.time.filter(|_| !self.time_is_named) else { return Ok(None) };
        let field = text.split(',').nth(time).map(unquoted).unwrap_or_default();
        let (per_second, unit) = units::of_unix_time(self.number(line, time, field)?);
        self.per_second = per_second;
        Ok((per_second > 1.0).then_some(unit))
    }

    /// Refuses what is out of all proportion in the unit that it was taken to be in.
    fn check_units(&self, samples: &[Sample]) -> Result<(), UsageError> {
        let column =
            |index: Option<&usize>| index.map(|index| self.names[*index].clone()).unwrap_or_default();
        let mut apart: Vec<u64> = samples.windows(2).map(|pair| pair[1].seconds - pair[0].seconds).collect();
        apart.sort_unstable();
        let apart = apart.get(apart.len() / 2).copied().unwrap_or(0);
        if apart > units::STEP_SECONDS_MAX && self.time.is_some() && !self.time_is_named {
            return Err(UsageError::Apart { line: 3, column: column(self.time.as_ref()), apart });
        }
        let mean = samples.iter().map(|sample| sample.cpu_cores).sum::<f64>() / samples.len().max(1) as f64;
        if !self.is_load && mean > units::CORES_MAX {
            return Err(UsageError::Cores { column: column(self.cpu.first()), mean });
        }
        let most = samples.iter().filter_map(|sample| sample.memory_bytes).fold(0.0, f64::max);
        if most > 0.0 && most < units::BYTES_MIN {
            return Err(UsageError::Bytes { column: column(self.memory.as_ref()), most });
        }
        Ok(())
    }

    fn sample(&self, line: usize, text: &str, seconds: u64) -> Result<Sample, UsageError> {
        let fields: Vec<&str> = text.split(',').map(unquoted).collect();
        let number = |index: usize| self.field(line, index, &fields, units::AMOUNT_MAX);
        let seconds = match self.time {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, and is not negative"
            )]
            Some(time) => (self.field(line, time, &fields, f64::INFINITY)? / self.per_second) as u64,
            None => seconds,
        };
        if seconds > units::SECONDS_MAX {
            let time = self.time.unwrap_or_default();
            return Err(self.out_of_range(line, time, fields.get(time).copied().unwrap_or_default()));
        }
        let mut cpu_cores = 0.0;
        for index in &self.cpu {
            let scale = if self.is_load { 1.0 } else { units::cores(&self.names[*index]) };
            cpu_cores += number(*index)? * scale;
        }
        let memory = self.memory.map(|index| Ok(number(index)? * units::bytes(&self.names[index])));
        let memory_bytes = memory.transpose()?;
        Ok(Sample { seconds, cpu_cores, memory_bytes })
    }

    fn field(&self, line: usize, column: usize, fields: &[&str], max: f64) -> Result<f64, UsageError> {
        let field = fields.get(column).copied().unwrap_or_default();
        let number = self.number(line, column, field)?;
        if number > max { Err(self.out_of_range(line, column, field)) } else { Ok(number) }
    }

    fn out_of_range(&self, line: usize, column: usize, field: &str) -> UsageError {
        UsageError::Range {
            line,
            column: self.names[column].clone(),
            value: field.chars().take(40).collect(),
        }
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

/// A field of a CSV file, without the quotes that a spreadsheet puts around it.
fn unquoted(field: &str) -> &str {
    field.trim().trim_matches('"').trim()
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

/// The one series of an answer, and the unit of its times if it is not seconds; what is not a number, below zero or
/// out of range is left out.
fn matrix(text: &str) -> Result<(BTreeMap<u64, f64>, Option<&'static str>), UsageError> {
    let answer: Answer = serde_json::from_str(text).map_err(|error| UsageError::Json(error.to_string()))?;
    let [series] = answer.data.result.as_slice() else {
        return Err(UsageError::Series(answer.data.result.len()));
    };
    let (per_second, unit) = units::of_unix_time(series.values.first().map_or(0.0, |(time, _)| *time));
    let pair = |(time, value): &(f64, String)| {
        let value = value.parse().ok().filter(|value: &f64| (0.0..=units::AMOUNT_MAX).contains(value))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let seconds = (*time / per_second) as u64;
        (seconds <= units::SECONDS_MAX).then_some((seconds, value))
    };
    Ok((series.values.iter().filter_map(pair).collect(), (per_second > 1.0).then_some(unit)))
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
        check("ts,cpu\n0,1\n60,1\n1e30,1", Err("line 4, column ts: \"1e30\" is out of range"));
        check("cpu,memory\n1,1e300", Err("line 2, column memory: \"1e300\" is out of range"));
        check("ts,cpu\n60,1\n0,1", Err("line 3: its time 0 lies before that of the line above"));
    }

    /// Each unit is found by the column's name or by the size of Unix times, said, or refused; never taken for another.
    #[test]
    fn units_are_named_found_or_refused() {
        let minute = |first: &str, second: &str| format!("timestamp,cpu\n{first},1\n{second},2\n");
        for (text, unit) in [
            (minute("1700000000", "1700000060"), None),
            (minute("1700000000000", "1700000060000"), Some("milliseconds")),
            (minute("1700000000000000", "1700000060000000"), Some("microseconds")),
            (minute("1.7e18", "1700000060000000000"), Some("nanoseconds")),
            (minute("1700000000000", "1700000060000").replace("timestamp", "timestamp_ms"), None),
            ("\u{feff}\"time_ms\",\"cpu\"\n\"1700000000000\",1\n\"1700000060000\",2\n".to_owned(), None),
        ] {
            let history = UsageHistory::from_csv(&text).expect(&text);
            let seconds: Vec<u64> = history.samples.iter().map(|sample| sample.seconds).collect();
            assert_eq!((seconds, history.time_unit()), (vec![1_700_000_000, 1_700_000_060], unit), "{text}");
        }
        check(
            "ts_ms,cpu_m,memory_mib\n0,250,100\n60000,500,200\n",
            Ok(&[(0, 0.25, Some(104_857_600.0)), (60, 0.5, Some(209_715_200.0))]),
        );
        for (text, refused) in [
            ("ts,cpu\n0,1\n60000,1\n120000,1\n", "the rows are 60000 apart"),
            ("cpu\n4000\n5000\n", "the mean is 4500 cores; name the column cpu_millicores"),
            ("cpu,memory\n1,150\n1,300\n", "the most is 300 bytes; name the column memory_mib"),
        ] {
            let error = UsageHistory::from_csv(text).expect_err(text).to_string();
            assert!(error.contains(refused), "{error}");
        }
        // A recording with a gap of a day, and one of a row.
        assert!(UsageHistory::from_csv("ts,cpu\n0,1\n60,1\n90000,1\n90060,1\n").is_ok());
        assert!(UsageHistory::from_csv("ts,cpu\n0,1\n").is_ok());
        let answer = r#"{"data":{"result":[{"values":[[1700000000000,"1"],[1700000060000,"2"]]}]}}"#;
        let history = UsageHistory::from_prometheus(answer, None).expect("an answer");
        assert_eq!((history.samples[1].seconds, history.time_unit()), (1_700_000_060, Some("milliseconds")));
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

    /// Numbers that files have, and some that none should.
    fn any_number() -> impl Strategy<Value = String> {
        let odd = ["", "NaN", "-1", "1e400", "1e15", "9.9e14", "0", "0.001", "253402300799", "x"];
        prop_oneof![
            6 => (0u64..4000).prop_map(|number| number.to_string()),
            1 => proptest::sample::select(odd.to_vec()).prop_map(str::to_owned),
        ]
    }

    proptest! {
        /// What is read can be replayed, however odd: no overflow, no endless loop.
        #[test]
        fn what_is_read_is_replayed(
            rows in proptest::collection::vec((any_number(), any_number()), 1..40),
            header in proptest::sample::select(vec!["cpu,memory", "cpu_m,memory_mib", "a,b", "cpu,memory_gib"]),
            steps in proptest::collection::vec(0u64..1_000_000, 40),
        ) {
            let mut at = 0;
            let mut text = format!("ts_seconds,{header}\n");
            for ((cpu, memory), step) in rows.iter().zip(steps) {
                at += step * step;
                text.push_str(&format!("{at},{cpu},{memory}\n"));
            }
            if let Ok(history) = UsageHistory::from_csv(&text) {
                let history = if history.is_load() { history.with_mean_cpu(0.5) } else { history };
                let settings = flyball_engine::vertical::RecommenderSettings::flyball();
                let report = crate::replay(&history, &crate::Replay::new(settings));
                prop_assert!(report.samples <= history.samples().len());
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(ts|cpu|memory|day|[a-z0-9.,\\-\n]){0,200}") {
            let _ = UsageHistory::from_csv(&text);
            let _ = UsageHistory::from_prometheus(&text, Some(&text));
        }
    }
}
