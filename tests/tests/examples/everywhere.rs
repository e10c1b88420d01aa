//! The example with one listener for TCP, WebSocket and UDP. The clients are sockets of the standard library
//! and tungstenite.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tungstenite::Message;

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../../adapters/tokio/examples/everywhere.rs"]
mod example;

/// The longest that a test waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the example while `test` talks to its endpoints: TCP, WebSocket and UDP.
fn with_example(test: impl FnOnce([SocketAddr; 3])) {
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let example = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let servers = example::serve().await.unwrap();
            tell.send(servers.each_ref().map(example::Server::local_addr)).unwrap();
            let _ = stopped.await; // even if the test has failed
            example::shut_down(servers).await;
        });
    });
    test(told.recv_timeout(PATIENCE).unwrap());
    drop(stop);
    example.join().unwrap();
}

fn tcp_client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn one_listener_answers_over_tcp_websocket_and_udp() {
    with_example(|[tcp, ws, udp]| {
        let mut over_tcp = tcp_client(tcp);
        let (mut over_ws, _) = tungstenite::client(format!("ws://{ws}/"), tcp_client(ws)).unwrap();
        let over_udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        over_udp.connect(udp).unwrap();
        over_udp.set_read_timeout(Some(PATIENCE)).unwrap();
        for (line, answer) in
            [("hello\n", "HELLO\n"), ("\n", "\n"), ("stra\u{df}e, \u{e9}\n", "STRASSE, \u{c9}\n")]
        {
            over_tcp.write_all(line.as_bytes()).unwrap();
            let mut received = vec![0; answer.len()];
            over_tcp.read_exact(&mut received).unwrap();
            assert_eq!(received, answer.as_bytes());

            over_ws.send(Message::binary(line.as_bytes().to_vec())).unwrap();
            assert_eq!(over_ws.read().unwrap(), Message::binary(answer.as_bytes().to_vec()));

            over_udp.send(line.as_bytes()).unwrap();
            let mut received = [0; 100];
            let n = over_udp.recv(&mut received).unwrap();
            assert_eq!(&received[..n], answer.as_bytes());
        }

        // A stream may bring lines in pieces or together.
        for piece in ["fir", "st\nsec", "ond\n"] {
            over_tcp.write_all(piece.as_bytes()).unwrap();
        }
        let mut received = [0; 13];
        over_tcp.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"FIRST\nSECOND\n");
    });
}

#[test]
fn all_three_end_when_the_example_does() {
    let mut clients = None;
    let mut address = None;
    with_example(|[tcp, ws, udp]| {
        let (over_tcp, over_ws) = (tcp_client(tcp), tcp_client(ws));
        clients = Some((over_tcp, tungstenite::client(format!("ws://{ws}/"), over_ws).unwrap().0));
        address = Some(udp);
        // Its session exists once it has answered.
        let (over_tcp, over_ws) = clients.as_mut().unwrap();
        over_tcp.write_all(b"x\n").unwrap();
        over_tcp.read_exact(&mut [0; 2]).unwrap();
        over_ws.send(Message::binary(&b"x\n"[..])).unwrap();
        over_ws.read().unwrap();
    });
    let (mut over_tcp, mut over_ws) = clients.unwrap();
    assert_eq!(over_tcp.read(&mut [0; 1]).unwrap(), 0, "a clean end");
    let Message::Close(Some(frame)) = over_ws.read().unwrap() else { panic!("no close") };
    assert_eq!(u16::from(frame.code), 1001, "the code for going away");
    assert!(UdpSocket::bind(address.unwrap()).is_ok(), "the port is free");
}
