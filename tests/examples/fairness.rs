//! How long an innocent client waits beside others that are busy, or mean, on the same thread of a server.
//!
//! ```sh
//! cargo build --release --bin getty
//! cargo run --release -p getty-tests --example fairness -- target/release/getty
//! ```
//!
//! Starts `getty serve` on one processor for each runtime, and on the other one (Linux, by `taskset`) the
//! clients: an innocent one, which sends 16 bytes and waits for their echo, and the others. Prints the 99th
//! percentile of the innocent one's waits, quiet and beside each kind of the others, as the median of several
//! runs, and what the others sent.
//!
//! Options, as `name=value`, lists with commas: `runs` (5), `seconds` of a run (2), `runtimes`
//! (tokio,smol,async-std), `threads` of the server (1,0; 0 is its default), `others` (1,4: how many), `kinds`
//! (all).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::websocket::peers::{Frame, REQUEST};

const KEY: [u8; 4] = [1, 2, 3, 4];

/// What the others do, until asked to stop.
#[derive(Clone, Copy)]
enum Kind {
    /// Send these bytes without end, and take what comes back.
    Flood(fn() -> Vec<u8>),
    /// Send messages of 64 KiB, four at a time, and wait for their echoes.
    Busy,
    /// Close, go on sending, and connect again when the server has had enough.
    AfterClose,
}

const KINDS: [(&str, Kind); 10] = [
    ("pings", Kind::Flood(|| Frame::ping([]).masked(KEY).bytes())),
    ("pongs", Kind::Flood(|| Frame::pong([]).masked(KEY).bytes())),
    ("fragments", Kind::Flood(fragments)),
    ("empty", Kind::Flood(|| Frame::text([]).masked(KEY).bytes())),
    ("deflate-small", Kind::Flood(|| compressed(100))),
    ("deflate-64k", Kind::Flood(|| compressed(64 << 10))),
    ("deflate-1m", Kind::Flood(|| compressed(1 << 20))),
    ("deflate-8m", Kind::Flood(|| compressed(8 << 20))),
    ("after-close", Kind::AfterClose),
    ("busy", Kind::Busy),
];

fn fragments() -> Vec<u8> {
    let more = Frame::continuation([]).more().masked(KEY).bytes();
    let (first, last) = (Frame::text([]).more(), Frame::continuation([]));
    [first.masked(KEY).bytes(), more.repeat(1000), last.masked(KEY).bytes()].concat()
}

/// A compressed message of this many zeros.
fn compressed(zeros: usize) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; zeros]).and_then(|()| encoder.flush()).expect("memory takes all");
    let data = encoder.get_ref();
    Frame::binary(&data[..data.len() - 4]).rsv(4).masked(KEY).bytes()
}

/// Connects, and shakes hands.
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

/// Reads whatever comes until the stream ends.
fn drain(mut stream: TcpStream) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
    })
}

/// One of the others; adds the bytes that it sent to `sent`.
fn other(address: SocketAddr, kind: Kind, stop: &AtomicBool, sent: &AtomicU64) -> io::Result<()> {
    let extensions = match kind {
        Kind::Flood(_) => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        Kind::Busy | Kind::AfterClose => "",
    };
    let mut stream = connect(address, extensions)?;
    match kind {
        Kind::Flood(bytes) => {
            let bytes = bytes();
            let block = bytes.repeat((1 << 16) / bytes.len() + 1);
            let draining = drain(stream.try_clone()?);
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(&block)?;
                sent.fetch_add(block.len() as u64, Ordering::Relaxed);
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
    }
    Ok(())
}

/// The innocent client: the 99th percentile of its waits, and the longest.
fn innocent(address: SocketAddr, time: Duration) -> io::Result<(Duration, Duration)> {
    let mut stream = connect(address, "")?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let frame = Frame::text("0123456789abcdef").masked(KEY).bytes();
    let mut echo = [0; 18];
    let mut waits = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let begin = Instant::now();
        stream.write_all(&frame)?;
        stream.read_exact(&mut echo)?;
        waits.push(begin.elapsed());
        thread::sleep(Duration::from_millis(2));
    }
    waits.sort();
    Ok((waits[waits.len() * 99 / 100], waits[waits.len() - 1]))
}

/// One run: the innocent client's waits, and the bytes a second that the others sent.
fn run(
    address: SocketAddr,
    kind: Kind,
    others: usize,
    time: Duration,
) -> io::Result<(Duration, Duration, f64)> {
    let stop = AtomicBool::new(false);
    let sent = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..others {
            scope.spawn(|| {
                if let Err(error) = other(address, kind, &stop, &sent) {
                    eprintln!("another client ended: {error}");
                }
            });
        }
        thread::sleep(Duration::from_millis(200)); // what is measured is the flood, not its beginning
        let (begin, before) = (Instant::now(), sent.load(Ordering::Relaxed));
        let waits = innocent(address, time);
        let rate = (sent.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        waits.map(|(p99, most)| (p99, most, rate))
    })
}

/// A server on the first processor, and where it listens.
fn serve(getty: &str, runtime: &str, threads: usize) -> io::Result<(Child, SocketAddr)> {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", getty, "serve", "--runtime", runtime, "--deflate"]);
    if threads > 0 {
        command.args(["--threads", &threads.to_string()]);
    }
    let mut server = command.arg("ws://127.0.0.1:0/").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("it is piped")).read_line(&mut line)?;
    let address = line.trim().trim_start_matches("listening ws://").trim_end_matches('/').parse();
    Ok((server, address.map_err(|_| io::Error::other(format!("no address: {line}")))?))
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    if std::env::var_os("GETTY_PINNED").is_none() {
        let this = std::env::current_exe()?;
        let error =
            Command::new("taskset").args(["-c", "1"]).arg(this).args(args).env("GETTY_PINNED", "1").exec();
        return Err(error);
    }
    let getty = args.next().expect("the path of the program getty");
    let options: Vec<String> = args.collect();
    let option = |name: &str, default: &str| -> Vec<String> {
        let given = options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
        given.unwrap_or(default).split(',').map(str::to_owned).collect()
    };
    let number = |name, default| -> Vec<usize> {
        option(name, default).iter().map(|value| value.parse().expect("a number")).collect()
    };
    let (runs, time) = (number("runs", "5")[0], Duration::from_secs(number("seconds", "2")[0] as u64));
    let kinds = option("kinds", "");
    println!("runtime,threads,kind,others,quiet_p99_ms,p99_ms,longest_ms,others_mb_s");
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    for runtime in option("runtimes", "tokio,smol,async-std") {
        for threads in number("threads", "1,0") {
            let (mut server, address) = serve(&getty, &runtime, threads)?;
            let quiet = median((0..runs).map(|_| Ok(innocent(address, time)?.0)))?;
            for (name, kind) in KINDS {
                if !kinds.iter().any(|kind| kind.is_empty() || kind == name) {
                    continue;
                }
                for others in number("others", "1,4") {
                    let results: Vec<_> =
                        (0..runs).map(|_| run(address, kind, others, time)).collect::<io::Result<_>>()?;
                    let p99 = median(results.iter().map(|(p99, ..)| Ok(*p99)))?;
                    let most = results.iter().map(|(_, most, _)| *most).max().unwrap_or_default();
                    let mut rates: Vec<f64> = results.iter().map(|(.., rate)| rate / 1e6).collect();
                    rates.sort_by(f64::total_cmp);
                    let (quiet, p99, most) = (ms(quiet), ms(p99), ms(most));
                    let rate = rates[rates.len() / 2];
                    println!("{runtime},{threads},{name},{others},{quiet:.2},{p99:.2},{most:.1},{rate:.1}");
                }
            }
            server.kill()?;
            server.wait()?;
        }
    }
    Ok(())
}

fn median(values: impl Iterator<Item = io::Result<Duration>>) -> io::Result<Duration> {
    let mut values: Vec<Duration> = values.collect::<io::Result<_>>()?;
    values.sort();
    Ok(values[values.len() / 2])
}
