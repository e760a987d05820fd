//! `flyball train`: trains a built-in model, writes the model file and prints the measured quality.

use std::path::PathBuf;

use anyhow::{Context, Result};
use flyball_model::train;

use crate::cli::{Model, Train};
use crate::output;

/// The sales that the embedded model was trained on.
const SALES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/data/king_county_houses.csv.gz");

pub(crate) fn run(options: Train) -> Result<()> {
    let Model::HousePrice = options.model;
    let data = options.data.unwrap_or_else(|| PathBuf::from(SALES));
    let model = train::train_file(&data, train::Settings::default())
        .with_context(|| format!("cannot train on `{}`: pass the sales with --data FILE", data.display()))?;
    std::fs::write(&options.out, model.encode())
        .with_context(|| format!("cannot write `{}`", options.out.display()))?;
    output::line(&serde_json::to_string_pretty(model.report())?);
    Ok(())
}
