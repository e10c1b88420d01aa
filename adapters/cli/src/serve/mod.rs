//! `getty serve`: an echo server.

mod echo;
mod limits;
mod page;
mod signals;
mod totals;
mod udp;

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures_util::future::join_all;
use getty_driver::tls::ServerTls;

use crate::codec::CodecOptions;
use crate::explain::with_causes;
use crate::runtime::{BuiltIn, RuntimeName, on_runtime};
use crate::tls::ServerTlsOptions;
use crate::units;
use crate::url::{Transport, Url};
use crate::websocket::{self, Origin, WebSocketOptions};
pub use echo::{EchoServer, Server};
pub use limits::LimitOptions;
use signals::{Signal, Signals};
use totals::Totals;
pub use udp::UdpOptions;

/// Echo every message to its sender
///
/// Prints one line `listening tcp://127.0.0.1:41234` on standard output for each URL, with the real port.
///
/// A ws or wss URL serves its path only; a browser that is sent to / of the same port gets a page to try it. Text comes
/// back as text and binary as binary.
///
/// tls is tcp in TLS 1.2 or 1.3, and wss is ws in it: both need --cert and --key. With them SIGHUP reads the two files
/// again, for sessions that begin after it; what can't be used is told on standard error, and the old certificate stays.
///
/// SIGINT and SIGTERM (Ctrl-C) stop accepting, answer what has been received, close all sessions and end the
/// program with exit code 0; a second signal ends it at once.
#[derive(Debug, Args)]
pub struct Options {
    /// What to listen on: tcp://HOST:PORT, unix:///PATH, udp://HOST:PORT, ws://HOST:PORT/PATH, tls://HOST:PORT or
    /// wss://HOST:PORT/PATH, port 0 for a free one, IPv6 addresses in brackets
    #[arg(required = true, value_name = "URL")]
    urls: Vec<Url>,

    /// What runs the sessions
    #[arg(long, value_enum, default_value_t = RuntimeName::Tokio)]
    runtime: RuntimeName,

    /// Threads that run the sessions [default: the number of cores]. On Linux a port of udp has a socket for each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,

    #[command(flatten)]
    codec: CodecOptions,

    /// Calls each session's cron callback, which does nothing, so often: to measure what timers cost. Over ws this
    /// sends a ping too, unless --ping says how often
    #[arg(long, value_name = "SECS", value_parser = units::period)]
    cron: Option<Duration>,

    /// Closes sessions on which nothing was received for so long; over udp only with --peers, since all peers share one
    /// otherwise
    #[arg(long, value_name = "SECS", value_parser = units::period)]
    idle: Option<Duration>,

    /// How long sessions may take to close after a signal; those that are left are aborted
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = units::seconds)]
    grace: Duration,

    /// Prints sessions, rates and errors on standard error, once a second
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    udp: UdpOptions,

    #[command(flatten)]
    websocket: WebSocketOptions,

    /// Web pages that may connect: those of the server's own host and port (same), all (any), or those of an origin,
    /// that is a scheme, a host and perhaps a port; several may be given. Clients that send no origin always may
    /// [default: same]
    #[arg(long, value_name = "same|any|URL", help_heading = "WebSocket options")]
    origin: Vec<Origin>,

    #[command(flatten)]
    tls: ServerTlsOptions,
}

impl Options {
    /// Checks what can't be seen from one option alone.
    pub fn check(&self) -> Result<(), String> {
        if let Some(query) = self.urls.iter().find_map(Url::query) {
            return Err(format!("\"?{query}\" has no place in a URL to serve: any query is let in"));
        }
        if !self.origin.is_empty() {
            websocket::check_used("--origin", &self.urls)?;
        }
        Origin::policy(&self.origin)?;
        self.udp.check(&self.urls)?;
        self.tls.check(&self.urls)?;
        self.websocket.check(&self.urls)
    }
}

pub fn run(options: Options) -> anyhow::Result<()> {
    on_runtime!(options.runtime, run_on(options))
}

fn run_on<R: BuiltIn>(options: Options) -> anyhow::Result<()> {
    let cores = || available_parallelism().map_or(1, usize::from);
    let threads = options.threads.map_or_else(cores, usize::from);
    R::block_on(threads, serve::<R>(threads, options))?
}

async fn serve<R: BuiltIn>(threads: usize, options: Options) -> anyhow::Result<()> {
    let tls = options.tls.server()?;
    let mut signals = Signals::new(tls.is_some()).context("can't listen to signals")?;
    let totals = options.stats.then(Arc::<Totals>::default);
    let mut servers = Vec::new();
    for url in &options.urls {
        let config = options
            .codec
            .config(url.transport)
            .cron_period(options.cron)
            .heartbeat_period(options.websocket.ping)
            .idle_read(
                options.idle.filter(|_| url.transport != Transport::Udp || options.udp.peers.is_some()),
            )
            .close_timeout(options.grace.max(Duration::from_secs(5)));
        let server = EchoServer {
            url: url.clone(),
            codec: options.codec,
            config: config.build()?,
            limits: options.limits,
            udp: options.udp,
            threads,
            websocket: options.websocket.clone(),
            origin: Origin::policy(&options.origin).map_err(anyhow::Error::msg)?,
            tls: tls.clone().filter(|_| url.transport.is_secure()),
            totals: totals.clone(),
        };
        servers.push(server.start::<R>().await?);
    }
    announce(&options.urls, &servers).context("can't write to standard output")?;
    let tls = tls.map(|server| (server, &options.tls));
    tokio::select! {
        _ = ended(&mut signals, tls.as_ref()) => {}
        () = totals::report(totals, &servers) => {}
    }
    tokio::select! {
        biased;
        () = shut_down(servers, options.grace) => Ok(()),
        code = ended(&mut signals, tls.as_ref()) => std::process::exit(code),
    }
}

/// Waits for a signal to end and gives its exit code; meanwhile renews the certificate when it is asked to.
async fn ended(signals: &mut Signals, tls: Option<&(ServerTls, &ServerTlsOptions)>) -> i32 {
    loop {
        match (signals.recv().await, tls) {
            (Signal::End(code), _) => return code,
            (Signal::Renew, None) => {}
            (Signal::Renew, Some((server, options))) => match options.renew(server) {
                Ok(()) => eprintln!("getty: the certificate was read again"),
                Err(error) => eprintln!("getty: {}: the old certificate stays", with_causes(&error)),
            },
        }
    }
}

fn announce<R: BuiltIn>(urls: &[Url], servers: &[Server<R>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (url, server) in urls.iter().zip(servers) {
        writeln!(out, "listening {}", server.url(url))?;
    }
    out.flush()
}

async fn shut_down<R: BuiltIn>(servers: Vec<Server<R>>, grace: Duration) {
    let ends = join_all(servers.into_iter().map(|server| server.shutdown(grace))).await;
    let aborted: usize = ends.into_iter().sum();
    if aborted > 0 {
        eprintln!("getty: aborted {aborted} sessions that did not close within {grace:?} (see --grace)");
    }
}
