//! The other engine: builds the Go program, and speaks with it in lines of JSON.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::compare::Answer;
use crate::data::DataSet;
use crate::queries::Query;

pub(crate) struct Oracle {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Timing {
    #[serde(default)]
    error: String,
    #[serde(default)]
    nanos: f64,
}

impl Oracle {
    /// Builds and starts the program; `None` without Go.
    pub(crate) fn start() -> Result<Option<Oracle>, String> {
        if Command::new("go").arg("version").output().is_err() {
            return Ok(None);
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/differential/oracle");
        let program: PathBuf = std::env::temp_dir().join("flyball-promql-oracle");
        println!("building {} (the first time takes minutes)", program.display());
        let built =
            Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(source).status();
        if !built.map_err(|error| error.to_string())?.success() {
            return Err("go build failed".into());
        }
        let mut command = Command::new(program);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| error.to_string())?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("no output")?;
        Ok(Some(Oracle { child, stdin, stdout: BufReader::new(stdout) }))
    }

    fn call<T: serde::de::DeserializeOwned>(&mut self, command: &Value) -> T {
        let stdin = self.stdin.as_mut().expect("open until the oracle is dropped");
        writeln!(stdin, "{command}").expect("the oracle reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the oracle answers");
        serde_json::from_str(&line).expect("the oracle answers with JSON")
    }

    pub(crate) fn load(&mut self, data: &DataSet) {
        let answer: Answer = self.call(&json!({"op": "load", "series": data.to_json()}));
        assert_eq!(answer.error, "", "the oracle takes the data");
    }

    pub(crate) fn ask(&mut self, query: &Query) -> Answer {
        self.call(&json!({
            "op": "query",
            "query": query.text,
            "start": query.start_ms,
            "end": query.end_ms,
            "step": query.step_ms,
            "delayed": query.names_dropped_last,
        }))
    }

    /// Nanoseconds of reading a page with all its labels.
    pub(crate) fn time_page(&mut self, page: &str, format: &str, rounds: u32) -> f64 {
        let command = json!({"op": "parse", "page": page, "format": format, "rounds": rounds});
        let timing: Timing = self.call(&command);
        assert_eq!(timing.error, "");
        timing.nanos
    }

    /// Nanoseconds of an instant query.
    pub(crate) fn time(&mut self, text: &str, at_ms: i64, rounds: u32) -> f64 {
        let command =
            json!({"op": "time", "query": text, "start": at_ms, "end": at_ms, "step": 0, "rounds": rounds});
        let timing: Timing = self.call(&command);
        assert_eq!(timing.error, "");
        timing.nanos
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It ends when it has nothing more to read.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
