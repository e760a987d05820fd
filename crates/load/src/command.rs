//! `flyball load`: reads the body, runs the plan, prints the report. The exit code says whether any request was answered.

use std::io::Read as _;
use std::process::ExitCode;

use bytes::Bytes;

use crate::{Args, Handle, Http2, MAX_BODY_BYTES, Output, Plan, PlanError, Report, progress, run};

/// Runs `flyball load` on a new runtime. Exits with 0 if a request was answered, 1 if none was or the arguments are wrong.
pub fn execute(args: &Args) -> ExitCode {
    let plan = plan(args);
    if let Some(remark) = plan.as_ref().ok().and_then(remark) {
        eprintln!("note: {remark}");
    }
    match plan.and_then(|plan| block_on(args, plan)) {
        Ok(report) => print(args.output, &report),
        Err(error) => {
            for problem in &error.0 {
                eprintln!("error: {problem}");
            }
            ExitCode::FAILURE
        }
    }
}

fn plan(args: &Args) -> Result<Plan, PlanError> {
    let one = |problem| PlanError(vec![problem]);
    let body = match (&args.body, &args.body_file) {
        (Some(body), _) => Bytes::from(body.clone()),
        (None, Some(file)) => {
            let unreadable = |e| one(format!("-D {}: {e}", file.display()));
            let mut body = Vec::new();
            // The length of a pipe or device is unknown before reading.
            let read = std::fs::File::open(file)
                .and_then(|file| file.take(MAX_BODY_BYTES + 1).read_to_end(&mut body));
            if read.map_err(unreadable)? as u64 > MAX_BODY_BYTES {
                return Err(one(format!("-D {}: larger than {MAX_BODY_BYTES} bytes", file.display())));
            }
            body.into()
        }
        (None, None) => Bytes::new(),
    };
    Plan::from_args(args, body)
}

/// Warns about -h2 where it has no effect, as with hey.
fn remark(plan: &Plan) -> Option<&'static str> {
    let in_the_clear = plan.target.http2 == Http2::OverTls && plan.target.uri.scheme_str() == Some("http");
    in_the_clear
        .then_some("-h2 applies to https:// only; this URL uses HTTP/1.1. Add --h2c for HTTP/2 in the clear")
}

fn block_on(args: &Args, plan: Plan) -> Result<Report, PlanError> {
    let runtime = match args.cpus {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    };
    let runtime = runtime.map_err(|e| PlanError(vec![format!("cannot start the runtime: {e}")]))?;
    runtime.block_on(watched(plan, !args.no_progress))
}

/// Runs with a progress line; Ctrl-C ends the run, and the report covers the requests sent by then.
async fn watched(plan: Plan, show_progress: bool) -> Result<Report, PlanError> {
    let handle = Handle::new(&plan);
    let shown = plan.clone();
    let side = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => handle.stop(),
            () = progress::show(&shown, &handle), if show_progress => {}
        }
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        report = run(plan, &handle) => report,
        never = side => match never {},
    }
}

fn print(output: Output, report: &Report) -> ExitCode {
    print!(
        "{}",
        match output {
            Output::Text => report.text(),
            Output::Json => report.json() + "\n",
            Output::Csv => report.csv(),
        }
    );
    if report.unfinished > 0 {
        eprintln!(
            "note: {} requests were still unanswered at the end of the run and are not counted",
            report.unfinished
        );
    }
    if report.succeeded() {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: no request was answered; see the error distribution");
    ExitCode::FAILURE
}
