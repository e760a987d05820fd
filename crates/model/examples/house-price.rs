//! Trains the house-price model, or serves it: `cargo run --release -p flyball-model --example house-price -- --help`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

#[derive(Parser)]
#[command(about = "The house-price model: train it or serve it")]
enum Command {
    /// Train on sales and write the model file
    Train {
        /// CSV of sales, plain or in gzip
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/king_county_houses.csv.gz"))]
        data: PathBuf,
        /// Where the model goes
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Train { data, out } => {
            let model = flyball_model::train::train_file(&data, Default::default())?;
            std::fs::write(&out, model.encode())
                .with_context(|| format!("cannot write {}", out.display()))?;
            println!("{}", serde_json::to_string_pretty(model.report())?);
        }
    }
    Ok(())
}
