//! [`Signals`]: how the program is asked to end.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::mpsc;

/// The signals that end the program. A thread waits for them, whatever runtime the program is on.
pub struct Signals(mpsc::UnboundedReceiver<i32>);

impl Signals {
    /// From here on the signals are taken.
    pub fn new() -> io::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (begin, begun) = sync_channel(1);
        thread::Builder::new().name("signals".to_owned()).spawn(move || take(&sender, &begin))?;
        begun.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that takes signals ended")))?;
        Ok(Signals(receiver))
    }

    /// Waits for one and gives the exit code that stands for it.
    pub async fn recv(&mut self) -> i32 {
        match self.0.recv().await {
            Some(code) => code,
            // Without a way to be told there is none to be stopped by either.
            None => std::future::pending().await,
        }
    }
}

/// Sends the exit code that stands for each signal.
fn take(codes: &mpsc::UnboundedSender<i32>, begin: &SyncSender<io::Result<()>>) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(begin.send(Err(error))),
    };
    runtime.block_on(async {
        let mut source = match Source::new() {
            Ok(source) => source,
            Err(error) => return drop(begin.send(Err(error))),
        };
        let _ = begin.send(Ok(()));
        while let Some(code) = source.next().await {
            if codes.send(code).is_err() {
                return;
            }
        }
    });
}

/// Where signals come from.
struct Source {
    #[cfg(unix)]
    both: [tokio::signal::unix::Signal; 2],
}

#[cfg(unix)]
impl Source {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Source { both: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?] })
    }

    async fn next(&mut self) -> Option<i32> {
        let [interrupt, terminate] = &mut self.both;
        Some(tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        })
    }
}

#[cfg(not(unix))]
impl Source {
    fn new() -> io::Result<Self> {
        Ok(Source {})
    }

    async fn next(&mut self) -> Option<i32> {
        tokio::signal::ctrl_c().await.ok().map(|()| 130)
    }
}
