//! `flyball demo`: serves the house-price model, loads it, shows how it scales and why, and prints a report.
//!
//! Nothing is simulated: it applies the manifests of `examples/house-price`, sends requests to the Service and lets the
//! autoscaler decide. It reads everything it shows from the Kubernetes API, as kubectl does.

mod manifests;
mod observe;
mod picture;
mod report;
mod screen;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flyball_load::{Handle, Load, Phase, Plan, Target, Until};
use http::{HeaderValue, Method, header};

use crate::cli::{Demo, DemoOutput};
use crate::cmd::demo::observe::Observer;
use crate::cmd::demo::report::{Observation, PhaseResult, Report};
use crate::cmd::demo::screen::Screen;
use crate::cmd::up::Stop;
use crate::place::WorldFolder;
use crate::world::{Listeners, Temporary, World};

/// Requests that the load sends, as on the course page.
const HOUSE: &str =
    r#"{"sqft":4500,"bedrooms":4,"bathrooms":2,"year_built":2014,"condition":"Good","location":"Urban"}"#;

/// The first phase: a light load that one replica handles.
const GENTLE: Phase =
    Phase { load: Load::Open { rate: 10.0 }, until: Until::Elapsed(Duration::from_secs(12)) };
/// The second phase: as many concurrent clients as the course page's `hey -c 200`.
const STEP: Phase =
    Phase { load: Load::Closed { workers: 200, rate: None }, until: Until::Elapsed(Duration::from_secs(45)) };
/// The first pod and the first scrape take a second; anything beyond this is a failure.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Time limit of the scale-in: the window of 300 s after the last load, the rate's minute, and a margin.
const SCALE_IN_WITHIN: Duration = Duration::from_secs(480);
/// How often the world is observed and the picture drawn.
const OBSERVE_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) async fn run(options: Demo) -> Result<ExitCode> {
    let listeners = Listeners::open(&options.world).await?;
    let temporary = Temporary::create()?;
    let place = WorldFolder::new(temporary.path(), None)?;
    crate::log::to_file(&place.own_log())?;
    let mut stop = Stop::listen()?;
    let mut screen = Screen::new(options.output == DemoOutput::Text);
    screen.say("starting a Kubernetes API, a node and an autoscaler on this machine");
    let world = World::start(&place, false, listeners, &options.world).await?;
    let announced = place.announce()?;
    for notice in &world.notices {
        screen.say(notice);
    }
    let shown = tokio::select! {
        report = show(&world, &mut screen, options.full) => Some(report),
        () = stop.requested() => None,
    };
    screen.finish();
    drop(announced);
    world.stop().await;
    match shown {
        None => Ok(ExitCode::from(130)),
        Some(report) => {
            let report = report?;
            report.print(options.output);
            Ok(if report.succeeded() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

async fn show(world: &World, screen: &mut Screen, full: bool) -> Result<Report> {
    let mut observer = Observer::new(world.client.clone());
    screen.say(&format!(
        "the API was ready after {} ms; applying the manifests",
        world.api_ready_after.as_millis()
    ));
    let applied = Instant::now();
    manifests::apply(&world.client).await?;
    wait_until_ready(&mut observer).await?;
    let ready_after = applied.elapsed();
    let rss_idle_bytes = observe::own_memory_bytes();
    screen
        .say(&format!("the first pod was ready {} ms later; sending 10 requests/s", ready_after.as_millis()));

    let url = observer.predictions_url().await?;
    let gentle = load(&url, GENTLE, "10 requests/s", &mut observer, screen).await?;
    screen.say("now sending from 200 concurrent clients");
    let step = load(&url, STEP, "200 clients", &mut observer, screen).await?;
    let mut report = Report::new(&observer, gentle, step).await?;
    if full {
        screen.say("the load is over; scale-in starts 300 s after the last high recommendation");
        report.scaled_in_after_seconds = Some(wait_for_scale_in(&mut observer, screen).await?.as_secs_f64());
    }
    report.api_ready_after_seconds = world.api_ready_after.as_secs_f64();
    report.pod_ready_after_seconds = ready_after.as_secs_f64();
    report.memory_idle_bytes = rss_idle_bytes;
    report.memory_under_load_bytes = observer.memory_bytes_max;
    Ok(report)
}

async fn wait_until_ready(observer: &mut Observer) -> Result<()> {
    let begun = Instant::now();
    loop {
        let replicas = observer.replicas().await?;
        if replicas.ready >= 1 {
            return Ok(());
        }
        if begun.elapsed() > READY_WITHIN {
            bail!("the model is not ready after {READY_WITHIN:?}: {}", observer.failure_reason().await);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends one phase of load while observing the world.
async fn load(
    url: &str,
    phase: Phase,
    name: &str,
    observer: &mut Observer,
    screen: &mut Screen,
) -> Result<PhaseResult> {
    let plan = Plan { target: target(url)?, phases: vec![phase], keep_samples: false };
    let handle = Handle::new(&plan);
    let (sender, begun) = (handle.clone(), jiff::Timestamp::now());
    let mut sending = tokio::spawn(async move { flyball_load::run(plan, &sender).await });
    let mut seconds = Vec::new();
    let mut ticks = tokio::time::interval(OBSERVE_INTERVAL);
    let report = loop {
        tokio::select! {
            report = &mut sending => break report.context("the load ended early")??,
            _ = ticks.tick() => {
                let stats = handle.stats();
                let moment = observer.observe(name, Some(&stats)).await?;
                seconds.push(Observation::new(&moment, &stats));
                screen.draw(moment);
            }
        }
    };
    Ok(PhaseResult { begun, seconds, report })
}

fn target(url: &str) -> Result<Target> {
    let mut target = Target::get(url)?;
    target.method = Method::POST;
    target.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    target.body = HOUSE.into();
    Ok(target)
}

async fn wait_for_scale_in(observer: &mut Observer, screen: &mut Screen) -> Result<Duration> {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(OBSERVE_INTERVAL);
    loop {
        ticks.tick().await;
        let moment = observer.observe("no load", None).await?;
        let (ready, desired) = (moment.replicas_ready, moment.replicas_desired);
        screen.draw(moment);
        if ready == 1 && desired == 1 {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > SCALE_IN_WITHIN {
            bail!("still {ready} replicas {SCALE_IN_WITHIN:?} after the end of the load");
        }
    }
}
