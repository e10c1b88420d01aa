//! An RPC server and its client.
//!
//! ```sh
//! cargo run -p getty-tokio --features json --example greeter -- serve 127.0.0.1:7000
//! cargo run -p getty-tokio --features json --example greeter -- call 127.0.0.1:7000 Ann
//! ```
//!
//! The server shuts down gracefully on SIGTERM or Ctrl-C: calls under way are answered, later ones fail as
//! not executed, so that their callers can repeat them on another server without harm.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use getty_tokio::rpc::{self, Call, Json, Services, Status};
use getty_tokio::{Client, Server};

/// The longest wait for calls under way once the server is asked to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until the process is asked to stop.
pub async fn serve(address: &str) -> io::Result<()> {
    let greeted = Arc::new(AtomicU64::new(0));
    let count = greeted.clone();
    let services = Services::new().method("greet.Greeter/Hello", Json, move |call: Call, name: String| {
        let count = count.clone();
        async move {
            if name.is_empty() {
                return Err(Status::invalid_argument("nobody to greet: the name is empty"));
            }
            tokio::time::sleep(Duration::from_millis(1)).await; // a database would be asked here
            count.fetch_add(1, Ordering::Relaxed);
            Ok(format!("hello {name}, you called {}", call.method()))
        }
    });
    // Ready before anybody knows the address.
    let stop = asked_to_stop()?;
    let server = Server::builder().tcp(address, rpc::frames, move || services.listener()).await?;
    println!("listening {}", server.local_addr());
    stop.await;
    server.shutdown(GRACE).await;
    println!("greeted {}", greeted.load(Ordering::Relaxed));
    Ok(())
}

/// Waits for SIGTERM or Ctrl-C.
fn asked_to_stop() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal;
    #[cfg(unix)]
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        let terminated = terminate.recv();
        #[cfg(not(unix))]
        let terminated = std::future::pending::<Option<()>>();
        tokio::select! {
            _ = signal::ctrl_c() => {}
            _ = terminated => {}
        }
    })
}

/// Calls the server once.
async fn call(address: &str, name: &str) -> io::Result<()> {
    let (peer, caller) = rpc::peer(Services::new());
    Client::builder().tcp(address, rpc::frames(), peer).await?;
    let call = caller.call::<_, _, String>("greet.Greeter/Hello", Json, name);
    match call.timeout(Duration::from_secs(5)).await {
        Ok(greeting) => println!("{greeting}"),
        Err(status) => println!("{status}"), // it also says whether the call was executed
    }
    Ok(())
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address).await,
        ["call", address, name] => call(address, name).await,
        _ => {
            eprintln!("expected: serve ADDRESS, or call ADDRESS NAME");
            Ok(())
        }
    }
}
