//! A server whose threads share nothing. Each has its own runtime, listening socket and sessions, and its
//! state needs no locks. Requires Linux, which distributes connections among the sockets of one port.
//!
//! ```sh
//! cargo run --release -p getty-tokio --example per_core
//! ```

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use getty_tokio::core::codec::LengthDelimited;
use getty_tokio::{Context, Items, Listener, LocalSpawner, Server, TcpOptions, framed};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::LocalSet;

/// Echoes messages and counts them for its thread.
struct Echo {
    answered: Rc<Cell<u64>>,
}

impl Listener<Items<Bytes>> for Echo {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
        self.answered.set(self.answered.get() + 1);
        let _ = cx.send(message); // refused only if the session is closing
    }
}

/// Serves on this thread until `stop` is set. Returns the number of messages.
pub fn serve(address: SocketAddr, mut stop: watch::Receiver<bool>) -> io::Result<u64> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let answered = Rc::new(Cell::new(0));
    let count = answered.clone();
    LocalSet::new().block_on(&runtime, async move {
        let server = Server::builder()
            .spawner(LocalSpawner)
            .tcp_options(TcpOptions::new().reuse_port(true))
            .tcp(&address.to_string(), framed(LengthDelimited::new), move || Echo { answered: count.clone() })
            .await?;
        let _ = stop.wait_for(|stop| *stop).await; // or the sender is gone
        server.shutdown(Duration::from_secs(5)).await;
        io::Result::Ok(())
    })?;
    Ok(answered.get())
}

fn main() -> io::Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], 7000));
    let (stop, stopped) = watch::channel(false);
    let cores = thread::available_parallelism()?.get();
    let threads: Vec<_> = (0..cores)
        .map(|_| {
            let stopped = stopped.clone();
            thread::spawn(move || serve(address, stopped))
        })
        .collect();
    println!("listening on {address}, in {cores} threads");
    Builder::new_current_thread().enable_all().build()?.block_on(tokio::signal::ctrl_c())?;
    stop.send_replace(true);
    for (number, thread) in threads.into_iter().enumerate() {
        let answered = thread.join().map_err(|_| io::Error::other("a thread panicked"))??;
        println!("thread {number} answered {answered}");
    }
    Ok(())
}
