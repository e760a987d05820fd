//! Tells events beside the rounds: what an event costs must not hold up the next pod.

use kube::Client;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinHandle;

use crate::act::events::{Events, Note};

/// Events that may wait to be written; client-go's recorder lets 1,000 wait. A round over 5,000 pods tells fewer.
const WAITING_MAX: usize = 5_000;

/// Writes events in a task of its own.
pub(super) struct Teller {
    waiting: Sender<Note>,
    writer: JoinHandle<()>,
}

impl Teller {
    pub(super) fn start(client: Client) -> Teller {
        let (waiting, mut notes) = mpsc::channel::<Note>(WAITING_MAX);
        let writer = tokio::spawn(async move {
            let mut events = Events::new(client);
            while let Some(note) = notes.recv().await {
                events.publish(&note).await;
            }
        });
        Teller { waiting, writer }
    }

    /// Writes an event soon, or drops it if too many wait.
    pub(super) fn tell(&self, note: Note) {
        if let Err(error) = self.waiting.try_send(note) {
            tracing::warn!(%error, "an event is dropped");
        }
    }

    /// Waits until all is written.
    pub(super) async fn finish(self) {
        drop(self.waiting);
        if let Err(error) = self.writer.await {
            tracing::warn!(%error, "the writer of events ended early");
        }
    }
}
