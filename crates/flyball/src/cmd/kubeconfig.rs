//! `flyball kubeconfig`: prints where the running world's kubeconfig is.

use anyhow::Result;

use crate::cli::WorldFiles;
use crate::{output, place};

pub(crate) fn run(options: WorldFiles) -> Result<()> {
    let in_folder = options.state_dir.map(|folder| folder.join("kubeconfig"));
    let path = place::find_kubeconfig(in_folder)?;
    output::line(&path.display().to_string());
    Ok(())
}
