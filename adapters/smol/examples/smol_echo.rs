//! An echo server. Each message has a 4-byte length prefix.
//!
//! ```sh
//! cargo run -p getty-smol --example smol_echo -- 127.0.0.1:7000
//! ```

use bytes::Bytes;
use getty_smol::core::codec::LengthDelimited;
use getty_smol::{Context, Items, Listener, OnLocalExecutor, Server, framed};

struct Echo;

impl Listener<Items<Bytes>> for Echo {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
        let _ = cx.send(message); // refused only when the session is closing
    }
}

fn main() -> std::io::Result<()> {
    // The reactor and all sessions run on this thread. To use several threads, omit the spawner.
    let executor = std::rc::Rc::new(smol::LocalExecutor::new());
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    smol::block_on(executor.run(async {
        let builder = Server::builder().spawner(OnLocalExecutor::new(&executor));
        let server = builder.tcp(&address, framed(LengthDelimited::new), || Echo).await?;
        println!("listening tcp://{}", server.local_addr());
        std::future::pending().await
    }))
}
