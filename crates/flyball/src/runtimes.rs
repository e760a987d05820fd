//! Runtimes of a world, so that what is busy in one part holds up no other: the API server has the program's own, and the
//! node with the Services' proxies, the loop with its scrapes, and the questions of users have one each.

use std::io;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

/// A runtime that ends when it is dropped, and waits for nothing.
pub(crate) struct Own(Option<Runtime>);

impl Own {
    /// `threads` for the asynchronous work of the part `name`.
    pub(crate) fn new(name: &str, threads: usize) -> io::Result<Own> {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(threads)
            .thread_name(name)
            .enable_all()
            .build()
            .map(|runtime| Own(Some(runtime)))
    }

    /// Begins a part there.
    pub(crate) fn spawn<T: Send + 'static>(&self, part: impl Future<Output = T> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(part);
        }
    }

    /// Runs something there, and waits for it: what it spawns stays there.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        part: impl Future<Output = T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let runtime = self.0.as_ref().context("the runtime has ended")?;
        runtime.spawn(part).await.context("a part of the world failed to start")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
