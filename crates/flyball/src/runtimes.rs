//! The runtimes of a world, one for each part, so that a busy part delays no other. The API server uses the program's own;
//! the node with the Services' proxies, the autoscaler with its scrapes, and users' queries have one each.

use std::io;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

/// A runtime that shuts down when dropped, without waiting for its tasks.
pub(crate) struct PartRuntime(Option<Runtime>);

impl PartRuntime {
    /// Creates a runtime with `threads` worker threads called `name`.
    pub(crate) fn new(name: &str, threads: usize) -> io::Result<PartRuntime> {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(threads)
            .thread_name(name)
            .enable_all()
            .build()
            .map(|runtime| PartRuntime(Some(runtime)))
    }

    /// Spawns a task on the runtime.
    pub(crate) fn spawn<T: Send + 'static>(&self, part: impl Future<Output = T> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(part);
        }
    }

    /// Runs a task on the runtime and waits for it; tasks that it spawns stay on the runtime.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        part: impl Future<Output = T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let runtime = self.0.as_ref().context("the runtime has ended")?;
        runtime.spawn(part).await.context("a part of the world panicked while starting")
    }
}

impl Drop for PartRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
