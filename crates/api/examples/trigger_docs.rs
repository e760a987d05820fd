//! Prints `docs/triggers.md`: `cargo run -p flyball-api --example trigger_docs > docs/triggers.md`.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    io::stdout().write_all(flyball_api::trigger::documentation().as_bytes())
}
