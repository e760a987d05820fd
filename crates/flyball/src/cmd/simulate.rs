//! `flyball simulate`: a load, a server and some policies in virtual time, side by side.
//!
//! Everything that decides is in `flyball-sim`; here files are read, policies run on all cores, and reports are printed.

use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use flyball_engine::{Bounds, Objectives};
use flyball_sim::{
    Arrivals, Load, Profile, ScalerKind, Setup, Simulation, SimulationReport, Trace, TraceKind,
};
use serde::Serialize;

use crate::cli::{Simulate, SimulateOutput};
use crate::output;

/// A server of which nothing is said: a small model on one core.
const PROFILE_DEFAULT: &str = "service=20ms,cv=0.5,concurrency=1,startup=35s";

/// Larger files are no load but a recording of something else: a gigabyte, unpacked.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What is compared if nobody says.
const POLICIES_DEFAULT: [&str; 4] = ["slo", "hpa:70%", "keda:70%", "kpa:70%"];

/// The report as data.
#[derive(Serialize)]
struct Report<'a> {
    load: &'a str,
    duration_seconds: f64,
    objective: String,
    profile: String,
    seed: u64,
    mean_rate: f64,
    /// What one who knows the future would pay.
    optimum_replica_seconds: f64,
    /// Requests were computed as a flow.
    flow: bool,
    policies: &'a [SimulationReport],
}

pub(crate) fn run(options: &Simulate) -> Result<()> {
    let setup = setup(options)?;
    let kinds = policies(&options.policies)?;
    let simulation = Simulation::new(setup.clone());
    let reports = all(&simulation, &kinds);
    let report = Report {
        load: &options.load,
        duration_seconds: setup.load.length().as_secs_f64(),
        objective: setup.objectives.to_string(),
        profile: options.profile.clone().unwrap_or_else(|| PROFILE_DEFAULT.to_owned()),
        seed: options.seed,
        mean_rate: setup.load.mean_rate(),
        optimum_replica_seconds: simulation.optimum().replica_seconds,
        flow: simulation.flows(),
        policies: &reports,
    };
    if let Some(file) = &options.plot {
        let picture = crate::cmd::simulate_plot::svg(&report.objective, &reports);
        std::fs::write(file, picture).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    match options.output {
        SimulateOutput::Json => output::line(&serde_json::to_string_pretty(&report)?),
        SimulateOutput::Table => print(&report, options),
    }
    Ok(())
}

fn setup(options: &Simulate) -> Result<Setup> {
    let objectives: Objectives = options.slo.parse().map_err(|error| anyhow!("--slo: {error}"))?;
    let profile = profile(options)?;
    let (mut load, is_times) = load(options)?;
    if let Some(from) = &options.from {
        let from = duration("--from", from)?;
        load = load.part(from, load.length().saturating_sub(from));
    }
    if let Some(length) = &options.duration {
        load = load.part(Duration::ZERO, duration("--duration", length)?);
    }
    let scaled = options.scale.is_some();
    if let Some(scale) = options.scale {
        if !(scale > 0.0 && scale <= 1e9) {
            bail!("--scale {scale}: it must be above zero and at most 1e9");
        }
        load = load.scaled(scale);
    }
    if load.length().is_zero() {
        bail!("nothing of the load is left; see --from and --duration");
    }
    let bounds =
        Bounds::new(options.min, options.max, None).map_err(|error| anyhow!("--min, --max: {error}"))?;
    if let Some((bound, _)) = objectives.latency()
        && profile.service.mean().as_secs_f64() >= bound
    {
        bail!(
            "{objectives} cannot be kept by any number of replicas: a request alone takes {} ms. \
             Give a longer bound, or a faster server with --profile service=…",
            profile.service.mean().as_secs_f64() * 1000.0
        );
    }
    Ok(Setup {
        load,
        arrivals: arrivals(&options.arrivals)?,
        is_times: is_times && !scaled,
        profile,
        objectives,
        risk: None,
        bounds,
        initial: options.initial,
        seed: options.seed,
    })
}

/// A shape in words, or else a file.
fn load(options: &Simulate) -> Result<(Load, bool)> {
    let shapes = ["constant:", "ramp:", "step:", "diurnal:", "burst:"];
    if shapes.iter().any(|shape| options.load.starts_with(shape)) {
        let length = options
            .duration
            .as_deref()
            .map_or(Ok(flyball_sim::LENGTH_DEFAULT), |text| duration("--duration", text))?;
        return Ok((Load::parse(&options.load, length).map_err(|error| anyhow!("--load: {error}"))?, false));
    }
    let file = Path::new(&options.load);
    if !file.exists() {
        bail!(
            "--load {}: there is no such file, and it is no shape; write constant:100/s, ramp:10/s..200/s, \
             step:20/s,200/s@20m, diurnal:50/s..150/s, burst:20/s..200/s, or the path of a trace",
            options.load
        );
    }
    let text = read(file)?;
    let trace = Trace::parse(&text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    trace.notes.iter().for_each(|note| output::note(note));
    Ok((trace.load, trace.kind == TraceKind::Times))
}

/// A file's text, unpacked where its name ends in `.gz`.
fn read(file: &Path) -> Result<String> {
    let open = std::fs::File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let mut bytes = Vec::new();
    match file.extension().is_some_and(|extension| extension == "gz") {
        true => flate2::read::GzDecoder::new(open).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes),
        false => open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes),
    }
    .with_context(|| format!("cannot read `{}`", file.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!("{}: more than a gigabyte; sum it up by seconds or minutes", file.display());
    }
    String::from_utf8(bytes)
        .map_err(|_| anyhow!("{} is no text; a trace is CSV, plain or gzipped (FILE.gz)", file.display()))
}

fn profile(options: &Simulate) -> Result<Profile> {
    let text = match options.profile.as_deref() {
        None => PROFILE_DEFAULT.to_owned(),
        Some(text) if text.contains('=') => text.to_owned(),
        Some(file) => read(Path::new(file))
            .context("--profile: write service=20ms,startup=35s, or a file of such lines")?,
    };
    Profile::parse(&text).map_err(|error| anyhow!("--profile: {error}"))
}

fn duration(flag: &str, text: &str) -> Result<Duration> {
    let span: jiff::SignedDuration = text
        .replace('d', "x")
        .parse()
        .or_else(|error| {
            text.strip_suffix('d')
                .and_then(|days| days.parse::<i64>().ok())
                .map(|days| jiff::SignedDuration::from_hours(days * 24))
                .ok_or(error)
        })
        .with_context(|| format!("{flag} {text}: write a duration such as 90s, 10m, 24h or 7d"))?;
    Duration::try_from(span).with_context(|| format!("{flag} {text}: it must not be negative"))
}

fn arrivals(text: &str) -> Result<Arrivals> {
    match text.split_once(':') {
        None if text == "poisson" => Ok(Arrivals::Poisson),
        None if text == "even" => Ok(Arrivals::Even),
        None if text == "bursty" => Ok(Arrivals::Bursty(4.0)),
        Some(("bursty", number)) => match number.parse() {
            Ok(variation) if (1.0..=1000.0).contains(&variation) => Ok(Arrivals::Bursty(variation)),
            _ => bail!("--arrivals {text}: the squared variation must be from 1 to 1000, such as bursty:4"),
        },
        _ => bail!("--arrivals {text}: write poisson, even, or bursty:4"),
    }
}

fn policies(given: &[String]) -> Result<Vec<ScalerKind>> {
    let defaults = POLICIES_DEFAULT.map(str::to_owned);
    let given = if given.is_empty() { &defaults } else { given };
    given.iter().map(|text| ScalerKind::parse(text).map_err(|error| anyhow!("--policy: {error}"))).collect()
}

/// Each policy's report, in their order; as many at once as there are cores.
fn all(simulation: &Simulation, kinds: &[ScalerKind]) -> Vec<SimulationReport> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(kinds.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((index, kind)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    kinds.get(index).map(|kind| (index, kind))
                } {
                    let report = simulation.run(kind);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, report));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, report)| report).collect()
}

fn print(report: &Report<'_>, options: &Simulate) {
    let colour = output::colour_on(&std::io::stdout());
    output::line(&format!(
        "{} for {} s, {:.1} requests/s on average; {}; one replica: {}",
        report.load, report.duration_seconds, report.mean_rate, report.objective, report.profile
    ));
    let head = [
        "POLICY",
        "OVER",
        "P50",
        "P95",
        "P99",
        "P99.9",
        "REPLICAS",
        "MAX",
        "X OPTIMAL",
        "CHANGES",
        "AT MAX",
        "OBJECTIVE",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(report.policies.iter().map(row));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("   ");
        let style = if index == 0 { output::Style::Bold } else { output::Style::Dim };
        output::line(&output::paint(style, line.trim_end(), colour && index == 0));
    }
    if options.decisions {
        for policy in report.policies {
            output::line(&format!("\n{}", policy.policy));
            for change in &policy.changed {
                let second = Duration::from_secs(change.second);
                output::line(
                    format!("  {second:?}  {} → {}  {}", change.from, change.to, change.reason).trim_end(),
                );
            }
            if policy.changes > policy.changed.len() {
                output::line(&format!("  … and {} more changes", policy.changes - policy.changed.len()));
            }
        }
    }
    if report.flow {
        output::note("so many requests were computed as a flow, not one by one");
    }
}

fn row(report: &SimulationReport) -> Vec<String> {
    let time = |seconds: Option<f64>| match seconds {
        None => "never".to_owned(),
        Some(seconds) if seconds < 1.0 => format!("{:.0}ms", seconds * 1000.0),
        Some(seconds) => format!("{seconds:.1}s"),
    };
    let latency = report.latency;
    vec![
        report.policy.clone(),
        format!("{:.2}%", report.over * 100.0),
        time(latency.p50),
        time(latency.p95),
        time(latency.p99),
        time(latency.p999),
        format!("{:.1}", report.replicas_mean),
        report.replicas_max.to_string(),
        format!("{:.2}", report.times_optimal),
        report.changes.to_string(),
        format!("{:.0}%", report.at_max * 100.0),
        if report.kept { "kept" } else { "missed" }.to_owned(),
    ]
}
