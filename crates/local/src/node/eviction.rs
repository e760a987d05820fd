//! The one reason for which this node evicts a pod: an `emptyDir` that has outgrown its `sizeLimit`.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::pod::PodContext;
use crate::quantity::whole;

/// Between looks at how much the files of an `emptyDir` with a `sizeLimit` take, as the kubelet's
/// (`housekeeping-interval`).
const SIZE_INTERVAL: Duration = Duration::from_secs(10);

/// Waits until a volume has outgrown its `sizeLimit`: reason and message of the eviction.
pub(crate) async fn over_limit(context: &PodContext) -> (&'static str, String) {
    let pod = context.pod();
    let limited: Vec<(String, Quantity)> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
        .filter_map(|volume| Some((volume.name.clone(), volume.empty_dir.as_ref()?.size_limit.clone()?)))
        .filter(|(_, limit)| whole(limit).is_some_and(|bytes| bytes > 0))
        .collect();
    if limited.is_empty() || context.stop.is_cancelled() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(SIZE_INTERVAL).await;
        for (name, limit) in &limited {
            let Some(dir) = context.volumes.get().and_then(|volumes| volumes.get(name)).cloned() else {
                continue;
            };
            let used = tokio::task::spawn_blocking(move || size(&dir)).await.unwrap_or(0);
            if whole(limit).is_some_and(|limit| used > limit) {
                let message =
                    format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\". ", limit.0);
                return ("Evicted", message);
            }
        }
    }
}

/// What the files below a directory take on disk.
fn size(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
