//! One listener on three endpoints: lines over TCP, in WebSocket messages and in datagrams.
//!
//! ```sh
//! cargo run -p getty-tokio --features websocket --example everywhere
//! ```
//!
//! Then connect to the printed addresses:
//!
//! ```sh
//! getty connect --codec lines tcp://127.0.0.1:41234
//! getty connect --codec lines ws://127.0.0.1:41235
//! getty connect --codec lines udp://127.0.0.1:41236
//! ```

use std::time::Duration;

pub use getty_tokio::Server;
use getty_tokio::core::codec::Lines;
use getty_tokio::core::websocket::{Packages, ServerOptions, WebSocket};
use getty_tokio::{Context, Items, Listener, framed};

struct Shout;

impl Listener<Items<String>> for Shout {
    fn on_message(&mut self, cx: &mut Context<'_, Items<String>>, line: String) {
        if let Some(peer) = cx.peer_addr() {
            println!("{peer}: {line}"); // over UDP, the sender of this message
        }
        let _ = cx.send(line.to_uppercase()); // refused only when the session is closing
    }
}

/// Starts one server for each transport: TCP, WebSocket, UDP.
pub async fn serve() -> std::io::Result<[Server; 3]> {
    let any = "127.0.0.1:0";
    let packages = WebSocket::serving_of(|| Packages::new(Lines::new()), ServerOptions::new());
    let tcp = Server::builder().tcp(any, framed(Lines::new), || Shout).await?;
    let ws = Server::builder().tcp(any, packages, || Shout).await?;
    let udp = Server::builder().udp(any, Lines::new(), Shout).await?;
    Ok([tcp, ws, udp])
}

/// Shuts the servers down, one after the other.
pub async fn shut_down(servers: [Server; 3]) {
    for server in servers {
        server.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let servers = serve().await?;
    let [tcp, ws, udp] = servers.each_ref().map(Server::local_addr);
    println!("tcp://{tcp}\nws://{ws}\nudp://{udp}");
    tokio::signal::ctrl_c().await?;
    shut_down(servers).await;
    Ok(())
}
