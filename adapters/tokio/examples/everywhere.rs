//! One listener, three endpoints: lines over TCP, in WebSocket messages and in datagrams.
//!
//! ```sh
//! cargo run -p getty-tokio --features websocket --example everywhere
//! ```
//!
//! Then, with the addresses that it prints:
//!
//! ```sh
//! getty connect --codec lines tcp://127.0.0.1:41234
//! getty connect --codec lines ws://127.0.0.1:41235
//! getty connect --codec lines udp://127.0.0.1:41236
//! ```

use std::time::Duration;

use getty_tokio::core::codec::Lines;
use getty_tokio::core::websocket::{Packages, ServerOptions};
use getty_tokio::{Context, Items, Listener, Server};

struct Shout;

impl Listener<Items<String>> for Shout {
    fn on_message(&mut self, cx: &mut Context<'_, Items<String>>, line: String) {
        if let Some(peer) = cx.peer_addr() {
            println!("{peer}: {line}"); // over UDP, who sent this message
        }
        let _ = cx.send(line.to_uppercase()); // refused only when the session is closing
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let any = "127.0.0.1:0";
    let packages = || Packages::new(Lines::new());
    let tcp = Server::builder().tcp(any, Lines::new, || Shout).await?;
    let ws = Server::builder().websocket_of(any, ServerOptions::new(), packages, || Shout).await?;
    let udp = Server::builder().udp(any, Lines::new(), Shout).await?;
    println!("tcp://{}\nws://{}\nudp://{}", tcp.local_addr(), ws.local_addr(), udp.local_addr());
    tokio::signal::ctrl_c().await?;
    for server in [tcp, ws, udp] {
        server.shutdown(Duration::from_secs(1)).await;
    }
    Ok(())
}
