//! [`Cores`]: threads that share nothing, each with a runtime, listening sockets and sessions of its own.

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::echo::EchoServer;
use crate::runtime::BuiltIn;
use crate::url::Url;

/// The threads, each of which serves all URLs.
pub struct Cores {
    pub urls: Vec<Url>,
    threads: Vec<Core>,
}

struct Core {
    stop: oneshot::Sender<Duration>,
    thread: JoinHandle<anyhow::Result<usize>>,
}

impl Cores {
    /// Starts so many threads; all of them listen when this returns.
    pub fn start<R: BuiltIn>(mut servers: Vec<EchoServer>, threads: usize) -> anyhow::Result<Self> {
        for server in &mut servers {
            server.shares_port = true;
            server.limits = server.limits.shared_out(threads);
            // Who shares a port joins others that do: this finds out whether it is free, and which one it is.
            let address = server.url.address();
            let free = TcpListener::bind(address).and_then(|listener| listener.local_addr());
            server.url = server.url.at(free.with_context(|| format!("can't listen on {address}"))?);
        }
        let urls = servers.iter().map(|server| server.url.clone()).collect();
        let (ready, started) = mpsc::channel();
        let cores = (0..threads).map(|number| {
            let (stop, stopped) = oneshot::channel();
            let (servers, ready) = (servers.clone(), ready.clone());
            let serve = move || R::block_on_local(serve::<R>(servers, ready, stopped))?;
            let thread = thread::Builder::new().name(format!("core {number}")).spawn(serve)?;
            Ok(Core { stop, thread })
        });
        let threads = cores.collect::<anyhow::Result<Vec<Core>>>()?;
        drop(ready);
        let cores = Cores { urls, threads };
        if started.iter().take(cores.threads.len()).count() < cores.threads.len() {
            // One has ended before it listened, and says why.
            return Err(cores.join(Duration::ZERO).err().unwrap_or_else(|| anyhow!("a thread ended early")));
        }
        Ok(cores)
    }

    /// Closes all sessions, and gives how many had to be aborted.
    pub fn join(self, grace: Duration) -> anyhow::Result<usize> {
        let threads: Vec<_> = self
            .threads
            .into_iter()
            .map(|core| {
                let _ = core.stop.send(grace); // one that has ended needs not be told
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
    ready: mpsc::Sender<()>,
    stopped: oneshot::Receiver<Duration>,
) -> anyhow::Result<usize> {
    let mut running = Vec::with_capacity(servers.len());
    for server in servers {
        running.push(server.start::<R>().await?);
    }
    let _ = ready.send(());
    drop(ready);
    let grace = stopped.await.unwrap_or_default();
    let ends = join_all(running.into_iter().map(|server| server.shutdown(grace))).await;
    Ok(ends.into_iter().sum())
}
