//! An echo server over WebSocket. Try it with `getty connect ws://127.0.0.1:7001`, or in a browser's console:
//! `ws = new WebSocket("ws://127.0.0.1:7001"); ws.onmessage = m => console.log(m.data)`, then
//! `ws.send("hello")`.

use getty_tokio::core::websocket::{Message, OriginPolicy, ServerOptions, WebSocket};
use getty_tokio::{Context, Items, Listener, Server};

struct Echo;

impl Listener<Items<Message>> for Echo {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Message>>, message: Message) {
        let _ = cx.send(message); // refused only if the session is closing
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7001".to_owned());
    // The default accepts only pages from this server's own address. An echo has nothing to protect.
    let options = ServerOptions::new().origin(OriginPolicy::Any);
    let server = Server::builder().tcp(&address, WebSocket::serving(options), || Echo).await?;
    println!("listening on ws://{}", server.local_addr());
    tokio::signal::ctrl_c().await?;
    server.shutdown(std::time::Duration::from_secs(5)).await;
    Ok(())
}
