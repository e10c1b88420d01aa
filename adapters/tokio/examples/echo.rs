//! An echo server. Each message has a 4-byte length prefix.
//!
//! ```sh
//! cargo run -p getty-tokio --example echo -- 127.0.0.1:7000
//! ```

use bytes::Bytes;
use getty_tokio::core::codec::LengthDelimited;
use getty_tokio::{Context, Items, Listener, Server, framed};

struct Echo;

impl Listener<Items<Bytes>> for Echo {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
        let _ = cx.send(message); // refused only when the session is closing
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    let server = Server::builder().tcp(&address, framed(LengthDelimited::new), || Echo).await?;
    println!("listening tcp://{}", server.local_addr());
    std::future::pending().await
}
