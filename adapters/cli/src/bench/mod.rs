//! `getty bench`: a load generator.

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
use getty_driver::tls::ClientTls;
use tokio::sync::oneshot;

use crate::codec::{CodecOptions, MAX_DATAGRAM, SizeOptions};
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
/// Each connection keeps --depth messages in flight: it sends one for each that comes back. Over tcp messages are
/// framed by a length of 4 bytes, as getty serve does by default; over ws they are binary messages, over udp datagrams.
/// tls is tcp in TLS, and wss is ws in it.
/// Every payload is different, can't be compressed, and is checked when it comes back.
///
/// Without a URL, an echo server is started in this process for every transport and runtime that is built in,
/// one after the other, with a load on the same runtime, and "CPU us/msg" covers both together. udp is left out
/// where no datagram holds --size; tls and wss are, unless --cert and --key give the servers a certificate, which the load
/// then does not verify. With a URL it covers the load.
///
/// Latency is from handing a message to the session until its echo is handed out. MB/s are payload bytes
/// (1 MB = 1 000 000 bytes) that came back. Errors are payloads that came back changed, and connections that
/// ended early; with any of them the exit code is 1.
///
/// Over udp messages may be lost and reordered, which is reported and is no error. Lost are those of which no echo
/// came within 200 ms, or before many later ones were sent; another one is sent in the place of each. Those that come
/// later all the same ("late") and echoes of the same message ("doubled") are told in the JSON. A payload tells its
/// number, of fewer than 8 bytes only the last digits: of 1 byte, echoes 256 messages apart can't be told apart.
#[derive(Debug, Args)]
pub struct Options {
    /// The server: tcp://HOST:PORT, unix:///PATH, udp://HOST:PORT, ws://HOST:PORT/PATH?QUERY, tls://HOST:PORT or
    /// wss://HOST:PORT/PATH?QUERY [default: some in this process]
    url: Option<Url>,

    /// What runs the load [default: what runs the server, or tokio if there is a URL]
    #[arg(long, value_enum)]
    runtime: Option<RuntimeName>,

    /// Connections that are open at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Payload of each message
    #[arg(long, value_name = "BYTES", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    size: u32,

    /// Messages in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    depth: u32,

    /// How long to measure
    #[arg(long, value_name = "SECS", default_value = "2", value_parser = units::period)]
    duration: Duration,

    /// How long to run before that
    #[arg(long, value_name = "SECS", default_value = "0.5", value_parser = units::seconds)]
    warmup: Duration,

    /// Writes the results as JSON; to standard output, instead of the table, if FILE is -. A file that is
    /// there is replaced when all was measured, and stays as it is if that fails
    #[arg(long, value_name = "FILE")]
    json: Option<Destination>,

    /// Writes a plot of the latencies, by percentile, as SVG, in the same way
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<Destination>,

    #[command(flatten)]
    limit: SizeOptions,

    #[command(flatten)]
    websocket: WebSocketOptions,

    #[command(flatten)]
    tls: ClientTlsOptions,
}

impl Options {
    /// Checks what can't be seen from one option alone.
    pub fn check(&self) -> Result<(), String> {
        if self.size > self.limit.max_message {
            let Options { size, limit: SizeOptions { max_message }, .. } = self;
            return Err(format!(
                "messages of {size} bytes are over the limit of {max_message}: raise --max-message"
            ));
        }
        if self.json.is_some() && self.json == self.plot {
            return Err("--json and --plot can't both be written to the same file".to_owned());
        }
        let udp = self.url.as_ref().is_some_and(|url| url.transport == Transport::Udp);
        if udp && !self.fits(Transport::Udp) {
            return Err(format!("no datagram holds {} bytes: the most is {MAX_DATAGRAM}", self.size));
        }
        match (&self.url, self.tls.trust_given()) {
            (Some(url), _) => {
                url.check_target()?;
                self.websocket.check([url])?;
                self.tls.check(url)
            }
            (None, Some(option)) => Err(format!("{option} is for a URL, and there is none")),
            // There is a server for each transport.
            (None, None) => self.websocket.check_names(),
        }
    }

    /// Whether messages of the size can be sent over `transport`.
    fn fits(&self, transport: Transport) -> bool {
        transport != Transport::Udp || self.size as usize <= MAX_DATAGRAM
    }

    /// What to measure without a URL.
    fn transports(&self) -> impl Iterator<Item = Transport> {
        let secure = self.tls.identity.is_given();
        let all = Transport::ALL.iter().copied();
        all.filter(move |&transport| self.fits(transport) && (secure || !transport.is_secure()))
    }
}

pub fn run(options: Options) -> anyhow::Result<()> {
    let destinations = [&options.json, &options.plot];
    destinations.into_iter().flatten().try_for_each(Destination::check)?;
    let mut rows = Vec::new();
    match &options.url {
        Some(url) => rows.push(measure(&options, url, options.tls.client(url)?, None)?),
        None => {
            for transport in options.transports() {
                for &runtime in RuntimeName::value_variants() {
                    let server = LocalServer::start(transport, runtime, &options)?;
                    let tls = transport.is_secure().then(tls::to_ourselves).transpose()?;
                    rows.push(measure(&options, &server.url, tls, Some(runtime))?);
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

/// Puts one server under load; `server` is what runs it, if that is in this process.
fn measure(
    options: &Options,
    url: &Url,
    tls: Option<ClientTls>,
    server: Option<RuntimeName>,
) -> anyhow::Result<Row> {
    let plan = Plan {
        url: url.clone(),
        runtime: options.runtime.or(server).unwrap_or(RuntimeName::Tokio),
        max_message: options.limit.limit(),
        websocket: options.websocket.clone(),
        tls,
        connections: options.connections as usize,
        size: options.size as usize,
        depth: options.depth as usize,
    };
    let load = Load::start(&plan, load_threads().min(plan.connections))?;
    let name = report::run_name(url.transport, server, plan.runtime);
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

/// Waits for `time`, or until the load is over because there is no connection left.
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

/// Half of the cores are for the load, the others for the server.
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

/// An echo server on loopback, in threads of its own.
struct LocalServer {
    url: Url,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl LocalServer {
    fn start(transport: Transport, runtime: RuntimeName, options: &Options) -> anyhow::Result<Self> {
        let url = Url::local(transport);
        let threads = cores().saturating_sub(load_threads()).max(1);
        let codec = CodecOptions { codec: None, size: options.limit };
        let server = EchoServer {
            url,
            codec,
            config: codec.config(transport).build()?,
            limits: LimitOptions::default(),
            shares_port: false,
            udp: UdpOptions::default(),
            threads,
            websocket: options.websocket.clone(),
            origin: OriginPolicy::Same,
            tls: options.tls.identity.server()?.filter(|_| transport.is_secure()),
            totals: None,
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

/// Runs a server until it is time to stop; `found` is where it is reached.
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
        let _ = stopped.await; // dropped or used, either way it is time to stop
        server.shutdown(Duration::from_secs(1)).await;
        Ok(())
    })?
}

/// Waits for a thread; its panic has been printed.
fn join<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of this program panicked: this is a bug")))
}
