//! [`Cores`]: threads that share nothing. Each has its own runtime, listening sockets and sessions.

use std::net::TcpListener;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::future::join_all;
use getty_driver::SessionInfo;
use tokio::sync::{mpsc, oneshot};

use super::echo::{EchoServer, list};
use crate::runtime::BuiltIn;
use crate::url::Url;

/// The threads. Each serves all URLs.
pub struct Cores {
    pub urls: Vec<Url>,
    threads: Vec<Core>,
}

struct Core {
    orders: mpsc::UnboundedSender<Order>,
    thread: JoinHandle<anyhow::Result<usize>>,
}

/// A message to a thread.
enum Order {
    /// List the sessions.
    List(oneshot::Sender<Vec<SessionInfo>>),
    /// Close the sessions within this time.
    Stop(Duration),
}

impl Cores {
    /// Starts the threads. All of them listen when this returns.
    pub fn start<R: BuiltIn>(mut servers: Vec<EchoServer>, threads: usize) -> anyhow::Result<Self> {
        for server in &mut servers {
            server.shares_port = true;
            server.limits = server.limits.shared_out(threads);
            // A shared port can be joined even if it is in use. This checks that it is free, and picks one
            // for port 0.
            let free =
                TcpListener::bind(server.url.host_and_port()).and_then(|listener| listener.local_addr());
            let free = free.with_context(|| format!("can't listen on {}", server.url.address()))?;
            server.url = server.url.at(free);
        }
        let urls = servers.iter().map(|server| server.url.clone()).collect();
        let (ready, started) = std::sync::mpsc::channel();
        let cores = (0..threads).map(|number| {
            let (orders, ordered) = mpsc::unbounded_channel();
            let (servers, ready) = (servers.clone(), ready.clone());
            let serve = move || R::block_on_local(serve::<R>(servers, ready, ordered))?;
            let thread = thread::Builder::new().name(format!("core {number}")).spawn(serve)?;
            Ok(Core { orders, thread })
        });
        let threads = cores.collect::<anyhow::Result<Vec<Core>>>()?;
        drop(ready);
        let cores = Cores { urls, threads };
        if started.iter().take(cores.threads.len()).count() < cores.threads.len() {
            // A thread has failed before listening, and its result says why.
            return Err(cores.join(Duration::ZERO).err().unwrap_or_else(|| anyhow!("a thread ended early")));
        }
        Ok(cores)
    }

    /// Lists all current sessions. A thread that has ended has none.
    pub async fn list(&self) -> Vec<SessionInfo> {
        let asked = self.threads.iter().map(|core| {
            let (reply, replied) = oneshot::channel();
            let _ = core.orders.send(Order::List(reply));
            replied
        });
        let lists = join_all(asked.collect::<Vec<_>>()).await;
        lists.into_iter().flatten().flatten().collect()
    }

    /// Closes all sessions. Returns the number of aborted ones.
    pub fn join(self, grace: Duration) -> anyhow::Result<usize> {
        let threads: Vec<_> = self
            .threads
            .into_iter()
            .map(|core| {
                let _ = core.orders.send(Order::Stop(grace)); // fails only for a thread that has ended
                core.thread
            })
            .collect();
        let mut aborted = 0;
        for thread in threads {
            aborted += thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok(aborted)
    }
}

async fn serve<R: BuiltIn>(
    servers: Vec<EchoServer>,
    ready: std::sync::mpsc::Sender<()>,
    mut ordered: mpsc::UnboundedReceiver<Order>,
) -> anyhow::Result<usize> {
    let mut running = Vec::with_capacity(servers.len());
    for server in servers {
        running.push(server.start::<R>().await?);
    }
    let _ = ready.send(());
    drop(ready);
    let grace = loop {
        match ordered.recv().await {
            Some(Order::List(reply)) => drop(reply.send(list(&running).await)),
            Some(Order::Stop(grace)) => break grace,
            None => break Duration::ZERO,
        }
    };
    let ends = join_all(running.into_iter().map(|server| server.shutdown(grace))).await;
    Ok(ends.into_iter().sum())
}
