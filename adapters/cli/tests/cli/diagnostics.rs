//! Standard error without a reader, or with one that does not read: nothing else changes.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::certificates::Certificates;
use crate::support::{DEADLINE, RUNTIMES, Running, frame, getty, line, pipe, read_frame, run, with_deadline};

/// A pipe without a reader.
fn closed() -> Stdio {
    let (_, write) = pipe();
    write.into()
}

/// A full pipe, its reader, and the number of bytes to read before anything new.
fn full() -> (Stdio, File, usize) {
    const SIZE: usize = 4096;
    let (read, write) = pipe();
    let size = rustix::pipe::fcntl_setpipe_size(&write, SIZE).unwrap();
    let mut write = File::from(write);
    write.write_all(&vec![b'\n'; size]).unwrap();
    (write.into(), read.into(), size)
}

/// A server over TLS and TCP that is made to write everything it can report to standard error.
struct Talkative {
    running: Running,
    tls: String,
    tcp: String,
}

impl Talkative {
    fn start(err: Stdio, certificates: &Certificates, options: &[&str]) -> Self {
        let urls = ["serve", "--stats", "--grace", "0.2", "tls://127.0.0.1:0", "tcp://127.0.0.1:0"];
        let mut command = getty(&[&urls[..], &certificates.server(), options].concat());
        let mut running = Running::of(command.stderr(err));
        let mut url = || running.line().trim_end().strip_prefix("listening ").unwrap().to_owned();
        let (tls, tcp) = (url(), url());
        Talkative { running, tls, tcp }
    }

    fn connect(&self) -> TcpStream {
        connect(&self.tcp)
    }

    /// Checks that the server still serves and obeys every signal, and that it exits like one that was asked
    /// to end.
    fn reacts(mut self, certificates: &Certificates) {
        let mut client = self.connect();
        // Statistics are due within this time.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1300) {
            echo(&mut client);
        }
        certificates.make();
        self.running.signal(Signal::HUP);
        let start = Instant::now();
        let args = [&["connect", "--wait", "0.2", &self.tls], &certificates.trusted()[..]].concat();
        while run(&args, "hello\n").code != Some(0) {
            assert!(start.elapsed() < DEADLINE, "the certificate is not renewed");
        }
        for _ in 0..20 {
            self.running.signal(Signal::USR1);
            echo(&mut client);
            echo(&mut self.connect());
        }
        self.running.signal(Signal::TERM); // one session does not close, which is reported
        assert_eq!(self.running.wait().code(), Some(0));
    }
}

fn connect(url: &str) -> TcpStream {
    with_deadline(TcpStream::connect(url.strip_prefix("tcp://").unwrap()).unwrap())
}

/// Starts a server over TCP and opens a session with it.
fn serve(err: Stdio, grace: &str) -> (Running, TcpStream) {
    let mut running = Running::of(getty(&["serve", "--grace", grace, "tcp://127.0.0.1:0"]).stderr(err));
    let mut client = connect(running.line().trim_end().strip_prefix("listening ").unwrap());
    echo(&mut client);
    (running, client)
}

fn echo(client: &mut TcpStream) {
    client.write_all(&frame(b"hello")).unwrap();
    assert_eq!(read_frame(client).unwrap(), b"hello");
}

/// Options for each runtime and way of using threads.
fn kinds() -> Vec<Vec<&'static str>> {
    let mut kinds: Vec<_> = RUNTIMES.map(|name| vec!["--runtime", name, "--threads", "1"]).into();
    kinds.push(vec!["--threads", "2"]);
    kinds.push(vec!["--per-core", "--threads", "2"]);
    kinds
}

#[test]
fn a_server_whose_standard_error_has_no_reader() {
    thread::scope(|scope| {
        for options in kinds() {
            scope.spawn(move || {
                let certificates = Certificates::new(&format!("no-reader{}", options.concat()));
                Talkative::start(closed(), &certificates, &options).reacts(&certificates);
            });
        }
    });
}

#[test]
fn a_server_whose_standard_error_is_not_read() {
    thread::scope(|scope| {
        for options in kinds() {
            scope.spawn(move || {
                let certificates = Certificates::new(&format!("not-read{}", options.concat()));
                let (err, _reader, _) = full();
                Talkative::start(err, &certificates, &options).reacts(&certificates);
            });
        }
    });
}

/// Every datagram without a receiver is reported to standard error.
#[test]
fn a_client_whose_standard_error_is_not_read() {
    thread::scope(|scope| {
        for (runtime, is_full) in RUNTIMES.into_iter().flat_map(|name| [(name, false), (name, true)]) {
            scope.spawn(move || {
                let (err, _reader, _) = full();
                let err = if is_full { err } else { closed() };
                let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
                let url = format!("udp://{nobody}");
                let mut command = getty(&["connect", "--wait", "1.5", "--runtime", runtime, &url]);
                let mut client = Running::of(command.stderr(err));
                client.feed(b"is anybody there?\n".repeat(1000)).join().unwrap();
                assert_eq!(client.wait().code(), Some(0), "{runtime}");
            });
        }
    });
}

#[test]
fn what_waited_is_told_to_a_reader_that_comes_late() {
    let (err, reader, fill) = full();
    let (mut running, mut client) = serve(err, "0.1");
    running.signal(Signal::USR1);
    echo(&mut client);
    let mut reader = BufReader::new(reader);
    reader.read_exact(&mut vec![0; fill]).unwrap();
    assert_eq!(line(&mut reader), "getty: 1 sessions\n");
    assert!(line(&mut reader).starts_with("session "));
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(0));
    drop(running);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "getty: aborted 1 sessions that did not close within 100ms (see --grace)\n");
}

#[test]
fn a_second_signal_ends_at_once_though_nobody_reads() {
    for full_pipe in [false, true] {
        let (err, _reader, _) = full();
        let err = if full_pipe { err } else { closed() };
        let (mut running, mut client) = serve(err, "1000");
        running.signal(Signal::TERM);
        assert!(read_frame(&mut client).is_none(), "the server closes its side");
        running.signal(Signal::USR1); // reported as well
        running.signal(Signal::INT);
        assert_eq!(running.wait().code(), Some(130));
    }
}

/// The line with the port waits for a reader; the server does not.
#[test]
fn a_server_whose_standard_output_is_not_read() {
    let path = std::env::temp_dir().join(format!("getty-not-read-{}", std::process::id()));
    for runtime in RUNTIMES {
        let (out, mut reader, fill) = full();
        let url = format!("unix://{}", path.display());
        let mut command = getty(&["serve", "--runtime", runtime, "--threads", "1", &url]);
        let mut running = Running::of(command.stdout(out));
        let start = Instant::now();
        let mut client = loop {
            match UnixStream::connect(&path) {
                Ok(client) => break client,
                Err(error) => assert!(start.elapsed() < DEADLINE, "{error}"),
            }
        };
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.write_all(&frame(b"hello")).unwrap();
        assert_eq!(read_frame(&mut client).unwrap(), b"hello");
        if runtime == "smol" {
            reader.read_exact(&mut vec![0; fill]).unwrap();
            assert_eq!(line(&mut BufReader::new(reader)), format!("listening {url}\n"));
        }
        drop(client);
        running.signal(Signal::TERM);
        assert_eq!(running.wait().code(), Some(0), "{runtime}");
    }
}

/// Command lines that fail, with their exit code and message.
fn failures() -> Vec<(Command, i32, &'static str)> {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    std::mem::forget(taken);
    let full_disk = || File::options().write(true).open("/dev/full").unwrap();
    let mut listening = getty(&["serve", "tcp://127.0.0.1:0"]);
    listening.stdout(full_disk());
    vec![
        (getty(&["serve", "--threads", "0"]), 2, "0 is not in 1..=65535"),
        (getty(&["connect", "tcp://h"]), 2, "the port is missing"),
        (getty(&[]), 2, "Usage: getty"),
        (getty(&["serve", &url]), 1, "Address already in use"),
        (getty(&["serve", "--per-core", &url]), 1, "Address already in use"),
        (listening, 1, "can't write to standard output"),
        (getty(&["connect", "tcp://127.0.0.1:1"]), 1, "Connection refused"),
        (getty(&["bench", "--json", "/nowhere/file"]), 1, "can't write /nowhere/file"),
    ]
}

#[test]
fn exit_codes_without_a_reader() {
    for (mut command, code, _) in failures() {
        assert_eq!(Running::of(command.stderr(closed())).wait().code(), Some(code), "{command:?}");
    }
    for (mut command, code, _) in failures() {
        let (err, _reader, _) = full();
        assert_eq!(Running::of(command.stderr(err)).wait().code(), Some(code), "{command:?}");
    }
}

#[test]
fn the_error_at_the_end_is_told_to_whoever_reads() {
    for (mut command, code, problem) in failures() {
        let (err, mut reader, fill) = full();
        let mut running = Running::of(command.stderr(err));
        drop(command); // it holds the pipe too
        let mut told = String::new();
        reader.read_to_string(&mut told).unwrap();
        assert!(told[fill..].contains(problem), "{told}");
        assert_eq!(running.wait().code(), Some(code));
    }
}
