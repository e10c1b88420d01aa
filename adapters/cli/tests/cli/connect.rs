//! `getty connect`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, Running, Server, frame, line, peer, read_frame, rest, run};

#[test]
fn messages_go_and_come_while_standard_input_is_open() {
    let server = Server::start(&[]);
    let mut client = Running::start(&["connect", &server.url]);
    let mut stdin = client.child.stdin.take().unwrap();
    for text in ["first\n", "\n", "third\n"] {
        stdin.write_all(text.as_bytes()).unwrap();
        assert_eq!(client.line(), text);
    }
    drop(stdin);
    client.finish().succeeded();
}

#[test]
fn much_goes_through_in_order() {
    let server = Server::start(&[]);
    let text: Vec<u8> = (0..300_000).flat_map(|n| format!("{n:80}\n").into_bytes()).collect();
    let done = run(&["connect", &server.url], text.clone()).succeeded();
    assert!(done.out == text, "{} of {} bytes came back", done.out.len(), text.len());
}

#[test]
fn messages_far_larger_than_any_buffer() {
    let server = Server::start(&[]);
    let text: Vec<u8> = (0..10u8).flat_map(|n| [vec![b'a' + n; 5_000_000], vec![b'\n']].concat()).collect();
    let done = run(&["connect", &server.url], text.clone()).succeeded();
    assert!(done.out == text, "{} of {} bytes came back", done.out.len(), text.len());
}

/// A peer sends without reading, and only then reads: neither side waits for the other, and memory does not
/// grow.
#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_does_not_read_while_it_sends() {
    const MESSAGES: usize = 60_000;
    let (sent, all_sent) = mpsc::channel();
    let (go_on, read) = mpsc::channel();
    let (url, peer) = peer(move |mut stream| {
        let message = frame(&[b'p'; 999]);
        (0..MESSAGES).for_each(|_| stream.write_all(&message).unwrap());
        sent.send(()).unwrap();
        read.recv().unwrap();
        (0..MESSAGES).for_each(|_| assert!(read_frame(&mut stream).unwrap() == [b'c'; 999]));
        stream.shutdown(Shutdown::Write).unwrap();
        rest(&mut stream).len()
    });
    let mut client = Running::start(&["connect", &url]);
    let feeding = client.feed([&[b'c'; 999][..], b"\n"].concat().repeat(MESSAGES));
    let mut out = client.out.take().unwrap();
    let printing = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).unwrap();
        bytes
    });
    all_sent.recv_timeout(DEADLINE).unwrap();
    let memory = client.peak_memory();
    assert!(memory < 24 << 20, "{memory} bytes of memory");
    go_on.send(()).unwrap();
    assert_eq!(peer.join().unwrap(), 0, "bytes after the last message");
    feeding.join().unwrap();
    client.finish().succeeded();
    assert!(printing.join().unwrap() == [&[b'p'; 999][..], b"\n"].concat().repeat(MESSAGES));
}

#[test]
fn echo_sends_back_until_the_peer_closes() {
    for codec in ["length", "lines", "raw"] {
        let (url, peer) = peer(move |mut stream| {
            let sent = match codec {
                "length" => (0..1000u32).flat_map(|n| frame(&n.to_be_bytes())).collect(),
                _ => b"one\ntwo\r\n\n".to_vec(),
            };
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(&mut stream), sent);
        });
        let done = run(&["connect", "--echo", "--codec", codec, &url], "not sent\n").succeeded();
        assert_eq!(done.out, b"");
        peer.join().unwrap();
    }
}

#[test]
fn the_peer_closes() {
    // Standard input stays open: the program ends because the peer has closed.
    let (url, peer) = peer(|mut stream| {
        stream.write_all(&[frame(b"bye"), frame(b"\xff\n")].concat()).unwrap();
    });
    let client = Running::start(&["connect", &url]);
    peer.join().unwrap();
    assert_eq!(client.finish().succeeded().out, b"bye\n\xff\n\n");
}

#[test]
fn the_peer_cuts_a_message() {
    for args in [&["connect"][..], &["connect", "--echo"]] {
        let (url, peer) =
            peer(|mut stream| stream.write_all(&[frame(b"whole"), vec![0, 0, 0, 9, b'x']].concat()));
        let done = run(&[args, &[&url]].concat(), "");
        let done = done.failed(1, &format!("getty: {url}: closed by the peer: something was cut off"));
        assert_eq!(done.text(), if args.len() == 1 { "whole\n" } else { "" });
        peer.join().unwrap().unwrap();
    }
}

#[test]
fn the_peer_resets() {
    let (url, peer) = peer(|stream: TcpStream| {
        stream.peek(&mut [0]).unwrap(); // closing with unread bytes resets the connection
    });
    let mut client = Running::start(&["connect", &url]);
    client.child.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    client.finish().failed(1, &format!("{url}: Connection reset by peer (os error 104)"));
    peer.join().unwrap();
}

#[test]
fn the_peer_sends_too_much() {
    let (url, peer) = peer(|mut stream| {
        stream.write_all(&[0, 1, 0, 0]).unwrap();
        rest(&mut stream);
    });
    let problem = "the peer sent a message of 65536 bytes, over the limit of 1000: raise --max-message";
    run(&["connect", "--max-message", "1000", &url], "").failed(1, problem);
    peer.join().unwrap();
}

#[test]
fn the_peer_does_not_take_everything() {
    let (close, closing) = mpsc::channel();
    let (hold, held) = mpsc::channel::<()>();
    let (url, peer) = peer(move |stream: TcpStream| {
        closing.recv_timeout(DEADLINE).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = held.recv_timeout(DEADLINE);
    });
    let mut client = Running::start(&["connect", &url]);
    let mut stdin = client.child.stdin.take().unwrap();
    let (fed, feeding) = mpsc::channel();
    let feeder = thread::spawn(move || {
        while stdin.write_all(&b"x\n".repeat(1000)).is_ok() {
            fed.send(()).unwrap();
        }
    });
    // Once nothing has been taken for a while, everything on the way is full.
    while feeding.recv_timeout(Duration::from_secs(1)).is_ok() {}
    close.send(()).unwrap();
    client.finish().failed(1, &format!("{url}: the peer closed before everything was sent"));
    drop((hold, feeding));
    peer.join().unwrap();
    feeder.join().unwrap();
}

#[test]
fn the_peer_keeps_its_side_open() {
    let (hold, held) = mpsc::channel::<()>();
    let (url, peer) = peer(move |stream: TcpStream| {
        let _ = held.recv_timeout(DEADLINE);
        drop(stream);
    });
    let problem = "the peer did not end its side of the closed connection";
    run(&["connect", "--wait", "0", &url], "hello").failed(1, problem);
    drop(hold);
    peer.join().unwrap();
}

#[test]
fn waiting_for_answers() {
    // Nothing arrives: the wait ends when its time is up.
    let (url, silent) = peer(|mut stream| rest(&mut stream));
    let start = Instant::now();
    run(&["connect", "--wait", "0.5", &url], "hello").succeeded();
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(silent.join().unwrap(), frame(b"hello"));
    // Each message, and each part of one, starts the wait again.
    let (url, slow) = peer(|mut stream| {
        for byte in [frame(b"1"), frame(b"2")].concat() {
            stream.write_all(&[byte]).unwrap();
            thread::sleep(Duration::from_millis(200));
        }
        rest(&mut stream)
    });
    assert_eq!(run(&["connect", "--wait", "1", &url], "").succeeded().text(), "1\n2\n");
    assert_eq!(slow.join().unwrap(), b"");
}

#[test]
fn waiting_begins_when_everything_is_sent() {
    const SIZE: usize = 30 << 20;
    let (go_on, read) = mpsc::channel();
    let (url, peer) = peer(move |mut stream| {
        read.recv_timeout(DEADLINE).unwrap();
        rest(&mut stream).len()
    });
    let mut client = Running::start(&["connect", "--wait", "0.1", "--max-message", "100000000", &url]);
    client.feed(vec![b'x'; SIZE]).join().unwrap();
    // Standard input has ended, but most of it still waits for the peer to read, for far longer than --wait.
    thread::sleep(Duration::from_millis(500));
    go_on.send(()).unwrap();
    client.finish().succeeded();
    assert_eq!(peer.join().unwrap(), 4 + SIZE);
}

#[test]
fn standard_input_that_can_not_be_sent() {
    let server = Server::start(&["--max-message", "8"]);
    let problem = "a line of standard input exceeds the limit of 8 bytes: raise --max-message";
    run(&["connect", "--max-message", "8", &server.url], "12345678\n123456789\n").failed(1, problem);
    // Reading stops at the limit rather than looking for a line end, since there is none.
    run(&["connect", "--max-message", "8", &server.url], vec![b'x'; 1 << 20]).failed(1, problem);
    #[cfg(unix)]
    {
        let directory = std::fs::File::open("/").unwrap();
        let output = crate::support::getty(&["connect", &server.url]).stdin(directory).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(err.contains("can't read standard input: Is a directory"), "{err}");
    }
}

#[test]
fn a_reader_that_has_enough() {
    let server = Server::start(&[]);
    let mut client = Running::start(&["connect", &server.url]);
    let feeding = client.feed(b"line\n".repeat(4 << 20));
    let mut out = client.out.take().unwrap();
    assert_eq!(line(&mut out), "line\n");
    drop(out);
    client.finish().succeeded();
    feeding.join().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_can_not_be_written() {
    let (url, peer) = peer(|mut stream| {
        stream.write_all(&frame(b"hello")).unwrap();
        rest(&mut stream);
    });
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = crate::support::getty(&["connect", &url]).stdout(full).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err, "getty: can't write to standard output: No space left on device (os error 28)\n");
    peer.join().unwrap();
}
