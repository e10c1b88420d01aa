//! Standard streams that another program has made non-blocking.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;

use crate::support::{RUNTIMES, Running, Server, getty, pipe};

/// Both ends of a pipe and of a socket pair, for input and for output, smaller than the data that goes
/// through. Only the program's ends are non-blocking.
fn pairs() -> Vec<(&'static str, [OwnedFd; 2], [OwnedFd; 2])> {
    let pipe_of = |input: bool| {
        let (read, write) = pipe();
        let pair: [OwnedFd; 2] = if input { [write, read] } else { [read, write] };
        pair
    };
    let socket = || -> [OwnedFd; 2] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        [ours.into(), theirs.into()]
    };
    let pairs = [("pipe", pipe_of(true), pipe_of(false)), ("socket", socket(), socket())];
    for (_, input, output) in &pairs {
        no_blocking(&input[1]);
        no_blocking(&output[1]);
    }
    pairs.into()
}

fn no_blocking(file: impl AsFd) {
    fcntl_setfl(&file, fcntl_getfl(&file).unwrap() | OFlags::NONBLOCK).unwrap();
}

#[test]
fn messages_of_a_client_go_and_come() {
    let server = Server::start(&[]);
    for runtime in RUNTIMES {
        for (kind, [feed, input], [read, output]) in pairs() {
            let mut command = getty(&["connect", "--runtime", runtime, &server.url]);
            let mut client = Running::of(command.stdin(Stdio::from(input)).stdout(Stdio::from(output)));
            drop(command); // it holds the program's ends too
            let text: Vec<u8> = (0..40_000).flat_map(|n| format!("{n:80}\n").into_bytes()).collect();
            let sent = text.clone();
            let mut feed = File::from(feed);
            let feeding = thread::spawn(move || {
                let (first, rest) = sent.split_at(1000);
                feed.write_all(first).unwrap();
                // The program must wait for the rest of its input, and standard output is full for a while.
                thread::sleep(Duration::from_millis(100));
                let _ = feed.write_all(rest);
            });
            thread::sleep(Duration::from_millis(300));
            let mut told = Vec::new();
            File::from(read).read_to_end(&mut told).unwrap();
            feeding.join().unwrap();
            client.err.take();
            assert_eq!(client.wait().code(), Some(0), "{kind} on {runtime}");
            assert!(told == text, "{kind} on {runtime}: {} of {} bytes came back", told.len(), text.len());
        }
    }
}

/// The terminal is as a shell leaves it after running another program: input, output and errors share one
/// open file description.
#[test]
fn a_terminal() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let server = Server::start(&[]);
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    no_blocking(&terminal);
    let mut command = getty(&["connect", "--wait", "0.1", &server.url]);
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let mut client = Running::of(&mut command);
    drop(command);
    let mut ours = File::from(ours);
    let mut seen = String::new();
    let mut until = |file: &mut File, text: &str| {
        while !seen.contains(text) {
            let mut bytes = [0; 1000];
            let read = file.read(&mut bytes).unwrap();
            seen.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    };
    for number in 0..3 {
        let text = format!("line {number}");
        ours.write_all(format!("{text}\n").as_bytes()).unwrap();
        until(&mut ours, &format!("{text}\r\n{text}\r\n")); // the echoes of the terminal and of the server
    }
    ours.write_all(b"\x04").unwrap(); // end of input
    assert_eq!(client.wait().code(), Some(0));
}

#[test]
fn what_is_printed_at_once_is_printed_whole() {
    // The text is several times as large as the pipe, which was made small.
    for args in [&["serve", "--help"][..], &["bench", "--help"]] {
        let whole = getty(args).output().unwrap().stdout;
        let (read, write) = pipe();
        rustix::pipe::fcntl_setpipe_size(&write, 4096).unwrap();
        no_blocking(&write);
        let mut running = Running::of(getty(args).stdout(Stdio::from(write)));
        thread::sleep(Duration::from_millis(100));
        let mut printed = Vec::new();
        File::from(read).read_to_end(&mut printed).unwrap();
        assert_eq!((running.wait().code(), printed.len()), (Some(0), whole.len()));
    }
}

#[test]
fn what_a_server_tells() {
    let ([mut out, mut err], [out_end, err_end]) = {
        let (a, b) = (pipe(), pipe());
        ([a.0, b.0].map(File::from), [a.1, b.1])
    };
    rustix::pipe::fcntl_setpipe_size(&err_end, 4096).unwrap();
    no_blocking(&out_end);
    no_blocking(&err_end);
    let mut command = getty(&["serve", "tcp://127.0.0.1:0", "--grace", "0.1"]);
    let mut running = Running::of(command.stdout(Stdio::from(out_end)).stderr(Stdio::from(err_end)));
    drop(command);
    let mut line = vec![0; 100];
    let read = out.read(&mut line).unwrap();
    let url =
        std::str::from_utf8(&line[..read]).unwrap().trim_end().strip_prefix("listening tcp://").unwrap();
    let clients: Vec<_> = (0..200).map(|_| std::net::TcpStream::connect(url).unwrap()).collect();
    for mut client in clients.iter() {
        client.write_all(&crate::support::frame(b"hello")).unwrap();
        client.read_exact(&mut [0; 9]).unwrap();
    }
    running.signal(Signal::USR1);
    // This is more than the pipe holds.
    let (mut told, mut byte) = (Vec::new(), [0]);
    while told.iter().filter(|&&byte| byte == b'\n').count() < 201 {
        err.read_exact(&mut byte).unwrap();
        told.push(byte[0]);
    }
    assert!(told.starts_with(b"getty: 200 sessions\nsession "));
    drop(clients);
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(0));
}
