//! Measures how long an innocent client waits while others, busy or hostile, use the same server thread.
//!
//! ```sh
//! cargo build --release --bin getty
//! cargo run --release -p getty-tests --example fairness -- target/release/getty
//! ```
//!
//! Starts `getty serve` on one processor for each runtime, and the clients on another one (Linux, by
//! `taskset`): an innocent one, which sends 16 bytes and waits for their echo, and the others. They speak
//! WebSocket; for the kinds that begin with `rpc-`, this program is the server, and all speak RPC. (If there
//! are no other kinds, any word may take the place of the path.)
//!
//! Prints the 99th percentile of the innocent client's waits without the others and beside each kind of them,
//! as the median of several runs, its longest wait, and how much the others sent. The last column is the 99th
//! percentile of the server's CPU time during a wait: on a machine that does nothing else it is most of the
//! wait, and on another one it is what the wait would be.
//!
//! Options follow as `name=value`:
//!
//! | name | value | default |
//! |---|---|---|
//! | `runs` | runs of each measurement, at least 1 | `5` |
//! | `seconds` | time of a run, above 0, also a fraction such as `0.6` | `2` |
//! | `runtimes` | runtimes of the server, separated by commas | `tokio,smol,async-std` |
//! | `threads` | threads of the server, separated by commas; 0 is its own default | `1,0` |
//! | `others` | numbers of other clients, separated by commas | `1,4` |
//! | `kinds` | kinds of other clients, separated by commas: the names in `KINDS` | all of them |
//!
//! A wrong option ends the program with exit code 2 before anything is measured.

mod rpc;

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::websocket::peers::{Frame, REQUEST};

const KEY: [u8; 4] = [1, 2, 3, 4];
const RUNTIMES: [&str; 3] = ["tokio", "smol", "async-std"];

/// Behaviour of the other clients until they are asked to stop.
#[derive(Clone, Copy)]
enum Kind {
    /// Send these bytes without end, and read what comes back.
    Flood(fn() -> Vec<u8>),
    /// Send messages of 64 KiB, four at a time, and wait for their echoes.
    Busy,
    /// Close, go on sending, and connect again once the server has cut the connection.
    AfterClose,
    /// Send these bytes of RPC, with or without reading what comes back, and connect again once the server
    /// has cut the connection.
    Rpc(fn() -> Vec<u8>, Reads),
}

/// Whether a client reads what comes back.
type Reads = bool;

impl Kind {
    /// The bytes to send again and again, at least 64 KiB of them.
    fn flood(self) -> Vec<u8> {
        let (Kind::Flood(bytes) | Kind::Rpc(bytes, _)) = self else { return Vec::new() };
        let bytes = bytes();
        bytes.repeat((1 << 16) / bytes.len() + 1)
    }

    fn is_rpc(self) -> bool {
        matches!(self, Kind::Rpc(..))
    }
}

const KINDS: [(&str, Kind); 14] = [
    ("pings", Kind::Flood(|| Frame::ping([]).masked(KEY).bytes())),
    ("pongs", Kind::Flood(|| Frame::pong([]).masked(KEY).bytes())),
    ("fragments", Kind::Flood(fragments)),
    ("empty", Kind::Flood(|| Frame::text([]).masked(KEY).bytes())),
    ("deflate-small", Kind::Flood(|| compressed(&[0; 100]))),
    ("deflate-64k", Kind::Flood(|| compressed(&vec![0; 64 << 10]))),
    ("deflate-1m", Kind::Flood(|| compressed(&vec![0; 1 << 20]))),
    ("deflate-8m", Kind::Flood(|| compressed(&vec![0; 8 << 20]))),
    ("deflate-words", Kind::Flood(|| compressed(&words(8 << 20)))),
    ("deflate-blocks", Kind::Flood(blocks)),
    ("after-close", Kind::AfterClose),
    ("busy", Kind::Busy),
    ("rpc-cancels", Kind::Rpc(rpc::cancels, true)),
    ("rpc-broken", Kind::Rpc(rpc::broken, false)),
];

fn fragments() -> Vec<u8> {
    let more = Frame::continuation([]).more().masked(KEY).bytes();
    let (first, last) = (Frame::text([]).more(), Frame::continuation([]));
    [first.masked(KEY).bytes(), more.repeat(1000), last.masked(KEY).bytes()].concat()
}

/// A compressed message of `payload`.
fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(payload).and_then(|()| encoder.flush()).expect("memory takes everything");
    let data = encoder.get_ref();
    deflated(&data[..data.len() - 4])
}

fn deflated(data: &[u8]) -> Vec<u8> {
    Frame::binary(data).rsv(4).masked(KEY).bytes()
}

/// `size` bytes in a few words, in no order: slow to compress.
fn words(size: usize) -> Vec<u8> {
    const WORDS: [&[u8]; 8] = [b"in ", b"the ", b"order ", b"of ", b"their ", b"arrival ", b"and ", b"time "];
    let mut state = 1_u32;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        WORDS[(state >> 29) as usize]
    };
    std::iter::repeat_with(|| word().iter().copied()).flatten().take(size).collect()
}

/// A compressed message of a million bytes that hold nothing: four empty blocks of fixed codes in five bytes.
fn blocks() -> Vec<u8> {
    deflated(&[[0x02, 0x08, 0x20, 0x80, 0x00].repeat(200_000), vec![0x00]].concat())
}

/// Connects and does the handshake.
fn connect(address: SocketAddr, extensions: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = REQUEST.replace("/chat", "/");
    write!(stream, "{request}{extensions}\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
    }
    Ok(stream)
}

/// Reads and drops everything until the stream ends, in a thread.
fn drain(mut stream: TcpStream) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
    })
}

/// Runs one of the other clients. One that floods sends `flood`. Adds the bytes that it sends to `sent`.
fn other(
    address: SocketAddr,
    kind: Kind,
    flood: &[u8],
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> io::Result<()> {
    let extensions = match kind {
        Kind::Flood(_) => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        Kind::Busy | Kind::AfterClose => "",
        Kind::Rpc(_, reads) => return rpc::flood(address, flood, reads, stop, sent),
    };
    let mut stream = connect(address, extensions)?;
    match kind {
        Kind::Flood(_) => {
            let draining = drain(stream.try_clone()?);
            for piece in flood.chunks(1 << 16).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                stream.write_all(piece)?;
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            stream.shutdown(std::net::Shutdown::Both)?;
            let _ = draining.join();
        }
        Kind::Busy => {
            let frame = Frame::binary(vec![7; 1 << 16]).masked(KEY).bytes();
            let mut echo = vec![0; frame.len() - KEY.len()];
            (0..3).try_for_each(|_| stream.write_all(&frame))?;
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(&frame)?;
                stream.read_exact(&mut echo)?;
                sent.fetch_add(frame.len() as u64, Ordering::Relaxed);
            }
        }
        Kind::AfterClose => {
            let block = vec![0; 1 << 16];
            while !stop.load(Ordering::Relaxed) {
                let close = Frame::close(1000, "").masked(KEY).bytes();
                stream.write_all(&close)?;
                while !stop.load(Ordering::Relaxed) && stream.write_all(&block).is_ok() {
                    sent.fetch_add(block.len() as u64, Ordering::Relaxed);
                }
                stream = connect(address, extensions)?;
            }
        }
        Kind::Rpc(..) => unreachable!("it has returned"),
    }
    Ok(())
}

/// Sends a message, and waits for its echo.
type Exchange = Box<dyn FnMut() -> io::Result<()>>;

/// Connects the innocent client.
fn connect_innocent(address: SocketAddr, is_rpc: bool) -> io::Result<Exchange> {
    if is_rpc {
        return Ok(Box::new(rpc::innocent(address)?));
    }
    let mut stream = connect(address, "")?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let frame = Frame::text("0123456789abcdef").masked(KEY).bytes();
    let mut echo = [0; 18];
    Ok(Box::new(move || {
        stream.write_all(&frame)?;
        stream.read_exact(&mut echo)
    }))
}

/// The innocent client's waits.
#[derive(Clone, Copy)]
struct Waits {
    /// The 99th percentile.
    p99: Duration,
    longest: Duration,
    /// The 99th percentile of the server's CPU time during a wait.
    server_p99: Duration,
}

/// Runs the innocent client of the server `process` for `time`, one message at least.
fn innocent(process: u32, address: SocketAddr, is_rpc: bool, time: Duration) -> io::Result<Waits> {
    let mut exchange = connect_innocent(address, is_rpc)?;
    let (mut waits, mut server) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while waits.is_empty() || start.elapsed() < time {
        let (before, begin) = (cpu_time(process)?, Instant::now());
        exchange()?;
        waits.push(begin.elapsed());
        server.push(cpu_time(process)?.saturating_sub(before));
        thread::sleep(Duration::from_millis(2));
    }
    waits.sort();
    server.sort();
    let p99 = waits.len() * 99 / 100;
    Ok(Waits { p99: waits[p99], longest: waits[waits.len() - 1], server_p99: server[p99] })
}

/// The CPU time that all threads of a process have used.
fn cpu_time(process: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // The thread may have ended meanwhile.
        let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// Does one run. Returns the innocent client's waits, and how many bytes the others sent in a second.
fn run(
    process: u32,
    address: SocketAddr,
    kind: Kind,
    flood: &[u8],
    others: u16,
    time: Duration,
) -> io::Result<(Waits, f64)> {
    let stop = AtomicBool::new(false);
    let sent = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..others {
            scope.spawn(|| {
                if let Err(error) = other(address, kind, flood, &stop, &sent) {
                    eprintln!("another client ended: {error}");
                }
            });
        }
        thread::sleep(Duration::from_millis(200)); // the flood is measured once it is under way
        let (begin, before) = (Instant::now(), sent.load(Ordering::Relaxed));
        let waits = innocent(process, address, kind.is_rpc(), time);
        let rate = (sent.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        waits.map(|waits| (waits, rate))
    })
}

/// Makes the command that serves WebSocket.
fn websocket_server(getty: &OsStr, runtime: &str, threads: u16) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(getty).args(["serve", "--runtime", runtime, "--deflate"]);
    if threads > 0 {
        command.args(["--threads", &threads.to_string()]);
    }
    command.arg("ws://127.0.0.1:0/");
    command
}

/// Starts a server. Returns its address too.
fn start(mut command: Command) -> io::Result<(Child, SocketAddr)> {
    let mut server = command.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("standard output is piped")).read_line(&mut line)?;
    let address = line.trim().trim_start_matches("listening ").trim_start_matches("ws://");
    let address = address.trim_end_matches('/').parse();
    Ok((server, address.map_err(|_| io::Error::other(format!("no address: {line}")))?))
}

/// The options of the program, checked.
pub(crate) struct Options {
    pub(crate) runs: usize,
    pub(crate) time: Duration,
    pub(crate) runtimes: Vec<String>,
    pub(crate) threads: Vec<u16>,
    pub(crate) others: Vec<u16>,
    pub(crate) kinds: Vec<String>,
}

impl Options {
    /// Reads options of the form `name=value`. The error says which one is wrong, and what was expected.
    pub(crate) fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let names = KINDS.map(|(name, _)| name);
        let mut parsed = Options {
            runs: 5,
            time: Duration::from_secs(2),
            runtimes: RUNTIMES.map(str::to_owned).into(),
            threads: vec![1, 0],
            others: vec![1, 4],
            kinds: names.map(str::to_owned).into(),
        };
        for option in options {
            let wrong = |expected: &str| format!("wrong option {option:?}: expected {expected}");
            let (name, value) = option.split_once('=').ok_or_else(|| wrong("the form name=value"))?;
            let numbers = || {
                let numbers = value.split(',').map(|number| number.parse().ok()).collect::<Option<Vec<_>>>();
                numbers.ok_or_else(|| wrong("whole numbers up to 65535, separated by commas"))
            };
            let some_of = |known: &[&str]| {
                let names: Vec<String> = value.split(',').map(str::to_owned).collect();
                match names.iter().all(|name| known.contains(&&**name)) {
                    true => Ok(names),
                    false => Err(wrong(&format!("some of {}", known.join(",")))),
                }
            };
            match name {
                "runs" => {
                    let runs = value.parse().ok().filter(|&runs: &usize| runs > 0);
                    parsed.runs = runs.ok_or_else(|| wrong("a whole number of at least 1"))?;
                }
                "seconds" => {
                    let seconds = value.parse().ok().filter(|&seconds: &f64| seconds > 0.0);
                    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                    parsed.time = time.ok_or_else(|| wrong("a number of seconds above 0, such as 0.6"))?;
                }
                "runtimes" => parsed.runtimes = some_of(&RUNTIMES)?,
                "threads" => parsed.threads = numbers()?,
                "others" => parsed.others = numbers()?,
                "kinds" => parsed.kinds = some_of(&names)?,
                _ => return Err(wrong("one of runs, seconds, runtimes, threads, others and kinds")),
            }
        }
        Ok(parsed)
    }
}

fn fail(problem: &str) -> ! {
    eprintln!("fairness: {problem}");
    process::exit(2)
}

fn main() -> io::Result<()> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((getty, options)) = args.split_first() else {
        fail("the path of the program getty is missing: it comes before the options");
    };
    let options: Vec<_> = options.iter().map(|option| option.to_string_lossy()).collect();
    if getty == rpc::SERVE {
        let [runtime, threads] = &options[..] else { fail("expected a runtime and a number of threads") };
        rpc::serve(runtime, threads.parse().unwrap_or_else(|_| fail("expected a number of threads")));
        return Ok(());
    }
    let options = Options::parse(options.iter().map(|option| &**option));
    let Options { runs, time, runtimes, threads, others, kinds } =
        options.unwrap_or_else(|problem| fail(&problem));
    if std::env::var_os("GETTY_PINNED").is_none() {
        let this = std::env::current_exe()?;
        let error =
            Command::new("taskset").args(["-c", "1"]).arg(this).args(&args).env("GETTY_PINNED", "1").exec();
        return Err(error);
    }
    println!("runtime,threads,kind,others,quiet_p99_ms,p99_ms,longest_ms,others_mb_s,server_p99_ms");
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let selected: Vec<_> =
        KINDS.into_iter().filter(|(name, _)| kinds.iter().any(|kind| kind == name)).collect();
    for runtime in runtimes {
        for &threads in &threads {
            for is_rpc in [false, true] {
                let kinds: Vec<_> = selected.iter().filter(|(_, kind)| kind.is_rpc() == is_rpc).collect();
                if kinds.is_empty() {
                    continue;
                }
                let (mut server, address) = start(match is_rpc {
                    true => rpc::server(&runtime, threads)?,
                    false => websocket_server(getty, &runtime, threads),
                })?;
                let quiet = median((0..runs).map(|_| Ok(innocent(server.id(), address, is_rpc, time)?.p99)))?;
                for (name, kind) in kinds {
                    let flood = kind.flood();
                    for &others in &others {
                        let results =
                            (0..runs).map(|_| run(server.id(), address, *kind, &flood, others, time));
                        let results: Vec<_> = results.collect::<io::Result<_>>()?;
                        let p99 = median(results.iter().map(|(waits, _)| Ok(waits.p99)))?;
                        let cpu = median(results.iter().map(|(waits, _)| Ok(waits.server_p99)))?;
                        let most = results.iter().map(|(waits, _)| waits.longest).max().unwrap_or_default();
                        let mut rates: Vec<f64> = results.iter().map(|(_, rate)| rate / 1e6).collect();
                        rates.sort_by(f64::total_cmp);
                        let (quiet, p99, most, cpu) = (ms(quiet), ms(p99), ms(most), ms(cpu));
                        let rate = rates[rates.len() / 2];
                        println!(
                            "{runtime},{threads},{name},{others},{quiet:.2},{p99:.2},{most:.1},{rate:.1},\
                             {cpu:.2}"
                        );
                    }
                }
                server.kill()?;
                server.wait()?;
            }
        }
    }
    Ok(())
}

fn median(values: impl Iterator<Item = io::Result<Duration>>) -> io::Result<Duration> {
    let mut values: Vec<Duration> = values.collect::<io::Result<_>>()?;
    values.sort();
    Ok(values[values.len() / 2])
}
