//! The examples that embed the core, with tokio-util's codec at the other end, and with peers that misbehave.

use std::io::{self, BufRead, Read, Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use bytes::Bytes;
use futures::future::join_all;
use futures::{SinkExt, StreamExt};
use getty_core::Config;
use socket2::{Domain, SockRef, Socket, Type};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

#[path = "../../../core/examples/memory_echo.rs"]
mod memory_echo;
#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../../core/examples/mio_echo.rs"]
mod mio_echo;
#[path = "../../../core/examples/rpc_memory.rs"]
mod rpc_memory;
#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../../core/examples/std_echo.rs"]
mod std_echo;

/// The server of an example, on its own port.
trait Example: Sized {
    fn start(config: Arc<Config>) -> Self;

    fn server(&self) -> &Server;
}

struct Server {
    address: SocketAddr,
    config: Arc<Config>,
}

impl Server {
    /// Number of sessions, known by the shares of the configuration: each has one, and so have the test and
    /// the server.
    fn sessions(&self) -> usize {
        Arc::strong_count(&self.config) - 2
    }

    /// A plain socket that ends with a reset.
    fn raw(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    async fn connect(&self) -> Client {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        Framed::new(stream, LengthDelimitedCodec::new())
    }
}

type Client = Framed<tokio::net::TcpStream, LengthDelimitedCodec>;

struct Mio {
    server: Server,
    waker: mio::Waker,
    thread: Option<thread::JoinHandle<io::Result<()>>>,
}

impl Example for Mio {
    fn start(config: Arc<Config>) -> Self {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio_echo::STOP).unwrap();
        let listener = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = Server { address: listener.local_addr().unwrap(), config: config.clone() };
        let thread = Some(thread::spawn(move || mio_echo::serve(poll, listener, config)));
        Mio { server, waker, thread }
    }

    fn server(&self) -> &Server {
        &self.server
    }
}

impl Drop for Mio {
    fn drop(&mut self) {
        self.waker.wake().unwrap();
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.expect("no peer makes it panic").unwrap();
        }
    }
}

/// A server that is never stopped.
struct Std(Server);

impl Example for Std {
    fn start(config: Arc<Config>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { address: listener.local_addr().unwrap(), config: config.clone() };
        thread::spawn(move || std_echo::serve(&listener, &config));
        Std(server)
    }

    fn server(&self) -> &Server {
        &self.0
    }
}

macro_rules! on_both {
    ($($test:ident,)*) => {
        mod mio_example {
            $(#[test] fn $test() { super::$test::<super::Mio>() })*
        }
        mod std_example {
            $(#[test] fn $test() { super::$test::<super::Std>() })*
        }
    };
}

on_both!(
    messages_of_all_sizes,
    a_hundred_connections_at_once,
    many_small_messages_in_flight,
    who_half_closes_gets_all_answers_and_then_the_end,
    a_reset_in_a_frame_ends_its_session_only,
    a_length_bomb_ends_its_session_only,
    a_slow_reader_gets_everything,
    who_stops_in_a_frame_is_cut_off,
    who_never_reads_is_cut_off,
    a_reset_while_answers_wait_ends_the_session,
    who_is_quiet_is_let_go,
    without_descriptors_accepting_rests,
    what_came_while_the_process_was_stopped_counts,
);

fn messages_of_all_sizes<E: Example>() {
    let example = E::start(Arc::default());
    block_on(async {
        let mut client = example.server().connect().await;
        let all = [0, 1, 1000, 65_536, 1 << 20].repeat(3).into_iter().map(|size| Bytes::from(vec![7; size]));
        for message in all.clone() {
            echo(&mut client, message).await;
        }
        exchange(&mut client, &all.collect::<Vec<_>>()).await;
    });
    until("its session ends with it", || example.server().sessions() == 0);
}

fn a_hundred_connections_at_once<E: Example>() {
    let example = E::start(Arc::default());
    block_on(async {
        let mut clients = join_all((0..100).map(|_| example.server().connect())).await;
        for round in 0..10 {
            let echoes = clients.iter_mut().enumerate();
            join_all(echoes.map(|(n, client)| echo(client, Bytes::from(format!("{round} of {n}"))))).await;
        }
        assert_eq!(example.server().sessions(), 100);
    });
    until("all sessions end", || example.server().sessions() == 0);
}

fn many_small_messages_in_flight<E: Example>() {
    let example = E::start(Arc::default());
    let messages: Vec<Bytes> = (0..50_000).map(|n| Bytes::from(format!("message {n}"))).collect();
    block_on(async {
        let mut client = example.server().connect().await;
        exchange(&mut client, &messages).await;
    });
}

fn who_half_closes_gets_all_answers_and_then_the_end<E: Example>() {
    let example = E::start(Arc::default());
    block_on(async {
        // The end may come together with the last message, after it, or after its echo: try all.
        for size in [0, 100, 5000, 200_000].repeat(10) {
            let (mut sink, mut stream) = example.server().connect().await.split();
            let messages: Vec<Bytes> = (0..10).map(|n| Bytes::from(vec![n; size])).collect();
            let send = async {
                for message in &messages {
                    sink.feed(message.clone()).await.unwrap();
                }
                sink.close().await.unwrap();
            };
            let receive = async {
                for message in &messages {
                    assert_eq!(stream.next().await.unwrap().unwrap(), message);
                }
                assert!(stream.next().await.is_none(), "a clean end");
            };
            futures::join!(send, receive);
            until("the session ends", || example.server().sessions() == 0);
        }
    });
}

fn a_reset_in_a_frame_ends_its_session_only<E: Example>() {
    let example = E::start(Arc::default());
    let server = example.server();
    block_on(async {
        let mut steady = server.connect().await;
        echo(&mut steady, Bytes::from("hello")).await;
        for cut in 1..50 {
            let mut faulty = server.raw();
            faulty.write_all(&[frame(b"whole"), frame(&[7; 50])[..cut].to_vec()].concat()).unwrap();
            faulty.read_exact(&mut [0; 9]).unwrap(); // so the part has come too
            assert_eq!(server.sessions(), 2);
            drop(faulty);
            until("its session ends", || server.sessions() == 1);
        }
        echo(&mut steady, Bytes::from("still here")).await;
    });
}

fn a_length_bomb_ends_its_session_only<E: Example>() {
    let example = E::start(Arc::default());
    let server = example.server();
    block_on(async {
        let mut steady = server.connect().await;
        echo(&mut steady, Bytes::from("hello")).await;
        let mut bomb = server.raw();
        bomb.write_all(&[&frame(b"before")[..], b"\xff\xff\xff\xff and on"].concat()).unwrap();
        let mut echoed = Vec::new();
        bomb.read_to_end(&mut echoed).unwrap();
        assert_eq!(echoed, frame(b"before"), "the message before it is echoed, then comes the end");
        drop(bomb);
        until("its session ends", || server.sessions() == 1);
        echo(&mut steady, Bytes::from("still here")).await;
    });
}

fn a_slow_reader_gets_everything<E: Example>() {
    const FRAMES: usize = 32 * 1024; // 32 MiB, more than the sockets hold
    let example = E::start(Arc::default());
    let mut reader = example.server().raw();
    // Otherwise the buffer may grow to that size.
    SockRef::from(&reader).set_recv_buffer_size(64 * 1024).unwrap();
    let mut writer = reader.try_clone().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let writing = thread::spawn(move || {
        for n in 0..FRAMES {
            writer.write_all(&frame(&payload(n))).unwrap();
            count.store(n + 1, Ordering::Relaxed);
        }
    });
    let mut last = (0, Instant::now());
    until("the writer is stuck", || {
        if written.load(Ordering::Relaxed) != last.0 {
            last = (written.load(Ordering::Relaxed), Instant::now());
        }
        last.0 > 0 && last.1.elapsed() > Duration::from_millis(700) // longer than one write blocks
    });
    assert!(last.0 < FRAMES, "the server reads no more than it can echo");
    let mut echoed = vec![0; 4 + 1020];
    for n in 0..FRAMES {
        reader.read_exact(&mut echoed).unwrap();
        assert!(echoed == frame(&payload(n)), "frame {n}");
    }
    writing.join().unwrap();
    drop(reader);
    until("the session ends", || example.server().sessions() == 0);
}

fn who_stops_in_a_frame_is_cut_off<E: Example>() {
    let config = Config::builder().partial_frame_timeout(Duration::from_millis(200)).build().unwrap();
    let example = E::start(config);
    let server = example.server();
    block_on(async {
        let mut steady = server.connect().await;
        echo(&mut steady, Bytes::from("hello")).await;
        let mut faulty = server.raw();
        let started = Instant::now();
        faulty.write_all(&[frame(b"whole"), frame(b"part")[..6].to_vec()].concat()).unwrap();
        let mut echoed = Vec::new();
        faulty.read_to_end(&mut echoed).unwrap();
        assert_eq!(echoed, frame(b"whole"));
        assert!(started.elapsed() >= Duration::from_millis(200), "not before the timeout");
        until("its session ends", || server.sessions() == 1);
        echo(&mut steady, Bytes::from("still here")).await;
    });
}

fn who_never_reads_is_cut_off<E: Example>() {
    let config = Config::builder().write_stall_timeout(Duration::from_millis(300)).build().unwrap();
    let example = E::start(config);
    let mut faulty = example.server().raw();
    let input = frame(&[7; 60_000]);
    faulty.write_all(&input).unwrap();
    until("there is a session", || example.server().sessions() == 1);
    faulty.set_nonblocking(true).unwrap();
    until("the session ends", || {
        while faulty.write(&input).is_ok() {}
        example.server().sessions() == 0
    });
}

fn a_reset_while_answers_wait_ends_the_session<E: Example>() {
    let example = E::start(Config::builder().write_stall_timeout(None).build().unwrap());
    let mut faulty = example.server().raw();
    let input = frame(&[7; 60_000]).repeat(20);
    let mut echo = faulty.try_clone().unwrap();
    let writing = thread::spawn(move || while faulty.write_all(&input).is_ok() {});
    echo.read_exact(&mut [0; 60_004]).unwrap(); // so there are replies
    echo.shutdown(std::net::Shutdown::Write).unwrap(); // ends the writing
    writing.join().unwrap();
    drop(echo);
    until("the session ends", || example.server().sessions() == 0);
}

fn who_is_quiet_is_let_go<E: Example>() {
    let config = Config::builder().idle_read(Duration::from_millis(100)).build().unwrap();
    let example = E::start(config);
    block_on(async {
        let mut client = example.server().connect().await;
        echo(&mut client, Bytes::from("hello")).await;
        assert!(client.next().await.is_none(), "a clean end");
    });
    until("the session ends", || example.server().sessions() == 0);
}

/// The limit passes and bytes that came in time wait to be read, as when a machine sleeps. The example runs
/// in a process of its own.
fn what_came_while_the_process_was_stopped_counts<E: Example>() {
    const STOPPED: &str = "GETTY_TEST_STOPPED";
    const IDLE: Duration = Duration::from_millis(400);
    if env::var_os(STOPPED).is_some() {
        let example = E::start(Config::builder().idle_read(IDLE).build().unwrap());
        println!("\nserving {}", example.server().address);
        loop {
            thread::park(); // until it is killed
        }
    }
    let mut child = process::Command::new(env::current_exe().unwrap())
        .args(["--exact", thread::current().name().unwrap(), "--nocapture"])
        .env(STOPPED, "1")
        .stdout(process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = io::BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("serving ").map(str::to_owned)).unwrap();
    let signal = |signal: &str| {
        let pid = child.id().to_string();
        assert!(process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    };
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&frame(b"before")).unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
    signal("-STOP");
    client.write_all(&frame(b"in time")).unwrap();
    thread::sleep(2 * IDLE); // the limit passes: the point of this test
    signal("-CONT");
    let mut echoed = [0; 11];
    let read = client.read_exact(&mut echoed);
    child.kill().unwrap();
    child.wait().unwrap();
    read.unwrap();
    assert_eq!(echoed[..], frame(b"in time"));
}

/// The limit is for the whole process, so this runs in one of its own.
fn without_descriptors_accepting_rests<E: Example>() {
    const LIMITED: &str = "GETTY_TEST_FEW_DESCRIPTORS";
    if env::var_os(LIMITED).is_none() {
        let status = process::Command::new("sh")
            .args(["-c", "ulimit -n 300 && exec \"$@\"", "sh"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", thread::current().name().unwrap()])
            .env(LIMITED, "1")
            .status()
            .unwrap();
        assert!(status.success(), "with few descriptors: {status}");
        return;
    }
    let example = E::start(Arc::default());
    let mut early = example.server().raw();
    early.write_all(&frame(b"early")).unwrap();
    early.read_exact(&mut [0; 9]).unwrap();

    let mut stat = cfg!(target_os = "linux").then(|| fs::File::open("/proc/self/stat").unwrap());
    // More connections than are accepted at once.
    let mut waiting = [(); 100].map(|()| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
    let taken: Vec<fs::File> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    for socket in &mut waiting {
        socket.connect(&example.server().address.into()).unwrap();
        socket.write_all(&frame(b"waiting")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    if let Some(stat) = &mut stat {
        let ticks = cpu_ticks(stat);
        thread::sleep(Duration::from_millis(300)); // the time to measure, not a wait for a condition
        assert!(cpu_ticks(stat) - ticks <= 10, "it must not spin");
    }
    early.write_all(&frame(b"still")).unwrap();
    early.read_exact(&mut [0; 9]).unwrap();
    // A blocking accept reserves its descriptor before it waits.
    assert!(example.server().sessions() <= 2, "no descriptors for more");

    drop(taken);
    for mut socket in waiting {
        let mut echoed = [0; 11];
        socket.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed[..], frame(b"waiting"));
    }
}

/// CPU time that the process has used, in hundredths of seconds.
fn cpu_ticks(stat: &mut fs::File) -> u64 {
    let mut text = String::new();
    stat.rewind().unwrap();
    stat.read_to_string(&mut text).unwrap();
    let after_name = text.rsplit(')').next().unwrap();
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn hours_in_memory() {
    memory_echo::main().unwrap();
}

#[test]
fn calls_in_memory() {
    rpc_memory::main().unwrap();
}

/// The chapters on embedding quote the examples: every quote must be in its example, word for word.
#[test]
fn the_chapters_quote_the_examples() {
    quotes(
        include_str!("../../../core/src/embedding.md"),
        include_str!("../../../core/examples/mio_echo.rs"),
    );
    quotes(
        include_str!("../../../core/src/rpc/embedding.md"),
        include_str!("../../../core/examples/rpc_memory.rs"),
    );
}

fn quotes(chapter: &str, example: &str) {
    let trimmed = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let example = trimmed(example);
    let mut quotes = 0;
    for block in chapter.split("```").skip(1).step_by(2) {
        let code = block.split_once('\n').unwrap().1;
        let shown: Vec<&str> = code.lines().filter(|line| !line.starts_with("# ")).collect();
        let shown = trimmed(&shown.join("\n"));
        assert!(example.contains(shown.trim()), "not in the example:\n{shown}");
        quotes += 1;
    }
    assert!(quotes >= 5, "{quotes}");
}

/// The longest that a test waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test ends in time") });
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

async fn echo(client: &mut Client, message: Bytes) {
    client.send(message.clone()).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), message);
}

/// Sends all messages without waiting for the replies, which must come in order.
async fn exchange(client: &mut Client, messages: &[Bytes]) {
    let (mut sink, mut stream) = client.split();
    let send = async {
        for message in messages {
            sink.feed(message.clone()).await.unwrap();
        }
        sink.flush().await.unwrap();
    };
    let receive = async {
        for message in messages {
            assert!(stream.next().await.unwrap().unwrap() == message[..]);
        }
    };
    futures::join!(send, receive);
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

fn payload(n: usize) -> [u8; 1020] {
    std::array::from_fn(|at| (n + at) as u8)
}
