//! [`Signals`]: requests to the program by signals.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::mpsc;

/// The request that a signal stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End the program, with the signal's exit code.
    End(i32),
    /// Read files again.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    Renew,
    /// List the sessions.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    List,
}

/// Handled signals. A thread waits for them, whatever the program's runtime.
pub struct Signals(mpsc::UnboundedReceiver<Signal>);

impl Signals {
    /// Starts to handle signals: those that end the program, SIGUSR1, and SIGHUP if there are files to be
    /// `renewed`.
    pub fn new(renewed: bool) -> io::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (begin, begun) = sync_channel(1);
        let work = move || take(renewed, &sender, &begin);
        thread::Builder::new().name("signals".to_owned()).spawn(work)?;
        begun.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that handles signals ended")))?;
        Ok(Signals(receiver))
    }

    /// Makes signals that are sent through the sender.
    #[cfg(test)]
    pub fn sent() -> (mpsc::UnboundedSender<Signal>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Signals(receiver))
    }

    /// Waits for the next signal.
    pub async fn recv(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            // The thread has ended: no signal will come.
            None => std::future::pending().await,
        }
    }
}

/// Handles signals and sends what each one requests.
fn take(renewed: bool, signals: &mpsc::UnboundedSender<Signal>, begin: &SyncSender<io::Result<()>>) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(begin.send(Err(error))),
    };
    runtime.block_on(async {
        let mut source = match Source::new(renewed) {
            Ok(source) => source,
            Err(error) => return drop(begin.send(Err(error))),
        };
        let _ = begin.send(Ok(()));
        while let Some(signal) = source.next().await {
            if signals.send(signal).is_err() {
                return;
            }
        }
    });
}

/// The system's signals.
struct Source {
    #[cfg(unix)]
    both: [tokio::signal::unix::Signal; 2],
    #[cfg(unix)]
    hangup: Option<tokio::signal::unix::Signal>,
    /// Always handled: a request for a list must not end the server, which is the signal's default action.
    #[cfg(unix)]
    user: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Source {
    fn new(renewed: bool) -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Source {
            both: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?],
            hangup: renewed.then(|| signal(SignalKind::hangup())).transpose()?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Option<Signal> {
        let Source { both: [interrupt, terminate], hangup, user } = self;
        let hangup = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        Some(tokio::select! {
            _ = interrupt.recv() => Signal::End(130),
            _ = terminate.recv() => Signal::End(143),
            _ = hangup => Signal::Renew,
            _ = user.recv() => Signal::List,
        })
    }
}

#[cfg(not(unix))]
impl Source {
    fn new(_renewed: bool) -> io::Result<Self> {
        Ok(Source {})
    }

    async fn next(&mut self) -> Option<Signal> {
        tokio::signal::ctrl_c().await.ok().map(|()| Signal::End(130))
    }
}
