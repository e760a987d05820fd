//! Serves an empty API on a port of 127.0.0.1 and writes a kubeconfig: `cargo run --example serve -- KUBECONFIG [STATE_DIR]`.
#![allow(clippy::disallowed_methods, reason = "an example program reads its arguments and the clock")]

use flyball_apiserver::{ApiServer, Options, write_private};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let kubeconfig = arguments.next().ok_or("usage: serve KUBECONFIG [STATE_DIR]")?;
    let started = std::time::Instant::now();
    let server = ApiServer::open(Options { state_dir: arguments.next().map(Into::into) }).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    write_private(kubeconfig.as_ref(), &server.kubeconfig(address))?;
    println!("open after {:?}; export KUBECONFIG={kubeconfig}", started.elapsed());
    server.serve(listener, async { drop(tokio::signal::ctrl_c().await) }).await?;
    server.close();
    Ok(())
}
