//! Expires Events after an hour, as Kubernetes' `--event-ttl` does, and earlier when there are too many.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Call;
use crate::kinds::events::EVENT;
use crate::object::{self, text};
use crate::state::ServerState;
use crate::store::Precondition;

/// Lifetime of an event after its last write.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(1);
/// Maximum number of events; at about a kilobyte each, a few megabytes.
const EVENTS_MAX: usize = 3000;
const EVERY: Duration = Duration::from_secs(60);

/// Removes old events periodically until the server is dropped.
pub(crate) async fn events(server: Weak<ServerState>) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let Some(server) = server.upgrade() else { return };
        sweep(&server).await;
    }
}

async fn sweep(server: &Arc<ServerState>) {
    let Some(kind) = server.registry().of_row(&EVENT) else { return };
    let (mut found, _) = server.store.list(&kind.storage, "", None);
    found.sort_by_key(|stored| stored.revision);
    let surplus = found.len().saturating_sub(EVENTS_MAX);
    let now = Timestamp::now();
    for (index, stored) in found.iter().enumerate() {
        let event = stored.value();
        if index >= surplus && !is_old(&event, now) {
            continue;
        }
        let call = Call::internal(server, kind.clone(), object::namespace(&event), object::name(&event));
        // If the event was updated meanwhile, this fails and the event stays for another hour.
        let _ = super::write::commit(&call, event, Precondition::Revision(stored.revision), true).await;
    }
}

fn is_old(event: &serde_json::Value, now: Timestamp) -> bool {
    let times = ["metadata.creationTimestamp", "lastTimestamp", "eventTime", "series.lastObservedTime"];
    let last = times.iter().filter_map(|path| text(event, path).parse::<Timestamp>().ok()).max();
    last.is_some_and(|last| now.duration_since(last) > AGE_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn an_event_is_as_old_as_its_last_occurrence() {
        let now = "2026-01-01T12:00:00Z".parse().expect("it is a time");
        let event = |created: &str, last: &str| json!({"metadata": {"creationTimestamp": created}, "lastTimestamp": last});
        assert!(super::is_old(&event("2026-01-01T10:00:00Z", "2026-01-01T10:30:00Z"), now));
        assert!(!super::is_old(&event("2026-01-01T10:00:00Z", "2026-01-01T11:30:00Z"), now));
    }
}
