//! `getty serve`: an echo server.

mod addresses;
mod cores;
mod echo;
mod limits;
mod page;
mod renewal;
mod rpc;
mod totals;
mod udp;
mod who;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Args;
use futures_util::StreamExt as _;
use futures_util::future::{join_all, select_all};
use futures_util::stream::FuturesUnordered;
use getty_driver::SessionInfo;
use getty_driver::rpc::health::Health;
use getty_driver::tls::ServerTls;
use tokio::sync::{Notify, oneshot};

use crate::codec::CodecOptions;
use crate::diagnostics::{self, exit};
use crate::explain::{explain, with_causes};
use crate::runtime::{BuiltIn, RuntimeName, on_runtime, sleep_until};
use crate::signals::{Signal, Signals};
use crate::stdio;
use crate::tls::ServerTlsOptions;
use crate::units;
use crate::url::{Transport, Url};
use crate::websocket::{self, Origin, WebSocketOptions};
use cores::Cores;
pub use echo::{EchoServer, Server};
pub use limits::LimitOptions;
use renewal::Renewal;
use totals::Totals;
pub use udp::UdpOptions;

/// Echo every message to its sender
///
/// For each URL, prints one line `listening tcp://127.0.0.1:41234` on standard output, with the actual port.
/// A host name with several addresses is served at all of them, on the same port; the line shows the name.
/// The addresses share the limits of the URL.
///
/// A ws or wss URL serves sessions only at its path. At / of the same port, browsers get a page to try it,
/// and health checks get 200, by GET, HEAD, OPTIONS or in HTTP/1.0. Text is echoed as text and binary as
/// binary.
///
/// tls is tcp over TLS 1.2 or 1.3, and wss is ws over TLS; both need --cert and --key. SIGHUP then reads the
/// two files again, for new sessions. If the files are invalid, an error is printed on standard error and the
/// old certificate stays; it also stays while reading a file blocks.
///
/// With --rpc the server is a service that echoes, and messages in the statistics are calls and the items of
/// their streams. A signal to end lets calls under way finish, for --grace seconds.
///
/// SIGUSR1 lists the sessions on standard error, one line each, at most 1000, with number, both addresses,
/// whether it is open, age, the peer's last sign of life, bytes waiting to be sent, and messages received and
/// sent.
///
/// SIGINT and SIGTERM (Ctrl-C) stop accepting, answer received messages, close all sessions and exit with
/// code 0; a second signal exits at once. If a udp socket fails for good, all sessions are closed too, and
/// the exit code is 1, even if signals come meanwhile.
#[derive(Debug, Args)]
pub struct Options {
    /// URLs to listen on: tcp://HOST:PORT, unix:///PATH, udp://HOST:PORT, ws://HOST:PORT/PATH,
    /// tls://HOST:PORT or wss://HOST:PORT/PATH. Port 0 picks a free port. IPv6 addresses go in brackets, with
    /// a zone where needed: [fe80::1%eth0]
    #[arg(required = true, value_name = "URL")]
    urls: Vec<Url>,

    /// Runtime of the sessions
    #[arg(long, value_enum, default_value_t = RuntimeName::Tokio)]
    runtime: RuntimeName,

    /// Threads that run the sessions [default: the number of cores]. On Linux, each has its own udp socket
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,

    /// Gives each thread its own runtime, listening sockets and sessions; the system distributes connections
    /// among them. Linux only, with tokio or smol (on smol, threads still share the reactor, which waits for
    /// sockets and timers), and for tcp, tls, ws and wss. Limits are shared out too, rounded up
    #[arg(long)]
    per_core: bool,

    #[command(flatten)]
    codec: CodecOptions,

    /// Serves calls instead of messages (see getty call): the service getty.echo.v1.Echo with Unary,
    /// ServerStream, ClientStream and Bidi in JSON and Protobuf, grpc.health.v1.Health, and reflection. Not
    /// over udp
    #[arg(long, conflicts_with_all = ["codec", "peers"])]
    rpc: bool,

    /// Interval of each session's cron callback, which does nothing: measures the cost of timers. Over ws it
    /// also sends a ping, unless --ping sets another interval
    #[arg(long, value_name = "SECS", value_parser = units::period)]
    cron: Option<Duration>,

    /// Closes sessions that received nothing for this long; over udp only with --peers, as otherwise all
    /// peers share one session
    #[arg(long, value_name = "SECS", value_parser = units::period)]
    idle: Option<Duration>,

    /// Time for sessions to close after a signal; those left are aborted
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = units::seconds)]
    grace: Duration,

    /// Prints sessions, rates and errors on standard error every second
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    udp: UdpOptions,

    #[command(flatten)]
    websocket: WebSocketOptions,

    /// Web pages that may connect: those of the server's own host and port (same), all (any), or those of the
    /// given origin: a scheme, a host and optionally a port. May be repeated. Clients that send no origin may
    /// always connect [default: same]
    #[arg(long, value_name = "same|any|URL", help_heading = "WebSocket options")]
    origin: Vec<Origin>,

    #[command(flatten)]
    tls: ServerTlsOptions,
}

impl Options {
    /// Checks that the options fit each other.
    pub fn check(&self) -> Result<(), String> {
        if let Some(query) = self.urls.iter().find_map(Url::query) {
            return Err(format!("remove \"?{query}\" from the URL to serve: any query is accepted"));
        }
        if !self.origin.is_empty() {
            websocket::check_used("--origin", &self.urls)?;
        }
        Origin::policy(&self.origin)?;
        if self.rpc {
            crate::rpc::check(&self.urls, self.codec.size)?;
        }
        self.udp.check(&self.urls)?;
        self.limits.check(&self.urls)?;
        let shared = self.udp.peers.is_none() && self.urls.iter().all(|url| url.transport == Transport::Udp);
        if self.idle.is_some() && shared {
            return Err("--idle needs a session for each udp peer: add --peers".to_owned());
        }
        if self.per_core {
            self.check_per_core()?;
        }
        self.tls.check(&self.urls)?;
        self.websocket.check(&self.urls)
    }

    fn check_per_core(&self) -> Result<(), String> {
        if !cfg!(target_os = "linux") {
            return Err("--per-core needs Linux, which distributes connections among sockets".to_owned());
        }
        if self.runtime == RuntimeName::AsyncStd {
            return Err(
                "--per-core needs --runtime tokio or smol: async-std has no single-threaded executor"
                    .to_owned(),
            );
        }
        match self.urls.iter().find(|url| !url.transport.is_over_tcp()) {
            Some(url) => Err(format!("--per-core takes only tcp, tls, ws and wss URLs: remove {url}")),
            None => Ok(()),
        }
    }

    /// Makes the server of each URL.
    fn servers(
        &self,
        threads: usize,
        tls: Option<&ServerTls>,
        totals: Option<&Arc<Totals>>,
        health: Option<&Health>,
    ) -> anyhow::Result<Vec<EchoServer>> {
        let mut servers = Vec::with_capacity(self.urls.len());
        for url in &self.urls {
            let config = match health {
                Some(_) => crate::rpc::session(self.codec.size),
                None => self.codec.config(url.transport),
            };
            let config = config
                .cron_period(self.cron)
                .heartbeat_period(self.websocket.ping)
                .idle_read(self.idle.filter(|_| url.transport != Transport::Udp || self.udp.peers.is_some()))
                .close_timeout(self.grace.max(Duration::from_secs(5)));
            let server = EchoServer {
                url: url.clone(),
                codec: self.codec,
                config: config.build()?,
                limits: self.limits,
                shares_port: false,
                udp: self.udp,
                threads,
                websocket: self.websocket.clone(),
                origin: Origin::policy(&self.origin).map_err(anyhow::Error::msg)?,
                tls: tls.cloned().filter(|_| url.transport.is_secure()),
                totals: totals.cloned(),
                rpc: health.cloned(),
            };
            servers.push(server);
        }
        Ok(servers)
    }
}

pub fn run(options: Options) -> anyhow::Result<()> {
    on_runtime!(options.runtime, run_on(options))
}

fn run_on<R: BuiltIn>(options: Options) -> anyhow::Result<()> {
    let cores = || available_parallelism().map_or(1, usize::from);
    let threads = options.threads.map_or_else(cores, usize::from);
    // With --per-core, this thread only waits for signals.
    let here = if options.per_core { 1 } else { threads };
    R::block_on(here, serve::<R>(threads, options))?
}

async fn serve<R: BuiltIn>(threads: usize, options: Options) -> anyhow::Result<()> {
    let tls = options.tls.server()?;
    let mut signals = Signals::new(tls.is_some()).context("can't listen for signals")?;
    let renewal = tls.clone().map(|server| Renewal::start(server, options.tls.clone())).transpose()?;
    let totals = options.stats.then(Arc::<Totals>::default);
    let health = options.rpc.then(Health::new);
    let (mut servers, mut names) = (Vec::new(), Vec::new());
    for server in options.servers(threads, tls.as_ref(), totals.as_ref(), health.as_ref())? {
        let places = addresses::find::<R>(&server.url).await?;
        names.push((places.name, places.urls.len()));
        let limits = server.limits.shared_out(places.urls.len());
        let udp = server.udp.shared_out(places.urls.len());
        servers.extend(places.urls.into_iter().map(|url| EchoServer { url, limits, udp, ..server.clone() }));
    }
    if options.per_core {
        return serve_per_core::<R>(threads, &options, servers, names, signals, renewal, totals).await;
    }
    let (mut running, mut urls) = (Vec::with_capacity(servers.len()), Vec::with_capacity(servers.len()));
    for server in servers {
        let asked = server.url.clone();
        let server = server.start::<R>().await?;
        urls.push(server.url(&asked));
        running.push(server);
    }
    let announcement = announcement(urls.clone(), names);
    let (announced, failure) = (Notify::new(), OnceLock::new());
    tokio::select! {
        biased;
        () = failed::<R>(&urls, &running, &failure, &announced) => {}
        Err(error) = report::<R>(announcement, &announced, totals, &running) => {
            return Err(failure.into_inner().unwrap_or(error));
        }
        _ = ended(&mut signals, renewal.as_ref(), async || Some(echo::list(&running).await)) => {}
    }
    let failure = failure.into_inner();
    stop_calls(health.as_ref());
    tokio::select! {
        biased;
        () = shut_down(running, options.grace) => failure.map_or(Ok(()), Err),
        code = ended(&mut signals, renewal.as_ref(), async || None) => match failure {
            Some(failure) => exit(1, Some(with_causes(&failure))),
            None => exit(code, None),
        }
    }
}

/// Serves in threads that share nothing.
async fn serve_per_core<R: BuiltIn>(
    threads: usize,
    options: &Options,
    servers: Vec<EchoServer>,
    names: Vec<Name>,
    mut signals: Signals,
    renewal: Option<Renewal>,
    totals: Option<Arc<Totals>>,
) -> anyhow::Result<()> {
    let health = servers.first().and_then(|server| server.rpc.clone());
    let cores = Cores::start::<R>(servers, threads)?;
    let announcement = announcement(cores.urls.clone(), names);
    let announced = Notify::new();
    tokio::select! {
        _ = ended(&mut signals, renewal.as_ref(), async || Some(cores.list().await)) => {}
        Err(error) = report::<R>(announcement, &announced, totals, &[]) => return Err(error),
    }
    stop_calls(health.as_ref());
    let grace = options.grace;
    let (done, joined) = oneshot::channel();
    thread::spawn(move || done.send(cores.join(grace)));
    tokio::select! {
        biased;
        aborted = joined => {
            report_aborted(aborted??, grace);
            Ok(())
        }
        code = ended(&mut signals, renewal.as_ref(), async || None) => exit(code, None),
    }
}

/// Waits until one of the servers has ended by itself, and stores the reason in `failure` at once. Then waits
/// for the announcement of the URLs, but only briefly: standard output may have no reader.
async fn failed<R: BuiltIn>(
    urls: &[Url],
    servers: &[Server<R>],
    failure: &OnceLock<anyhow::Error>,
    announced: &Notify,
) {
    let ends = urls.iter().zip(servers).map(|(url, server)| {
        Box::pin(async move {
            let reason = server.ended().await;
            anyhow!("can't serve {url} any longer: {}", explain(&reason))
        })
    });
    let reason = select_all(ends).await.0;
    failure.get_or_init(|| reason);
    tokio::select! {
        () = announced.notified() => {}
        () = sleep_until::<R>(Instant::now() + ANNOUNCED_WITHIN) => {}
    }
}

/// The longest time that a failure waits for the announcement.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(1);

/// Waits for a signal to end and returns its exit code. Meanwhile renews the certificate and lists sessions
/// on request. Sessions that are being closed can't be listed. A list may take a while without delaying other
/// signals; requests made meanwhile get one more list after it.
async fn ended(
    signals: &mut Signals,
    renewal: Option<&Renewal>,
    sessions: impl AsyncFn() -> Option<Vec<SessionInfo>>,
) -> i32 {
    // Holds at most one list.
    let (mut lists, mut again) = (FuturesUnordered::new(), false);
    loop {
        tokio::select! {
            biased;
            signal = signals.recv() => match signal {
                Signal::End(code) => return code,
                Signal::List if lists.is_empty() => lists.push(sessions()),
                Signal::List => again = true,
                Signal::Renew => {
                    if let Some(renewal) = renewal {
                        renewal.request();
                    }
                }
            },
            Some(list) = lists.next() => {
                match list {
                    Some(sessions) => who::print(sessions),
                    None => diagnostics::report("the sessions are being closed"),
                }
                if std::mem::take(&mut again) {
                    lists.push(sessions());
                }
            }
        }
    }
}

/// A number of servers. If they are the addresses of one name, the URL announced instead of theirs.
type Name = (Option<Url>, usize);

fn announcement(urls: Vec<Url>, names: Vec<Name>) -> String {
    let mut urls = urls.into_iter();
    let lines = names.into_iter().flat_map(|(name, servers)| {
        let urls: Vec<Url> = urls.by_ref().take(servers).collect();
        name.map_or(urls, |name| vec![name])
    });
    lines.map(|url| format!("listening {url}\n")).collect()
}

/// Prints the announcement, then statistics forever if enabled.
async fn report<R: BuiltIn>(
    announcement: String,
    announced: &Notify,
    totals: Option<Arc<Totals>>,
    servers: &[Server<R>],
) -> anyhow::Result<Infallible> {
    announce(announcement).await.context("can't write to standard output")?;
    announced.notify_one();
    Ok(totals::report::<R>(totals, servers).await)
}

/// Prints in a thread of its own: standard output may be slow, and serving goes on meanwhile.
async fn announce(text: String) -> io::Result<()> {
    let (done, printed) = oneshot::channel();
    thread::Builder::new().name("announce".to_owned()).spawn(move || done.send(stdio::print(&text)))?;
    printed.await.map_err(io::Error::other)?
}

/// Tells those who watch the health of the services to send no further calls.
fn stop_calls(health: Option<&Health>) {
    if let Some(health) = health {
        health.end();
    }
}

async fn shut_down<R: BuiltIn>(servers: Vec<Server<R>>, grace: Duration) {
    let ends = join_all(servers.into_iter().map(|server| server.shutdown(grace))).await;
    let aborted: usize = ends.into_iter().sum();
    report_aborted(aborted, grace);
}

fn report_aborted(aborted: usize, grace: Duration) {
    if aborted > 0 {
        diagnostics::report(format_args!(
            "aborted {aborted} sessions that did not close within {grace:?} (see --grace)"
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_signal_to_end_does_not_wait_for_a_list() {
        let (sender, mut signals) = Signals::sent();
        for signal in [Signal::List, Signal::Renew, Signal::List, Signal::End(143)] {
            sender.send(signal).unwrap();
        }
        assert_eq!(ended(&mut signals, None, async || pending().await).now_or_never(), Some(143));
    }
}
