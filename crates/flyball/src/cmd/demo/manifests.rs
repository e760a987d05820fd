//! Applies the example's manifests, as `kubectl apply --server-side -f examples/house-price/` does.

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Client, ResourceExt};

/// The manifests, in the order in which they are applied.
const MANIFESTS: [&str; 4] = [
    include_str!("../../../../../examples/house-price/service.yaml"),
    include_str!("../../../../../examples/house-price/servicemonitor.yaml"),
    include_str!("../../../../../examples/house-price/deployment.yaml"),
    include_str!("../../../../../examples/house-price/scaledobject.yaml"),
];

pub(super) async fn apply(client: &Client) -> Result<()> {
    for manifest in MANIFESTS {
        let object: DynamicObject =
            serde_saphyr::from_str(manifest).context("a built-in manifest is not YAML")?;
        let types = object.types.clone().context("a built-in manifest has no kind")?;
        let kind: GroupVersionKind = (&types).try_into()?;
        let (resource, _) = kube::discovery::pinned_kind(client, &kind).await?;
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
        let name = object.name_any();
        api.patch(&name, &PatchParams::apply("flyball-demo").force(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("cannot apply {} {name}", types.kind))?;
    }
    Ok(())
}
