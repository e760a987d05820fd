//! `flyball up`: starts the embedded world, prints its addresses, and stops it on Ctrl-C.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Up;
use crate::output;
use crate::place::{self, WorldFolder};
use crate::world::{self, Listeners, Temporary, World};

pub(crate) async fn run(options: Up) -> Result<()> {
    let listeners = Listeners::open(&options.world).await?;
    let temporary = options.ephemeral.then(Temporary::create).transpose()?;
    let folder = match (&temporary, options.state_dir) {
        (Some(temporary), _) => temporary.path(),
        (None, Some(folder)) => folder,
        (None, None) => place::default_folder()?,
    };
    let place = WorldFolder::new(folder, options.kubeconfig)?;
    crate::log::to_file(&place.own_log())?;
    if options.repair {
        world::repair(&place)?.lines().for_each(output::note);
    }
    let mut stop = Stop::listen()?;

    let world = tokio::select! {
        world = World::start(&place, temporary.is_none(), listeners, &options.world) => world?,
        () = stop.requested() => return Ok(()),
    };
    let announced = place.announce()?;
    greet(&world, &place, temporary.is_some());
    stop.requested().await;
    output::note("stopping");
    drop(announced);
    tokio::select! {
        late = world.stop() => {
            late.into_iter().for_each(|part| output::note(&format!("{part} did not stop in time and was killed")));
        }
        () = stop.requested() => output::note("stopped immediately; the pods were killed"),
    }
    Ok(())
}

fn greet(world: &World, place: &WorldFolder, ephemeral: bool) {
    output::line(&format!(
        "Flyball is up; the API was ready after {} ms.",
        world.api_ready_after.as_millis()
    ));
    output::line(&format!("  Kubernetes API  https://{}", world.api));
    output::line(&format!("  Prometheus API  http://{}", world.prometheus));
    output::line(&format!("  kubeconfig      {}", place.kubeconfig().display()));
    let kept = if ephemeral { "removed at exit" } else { "kept for the next start" };
    output::line(&format!("  state           {} ({kept})", place.folder().display()));
    for notice in &world.notices {
        output::note(notice);
    }
    output::line("");
    output::line("  export KUBECONFIG=$(flyball kubeconfig)");
    output::line("  kubectl get nodes");
    output::line("");
    output::line("Ctrl-C stops everything.");
}

/// The signals that ask the program to stop: SIGINT, SIGTERM and SIGHUP.
pub(crate) struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Stop {
    pub(crate) fn listen() -> Result<Stop> {
        Ok(Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
