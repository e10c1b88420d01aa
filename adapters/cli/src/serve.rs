//! `getty serve`: an echo server.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use getty_tokio::core::codec::{Decoder, Encoder, LengthDelimited, Raw};
use getty_tokio::core::{Close, CloseReason, Config, Deadline, Idle, Opened, Stats};
use getty_tokio::{Context, Items, Listener, Refuse, Server};
use tokio::task::JoinSet;

use crate::codec::{Codec, CodecOptions, Lines, explain};
use crate::units;
use crate::url::{Transport, Url};

/// Echo every message to its sender
///
/// Prints one line `listening tcp://127.0.0.1:41234` on standard output for each URL, with the real port.
/// SIGINT and SIGTERM (Ctrl-C) stop accepting, answer what has been received, close all sessions and end the
/// program with exit code 0; a second signal ends it at once.
#[derive(Debug, Args)]
pub struct Options {
    /// What to listen on: tcp://HOST:PORT, port 0 for a free one, IPv6 addresses in brackets
    #[arg(required = true, value_name = "URL")]
    urls: Vec<Url>,

    /// What runs the sessions
    #[arg(long, value_enum, default_value_t = Runtime::Tokio)]
    runtime: Runtime,

    /// Threads that run the sessions [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,

    #[command(flatten)]
    codec: CodecOptions,

    /// Calls each session's cron callback, which does nothing, so often: to measure what timers cost
    #[arg(long, value_name = "SECS", value_parser = units::period)]
    cron: Option<Duration>,

    /// Closes sessions on which nothing was received for so long
    #[arg(long, value_name = "SECS", value_parser = units::period)]
    idle: Option<Duration>,

    /// How long sessions may take to close after a signal; those that are left are aborted
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = units::seconds)]
    grace: Duration,

    /// Prints sessions, rates and errors on standard error, once a second
    #[arg(long)]
    stats: bool,
}

/// A runtime that is built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    Tokio,
}

impl Runtime {
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Tokio => "tokio",
        }
    }
}

pub fn run(options: Options) -> anyhow::Result<()> {
    match options.runtime {
        Runtime::Tokio => tokio_runtime(options.threads.map(usize::from))?.block_on(serve(options)),
    }
}

/// A tokio runtime of so many threads, by default as many as there are cores.
pub fn tokio_runtime(threads: Option<usize>) -> anyhow::Result<tokio::runtime::Runtime> {
    let threads = threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads).enable_all().build().context("can't start the runtime")
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("can't listen to signals")?;
    let config = options
        .codec
        .config()
        .cron_period(options.cron)
        .idle_read(options.idle)
        .close_timeout(options.grace.max(Duration::from_secs(5)))
        .build()?;
    let totals = options.stats.then(Arc::<Totals>::default);
    let mut servers = Vec::new();
    for url in &options.urls {
        servers.push(listen(url, options.codec.codec, config.clone(), totals.clone()).await?);
    }
    announce(&options.urls, &servers).context("can't write to standard output")?;
    if let Some(totals) = totals {
        tokio::spawn(report(totals));
    }
    signals.recv().await;
    tokio::select! {
        biased;
        () = shut_down(servers, options.grace) => Ok(()),
        code = signals.recv() => std::process::exit(code),
    }
}

/// Starts an echo server.
pub async fn listen(
    url: &Url,
    codec: Codec,
    config: Arc<Config>,
    totals: Option<Arc<Totals>>,
) -> io::Result<Server> {
    match codec {
        Codec::Length => listen_with(url, config, totals, LengthDelimited::new).await,
        Codec::Lines => listen_with(url, config, totals, Lines::new).await,
        Codec::Raw => listen_with(url, config, totals, || Raw).await,
    }
}

async fn listen_with<C>(
    url: &Url,
    config: Arc<Config>,
    totals: Option<Arc<Totals>>,
    codec: impl Fn() -> C + Send + 'static,
) -> io::Result<Server>
where
    C: Decoder<Item = Bytes> + Encoder<Bytes> + Send + 'static,
{
    let builder = Server::builder().config(config);
    match (url.transport, totals) {
        (Transport::Tcp, None) => builder.tcp(&url.address, codec, || Echo).await,
        (Transport::Tcp, Some(totals)) => {
            builder.tcp(&url.address, codec, move || CountingEcho(totals.clone())).await
        }
    }
}

fn announce(urls: &[Url], servers: &[Server]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (url, server) in urls.iter().zip(servers) {
        writeln!(out, "listening {}://{}", url.transport.name(), server.local_addr())?;
    }
    out.flush()
}

async fn shut_down(servers: Vec<Server>, grace: Duration) {
    let closing: JoinSet<_> = servers.into_iter().map(|server| server.shutdown(grace)).collect();
    let aborted: usize = closing.join_all().await.iter().map(|shutdown| shutdown.aborted).sum();
    if aborted > 0 {
        eprintln!("getty: aborted {aborted} sessions that did not close within {grace:?} (see --grace)");
    }
}

/// Sends back what comes.
struct Echo;

impl Listener<Items<Bytes>> for Echo {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
        let _ = cx.send(message); // refused only when the session is closing
    }

    fn on_idle(&mut self, cx: &mut Context<'_, Items<Bytes>>, idle: Idle) {
        cx.close(Close::idle(idle));
    }
}

/// What all sessions did, for `--stats`.
#[derive(Debug, Default)]
pub struct Totals {
    opened: AtomicU64,
    closed: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// An [`Echo`] that counts.
struct CountingEcho(Arc<Totals>);

impl Listener<Items<Bytes>> for CountingEcho {
    fn on_open(&mut self, _cx: &mut Context<'_, Items<Bytes>>, _opened: &Opened) -> Result<(), Refuse> {
        self.0.opened.fetch_add(1, Relaxed);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
        Echo.on_message(cx, message);
    }

    fn on_messages(&mut self, cx: &mut Context<'_, Items<Bytes>>) {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(message) = cx.next_message() {
            messages += 1;
            bytes += message.len() as u64;
            self.on_message(cx, message);
        }
        self.0.messages.fetch_add(messages, Relaxed);
        self.0.bytes.fetch_add(bytes, Relaxed);
    }

    fn on_idle(&mut self, cx: &mut Context<'_, Items<Bytes>>, idle: Idle) {
        Echo.on_idle(cx, idle);
    }

    fn on_close(&mut self, reason: &CloseReason, _stats: &Stats) {
        self.0.closed.fetch_add(1, Relaxed);
        if !reason.is_clean() && !matches!(reason, CloseReason::Timeout(Deadline::IdleRead)) {
            self.0.errors.fetch_add(1, Relaxed);
            *self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(explain(reason));
        }
    }
}

/// Prints a line a second.
async fn report(totals: Arc<Totals>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    let (mut since, mut messages, mut bytes) = (Instant::now(), 0, 0);
    loop {
        ticks.tick().await;
        let seconds = since.elapsed().as_secs_f64();
        since = Instant::now();
        let (messages_before, bytes_before) = (messages, bytes);
        (messages, bytes) = (totals.messages.load(Relaxed), totals.bytes.load(Relaxed));
        let (closed, opened) = (totals.closed.load(Relaxed), totals.opened.load(Relaxed));
        let last = totals.last_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        eprintln!(
            "sessions {}, opened {opened}, messages/s {:.0}, MB/s {:.2}, errors {}{}",
            opened.saturating_sub(closed),
            (messages - messages_before) as f64 / seconds,
            (bytes - bytes_before) as f64 / seconds / 1e6,
            totals.errors.load(Relaxed),
            last.map(|error| format!(" (last: {error})")).unwrap_or_default(),
        );
    }
}

/// The signals that end the program.
struct Signals {
    #[cfg(unix)]
    both: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals { both: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?] })
    }

    /// Waits for one and gives the exit code that stands for it.
    #[cfg(unix)]
    async fn recv(&mut self) -> i32 {
        let [interrupt, terminate] = &mut self.both;
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        }
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Signals {})
    }

    #[cfg(not(unix))]
    async fn recv(&mut self) -> i32 {
        // Without a way to be told there is none to be stopped by either.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        130
    }
}
