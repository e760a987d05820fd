//! The load generator alone, to compare it with others:
//! `cargo run --release -p flyball-load --example load -- -n 1000 http://127.0.0.1:8000/`.

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: flyball_load::Args,
}

fn main() -> std::process::ExitCode {
    let words = flyball_load::normalize_args(std::env::args().skip(1));
    flyball_load::execute(&Cli::parse_from(std::iter::once("load".to_owned()).chain(words)).args)
}
