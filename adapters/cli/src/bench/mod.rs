//! `getty bench`: a load generator.

mod calls;
mod destination;
mod load;
mod plot;
mod probe;
mod progress;
mod report;
mod window;

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use getty_driver::core::websocket::OriginPolicy;
use getty_driver::rpc::health::Health;
use getty_driver::tls::ClientTls;
use tokio::sync::oneshot;

use crate::codec::{CodecOptions, MAX_DATAGRAM, SizeOptions};
use crate::rpc;
use crate::runtime::{BuiltIn, RuntimeName, on_runtime};
use crate::serve::{EchoServer, LimitOptions, UdpOptions};
use crate::stdio;
use crate::tls::{self, ClientTlsOptions};
use crate::units;
use crate::url::{Transport, Url};
use crate::websocket::WebSocketOptions;
use destination::Destination;
use load::{Load, Phase, Plan};
use progress::Progress;
use report::{Report, Row};

/// Measure an echo server under load
///
/// Each connection keeps --depth messages in flight: for every echo it receives, it sends the next message.
/// Over tcp each message has a 4-byte length prefix, the default of getty serve; over ws it is a binary
/// message, over udp a datagram. tls is tcp over TLS, and wss is ws over TLS. Every payload is different,
/// incompressible, and checked when its echo arrives.
///
/// Without a URL, the program starts its own echo servers: one for each built-in transport and runtime, one
/// after the other, each under a load on the same runtime. "CPU us/msg" then covers server and load. udp is
/// skipped if --size does not fit a datagram. tls and wss are skipped unless --cert and --key give the
/// servers a certificate; the load does not verify it. With a URL, "CPU us/msg" covers the load alone.
///
/// With --rpc a message is a call of the echo service of getty serve --rpc, and each connection has --callers
/// callers. Without a URL, calls are measured too, after the messages (rpc/tcp and so on), unless those in
/// flight exceed the limits of a server.
///
/// Latency is measured from handing a message to the session until its echo is delivered. MB/s counts payload
/// bytes of echoes (1 MB = 1 000 000 bytes). Errors are payloads that came back changed and connections that
/// ended early; any error makes the exit code 1.
///
/// Over udp, messages may be lost or reordered, which is reported but is not an error. A message is lost if
/// its echo did not come within 200 ms, or before many later messages were sent; a new one is then sent in
/// its place. The JSON also counts echoes that came after that ("late") and repeated echoes of one message
/// ("doubled"). A payload carries its number; below 8 bytes only the last digits fit: with 1 byte, echoes 256
/// messages apart look the same.
#[derive(Debug, Args)]
pub struct Options {
    /// The server: tcp://HOST:PORT, unix:///PATH, udp://HOST:PORT, ws://HOST:PORT/PATH?QUERY, tls://HOST:PORT
    /// or wss://HOST:PORT/PATH?QUERY [default: servers in this process]
    url: Option<Url>,

    /// Runtime of the load [default: the server's, or tokio with a URL]
    #[arg(long, value_enum)]
    runtime: Option<RuntimeName>,

    /// Connections open at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Payload bytes of each message
    #[arg(long, value_name = "BYTES", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    size: u32,

    /// Messages in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    depth: u32,

    /// Calls the echo service of getty serve --rpc, in Protobuf. Without a URL, measures nothing else
    #[arg(long)]
    rpc: bool,

    /// Callers on each connection, with --rpc: each repeats its call after the answer [default: --depth]
    #[arg(long, value_name = "N", requires = "rpc", conflicts_with = "depth",
        value_parser = clap::value_parser!(u32).range(1..=MAX_CALLERS as i64))]
    callers: Option<u32>,

    /// Length of the measurement
    #[arg(long, value_name = "SECS", default_value = "2", value_parser = units::period)]
    duration: Duration,

    /// Length of the warm-up before it
    #[arg(long, value_name = "SECS", default_value = "0.5", value_parser = units::seconds)]
    warmup: Duration,

    /// Writes the results as JSON to FILE; with -, to standard output instead of the table. An existing file
    /// is replaced once everything is measured, and stays as it is if that fails
    #[arg(long, value_name = "FILE")]
    json: Option<Destination>,

    /// Writes a plot of the latencies by percentile as SVG, in the same way
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<Destination>,

    #[command(flatten)]
    limit: SizeOptions,

    #[command(flatten)]
    websocket: WebSocketOptions,

    #[command(flatten)]
    tls: ClientTlsOptions,
}

/// The largest number of callers on a connection: as many may wait.
const MAX_CALLERS: u32 = 30_000;

/// Calls that a server takes at once.
const SERVED: u32 = 256;

/// Bytes of calls in flight that a server holds for a connection.
const CALL_BYTES: u64 = 16 << 20;

/// Bytes of a call beside its payload, at most.
const CALL_HEAD: u64 = 256;

impl Options {
    /// Checks that the options fit each other.
    pub fn check(&self) -> Result<(), String> {
        if self.size > self.limit.max_message {
            let Options { size, limit: SizeOptions { max_message }, .. } = self;
            return Err(format!(
                "messages of {size} bytes are over the limit of {max_message}: raise --max-message"
            ));
        }
        if self.json.is_some() && self.json == self.plot {
            return Err("--json and --plot name the same file: give two different ones".to_owned());
        }
        if self.rpc {
            rpc::check(&self.url, self.limit)?;
            if !self.fits_calls() {
                return Err(format!(
                    "calls of {} bytes do not fit: a server holds {CALL_BYTES} bytes of calls for a connection, \
                     and a frame --max-message: lower --size or --callers",
                    self.size
                ));
            }
        }
        let udp = self.url.as_ref().is_some_and(|url| url.transport == Transport::Udp);
        if udp && !self.fits(Transport::Udp) {
            return Err(format!("a datagram can't hold {} bytes: lower --size to {MAX_DATAGRAM}", self.size));
        }
        match (&self.url, self.tls.trust_given()) {
            (Some(url), _) => {
                url.check_target()?;
                self.websocket.check([url])?;
                self.tls.check(url)
            }
            (None, Some(option)) => Err(format!("{option} needs the URL of a server")),
            // Every transport gets a server, so every option applies.
            (None, None) => self.websocket.check_names(),
        }
    }

    /// Whether messages of the configured size fit `transport`.
    fn fits(&self, transport: Transport) -> bool {
        transport != Transport::Udp || self.size as usize <= MAX_DATAGRAM
    }

    /// Whether the calls in flight fit the limits of a server.
    fn fits_calls(&self) -> bool {
        let (size, callers) = (u64::from(self.size) + CALL_HEAD, u64::from(self.depth()));
        size * callers.min(u64::from(SERVED)) <= CALL_BYTES
            && callers <= u64::from(MAX_CALLERS)
            && size <= u64::from(self.limit.max_message)
    }

    /// Messages or calls in flight on each connection.
    fn depth(&self) -> u32 {
        self.callers.unwrap_or(self.depth)
    }

    /// The transports measured without a URL, with messages and then with calls (true).
    fn kinds(&self) -> impl Iterator<Item = (Transport, bool)> {
        let secure = self.tls.identity.is_given();
        let all = || Transport::ALL.iter().copied().filter(move |transport| secure || !transport.is_secure());
        let messages = all().filter(|&transport| self.fits(transport) && !self.rpc);
        let calls = all().filter(|&transport| rpc::check([&Url::local(transport)], self.limit).is_ok());
        let calls = calls.filter(|_| self.fits_calls());
        messages.map(|transport| (transport, false)).chain(calls.map(|transport| (transport, true)))
    }
}

pub fn run(options: Options) -> anyhow::Result<()> {
    let destinations = [&options.json, &options.plot];
    destinations.into_iter().flatten().try_for_each(Destination::check)?;
    let mut rows = Vec::new();
    match &options.url {
        Some(url) => rows.push(measure(&options, url, options.rpc, options.tls.client(url)?, None)?),
        None => {
            for (transport, rpc) in options.kinds() {
                for &runtime in RuntimeName::value_variants() {
                    let server = LocalServer::start(transport, rpc, runtime, &options)?;
                    let tls = transport.is_secure().then(tls::to_ourselves).transpose()?;
                    rows.push(measure(&options, &server.url, rpc, tls, Some(runtime))?);
                    server.stop()?;
                }
            }
        }
    }
    let report = Report::new(&options, rows);
    let outputs = [(&options.json, report.json()?), (&options.plot, plot::svg(&report))];
    if destinations.into_iter().flatten().all(|destination| *destination != Destination::StandardOutput) {
        stdio::print(&report.table()).context("can't write to standard output")?;
    }
    for (destination, text) in outputs {
        destination.as_ref().map_or(Ok(()), |destination| destination.write(&text))?;
    }
    match report.problem() {
        None => Ok(()),
        Some(problem) => bail!(problem),
    }
}

/// Puts one server under load. `server` is its runtime, if it runs in this process.
fn measure(
    options: &Options,
    url: &Url,
    rpc: bool,
    tls: Option<ClientTls>,
    server: Option<RuntimeName>,
) -> anyhow::Result<Row> {
    let plan = Plan {
        url: url.clone(),
        rpc,
        runtime: options.runtime.or(server).unwrap_or(RuntimeName::Tokio),
        max_message: options.limit.limit(),
        websocket: options.websocket.clone(),
        tls,
        connections: options.connections as usize,
        size: options.size as usize,
        depth: options.depth() as usize,
    };
    let load = Load::start(&plan, load_threads().min(plan.connections))?;
    let name = report::run_name(&plan, server);
    let mut progress = Progress::new(name, options.warmup + options.duration);
    load.enter(Phase::WarmUp);
    wait(&mut progress, &load, options.warmup);
    let before = cpu_time();
    load.enter(Phase::Measure);
    wait(&mut progress, &load, options.duration);
    let after = cpu_time();
    load.enter(Phase::Stop);
    let outcome = load.finish();
    progress.finish();
    let outcome = outcome?;
    let cpu = before.zip(after).map(|(before, after)| after.saturating_sub(before));
    Ok(Row::new(&plan, server, outcome, cpu))
}

/// Waits for `time`, or until no connection is left.
fn wait(progress: &mut Progress, load: &Load, time: Duration) {
    const TICK: Duration = Duration::from_millis(100);
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if load.is_over() {
            return;
        }
        let tick = left.min(TICK);
        thread::sleep(tick);
        progress.advance(tick);
    }
}

/// Threads of the load: half of the cores. The server gets the others.
fn load_threads() -> usize {
    (cores() / 2).max(1)
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The CPU time of this process so far.
fn cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
    }
    #[cfg(not(unix))]
    None
}

/// An echo server on loopback, with threads of its own.
struct LocalServer {
    url: Url,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl LocalServer {
    fn start(
        transport: Transport,
        rpc: bool,
        runtime: RuntimeName,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let url = Url::local(transport);
        let threads = cores().saturating_sub(load_threads()).max(1);
        let codec = CodecOptions { codec: None, size: options.limit };
        let server = EchoServer {
            url,
            codec,
            config: if rpc { rpc::session(options.limit) } else { codec.config(transport) }.build()?,
            limits: LimitOptions::default(),
            shares_port: false,
            udp: UdpOptions::default(),
            threads,
            websocket: options.websocket.clone(),
            origin: OriginPolicy::Same,
            tls: options.tls.identity.server()?.filter(|_| transport.is_secure()),
            totals: None,
            rpc: rpc.then(Health::new),
        };
        let (stop, stopped) = oneshot::channel();
        let (send_url, found) = mpsc::channel();
        let thread = thread::spawn(move || on_runtime!(runtime, serve(threads, server, send_url, stopped)));
        match found.recv() {
            Ok(url) => Ok(LocalServer { url, stop, thread }),
            Err(_) => {
                join(thread)?;
                bail!("the server in this process ended early");
            }
        }
    }

    fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        join(self.thread)
    }
}

/// Runs a server until it is stopped. Sends its address to `found`.
fn serve<R: BuiltIn>(
    threads: usize,
    server: EchoServer,
    found: mpsc::Sender<Url>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    R::block_on(threads, async move {
        let asked = server.url.clone();
        let server = server.start::<R>().await?;
        found.send(server.url(&asked))?;
        let _ = stopped.await; // stopped either way, whether by a message or by a drop
        server.shutdown(Duration::from_secs(1)).await;
        Ok(())
    })?
}

/// Waits for a thread. Its panic has already been printed.
fn join<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of this program panicked: this is a bug")))
}
