//! `flyball kubeconfig`: prints the path of the running world's kubeconfig.

use anyhow::Result;

use crate::cli::WorldFiles;
use crate::{output, place};

pub(crate) fn run(options: WorldFiles) -> Result<()> {
    let path = match options.state_dir {
        Some(folder) => place::existing(folder.join("kubeconfig"))?,
        None => place::world_kubeconfig()?,
    };
    output::line(&path.display().to_string());
    Ok(())
}
